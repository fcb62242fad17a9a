"""One run of many, in the process that carries it out. Imports no backend."""

import gc
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

from zoo.errors import BadInput, CannotWrite, OtherData, RunFailed

PATIENCE, LONG = 10, 600  # seconds to wait for a folder: on this machine, on a cluster


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its model, arm and seed, its plan as JSON, and its folder."""

    model: str
    arm: str
    seed: int
    plan: dict
    folder: str


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with the contents of `metrics.json`, or with an error message.

    `refused` is the error of a run that is not to blame: `CannotWrite` or `OtherData`.
    """

    job: Job
    metrics: dict | None = None
    message: str | None = None
    refused: CannotWrite | OtherData | None = None


def attempt(job: Job, parent: int | None, threads: int | None, options: dict) -> Outcome:
    """Carries out one job in this process and returns its outcome, whatever goes wrong.

    It resumes an earlier attempt. Without a parent, an earlier attempt may still be running, on a
    machine that only seemed to be lost; then its end is awaited.

    Args:
        job: The job.
        parent: The id of the process with which this one ends; None if others take care of that.
        threads: Threads per operation.
        options: Passed to `trainers.training.train.run`; without `sweep`, which tells one call of a sweep
            from the next, before which files may have changed, and `working_folder`, to which relative paths refer.
    """
    from trainers.plan import Plan
    from trainers.training.folder import claimed
    from trainers.training.train import run
    from zoo import startup

    options = dict(options)
    sweep, working_folder = options.pop("sweep", None), options.pop("working_folder", None)
    if parent not in (None, os.getpid()):
        startup.own_process()
        end_with(parent)
        if working_folder:  # this process may have begun in another one
            os.chdir(working_folder)
    try:
        # The run is claimed, and so shown as starting, while TensorFlow is.
        with claimed(job.folder, resume=True, patience=PATIENCE if parent else LONG):
            startup.tensorflow(threads)
            _begin(sweep)
            # Each run traces its own functions. TensorFlow warns about that after a few runs.
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
            plan, again = Plan.from_json(job.plan), {"load": loaded, "engines": _engines()}
            metrics = run(plan, job.folder, threads=threads, quiet=True, **again, **options)
        return Outcome(job, metrics)
    except (BadInput, RunFailed) as error:
        return Outcome(job, None, str(error), error if isinstance(error, CannotWrite | OtherData) else None)
    except Exception as error:  # the failure of one run must not end the others
        return Outcome(job, message=f"{type(error).__name__}: {error}")
    finally:
        if "keras" in sys.modules:
            _forget()


def _engines(made=[]):  # noqa: B006 - the engines of this process
    """Returns the compiled engines that the runs of this process share."""
    if not made:
        from trainers.training.engines import Engines

        made.append(Engines())
    return made[0]


def _forget(before=[0, 0]):  # noqa: B006 - the engines that had been made and dropped
    """Frees what a run leaves behind; otherwise memory grows with each run."""
    from zoo import keras_graph

    made, dropped = _engines().made, _engines().dropped
    if dropped != before[1]:
        # What TensorFlow and Python hold may be that of an engine that is no longer kept.
        sys.modules["keras"].backend.clear_session(free_memory=False)
        gc.unfreeze()
    keras_graph.restart_names()
    gc.collect()
    if [made, dropped] != before:
        # The objects of imported libraries and of engines stay; scanning them took most of the end of a short run.
        gc.freeze()
        before[:] = made, dropped


def end_with(parent: int, watching: list = []) -> None:  # noqa: B006 - remembers that this process watches already
    """Ends this process when its parent has ended, even by `kill -9`; leaves Ctrl-C to the parent."""
    if watching:
        return
    watching.append(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _begin(sweep, last=[None]):  # noqa: B006 - remembers the sweep of the last job
    """Forgets the data set of another sweep: a process outlives a sweep, and its files may have changed since."""
    if sweep is None or sweep != last[0]:
        _loaded.clear()
        _engines().clear()
    last[0] = sweep


_loaded = {}  # the data set of the last job, which the next one most likely uses too


def loaded(name: str, **options: object) -> object:
    """Returns the data set `name`; that of the last call without reading it again. See `zoo.data.load`."""
    from zoo import data
    from zoo.data import announce

    key = (name, tuple(sorted(options.items())))
    if key not in _loaded:
        _loaded.clear()
        with announce.heard(announce.printed, lambda text: None):  # several processes would say the same
            _loaded[key] = data.load(name, **options)
    return _loaded[key]
