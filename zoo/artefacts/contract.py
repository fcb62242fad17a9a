"""Reads `card.json` and checks everything that running the artefact needs, before anything is opened."""

import math
import re
from pathlib import Path
from typing import Any

from zoo.artefacts.runtimes import FASTEST_FIRST
from zoo.checks import integer, shown
from zoo.data.images import RESIZES
from zoo.data.options import value_range
from zoo.errors import BadInput
from zoo.modes import MODES, PREDICTING
from zoo.reading import read_json, refuse
from zoo.schema import by_name, choice, each, nullable, record, require, text, whole

NAME = "card.json"
FORMAT = 1
LARGEST_INPUT = 2**26  # values of one example
_DTYPES = {"image": "uint8", "text": "int32", "table": "float32"}
_SHAPES = {"image": "[height, width, channels]", "text": "[length]", "table": "[features]"}
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


_AGAIN = "copy or export the artefact again"
# What running needs is checked one by one below; this is what is printed, compared or looked up.
_SCHEMA = record(
    {},
    {
        "input": record({}, {"value_range": nullable(value_range), "resize": nullable(choice(*RESIZES))}),
        "architecture": record({}, {"model": text, "parameters": whole(1), "settings": record({})}),
        "data": record({"dataset": text}),
        "files": by_name(record({"bytes": whole()})),
        "realised": each(record({})),
    },
)


def read(folder: str | Path) -> dict[str, Any]:
    """Returns the card of the artefact in `folder`.

    Raises:
        BadInput: the card is missing, or an entry that running needs is invalid.
    """
    path = Path(folder) / NAME
    card = _parsed(path)
    _need(path, card.get("format") == FORMAT, "format", card.get("format"), f"{FORMAT}, which this version reads")
    _need(path, _is_text(card.get("name")), "name", card.get("name"), "a text")
    _check_input(path, _dict(path, card, "input"))
    _check_output(path, _dict(path, card, "output"))
    _check_modes(path, card.get("modes"))
    _check_formats(path, _dict(path, card, "formats"))
    if card.get("calibration") is not None:
        _check_calibration(path, _dict(path, card, "calibration"))
    return card


def _parsed(path):
    card = read_json(path, _AGAIN)
    if card is None:
        refuse(path, "there is no such file", "give the folder of an exported model")
    return require(path, card, _SCHEMA, _AGAIN)


def _check_input(path, given):
    kind = given.get("kind")
    _need(path, isinstance(kind, str) and kind in _DTYPES, "input.kind", kind, " or ".join(_DTYPES))
    _need(path, _is_text(given.get("name")), "input.name", given.get("name"), "a text")
    shape = given.get("shape")
    form = _SHAPES[kind]
    sound = isinstance(shape, list) and len(shape) == form.count(",") + 1 and all(_is_size(size) for size in shape)
    _need(path, sound and math.prod(shape) <= LARGEST_INPUT, "input.shape", shape, f"{form} of sizes >= 1")
    _need(path, given.get("dtype") == _DTYPES[kind], "input.dtype", given.get("dtype"), f"{_DTYPES[kind]} for {kind}")
    if kind == "text":
        _check_file(path, "input.vocabulary", given.get("vocabulary"))
    columns = given.get("columns")
    if kind == "table" and columns is not None:
        sound = isinstance(columns, list) and len(columns) == shape[0] and all(map(_is_text, columns))
        _need(path, sound, "input.columns", columns, "the name of each feature")


def _check_output(path, given):
    _need(path, _is_text(given.get("name")), "output.name", given.get("name"), "a text")
    _need(path, given.get("dtype") == "float32", "output.dtype", given.get("dtype"), "float32")
    labels = given.get("labels")
    sound = isinstance(labels, list) and len(labels) > 1 and all(_is_text(label) for label in labels)
    _need(path, sound and len(set(labels)) == len(labels), "output.labels", labels, "two or more different texts")


def _check_modes(path, modes):
    sound = isinstance(modes, list) and all(isinstance(mode, str) and mode in MODES for mode in modes)
    _need(path, sound and "inference" in modes, "modes", modes, f"a list of {', '.join(MODES)}, with inference")


def _check_formats(path, formats):
    known = [name for name in FASTEST_FIRST if name in formats]
    _need(path, known, "formats", list(formats), f"one or more of {', '.join(FASTEST_FIRST)}")
    for name in known:
        files = _dict(path, formats, name, "formats.")
        sound = "inference" in files and all(mode in MODES for mode in files)
        _need(path, sound, f"formats.{name}", list(files), f"modes ({', '.join(MODES)}), with inference")
        for mode, file in files.items():
            _check_file(path, f"formats.{name}.{mode}", file)


def _check_calibration(path, given):
    """Checks what calibrated probabilities and prediction sets need; an artefact may come without."""
    coverages = given.get("coverages")
    sound = isinstance(coverages, list) and all(_is_number(value, 0, 1) for value in coverages)
    _need(path, sound and coverages == sorted(coverages), "calibration.coverages", coverages, "ascending fractions")
    for mode, fitted in _dict(path, given, "modes", "calibration.").items():
        key = f"calibration.modes.{mode}"
        _need(path, mode in PREDICTING and isinstance(fitted, dict), key, fitted, "a JSON object of a mode of predict")
        temperature, thresholds = fitted.get("temperature"), fitted.get("thresholds")
        sound = temperature is None or _is_number(temperature, 0.001, 1000)
        _need(path, sound, f"{key}.temperature", temperature, "a positive number or null")
        sound = isinstance(thresholds, list) and all(_is_number(value, 0, 1) for value in thresholds)
        _need(path, sound and len(thresholds) == len(coverages), f"{key}.thresholds", thresholds, "one per coverage")


def _is_number(value, low, high):
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _check_file(path, key, name):
    plain = isinstance(name, str) and _PLAIN.fullmatch(name)
    _need(path, plain, key, name, "the plain name of a file in the artefact")
    if not (path.parent / name).exists():
        raise BadInput(f"cannot find {name!r}, named as {key} in {path}; copy or export the artefact again")


def _dict(path, card, key, within=""):
    _need(path, isinstance(card.get(key), dict), within + key, card.get(key), "a JSON object")
    return card[key]


def _is_text(value):
    return isinstance(value, str) and value.strip() != "" and value.isprintable()


def _is_size(value):
    try:
        return isinstance(integer("size", value, 1, LARGEST_INPUT), int)
    except BadInput:
        return False


def _need(path, condition, key, value, allowed):
    if not condition:
        got = f", got {shown(value)}" if key else ""
        raise BadInput(
            f"{key or 'the content'} of {path} must be {allowed}{got}; export the artefact again, or use a version "
            "of this project that reads it"
        )
