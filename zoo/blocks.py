"""The squares that DropBlock drops (Ghiasi et al. 2018, algorithm 1), for any source of bits."""

import tensorflow as tf

_BISECTIONS = 24  # halvings of an interval of length 1: as exact as float32


def corners(shape, rate, block_size, channels_last):
    """The shape of the corners at which a block can begin in maps of `shape`, and the chance that one does."""
    axes = _places(channels_last)
    sizes = [tf.minimum(block_size, shape[axis]) for axis in axes]
    found = tf.unstack(shape, 4)
    for axis, size in zip(axes, sizes, strict=True):
        found[axis] -= size - 1
    return tf.stack(found), _corner_rate(tf.cast(rate, tf.float32), [shape[axis] for axis in axes], sizes)


def factors(begun, shape, block_size, channels_last):
    """float32 factors of `shape`: 0 in the blocks that have `begun`, one number per example elsewhere."""
    for axis in _places(channels_last):
        begun = _spread(begun, axis, block_size, shape[axis])
    kept = tf.cast(tf.logical_not(begun), tf.float32)
    return kept * tf.math.divide_no_nan(1.0, tf.reduce_mean(kept, (1, 2, 3), keepdims=True))


def _places(channels_last):
    return (1, 2) if channels_last else (2, 3)


def _corner_rate(rate, lengths, sizes):
    """The chance that a block begins at a corner, so that a share of `rate` is dropped where blocks overlap.

    The paper's formula leaves overlaps and borders out, and drops less than it says.
    """
    covered = []  # by how many corners each place along an axis can be covered
    for length, size in zip(lengths, sizes, strict=True):
        place = tf.range(length)
        covered.append(tf.minimum(tf.minimum(place + 1, length - place), tf.minimum(size, length - size + 1)))
    count = tf.cast(covered[0][:, None] * covered[1][None, :], tf.float32)
    low, high = tf.zeros(()), tf.ones(())
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = 1 - tf.reduce_mean(tf.exp(count * tf.math.log1p(-middle))) >= rate
        low, high = tf.where(enough, low, middle), tf.where(enough, middle, high)
    return tf.where(rate > 0, high, 0.0)


def _spread(begun, axis, block_size, length):
    """True over the `block_size` places along `axis` from each True on, cut to `length` places."""
    short = length - tf.shape(begun)[axis]
    found = None
    for offset in range(block_size):
        before = tf.minimum(offset, short)
        padding = [[before, short - before] if i == axis else [0, 0] for i in range(4)]
        moved = tf.pad(begun, padding)
        found = moved if found is None else tf.logical_or(found, moved)
    return found
