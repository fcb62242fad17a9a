"""Bounds of time and memory for a graph that a file brings along.

Checks of a file say which operators it has. They cannot say how long and how large a run
becomes, so each run has a limit of both.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from zoo.errors import BadInput

SECONDS = 900.0  # of one pass of one chunk
MEMORY_SHARE = 0.9  # of the memory that is available
_FRESH = 1.0  # seconds for which a reading of the memory is used

_lock = threading.Lock()
_runs: list["_Run"] = []  # in progress
_watching = threading.Condition(_lock)
_watcher: threading.Thread | None = None
_before: tuple[int, int] | None = None  # the limits outside of runs
_most: tuple[float, int] = (-_FRESH, 0)  # when it was read, and the bytes that this process may have


class _Run:
    """One run, with the time at which it is stopped."""

    def __init__(self, stop: Callable[[], object] | None) -> None:
        self.stop, self.until, self.stopped = stop, time.monotonic() + SECONDS, False


@contextlib.contextmanager
def bounded(path: Path, stop: Callable[[], object] | None = None) -> Iterator[None]:
    """A context for one run of the graph in `path`.

    An allocation beyond the available memory fails in the runtime, instead of the system ending
    this process (on Linux).

    Args:
        path: the file, for the message.
        stop: called after `SECONDS`; makes the run end with an exception.

    Raises:
        BadInput: the run was stopped.
    """
    run = _Run(stop)
    _begin(run)
    try:
        yield
    except Exception as error:
        if run.stopped:
            raise BadInput(
                f"one pass of {path} must take at most {SECONDS:g} s, got one that was stopped then; give fewer "
                "examples at a time, or use another model"
            ) from error
        raise
    finally:
        _end(run)


def _begin(run):
    global _before, _watcher
    with _lock:
        if not _runs:
            _before = _limit()
        _runs.append(run)
        if run.stop:
            if _watcher is None or not _watcher.is_alive():  # a fork has none
                _watcher = threading.Thread(target=_watch, daemon=True)
                _watcher.start()
            _watching.notify()


def _end(run):
    global _before
    with _lock:
        _runs.remove(run)
        if not _runs and _before is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, _before)
            _before = None


def _watch():
    """Stops the runs whose time is over."""
    with _watching:
        while True:
            for run in _runs:
                if run.stop and not run.stopped and run.until < time.monotonic():
                    run.stopped = True
                    run.stop()
            _watching.wait(min(1.0, SECONDS / 4) if _runs else None)


def _limit():
    """Limits the data of this process to what it has and can get; returns the limits before, or None if it cannot."""
    global _most
    try:
        import resource

        if time.monotonic() - _most[0] > _FRESH:  # what a process takes is no longer available: the sum stays
            used = _kilobytes("/proc/self/status", "VmData") * 1024
            _most = time.monotonic(), used + int(MEMORY_SHARE * _available())
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if soft != resource.RLIM_INFINITY and soft <= _most[1]:
            return None
        resource.setrlimit(resource.RLIMIT_DATA, (_most[1], hard))
    except (ImportError, OSError, ValueError, LookupError):  # not Linux, or not allowed
        return None
    return soft, hard


def _available():
    """Returns the bytes that this process can still get: of the machine, or of its control group."""
    available = _kilobytes("/proc/meminfo", "MemAvailable") * 1024
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
        available = min(available, limit - used)
    return max(available, 0)


def _kilobytes(file, entry):
    with open(file, encoding="ascii") as lines:
        for line in lines:
            if line.startswith(f"{entry}:"):
                return int(line.split()[1])
    raise LookupError(entry)
