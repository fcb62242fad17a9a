"""Everything a run needs to go on as if it had never stopped, in one file without pickle.

Keras' own formats lose the state of the seed generators, so that a resumed run would
see other masks; here every variable is kept by position, and with them the simple
state of every callback.
"""

import json
import zipfile

import numpy as np

from zoo.errors import BadInput
from zoo.files import replacing

_FORMAT = 2  # 1 held generators whose masks were Keras'


def save(path, engine, callbacks, epoch, seconds):
    """Write the state after `epoch` to `path`, whole or not at all; `seconds` have been trained."""
    arrays = {f"variable/{i}": variable.numpy() for i, variable in enumerate(engine.variables())}
    states = []
    for c, callback in enumerate(callbacks):
        simple, listed = _callback_state(callback)
        states.append({"class": type(callback).__name__, "values": simple, "arrays": sorted(listed)})
        arrays |= {f"callback/{c}/{name}/{i}": a for name, many in listed.items() for i, a in enumerate(many)}
    meta = {
        "format": _FORMAT,
        "epoch": epoch,
        "seconds": seconds,
        "stopped": bool(engine.model.stop_training),
        "callbacks": states,
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)


def load(path):
    """The `State` in `path`. Raises `BadInput` if the file is damaged or of another version."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(arrays.pop("meta").tobytes())
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"cannot read the checkpoint {path} ({error}); remove its folder and start again") from None
    if meta.get("format") != _FORMAT:
        raise BadInput(
            f"received a checkpoint of format {meta.get('format')}, this version reads {_FORMAT}; "
            "finish the run with the version that began it, or start again"
        )
    return State(meta, arrays)


class State:
    """A checkpoint that was read: `epoch`, `seconds`, and `restore`."""

    def __init__(self, meta, arrays):
        self.epoch, self.seconds = meta["epoch"], meta["seconds"]
        self._meta, self._arrays = meta, arrays

    def restore(self, engine, callbacks):
        """Put the state into an engine built in the same way; returns the epoch it belongs to.

        Raises `BadInput` if the network, optimiser or callbacks are not those of the checkpoint.
        """
        variables = engine.variables()
        values = [self._arrays.get(f"variable/{i}") for i in range(len(variables))]
        kept = sum(name.startswith("variable/") for name in self._arrays)
        if kept != len(variables) or any(a.shape != tuple(v.shape) for a, v in zip(values, variables, strict=True)):
            raise BadInput(
                f"the checkpoint holds {kept} variables that do not fit the {len(variables)} of this run; "
                "resume with the options that began it"
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        engine.model.stop_training = self._meta["stopped"]
        self._restore_callbacks(callbacks)
        return self.epoch

    def _restore_callbacks(self, callbacks):
        kept, given = [s["class"] for s in self._meta["callbacks"]], [type(c).__name__ for c in callbacks]
        if kept != given:
            raise BadInput(f"the checkpoint holds the callbacks {kept}, this run has {given}; give the same")
        for c, (callback, state) in enumerate(zip(callbacks, self._meta["callbacks"], strict=True)):
            vars(callback).update(state["values"])
            for name in state["arrays"]:
                prefix = f"callback/{c}/{name}/"
                count = sum(key.startswith(prefix) for key in self._arrays)
                setattr(callback, name, [self._arrays[f"{prefix}{i}"] for i in range(count)])


def _callback_state(callback):
    """What of a callback can be kept: numbers, and lists of arrays (such as best weights).

    Strings stay out: they are options and paths, which a run that was moved brings anew.
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
