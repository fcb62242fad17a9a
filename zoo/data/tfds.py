"""TFDS sets, prepared or downloaded, read a chunk of records at a time."""

import contextlib
import os
import sys
from pathlib import Path

import numpy as np

from zoo.data import prepared
from zoo.data.source import CHUNK, Source, Split, damaged, stamp_of
from zoo.errors import BadInput, RunFailed


def tfds_set(name: str, data_dir: str | Path | None = None, download: bool = False) -> Source:
    """Opens a TFDS set.

    Args:
        name: a TFDS name.
        data_dir: folder of prepared sets, see `zoo.data.prepared.root`.
        download: whether a set that is not prepared is downloaded.

    Raises:
        BadInput: the set is not prepared, is incomplete, or is no set of labelled images or texts.
        RunFailed: the download fails.
    """
    import tensorflow_datasets as tfds

    folder = prepared.require(name, data_dir, download) or _fetch(name, data_dir)
    builder = tfds.builder_from_directory(os.fspath(folder))
    kind, x_key, y_key = _features(name, builder.info)
    features = builder.info.features
    if builder.info.file_format.value != "tfrecord":
        raise BadInput(
            f"{name} in {folder} must be stored as tfrecord, got {builder.info.file_format.value}; prepare it again"
        )
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
        place=os.path.abspath(folder),
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
        with contextlib.redirect_stdout(sys.stderr):  # TFDS prints progress; stdout is for results
            builder = tfds.builder(name, data_dir=os.fspath(prepared.root(data_dir)))
            builder.download_and_prepare()
    except Exception as error:  # the network, or a set's own code, raises errors of many classes
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunFailed(
            f"cannot download {name}: {first}; try again, or download it on another machine and use --data-dir"
        ) from error
    return builder.data_dir


def _features(name, info):
    """Returns the features that hold the example and its class: `("image" or "text", key, key)`."""
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
            f"{name} must have one Image (uint8) or one Text, and one ClassLabel, got the features {listed}; "
            "choose a set for classification"
        )
    return "image" if x_key in images else "text", x_key, y_key


def _tfds_split(name, folder, info, x_key, y_key):
    import tensorflow as tf

    files = [os.fspath(path) for path in info.filepaths]
    label = {y_key: tf.io.FixedLenFeature([], tf.int64)}
    both = {x_key: tf.io.FixedLenFeature([], tf.string), **label}

    # Parsing a chunk of records at a time is ten times as fast as TFDS' own reader, which parses them one by one.
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
            f"cannot read {name} in {folder}: its {info.name} split has {len(y)} of {info.num_examples} examples; "
            "copy or prepare it again"
        )

    def stamp():
        return f"{x_key} {stamp_of(files, os.path.dirname(files[0]))}"

    return Split(y=y, chunks=chunks, raw_bytes=info.num_bytes // max(1, len(y)), stamp=stamp)
