"""A data set before it is split into parts: `Source`, and its `Split`s, which return encoded examples by index."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import BadInput

if TYPE_CHECKING:
    import tensorflow as tf

# Records that are read in one step.
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a set: its classes, and either its images or a function that reads examples.

    Attributes:
        y: int32 classes `(n,)`; -1 if the class is hidden.
        x: uint8 images `(n, height, width, channels)`, float32 rows `(n, features)`, or None.
        chunks: a function from ascending indices to a `tf.data.Dataset` of batches `(raw, y)`, or None.
            `raw` is strings `(batch,)`: encoded images, paths or texts.
        raw_bytes: mean size of an encoded example.
        stamp: a function that returns a hash of what decides the encoded examples, or None if `x` holds the
            examples. It changes with the sizes and times of files, or with the content of what is in memory.
    """

    y: np.ndarray
    x: np.ndarray | None = None
    chunks: Callable | None = None
    raw_bytes: int = 0
    stamp: Callable[[], str] | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A data set before it is split into parts.

    Attributes:
        name: name of the set.
        kind: `image`, `text` or `table`.
        labels: names of the classes.
        splits: `Split` by name.
        shape: `(height, width, channels)` of images, `(features,)` of rows; None for sizes not known yet.
        about: source and versions, fit for JSON.
        place: absolute path of the file or folder that is read.
        hold_out: 1/`hold_out` of the `train` split is held out as a part.
        paths: whether raw examples are paths of image files.
        own_validation: whether the split `validation` is the validation part if there is also a test part.
    """

    name: str
    kind: str
    labels: tuple
    splits: dict
    shape: tuple = ()
    about: dict = field(default_factory=dict)
    place: str = ""
    hold_out: int = 10
    paths: bool = False
    own_validation: bool = False


def in_memory(raw: Sequence[str | bytes], y: np.ndarray, root: str | None = None) -> Split:
    """Returns a split of raw examples that are in memory: texts, or paths of files in the folder `root`."""
    array = np.empty(len(raw), object)  # a string array would give every example the size of the longest
    array[:] = [os.fsencode(item) if isinstance(item, str) else item for item in raw]

    def chunks(indices):
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((array[indices], y[indices])).batch(CHUNK)

    def stamp():
        if root is not None:
            return stamp_of([os.fsdecode(path) for path in array], root)
        digest = hashlib.sha256()
        for item in array:
            digest.update(len(item).to_bytes(8, "little") + item)
        return digest.hexdigest()

    return Split(y=y, chunks=chunks, raw_bytes=sum(map(len, array)) // max(1, len(array)), stamp=stamp)


def stamp_of(paths: Sequence[str], root: str) -> str:
    """Returns a hash of the names of files in the folder `root`, their sizes, and the times of their last changes."""
    digest = hashlib.sha256()
    for path in paths:
        status = os.stat(path)
        about = (
            f"{path.removeprefix(root).lstrip(os.sep)}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\0"
        )
        digest.update(about.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def classes_of(given: np.ndarray) -> tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray]]:
    """Returns the names of the classes among labels, in order, and a function from labels to int32 classes.

    Numbers are ordered by value, texts by their characters. The function returns -1 for other labels.

    Examples:
        >>> names, to_classes = classes_of(np.array([3, 1, 3]))
        >>> names, to_classes(np.array([1, 3, 2])).tolist()
        (('1', '3'), [0, 1, -1])
    """
    present = np.unique(given)

    def to_classes(labels):
        places = np.minimum(np.searchsorted(present, labels), len(present) - 1)
        return np.where(present[places] == labels, places, -1).astype(np.int32)

    return tuple(str(label) for label in present.tolist()), to_classes


def damaged(name: str, error: "tf.errors.OpError") -> BadInput:
    """Returns the error for a set whose files TensorFlow, or a decoder that it calls, cannot read."""
    message = error.message or type(error).__name__
    own = re.search(r"BadInput: (.*)", message)
    if own:  # raised by the project's own code inside a pipeline
        return BadInput(own[1])
    reason = re.sub(r"\{\{.*?\}\}\s*", "", message).splitlines()[0]
    return BadInput(f"cannot read {name}: its files are damaged ({reason[:300]}); copy or prepare them again")
