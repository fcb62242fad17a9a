"""Files that are either whole or not there: written under a temporary name, then renamed."""

import contextlib
import json
import os
from pathlib import Path

from zoo.errors import RunFailed


@contextlib.contextmanager
def replacing(path):
    """A temporary path of the same suffix, renamed to `path` if the block ends well.

    Raises `RunFailed` if the disk is full or the folder cannot be written; what stood
    at `path` before then stands there still.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunFailed(
            f"could not write {path}: {error.strerror or error}; what was there before is intact; "
            "make room or choose another --out, then go on with --resume"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value):
    """Write `value` as readable JSON; NaN and infinity, which JSON lacks, are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
