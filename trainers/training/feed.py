"""Feeds batches to the training step: one shuffled epoch within one compiled call.

Autograph is off, because its rewriting takes a large part of the tracing time.
"""

import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.seeds import of_order

Steps = Callable[[int, int], tuple[tf.Tensor, tf.Tensor]]  # from the first step to before the last
CHUNK = 2**24  # bytes that are copied from a file at once


def of(engine: Any) -> "InMemory | Mapped | Streamed":
    """Returns what feeds a `trainers.training.loop.Engine`.

    Its `epoch(number)` is the function that trains on a range of steps of that epoch.
    """
    part = engine.dataset.train
    return (Streamed if hasattr(part, "batches") else Mapped if part.mapped else InMemory)(engine)


def pieces(part: Any, batch: int) -> Iterator[np.ndarray]:
    """Yields the examples of a part in their order: those in memory at once, mapped ones about `CHUNK` bytes at a time.

    All pieces but the last hold a multiple of `batch` examples, so that batches cut from them are those of the part.
    """
    size = len(part)
    if part.mapped:
        size = batch * max(1, CHUNK // (batch * part.x[:1].nbytes))
    for start in range(0, max(1, len(part)), max(1, size)):
        yield np.asarray(part.x[start : start + size])


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Returns the order of `count` examples in an epoch, int32."""
    return np.random.default_rng(of_order(seed, epoch)).permutation(count).astype(np.int32)


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
        index = tf.constant(order(engine.seed, epoch, len(engine.dataset.train)))
        return lambda first, last: self._steps(index, tf.constant(first), tf.constant(last))


_of_part: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # the engines of a process share their data


def _tensors(part):
    """Returns the arrays of a part as tensors, which copy them; the same ones as long as the part is used."""
    if part not in _of_part:
        _of_part[part] = tf.constant(part.x), tf.constant(part.y)
    return _of_part[part]


class Mapped:
    """The batches of `InMemory`, gathered from a file that is mapped into memory.

    A thread gathers the next `CHUNK` bytes while TensorFlow trains on those before.
    """

    def __init__(self, engine: Any):
        self._engine = engine
        part, batch = engine.dataset.train, engine.batch
        self._size = max(1, CHUNK // (batch * part.x[:1].nbytes))  # steps of a chunk
        self._thread = ThreadPoolExecutor(1, "gather")

        def steps(x, y, first, last):
            return summed(engine.train_step, lambda i: _rows((x, y), i, batch), first, last)

        shapes = (None, *part.x.shape[1:]), (None,)
        kinds = [tf.TensorSpec(shape, dtype) for shape, dtype in zip(shapes, (part.x.dtype, part.y.dtype), strict=True)]
        number = tf.TensorSpec((), tf.int32)
        self._steps = tf.function(steps, input_signature=[*kinds, number, number], autograph=False)

    def epoch(self, epoch: int) -> Steps:
        """Returns the function that trains on steps `first` to before `last` of the epoch, called in their order."""
        engine, size = self._engine, self._size
        index = order(engine.seed, epoch, len(engine.dataset.train))
        chunks: dict[int, Future] = {}

        def chunk(number):
            """Returns a chunk, and begins to gather the next one."""
            for wanted in (number, number + 1):
                if wanted not in chunks and wanted * size < engine.steps:
                    rows = index[wanted * size * engine.batch : (wanted + 1) * size * engine.batch]
                    chunks[wanted] = self._thread.submit(_gathered, engine.dataset.train, rows)
            for past in [key for key in chunks if key < number]:
                del chunks[past]
            return chunks[number].result()

        def train(first, last):
            sums = tf.zeros((), tf.float64), tf.zeros((), tf.int64)
            while first < last:
                number = first // size
                until, begin = min(last, (number + 1) * size), number * size
                more = self._steps(*chunk(number), tf.constant(first - begin), tf.constant(until - begin))
                sums, first = (sums[0] + more[0], sums[1] + more[1]), until
            return sums

        return train


def _rows(arrays, i, batch):
    return tuple(array[i * batch : (i + 1) * batch] for array in arrays)


def _gathered(part, rows):
    """Returns examples of a mapped part as tensors."""
    return tf.constant(part.x[rows]), tf.constant(part.y[rows])


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
