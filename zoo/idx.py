"""The four IDX files of an MNIST-like set, turned into a set that TFDS reads: the way in without a network.

An IDX file is a big-endian header (two zero bytes, the type 8 for uint8, the number of
dimensions, then each dimension as 32 bits) and the bytes of the array.
"""

import contextlib
import gzip
import io
import math
import os
import re
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from zoo import prepared
from zoo.errors import BadInput, RunFailed

# train-images-idx3-ubyte, t10k-labels.idx1-ubyte.gz, emnist-letters-test-images-idx3-ubyte ...
_FILE = re.compile(r".*?(?P<split>train|t10k|test)[-_.](?P<what>images|labels)[-_.]idx[13][-_.]ubyte(\.gz)?")
_BLOCK = 2**20


def import_idx(name, folder, data_dir=None):
    """Write the IDX files in `folder` (`.gz` or not) as the TFDS set `name` under `data_dir`.

        import_idx("fashion_mnist", "/usr/share/datasets/fashion-mnist", "data")
        zoo.data.load("fashion_mnist", data_dir="data")

    A name that TFDS knows gets TFDS' version, class names and order of examples, any
    other name the version 1.0.0. Returns the folder written; the set appears whole or not at all.

    Raises `BadInput` if `name` is taken or ill-formed, or if a file is missing, damaged
    or at odds with the others; `RunFailed` if the disk does not take the result.
    """
    base, config, version = prepared.parse(name)
    if config or version or name == "digits":
        raise BadInput(f"{name!r} cannot be imported; give a plain name such as fashion_mnist or my_letters")
    where = prepared.root(data_dir)
    present = prepared.find(base, data_dir)
    if present:
        raise BadInput(f"{name} is prepared already, in {present}; choose another name or remove that folder")
    sets = {split: _checked(*files) for split, files in _find_files(folder).items()}
    classes = _count_classes(sets, folder)
    shape = sets["train"][1][1:]
    if sets["test"][1][1:] != shape:
        raise BadInput(f"{folder}: the training images are {shape}, the test images {sets['test'][1][1:]} pixels")

    from zoo.startup import tensorflow

    tensorflow()
    version, features = _features(name, shape, classes)
    return _write(name, version, features, sets, where)


def _find_files(folder):
    """The images and the labels of each split: `{"train": (path, path), "test": ...}`."""
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}; give the folder that holds the four IDX files")
    found = {}
    for path in sorted(folder.iterdir()):
        match = _FILE.fullmatch(path.name)
        if match:
            split = "train" if match["split"] == "train" else "test"
            found.setdefault((split, match["what"]), []).append(path)
    for split, stem in (("train", "train"), ("test", "t10k")):
        for what, rank in (("images", 3), ("labels", 1)):
            # The same file with and without .gz is one file.
            names = {path.name.removesuffix(".gz"): path for path in reversed(found.get((split, what), []))}
            if len(names) != 1:
                listed = f"several: {', '.join(sorted(names))}" if names else "none"
                raise BadInput(
                    f"{folder} must hold one file of {split} {what}: {stem}-{what}-idx{rank}-ubyte[.gz]; "
                    f"it has {listed}; put the four files of one set into a folder of their own"
                )
            found[split, what] = next(iter(names.values()))
    return {split: (found[split, "images"], found[split, "labels"]) for split in ("train", "test")}


def _checked(images, labels):
    """`(path of the images, their shape, labels)`, both files read to their end once."""
    shape = _check_file(images, 3)
    (count,) = _check_file(labels, 1)
    if count != shape[0]:
        raise BadInput(f"{labels} has {count} labels for the {shape[0]} images of {images}; give files of one set")
    with _open(labels) as file:
        file.read(8)
        return images, shape, np.frombuffer(file.read(count), np.uint8)


def _open(path):
    return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")


def _check_file(path, rank):
    """The shape that the header of an IDX file states, if the file is as long as that says."""
    expected = "images (magic number 2051)" if rank == 3 else "labels (magic number 2049)"
    try:
        with _open(path) as file:
            header = file.read(4 + 4 * rank)
            magic = int.from_bytes(header[:4], "big")
            if magic != 0x800 + rank:
                raise BadInput(f"{path} has magic number {magic}; an IDX file of {expected} is needed")
            shape = tuple(int(n) for n in np.frombuffer(header[4:].ljust(4 * rank, b"\0"), ">u4"))
            size = math.prod(shape)
            if not size:
                raise BadInput(f"{path} states the shape {shape}, which is empty; give a file with examples")
            held = sum(iter(lambda: len(file.read(_BLOCK)), 0))
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} cannot be read to its end ({error}); copy or download it again") from error
    if held != size:
        fault = "is truncated" if held < size else "is too long"
        raise BadInput(
            f"{path} {fault}: its header states {shape}, {size} bytes, but {held} follow; copy or download it again"
        )
    return shape


def _count_classes(sets, folder):
    present = np.unique(sets["train"][2])
    classes = int(present[-1]) + 1
    if len(present) != classes or classes < 2:
        raise BadInput(
            f"the training labels in {folder} are {_listed(present)}; they must count from 0 without gaps, "
            "two classes or more: renumber them"
        )
    unknown = np.setdiff1d(sets["test"][2], present)
    if len(unknown):
        raise BadInput(
            f"the test labels in {folder} have class {unknown[0]}, the training labels only 0 to "
            f"{classes - 1}; give files of one set"
        )
    return classes


def _listed(values):
    text = ", ".join(str(value) for value in values[:12])
    return text + (", ..." if len(values) > 12 else "")


def _features(name, shape, classes):
    """The version and the features to write: TFDS' own for a name that it knows, if the files agree."""
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(*shape, 1))
    fallback = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=classes)})
    if name not in tfds.list_builders(with_community_datasets=False):
        return "1.0.0", fallback
    # Made in an empty folder of its own, so that it describes the set and finds no data.
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
        except Exception:  # some sets' own code needs packages that are not here
            agrees = False
    if not agrees:
        raise BadInput(
            f"TFDS' own {name!r} is no set of {classes} classes of {shape[0]} x {shape[1]} grey images; "
            "choose another name for these files"
        )
    return str(builder.version), known


def _examples(path, shape, labels):
    """Keys and examples one by one, numbered as TFDS numbers them, so that it puts them in the same order."""
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
        raise BadInput(f"cannot write to {where} ({error.strerror}); give another --data-dir") from error
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
        raise RunFailed(f"could not write {target} ({error}); make room or choose another --data-dir") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


@contextlib.contextmanager
def _quiet():
    """Without TFDS' progress bars, and without what it prints."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
