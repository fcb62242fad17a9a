"""The squares that DropBlock drops (Ghiasi et al. 2018, algorithm 1), for any source of random bits."""

import tensorflow as tf

_BISECTIONS = 24  # of an interval of length 1: as exact as float32


def corners(
    shape: tf.Tensor, rate: float | tf.Tensor, block_size: int, channels_last: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the shape of the positions at which a block can start, and the probability that one does.

    Args:
        shape: shape of the feature maps, int32 `(4,)`.
        rate: probability that a value is dropped.
        block_size: edge of a square, in pixels; cut to the edge of the map.
        channels_last: whether channels are the last axis.
    """
    axes = _places(channels_last)
    sizes = [tf.minimum(block_size, shape[axis]) for axis in axes]
    starts = tf.unstack(shape, 4)
    for axis, size in zip(axes, sizes, strict=True):
        starts[axis] -= size - 1
    return tf.stack(starts), _corner_rate(tf.cast(rate, tf.float32), [shape[axis] for axis in axes], sizes)


def factors(started: tf.Tensor, shape: tf.Tensor, block_size: int, channels_last: bool) -> tf.Tensor:
    """Returns float32 factors of `shape`: 0 inside blocks, one number per example elsewhere.

    Args:
        started: booleans, whether a block starts at a position, of the shape that `corners` returns.
        shape: shape of the feature maps, int32 `(4,)`.
        block_size: edge of a square, in pixels.
        channels_last: whether channels are the last axis.
    """
    for axis in _places(channels_last):
        started = _spread(started, axis, block_size, shape[axis])
    kept = tf.cast(tf.logical_not(started), tf.float32)
    return kept * tf.math.divide_no_nan(1.0, tf.reduce_mean(kept, (1, 2, 3), keepdims=True))


def _places(channels_last):
    return (1, 2) if channels_last else (2, 3)


def _corner_rate(rate, lengths, sizes):
    """Returns the probability that a block starts at a position, so that a share of `rate` is dropped.

    The formula of the paper ignores overlaps and borders, and so drops less than `rate`.
    """
    covered = []  # number of starts whose block covers each position along an axis
    for length, size in zip(lengths, sizes, strict=True):
        position = tf.range(length)
        covered.append(tf.minimum(tf.minimum(position + 1, length - position), tf.minimum(size, length - size + 1)))
    count = tf.cast(covered[0][:, None] * covered[1][None, :], tf.float32)
    low, high = tf.zeros(()), tf.ones(())
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = 1 - tf.reduce_mean(tf.exp(count * tf.math.log1p(-middle))) >= rate
        low, high = tf.where(enough, low, middle), tf.where(enough, middle, high)
    return tf.where(rate > 0, high, 0.0)


def _spread(started, axis, block_size, length):
    """Extends each True to `block_size` positions along `axis`, within `length` positions."""
    short = length - tf.shape(started)[axis]
    covered = None
    for offset in range(block_size):
        before = tf.minimum(offset, short)
        padding = [[before, short - before] if i == axis else [0, 0] for i in range(4)]
        moved = tf.pad(started, padding)
        covered = moved if covered is None else tf.logical_or(covered, moved)
    return covered
