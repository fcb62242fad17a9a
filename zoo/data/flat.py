"""Arrays as flat files in a folder, with a `meta.json`: written once, checked whenever they are mapped into memory.

The files hold numbers alone. Their shapes and their type come from the caller, never from `meta.json`, which must
agree with them. Links are not followed.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from zoo import files, reading
from zoo.data import announce, text
from zoo.errors import BadInput

FORMAT = 1
META, VOCABULARY = "meta.json", "vocabulary.txt"
_BLOCK, _BLOCKS = 2**16, 64  # of a file that is not newer than its meta.json, so many blocks are hashed
_PIECE = 2**24  # bytes that are hashed at once


class Unusable(Exception):
    """The files are not those that are wanted. The message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Contents:
    """What a folder of flat files holds.

    Attributes:
        name: the data set, for messages and lists.
        stamp: a hash of what decides the numbers.
        dtype: uint8 or int32.
        shapes: shape of each array by name.
        vocabulary: for token ids, the largest number of tokens; otherwise None.
    """

    name: str
    stamp: str
    dtype: np.dtype
    shapes: Mapping[str, tuple[int, ...]]
    vocabulary: int | None = None

    @property
    def bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(self.bytes_of(name) for name in self.shapes)

    def bytes_of(self, name: str) -> int:
        """Returns the bytes of an array."""
        return int(np.prod(self.shapes[name], dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class Mapped:
    """Read-only arrays mapped from files, and the vocabulary of token ids.

    The files count as in use, see `in_use`, as long as one of the arrays exists.
    """

    arrays: dict[str, np.memmap]
    vocabulary: tuple[str, ...] | None


def write(
    folder: Path, contents: Contents, rows: Iterable[tuple[str, np.ndarray]], vocabulary: tuple[str, ...] | None = None
) -> None:
    """Writes arrays into a new, empty folder.

    Args:
        folder: the folder. It is complete once this function returns.
        contents: what is written.
        rows: the name of an array and its next rows, again and again.
        vocabulary: the token of each id.

    Raises:
        OSError: a file cannot be written.
        CannotWrite: likewise.
    """
    about: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        written = {name: stack.enter_context(open(folder / f"{name}.bin", "x+b")) for name in contents.shapes}
        hashes = {name: hashlib.sha256() for name in written}
        for name, x in rows:
            assert x.dtype == contents.dtype
            content = np.ascontiguousarray(x).reshape(-1).view(np.uint8).data
            written[name].write(content)
            hashes[name].update(content)
        for name, file in written.items():
            file.flush()
            os.fsync(file.fileno())
            assert os.fstat(file.fileno()).st_size == contents.bytes_of(name)
            about[f"{name}.bin"] = {"shape": list(contents.shapes[name]), "dtype": contents.dtype.name}
            about[f"{name}.bin"] |= _state(file) | {"sample": _sample(file), "sha256": hashes[name].hexdigest()}
    if vocabulary is not None:
        text.save_vocabulary(folder / VOCABULARY, vocabulary)
        with _regular(folder / VOCABULARY) as file:
            about[VOCABULARY] = _state(file) | {"sample": _sample(file), "sha256": _hash(file)}
    meta = {"format": FORMAT, "set": contents.name, "stamp": contents.stamp, "files": about}
    files.write_json(folder / META, meta)


def mapped(folder: Path, contents: Contents) -> Mapped:
    """Maps the arrays of a folder into memory, if they are those of `contents` and undamaged.

    Of a file that has the size and the time of modification that `meta.json` states, a sample is hashed;
    otherwise all of it.

    Raises:
        Unusable: a file is missing or damaged, or the folder holds something else.
    """
    meta = read_meta(folder)
    if meta.get("stamp") != contents.stamp:
        raise Unusable("has changed since it was decoded")
    stated, moved = meta.get("files"), False
    wanted = {f"{name}.bin": name for name in contents.shapes} | ({VOCABULARY: ""} if contents.vocabulary else {})
    if meta.get("format") != FORMAT or not isinstance(stated, dict) or set(stated) != set(wanted):
        raise _damaged(f"{META} describes something else")
    arrays, vocabulary = {}, None
    for file_name, name in wanted.items():
        about = stated[file_name]
        with _regular(folder / file_name) as file:
            _shared(file)
            if not isinstance(about, dict):
                raise _damaged(f"{META} describes something else")
            if name:
                expected = {"shape": list(contents.shapes[name]), "dtype": contents.dtype.name}
                if {key: about.get(key) for key in expected} != expected:
                    raise _damaged(f"{META} describes another array than {file_name} must hold")
                if os.fstat(file.fileno()).st_size != contents.bytes_of(name):
                    raise _damaged(f"{file_name} has another size")
            moved |= _check(file, about, file_name)
            if name:
                arrays[name] = np.memmap(file, contents.dtype, "r", shape=tuple(contents.shapes[name]))
            else:
                vocabulary = _vocabulary(folder, contents)
    if moved:
        _restate(folder, meta)
    with contextlib.suppress(OSError):  # a full disk, or a folder that others write
        os.utime(folder / META)
    return Mapped(arrays, vocabulary)


def read_meta(folder: Path) -> dict[str, Any]:
    """Returns the contents of `meta.json`. Raises `Unusable` if there is none that can be read."""
    try:
        linked = not stat.S_ISDIR(os.lstat(folder).st_mode)
    except OSError as error:
        raise Unusable("is not there") from error
    if linked:
        raise _damaged("it is not a folder")
    with _regular(folder / META) as file:
        content = file.read(reading.LARGEST_JSON + 1)
    try:
        meta = reading.parse_json(META, content)
    except BadInput as error:
        raise _damaged(f"{META} is not JSON") from error
    if not isinstance(meta, dict):
        raise _damaged(f"{META} describes something else")
    return meta


def in_use(folder: Path) -> bool:
    """Returns whether a process has mapped a file of the folder."""
    for path in folder.glob("*.bin"):
        with contextlib.suppress(Unusable), _regular(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:  # a file system without locks
                return False
    return False


def _damaged(reason):
    return Unusable(f"has a damaged copy in the cache ({reason})")


def _regular(path: Path) -> BinaryIO:
    """Opens a regular file that is no link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise _damaged(f"{path.name} {reason}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _damaged(f"{path.name} is not a regular file")
    return os.fdopen(descriptor, "rb")


def _shared(file):
    """Marks a file as in use until it is closed; a mapping of it holds a copy of its descriptor."""
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_SH)


def _state(file):
    status = os.fstat(file.fileno())
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _check(file, about, name):
    """Checks the content of a file; returns whether its time of modification is another one than stated."""
    state = _state(file)
    if about.get("bytes") != state["bytes"]:
        raise _damaged(f"{name} has another size")
    moved = about.get("mtime_ns") != state["mtime_ns"]
    with announce.status(lambda: f"checking {name} in the cache ({state['bytes'] / 10**6:,.0f} MB)"):
        content, expected = (_hash(file), about.get("sha256")) if moved else (_sample(file), about.get("sample"))
    if content != expected:
        raise _damaged(f"{name} has other content")
    return moved


def _sample(file):
    """Returns a hash of blocks of a file, the first and the last among them."""
    size, digest = os.fstat(file.fileno()).st_size, hashlib.sha256()
    for start in np.unique(np.linspace(0, max(0, size - _BLOCK), _BLOCKS).astype(np.int64)).tolist():
        digest.update(os.pread(file.fileno(), _BLOCK, start))
    return digest.hexdigest()


def _hash(file):
    digest, start = hashlib.sha256(), 0
    while piece := os.pread(file.fileno(), _PIECE, start):
        digest.update(piece)
        start += len(piece)
    return digest.hexdigest()


def _restate(folder, meta):
    """Notes the new times of modification of files that were copied, so that they are not hashed again."""
    for name, about in meta["files"].items():
        with contextlib.suppress(Unusable), _regular(folder / name) as file:
            about |= _state(file)
    with contextlib.suppress(OSError, files.CannotWrite):
        files.write_json(folder / META, meta)


def _vocabulary(folder, contents):
    try:
        vocabulary = text.load_vocabulary(folder / VOCABULARY)
    except BadInput as error:
        raise _damaged(f"{VOCABULARY} holds no vocabulary") from error
    if len(vocabulary) > contents.vocabulary:
        raise _damaged(f"{VOCABULARY} has more than {contents.vocabulary:,} tokens")
    return vocabulary


def digest(*values: Any) -> str:
    """Returns a hash of values that JSON can hold.

    Examples:
        >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a1")
        (True, False)
    """
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
