"""The devices that share a batch, and the precision in which layers compute.

On several devices each has a replica of the network (`tf.distribute.MirroredStrategy`). A batch is cut evenly,
each replica draws masks of its own, and the gradients are added, so a step is that of one device up to
rounding. Batch statistics are those of a replica's share; the moving ones are averaged after each epoch.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf


@functools.cache
def _strategy(count):
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(count)])
    summed = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)], cross_device_ops=summed)


class Devices:
    """One device, or several that share each batch; see `zoo.startup.use_devices`.

    Attributes:
        count: their number.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._strategy = _strategy(count) if count > 1 else None

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns a context in which to create variables; each device has its own copy."""
        return self._strategy.scope() if self._strategy else contextlib.nullcontext()

    def on_each(self, work: Callable, *tensors: tf.Tensor) -> tuple[Any, ...]:
        """Calls `work(number, *tensors)` on each device, numbered from 0; returns the results of all of them."""

        def replica(*tensors):
            return work(tf.distribute.get_replica_context().replica_id_in_sync_group, *tensors)

        results = self._strategy.run(replica, tensors)
        each = [self._strategy.experimental_local_results(value) for value in keras.tree.flatten(results)]
        return tuple(keras.tree.pack_sequence_as(results, values) for values in zip(*each, strict=True))

    def share(self, number: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns a device's share of a batch and its number of examples.

        The shares differ by at most one example. A share that would be empty has one example of another device, which
        does not count: without any, batch statistics would not be numbers.
        """
        size = tf.shape(y)[0]
        begin, end = number * size // self.count, (number + 1) * size // self.count
        place = slice(begin, tf.maximum(end, begin + 1))
        return x[place], y[place], end - begin

    def average(self, variables: list[keras.Variable]) -> None:
        """Gives each floating variable the mean of the devices' copies."""
        if self._strategy:
            for variable in variables:
                if keras.backend.is_float_dtype(variable.dtype):
                    copies = self._strategy.experimental_local_results(variable.value)
                    variable.assign(tf.add_n([copy.read_value() for copy in copies]) / self.count)


@contextlib.contextmanager
def computing_in(dtype: str) -> Iterator[None]:
    """A context in which layers are created that compute in `dtype`, the name of a policy of Keras."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
