"""The results of a search so far, in files for people and programs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.plan import Plan
from tuning import hparams
from tuning.space import RECIPE, Space
from zoo import runs
from zoo.files import Table, write_json
from zoo.placement.placement import Placement

if TYPE_CHECKING:
    from tuning.study import Study, Trial


class Results:
    """Writes `results.csv`, `summary.json` and `logs/` into `out` and, once a trial is complete, `best.json`.

    Args:
        out: the folder of the search.
        study: its trials.
        space: what is tuned.
        base: the plan that the tuned values go into.
        seeds: the seeds of a trial's executions.
    """

    def __init__(self, out: str | Path, study: "Study", space: Space, base: Plan, seeds: Sequence[int]):
        self._out, self._study, self._space, self._base, self._seeds = Path(out), study, space, base, seeds

    def write(self) -> dict:
        """Writes the files and returns the contents of `summary.json`.

        `control` is the best trial without dropout at the tuned sites, whatever its recipe;
        `rival` is the best trial that drops something.
        """
        Table(self._out / "results.csv", self.columns).start(self.rows())
        hparams.write(self._out, self._study.trials.values(), self._space)
        trials = self._study.completed()
        summary = {
            "winner": self._described(trials[0]) if trials else None,
            "control": self._best(trials, without_dropout=True),
            "rival": self._best(trials, without_dropout=False),
            "trials": len([trial for trial in self._study.trials.values() if trial.status != "RUNNING"]),
            "combinations": self._space.size,
            "failed": [
                {"trial": trial.id, **trial.values, "message": trial.message}
                for trial in self._study.trials.values()
                if trial.status == "FAILED"
            ],
        }
        stopped = [trial for trial in self._study.trials.values() if trial.status == "STOPPED"]
        if stopped:
            summary["stopped"] = [
                {"trial": trial.id, **trial.values, "executions": len(trial.executions), "message": trial.message}
                for trial in stopped
            ]
        if held := runs.data_of(self._out, "trials"):
            summary["data"] = {key: held.get(key) for key in ("labels", "sizes", "fingerprint")}
        write_json(self._out / "summary.json", summary)
        if trials:
            write_json(self._out / "best.json", self.best(trials[0]))
        return summary

    def best(self, trial: "Trial") -> dict:
        """Returns a trial as `best.json` holds it: a placement file, with the tuned recipe and settings if any."""
        plan = self._space.plan(self._base, trial.values)
        recipe, settings = plan.recipe.to_json(), plan.settings
        tuned = {name: recipe[name] for name in RECIPE if name in self._space.others}
        wider = {key: value for key, value in settings.items() if value != self._base.settings[key]}
        return {
            **plan.placement.to_json(),
            **({"recipe": tuned} if tuned else {}),
            **({"settings": wider} if "width" in self._space.others and wider else {}),
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """The header of `results.csv`."""
        named = ("trial", "execution", "seed", *self._space.names, "val_error_best", "val_error_last", "status")
        return (*named, "val_error", "val_loss", "epochs", "seconds")

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields a row for each execution of each trial that has ended; a trial without executions has one row.

        A trial that Hyperband ended before its last epoch is `paused`.
        """
        for trial in self._study.trials.values():
            if trial.status == "RUNNING":
                continue
            paused = trial.status == "COMPLETED" and trial.until is not None
            common = {"trial": trial.id, **trial.values, "status": "paused" if paused else trial.status.lower()}
            for execution, row in sorted(trial.executions.items()) or [("", {})]:
                seed = self._seeds[execution] if row else ""
                yield {**common, **row, "execution": execution, "seed": seed}

    def placement(self, trial: "Trial") -> Placement:
        """Returns the placement of a trial, with the sites that are not tuned."""
        return self._space.placement(trial.values, self._base.placement)

    def name(self, trial: "Trial") -> str:
        """Returns a trial in a few words: its placement and the other tuned values."""
        others = [f"{name} {trial.values[name]:g}" for name in self._space.others if name != "scaling"]
        drops = [f"{site}={drop}" for site, drop in self.placement(trial).sites.items() if any(drop.rates((0,)))]
        return ", ".join([" ".join(drops) or "no dropout", *others])

    def _best(self, trials, without_dropout):
        """The best of `trials` with or without dropout at the tuned sites, described; None if there is none."""
        matching = (t for t in trials if self._space.is_control(t.values) == without_dropout)
        best = next(matching, None)
        return self._described(best) if best else None

    def _described(self, trial):
        plan = self._space.plan(self._base, trial.values, self._seeds[0])
        return {
            "trial": trial.id,
            "values": trial.values,
            "placement": str(plan.placement),
            "name": self.name(trial),
            "val_error": trial.mean("val_error"),
            "val_loss": trial.mean("val_loss"),
            "executions": len(trial.executions),
            "command": plan.command(),
            "run": str(self._out / "trials" / trial.id / "execution-0"),
        }
