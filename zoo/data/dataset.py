"""Data sets and their three parts: `load`, `describe`, and checks of a name.

from zoo import data
digits = data.load("digits")
digits.train.x.shape     # (1077, 8, 8, 1), uint8
digits.train.y           # int32 classes
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo import checks
from zoo.checks import integer
from zoo.data import prepared, tables
from zoo.data.options import DataOptions, dataset_name
from zoo.data.parts import Part, StreamedPart, build
from zoo.data.prepared import BUILT_IN
from zoo.data.split import cut
from zoo.errors import BadInput

PARTS = ("train", "val", "test")
HOLDS = {"image": "images", "text": "texts", "table": "rows of numbers"}

# Sets in which a mirrored image is one of the same class: photographs and clothes, not letters or digits.
_PHOTOGRAPHS = """
beans cats_vs_dogs cifar10 cifar100 cifar10_1 fashion_mnist food101 horses_or_humans imagenet2012 imagenet_resized
imagenette imagewang oxford_flowers102 oxford_iiit_pet patch_camelyon plant_village resisc45 stanford_dogs stl10
tf_flowers uc_merced
"""
FLIP = frozenset(_PHOTOGRAPHS.split())


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set and its three parts.

    Attributes:
        name: the name that `load` was given, as text.
        kind: `image`, `text` or `table`.
        input_shape: shape of an example, `(height, width, channels)`, `(length,)` or `(features,)`.
        classes: number of classes.
        labels: name of each class.
        train: the training part, a `Part`; a `StreamedPart` if the data fit neither into memory nor into the cache.
        val: the validation part.
        test: the test part.
        vocabulary: of texts, the token of each id; id 0 is padding `""`, id 1 is `"[UNK]"`. Otherwise None.
        flip: whether a mirrored image keeps its class.
        about: source, version and how the set was split, fit for JSON.
    """

    name: str
    kind: str
    input_shape: tuple[int, ...]
    classes: int
    labels: tuple[str, ...]
    train: Part | Any  # Any is StreamedPart: `dataset.train.x` needs no cast
    val: Part | Any
    test: Part | Any
    vocabulary: tuple[str, ...] | None
    flip: bool
    about: Mapping[str, Any]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(getattr(self, key)):,} {key}" for key in PARTS)
        return f"Dataset({self.name!r}: {sizes}; {HOLDS[self.kind]} {self.input_shape}, {self.classes:,} classes)"


def load(
    name: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    train_size: int | None = None,
    split_seed: int = 0,
    image_size: int | None = None,
    resize: str = "squash",
    value_range: str | tuple[float, float] | None = None,
    vocabulary: int = 8000,
    length: int = 64,
    text_column: str | None = None,
    label_column: str | None = None,
    memory_budget: int = 2 * 2**30,
) -> Dataset:
    """Loads a data set and splits it into training, validation and test parts.

    The test part is the set's `test` split. If that is missing or has no labels, it is the
    `validation` split, or else a tenth of `train`. The validation part is a tenth of `train`
    (`digits`: a fifth each), with classes in their proportions; of files and folders with both a
    test and a validation split, it is the latter.

    Args:
        name: a `pathlib.Path` of one of these files, or of `DIR`, or one of

            - `digits`: 1,797 handwritten digits of 8x8 pixels, built in
            - a TFDS name, such as `fashion_mnist` or `glue/sst2`: any set of labelled images or texts
            - `folder:DIR`: images, or texts in `.txt` files, in `DIR/CLASS/`, or in `DIR/train/CLASS/`,
              `DIR/test/CLASS/` and `DIR/val/CLASS/`, of which the last two may be missing
            - `FILE.npz`: arrays `x_train`, `y_train`, `x_test` and `y_test`, and perhaps `x_val` and
              `y_val`; images are `(n, height, width)` or `(n, height, width, channels)`, 0 to 255,
              texts are strings `(n,)`, rows of a table are numbers `(n, features)`
            - `FILE.csv`, `FILE.tsv` or `FILE.jsonl`: a text and a label per row, or numbers and a label;
              a column `split` decides the parts
        data_dir: folder of prepared TFDS sets; the variable `TFDS_DATA_DIR`, or TFDS' own folder, if None.
        download: whether TFDS may download a set that is not prepared.
        train_size: number of training examples, with classes in their proportions; all if None. For one
            `split_seed`, smaller training parts are subsets of larger ones.
        split_seed: decides which examples are held out, and which are kept by `train_size`.
        image_size: resizes images to `image_size` x `image_size` pixels; their own size if None.
        resize: how images of another shape are resized: `squash`, `pad` or `crop`, see `read_image`.
        value_range: `(LOW, HIGH)` or `"LOW:HIGH"`, the values that become 0 and 255; 0 and 255 if None.
        vocabulary: for texts, number of token ids. The most frequent tokens of the training part are kept.
        length: for texts, number of tokens that are read.
        text_column: column of the texts; needed unless it has a customary name, such as `text`.
        label_column: column of the classes; needed unless it has a customary name, such as `label`.
        memory_budget: bytes. If the decoded parts need more, they are decoded once into the cache (the folder
            DROPOUT_ZOO_CACHE) and mapped into memory from there. What cannot be cached becomes a `StreamedPart`,
            which is decoded anew in each epoch. Arrays and tables must fit.

    Returns:
        A `Dataset`. Its parts hold `x`, uint8 images `(n, height, width, channels)`, int32 token ids
        `(n, length)` or float32 rows `(n, features)`, and `y`, int32 classes `(n,)`.

    Raises:
        BadInput: an unknown or unprepared set, one without labelled examples, damaged files, or an
            option out of range. `BadInput` is a `ValueError`.
        RunFailed: a download fails.

    Examples:
        >>> load("digits", train_size=100)
        Dataset('digits': 100 train, 360 val, 360 test; images (8, 8, 1), 10 classes)
    """
    options = DataOptions(
        train_size=train_size,
        split_seed=split_seed,
        image_size=image_size,
        resize=resize,
        value_range=value_range,  # type: ignore[arg-type]  # becomes a text
        vocabulary=vocabulary,
        length=length,
        text_column=text_column,
        label_column=label_column,
    )
    integer("memory_budget", memory_budget)
    name = dataset_name("dataset", name)
    check_ready(name, data_dir=data_dir, download=download)
    source = _open(name, data_dir, download, options, memory_budget)
    for option in ("image_size", "value_range"):
        if getattr(options, option) and source.kind != "image":
            raise BadInput(
                f"{option} must be None for {name}, which holds {HOLDS[source.kind]}, got {getattr(options, option)}"
            )
    for option in ("text_column", "label_column"):
        if getattr(options, option) and reader_of(name) != "table":
            raise BadInput(f"{option} must be None for {name}, which has no columns, got {getattr(options, option)!r}")
    y = {key: split.y for key, split in source.splits.items()}
    indices, test_part = cut(
        name,
        y,
        len(source.labels),
        split_seed=split_seed,
        train_size=train_size,
        hold_out=source.hold_out,
        own_validation=source.own_validation,
    )
    parts, input_shape, tokens = build(source, indices, options, memory_budget)
    about = {"version": None, **source.about, "test_part": test_part, "split_seed": split_seed}
    about |= {"train_size": len(parts["train"]), "image_size": image_size}
    if source.kind == "image":
        about |= {"resize": resize, "value_range": options.value_range}
    return Dataset(
        name=name,
        kind=source.kind,
        input_shape=tuple(int(n) for n in input_shape),
        classes=len(source.labels),
        labels=source.labels,
        vocabulary=tokens,
        flip=source.kind == "image" and reader_of(name) == "tfds" and re.split("[/:]", name)[0] in FLIP,
        about=about,
        **parts,
    )


def reader_of(name: str) -> str:
    """Returns what reads a data set of this name: `digits`, `folder`, `npz`, `table` or `tfds`."""
    if name in BUILT_IN:
        return name
    if name.startswith("folder:"):
        return "folder"
    suffix = Path(name).suffix.lower()
    return "npz" if suffix == ".npz" else "table" if suffix in tables.SUFFIXES else "tfds"


def summary(data: Mapping[str, Any]) -> list[str]:
    """Returns lines that say what a data set holds, and what was skipped or changed and why.

    Args:
        data: the entry `data` of a `config.json`, or the result of `describe` with its name as `dataset`.

    Examples:
        >>> summary({"dataset": "digits", "sizes": {"train": 1077, "val": 360, "test": 360}, "classes": 10})
        ['digits: 1,077 training, 360 validation and 360 test examples of 10 classes']
    """
    train, val, test = (data["sizes"][key] for key in PARTS)
    line = (
        f"{data['dataset']}: {train:,} training, {val:,} validation and {test:,} test examples of {data['classes']:,} "
    )
    about = data.get("about") or data
    return [line + "classes", *(f"note: {note}" for note in about.get("notes") or ())]


def check_name(name: str | Path) -> None:
    """Checks the form of a name, and that a file or folder exists. Imports no TensorFlow.

    `check_ready` also checks that a TFDS set is prepared.

    Raises:
        BadInput: a name of another form, a missing file, or a folder without `train/CLASS/`.
    """
    name = dataset_name("dataset", name)
    checks.path("dataset", name.removeprefix("folder:") or ".")
    kind = reader_of(name)
    if kind == "folder":
        from zoo.data.folders import check_folder

        check_folder(name.removeprefix("folder:"))
    elif kind in ("npz", "table"):
        if not Path(name).expanduser().is_file():
            raise BadInput(f"cannot read {name}: no such file; give the path of a file")
    elif Path(name).expanduser().is_dir() and "/" in name:
        raise BadInput(f"dataset must be folder:DIR for a folder of images or texts, got {name!r}; write folder:{name}")
    else:
        prepared.parse(name)


def check_ready(name: str | Path, *, data_dir: str | Path | None = None, download: bool = False) -> None:
    """Checks, within seconds and without TensorFlow, that a data set can be loaded.

    Args:
        name: as for `load`.
        data_dir: as for `load`.
        download: as for `load`.

    Raises:
        BadInput: as `check_name`; or a TFDS set is unknown, or is not prepared and may not be downloaded.
    """
    name = dataset_name("dataset", name)
    check_name(name)
    if data_dir is not None:
        checks.path("data_dir", data_dir)
    if reader_of(name) == "tfds":
        prepared.require(name, data_dir, download)


def describe(dataset: Dataset) -> dict[str, Any]:
    """Returns sizes, classes, shapes and source of a data set, fit for JSON."""
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
        "mapped": getattr(dataset.train, "mapped", False),
        "streamed": isinstance(dataset.train, StreamedPart),
        "vocabulary": len(dataset.vocabulary) if dataset.vocabulary else None,
        "flip": dataset.flip,
        **dataset.about,
    }


def _open(name, data_dir, download, options, memory_budget):
    from zoo.data import arrays, folders, tfds

    kind = reader_of(name)
    if kind == "digits":
        if options.value_range:
            raise BadInput(f"value_range must be None for digits, got {options.value_range}")
        return arrays.digits()
    if kind == "npz":
        return arrays.npz(Path(name).expanduser(), memory_budget, options)
    if kind == "table":
        return tables.table(Path(name).expanduser(), options)
    if kind == "folder":
        return folders.folder(name.removeprefix("folder:"), options)

    from zoo.startup import tensorflow

    tensorflow()
    return tfds.tfds_set(name, data_dir, download)
