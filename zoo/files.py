"""Writes files: each completely or not at all. Locks, and what a killed process leaves. `zoo.reading` reads them."""

import contextlib
import csv
import errno
import io
import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import CannotWrite

# What the system says when something cannot be written, wherever the fault is, and the way out.
_REFUSALS = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free disk space or choose another --out")
_REFUSALS[errno.EROFS] = "choose another --out"
_NO_FOLDER = "No usable temporary directory"  # of Python's tempfile

# What `replacing` and `zoo.artefacts.export` write before they rename it: `.model.1234.keras`, `.model.1234`.
_UNFINISHED = re.compile(r"\..+\.\d+(\.\w+)?")
_POLL_SECONDS = 0.05


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path, which is renamed to `path` unless the block fails.

    Raises:
        CannotWrite: the disk is full, or the folder cannot be written. An earlier file at `path` is kept.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise CannotWrite(
            f"cannot write {path}: {reason(error)}, then resume with --resume (an earlier file is kept)"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def unfinished(folder: str | Path) -> list[Path]:
    """Returns what a process that was killed while it wrote left in `folder`, or what one still writes.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, ".config.812.json").touch()
        ...     Path(folder, "config.json").touch()
        ...     [path.name for path in unfinished(folder)]
        ['.config.812.json']
    """
    return sorted(path for path in Path(folder).iterdir() if _UNFINISHED.fullmatch(path.name))


@contextlib.contextmanager
def locked(path: str | Path, patience: float = 0.0) -> Iterator[None]:
    """A context in which no other process or thread holds the lock of the file `path`, which is removed at the end.

    Args:
        path: the lock file; its folder must exist.
        patience: seconds to wait for the lock.

    Raises:
        filelock.Timeout: another process or thread holds the lock.
        OSError: the file cannot be created.
    """
    import filelock

    end, path = time.monotonic() + patience, str(path)
    while (held := _lock(path)) is None:
        if time.monotonic() >= end:
            raise filelock.Timeout(path)
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        try:
            with contextlib.suppress(OSError):  # while it is held: whoever waits for it sees that it is gone
                os.unlink(path)
        finally:
            filelock.unlock_descriptor(held)
            os.close(held)


def _lock(path):
    """Returns the descriptor of the locked file `path`; None if it is locked, or was removed or replaced meanwhile."""
    import filelock

    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    try:
        if filelock.lock_descriptor(held, blocking=False) and os.path.samestat(os.fstat(held), os.stat(path)):
            return held
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(held)
        raise
    os.close(held)
    return None


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` to `path`, see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, see `replacing`.

    Raises:
        ValueError: `value` holds NaN or infinity, which JSON lacks.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def free(path: str | Path) -> Path:
    """Returns `path`, or the first of `path-2`, `path-3`, ... that does not exist.

    Examples:
        >>> free("runs/nothing-here").as_posix()
        'runs/nothing-here'
    """
    path, number = Path(path), 1
    candidate = path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


class Table:
    """A CSV file with a fixed header, appended row by row. It can be read while it grows.

    Args:
        path: the file.
        columns: names of the columns.
        patience: least seconds between two writes of appended rows; `close` writes those that wait.
    """

    def __init__(self, path: str | Path, columns: Iterable[str], patience: float = 0.0) -> None:
        self.path, self.columns = Path(path), tuple(columns)
        self._patience, self._written = patience, -math.inf
        self._waiting: list[Mapping[str, Any]] = []

    def start(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        """Writes the header and `rows`, replacing an earlier file."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows([self._plain(row) for row in rows])
        write_text(self.path, text.getvalue())

    def append(self, row: Mapping[str, Any]) -> None:
        """Appends one row; within `patience` seconds of a write, it waits for a later row or for `close`.

        Raises:
            CannotWrite: the file cannot be written.
        """
        self._waiting.append(row)
        if time.monotonic() - self._written >= self._patience:
            self.close()

    def close(self) -> None:
        """Writes the rows that wait. More can be appended later.

        Raises:
            CannotWrite: the file cannot be written.
        """
        rows, self._waiting, self._written = self._waiting, [], time.monotonic()
        if not rows:
            return
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, self.columns, extrasaction="ignore", lineterminator="\n")
                writer.writerows([self._plain(row) for row in rows])
        except OSError as error:
            raise CannotWrite(f"cannot write {self.path}: {reason(error)}, then resume with --resume") from error

    @staticmethod
    def _plain(row):
        return {k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()}


def refused(error: BaseException) -> str | None:
    """Returns why the system does not let something be written, and the way out; None if `error` is something else.

    Libraries put what the system says into exceptions of their own: TensorFlow calls a full disk an exhausted
    resource, as it calls memory. The causes of an exception count, too.

    Examples:
        >>> refused(OSError(28, "No space left on device"))
        'No space left on device; free disk space or choose another --out'
        >>> refused(ValueError("rate must be in [0, 1)")) is None
        True
    """
    errors: list[BaseException] = []
    while error is not None and error not in errors:
        errors.append(error)
        error = error.__cause__ or error.__context__
    if any(_NO_FOLDER in str(error) for error in errors):
        return "there is no temporary folder; set TMPDIR to a folder that can be written"
    for number, way in _REFUSALS.items():
        reason = os.strerror(number)
        if any(reason in str(error) or getattr(error, "errno", None) == number for error in errors):
            return f"{reason}; {way}"
    return None


def reason(error: OSError) -> str:
    """Returns why something cannot be written, and the way out.

    Examples:
        >>> reason(PermissionError(13, "Permission denied"))
        'Permission denied; choose another --out'
    """
    return refused(error) or f"{error.strerror or error}; choose another --out"
