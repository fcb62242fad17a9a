"""SHA256SUMS: checks that a folder holds exactly the files that were written.

The file has the format of `sha256sum`, so `sha256sum -c SHA256SUMS` checks the same. It
detects damage, not forgery: whoever can write the folder can write the sums.
"""

import hashlib
import os
import re
from pathlib import Path

from zoo.errors import BadInput
from zoo.files import write_text
from zoo.reading import read_text, refusing, regular

NAME = "SHA256SUMS"
AGAIN = "copy or export the artefact again"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_LARGEST = 2**20  # bytes of SHA256SUMS itself


def write(folder: str | Path) -> None:
    """Writes `SHA256SUMS` for every file in `folder`, including subfolders.

    Raises:
        BadInput: the folder holds a symbolic link, or a name that cannot stand in a line.
    """
    folder = Path(folder)
    names = sorted(_files(folder) - {NAME})
    for name in names:
        problem = _problem(name)
        if problem:
            raise BadInput(f"cannot list {name!r} of {folder}: it is {problem}; rename the file")
    write_text(folder / NAME, "".join(f"{_hash(folder / name)}  {name}\n" for name in names))


def check(folder: str | Path) -> None:
    """Checks that the files of a folder are exactly those listed in its `SHA256SUMS`, byte for byte.

    Raises:
        BadInput: a file is damaged, missing or not listed; the message names the first.
    """
    folder = Path(folder)
    present = _files(folder)
    if NAME not in present:
        raise BadInput(f"cannot check {folder}: it has no {NAME}; give the folder as it was exported")
    expected = _read(folder / NAME)
    missing, unlisted = sorted(set(expected) - present), sorted(present - set(expected) - {NAME})
    if missing:
        raise BadInput(f"{missing[0]!r} is missing in {folder}; copy or export the artefact again")
    if unlisted:
        raise BadInput(f"{unlisted[0]!r} in {folder} is not listed in {NAME}; remove it, or copy the artefact again")
    for name, hash_ in expected.items():
        actual = _hash(folder / name)
        if actual != hash_:
            raise BadInput(
                f"{folder / name} is damaged: SHA-256 must be {hash_}, got {actual}; copy or export the artefact again"
            )


def _files(folder):
    """Returns the relative names of all files below `folder`. Raises `BadInput` for anything but files and folders."""
    if not folder.is_dir():
        raise BadInput(f"folder must be the folder of an exported model, got {folder}, which is not a folder")
    present = set()
    for root, folders, names in os.walk(folder):
        for path in (Path(root, name) for name in (*folders, *names)):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                raise BadInput(
                    f"{folder} must hold plain files, got the symbolic link {name!r}; replace it by the file"
                )
            if path.is_file():
                present.add(name)
            elif not path.is_dir():
                raise BadInput(f"{folder} must hold plain files, got {name!r}; remove it")
    return present


def _read(path):
    """Returns the hash of each name in a `SHA256SUMS`."""
    text, expected = read_text(path, _LARGEST, AGAIN), {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        match = _LINE.fullmatch(line)
        problem = _problem(match[2]) if match else "not of the form 'HASH  NAME'"
        if match and match[2] in expected:
            problem = "a file named twice"
        if problem:
            raise BadInput(
                f"line {number} of {path} must be 'HASH  NAME' with a path inside the folder, got {line[:120]!r}, "
                f"{problem}; copy or export the artefact again"
            )
        expected[match[2]] = match[1]
    return expected


def _problem(name):
    """Returns why `name` cannot stand in `SHA256SUMS`, or an empty string."""
    if name == NAME:
        return "the file of the sums itself"
    if "\\" in name or not name.isprintable():
        return "a name with a backslash or an unprintable character"
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "an absolute path"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "a path with empty, . or .. parts"
    return ""


def _hash(path):
    with regular(path, AGAIN) as file, refusing(path, AGAIN):
        return hashlib.file_digest(file, "sha256").hexdigest()
