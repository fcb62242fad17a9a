"""What a search has found so far, in files that people and programs read."""

from pathlib import Path

from trainers.folder import Table
from tuning.trial import CONTROL
from zoo.files import write_json


class Results:
    """Writes `results.csv` and, once there is a winner, `best.json` and `summary.json` into `out`."""

    def __init__(self, out, study, space, base, seeds):
        self._out, self._study, self._space, self._base, self._seeds = Path(out), study, space, base, seeds

    def write(self):
        """Write all of it; returns the contents of `summary.json`."""
        Table(self._out / "results.csv", self.columns).start(self.rows())
        best = self._study.completed()
        summary = {
            "winner": self._told(best[0]) if best else None,
            "control": next((self._told(trial) for trial in best if trial.id == CONTROL), None),
            "rival": next((self._told(trial) for trial in best if not self._space.is_control(trial.values)), None),
            "trials": len([trial for trial in self._study.trials.values() if trial.status != "RUNNING"]),
            "combinations": self._space.size,
            "failed": [
                {"trial": trial.id, **trial.values, "message": trial.message}
                for trial in self._study.trials.values()
                if trial.status == "FAILED"
            ],
        }
        write_json(self._out / "summary.json", summary)
        if best:
            write_json(self._out / "best.json", self.placement(best[0]).to_json())
        return summary

    @property
    def columns(self):
        """The header of `results.csv`."""
        named = ("trial", "execution", "seed", *self._space.names, "val_error_best", "val_error_last", "status")
        return (*named, "val_error", "val_loss", "epochs", "seconds")

    def rows(self):
        """A row per execution of every trial that has ended; one without figures for a trial that has none."""
        for trial in self._study.trials.values():
            if trial.status == "RUNNING":
                continue
            common = {"trial": trial.id, **trial.values, "status": trial.status.lower()}
            for execution, row in sorted(trial.executions.items()) or [("", {})]:
                seed = self._seeds[execution] if row else ""
                yield {**common, **row, "execution": execution, "seed": seed}

    def placement(self, trial):
        """The placement of a trial, with the sites that are not tuned."""
        return self._space.placement(trial.values, self._base.placement)

    def name(self, trial):
        """A trial in a few words: its placement, and what else is tuned."""
        others = [f"{name} {trial.values[name]:g}" for name in self._space.others if name != "scaling"]
        drops = [f"{site}={drop}" for site, drop in self.placement(trial).sites.items() if any(drop.rates((0,)))]
        return ", ".join([" ".join(drops) or "no dropout", *others])

    def _told(self, trial):
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
