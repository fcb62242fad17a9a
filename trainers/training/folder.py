"""The folder of a run, a comparison or a search: its name, its kind, and its lock."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zoo import checks, runs
from zoo.errors import BadInput, CannotWrite
from zoo.files import locked, reason, unfinished

LOCK = ".lock"
# The kind of a folder, and the file that shows it.
KINDS = {"run": runs.CONFIG, "comparison": "compare.json", "search": "search.json"}


def given(out: str | Path | None) -> Path | None:
    """Returns the folder that `--out` names, None if it is not given. Raises `BadInput` if it can be no folder."""
    return None if out is None else checks.path("--out", out)


def free_name(folder: str | Path) -> Path:
    """Returns the first of `folder`, `folder-2`, `folder-3`, ... that is empty or missing."""
    folder, number = Path(folder), 1
    while not is_empty(candidate := folder if number == 1 else folder.with_name(f"{folder.name}-{number}")):
        number += 1
    return candidate


def is_empty(folder: str | Path) -> bool:
    """Returns whether `folder` is empty or missing; a lock and what a killed process left unfinished do not count."""
    folder = Path(folder)
    return not folder.exists() or (folder.is_dir() and {*folder.iterdir()} <= {folder / LOCK, *unfinished(folder)})


def kind_of(folder: str | Path) -> str | None:
    """Returns `run`, `comparison` or `search`, whichever `folder` holds; None if it holds none of them."""
    return next((kind for kind, name in KINDS.items() if (Path(folder) / name).is_file()), None)


def check_kind(folder: str | Path, kind: str) -> None:
    """Raises `BadInput` if `folder` holds something other than a `kind`, so that it cannot be resumed as one."""
    holds = kind_of(folder)
    if holds != kind and not is_empty(folder):
        what = f"a {holds}" if holds else f"neither a run, a comparison nor a search (it has no {KINDS[kind]})"
        raise BadInput(
            f"--out must be the folder of a {kind} to resume it, got {folder}, which holds {what}; choose another"
        )


@contextlib.contextmanager
def claimed(folder: str | Path, resume: bool, patience: float = 0, kind: str | None = None) -> Iterator[Path]:
    """A context that creates `folder` and locks it against other processes.

    What a killed process left unfinished in it is removed.

    Args:
        folder: The folder.
        resume: Whether it may hold something.
        patience: Seconds to wait for the lock.
        kind: What it may hold: a key of `KINDS`; anything if None.

    Raises:
        BadInput: The folder holds something and `resume` is false, or it holds another `kind`, or
            another process is writing into it.
        CannotWrite: The folder cannot be created or written, or there is no temporary folder.
    """
    import filelock

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out must be a folder, got {folder}, which is a file; choose another")
    if not resume and not is_empty(folder):
        raise BadInput(
            f"--out must be a new folder, got {folder}, which is not empty; add --resume to continue it, "
            "or choose another"
        )
    if kind is not None:
        check_kind(folder, kind)
    try:
        tempfile.gettempdir()  # a model is saved by way of it: better missed now than after the training
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("permission denied")
        lock = contextlib.ExitStack()
        lock.enter_context(locked(folder / LOCK, patience))
    except filelock.Timeout:
        raise BadInput(f"another process is writing into {folder}; wait for it, or choose another --out") from None
    except OSError as error:
        raise CannotWrite(f"cannot write into {folder}: {reason(error)}") from error
    try:
        with lock:
            for path in unfinished(folder):  # of a killed process: nobody else writes into a folder that is locked
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # refused after all: leave nothing behind
