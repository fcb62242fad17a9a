"""How batches come to the step: an epoch of them, shuffled, within one compiled call.

Written without autograph, whose rewriting is a good part of what tracing takes.
"""

import numpy as np
import tensorflow as tf

from zoo.seeds import seed_for


def of(engine):
    """What feeds `engine`: its `epoch(number)` is a function of the first step and the one to stop before."""
    return (Streamed if hasattr(engine.dataset.train, "batches") else InMemory)(engine)


def summed(train_step, batch_of, first, last):
    """The sums of what `train_step` returns over the batches number `first` to before `last`."""

    def one_more(i, loss, wrong):
        step_loss, step_wrong = train_step(*batch_of(i))
        return i + 1, loss + step_loss, wrong + step_wrong

    begin = (first, tf.zeros((), tf.float64), tf.zeros((), tf.int64))
    return tf.while_loop(lambda i, *_: i < last, one_more, begin, parallel_iterations=1)[1:]


class InMemory:
    """Batches gathered by index from arrays that lie in memory as they came (uint8, int32)."""

    def __init__(self, engine):
        self._engine = engine
        x, y, batch = tf.constant(engine.dataset.train.x), tf.constant(engine.dataset.train.y), engine.batch

        def steps(order, first, last):
            def batch_of(i):
                index = order[i * batch : (i + 1) * batch]
                return tf.gather(x, index), tf.gather(y, index)

            return summed(engine.train_step, batch_of, first, last)

        self._steps = tf.function(steps, autograph=False)

    def epoch(self, epoch):
        engine = self._engine
        rng = np.random.default_rng(seed_for(engine.seed, f"order/{epoch}"))
        order = tf.constant(rng.permutation(len(engine.dataset.train)).astype(np.int32))
        return lambda first, last: self._steps(order, tf.constant(first), tf.constant(last))


class Streamed:
    """Batches as `tf.data` delivers them, for sets that do not fit in memory."""

    def __init__(self, engine):
        self._engine = engine

        def steps(iterator, first, last):
            return summed(engine.train_step, lambda _: next(iterator), first, last)

        self._steps = tf.function(steps, reduce_retracing=True, autograph=False)

    def epoch(self, epoch):
        engine = self._engine
        iterator = iter(engine.dataset.train.batches(engine.batch, seed=engine.seed, epoch=epoch))
        return lambda first, last: self._steps(iterator, tf.constant(first), tf.constant(last))
