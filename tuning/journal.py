"""The state of a search: its events in order, in a file that only grows."""

import json
import os
import time
from pathlib import Path

from zoo.errors import CannotWrite
from zoo.files import reason
from zoo.reading import LARGEST_TEXT, parse_json, present, read_bytes
from zoo.schema import choice, each, nullable, real, record, require, text, whole

_AGAIN = "it was changed by hand: name another --out"


class Journal:
    """Events as JSON lines in `path`. `write` returns when the event is on the disk.

    A last line that a kill cut off is ignored, and overwritten by the next event.

    Raises:
        BadInput: the file is not a journal.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.events, complete = _read(self.path)
        if self.path.exists() and self.path.stat().st_size > complete:
            os.truncate(self.path, complete)

    def write(self, event: dict) -> None:
        """Appends one JSON-able event and adds its `time`, in seconds since 1970.

        Raises:
            CannotWrite: the file cannot be written.
        """
        event = {**event, "time": round(time.time(), 3)}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(event, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CannotWrite(f"cannot write {self.path}: {reason(error)}, then resume with --resume") from error
        self.events.append(event)


def _read(path):
    """Returns the events in the file, and the number of bytes of its complete lines."""
    if not present(path):
        return [], 0
    content = read_bytes(path, LARGEST_TEXT, _AGAIN)
    complete = content.rfind(b"\n") + 1
    events = [parse_json(path, line, _AGAIN) for line in content[:complete].splitlines()]
    return require(path, events, each(_event), _AGAIN), complete


_ERROR = real(0, 100)
_EVENTS = {
    "ask": record({"status": text, "trial": nullable(text), "values": record({})}),
    "give": record({"trial": text, "worker": text}),
    "execution": record(
        {"trial": text, "execution": whole(), "val_error": _ERROR, "val_loss": real(), "val_error_best": _ERROR}
        | {"val_error_last": _ERROR, "epochs": real(1), "seconds": real(0)}
    ),
    "end": record({"trial": text, "status": choice("COMPLETED", "STOPPED", "FAILED"), "message": text}),
}


def _event(name, value):
    record({"event": choice(*_EVENTS)})(name, value)
    return _EVENTS[value["event"]](name, value)
