"""Many runs over many processes: threads divided, failures kept apart, nobody left behind."""

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

from zoo import data
from zoo.errors import BadInput, RunFailed

BACKENDS = ("loky", "dask")
ATTEMPTS = 2  # how often the jobs of a killed worker are tried again
PATIENCE, LONG = 10, 600  # seconds to wait for a folder: of a worker here, of one on another machine


@dataclass(frozen=True)
class Job:
    """One run of a sweep: what it is called, its plan as JSON, and its folder."""

    model: str
    arm: str
    seed: int
    plan: dict
    folder: str


@dataclass(frozen=True)
class Outcome:
    """A job's end: the contents of `metrics.json`, or the message it failed with."""

    job: Job
    metrics: dict | None = None
    message: str | None = None


def opened(backend="loky", scheduler=None, workers=None, threads=None):
    """A context with what carries out the jobs: `Processes`, or the `Cluster` at the address `scheduler`."""
    if backend not in BACKENDS:
        raise BadInput(f"received --backend {backend}; it is one of {', '.join(BACKENDS)}")
    if backend == "loky":
        if scheduler is not None:
            raise BadInput(f"received --scheduler {scheduler} without --backend dask; add that, or leave it out")
        return contextlib.nullcontext(Processes(workers, threads))
    if not scheduler:
        raise BadInput(
            "received --backend dask without --scheduler; give the address of a running Dask scheduler, "
            "as in --scheduler tcp://127.0.0.1:8786"
        )
    if workers is not None:
        raise BadInput(
            f"received --workers {workers} with --backend dask, where all workers of the cluster take part; "
            "leave it out, and start as many as you want"
        )
    from trainers import cluster

    return cluster.connected(scheduler, threads)


class Processes:
    """Worker processes on this machine, of joblib's own `loky` backend; a `Cluster` can do the same."""

    def __init__(self, workers, threads):
        self._workers, self._threads = workers, threads

    def check_data(self, dataset, where):
        """Refuse a data set that the workers could not load."""
        data.check_ready(dataset, **where)

    def shared(self, folder):
        """`folder` as all workers can find it."""
        return folder

    def carry_out(self, jobs, **options):
        """Run all `jobs`, yielding each `Outcome` as it comes."""
        workers, threads = share(self._workers, len(jobs), self._threads)
        return carry_out(jobs, workers, threads, **options)


def share(workers, jobs, threads=None):
    """(processes, threads of each) for `jobs` runs on this machine's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = max(1, min(workers or cores, jobs))
    return workers, threads or max(1, cores // workers)


def carry_out(jobs, workers, threads, **options):
    """Run all `jobs` in `workers` processes, yielding each `Outcome` as it comes.

    A run that fails is reported and the others go on. When a worker is killed (by the
    system, for want of memory), the unfinished jobs are tried again, then given up.
    `options` go to `trainers.train.run`.
    """
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    pending, crashes = {job.folder: job for job in jobs}, 0
    while pending:
        tasks = [joblib.delayed(attempt)(job, os.getpid(), threads, options) for job in pending.values()]
        try:
            pool = joblib.Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1)
            for outcome in pool(tasks):
                pending.pop(outcome.job.folder)
                yield outcome
        except TerminatedWorkerError:
            crashes += 1
            if crashes > ATTEMPTS:
                message = f"its process was killed {crashes} times; fewer --workers need less memory"
                yield from (Outcome(job, message=message) for job in pending.values())
                return
        except (KeyboardInterrupt, GeneratorExit):
            joblib.externals.loky.get_reusable_executor().shutdown(wait=False, kill_workers=True)
            raise


def attempt(job, parent, threads, options):
    """Carry out one job in this process, which ends with the process `parent`; None if others look after it.

    Its outcome comes back, whatever goes wrong. What an earlier attempt left is gone on
    with; where there is no parent, that attempt may be under way still, on a machine that
    was only thought lost, and its end is waited for.
    """
    from trainers import folder, train
    from trainers.plan import Plan

    # Each run traces its own functions; TensorFlow takes many runs in a process for a mistake.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if parent not in (None, os.getpid()):
        end_with(parent)
    try:
        with folder.claimed(job.folder, resume=True, patience=PATIENCE if parent else LONG):
            metrics = train.run(
                Plan.from_json(job.plan), job.folder, threads=threads, quiet=True, load=_load, **options
            )
        return Outcome(job, metrics)
    except (BadInput, RunFailed) as error:
        return Outcome(job, message=str(error))
    except Exception as error:  # one run's fault, whatever it is, must not end the others
        return Outcome(job, message=f"{type(error).__name__}: {error}")
    finally:
        _forget()


def _forget(frozen=[]):  # noqa: B006 - remembers that this process has done it
    """Give back what a run leaves behind; without this, memory grows from run to run."""
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session(free_memory=False)
    gc.collect()
    if not frozen:
        # What the libraries made when they were imported stays; looking through it took most of a short run's end.
        gc.freeze()
        frozen.append(True)


def end_with(parent, watching=[]):  # noqa: B006 - remembers that this process watches already
    """End this process when its parent has gone, even by `kill -9`; Ctrl-C is the parent's to hear."""
    if watching:
        return
    watching.append(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_loaded = {}  # the data set of the last job, which the next one will most likely want again


def _load(name, **options):
    from zoo import data

    key = (name, tuple(sorted(options.items())))
    if key not in _loaded:
        _loaded.clear()
        _loaded[key] = data.load(name, **options)
    return _loaded[key]
