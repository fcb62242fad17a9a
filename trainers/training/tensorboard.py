"""Writes the curves of a run for TensorBoard, without a TensorFlow operation per number."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import SupportsFloat

import keras
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.plugins.scalar.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

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

    def __init__(self, logs: Path, learning_rate: Callable[[], SupportsFloat]):
        super().__init__()
        self._logs, self._learning_rate, self._writers = logs, learning_rate, {}

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the values in `logs`, and the learning rate, at the step `epoch`."""
        curves: dict[str, dict[str, float]] = {TRAIN: {"learning_rate": float(self._learning_rate())}, VALIDATION: {}}
        for name, value in (logs or {}).items():
            curves[VALIDATION if name.startswith("val_") else TRAIN][name.removeprefix("val_")] = value
        for part, values in curves.items():
            if values:
                summary = Summary(value=[_scalar(f"epoch_{name}", float(value)) for name, value in values.items()])
                self._writer(part).add_event(Event(wall_time=time.time(), step=epoch, summary=summary))
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
            self._writers[part] = EventFileWriter(str(self._logs / part)), time.monotonic()
        return self._writers[part][0]


_SCALAR = create_summary_metadata(display_name=None, description=None)


def _scalar(tag, value):
    """Returns one point of a curve."""
    return Summary.Value(tag=tag, metadata=_SCALAR, tensor=TensorProto(dtype=DT_FLOAT, float_val=[value]))
