"""Writes the curves of a run for TensorBoard, without a TensorFlow operation per number."""

import time
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf
from tensorboard.summary import Writer

TRAIN, VALIDATION = "train", "validation"
FLUSH_SECONDS = 1.0  # between two writes to the disk


class TensorBoard(keras.callbacks.Callback):
    """Writes the curves of `keras.callbacks.TensorBoard` under the same names into the folder `logs`.

    Keras' callback runs an operation for each number, which takes as long as an epoch of a small
    data set. A writer is a thread and an open file; `close` ends both.

    Args:
        logs: The folder.
        learning_rate: Returns the learning rate of the next step.
    """

    def __init__(self, logs: Path, learning_rate: Callable[[], tf.Tensor]):
        super().__init__()
        self._logs, self._learning_rate, self._writers = logs, learning_rate, {}

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the values in `logs`, and the learning rate, at the step `epoch`."""
        for name, value in {**(logs or {}), "learning_rate": self._learning_rate()}.items():
            part = VALIDATION if name.startswith("val_") else TRAIN
            self._writer(part).add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        for part, (writer, flushed) in self._writers.items():
            if time.monotonic() - flushed > FLUSH_SECONDS:
                writer.flush()
                self._writers[part] = writer, time.monotonic()

    def close(self) -> None:
        """Writes the remaining values and closes the files; a later epoch opens new ones."""
        for writer, _ in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, part):
        if part not in self._writers:
            self._writers[part] = Writer(str(self._logs / part)), time.monotonic()
        return self._writers[part][0]
