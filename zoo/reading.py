"""Reads files that may be damaged or hostile: regular files, JSON, CSV, zip and npz, all within limits.

Any damage becomes one refusal: `cannot read PATH: REASON; way out`. Sizes are checked before memory is
allocated for them.
"""

import contextlib
import csv
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from zoo.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

LARGEST_TEXT = 2**26  # bytes of a CSV file or a journal
LARGEST_JSON = 2**23  # bytes; the shortest objects take 25 times as much memory as text
LARGEST_UNPACKED = 2**32  # bytes of all members of a zip file
DEEPEST = 100  # JSON objects and lists within each other
AGAIN = "copy it again, or choose another"
_MOST_MEMBERS = 100_000
_SURROGATE = re.compile("[\ud800-\udfff]")
# Columns that hold no numbers.
_TEXTS = ("model", "arm", "placement", "status", "name", "dataset", "test_part", "command", "formats")


@contextlib.contextmanager
def refusing(path: str | Path, way: str = AGAIN) -> Iterator[None]:
    """A context in which every error means that `path` cannot be read.

    Args:
        path: the file that is read.
        way: the way out, the end of the message.

    Raises:
        BadInput: whatever else was raised; a `BadInput` is passed on.
    """
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # parsers raise many kinds of error for damaged files
        refuse(path, _reason(error), way)


def refuse(path: str | Path, reason: str, way: str = AGAIN) -> NoReturn:
    """Raises `BadInput`: `path` cannot be read for this `reason`."""
    raise BadInput(f"cannot read {path}: {reason}; {way}") from None


def _reason(error):
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def regular(path: str | Path, way: str = AGAIN) -> BinaryIO:
    """Opens a regular file for reading; a pipe or a device could block, or never end.

    Raises:
        BadInput: there is no such file, or it is something else.
    """
    with refusing(path, way):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        refuse(path, "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file", way)


def read_bytes(path: str | Path, largest: int = LARGEST_UNPACKED, way: str = AGAIN) -> bytes:
    """Returns the contents of a regular file.

    Raises:
        BadInput: the file cannot be read, or has more than `largest` bytes.
    """
    with regular(path, way) as file, refusing(path, way):
        if os.fstat(file.fileno()).st_size <= largest:
            content = file.read(largest + 1)
            if len(content) <= largest:
                return content
        refuse(path, f"it has more than {largest:,} bytes", way)


def read_text(path: str | Path, largest: int = LARGEST_TEXT, way: str = AGAIN) -> str:
    """Returns the contents of a file of UTF-8 text, see `read_bytes`."""
    content = read_bytes(path, largest, way)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        refuse(path, f"it is not UTF-8 text (byte {error.start})", way)


def parse_json(path: str | Path, content: str | bytes, way: str = AGAIN, pairs: Callable | None = None) -> Any:
    """Returns the value of JSON text.

    Args:
        path: the file that it comes from, for the message.
        content: the text.
        way: the way out, the end of the message.
        pairs: makes an object of its pairs, as `object_pairs_hook` of `json.loads`.

    Raises:
        BadInput: it is too long, not JSON, nested too deeply, or holds NaN, infinity or half of a
            surrogate pair, which no file can hold.

    Examples:
        >>> parse_json("config.json", '{"seed": 1}')
        {'seed': 1}
    """
    if len(content) > LARGEST_JSON:
        refuse(path, f"it has more than {LARGEST_JSON:,} bytes", way)
    with refusing(path, way):
        try:
            text = content.decode("utf-8") if isinstance(content, bytes) else content
            value = json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=pairs)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            refuse(path, f"it is not JSON ({error})", way)
        if text.count("[") + text.count("{") > DEEPEST and _deeper(value, DEEPEST):
            refuse(path, f"it is nested more than {DEEPEST} deep", way)
        if "\\ud" in text.lower() and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            refuse(path, "it holds half of a surrogate pair", way)
        return value


def _finite(text):
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds the number {text[:40]}, which is not finite")
    return number


def _deeper(value, most):
    layer = [value]
    for _ in range(most + 1):
        parts = [part.values() if isinstance(part, dict) else part for part in layer if isinstance(part, dict | list)]
        layer = [inner for part in parts for inner in part]
        if not layer:
            return False
    return True


def read_json(path: str | Path, way: str = AGAIN) -> Any:
    """Returns the contents of a JSON file; None if the file does not exist.

    Raises:
        BadInput: the file cannot be read, or `parse_json` refuses it.
    """
    return parse_json(path, read_bytes(path, LARGEST_JSON, way), way) if present(path) else None


def present(path: str | Path) -> bool:
    """Returns whether there is something at `path`; a path that cannot exist has nothing."""
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL
        return False


def read_csv(path: str | Path) -> list[dict[str, Any]]:
    """Returns the rows of a CSV file with a header. Numbers are parsed; an empty cell is None.

    A last row with too few cells is ignored: the process was killed while writing it.

    Raises:
        BadInput: the file cannot be read, or a row has more or fewer cells than the header.

    Examples:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp(), "results.csv")
        >>> _ = file.write_text("arm,seed,test_error\\nnone,1,2.5\\nnone,2")
        >>> read_csv(file)
        [{'arm': 'none', 'seed': 1, 'test_error': 2.5}]
    """
    way = "choose a folder that holds it" if not present(path) else AGAIN
    text = read_text(path, way=way)
    with refusing(path):
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    if not lines:
        return []
    header, *rows = lines
    if len(set(header)) < len(header):
        refuse(path, "a name stands twice in its header")
    if rows and len(rows[-1]) < len(header):
        rows.pop()
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            refuse(path, f"row {number} has {len(row)} cells, the header has {len(header)}")
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


@contextlib.contextmanager
def archive(
    path: str | Path, largest: int = LARGEST_UNPACKED, way: str = AGAIN, packed: int = 1100
) -> Iterator[zipfile.ZipFile]:
    """A context with an opened zip file, in which every error means that the file cannot be read.

    Args:
        path: a regular file.
        largest: bytes that all members may have together.
        way: the way out, the end of the message.
        packed: how many times larger a member may be than its packed form. DEFLATE reaches 1032.

    Raises:
        BadInput: the file is damaged, names a member twice, or declares members that are larger than
            `largest`, or than the file itself could hold.
    """
    with regular(path, way) as file, refusing(path, way), zipfile.ZipFile(file) as opened:
        members, size = opened.infolist(), os.fstat(file.fileno()).st_size
        if len(members) > _MOST_MEMBERS or len({member.filename for member in members}) < len(members):
            refuse(path, "it has too many members, or one twice", way)
        for member in members:
            held = min(member.compress_size, size) * (packed if member.compress_type else 1)
            if member.file_size > held + (2**16 if member.compress_type else 0):
                refuse(path, f"{member.filename!r} declares more bytes than the file can hold", way)
        if sum(member.compress_size for member in members) > size:
            refuse(path, "its members overlap", way)
        if (total := sum(member.file_size for member in members)) > largest:
            refuse(path, f"its members have {total:,} bytes, more than {largest:,}", way)
        yield opened


def read_npz(
    path: str | Path, names: Iterable[str] | None = None, largest: int = LARGEST_UNPACKED, way: str = AGAIN
) -> "dict[str, np.ndarray]":
    """Returns the arrays of an `.npz` file.

    Args:
        path: the file.
        names: the arrays to read; all if None.
        largest: bytes that the arrays may have together.
        way: the way out, the end of the message.

    Raises:
        BadInput: the file is damaged or lacks an array, or an array holds Python objects or declares
            another size than its data has.
    """
    with archive(path, largest, way) as opened:
        members = {member.filename.removesuffix(".npy"): member for member in opened.infolist()}
        chosen = list(members) if names is None else list(names)
        if missing := [name for name in chosen if name not in members]:
            refuse(path, f"it lacks the array {missing[0]}", way)
        arrays = {}
        for name in chosen:
            with opened.open(members[name]) as stream:
                arrays[name] = read_array(stream, members[name].file_size, f"the array {name[:80]!r}")
        return arrays


def read_array(stream: BinaryIO, size: int, what: str = "it") -> "np.ndarray":
    """Returns the array of an open `.npy` file of `size` bytes.

    Raises:
        ValueError: it holds Python objects, or declares another size than its data has.
    """
    import numpy as np
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{what} has version {version} of the format, which is not read")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, kind = header(stream)
    if kind.hasobject:  # pickles could run code of whoever wrote the file
        raise ValueError(f"{what} holds pickled objects")
    data = size - stream.tell()
    if any(not 0 <= length < 2**48 for length in shape) or math.prod(shape) * kind.itemsize != data:
        raise ValueError(f"{what} declares shape {shape} of {kind}, which {data:,} bytes of data do not hold")
    content = stream.read(data)
    if len(content) != data:
        raise ValueError(f"{what} is cut off")
    array = np.frombuffer(bytearray(content), kind)
    return array.reshape(shape, order="F" if fortran else "C")
