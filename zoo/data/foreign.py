"""Examples of one data set in the form of another, so that a model of the latter can be shown foreign data."""

from pathlib import Path

import numpy as np

from zoo.data import dataset as datasets
from zoo.data import images
from zoo.data.options import dataset_name
from zoo.errors import BadInput

_EVERY_WORD = 2**20  # ids of a vocabulary that leaves no word out


def load_foreign(
    name: str | Path, like: datasets.Dataset, data_dir: str | Path | None = None, download: bool = False
) -> np.ndarray:
    """Returns test examples of the data set `name` in the form of the examples of `like`.

    Images are resized and become grey or coloured as image files do (`zoo.data.read_image`). Texts get the token
    ids of the vocabulary of `like`; tables must have as many features.

    Args:
        name: the foreign data set, see `zoo.data.load`.
        like: the data set that the model was trained on.
        data_dir: folder of prepared data sets.
        download: whether the foreign set may be downloaded.

    Returns:
        At most as many examples as the test part of `like` has, uint8 images, int32 token ids or float32 rows.

    Raises:
        BadInput: the set is not ready, or holds another kind of examples.

    Examples:
        >>> digits = datasets.load("digits")
        >>> load_foreign("digits", digits).shape
        (360, 8, 8, 1)
    """
    name = dataset_name("ood", name)
    if like.kind == "image":
        return _images(name, like, data_dir, download)
    options = {"vocabulary": _EVERY_WORD, "length": like.input_shape[0]} if like.kind == "text" else {}
    other = datasets.load(name, data_dir=data_dir, download=download, **options)
    if other.kind != like.kind:
        raise _other_kind(name, other.kind, like)
    if like.kind == "text":
        ids = {token: i for i, token in enumerate(like.vocabulary or ())}
        renamed = np.array([ids.get(token, 1) for token in other.vocabulary or ()], np.int32)
        return renamed[_examples(other, len(like.test))]
    if other.input_shape != like.input_shape:
        raise BadInput(
            f"ood must name a table of {like.input_shape[0]} features for this model, got {name} with "
            f"{other.input_shape[0]}; choose another"
        )
    return _examples(other, len(like.test))


def _images(name, like, data_dir, download):
    height, width, _ = like.input_shape
    how = like.about.get("resize") or "squash"
    kind = datasets.reader_of(name)
    size = max(height, width) if kind in ("tfds", "folder") else None  # arrays have one size already
    try:
        other = datasets.load(name, data_dir=data_dir, download=download, image_size=size, resize=how)
    except BadInput as error:
        if size and "image_size must be None" in str(error):
            raise _other_kind(name, "text", like) from error
        raise
    if other.kind != like.kind:
        raise _other_kind(name, other.kind, like)
    return images.fitted(_examples(other, len(like.test)), like.input_shape, how)


def _other_kind(name, kind, like):
    allowed, got = datasets.HOLDS[like.kind], datasets.HOLDS[kind]
    return BadInput(f"ood must name a data set of {allowed} for this model, got {name} with {got}; choose another")


def _examples(other, count):
    """Returns `count` test examples, in the order of the data set; all if there are fewer."""
    test = other.test
    return (test.head(len(test)) if len(test) <= count else test.sample(count)).x
