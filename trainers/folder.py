"""A run's folder: who may write to it, and the rows of its history."""

import contextlib
import csv
import io
import json
import os
from pathlib import Path

from zoo.errors import BadInput, RunFailed
from zoo.files import write_text

_LOCK = ".lock"
_TEXTS = ("model", "arm", "placement", "status", "name", "dataset", "test_part", "command", "formats")  # not numbers


def free_name(folder):
    """`folder`, or the first of `folder-2`, `folder-3`, ... that is empty or missing."""
    folder, number = Path(folder), 1
    while not is_empty(candidate := folder if number == 1 else folder.with_name(f"{folder.name}-{number}")):
        number += 1
    return candidate


def is_empty(folder):
    """Whether nothing stands in `folder`, or it does not exist."""
    folder = Path(folder)
    return not folder.exists() or (folder.is_dir() and all(p.name == _LOCK for p in folder.iterdir()))


@contextlib.contextmanager
def claimed(folder, resume, patience=0):
    """Make `folder` and hold it against other processes, waiting `patience` seconds for it.

    Raises `BadInput` if it holds something and `resume` is false, or if another
    process is writing into it; `RunFailed` if it cannot be made or written.
    """
    import filelock

    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"received --out {folder}, which is a file; name a folder")
    if not resume and not is_empty(folder):
        raise BadInput(f"received --out {folder}, which is not empty; add --resume to go on there, or name another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("permission denied")
        lock = filelock.FileLock(folder / _LOCK, timeout=patience)
        lock.acquire()
    except filelock.Timeout:
        raise BadInput(f"another process is writing into {folder}; wait for it, or name another --out") from None
    except OSError as error:
        raise RunFailed(f"cannot write into {folder} ({error.strerror or error}); name another --out") from error
    try:
        yield folder
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            (folder / _LOCK).unlink(missing_ok=True)
            if is_empty(folder):
                folder.rmdir()  # refused after all: nothing half-made stays


class Table:
    """A CSV file with a fixed header, appended row by row, safe to read while it grows."""

    def __init__(self, path, columns):
        self.path, self.columns = Path(path), tuple(columns)

    def start(self, rows=()):
        """Write the header and `rows`, in the place of whatever was there."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows([self._plain(row) for row in rows])
        write_text(self.path, text.getvalue())

    def append(self, row):
        """Add one row, at once."""
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, self.columns, extrasaction="ignore", lineterminator="\n")
                writer.writerow(self._plain(row))
        except OSError as error:
            raise RunFailed(f"could not write {self.path}: {error.strerror or error}; go on with --resume") from error

    @staticmethod
    def _plain(row):
        return {k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()}


def read_json(path):
    """The contents of a JSON file, or None if there is none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"cannot read {path} ({error}); remove its folder, or name another --out") from None


def read_csv(path) -> list[dict]:
    """The rows of a CSV file with a header; numbers parsed, an empty cell is None.

    A last row with too few cells is left out: the process was killed while writing it.

    Raises BadInput when there is no such file, or a row does not fit the header.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "results.csv")
    >>> _ = file.write_text("arm,seed,test_error\\nnone,1,2.5\\nnone,2")
    >>> read_csv(file)
    [{'arm': 'none', 'seed': 1, 'test_error': 2.5}]
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file) if line]
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; it is written by `python -m trainers compare`.") from None
    if not lines:
        return []
    header, *rows = lines
    if rows and len(rows[-1]) < len(header):
        rows.pop()
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise BadInput(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}.")
    return [{key: _parse(key, cell) for key, cell in zip(header, row, strict=True)} for row in rows]


def _parse(column: str, cell: str):
    if column in _TEXTS:
        return cell
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell or None
