"""What TensorBoard shows of a run, written without a TensorFlow operation for each number."""

import time

import keras
import tensorflow as tf
from tensorboard.summary import Writer

TRAIN, VALIDATION = "train", "validation"
FLUSH_SECONDS = 1.0  # how old what is on the disk may be


class TensorBoard(keras.callbacks.Callback):
    """The curves of `keras.callbacks.TensorBoard` under the same names, in the folder `logs`.

    Keras' callback runs an operation for each number, which on a small set takes as long as
    the epoch itself. A writer is a thread and an open file: `close` ends them, whether or
    not training came to its end.
    """

    def __init__(self, logs):
        super().__init__()
        self._logs, self._writers, self._rate = logs, {}, None

    def on_epoch_end(self, epoch, logs=None):
        """Write the figures of `logs`, and the learning rate, at the step `epoch`."""
        if self._rate is None:  # a schedule is a dozen operations, so it is traced once
            self._rate = tf.function(lambda: tf.identity(self.model.optimizer.learning_rate), autograph=False)
        for name, value in {**(logs or {}), "learning_rate": self._rate()}.items():
            part = VALIDATION if name.startswith("val_") else TRAIN
            self._writer(part).add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        for part, (writer, flushed) in self._writers.items():
            if time.monotonic() - flushed > FLUSH_SECONDS:
                writer.flush()
                self._writers[part] = writer, time.monotonic()

    def close(self):
        """Write what is left, and close the files; a later epoch opens new ones."""
        for writer, _ in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, part):
        if part not in self._writers:
            self._writers[part] = Writer(str(self._logs / part)), time.monotonic()
        return self._writers[part][0]
