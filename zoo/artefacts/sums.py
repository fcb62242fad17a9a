"""SHA256SUMS: whether a folder holds what it held when it was written, and nothing else.

The file is that of `sha256sum`, so that `sha256sum -c SHA256SUMS` checks the same. It
tells damage, not forgery: whoever can write the folder can write the sums.
"""

import hashlib
import os
import re
from pathlib import Path

from zoo.errors import BadInput
from zoo.files import write_text

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_LARGEST = 2**20  # bytes of SHA256SUMS itself


def write(folder):
    """Write `SHA256SUMS` for every file in `folder`, sub-folders included.

    Raises `BadInput` for a symbolic link, and for a name that a line could not hold.
    """
    folder = Path(folder)
    names = sorted(_files(folder) - {NAME})
    for name in names:
        problem = _problem(name)
        if problem:
            raise BadInput(f"{folder} holds {name!r}, {problem}; rename the file")
    write_text(folder / NAME, "".join(f"{_hash(folder / name)}  {name}\n" for name in names))


def check(folder):
    """Refuse a folder whose files are not exactly those that its `SHA256SUMS` lists, byte for byte.

    Raises `BadInput` that names the first file which is damaged, missing or foreign.
    """
    folder = Path(folder)
    present = _files(folder)
    if NAME not in present:
        raise BadInput(f"{folder} has no {NAME}, so its files cannot be checked; give the folder as it was exported")
    expected = _read(folder / NAME)
    missing, foreign = sorted(set(expected) - present), sorted(present - set(expected) - {NAME})
    if missing:
        raise BadInput(f"{folder} lacks {missing[0]!r}, which its {NAME} lists; copy or export the artefact again")
    if foreign:
        raise BadInput(
            f"{folder} holds {foreign[0]!r}, a foreign file that its {NAME} does not list; remove it, "
            "or copy the artefact again"
        )
    for name, hash_ in expected.items():
        found = _hash(folder / name)
        if found != hash_:
            raise BadInput(
                f"{folder / name} is damaged: received SHA-256 {found}, expected {hash_}; "
                "copy or export the artefact again"
            )


def _files(folder):
    """Relative names of all files below `folder`; anything that is neither a file nor a folder is refused."""
    if not folder.is_dir():
        raise BadInput(f"received {folder}, which is no folder; give the folder of an exported model")
    found = set()
    for root, folders, names in os.walk(folder):
        for path in (Path(root, name) for name in (*folders, *names)):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                raise BadInput(f"{folder} holds the symbolic link {name!r}; put the file itself there")
            if path.is_file():
                found.add(name)
            elif not path.is_dir():
                raise BadInput(f"{folder} holds {name!r}, which is no ordinary file; remove it")
    return found


def _read(path):
    """Name -> hash of a `SHA256SUMS`."""
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST + 1).decode("utf-8")
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror}); make it readable") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text; copy or export the artefact again") from error
    if len(text) > _LARGEST:
        raise BadInput(f"{path} has more than {_LARGEST:,} bytes; copy or export the artefact again")
    expected = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        match = _LINE.fullmatch(line)
        problem = _problem(match[2]) if match else "not of the form 'HASH  NAME'"
        if match and match[2] in expected:
            problem = "a file named twice"
        if problem:
            raise BadInput(
                f"line {number} of {path} is {line[:120]!r}, {problem}; allowed are lines 'HASH  NAME' with a "
                "path inside the folder: copy or export the artefact again"
            )
        expected[match[2]] = match[1]
    return expected


def _problem(name):
    """Why `name` cannot stand in `SHA256SUMS`, or nothing."""
    if name == NAME:
        return "the list of sums itself"
    if "\\" in name or not name.isprintable():
        return "a name with a backslash or an unprintable character"
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "an absolute path"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "a path that is not plainly inside the folder"
    return ""


def _hash(path):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror}); make it readable") from error
