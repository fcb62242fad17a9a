"""Data sets that are arrays to begin with: scikit-learn's digits, and a user's `.npz` file."""

import zipfile
import zlib

import numpy as np

from zoo.errors import BadInput
from zoo.sources import Source, Split

KEYS = ("x_train", "y_train", "x_test", "y_test")


def digits():
    """1,797 handwritten digits, `(8, 8, 1)`, that come with scikit-learn; no test split of their own."""
    import sklearn
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return Source(
        name="digits",
        kind="image",
        labels=tuple(str(name) for name in bunch.target_names),
        splits={"train": Split(y=bunch.target.astype(np.int32), x=x)},
        shape=(8, 8, 1),
        about={"source": "sklearn.datasets.load_digits", "versions": {"scikit-learn": sklearn.__version__}},
        hold_out=5,
    )


def npz(path, memory_budget):
    """The arrays x_train, y_train, x_test and y_test of an `.npz` file.

    Images are `(n, height, width)` or `(n, height, width, channels)`, 0 to 255; labels
    are integers from 0 without gaps.

    Raises `BadInput` for anything else, and for more than `memory_budget` bytes.
    """
    arrays = _read(path, memory_budget)
    x_train, x_test = (_images(f"{key} in {path}", arrays[key]) for key in ("x_train", "x_test"))
    if x_train.shape[1:] != x_test.shape[1:]:
        raise BadInput(
            f"{path}: x_train holds images of {x_train.shape[1:]}, x_test of {x_test.shape[1:]} "
            "(height, width, channels); give both the same shape"
        )
    y_train = _classes(f"y_train in {path}", arrays["y_train"], len(x_train))
    y_test = _classes(f"y_test in {path}", arrays["y_test"], len(x_test))
    present = np.unique(y_train)
    classes = len(present)
    if classes < 2 or present[-1] != classes - 1:
        missing = sorted(set(range(int(present[-1]) + 1)) - set(present.tolist()))
        problem = f"lacks class {missing[0]}" if missing else "holds one class only"
        raise BadInput(f"y_train in {path} {problem}; number two or more classes from 0 without gaps")
    if y_test.max() >= classes:
        raise BadInput(
            f"y_test in {path} has class {y_test.max()}, y_train only 0 to {classes - 1}; every class "
            "of the test part must occur in training"
        )
    return Source(
        name=str(path),
        kind="image",
        labels=tuple(str(label) for label in range(classes)),
        splits={"train": Split(y=y_train, x=x_train), "test": Split(y=y_test, x=x_test)},
        shape=x_train.shape[1:],
        about={"source": str(path), "versions": {"numpy": np.__version__}},
    )


def _read(path, memory_budget):
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        missing = [key for key in KEYS if key not in sizes]
        if missing:
            raise BadInput(
                f"{path} lacks {', '.join(missing)} (it has {', '.join(sizes) or 'nothing'}); save it with "
                "np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"
            )
        size = sum(sizes[key] for key in KEYS)
        if size > memory_budget:
            raise BadInput(
                f"{path} unpacks to {size:,} bytes, over the memory budget of {memory_budget:,}; .npz files "
                "are held in memory: raise the budget, or give the images as `folder:DIR`, which streams"
            )
        # Pickled arrays could run code of whoever wrote the file.
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in KEYS}
    except BadInput:
        raise
    except FileNotFoundError as error:
        raise BadInput(f"there is no file {path}; give the path of an .npz file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = "holds pickled objects" if "allow_pickle" in str(error) else f"cannot be read ({error})"
        raise BadInput(f"{path} {reason}; save plain numeric arrays with np.savez(path, x_train=..., ...)") from error


def _images(what, x):
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.ndim != 4 or 0 in x.shape or x.shape[-1] > 4:
        raise BadInput(
            f"{what} has shape {x.shape}; images are (n, height, width) or (n, height, width, channels) with "
            "1 to 4 channels, last: reshape or transpose them"
        )
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind not in "iuf":
        raise BadInput(f"{what} has type {x.dtype}; give images as uint8 from 0 to 255")
    low, high = x.min(), x.max()
    if not (low >= 0 and high <= 255):  # also true of NaN
        raise BadInput(f"{what} goes from {low} to {high}; pixels are 0 to 255, without NaN: rescale them")
    if x.dtype.kind == "f" and high <= 1:
        raise BadInput(f"{what} goes from {low} to {high}; pixels are 0 to 255: multiply by 255")
    return np.round(x).astype(np.uint8)


def _classes(what, y, count):
    if y.ndim == 2 and y.shape[1] == 1:  # as Keras' own CIFAR arrays
        y = y[:, 0]
    if y.ndim != 1:
        raise BadInput(f"{what} has shape {y.shape}; give one class number an image (of one-hot rows, the argmax)")
    if len(y) != count:
        raise BadInput(f"{what} has {len(y)} labels for {count} images; give one label an image")
    if y.dtype.kind not in "iu":
        raise BadInput(f"{what} has type {y.dtype}; labels are integers from 0: convert with astype('int32')")
    if y.min() < 0 or y.max() > len(y) + 2**16:
        wrong = y.min() if y.min() < 0 else y.max()
        raise BadInput(f"{what} holds {wrong}; number the classes from 0 without gaps")
    return y.astype(np.int32)
