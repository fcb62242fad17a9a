"""Kills a job at any of its writes, as `kill -9` would, and reads what a folder holds apart from times."""

import contextlib
import csv
import io
import json
import os
import re
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
_TIMES = re.compile(r"seconds|per_second|^time$|^duration$|date_saved")
_LOGS = "logs"  # TensorBoard: its files carry times in their names


class Killed(BaseException):
    """Ends a job. No code may catch it, and none may write after it."""


class _Hook:
    """An audit hook that counts what a job does to the files below a folder, and ends it at one of these events.

    After that, every further event raises too, so that no clean-up changes the folder. The file that was being
    written is cut to half, as if the kill came in the middle of the write.
    """

    def __init__(self):
        self.root, self.at, self.count, self.dead, self.writing = None, None, 0, False, None

    def __call__(self, event, args):
        if self.root is None or (event != "open" and event not in _EVENTS):
            return
        path = args[0]
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITES):
            return
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self.root):
            return
        if not self.dead:
            self.count += 1
            self.dead = self.count == self.at
            if self.dead:
                self._tear()
        if self.dead:
            raise Killed
        if event == "open":
            self.writing = os.fspath(path), os.path.getsize(path) if os.path.exists(path) else 0

    def _tear(self):
        root, self.root = self.root, None  # what follows is not the job's
        if self.writing and os.path.isfile(self.writing[0]):
            path, before = self.writing
            size = os.path.getsize(path)
            os.truncate(path, before + (size - before) // 2 if size > before else size // 2)
        self.root = root


_hook = _Hook()
sys.addaudithook(_hook)


@contextlib.contextmanager
def killing(root, at=None):
    """A context whose job is ended at its event number `at`; yields an object that counts the events in `count`."""
    _hook.__init__()
    _hook.root, _hook.at = str(root), at
    try:
        yield _hook
    except Killed:
        pass
    finally:
        _hook.root = None


def contents(folder):
    """Returns the contents of every file below `folder`, without what depends on the clock or names the folder.

    Of a journal, it returns what was measured: a trial that was killed is given out once more.
    """
    contents = {}
    for path in sorted(Path(folder).rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and _LOGS not in name.split("/"):
            contents[name] = _content(path, str(folder))
    return contents


def _content(path, folder):
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text().replace(folder, "")))
    if path.suffix == ".jsonl":
        events = [_timeless(json.loads(line)) for line in path.read_text().splitlines()]
        return [event for event in events if event["event"] == "execution"]
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(path.read_text()))
        return [{key: value for key, value in row.items() if not _TIMES.search(key)} for row in rows]
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            weights = _arrays(archive.read("model.weights.h5"))
            # Keras numbers shared objects by their place in memory.
            config = re.sub(rb'"shared_object_id": \d+', b'"shared_object_id": 0', archive.read("config.json"))
            return {"config": json.loads(config), "weights": weights}
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {key: _array(key, arrays[key]) for key in arrays.files}
    if path.suffix == ".html":
        return re.sub(r"\d[\d.,]* (s|min|h)\b|base64,[A-Za-z0-9+/=]+", "", path.read_text())
    return path.read_bytes()


def _array(key, array):
    if key == "meta":
        return _timeless(json.loads(array.tobytes()))
    return array.dtype.str, array.shape, array.tobytes()


def _arrays(data):
    arrays = {}
    with h5py.File(io.BytesIO(data)) as file:
        file.visititems(
            lambda name, item: arrays.update({name: item[()].tobytes()} if isinstance(item, h5py.Dataset) else {})
        )
    return arrays


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if not _TIMES.search(key)}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
