"""Folders of images or texts as a data set, a folder per class, with or without folders of splits."""

import collections
import os
from pathlib import Path

import numpy as np

from zoo.data import images
from zoo.data.options import DataOptions
from zoo.data.source import Source, in_memory
from zoo.data.split import stratified_order
from zoo.errors import BadInput
from zoo.reading import read_text

# Names of images. A file with another name is an image if its header says so.
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
# Images that are not read: they are refused, since a set without them would be another one.
UNREADABLE = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".ico", ".dng", ".cr2", ".nef", ".arw", ".raw")
# Names of folders of splits, in lower case.
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")


def folder(directory: str, options: DataOptions) -> Source:
    """Opens a folder of images or texts.

    Args:
        directory: a folder with `train/CLASS/`, and optionally `test/CLASS/` and `val/CLASS/`; or with a folder
            per class. Files in folders inside a class folder belong to the class. If there is no image,
            `.txt` files are texts.
        options: how images are read.

    Raises:
        BadInput: a folder of another layout, an unreadable image, or images of several sizes without
            `image_size`.
    """
    root = Path(directory).expanduser()
    splits = check_folder(directory)
    labels = tuple(path.name for path in class_folders(splits["train"]))
    listed, skipped = {}, collections.Counter()
    for name, path in splits.items():
        listed[name] = _files(path, labels, skipped)
    kind = "image" if any(pictures for pictures, _ in listed.values()) else "text"
    if kind == "image":
        skipped[".txt files, since there are images"] += sum(len(texts) for _, texts in listed.values())
    chosen = {name: entry[kind == "text"] for name, entry in listed.items()}
    for path, label in ((splits["train"] / label, label) for label in labels):
        if not any(label == other for _, other in chosen["train"]):
            raise BadInput(f"{path} must hold images or .txt files, got none; add some or remove the folder")
    mixed = {name: _mixed(files, labels) for name, files in chosen.items()}
    every = [path for files in chosen.values() for path, _ in files]
    about = {"source": str(root), "versions": {}, "notes": [*_kinds(every), *_skipped(skipped)]}
    fixed = {"name": f"folder:{directory}", "labels": labels, "own_validation": True, "place": os.path.abspath(root)}
    if kind == "text":
        if options.image_size:
            raise BadInput(
                f"image_size must be None for folder:{directory}, which holds texts, got {options.image_size}"
            )
        texts = {name: in_memory([_text(path) for path in paths], y) for name, (paths, y) in mixed.items()}
        return Source(kind="text", splits=texts, about=about, **fixed)
    shape, note = _common_shape(root, [path for paths, _ in mixed.values() for path in paths], options)
    about["notes"] += note
    return Source(
        kind="image",
        splits={name: in_memory(paths, y, os.fspath(root)) for name, (paths, y) in mixed.items()},
        shape=shape,
        about=about,
        paths=True,
        **fixed,
    )


def check_folder(directory: str) -> dict[str, Path]:
    """Returns the folder of each split, `train` and perhaps `test` and `validation`. Opens no file.

    Without folders of splits, `train` is the folder itself.

    Raises:
        BadInput: the folder does not exist, has fewer than two class folders, or two folders for one split.
    """
    root = Path(directory).expanduser()
    if not directory or not root.is_dir():
        raise BadInput(
            f"cannot read folder:{directory}: there is no such folder; give a folder with a folder per class"
        )
    splits: dict[str, Path] = {}
    for path in class_folders(root):
        name = SPLITS.get(path.name.lower())
        if name in splits:
            raise BadInput(f"{root} must have one folder for {name}, got {splits[name].name}/ and {path.name}/")
        if name:
            splits[name] = path
    if splits and "train" not in splits:
        raise BadInput(
            f"{root} must have a folder train/ beside {', '.join(f'{path.name}/' for path in splits.values())}, got "
            "none; put the training examples into train/CLASS/"
        )
    splits = splits or {"train": root}
    classes = class_folders(splits["train"])
    if len(classes) < 2:
        raise BadInput(
            f"{splits['train']} must have a folder for each of two or more classes, got {len(classes)}; put the "
            "examples into train/CLASS/ and test/CLASS/, or into CLASS/"
        )
    return dict(sorted(splits.items()))


def class_folders(path: Path) -> list[Path]:
    """Returns the folders in a folder, hidden ones left out, in the order of their names."""
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def files_below(path: Path) -> tuple[list[Path], int]:
    """Returns the regular files in a folder and its folders, in the order of their names, and the number of others.

    Hidden files, hidden folders and what macOS and Windows leave are left out. Links are followed.
    """
    regular, others, seen = [], 0, set()
    for directory, names, files in os.walk(path, followlinks=True):
        place = os.path.realpath(directory)
        names[:] = (
            [] if place in seen else sorted(name for name in names if not name.startswith(".") and name != "__MACOSX")
        )
        for name in [] if place in seen else files:
            file = Path(directory, name)
            if not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                regular += [file] if file.is_file() else []
                others += not file.is_file()
        seen.add(place)
    return sorted(regular), others


def _files(split, labels, skipped):
    """Returns the images and the text files of a split, as lists of `(path, label)`, and counts the others."""
    pictures: list[tuple[Path, str]] = []
    texts: list[tuple[Path, str]] = []
    outside = sum(path.is_file() and not path.name.startswith(".") for path in split.iterdir())
    skipped["files outside the class folders"] += outside
    for directory in class_folders(split):
        if directory.name not in labels:
            raise BadInput(f"class folders in {split} must be among those of train/, got {directory.name!r}")
        paths, others = files_below(directory)
        skipped["names that are no regular files"] += others
        for path in paths:
            suffix = path.suffix.lower()
            if suffix in UNREADABLE:
                raise BadInput(f"{path} must be an image of a kind that can be read, got {suffix}; convert it to PNG")
            if suffix == ".txt":
                texts.append((path, directory.name))
            elif suffix in SUFFIXES or images.is_image(path):
                pictures.append((path, directory.name))
            else:
                skipped[f"{suffix or 'nameless'} files, which are no images"] += 1
    return pictures, texts


def _kinds(paths):
    """Returns a note on the endings of the files that are read, if there are several."""
    counts = collections.Counter(path.suffix.lower() or "nameless" for path in paths)
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"read {', '.join(f'{count:,} {suffix}' for suffix, count in rows)}"] if len(rows) > 1 else []


def _skipped(counts):
    return [f"skipped {count:,} {what}" for what, count in counts.items() if count]


def _mixed(files, labels):
    """Returns paths and classes of a split, the classes mixed, in an order that depends on the names alone."""
    y = np.array([labels.index(label) for _, label in files], np.int32)
    order = stratified_order(y, 0) if len(y) else np.zeros(0, int)
    return [os.fspath(files[i][0]) for i in order], y[order]


def _text(path):
    text = read_text(path, way="save it as UTF-8").removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n").encode()


def _common_shape(root, paths, options):
    """Returns `(height, width, channels)` of all images from their headers, one channel if all are grey; and notes."""
    sizes, grey = {}, True
    for path in paths:
        height, width, is_grey = images.header(path)
        sizes.setdefault((height, width), path)
        grey = grey and is_grey
    if len(sizes) > 1 and not options.image_size:
        (first, first_path), (second, second_path) = list(sizes.items())[:2]
        raise BadInput(
            images.differing(
                f"folder:{root}",
                f"{first_path} of {first[1]} x {first[0]} and {second_path} of {second[1]} x {second[0]}",
            )
        )
    notes = []
    if options.image_size and set(sizes) != {(options.image_size,) * 2}:
        done = {"squash": "squashed", "pad": "padded", "crop": "cropped"}[options.resize]
        few, many = min(sizes), max(sizes)
        from_ = f"of {few[1]} x {few[0]}" if few == many else f"of {len(sizes):,} sizes"
        notes.append(f"images {from_} pixels are {done} to {options.image_size} x {options.image_size}")
    return (*next(iter(sizes)), 1 if grey else 3), notes
