"""Converts rows of numbers, from arrays and files, to what a model over a table takes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data import arrays, tables
from zoo.errors import BadInput


def rows(what: str, x: np.ndarray, features: int) -> np.ndarray:
    """Returns one or more rows of numbers as float32 `(n, features)`.

    Args:
        what: name of the array, for messages.
        x: numbers `(n, features)`, or `(features,)`.
        features: number of features of the model.

    Raises:
        BadInput: another shape, or values that are not finite numbers.

    Examples:
        >>> rows("x", np.array([1, 2]), 2)
        array([[1., 2.]], dtype=float32)
    """
    return arrays.rows(what, x.reshape(_with_batch(what, x.shape, features)))


def of_file(path: Path, columns: Sequence[str] | None, features: int) -> np.ndarray:
    """Returns the rows of a `.csv`, `.tsv` or `.jsonl` file as float32 `(n, features)`.

    Args:
        path: the file. Columns that the model does not use are ignored.
        columns: the features of the model by name; if None, the columns of the file, in order.
        features: number of features of the model.

    Raises:
        BadInput: the file is damaged, or lacks a column, or a value is missing or not a number.
    """
    frame = tables.read(path)
    if columns is None:
        columns = list(frame.columns)
        if len(columns) != features:
            raise BadInput(
                f"{path} must have {features} columns, since the model was trained without names of features, got "
                f"{len(columns)}; remove the others"
            )
    return tables.features(path, frame, columns)


def _with_batch(what: str, given: Sequence[int], features: int) -> tuple[int, int]:
    """Returns the shape `(n, features)` of an array of shape `given`. Raises `BadInput` if it has none."""
    full = (1, *given) if len(given) == 1 else tuple(given)
    if len(full) != 2 or full[1] != features or full[0] < 1:
        raise BadInput(
            f"{what} must have shape (n, {features}), or ({features},) for one row, got shape {tuple(given)}"
        )
    return full
