"""A worker of a search: it takes trials, trains their runs, and reports the results."""

import contextlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainers.parallel.jobs import Job, attempt
from trainers.plan import Plan
from trainers.training.folder import is_empty
from tuning.space import Space
from zoo import runs
from zoo.checks import MOST
from zoo.errors import BadInput
from zoo.reading import parse_json
from zoo.repeating import every
from zoo.schema import by_name, each, flag, record, require, text, whole

POLL_SECONDS = 0.2  # between two questions while there is nothing to do
_TRIAL = re.compile(r"control|[0-9]{1,12}")  # what the oracles call their trials
_CHIEF, _AGAIN = "what the chief sent", "use the same version on all machines"
_ABOUT = record(
    {
        "space": lambda name, value: Space.from_json(value),
        "plan": lambda name, value: Plan.from_json(value),
        "seeds": each(whole(0, MOST["seed"]), 1, MOST["executions"]),
        "keep_checkpoints": flag,
        "versions": by_name(text),
    }
)
SIGN_SECONDS = 20.0  # between two signs of life


def versions_of(about: str) -> dict[str, str]:
    """Returns the chief's versions of the packages; the rest of another version may have another form."""
    return require(_CHIEF, parse_json(_CHIEF, about, _AGAIN), record({"versions": by_name(text)}), _AGAIN)["versions"]


def read_about(about: str) -> dict[str, Any]:
    """Returns what `Study.get_space` says about the search. Raises `BadInput` if it is something else."""
    return require(_CHIEF, parse_json(_CHIEF, about, _AGAIN), _ABOUT, _AGAIN)


class Worker:
    """Carries out the trials of a study.

    Args:
        name: the name of this worker.
        study: a `Study` in this process, or the client of one on another machine.
        about: what `Study.get_space` says about the search, in JSON.
        out: the folder for the runs; runs that an earlier process left there are resumed.
        threads: threads of an operation (default: all cores).
        on_start: called with the id of each trial before it is trained.
        on_end: called with the id, the mean validation error (per cent, None after a failure)
            and the message of a failure.
        **where: `data_dir` and `download` of the data set.
    """

    def __init__(
        self,
        name: str,
        study: Any,
        about: str,
        out: str | Path,
        threads: int | None = None,
        on_start: Callable[[str], None] = lambda trial_id: None,
        on_end: Callable[[str, float | None, str | None], None] = lambda trial_id, error, message: None,
        **where: Any,
    ):
        self._name, self._study, self._out, self._threads, self._where = name, study, Path(out), threads, where
        self._id = uuid.uuid4().hex
        self._data: dict | None = None  # what the runs of this search were trained on, as soon as one knows
        self._on_start, self._on_end = on_start, on_end
        search = read_about(about)
        self._space, self._base = Space.from_json(search["space"]), Plan.from_json(search["plan"])
        self._seeds, self._keep = search["seeds"], search["keep_checkpoints"]

    def work(self) -> None:
        """Takes trials until the search is over."""
        while (trial := self._study.create_trial(self._name)).status != "STOPPED":
            if trial.status == "IDLE":
                time.sleep(POLL_SECONDS)
            else:
                _check(trial)
                self._carry_out(trial)

    def _carry_out(self, trial):
        self._on_start(trial.trial_id)
        errors, message, stopped = [], None, False
        with self._signs_of_life(trial.trial_id):
            for execution, seed in enumerate(self._seeds):
                figures, message = self._run(trial, execution, seed)
                if message is not None:
                    break
                errors.append(figures["val_error"])
                answer = self._study.update_trial(trial.trial_id, figures, step=execution)
                stopped = answer.status == "STOPPED"
                if stopped:
                    break
        if not stopped:  # otherwise the study has ended it: it is clearly worse than the best
            trial.status = "COMPLETED" if message is None else "FAILED"
            if message is not None:
                trial.hyperparameters.values["message"] = message
            self._study.end_trial(trial)
        self._on_end(trial.trial_id, sum(errors) / len(errors) if message is None else None, message)

    def _run(self, trial, execution, seed):
        """Returns the figures of one execution and None, or None and the message of its failure."""
        values = trial.hyperparameters.values
        until = values.get("tuner/epochs") or None
        folder = self._folder(trial.trial_id, execution)
        if values.get("tuner/trial_id") and is_empty(folder):
            _continue_run(self._folder(values["tuner/trial_id"], execution), folder)
        try:
            plan = self._space.plan(self._base, self._space.snapped(values), seed)
        except ValueError as error:
            return None, str(error)
        job = Job(plan.model, trial.trial_id, seed, plan.to_json(), str(folder))
        options = {"keep_checkpoint": self._keep, "until": until, **self._where}
        options["sweep"] = self._id
        options["expected"] = self._data = self._data or runs.data_of(self._out, "trials")
        outcome = attempt(job, os.getpid(), self._threads, options)
        if outcome.refused:  # no fault of the trial, which is trained when the search is resumed
            raise outcome.refused
        return (None, outcome.message) if outcome.message else (_figures(outcome.metrics, folder), None)

    def _folder(self, trial, execution):
        return self._out / "trials" / trial / f"execution-{execution}"

    def _signs_of_life(self, trial_id):
        """Returns a context that tells the chief from time to time that the trial is being trained."""

        def tell():
            with contextlib.suppress(Exception):  # the next call finds out whether the chief has gone
                self._study.update_trial(trial_id, {"val_error": 0.0}, step=-1)

        return every(SIGN_SECONDS, tell)


def _check(trial):
    """Refuses a trial whose names could lead out of the folder of this worker, or that cannot be trained."""
    values = trial.hyperparameters.values
    for what, given in (("trial", trial.trial_id), ("tuner/trial_id", values.get("tuner/trial_id") or "0")):
        if not isinstance(given, str) or not _TRIAL.fullmatch(given):
            raise BadInput(f"{what} must be a number or `control`, got {str(given)[:100]!r} from the chief")
    if trial.status != "RUNNING":
        raise BadInput(f"status must be RUNNING, IDLE or STOPPED, got {str(trial.status)[:100]!r} from the chief")
    until = values.get("tuner/epochs") or 1
    if isinstance(until, bool) or not isinstance(until, int) or until < 1:
        raise BadInput(f"tuner/epochs must be an integer >= 1, got {str(until)[:100]!r} from the chief")


def _figures(metrics, folder):
    """The reported figures: those of the weights that the run kept, and of its best and last epoch."""
    rows = runs.read_history(folder)
    return {
        "val_error": metrics["val_error"],
        "val_loss": metrics["val_loss"],
        "val_error_best": min(row["val_error"] for row in rows),
        "val_error_last": rows[-1]["val_error"],
        "epochs": len(rows),
        "seconds": metrics["seconds"],
    }


def _continue_run(before, folder):
    """Copies the paused run `before` to the folder of the trial that continues it, if it is on this machine."""
    if (before / runs.CHECKPOINT).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(before, temporary)
        (temporary / runs.METRICS).unlink(missing_ok=True)
        os.replace(temporary, folder)
