"""What users hand over to be predicted, as one batch: files, arrays and texts.

Nothing is executed that a file holds (no pickles), and sizes are judged by headers,
before anything is unpacked.
"""

import math
import re
from pathlib import Path

import numpy as np

from zoo.artefacts import images, pixels
from zoo.errors import BadInput

LARGEST = 2**30  # bytes of all inputs of a call, as they are held in memory
ARRAYS = (".npy", ".npz")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read(given, card):
    """`(names, x)` of what a command line was given, for the model of `card`.

    For an image model each of `given` is an image file, or an `.npy` or `.npz` file of
    pixels. For a text model it is a text itself, or a file with one text a line, written
    `@FILE`, or `FILE.txt` if there is such a file. `names` has one entry an example; `x`
    is a uint8 array, or a list of texts.

    Raises `BadInput` for what is missing, damaged, too large, or of another kind.
    """
    if not given:
        raise BadInput("received no INPUT; give one or more files or texts")
    text = card["input"]["kind"] == "text"
    names, parts, room = [], [], LARGEST
    for item in given:
        found, part = _lines(item, room) if text else _pictures(item, tuple(card["input"]["shape"]), room)
        room -= sum(map(len, part)) if text else part.nbytes
        names += found
        parts.append(part)
    return names, texts([line for part in parts for line in part]) if text else _joined(parts)


def batch(x, card):
    """What a caller in Python hands over, as the batch that runtimes take: uint8 pixels, or texts.

    Raises `BadInput` (a ValueError) for another shape, type or range.
    """
    if card["input"]["kind"] == "text":
        return texts(x)
    shape = tuple(card["input"]["shape"])
    try:
        x = np.asarray(x)
    except Exception as error:  # whatever the object's own conversion raises
        raise BadInput(f"received a {type(x).__name__} that is no array ({error}); give an array of pixels") from error
    if x.dtype == np.uint8 and x.shape[1:] == shape and len(x):
        return x
    return pixels.pixels("the input", x, shape)


def texts(x):
    """A list of texts from one text or several, each fit for UTF-8."""
    x = [x] if isinstance(x, str) else list(x) if isinstance(x, list | tuple | np.ndarray) else [x]
    wrong = [text for text in x if not isinstance(text, str)]
    if wrong or not x:
        found = f"a {type(wrong[0]).__name__}" if wrong else "nothing"
        raise BadInput(f"received {found} where a text model takes texts; give a str, or a list of at least one str")
    return [_SURROGATE.sub("\ufffd", text) for text in x]


def _pictures(item, shape, room):
    """The names and pixels of one file."""
    path = _existing(item)
    if path.suffix.lower() in ARRAYS:
        x = pixels.read(path, shape, room)
        return [f"{item}[{i}]" for i in range(len(x))] if len(x) > 1 else [item], x
    if math.prod(shape) > room:
        raise _too_large(item)
    return [item], images.read(path, shape)[np.newaxis]


def _joined(parts):
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _lines(item, room):
    """The names and texts of one INPUT: itself, or the lines of the file that it names."""
    if len(item) > room:
        raise _too_large(item[:80])
    named = item.removeprefix("@")
    if named == item and not _names_a_text_file(item):
        return [item], [item]
    path = _existing(named)
    try:
        with open(path, "rb") as file:
            data = file.read(room + 1)
        content = data.decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror}); make it readable") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text; save it as UTF-8, one text a line") from error
    if len(data) > room:
        raise _too_large(item)
    lines = [line.removesuffix("\r") for line in content.removesuffix("\n").split("\n")]
    if not content:
        raise BadInput(f"{path} is empty; write one text a line")
    return [f"{named}:{number}" for number in range(1, len(lines) + 1)], lines


def _names_a_text_file(item):
    """Whether a text is meant as the name of one: with white space in it, only if there is that file."""
    return item.lower().endswith(".txt") and (not re.search(r"\s", item) or _is(Path.is_file, item))


def _existing(item):
    """The path of an ordinary file that was named."""
    if _is(Path.is_file, item):
        return Path(item).expanduser()
    if _is(Path.is_dir, item):
        raise BadInput(f"received the folder {item!r}; give the files in it, as {item.rstrip('/')}/*.png")
    raise BadInput(f"there is no file {item[:200]!r}; give the path of an existing file")


def _is(kind, item):
    try:
        return kind(Path(item).expanduser())
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, a user who does not exist
        return False


def _too_large(item):
    return BadInput(f"{item} takes the inputs of this call over {LARGEST:,} bytes; give them in parts")
