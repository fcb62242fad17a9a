"""The backends that carry out runs, by name."""

import contextlib
from typing import TYPE_CHECKING

from trainers.parallel.processes import Processes
from zoo.checks import one_of
from zoo.errors import BadInput

if TYPE_CHECKING:
    from trainers.parallel.dask import Cluster

BACKENDS = ("loky", "dask")


def opened(
    backend: str = "loky", scheduler: str | None = None, workers: int | None = None, threads: int | None = None
) -> "contextlib.AbstractContextManager[Processes | Cluster]":
    """Returns a context of what carries out the jobs: `Processes`, or the `Cluster` at the address `scheduler`."""
    one_of("--backend", backend, BACKENDS)
    if backend == "loky":
        if scheduler is not None:
            raise BadInput(f"--scheduler must be left out without --backend dask, got {scheduler}; add --backend dask")
        return contextlib.nullcontext(Processes(workers, threads))
    if not scheduler:
        raise BadInput(
            "--scheduler must be the address of a running Dask scheduler with --backend dask, got none; "
            "write it as in --scheduler tcp://127.0.0.1:8786"
        )
    if workers is not None:
        raise BadInput(
            f"--workers must be left out with --backend dask, got {workers}; all workers of the cluster take part: "
            "start as many as you want"
        )
    from trainers.parallel import dask

    return dask.connected(scheduler, threads)
