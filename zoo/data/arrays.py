"""Data sets in arrays: scikit-learn's digits, and a user's `.npz` file."""

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np

from zoo import reading
from zoo.data import images
from zoo.data.options import DataOptions
from zoo.data.source import Source, Split, classes_of, in_memory
from zoo.errors import BadInput

KEYS = ("x_train", "y_train", "x_test", "y_test")
VALIDATION = ("x_val", "y_val")
_WAY = "save numeric arrays with np.savez(path, x_train=..., ...)"
_DIM = 128  # a largest value below half the range suggests another range


def digits() -> Source:
    """Returns the 1,797 handwritten digits of scikit-learn, `(8, 8, 1)`; they have no test split."""
    images, labels = _digits()
    x = np.round(images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return Source(
        name="digits",
        kind="image",
        labels=tuple(str(digit) for digit in range(10)),
        splits={"train": Split(y=labels.astype(np.int32), x=x)},
        shape=(8, 8, 1),
        about={
            "source": "sklearn.datasets.load_digits",
            "versions": {"scikit-learn": importlib.metadata.version("scikit-learn")},
        },
        hold_out=5,
    )


def _digits():
    """Returns images `(n, 8, 8)` from 0 to 16 and labels `(n,)`.

    Importing scikit-learn takes as long as training on them, so its file is read as it is, where it has one.
    """
    package = importlib.util.find_spec("sklearn").submodule_search_locations[0]
    path = Path(package, "datasets", "data", "digits.csv.gz")
    if not path.is_file():
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return bunch.images, bunch.target
    table = np.loadtxt(path, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


def npz(path: Path, memory_budget: int, options: DataOptions) -> Source:
    """Reads the arrays x_train, y_train, x_test and y_test, and perhaps x_val and y_val, of an `.npz` file.

    Args:
        path: the file. Images are `(n, height, width)` or `(n, height, width, channels)`, 0 to 255 or in the
            `value_range` of the options; texts are strings `(n,)`; rows of a table are numbers `(n, features)`.
            Labels are integers or strings.
        memory_budget: bytes that the arrays may take.
        options: how examples are read.

    Raises:
        BadInput: other arrays, or more than `memory_budget` bytes.
    """
    arrays, notes = _read(path, memory_budget)
    parts = [part for part in ("train", "test", "val") if f"x_{part}" in arrays]
    kind = "text" if arrays["x_train"].dtype.kind in "US" else "table" if arrays["x_train"].ndim == 2 else "image"
    read = {"text": _texts, "table": _rows, "image": _images}[kind]
    x = {part: read(f"x_{part} in {path}", arrays[f"x_{part}"], options) for part in parts}
    shapes = {part: x[part].shape[1:] for part in parts}
    if len(set(shapes.values())) > 1:
        raise BadInput(
            f"the arrays in {path} must have examples of one shape, got "
            f"{', '.join(f'x_{part} of {shape}' for part, shape in shapes.items())}"
        )
    given = {part: _labels(f"y_{part} in {path}", arrays[f"y_{part}"], len(x[part])) for part in parts}
    labels, to_classes = classes_of(given["train"])
    if len(labels) < 2 or len(labels) > max(2, len(given["train"]) // 2):
        raise BadInput(
            f"y_train in {path} must have two or more classes, and several examples of most of them, got "
            f"{len(labels):,} values in {len(given['train']):,} labels; regression is not supported"
        )
    y = {part: to_classes(given[part]) if given[part].dtype.kind == given["train"].dtype.kind else -1 for part in parts}
    for part in parts:
        if np.any(y[part] < 0):
            strange = given[part][np.broadcast_to(y[part] < 0, given[part].shape)][0]
            raise BadInput(
                f"y_{part} in {path} must have the classes of y_train, {_few(labels)}, got {strange.item()!r}"
            )
    if kind == "image" and not options.value_range and x["train"].max() < _DIM:
        notes.append(_dim(x["train"].max()))
    names = {"train": "train", "test": "test", "val": "validation"}
    return Source(
        name=str(path),
        kind=kind,
        labels=labels,
        splits={
            names[part]: in_memory(x[part].tolist(), y[part]) if kind == "text" else Split(y=y[part], x=x[part])
            for part in parts
        },
        shape=x["train"].shape[1:],
        about={"source": str(path), "versions": {"numpy": np.__version__}, "notes": notes},
        place=os.path.abspath(path),
        own_validation=True,
    )


def _read(path, memory_budget):
    with reading.archive(path, sys.maxsize, _WAY) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    keys = [*KEYS, *(VALIDATION if set(VALIDATION) <= set(sizes) else ())]
    others = [key for key in sizes if key not in keys]
    if any(key not in sizes for key in KEYS):
        raise BadInput(
            f"{path} must hold {', '.join(KEYS)}, got {', '.join(list(sizes)[:20]) or 'nothing'}; save it with "
            "np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
        )
    size = sum(sizes[key] for key in keys)
    if size > memory_budget:
        raise BadInput(
            f"{path} must unpack to at most {memory_budget:,} bytes (memory_budget), got {size:,}; raise "
            "memory_budget, or use folder:DIR, which reads images from disk"
        )
    arrays = reading.read_npz(path, keys, sys.maxsize, _WAY)
    return arrays, [f"skipped the arrays {', '.join(others)}"] if others else []


def _images(what, x, options):
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.ndim != 4 or x.shape[-1] > 4:
        raise BadInput(
            f"{what} must have shape (n, height, width) or (n, height, width, channels) with 1 to 4 channels, "
            f"got {x.shape}; reshape or transpose it"
        )
    _not_empty(what, x)
    return images.as_pixels(what, x, options.limits)


def _rows(what, x, options):
    if x.ndim != 2:
        raise BadInput(f"{what} must have shape (n, features), as x_train, got {x.shape}; reshape it")
    _not_empty(what, x)
    return rows(what, x)


def rows(what: str, x: np.ndarray) -> np.ndarray:
    """Returns numbers `(n, features)` as float32.

    Raises:
        BadInput: values that are no numbers, are missing, or do not fit float32.

    Examples:
        >>> rows("x", np.array([[1, 2]]))
        array([[1., 2.]], dtype=float32)
    """
    if x.dtype.kind not in "biuf":
        raise BadInput(f"{what} must hold numbers, got type {x.dtype}; encode other values as numbers")
    with np.errstate(over="ignore"):
        converted = x.astype(np.float32)
    wrong = np.argwhere(~np.isfinite(converted))
    if len(wrong):
        row, feature = wrong[0]
        raise BadInput(
            f"{what} must hold finite numbers, got {x[row, feature]} in row {row}, feature {feature}, counted from 0, "
            f"and {len(wrong):,} such values in all; fill or remove them"
        )
    return converted


def _texts(what, x, options):
    if x.ndim != 1:
        raise BadInput(f"{what} must have shape (n,) for texts, got {x.shape}; flatten it")
    _not_empty(what, x)
    return x if x.dtype.kind == "S" else np.char.encode(x, "utf-8")


def _not_empty(what, x):
    if 0 in x.shape:
        raise BadInput(f"{what} must hold one example or more, got shape {x.shape}; move examples from x_train into it")


def _dim(high):
    return (
        f"the largest value is {high}: if the values do not range from 0 to 255, state their range, as in "
        f"--value-range 0:{high}"
    )


def _few(labels):
    return ", ".join(labels) if len(labels) <= 10 else f"{', '.join(labels[:9])}, ..., {labels[-1]}"


def _labels(what, y, count):
    """Returns labels `(n,)`, int64 or strings."""
    if y.ndim == 2 and y.shape[1] == 1:  # as Keras' own CIFAR arrays
        y = y[:, 0]
    if y.ndim != 1:
        raise BadInput(f"{what} must have shape (n,), got {y.shape}; of one-hot rows, take the argmax")
    if len(y) != count:
        raise BadInput(f"{what} must have a label for each of the {count} examples, got {len(y)} labels")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    if y.dtype.kind == "U":
        return y
    integers = y.dtype.kind in "iub" or (y.dtype.kind == "f" and bool(np.isfinite(y).all() and (y == np.rint(y)).all()))
    if not integers or (y < 0).any():
        got = f"type {y.dtype}" if y.dtype.kind not in "iuf" else f"{y[(y < 0) | (y != np.rint(y))][0]}"
        raise BadInput(f"{what} must be integers >= 0 or strings, got {got}; regression is not supported")
    return y.astype(np.int64)
