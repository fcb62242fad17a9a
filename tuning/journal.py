"""What happened in a search, event by event, in a file that only grows: the state of the search."""

import json
import os
import time
from pathlib import Path

from zoo.errors import BadInput, RunFailed


class Journal:
    """Events as lines of JSON in `path`. Each is on the disk before `write` returns.

    A line that was cut off by a kill is left out when the file is read, and overwritten.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.events, whole = _read(self.path)
        if self.path.exists() and self.path.stat().st_size > whole:
            os.truncate(self.path, whole)

    def write(self, event):
        """Append one event, a JSON-able dictionary; `time`, in seconds since 1970, is added."""
        event = {**event, "time": round(time.time(), 3)}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(event, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RunFailed(f"could not write {self.path}: {error.strerror or error}; go on with --resume") from error
        self.events.append(event)


def _read(path):
    """The events in the file, and how many bytes they take."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    whole = content.rfind(b"\n") + 1
    try:
        return [json.loads(line) for line in content[:whole].splitlines()], whole
    except ValueError as error:
        raise BadInput(f"cannot read {path} ({error}); it was changed by hand: name another --out") from None
