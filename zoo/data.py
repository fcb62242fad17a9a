"""Data sets cut into training, validation and test parts.

    from zoo import data
    digits = data.load("digits")
    digits.train.x.shape     # (1077, 8, 8, 1), uint8
    digits.train.y           # int32 classes

Names: `digits` (comes with scikit-learn), any image or text classification set of TFDS,
`folder:DIR` (images in folders) and `FILE.npz` (arrays). Nothing is fetched unless asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo import prepared
from zoo.errors import BadInput
from zoo.parts import Part, StreamedPart, build
from zoo.prepared import BUILT_IN
from zoo.split import cut

__all__ = [
    "BUILT_IN",
    "Dataset",
    "Part",
    "StreamedPart",
    "available",
    "check_name",
    "check_ready",
    "describe",
    "load",
]

PARTS = ("train", "val", "test")

# Sets in which a mirrored image is one of the same class: photographs and clothes, not letters or digits.
FLIP = {
    "beans",
    "cats_vs_dogs",
    "cifar10",
    "cifar100",
    "cifar10_1",
    "fashion_mnist",
    "food101",
    "imagenet2012",
}
FLIP |= {
    "imagenet_resized",
    "imagenette",
    "imagewang",
    "oxford_flowers102",
    "oxford_iiit_pet",
    "patch_camelyon",
}
FLIP |= {"horses_or_humans", "plant_village", "resisc45", "stanford_dogs", "stl10", "tf_flowers", "uc_merced"}


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set and its three parts, each a `Part` or, if it does not fit in memory, a `StreamedPart`."""

    name: str
    kind: str  # "image" or "text"
    input_shape: tuple  # (height, width, channels), or (length,)
    classes: int
    labels: tuple  # names of the classes
    train: Part | StreamedPart
    val: Part | StreamedPart
    test: Part | StreamedPart
    vocabulary: tuple | None  # of a text set: token by id; 0 is padding "", 1 is "[UNK]"
    flip: bool  # whether a mirrored image keeps its class
    about: Mapping  # where it comes from and how it was cut; fit for JSON


def load(
    name,
    *,
    data_dir=None,
    download=False,
    train_size=None,
    split_seed=0,
    image_size=None,
    vocabulary=8000,
    length=64,
    memory_budget=2 * 2**30,
):
    """Load a data set and cut it into its parts.

        load("digits", train_size=100).train.x.shape     # (100, 8, 8, 1)

    `split_seed` decides which examples are validation and which make up a training part
    of `train_size`, classes in their proportions; of one seed, a smaller training part
    lies within a larger one. `image_size` resizes images to N x N pixels. Of texts, the
    `vocabulary` most frequent tokens of the training part are kept and `length` tokens
    of each. Parts of more than `memory_budget` bytes in all, decoded, stay on disk.

    Raises `BadInput` (a ValueError) for an unknown or unprepared set, one that is no
    image or text classification, damaged files, and options out of range; `RunFailed`
    if a download fails.
    """
    _check_options(
        train_size=(train_size, 1),
        split_seed=(split_seed, 0),
        image_size=(image_size, 1),
        vocabulary=(vocabulary, 3),
        length=(length, 1),
        memory_budget=(memory_budget, 1),
    )
    check_ready(name, data_dir=data_dir, download=download)
    source = _open(name, data_dir, download, image_size, memory_budget)
    if image_size and source.kind != "image":
        raise BadInput(f"{name} is text, which image_size {image_size} cannot resize; leave it out")
    y = {key: split.y for key, split in source.splits.items()}
    places, test_part = cut(
        name, y, len(source.labels), split_seed=split_seed, train_size=train_size, hold_out=source.hold_out
    )
    parts, input_shape, tokens = build(source, places, image_size, vocabulary, length, memory_budget)
    about = {"version": None, **source.about, "test_part": test_part, "split_seed": split_seed}
    about |= {"train_size": len(parts["train"]), "image_size": image_size}
    return Dataset(
        name=name,
        kind=source.kind,
        input_shape=tuple(int(n) for n in input_shape),
        classes=len(source.labels),
        labels=source.labels,
        vocabulary=tokens,
        flip=source.kind == "image" and name.split("/")[0].split(":")[0] in FLIP,
        about=about,
        **parts,
    )


def check_name(name):
    """Refuse, at once and without TensorFlow, a name or path that cannot be a data set.

    Raises `BadInput` for an ill-formed name, a missing file, or a folder laid out
    otherwise than `train/CLASS/`. Whether a TFDS set is there is for `check_ready`.
    """
    if not isinstance(name, str) or not name:
        raise BadInput(f"a data set is named by a string, not {name!r}; try `digits`")
    if name.startswith("folder:"):
        from zoo.folders import check_folder

        check_folder(name.removeprefix("folder:"))
    elif name.endswith(".npz"):
        if not Path(name).expanduser().is_file():
            raise BadInput(f"there is no file {name}; give the path of an .npz file")
    elif Path(name).expanduser().is_dir() and "/" in name:
        raise BadInput(f"{name!r} is a folder; write `folder:{name}` for a folder of images")
    else:
        prepared.parse(name)


def check_ready(name, *, data_dir=None, download=False):
    """Refuse, without TensorFlow and within seconds, what `load` would refuse for want of the data.

    Raises `BadInput` like `check_name`, and if a TFDS set is unknown, or is neither
    prepared under `data_dir` nor to be fetched (`download`).
    """
    check_name(name)
    if name not in BUILT_IN and not name.startswith("folder:") and not name.endswith(".npz"):
        prepared.require(name, data_dir, download)


def available(data_dir=None):
    """The sets at hand, then some more that TFDS could fetch: rows of `(name, kind, prepared, where)`."""
    return prepared.listing(data_dir)


def describe(dataset):
    """What there is to know about a data set, as a dictionary fit for JSON."""
    parts = {key: getattr(dataset, key) for key in PARTS}
    example = int(np.prod(dataset.input_shape)) * (1 if dataset.kind == "image" else 4)
    sizes = {key: len(part) for key, part in parts.items()}
    return {
        "name": dataset.name,
        "kind": dataset.kind,
        "input_shape": list(dataset.input_shape),
        "classes": dataset.classes,
        "labels": list(dataset.labels),
        "sizes": sizes,
        "class_counts": {key: np.bincount(part.y, minlength=dataset.classes).tolist() for key, part in parts.items()},
        "bytes": sum(sizes.values()) * example,
        "streamed": isinstance(dataset.train, StreamedPart),
        "vocabulary": len(dataset.vocabulary) if dataset.vocabulary else None,
        "flip": dataset.flip,
        **dataset.about,
    }


def _check_options(**options):
    for key, (value, low) in options.items():
        if value is None and key in ("train_size", "image_size"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
            raise BadInput(f"{key} is {value!r}; give a whole number from {low} up")


def _open(name, data_dir, download, image_size, memory_budget):
    from zoo import arrays, folders, sources

    if name == "digits":
        return arrays.digits()
    if name.endswith(".npz") and not name.startswith("folder:"):
        return arrays.npz(Path(name).expanduser(), memory_budget)

    from zoo.startup import tensorflow

    tensorflow()
    if name.startswith("folder:"):
        return folders.folder(name.removeprefix("folder:"), image_size)
    return sources.tfds_set(name, data_dir, download)
