"""Who does the work of a search: takes trials, trains their runs, says what came of them."""

import contextlib
import json
import os
import shutil
import threading
import time
from pathlib import Path

from trainers import folder as folders
from trainers import pool
from trainers.plan import Plan
from tuning.space import Space

POLL_SECONDS = 0.2  # between two questions when there is nothing to do yet
SIGN_SECONDS = 20.0  # between two signs of life


class Worker:
    """Carries out the trials of `study`: a `Study` here, or the client of one on another machine.

    `about` is what `Study.get_space` says of the search, in JSON. Runs go into folders
    under `out`; those of an earlier process that are there already are gone on with.
    """

    def __init__(self, name, study, about, out, threads=None, **where):
        self._name, self._study, self._out, self._threads, self._where = name, study, Path(out), threads, where
        about = json.loads(about)
        self._space, self._base = Space.from_json(about["space"]), Plan.from_json(about["plan"])
        self._seeds, self._keep = about["seeds"], about["keep_checkpoints"]

    def work(self):
        """Take trials until the search is over."""
        while (trial := self._study.create_trial(self._name)).status != "STOPPED":
            if trial.status == "IDLE":
                time.sleep(POLL_SECONDS)
            else:
                self._carry_out(trial)

    def _carry_out(self, trial):
        with self._signs_of_life(trial.trial_id):
            message = None
            for execution, seed in enumerate(self._seeds):
                figures, message = self._run(trial, execution, seed)
                if message is not None:
                    break
                self._study.update_trial(trial.trial_id, figures, step=execution)
        trial.status = "COMPLETED" if message is None else "FAILED"
        if message is not None:
            trial.hyperparameters.values["message"] = message
        self._study.end_trial(trial)

    def _run(self, trial, execution, seed):
        """One execution: its figures, or the message that it failed with."""
        values = trial.hyperparameters.values
        until = values.get("tuner/epochs") or None
        folder = self._folder(trial.trial_id, execution)
        if values.get("tuner/trial_id") and folders.is_empty(folder):
            _go_on_with(self._folder(values["tuner/trial_id"], execution), folder)
        try:
            plan = self._space.plan(self._base, self._space.snapped(values), seed)
        except ValueError as error:
            return None, str(error)
        job = pool.Job(plan.model, trial.trial_id, seed, plan.to_json(), str(folder))
        options = {"keep_checkpoint": self._keep, "until": until, **self._where}
        outcome = pool.attempt(job, os.getpid(), self._threads, options)
        return (None, outcome.message) if outcome.message else (_figures(outcome.metrics, folder), None)

    def _folder(self, trial, execution):
        return self._out / "trials" / trial / f"execution-{execution}"

    @contextlib.contextmanager
    def _signs_of_life(self, trial_id):
        """Let the chief know, now and then, that the trial is being worked on."""
        done = threading.Event()

        def tell():
            while not done.wait(SIGN_SECONDS):
                with contextlib.suppress(Exception):  # a chief that is away comes back, or the end finds out
                    self._study.update_trial(trial_id, {"val_error": 0.0}, step=-1)

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _figures(metrics, folder):
    """What is reported of a run: the figures of the weights that it kept, and of its best and last epoch."""
    rows = folders.read_csv(folder / "history.csv")
    return {
        "val_error": metrics["val_error"],
        "val_loss": metrics["val_loss"],
        "val_error_best": min(row["val_error"] for row in rows),
        "val_error_last": rows[-1]["val_error"],
        "epochs": len(rows),
        "seconds": metrics["seconds"],
    }


def _go_on_with(before, folder):
    """Put the paused run `before` where the next trial looks for its own, if it is on this machine."""
    if (before / "checkpoint.npz").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".{folder.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(before, temporary)
        (temporary / "metrics.json").unlink(missing_ok=True)
        os.replace(temporary, folder)
