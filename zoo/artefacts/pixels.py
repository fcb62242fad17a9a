"""Arrays of images, and the `.npy` and `.npz` files that hold them, as the pixels that a model takes."""

import contextlib
import io
import math
import zipfile

import numpy as np
from numpy.lib import format as npy

from zoo.errors import BadInput

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_NAMES = ("x", "x_test")
_LONGEST = 2**16  # bytes of a header; a longer one is none of ours


def pixels(what, x, shape):
    """uint8 `(n, *shape)` from an array of one or several images with values of 0 to 255.

    Raises `BadInput` for another shape, type or range.
    """
    _check_dtype(what, x.dtype)
    x = x.reshape(_with_batch(what, x.shape, shape))
    if x.dtype == np.uint8:
        return x
    low, high = x.min(), x.max()
    if not (low >= 0 and high <= 255):  # also true of NaN
        raise BadInput(f"{what} goes from {low} to {high}; pixels are 0 to 255, without NaN: rescale them")
    if high <= 1 and x.dtype.kind == "f" and (x != np.rint(x)).any():
        raise BadInput(f"{what} goes from {low} to {high}; pixels are 0 to 255: multiply by 255")
    return np.rint(x).astype(np.uint8)


def read(path, shape, room):
    """uint8 `(n, *shape)` from an `.npy` or `.npz` file that takes at most `room` bytes in memory.

    Of an `.npz` file it is the array called x or x_test, or the only one. Headers are
    checked before any pixel is read or unpacked.
    """
    try:
        with _opened(path) as (stream, size):
            _check_header(path, stream, size, shape, room)
        with _opened(path) as (stream, _):
            return pixels(str(path), npy.read_array(stream, allow_pickle=False), shape)
    except BadInput:
        raise
    except Exception as error:  # damaged files raise whatever the readers meet
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(
            f"{path} cannot be read as an array ({first[:160]}); save it again with np.save or np.savez"
        ) from error


@contextlib.contextmanager
def _opened(path):
    """The array's bytes as a stream, and how many there can be."""
    with contextlib.ExitStack() as stack:
        if path.suffix.lower() == ".npy":
            yield stack.enter_context(open(path, "rb")), path.stat().st_size
            return
        archive = stack.enter_context(zipfile.ZipFile(path))
        found = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        names = [name for name in _NAMES if name in found] or (list(found) if len(found) == 1 else [])
        if not names:
            raise BadInput(
                f"{path} holds {', '.join(list(found)[:20]) or 'nothing'}; allowed is an array called "
                f"{' or '.join(_NAMES)}, or a single one: save it with np.savez(path, x=...)"
            )
        info = found[names[0]]
        yield stack.enter_context(archive.open(info)), info.file_size  # no more than these are ever unpacked


def _check_header(path, stream, size, shape, room):
    stream = io.BytesIO(stream.read(_LONGEST))
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    found, _, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise BadInput(f"{path} holds Python objects, which could run code; save plain numbers with np.save")
    _check_dtype(str(path), dtype)
    _with_batch(str(path), found, shape)
    needed = math.prod(found) * dtype.itemsize
    if needed > room:
        raise BadInput(f"{path} unpacks to {needed:,} bytes; allowed are {room:,} in one call: give it in parts")
    if needed > size:
        raise ValueError(f"cut off: it announces {needed:,} bytes and holds {size:,}")


def _with_batch(what, found, shape):
    """The shape `(n, *shape)` of an array of shape `found`, where it can be one."""
    whole = found if len(found) == 4 else (1, *found) if found == shape else None
    if whole is None and shape[-1] == 1:
        whole = {3: (*found, 1), 2: (1, *found, 1)}.get(len(found))
    if whole is None or whole[1:] != shape or whole[0] < 1:
        without = ", (n, height, width)" if shape[-1] == 1 else ""
        raise BadInput(
            f"{what} has shape {found}; allowed are (n, height, width, channels), one image without n{without}, "
            f"where this model's (height, width, channels) are {shape}: resize or transpose it"
        )
    return whole


def _check_dtype(what, dtype):
    if dtype.kind not in "iuf":
        raise BadInput(f"{what} has type {dtype}; give pixels as uint8, or as other numbers of 0 to 255")
