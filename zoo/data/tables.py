"""Files with a row per example, a text or numbers, and its label: `.csv`, `.tsv` and `.jsonl`."""

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import reading
from zoo.data import arrays
from zoo.data.folders import SPLITS
from zoo.data.options import DataOptions
from zoo.data.source import Source, Split, classes_of, in_memory
from zoo.errors import BadInput

if TYPE_CHECKING:
    import pandas

SUFFIXES = (".csv", ".tsv", ".jsonl")
TEXT_COLUMNS = ("text", "sentence", "review", "comment", "content", "message", "tweet", "document", "body")
LABEL_COLUMNS = ("label", "labels", "class", "category", "sentiment", "target", "y")
_SPLIT = "split"
LARGEST = 2**30  # bytes of a file
_LONGEST = 2**24  # characters of a line
_LONG_LINE = re.compile(f"[^\n]{{{_LONGEST + 1}}}")
_WAY = "save it with a header and a row per example"


def table(path: Path, options: DataOptions) -> Source:
    """Reads a file of examples and labels. Examples are texts, or rows of numbers if there is no column of texts.

    Args:
        path: a `.csv` file with a header (separated by commas or semicolons), a `.tsv` file with a header, or a
            `.jsonl` file with an object per line. A column `split` decides the parts: train, test, and
            perhaps val.
        options: `text_column` and `label_column` are needed unless the columns have customary names. Without a
            column of texts, all columns but those of labels and splits must hold numbers.

    Raises:
        BadInput: a damaged file, unknown columns, or rows without a value or label.
    """
    frame = read(path)
    text, label = _columns(path, frame, options)
    labels = frame[label]
    for column in [label] if text is None else [text, label]:
        _check_full(path, frame, column)
    given = np.array(labels)
    numbers = np.array([value.removeprefix("-").isdecimal() for value in labels])
    names, to_classes = classes_of(given.astype(np.int64) if numbers.all() else given)
    if len(names) < 2 or len(names) > max(2, len(given) // 2):
        raise BadInput(
            f"column {label!r} of {path} must have two or more classes, and several rows of most of them, got "
            f"{len(names):,} values in {len(given):,} rows; choose another --label-column"
        )
    y = to_classes(given.astype(np.int64) if numbers.all() else given)
    places = _rows_by_split(path, frame)
    about = {"source": str(path), "versions": {}}
    fixed = {"name": str(path), "labels": names, "own_validation": True}
    if text is None:
        columns = [name for name in frame.columns if name not in (label, _SPLIT)]
        x = features(path, frame, columns)
        notes = [f"{len(columns)} features, {_named(columns, 8)}; classes from column {label!r}"]
        splits = {name: Split(y=y[rows], x=x[rows]) for name, rows in places.items()}
        about |= {"notes": notes, "columns": columns}
        return Source(kind="table", splits=splits, shape=(len(columns),), about=about, **fixed)
    encoded = [str(value).encode("utf-8", "replace") for value in frame[text]]
    skipped = [name for name in frame.columns if name not in (text, label, _SPLIT)]
    notes = [f"texts from column {text!r}, classes from column {label!r}"]
    notes += [f"skipped the columns {_named(skipped)}"] if skipped else []
    splits = {name: in_memory([encoded[i] for i in rows], y[rows]) for name, rows in places.items()}
    about |= {"notes": notes}
    return Source(kind="text", splits=splits, about=about, place=os.path.abspath(path), **fixed)


def features(path: Path, frame: "pandas.DataFrame", columns: Sequence[str]) -> np.ndarray:
    """Returns columns of numbers as float32 `(rows, columns)`.

    Raises:
        BadInput: a column is missing, has an empty cell, or holds something else than numbers.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise BadInput(f"{path} must have the columns {_named(columns)}, got none called {_named(missing)}; add them")
    for column in columns:
        _check_full(path, frame, column)
    texts = [name for name in columns if not _is_numeric(frame[name])]
    if texts:
        row = next(i for i, value in enumerate(frame[texts[0]]) if not _is_numeric([value]))
        raise BadInput(
            f"columns of {path} must hold numbers, got {frame[texts[0]].iloc[row]!r} in row {row + 1} of {texts[0]!r}"
            f"{f' and text in {len(texts) - 1} more' if len(texts) > 1 else ''}; encode or remove them, or name the "
            "column of texts with --text-column"
        )
    return arrays.rows(str(path), np.stack([frame[name].astype(float) for name in columns], axis=1))


def _is_numeric(values):
    """Returns whether all values that are not empty are numbers."""
    import pandas

    values = pandas.Series(values, dtype=str).str.strip()
    return bool(pandas.to_numeric(values[values != ""], errors="coerce").notna().all())


def _check_full(path, frame, column):
    empty = np.flatnonzero([not str(value).strip() for value in frame[column]])
    if len(empty):
        raise BadInput(
            f"{path} must have a value in column {column!r} of each row, got none in {len(empty):,} rows, the "
            f"first in row {empty[0] + 1}; fill or remove them"
        )


def _named(columns, most=20):
    return ", ".join(map(repr, columns[:most])) + (f" and {len(columns) - most} more" if len(columns) > most else "")


def read(path: Path) -> "pandas.DataFrame":
    """Returns a file of rows as a DataFrame of strings. Raises `BadInput` if it is damaged."""
    import pandas

    content = reading.read_text(path, LARGEST, "save it as UTF-8").removeprefix("\ufeff")
    if _LONG_LINE.search(content):
        reading.refuse(path, f"a line of it has more than {_LONGEST:,} characters", _WAY)
    with reading.refusing(path, _WAY):
        if path.suffix.lower() == ".jsonl":
            frame = pandas.read_json(io.StringIO(content), lines=True, dtype=False, convert_dates=False)
            frame = frame.map(lambda value: "" if value is None or value != value else str(value))
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else _separator(content)
            options = {"dtype": str, "keep_default_na": False, "header": None}
            # As a header, pandas would rename equal columns.
            rows = pandas.read_csv(io.StringIO(content), sep=separator, **options)
            frame = rows.iloc[1:].reset_index(drop=True).set_axis(list(rows.iloc[0]), axis=1)
    frame.columns = [str(name).strip() for name in frame.columns]
    if not len(frame) or len(set(frame.columns)) < len(frame.columns):
        raise BadInput(
            f"{path} must hold rows below a header of distinct names, got {len(frame)} rows of {list(frame)}"
        )
    return frame


def _separator(content):
    """Returns the separator of a `.csv` file: a semicolon if its first line has one and no comma."""
    first = content[: 2**16].partition("\n")[0]
    return ";" if ";" in first and "," not in first else ","


def _columns(path, frame, options):
    """Returns the names of the columns of texts and of labels; None for texts if the examples are numbers."""
    columns = list(frame.columns)
    by_name = {name.lower(): name for name in reversed(columns)}
    chosen = {}
    for what, given, customary in (
        ("text", options.text_column, TEXT_COLUMNS),
        ("label", options.label_column, LABEL_COLUMNS),
    ):
        if given is not None and given not in columns:
            raise BadInput(f"--{what}-column must be one of {', '.join(map(repr, columns))}, got {given!r}")
        chosen[what] = given or next((by_name[name] for name in customary if name in by_name), None)
    free = [name for name in columns if name not in (*chosen.values(), _SPLIT)]
    if chosen["text"] is None and chosen["label"] is not None and free:
        numeric = [name for name in free if _is_numeric(frame[name])]
        if (len(free) > 1 and numeric) or numeric == free:
            return None, chosen["label"]  # one column of numbers among others: `features` refuses the others by name
    for what, column in chosen.items():
        if column is None and len(free) == 1 and None not in [v for k, v in chosen.items() if k != what]:
            chosen[what] = free[0]
        elif column is None:
            raise BadInput(
                f"--{what}-column must name the column of the {what}s in {path}, one of "
                f"{', '.join(map(repr, columns))}, got none; add --{what}-column NAME"
            )
    if chosen["text"] == chosen["label"]:
        raise BadInput(f"--text-column and --label-column must differ, got {chosen['text']!r} for both")
    return chosen["text"], chosen["label"]


def _rows_by_split(path, frame):
    """Returns the row numbers of each split; all rows are `train` without a column `split`."""
    if _SPLIT not in frame.columns:
        return {"train": np.arange(len(frame))}
    names = [SPLITS.get(str(value).strip().lower()) for value in frame[_SPLIT]]
    if None in names:
        row = names.index(None)
        raise BadInput(
            f"column {_SPLIT!r} of {path} must hold train, test or val, got {frame[_SPLIT][row]!r} in row {row + 1}"
        )
    return {
        name: np.flatnonzero([other == name for other in names])
        for name in ("train", "test", "validation")
        if name in names
    }
