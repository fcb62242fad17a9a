"""Reads files, arrays and texts for predictions into one batch.

No code in a file is executed (no pickles), and headers are checked for sizes before
anything is unpacked.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo import checks, reading
from zoo.artefacts.inputs import pixels, rows, stored
from zoo.data import images, tables
from zoo.data.folders import SUFFIXES, files_below
from zoo.data.options import DataOptions
from zoo.errors import BadInput

LARGEST = 2**30  # largest size of all inputs of a call in memory, in bytes
_END = re.compile(r"\r\n|\r|\n")  # of a line, on any system
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_inputs(
    given: str | Path | Sequence[str | Path],
    card: Mapping[str, Any],
    value_range: str | tuple[float, float] | None = None,
) -> tuple[list[str], Any]:
    """Reads the inputs of a command line for the model of `card`.

    Args:
        given: one or more inputs; a `pathlib.Path` is always a file or folder. For an image model, image
            files, or `.npy` or `.npz` files of pixels. For a text model, texts, or files with one text per
            line, written `@FILE`, or `FILE.txt` if that file exists. A folder stands for all images or `.txt`
            files in it; such a text file is one text. For a model on rows of numbers, `.csv`, `.tsv` or `.jsonl` files
            with its columns, or `.npy` or `.npz` files.
        card: the card of the model.
        value_range: range of the values of images, `(LOW, HIGH)` or `LOW:HIGH`; that of the training
            data if None.

    Returns:
        A name for each example, and the examples: a uint8 or float32 array, or a list of texts.

    Raises:
        BadInput: an input is missing, damaged, too large, or of another kind.

    Examples:
        >>> read_inputs(["a good film"], {"input": {"kind": "text"}})
        (['a good film'], ['a good film'])
    """
    kind = card["input"]["kind"]
    text = kind == "text"
    given = checks.texts("INPUT", _as_texts(given, "@" if text else ""))
    if not given:
        raise BadInput("INPUT must be one or more files or texts, got none")
    limits = limits_of(card, value_range)
    names, parts, room = [], [], LARGEST
    for item in given if kind == "table" else _expanded(given, text):
        if text:
            labels, part = _lines(item, room)
        elif kind == "table":
            labels, part = _rows(item, card["input"], room)
        else:
            labels, part = _pictures(item, card["input"], room, limits)
        room -= sum(map(len, part)) if text else part.nbytes
        names += labels
        parts.append(part)
    return names, texts([line for part in parts for line in part]) if text else _joined(parts)


def _as_texts(given, mark):
    """Returns inputs with their paths as texts; `mark` tells a file from a text."""
    if isinstance(given, os.PathLike):
        return f"{mark}{os.fspath(given)}"
    if not isinstance(given, list | tuple):
        return given
    return [f"{mark}{os.fspath(item)}" if isinstance(item, os.PathLike) else item for item in given]


def limits_of(card: Mapping[str, Any], value_range: str | tuple[float, float] | None = None) -> Any:
    """Returns the values that become 0 and 255: those given, or those of the training data; None for 0 and 255.

    Raises:
        BadInput: no range, or the model takes no images.
    """
    if value_range is not None and card["input"]["kind"] != "image":
        raise BadInput(f"value_range must be None for a {card['input']['kind']} model, got {checks.shown(value_range)}")
    return DataOptions(value_range=value_range or card["input"].get("value_range")).limits  # type: ignore[arg-type]


def batch(
    x: Any, card: Mapping[str, Any], value_range: str | tuple[float, float] | None = None
) -> np.ndarray | list[str]:
    """Converts the input of a call in Python to the batch that runtimes take: uint8 pixels, float32 rows, or texts.

    Raises:
        BadInput (a ValueError): another shape, type or range.
    """
    limits = limits_of(card, value_range)
    if card["input"]["kind"] == "text":
        return texts(x)
    shape = tuple(card["input"]["shape"])
    try:
        x = np.asarray(x)
    except Exception as error:  # the conversion of an object may raise anything
        raise BadInput(f"x must be an array, got a {type(x).__name__} ({error}); give an array of numbers") from error
    if card["input"]["kind"] == "table":
        return rows.rows("x", x, *shape)
    return pixels.pixels("x", x, shape, limits)


def texts(x: Any) -> list[str]:
    """Returns a list of texts, each valid in UTF-8, from one or more texts."""
    x = [x] if isinstance(x, str) else list(x) if isinstance(x, list | tuple | np.ndarray) else [x]
    wrong = [text for text in x if not isinstance(text, str)]
    if wrong or not x:
        got = f"a {type(wrong[0]).__name__}" if wrong else "nothing"
        raise BadInput(f"x must be a str, or a list of at least one str, for a text model, got {got}")
    return [_SURROGATE.sub("\ufffd", text) for text in x]


def _expanded(given, text):
    """Yields the inputs, with the files of a folder in its place."""
    for item in given:
        named = item.removeprefix("@") if text else item
        if not _is(Path.is_dir, named) or (text and named == item and "/" not in item):
            yield item
            continue
        paths = [path for path in files_below(Path(named).expanduser())[0] if _wanted(path, text)]
        if not paths:
            raise BadInput(f"{named} must hold {'.txt files' if text else 'images'}, got none; choose another folder")
        yield from map(WholeText if text else str, paths)


class WholeText(str):
    """The path of a file that holds one text, not one per line."""


def _wanted(path, text):
    suffix = path.suffix.lower()
    return suffix == ".txt" if text else suffix in SUFFIXES or (suffix not in stored.SUFFIXES and images.is_image(path))


def _pictures(item, about, room, limits):
    """Returns the names and pixels of one file."""
    path, shape = _existing(item), tuple(about["shape"])
    if path.suffix.lower() in stored.SUFFIXES:
        x = pixels.pixels(str(path), stored.read(path, room), shape, limits)
        return [f"{item}[{i}]" for i in range(len(x))] if len(x) > 1 else [item], x
    if math.prod(shape) > room:
        raise _too_large(item)
    return [item], images.read_image(path, shape, about.get("resize", "squash"), limits)[np.newaxis]


def _rows(item, about, room):
    """Returns the names and the numbers of the rows of one file."""
    path, (count,) = _existing(item), about["shape"]
    suffix = path.suffix.lower()
    if suffix in stored.SUFFIXES:
        x = rows.rows(str(path), stored.read(path, room), count)
    elif suffix in tables.SUFFIXES:
        if path.stat().st_size > room:
            raise _too_large(item)
        x = rows.of_file(path, about.get("columns"), count)
    else:
        allowed = ", ".join((*tables.SUFFIXES, *stored.SUFFIXES))
        raise BadInput(f"INPUT must be a file of rows for this model, {allowed}, got {checks.shown(item)}")
    return [f"{item}[{i}]" for i in range(len(x))] if len(x) > 1 else [item], x


def _joined(parts):
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _lines(item, room):
    """Returns the names and texts of one INPUT: the text itself, or the lines of the file that it names."""
    if len(item) > room:
        raise _too_large(item[:80])
    named = item.removeprefix("@")
    one_text = isinstance(item, WholeText)
    if named == item and not one_text and not _names_a_text_file(item):
        if not re.search(r"\s", item) and _is(Path.is_file, item):
            raise BadInput(
                f"INPUT must be a text, a .txt file or @FILE, got {item!r}, which is a file of another kind; give "
                f"@{item} to predict each of its lines"
            )
        return [item], [item]
    path = _existing(named)
    content = reading.read_text(path, room, "save it as UTF-8 with one text per line").removeprefix("\ufeff")
    if one_text:
        return [str(item)], [content]
    lines = _END.split(_END.sub("\n", content).removesuffix("\n"))
    if not content:
        raise BadInput(f"{path} must hold one text per line, got an empty file")
    return [f"{named}:{number}" for number in range(1, len(lines) + 1)], lines


def _names_a_text_file(item):
    """Returns whether a text is a file name; one with white space is, only if that file exists."""
    return item.lower().endswith(".txt") and (not re.search(r"\s", item) or _is(Path.is_file, item))


def _existing(item):
    """Returns the path of an existing file. Raises `BadInput` if there is none."""
    if _is(Path.is_file, item):
        return Path(item).expanduser()
    if _is(Path.is_dir, item):
        raise BadInput(f"INPUT must be a file, got the folder {item!r}; give its files, as in {item.rstrip('/')}/*.png")
    raise BadInput(f"there is no file {item[:200]!r}; give the path of an existing file")


def _is(kind, item):
    try:
        return kind(Path(item).expanduser())
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, a user who does not exist
        return False


def _too_large(item):
    return BadInput(f"the inputs of a call must have at most {LARGEST:,} bytes, got more with {item}; split them")
