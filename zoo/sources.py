"""Where examples come from, and the sets that TFDS has prepared.

A `Source` says what a set is; a `Split` hands out its examples by index, still encoded.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from zoo import prepared
from zoo.errors import BadInput, RunFailed

# Records handled in one step while a set is read.
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a set: its classes, and either its images or a way to read examples.

    `y` is int32 `(n,)`, -1 where the class is hidden. `chunks(indices)` is a
    `tf.data.Dataset` of `(raw, y)` in batches, `raw` strings `(batch,)` (an encoded
    image, a path or a text) and `y` int32: exactly the examples at the ascending `indices`.
    """

    y: np.ndarray
    x: np.ndarray | None = None
    chunks: Callable | None = None
    raw_bytes: int = 0  # of an encoded example, on average


@dataclass(frozen=True, eq=False)
class Source:
    """A data set before it is cut into parts. `shape` has None where sizes are not known beforehand."""

    name: str
    kind: str
    labels: tuple
    splits: dict
    shape: tuple = ()
    about: dict = field(default_factory=dict)
    hold_out: int = 10
    paths: bool = False  # raw examples are paths of image files


def image_encoder(shape, image_size=None, paths=False):
    """A function from `(raw, y)` to `(x, y)` with `x` uint8 `(batch, height, width, channels)`, for tf.data.

    With `image_size` images are resized, antialiased, to that many pixels a side; without,
    an image of another height and width than `shape` says ends the reading.
    """
    import tensorflow as tf

    height, width, channels = shape

    def decode(raw):
        data = tf.io.read_file(raw) if paths else raw
        image = tf.io.decode_image(data, channels=channels, expand_animations=False)
        if image_size:
            return resize(image, image_size)
        same = tf.debugging.assert_equal(tf.shape(image)[:2], [height, width], "differing sizes")
        with tf.control_dependencies([same] if same is not None else []):  # None when run eagerly
            return tf.ensure_shape(tf.identity(image), shape)

    side = (image_size, image_size) if image_size else (height, width)
    signature = tf.TensorSpec((*side, channels), tf.uint8)

    def encode(raw, y):
        return tf.map_fn(decode, raw, fn_output_signature=signature), y

    return encode


def resize(images, size):
    """uint8 images `(height, width, channels)`, or a batch of them, antialiased to `size` pixels a side."""
    import tensorflow as tf

    resized = tf.image.resize(images, (size, size), antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def tfds_set(name, data_dir=None, download=False):
    """A set of TFDS that is prepared under `data_dir`, or is fetched if `download` says so.

    Raises `BadInput` if it is not prepared, incomplete, or not a classification of
    single images or texts; `RunFailed` if fetching it fails.
    """
    import tensorflow_datasets as tfds

    folder = prepared.require(name, data_dir, download) or _fetch(name, data_dir)
    builder = tfds.builder_from_directory(os.fspath(folder))
    kind, x_key, y_key = _features(name, builder.info)
    features = builder.info.features
    if builder.info.file_format.value != "tfrecord":
        raise BadInput(f"{name} in {folder} is stored as {builder.info.file_format.value}; prepare it as tfrecord")
    splits = {
        key: _tfds_split(name, folder, info, x_key, y_key)
        for key, info in builder.info.splits.items()
        if key in ("train", "test", "validation") and info.num_examples
    }
    return Source(
        name=name,
        kind=kind,
        labels=tuple(features[y_key].names),
        splits=splits,
        shape=(*features[x_key].shape[:2], features[x_key].shape[2] or 3) if kind == "image" else (),
        about={
            "source": f"tensorflow_datasets {builder.info.full_name}",
            "version": str(builder.version),
            "versions": {"tensorflow_datasets": tfds.__version__},
        },
    )


def _fetch(name, data_dir):
    import tensorflow_datasets as tfds

    try:
        with contextlib.redirect_stdout(sys.stderr):  # TFDS prints its progress; stdout is for results
            builder = tfds.builder(name, data_dir=os.fspath(prepared.root(data_dir)))
            builder.download_and_prepare()
    except Exception as error:  # whatever the network or a set's own code throws
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunFailed(f"fetching {name} failed: {first}; try again, or fetch it on another machine") from error
    return builder.data_dir


def _features(name, info):
    """Which features are the example and its class: `("image" or "text", key, key)`."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    features = dict(info.features.items()) if isinstance(info.features, tfds.features.FeaturesDict) else {}
    images = [k for k, f in features.items() if type(f) is tfds.features.Image and f.tf_dtype == tf.uint8]
    texts = [k for k, f in features.items() if isinstance(f, tfds.features.Text) and f.tf_dtype == tf.string]
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel) and f.num_classes]
    keys = info.supervised_keys if len(info.supervised_keys or ()) == 2 else (None, "label")
    inputs = images or texts
    x_key = keys[0] if keys[0] in images + texts else inputs[0] if len(inputs) == 1 else None
    y_key = next((k for k in (keys[1], "label") if k in labels), labels[0] if len(labels) == 1 else None)
    if x_key is None or y_key is None:
        listed = ", ".join(f"{k}: {type(f).__name__}" for k, f in features.items()) or type(info.features).__name__
        raise BadInput(
            f"{name} has the features {listed}; needed are one Image (uint8) or one Text, and one "
            "ClassLabel: choose a set for classification"
        )
    return "image" if x_key in images else "text", x_key, y_key


def _tfds_split(name, folder, info, x_key, y_key):
    import tensorflow as tf

    files = [os.fspath(path) for path in info.filepaths]
    label = {y_key: tf.io.FixedLenFeature([], tf.int64)}
    both = {x_key: tf.io.FixedLenFeature([], tf.string), **label}

    # Records are parsed a chunk at a time: TFDS' own reader takes ten times as long, one by one.
    def chunks(indices):
        wanted = np.zeros(info.num_examples, bool)
        wanted[indices] = True
        mask = tf.constant(wanted)

        def pick(number, records):
            start = number * CHUNK
            chosen = mask[start : start + tf.shape(records, tf.int64)[0]]
            example = tf.io.parse_example(tf.boolean_mask(records, chosen), both)
            return example[x_key], tf.cast(example[y_key], tf.int32)

        def some(raw, _):
            return tf.size(raw) > 0

        return tf.data.TFRecordDataset(files).batch(CHUNK).enumerate().map(pick).filter(some)

    def classes(records):
        return tf.io.parse_example(records, label)[y_key]

    try:
        y = [batch.numpy() for batch in tf.data.TFRecordDataset(files).batch(CHUNK).map(classes)]
    except tf.errors.OpError as error:
        raise damaged(name, error) from error
    y = np.concatenate(y).astype(np.int32) if y else np.zeros(0, np.int32)
    if len(y) != info.num_examples:
        raise BadInput(
            f"{name} in {folder} holds {len(y)} of {info.num_examples} examples of its {info.name} split; "
            "copy or prepare it again"
        )
    return Split(y=y, chunks=chunks, raw_bytes=info.num_bytes // max(1, len(y)))


def damaged(name, error):
    """The refusal for files that TensorFlow cannot read or decode."""
    if "differing sizes" in str(error):
        return BadInput(f"the images of {name} differ in size; give --image-size N to resize them to N x N pixels")
    reason = re.sub(r"\{\{.*?\}\}\s*", "", error.message or type(error).__name__).splitlines()[0]
    return BadInput(f"{name} cannot be read: its files are damaged ({reason[:300]}); copy or prepare them again")
