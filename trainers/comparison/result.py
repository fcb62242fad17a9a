"""What `trainers.compare` returns."""

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.reading import read_csv
from zoo.results import Result, read_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class CompareResult(Result):
    """The contents of `summary.json` by name, with the runs, the curves and the figure of the paired differences.

    Examples:
        >>> CompareResult(arms={}, pairs=[], failed=[])
        <CompareResult: No run has finished>
    """

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        from trainers.comparison import wording

        return wording.headline(self, self.placements)

    @property
    def folder(self) -> Path:
        """The folder of the comparison."""
        return Path(self["folder"])

    @property
    def placements(self) -> dict[str, str]:
        """The placement of each arm as text."""
        return {name: text for name, (text, _) in self._arms().items()}

    @property
    def history(self) -> "pandas.DataFrame":
        """`curves.csv`: a row per run and epoch."""
        return read_table(self.folder / "curves.csv")

    @property
    def runs(self) -> "pandas.DataFrame":
        """`results.csv`: a row per run."""
        return read_table(self.folder / "results.csv")

    def table(self) -> "pandas.DataFrame":
        """Returns a row per arm: its placement, the number of runs, means and standard deviations.

        `difference` is the mean paired difference in test error from the control, in points, with
        the 95 % interval `low` to `high`. There is no interval with fewer than five seeds.
        """
        import pandas

        from trainers.comparison import wording

        pairs, placements = {pair["b"]: pair for pair in self["pairs"]}, self.placements
        rows = []
        for name, arm in self["arms"].items():
            row = {"arm": name, "placement": placements.get(name), "n": arm["n"]}
            for measure in wording.MEASURES:
                statistic = wording.measured(arm, measure)
                row |= {measure: statistic["mean"], f"{measure}_sd": statistic["sd"]}
            pair = pairs.get(name, {})
            ends = ("low", "high") if pair and not wording.too_few(pair) else ()
            row |= {"difference": pair.get("difference"), **dict.fromkeys(("low", "high"))}
            rows.append(row | {end: pair[end] for end in ends})
        return pandas.DataFrame(rows)

    def figure(self) -> "Figure | None":
        """Returns the paired differences in test error; the curves if no two seeds are paired."""
        from trainers.comparison import figures

        if not self["arms"]:
            return None
        arms = {name: runs for name, (_, runs) in self._arms().items()}
        values = {(p["a"], p["b"]): figures.paired_values(arms[p["a"]], arms[p["b"]]) for p in self["pairs"]}
        if any(len(pairs) > 1 for pairs in values.values()):
            return figures.differences(self, values, self.placements)
        return figures.bands(read_csv(self.folder / "curves.csv"), placements=self.placements)

    def _arms(self):
        """Arm name -> (placement as text, {seed: row of results.csv})."""
        from trainers.comparison import paired

        if not self["arms"]:
            return {}
        arms = paired.by_arm(read_csv(self.folder / "results.csv"), list(self["arms"]))
        placements = {name: next(iter(runs.values())).get("placement") for name, (_, runs) in arms.items()}
        return {name: (placements[name] or "no dropout", runs) for name, (_, runs) in arms.items()}
