"""Runs in several processes of this machine."""

import atexit
import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainers.parallel.jobs import Job, Outcome, attempt
from zoo import data

_TRACKER = "ignore:resource_tracker"  # warnings that begin so
ATTEMPTS = 2  # tries after that of a killed worker


class Processes:
    """Worker processes of joblib's `loky` backend. `trainers.parallel.dask.Cluster` has the same methods."""

    def __init__(self, workers: int | None, threads: int | None):
        self._workers, self._threads = workers, threads

    def check_data(self, dataset: str, where: dict) -> None:
        """Raises `BadInput` if the workers cannot load the data set."""
        data.check_ready(dataset, **where)

    def shared(self, folder: str | Path) -> str | Path:
        """Returns the path of `folder` for all workers."""
        return folder

    def workers(self, jobs: int) -> int:
        """Returns the number of jobs that run at the same time, of `jobs`."""
        return share(self._workers, jobs, self._threads)[0]

    def carry_out(self, jobs: list[Job], **options: object) -> Iterator[Outcome]:
        """Carries out all `jobs`, yielding each `Outcome` when it is known."""
        workers, threads = share(self._workers, len(jobs), self._threads)
        return carry_out(jobs, workers, threads, **options)


def share(workers: int | None, jobs: int, threads: int | None = None) -> tuple[int, int]:
    """Returns the number of processes for `jobs` runs on this machine's cores, and the threads of each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = max(1, min(workers or cores, jobs))
    return workers, threads or max(1, cores // workers)


def carry_out(jobs: Iterable[Job], workers: int, threads: int, **options: object) -> Iterator[Outcome]:
    """Carries out all `jobs` in `workers` processes, yielding each `Outcome` when it is known.

    A run that fails is reported, and the others continue. If a worker is killed, for example because
    memory is short, the unfinished jobs are tried again, until `ATTEMPTS` tries in a row have finished none.
    `options` are passed to `trainers.training.train.run`.
    """
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # An interrupted sweep says how it is resumed, which is all that there is to say.
    warnings.filterwarnings("ignore", r"\d+ tasks which were still being processed", UserWarning)
    atexit.unregister(_end_workers)
    atexit.register(_end_workers)  # the last one that is registered is called first, before joblib waits for them
    with contextlib.suppress(OSError):  # it may have been removed
        options["working_folder"] = os.getcwd()
    pending, crashes = {job.folder: job for job in jobs}, 0
    while pending:
        tasks = [joblib.delayed(attempt)(job, os.getpid(), threads, options) for job in pending.values()]
        try:
            pool = joblib.Parallel(n_jobs=workers, backend="loky", return_as="generator_unordered", batch_size=1)
            with quiet_tracker():
                outcomes = pool(tasks)
            for outcome in outcomes:
                pending.pop(outcome.job.folder)
                crashes = 0
                yield outcome
        except TerminatedWorkerError:
            crashes += 1
            if crashes > ATTEMPTS:
                message = f"its process was killed {crashes} times; use fewer --workers, which need less memory"
                yield from (Outcome(job, message=message) for job in pending.values())
                return
        except (KeyboardInterrupt, GeneratorExit):
            _end_workers()
            raise


def _end_workers():
    """Ends the worker processes without waiting until they have cleaned up after themselves."""
    from joblib.externals import loky

    # Asked for with other arguments than joblib's, it would first wait until its runs end.
    loky.get_reusable_executor(reuse=True).shutdown(wait=False, kill_workers=True)


@contextlib.contextmanager
def quiet_tracker() -> Iterator[None]:
    """A context in which joblib starts its resource tracker so that it does not warn.

    That process outlives an interrupted sweep, and reports files that are gone already behind the message that says
    how the sweep is resumed.
    """
    given = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = f"{given},{_TRACKER}" if given else _TRACKER
    try:
        yield
    finally:
        if given is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = given
