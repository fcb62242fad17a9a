"""A user's folder of images as a data set, in the layout of TFDS' `ImageFolder`."""

import os
from pathlib import Path

import numpy as np

from zoo.errors import BadInput
from zoo.sources import CHUNK, Source, Split
from zoo.split import stratified_order

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}


def folder(directory, image_size=None):
    """Images in TFDS' `ImageFolder` layout: `DIR/train/CLASS/*.png|jpg`, and `DIR/test/...` if there is one.

    TFDS' own reader opens every image to tell its class; here the folders' names do.

    Raises `BadInput` for a folder laid out otherwise, an unreadable image, or images
    of differing size without `image_size`.
    """
    root = Path(directory).expanduser()
    check_folder(directory)
    labels = tuple(sorted(path.name for path in _folders(root / "train")))
    files = {split.name: _image_files(split, labels) for split in _folders(root) if split.name in SPLITS}
    shape = _common_shape(root, [path for paths, _ in files.values() for path in paths], image_size)
    return Source(
        name=f"folder:{directory}",
        kind="image",
        labels=labels,
        splits={SPLITS[key]: _folder_split(*files[key]) for key in sorted(files)},
        shape=shape,
        about={"source": str(root), "versions": {}},
        paths=True,
    )


def check_folder(directory):
    """Refuse a folder without `train/CLASS/` sub-folders, by a look at its names alone."""
    train = Path(directory).expanduser() / "train"
    if not directory or not train.is_dir() or len(_folders(train)) < 2:
        found = f"has {len(_folders(train))} class folders in train/" if train.is_dir() else "has no folder train/"
        raise BadInput(
            f"folder:{directory} {found}; needed are DIR/train/CLASS/*.png or .jpg with two or more classes, "
            "and DIR/test/CLASS/... if there is a test part"
        )


def _folders(path):
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _image_files(split, labels):
    """Paths and classes of a split, the classes well mixed, in an order that the names alone decide."""
    paths, y = [], []
    for directory in _folders(split):
        if directory.name not in labels:
            raise BadInput(f"{split} has a class {directory.name!r} that train/ lacks; name its folders alike")
        found = sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES)
        if not found and split.name == "train":
            raise BadInput(f"{directory} holds no .png or .jpg image; add some or remove the folder")
        paths += found
        y += [labels.index(directory.name)] * len(found)
    order = stratified_order(np.array(y, np.int32), 0) if y else []
    return [os.fspath(paths[i]) for i in order], np.array([y[i] for i in order], np.int32)


def _common_shape(root, paths, image_size):
    """`(height, width, channels)` of all images, by their headers; one channel if all are grey."""
    from PIL import Image

    sizes, grey = {}, True
    for path in paths:
        try:
            with Image.open(path) as image:
                sizes.setdefault(image.size, path)
                grey = grey and image.mode in ("1", "L", "LA", "I", "I;16")
        except OSError as error:
            raise BadInput(f"{path} cannot be read as an image; repair or remove it") from error
    if len(sizes) > 1 and not image_size:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise BadInput(
            f"the images of folder:{root} differ in size: {one} is {first[0]} x {first[1]} pixels, {other} "
            f"{second[0]} x {second[1]}; give --image-size N to resize them to N x N"
        )
    width, height = next(iter(sizes))
    return height, width, 1 if grey else 3


def _folder_split(paths, y):
    paths = np.array(paths)

    def chunks(indices):
        import tensorflow as tf

        return tf.data.Dataset.from_tensor_slices((paths[indices], y[indices])).batch(CHUNK)

    # Shuffling holds paths, not images.
    return Split(y=y, chunks=chunks, raw_bytes=200)
