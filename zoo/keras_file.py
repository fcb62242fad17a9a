"""Looks into a `.keras` file before Keras opens it: its members, its configuration, its weights, and their sizes.

A file of a few bytes can declare weights that fill the memory, or point at other files.
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zoo import reading
from zoo.errors import BadInput

if TYPE_CHECKING:
    import keras

MEMBERS = ("metadata.json", "config.json", "model.weights.h5")
LARGEST = 2**32  # bytes of all members
LARGEST_OUTPUT = 2**28  # values of one layer's output for one example
_MOST_OBJECTS = 100_000  # groups and arrays in the weights
_PACKED = 20  # unpacked over packed size; Keras does not pack at all
_SPARE = 2**20  # values that a model may have beyond those in its file
AGAIN = "export or train it again"


def contents(path: str | Path) -> tuple[dict[str, Any], int]:
    """Checks the members of a `.keras` file.

    Returns:
        Its configuration, and the number of values in its weights.

    Raises:
        BadInput: it is damaged, holds other members, or its weights lie outside the file or
            declare more than the file holds.
    """
    path = Path(path)
    with reading.archive(path, LARGEST, AGAIN, _PACKED) as opened:
        for member in opened.infolist():
            _check_member(path, member)
        missing = [name for name in MEMBERS[1:] if name not in opened.namelist()]
        if missing:
            reading.refuse(path, f"it is not a complete .keras file: it lacks {missing[0]}", AGAIN)
        if opened.getinfo("config.json").file_size > reading.LARGEST_JSON:
            reading.refuse(path, f"config.json has more than {reading.LARGEST_JSON:,} bytes", AGAIN)
        config = reading.parse_json(f"config.json in {path}", opened.read("config.json"), AGAIN)
        weights = opened.read("model.weights.h5")
    if not isinstance(config, dict):
        reading.refuse(path, "config.json is not a JSON object", AGAIN)
    with reading.refusing(f"the weights in {path}", AGAIN):
        values = _values(path, weights)
    return config, values


def load(path: str | Path) -> "keras.Model":
    """Opens a `.keras` file in safe mode, once `contents` has accepted it and its sizes are known.

    Raises:
        BadInput: the model needs other weights than the file holds, or has too large an output.
        Exception: whatever Keras and its layers raise.
    """
    import keras

    from zoo import keras_graph

    config, values = contents(path)
    with keras_graph.without_memory():
        model = keras.saving.deserialize_keras_object(_not_compiled(config), safe_mode=True)
        needed = sum(math.prod(v.shape) for v in getattr(model, "variables", ()))
    if needed > 2 * values + _SPARE:
        reading.refuse(path, f"its layers need {needed:,} weights, and it holds {values:,}", AGAIN)
    if (largest := keras_graph.largest_output(model)) > LARGEST_OUTPUT:
        reading.refuse(path, f"a layer of it returns {largest:,} values, more than {LARGEST_OUTPUT:,}", AGAIN)
    return keras.models.load_model(path, safe_mode=True, compile=False)


def _not_compiled(config):
    return {key: value for key, value in config.items() if key != "compile_config"}


def _check_member(path, member):
    name = PurePosixPath(member.filename)
    inside = member.filename in MEMBERS or (name.parts and name.parts[0] == "assets")
    if not inside or ".." in name.parts or name.is_absolute():
        raise BadInput(
            f"{path} must hold only {', '.join(MEMBERS)} and assets, got {member.filename[:200]!r}; export it again"
        )


def _values(path, weights):
    """Returns the number of values in an HDF5 file, whose arrays must lie within its bytes."""
    import h5py

    stored = values = 0
    with h5py.File(io.BytesIO(weights), "r") as file:
        for name, item in _items(path, file):
            if isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise _outside(path, name)
                packed = item.id.get_storage_size()
                if item.dtype.hasobject or item.nbytes > packed * (_PACKED if item.compression else 1):
                    raise ValueError(f"{name} declares {item.nbytes:,} bytes of {item.dtype} and holds {packed:,}")
                stored, values = stored + packed, values + math.prod(item.shape)
    if stored > 2 * len(weights):
        raise ValueError(f"its arrays declare {stored:,} bytes, and it has {len(weights):,}")
    return values


def _items(path, file) -> Iterator:
    """Yields each object of an HDF5 file once; groups may contain each other."""
    import h5py

    waiting, seen = [("", file)], set()
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            full_name = f"{prefix}{name}"[:200]
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise _outside(path, full_name)
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MOST_OBJECTS:
                raise ValueError(f"it has more than {_MOST_OBJECTS:,} objects")
            if isinstance(item, h5py.Group):
                waiting.append((f"{full_name}/", item))
            yield full_name, item


def _outside(path, name):
    return BadInput(f"the weights in {path} must be inside the file, got the link {name}; export the model again")
