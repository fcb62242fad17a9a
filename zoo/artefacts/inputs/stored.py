"""Reads the array of an `.npy` or `.npz` file that a user hands over for prediction."""

from pathlib import Path

import numpy as np

from zoo import reading
from zoo.errors import BadInput

SUFFIXES = (".npy", ".npz")
NAMES = ("x", "x_test")
_WAY = "save it again with np.save or np.savez"


def read(path: Path, room: int) -> np.ndarray:
    """Returns the array of an `.npy` file; of an `.npz` file, the array `x` or `x_test`, or the only one.

    Args:
        path: the file.
        room: largest size of the array in bytes.

    Raises:
        BadInput: the file is damaged or too large, holds Python objects, or no such array.
    """
    if path.suffix.lower() == ".npy":
        with reading.refusing(path, _WAY), reading.regular(path, _WAY) as stream:
            size = path.stat().st_size
            _check_size(path, size, room)
            return reading.read_array(stream, size)
    with reading.archive(path, way=_WAY) as opened:
        members = {info.filename.removesuffix(".npy"): info.file_size for info in opened.infolist()}
    names = [name for name in NAMES if name in members] or (list(members) if len(members) == 1 else [])
    if not names:
        raise BadInput(
            f"{path} must hold an array {' or '.join(NAMES)}, or a single array, got "
            f"{', '.join(list(members)[:20]) or 'none'}; save it with np.savez(path, x=...)"
        )
    _check_size(path, members[names[0]], room)
    return reading.read_npz(path, names[:1], way=_WAY)[names[0]]


def _check_size(path, size, room):
    if size > room:
        raise BadInput(f"the inputs of a call must have at most {room:,} bytes, got {path} with {size:,}; split it")
