"""The result of a search as an object."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuning.space import Space
from zoo import results, runs
from zoo.errors import BadInput

if TYPE_CHECKING:
    import keras
    import pandas
    from matplotlib.figure import Figure

    from tuning.study import Trial


class SearchResult(results.Result):
    """The contents of `summary.json` by key, with `folder` and, after `retrain`, its comparison.

    Attributes:
        headline: the best trial and the best trial without dropout, in one line.
        model: the winner's model, read from its run folder when it is first used.
        history: the winner's `history.csv` as a DataFrame, a row per epoch.
        folder: the folder of the search.

    Examples:
        >>> result = SearchResult({"winner": None, "folder": "runs/search-mlp-digits"})
        >>> result
        <SearchResult: no trial is complete; see runs/search-mlp-digits/results.csv>
    """

    def __init__(
        self,
        summary: dict[str, Any],
        trials: "list[Trial] | None" = None,
        space: Space | None = None,
        title: str = "",
    ):
        super().__init__(summary)
        self._trials, self._space, self._title = trials or [], space, title
        self._model = None

    @property
    def headline(self) -> str:
        """The best trial and the best trial without dropout, in one line."""
        winner, control = self["winner"], self.get("control")
        if winner is None:
            return f"no trial is complete; see {self.folder}/results.csv"
        line = f"lowest validation error {winner['val_error']:.2f} %: {winner['name']} (trial {winner['trial']})"
        if control and control["trial"] != winner["trial"]:
            settings = control["name"].partition(", ")[2]
            line += f"; without dropout {control['val_error']:.2f} %" + (f" ({settings})" if settings else "")
        return line

    @property
    def model(self) -> "keras.Model":
        """The model of the winner's first execution, read from its run folder when it is first used.

        Raises:
            BadInput: no trial is complete, or the run lies on another machine.
        """
        if self._model is None:
            from zoo.artefacts.runtimes.keras import read_keras

            self._model = read_keras(self._run(runs.MODEL))
        return self._model

    @property
    def history(self) -> "pandas.DataFrame":
        """The epochs of the winner's first execution, a row each.

        Raises:
            BadInput: no trial is complete, or the run lies on another machine.
        """
        return results.read_table(self._run(runs.HISTORY))

    @property
    def folder(self) -> Path:
        """The folder of the search."""
        return Path(self["folder"])

    def table(self) -> "pandas.DataFrame":
        """Returns the executions of all trials that have ended, a row each, as `results.csv` has them."""
        return results.read_table(self.folder / "results.csv")

    def figure(self) -> "Figure | None":
        """Returns the picture `rate.png` as a matplotlib figure, None if no trial is complete."""
        from tuning import figure

        return figure.picture(self._trials, self._space, self._title) if self._space else None

    def _run(self, name):
        """The path of a file in the run folder of the winner's first execution."""
        if self["winner"] is None:
            raise BadInput(f"cannot read the winner of {self.folder}: no trial is complete; see results.csv")
        path = Path(self["winner"]["run"]) / name
        if not path.is_file():
            raise BadInput(
                f"cannot read {path}: there is no such file; the run is on the machine that trained it, "
                f"or train it again with `{self['winner']['command']}`"
            )
        return path
