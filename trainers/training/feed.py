"""Feeds batches to the training step: one shuffled epoch within one compiled call.

Autograph is off, because its rewriting takes a large part of the tracing time.
"""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.seeds import of_order

Steps = Callable[[int, int], tuple[tf.Tensor, tf.Tensor]]  # from the first step to before the last


def of(engine: Any) -> "InMemory | Streamed":
    """Returns what feeds a `trainers.training.loop.Engine`.

    Its `epoch(number)` is the function that trains on a range of steps of that epoch.
    """
    return (Streamed if hasattr(engine.dataset.train, "batches") else InMemory)(engine)


def summed(train_step: Callable, batch_of: Callable, first: tf.Tensor, last: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sums of what `train_step` returns, over the batches `first` to before `last`."""

    def one_more(i, loss, wrong):
        step_loss, step_wrong = train_step(*batch_of(i))
        return i + 1, loss + step_loss, wrong + step_wrong

    begin = (first, tf.zeros((), tf.float64), tf.zeros((), tf.int64))
    return tf.while_loop(lambda i, *_: i < last, one_more, begin, parallel_iterations=1)[1:]


class InMemory:
    """Batches gathered by index from arrays in memory, in their own type (uint8, int32)."""

    def __init__(self, engine: Any):
        self._engine = engine
        (x, y), batch = _tensors(engine.dataset.train), engine.batch

        def steps(order, first, last):
            def batch_of(i):
                index = order[i * batch : (i + 1) * batch]
                return tf.gather(x, index), tf.gather(y, index)

            return summed(engine.train_step, batch_of, first, last)

        self._steps = tf.function(steps, autograph=False)

    def epoch(self, epoch: int) -> Steps:
        """Returns the function that trains on steps `first` to before `last` of the epoch."""
        engine = self._engine
        rng = np.random.default_rng(of_order(engine.seed, epoch))
        order = tf.constant(rng.permutation(len(engine.dataset.train)).astype(np.int32))
        return lambda first, last: self._steps(order, tf.constant(first), tf.constant(last))


_of_part: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # the engines of a process share their data


def _tensors(part):
    """Returns the arrays of a part as tensors, which copy them; the same ones as long as the part is used."""
    if part not in _of_part:
        _of_part[part] = tf.constant(part.x), tf.constant(part.y)
    return _of_part[part]


class Streamed:
    """Batches from `tf.data`, for data sets that do not fit in memory."""

    def __init__(self, engine: Any):
        self._engine = engine

        def steps(iterator, first, last):
            return summed(engine.train_step, lambda _: next(iterator), first, last)

        self._steps = tf.function(steps, reduce_retracing=True, autograph=False)

    def epoch(self, epoch: int) -> Steps:
        """Returns the function that trains on steps `first` to before `last` of the epoch."""
        engine = self._engine
        iterator = iter(engine.dataset.train.batches(engine.batch, seed=engine.seed, epoch=epoch))
        return lambda first, last: self._steps(iterator, tf.constant(first), tf.constant(last))
