"""What `card.json` must say for its artefact to be run, checked before anything is opened."""

import json
import math
import re
from pathlib import Path

from zoo.errors import BadInput

NAME = "card.json"
FORMAT = 1
RUNTIMES = ("onnx", "litert", "savedmodel", "keras")  # the fastest first
MODES = ("inference", "training", "mc")
LARGEST_INPUT = 2**26  # values of one example
_LARGEST = 2**23  # bytes of a card
_DTYPES = {"image": "uint8", "text": "int32"}
_RANKS = {"image": 3, "text": 1}
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def read(folder):
    """The card of an artefact as a dictionary, its keys that running needs checked.

    Raises `BadInput` for a card that is missing or is not of this form.
    """
    path = Path(folder) / NAME
    card = _parsed(path)
    _need(path, card.get("format") == FORMAT, "format", card.get("format"), f"{FORMAT}, which this version reads")
    _need(path, _is_text(card.get("name")), "name", card.get("name"), "a text")
    _check_input(path, _dict(path, card, "input"))
    _check_output(path, _dict(path, card, "output"))
    _check_modes(path, card.get("modes"))
    _check_formats(path, _dict(path, card, "formats"))
    return card


def _parsed(path):
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise BadInput(f"{path} has more than {_LARGEST:,} bytes; copy or export the artefact again")
        card = json.loads(data.decode("utf-8"))
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror}); give the folder of an exported model") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON ({error}); copy or export the artefact again") from error
    _need(path, isinstance(card, dict), "", card, "a JSON object")
    return card


def _check_input(path, given):
    kind = given.get("kind")
    _need(path, isinstance(kind, str) and kind in _DTYPES, "input.kind", kind, "image or text")
    _need(path, _is_text(given.get("name")), "input.name", given.get("name"), "a text")
    shape = given.get("shape")
    sound = isinstance(shape, list) and len(shape) == _RANKS[kind] and all(_is_size(size) for size in shape)
    form = "[height, width, channels]" if kind == "image" else "[length]"
    _need(path, sound and math.prod(shape) <= LARGEST_INPUT, "input.shape", shape, f"{form}, in sizes from 1 up")
    _need(path, given.get("dtype") == _DTYPES[kind], "input.dtype", given.get("dtype"), f"{_DTYPES[kind]} for {kind}")
    if kind == "text":
        _check_file(path, "input.vocabulary", given.get("vocabulary"))


def _check_output(path, given):
    _need(path, _is_text(given.get("name")), "output.name", given.get("name"), "a text")
    _need(path, given.get("dtype") == "float32", "output.dtype", given.get("dtype"), "float32")
    labels = given.get("labels")
    sound = isinstance(labels, list) and len(labels) > 1 and all(_is_text(label) for label in labels)
    _need(path, sound and len(set(labels)) == len(labels), "output.labels", labels, "two or more texts, each one once")


def _check_modes(path, modes):
    sound = isinstance(modes, list) and all(isinstance(mode, str) and mode in MODES for mode in modes)
    _need(path, sound and "inference" in modes, "modes", modes, f"a list of {', '.join(MODES)}, with inference")


def _check_formats(path, formats):
    known = [name for name in RUNTIMES if name in formats]
    _need(path, known, "formats", list(formats), f"one or more of {', '.join(RUNTIMES)}")
    for name in known:
        files = _dict(path, formats, name, "formats.")
        sound = "inference" in files and all(mode in MODES for mode in files)
        _need(path, sound, f"formats.{name}", list(files), f"modes ({', '.join(MODES)}), with inference")
        for mode, file in files.items():
            _check_file(path, f"formats.{name}.{mode}", file)


def _check_file(path, key, name):
    plain = isinstance(name, str) and _PLAIN.fullmatch(name)
    _need(path, plain, key, name, "the plain name of a file inside the artefact")
    if not (path.parent / name).exists():
        raise BadInput(f"{path} names {name!r} as {key}, and there is none; copy or export the artefact again")


def _dict(path, card, key, within=""):
    _need(path, isinstance(card.get(key), dict), within + key, card.get(key), "a JSON object")
    return card[key]


def _is_text(value):
    return isinstance(value, str) and value.strip() != "" and value.isprintable()


def _is_size(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST_INPUT


def _need(path, condition, key, value, allowed):
    if not condition:
        what = f"has {key} = {json.dumps(value)[:200]}" if key else "holds another value"
        raise BadInput(f"{path} {what}; allowed: {allowed}. Export the artefact again, or use a version that reads it")
