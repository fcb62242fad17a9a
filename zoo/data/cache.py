"""The cache: data sets that do not fit into memory, decoded once into flat files that are mapped into memory.

The folder is that of the variable DROPOUT_ZOO_CACHE, or `dropout-zoo` in the user's cache folder. It holds a folder
per entry, `settings.json` with the limit, and for a moment `.KEY.PID`, an entry that is being written or removed,
and the lock `KEY.lock` of the process that does so. Entries appear whole, by being renamed.
"""

import contextlib
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo import checks, files, reading
from zoo.data import announce, flat
from zoo.errors import BadInput, CannotWrite

VARIABLE = "DROPOUT_ZOO_CACHE"
LIMIT = 20.0  # gigabytes, unless `set_limit` was called
GIGABYTE = 10**9
_KEY = re.compile(r"[0-9a-f]{32}")
_UNFINISHED = re.compile(r"\.(?P<key>[0-9a-f]{32})\.\d+")
_SETTINGS = "settings.json"


class Unavailable(Exception):
    """A data set cannot be cached. The message says why, and the way out."""


@dataclass(frozen=True)
class Entry:
    """A data set in the cache.

    Attributes:
        key: name of its folder.
        name: the data set; None if the entry is damaged.
        bytes: size on disk.
        used: when it was last opened, in seconds since 1970.
        in_use: whether a process has it open.
    """

    key: str
    name: str | None
    bytes: int
    used: float
    in_use: bool


def folder() -> Path:
    """Returns the folder of the cache, which may not exist.

    Raises:
        Unavailable: the user has no home folder, and DROPOUT_ZOO_CACHE is not set.
    """
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        home = os.environ.get("XDG_CACHE_HOME", "")
        chosen = os.path.join(home if os.path.isabs(home) else os.path.join("~", ".cache"), "dropout-zoo")
    path = os.path.expanduser(chosen)
    if path.startswith("~"):
        raise Unavailable(f"there is no home folder; set {VARIABLE} to a folder")
    return Path(os.path.abspath(path))


def limit() -> float:
    """Returns the limit in gigabytes of 10^9 bytes: `LIMIT`, or what `set_limit` was given."""
    path = folder() / _SETTINGS
    try:
        stated = None if path.is_symlink() else reading.read_json(path)
        return float(checks.number("limit_gb", stated["limit_gb"], 0)) if stated else LIMIT
    except (BadInput, KeyError, TypeError):
        announce.say(f"{path} is damaged: the cache is limited to {LIMIT:g} GB")
        return LIMIT


def set_limit(gigabytes: float) -> int:
    """Sets the limit of the cache, and removes the entries that were not used for longest until it is met.

    Returns:
        Bytes freed.

    Raises:
        BadInput: not a number >= 0, or the folder cannot be written.
    """
    gigabytes = float(checks.number("limit", gigabytes, 0))
    root = folder()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_json(root / _SETTINGS, {"limit_gb": gigabytes})
    except (OSError, CannotWrite) as error:
        raise BadInput(f"cannot write {root}: {_reason(error)}; set {VARIABLE} to another folder") from error
    before = sum(entry.bytes for entry in _entries(root))
    _make_room(root, 0)
    return before - sum(entry.bytes for entry in _entries(root))


def entries() -> list[Entry]:
    """Returns the entries, the one that was used last first."""
    return sorted(_entries(folder()), key=lambda entry: -entry.used)


def clear() -> int:
    """Removes all entries that are not in use, and what killed processes left; returns the bytes freed."""
    root = folder()
    return sum(entry.bytes for entry in list(_entries(root)) if _removed(root, entry)) + _tidy(root)


def mapped(
    key: str, contents: flat.Contents, decode: Callable[[], tuple[Iterable[tuple[str, np.ndarray]], tuple | None]]
) -> flat.Mapped:
    """Returns arrays mapped from the cache; decodes them into it first if they are not there, or damaged.

    Of several processes that want the same entry, one decodes it and the others wait.

    Args:
        key: what names the entry: 32 hexadecimal digits.
        contents: what it must hold.
        decode: returns the rows of the arrays, as `zoo.data.flat.write` takes them, and the vocabulary.

    Raises:
        Unavailable: the entry cannot be written: the disk is full, the folder cannot be written, or the set is
            larger than the limit.
    """
    root = folder()
    with contextlib.suppress(flat.Unusable):
        return flat.mapped(root / key, contents)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(root, key, contents):
            try:
                return flat.mapped(root / key, contents)  # another process may have decoded it meanwhile
            except flat.Unusable as unusable:
                if os.path.lexists(root / key):
                    announce.say(f"{contents.name} {unusable}; decoding it again")
                    _discard(root, key)
            _build(root, key, contents, decode)
            arrays = flat.mapped(root / key, contents)
        _make_room(root, 0)  # other processes may have written other entries meanwhile
        return arrays
    except (OSError, CannotWrite) as error:
        raise Unavailable(
            f"cannot write {root}: {_reason(error)}; free disk space or set {VARIABLE} to another folder"
        ) from error


def _build(root, key, contents, decode):
    """Decodes an entry that is not there; the caller has locked it."""
    _tidy(root)
    if not _make_room(root, contents.bytes):
        raise Unavailable(
            f"it needs {_size(contents.bytes)}, and the cache in {root} may have {limit():g} GB, which other sets in "
            "use count to; raise that with `python -m trainers data cache --limit GB`"
        )
    free = shutil.disk_usage(root).free
    if free < contents.bytes:
        raise Unavailable(
            f"it needs {_size(contents.bytes)}, and {root} has {_size(free)} left; free disk space or set {VARIABLE} "
            "to another folder"
        )
    unfinished, done = root / f".{key}.{os.getpid()}", 0

    def counted(rows):
        nonlocal done
        for name, x in rows:
            yield name, x
            done += x.nbytes

    try:
        unfinished.mkdir(mode=0o700)
        size = _size(contents.bytes)
        announce.say(f"{contents.name} does not fit into memory: decoding it once into {root} ({size})")
        with announce.status(lambda: f"decoding {contents.name} once into the cache: {_share(done, contents)}"):
            rows, vocabulary = decode()
            flat.write(unfinished, contents, counted(rows), vocabulary)
        os.rename(unfinished, root / key)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def _alone(root, key, contents) -> Iterator[None]:
    """A context in which no other process writes or removes the entry; waits until that is so."""
    import filelock

    if (root / f"{key}.lock").is_symlink():
        (root / f"{key}.lock").unlink()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(root / f"{key}.lock"))
        except filelock.Timeout:
            announce.say(f"another process decodes {contents.name}; waiting for it")

            def waiting():
                written = sum(_bytes(path) for path in root.glob(f".{key}.*"))
                return f"waiting for the process that decodes {contents.name}: {_share(written, contents)}"

            with announce.status(waiting):
                stack.enter_context(files.locked(root / f"{key}.lock", math.inf))
        _sweep(root, key)
        yield


def _entries(root):
    for path in sorted(root.glob("*")) if root.is_dir() else []:
        if not _KEY.fullmatch(path.name):
            continue
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            folder_ = stat.S_ISDIR(path.lstat().st_mode)
            yield Entry(path.name, _name(path), _bytes(path), _used(path), folder_ and flat.in_use(path))


def _name(path):
    try:
        name = flat.read_meta(path).get("set")
    except flat.Unusable:
        return None
    return name if isinstance(name, str) else None


def _used(path):
    try:
        return (path / flat.META).lstat().st_mtime
    except OSError:
        return path.lstat().st_mtime


def _bytes(path):
    """Returns the bytes of the files in a folder that is no link."""
    if path.is_symlink() or not path.is_dir():
        return 0
    total = 0
    with contextlib.suppress(FileNotFoundError):
        total = sum(inner.lstat().st_size for inner in path.iterdir())
    return total


def _make_room(root, wanted):
    """Removes the entries that were not used for longest until `wanted` bytes more fit; returns whether they do."""
    allowed = limit() * GIGABYTE - wanted
    present = sorted(_entries(root), key=lambda entry: entry.used)
    total = sum(entry.bytes for entry in present)
    if wanted and sum(entry.bytes for entry in present if entry.in_use) > allowed:
        return False  # removing what is not in use would not be enough
    for entry in present:
        if total <= allowed:
            break
        if _removed(root, entry):
            total -= entry.bytes
    return total <= allowed


def _removed(root, entry):
    """Removes an entry unless it is in use; returns whether it did."""
    import filelock

    try:
        with files.locked(root / f"{entry.key}.lock"):
            _sweep(root, entry.key)
            if (root / entry.key).is_symlink() or not flat.in_use(root / entry.key):
                return _discard(root, entry.key)
    except (OSError, filelock.Timeout):
        pass
    return False


def _discard(root, key):
    """Removes what has the name of an entry, which the caller has locked; links are not followed."""
    path = root / key
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        removed = root / f".{key}.{os.getpid()}"  # first renamed: what is there is whole
        os.rename(path, removed)
        shutil.rmtree(removed)
    return True


def _tidy(root):
    """Removes what killed processes left; returns the bytes."""
    import filelock

    freed = 0
    for path in list(root.glob(".*.*")) + list(root.glob("*.lock")) if root.is_dir() else []:
        match = _UNFINISHED.fullmatch(path.name)
        key = match["key"] if match else path.name.removesuffix(".lock")
        if _KEY.fullmatch(key):
            # The lock of a process that still lives is held; this removes the file of one that does not.
            with contextlib.suppress(OSError, filelock.Timeout), files.locked(root / f"{key}.lock"):
                freed += _sweep(root, key)
    return freed


def _sweep(root, key):
    """Removes what killed processes left of an entry, which the caller has locked; returns the bytes."""
    freed = 0
    for path in root.glob(f".{key}.*"):
        freed += _bytes(path)
        path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)
    return freed


def _share(done, contents):
    return f"{min(99, 100 * done // max(1, contents.bytes))} % of {_size(contents.bytes)}"


def _size(count):
    return f"{count / GIGABYTE:.1f} GB" if count >= GIGABYTE / 10 else f"{count / 10**6:.1f} MB"


def _reason(error):
    while not isinstance(error, OSError) and error.__cause__ is not None:
        error = error.__cause__
    return getattr(error, "strerror", None) or str(error)
