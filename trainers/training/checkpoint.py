"""Checkpoints: the complete state of a run in one file without pickle.

Keras' own formats lose the state of the seed generators, so that a resumed run would draw other
masks. A checkpoint holds every variable by position, and the simple state of every callback.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import runs
from zoo.errors import BadInput
from zoo.files import replacing
from zoo.reading import parse_json, read_npz, refuse
from zoo.schema import each, flag, real, record, require, text, whole

if TYPE_CHECKING:
    import keras

_AGAIN = "remove its folder and start again"
_FORMAT = 2  # format 1 held the seed generators of Keras' dropout layers

_META = record(
    {
        "epoch": whole(),
        "seconds": real(0),
        "stopped": flag,
        "callbacks": each(record({"class": text, "values": record({}), "arrays": each(text)})),
    },
    {"rows": each(runs.ROW), "ended": flag},
)


def save(
    path: Path,
    engine: Any,
    callbacks: "Sequence[keras.callbacks.Callback]",
    rows: Sequence[Mapping[str, float]],
    seconds: float,
    ended: bool = False,
) -> None:
    """Writes the state of a `trainers.training.loop.Engine` and its callbacks to `path`, whole or not at all.

    Args:
        path: The file.
        engine: What is trained.
        callbacks: The callbacks that take part.
        rows: The row of each finished epoch.
        seconds: The training time so far.
        ended: Whether the run is at its end, and the callbacks know.
    """
    arrays = {f"variable/{i}": variable.numpy() for i, variable in enumerate(engine.variables())}
    states = []
    for c, callback in enumerate(callbacks):
        simple, listed = _callback_state(callback)
        states.append({"class": type(callback).__name__, "values": simple, "arrays": sorted(listed)})
        arrays |= {f"callback/{c}/{name}/{i}": a for name, many in listed.items() for i, a in enumerate(many)}
    meta = {
        "format": _FORMAT,
        "epoch": len(rows),
        "rows": [{key: _plain(value) for key, value in row.items()} for row in rows],
        "seconds": seconds,
        "stopped": bool(engine.model.stop_training),
        "ended": ended,
        "callbacks": states,
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)


def load(path: Path) -> "State":
    """Returns the `State` in `path`. Raises `BadInput` if the file is damaged or of another version."""
    arrays = read_npz(path, way=_AGAIN)
    if "meta" not in arrays:
        refuse(path, "it lacks the array meta", _AGAIN)
    meta = parse_json(path, arrays.pop("meta").tobytes(), _AGAIN)
    if not isinstance(meta, dict):
        refuse(path, "meta is not a JSON object", _AGAIN)
    if meta.get("format") != _FORMAT:
        raise BadInput(
            f"checkpoint format must be {_FORMAT}, got {meta.get('format')}; "
            "finish the run with the version that started it, or start again"
        )
    require(path, meta, _META, _AGAIN)
    if len(meta.get("rows", range(meta["epoch"]))) != meta["epoch"]:
        refuse(path, f"it holds the rows of {len(meta['rows'])} epochs, not of {meta['epoch']}", _AGAIN)
    return State(meta, arrays)


class State:
    """The contents of a checkpoint.

    Attributes:
        epoch: The last finished epoch.
        rows: The row of each finished epoch; None in a checkpoint of version 0.1, which did not hold them.
        seconds: The training time so far.
        ended: Whether the run was at its end, and the callbacks knew.
    """

    def __init__(self, meta: dict, arrays: dict[str, np.ndarray]):
        self.epoch, self.rows, self.seconds = meta["epoch"], meta.get("rows"), meta["seconds"]
        self.ended = meta.get("ended", False)
        self._meta, self._arrays = meta, arrays

    def restore(self, engine: Any, callbacks: "Sequence[keras.callbacks.Callback]") -> int:
        """Restores the state into an engine that was built in the same way; returns the last finished epoch.

        Raises:
            BadInput: The model, the optimiser or the callbacks are not those of the checkpoint.
        """
        variables = engine.variables()
        values = [self._arrays.get(f"variable/{i}") for i in range(len(variables))]
        count = sum(name.startswith("variable/") for name in self._arrays)
        if count != len(variables) or not all(map(_fits, values, variables)):
            raise BadInput(
                f"the checkpoint must hold the {len(variables)} variables of this run, got {count} that do not fit; "
                "resume with the options that started the run"
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        engine.model.stop_training = self._meta["stopped"]
        self._restore_callbacks(callbacks)
        return self.epoch

    def _restore_callbacks(self, callbacks):
        saved, given = [s["class"] for s in self._meta["callbacks"]], [type(c).__name__ for c in callbacks]
        if saved != given:
            raise BadInput(f"callbacks must be those of the checkpoint, {saved}, got {given}; pass the same")
        for c, (callback, state) in enumerate(zip(callbacks, self._meta["callbacks"], strict=True)):
            vars(callback).update(state["values"])
            for name in state["arrays"]:
                prefix = f"callback/{c}/{name}/"
                count = sum(key.startswith(prefix) for key in self._arrays)
                setattr(callback, name, [self._arrays[f"{prefix}{i}"] for i in range(count)])


def _plain(value):
    """Returns a number of NumPy as one of Python, with all its digits."""
    return value.item() if isinstance(value, np.generic) else value


def _fits(array, variable):
    """Returns whether an array has the shape and the type of a variable."""
    return array is not None and array.shape == tuple(variable.shape) and array.dtype.name == variable.dtype


def _callback_state(callback):
    """The state of a callback that can be saved: numbers, and lists of arrays such as the best weights.

    Strings are left out: they are options and paths, which may differ in a folder that was moved.
    """
    simple, listed = {}, {}
    for name, value in vars(callback).items():
        if name in ("params", "_params"):
            continue
        if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0:
            value = value.item()
        if value is None or isinstance(value, int | float):
            simple[name] = value
        elif isinstance(value, list) and value and all(isinstance(v, np.ndarray) for v in value):
            listed[name] = value
        elif isinstance(value, list) and all(isinstance(v, int | float) for v in value):
            simple[name] = value
    return simple, listed
