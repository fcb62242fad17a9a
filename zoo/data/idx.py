"""Imports the four IDX files of an MNIST-like set as a TFDS set, without a network.

An IDX file is a big-endian header (two zero bytes, the type 8 for uint8, the number of dimensions, then
each dimension as 32 bits) and the bytes of the array.
"""

import contextlib
import gzip
import io
import math
import os
import re
import shutil
import tempfile
from pathlib import Path

import numpy as np

from zoo import reading
from zoo.data import prepared
from zoo.errors import BadInput, CannotWrite

# train-images-idx3-ubyte, t10k-labels.idx1-ubyte.gz, emnist-letters-test-images-idx3-ubyte ...
_FILE = re.compile(r".*?(?P<split>train|t10k|test)[-_.](?P<what>images|labels)[-_.]idx[13][-_.]ubyte(\.gz)?")
_BLOCK = 2**20
_PACKED = 1100  # how many times larger a file may be than its packed form; DEFLATE reaches 1032
_WAY = "copy or download it again"


def import_idx(name: str, folder: str | Path, data_dir: str | Path | None = None) -> Path:
    """Writes the IDX files in a folder as a TFDS set.

        import_idx("fashion_mnist", "/usr/share/datasets/fashion-mnist", "data")
        zoo.data.load("fashion_mnist", data_dir="data")

    The set is written completely or not at all.

    Args:
        name: name of the set. A name that TFDS knows gets TFDS' version, class names and order of
            examples, any other name the version 1.0.0.
        folder: folder with the four files, compressed (`.gz`) or not.
        data_dir: folder of prepared sets, see `zoo.data.prepared.root`.

    Returns:
        The folder that was written.

    Raises:
        BadInput: `name` is taken or not a plain name, or a file is missing, damaged or does not match
            the others.
        CannotWrite: the disk is full or cannot be written.
    """
    base, config, version = prepared.parse(name)
    if config or version or name == "digits":
        raise BadInput(f"name must be a plain name such as fashion_mnist or my_letters, got {name!r}")
    where = prepared.root(data_dir)
    present = prepared.find(base, data_dir)
    if present:
        raise BadInput(f"name must be new, got {name!r}, which is already in {present}; remove that folder, or rename")
    sets = {split: _checked(*files) for split, files in _find_files(folder).items()}
    classes = _count_classes(sets, folder)
    shape = sets["train"][1][1:]
    if sets["test"][1][1:] != shape:
        raise BadInput(
            f"training and test images in {folder} must have one size, got {shape} and {sets['test'][1][1:]} pixels"
        )

    from zoo.startup import tensorflow

    tensorflow()
    version, features = _features(name, shape, classes)
    return _write(name, version, features, sets, where)


def _find_files(folder):
    """Returns the files of images and labels of each split: `{"train": (path, path), "test": ...}`."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise BadInput(f"folder must be the folder of the four IDX files, got {folder}, which is no folder")
    files = {}
    for path in sorted(folder.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match:
            split = "train" if match["split"] == "train" else "test"
            files.setdefault((split, match["what"]), []).append(path)
    for split, stem in (("train", "train"), ("test", "t10k")):
        for what, rank in (("images", 3), ("labels", 1)):
            # A file with and without .gz counts once.
            names = {path.name.removesuffix(".gz"): path for path in reversed(files.get((split, what), []))}
            if len(names) != 1:
                listed = f"several: {', '.join(sorted(names))}" if names else "none"
                raise BadInput(
                    f"{folder} must hold one file of {split} {what}, {stem}-{what}-idx{rank}-ubyte[.gz], "
                    f"got {listed}; put the four files of one set into a folder of their own"
                )
            files[split, what] = next(iter(names.values()))
    return {split: (files[split, "images"], files[split, "labels"]) for split in ("train", "test")}


def _checked(images, labels):
    """Returns `(path of the images, their shape, labels)`, having read both files to their end."""
    shape = _check_file(images, 3)
    (count,) = _check_file(labels, 1)
    if count != shape[0]:
        raise BadInput(
            f"{labels} must have a label for each of the {shape[0]} images of {images}, got {count}; "
            "use files of one set"
        )
    with _open(labels) as file:
        file.read(8)
        return images, shape, np.frombuffer(file.read(count), np.uint8)


@contextlib.contextmanager
def _open(path):
    with reading.regular(path, _WAY) as file, reading.refusing(path, _WAY):
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        else:
            yield file


def _check_file(path, rank):
    """Returns the shape in the header of an IDX file, having checked that the file is as long as that."""
    expected = "images (magic number 2051)" if rank == 3 else "labels (magic number 2049)"
    with _open(path) as file:
        header = file.read(4 + 4 * rank)
        magic = int.from_bytes(header[:4], "big")
        if magic != 0x800 + rank:
            raise BadInput(f"{path} must be an IDX file of {expected}, got magic number {magic}")
        shape = tuple(int(n) for n in np.frombuffer(header[4:].ljust(4 * rank, b"\0"), ">u4"))
        size, most = math.prod(shape), path.stat().st_size * _PACKED
        if not size:
            raise BadInput(f"{path} must hold examples, got the empty shape {shape}")
        length = 0
        while length <= size <= most and (block := len(file.read(_BLOCK))):
            length += block
    if length != size:
        fault, more = ("too long", " or more") if length > size else ("truncated", "")
        reading.refuse(path, f"it is {fault}, its header states {shape}, {size} bytes, but {length}{more} follow", _WAY)
    return shape


def _count_classes(sets, folder):
    present = np.unique(sets["train"][2])
    classes = int(present[-1]) + 1
    if len(present) != classes or classes < 2:
        raise BadInput(
            f"training labels in {folder} must be two or more classes from 0 without gaps, got {_listed(present)}; "
            "renumber them"
        )
    unknown = np.setdiff1d(sets["test"][2], present)
    if len(unknown):
        raise BadInput(
            f"test labels in {folder} must be from 0 to {classes - 1}, as the training labels, got class "
            f"{unknown[0]}; use files of one set"
        )
    return classes


def _listed(values):
    text = ", ".join(str(value) for value in values[:12])
    return text + (", ..." if len(values) > 12 else "")


def _features(name, shape, classes):
    """Returns the version and the features: those of TFDS for a name that it knows, if the files match them."""
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(*shape, 1))
    fallback = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=classes)})
    if name not in tfds.list_builders(with_community_datasets=False):
        return "1.0.0", fallback
    # In an empty folder, so that the builder describes the set and finds no data.
    with tempfile.TemporaryDirectory() as empty:
        try:
            builder = tfds.builder(name, data_dir=empty)
            known = builder.info.features
            agrees = (
                set(known) == {"image", "label"}
                and known["image"].shape == image.shape
                and known["label"].num_classes == classes
                and not builder.builder_config
            )
        except Exception:  # the code of some sets needs packages that are not installed
            agrees = False
    if not agrees:
        raise BadInput(
            f"name must not be that of another TFDS set, got {name!r}; the files hold {classes} classes of "
            f"{shape[0]} x {shape[1]} grey images: choose another name for them"
        )
    return str(builder.version), known


def _examples(path, shape, labels):
    """Yields keys and examples. The keys are those of TFDS, so that it puts the examples in the same order."""
    with _open(path) as file:
        file.read(16)
        for index, label in enumerate(labels):
            image = np.frombuffer(file.read(shape[1] * shape[2]), np.uint8)
            yield index, {"image": image.reshape(*shape[1:], 1), "label": int(label)}


def _write(name, version, features, sets, where):
    import tensorflow_datasets as tfds

    target = where / name / version
    try:
        where.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".import-", dir=where))
    except OSError as error:
        raise BadInput(f"cannot write to {where}: {error.strerror}; choose another --data-dir") from error
    try:
        with _quiet():
            builder = tfds.dataset_builders.store_as_tfds_dataset(
                name=name,
                version=version,
                features=features,
                split_datasets={split: _examples(*parts) for split, parts in sets.items()},
                description=f"Imported from the IDX files {sets['train'][0].name} and others.",
                data_dir=temporary,
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
        target.parent.mkdir(exist_ok=True)
        os.rename(builder.data_dir, target)
    except OSError as error:
        raise CannotWrite(f"cannot write {target}: {error}; free disk space or choose another --data-dir") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


@contextlib.contextmanager
def _quiet():
    """Silences TFDS' progress bars and its output."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
