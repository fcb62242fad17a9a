"""The logits of a model for a part of a data set, in inference mode."""

import keras
import numpy as np
import tensorflow as tf

from trainers.training import feed
from trainers.training.devices import Devices
from zoo.data.dataset import Dataset

BATCH = 256


class Predictor:
    """Computes the logits of a model, in one trace for parts of any size.

    Args:
        model: a model of logits.
        dataset: the data set whose parts it is given.
        devices: what shares the work.
    """

    def __init__(self, model: keras.Model, dataset: Dataset, devices: Devices) -> None:
        self._model, self._images, self._devices = model, dataset.kind == "image", devices
        self._predict = tf.function(self._batch, reduce_retracing=True, autograph=False)
        # Tables do not stream.
        kind = getattr(dataset.val, "x", np.empty(0, "uint8" if self._images else "int32")).dtype
        self._predict_all = tf.function(
            self._on_all_devices if devices.count > 1 else self._in_batches,
            input_signature=[tf.TensorSpec((None, *dataset.input_shape), kind)],
            autograph=False,
        )

    def logits(self, part: object) -> np.ndarray:
        """Returns the logits `(examples, classes)` of a part of the data, float32."""
        if hasattr(part, "batches"):
            return np.concatenate([self._predict(x) for x, _ in part.batches(BATCH)])
        return np.concatenate([self._predict_all(x) for x in feed.pieces(part, BATCH)])

    # === Compiled ===

    def _batch(self, x):
        x = tf.cast(x, tf.float32) if self._images else x
        return tf.cast(self._model(x, training=False), tf.float32)

    def _in_batches(self, x):
        count = (tf.shape(x)[0] + BATCH - 1) // BATCH
        classes = self._model.output_shape[-1]
        chunks = tf.TensorArray(tf.float32, size=count, element_shape=(None, classes), infer_shape=False)

        def predict(i, chunks):
            return i + 1, chunks.write(i, self._batch(x[i * BATCH : (i + 1) * BATCH]))

        return tf.while_loop(lambda i, _: i < count, predict, (0, chunks))[1].concat()

    def _on_all_devices(self, x):
        """As on one device, whose batches are shared out."""
        batches = (tf.shape(x)[0] + BATCH - 1) // BATCH

        def share(number, x):
            begin, end = (number * batches // self._devices.count, (number + 1) * batches // self._devices.count)
            return self._in_batches(x[begin * BATCH : end * BATCH])

        return tf.concat(self._devices.on_each(share, x), axis=0)
