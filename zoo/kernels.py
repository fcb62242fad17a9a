"""Dropping at the price of a product: what the mask layers compute in training.

A mask is a hash of the elements' numbers (`zoo.counter`), drawn, compared and multiplied
in one loop that XLA compiles, so that nothing but the tensor itself goes through memory.
No mask is kept for the gradient: that is the same function of what comes back, its mask
drawn again. Outside of compiled models each call is a small program of its own, compiled
once for each shape and process.

Calling such a program costs a small network more than what it does. So in the steps of the
project's loop (`within_step`) fewer are called, some of them before the tensor is there.

A draw is named by the `state` of a seed generator, int64 `(2,)`: its seed and how many
draws went before; `lane` keeps the draws of replicas apart.
"""

import contextlib
import contextvars
import functools
import math

import tensorflow as tf

from zoo import blocks, counter

NEVER_FOLDED = 10 * 2**20 // 4 + 1  # int32: TensorFlow's `ConstantFoldingOptions` allow constants of 10 MiB

AHEAD = 2**18  # so many factors are a float32 tensor of 1 MiB

_step = contextvars.ContextVar("step", default=None)


@contextlib.contextmanager
def within_step(examples, most):
    """A context in which to trace a training step of `examples`, a scalar tensor of at most `most`.

    A mask of `drop` directly behind TensorFlow's `Relu` is joined with it: what comes back goes
    through where something came out, and nothing is drawn for it. Up to `AHEAD` factors of such
    a mask, or of one of whole maps, come from a program that does not wait for the tensor, so
    that it can run beside what makes the tensor; those of whole maps are kept for the gradient.

    For steps of which nobody sees the inside, and whose masked tensors have one row for each
    example. With respect to what goes into the ReLU the gradient is the same; with respect to
    what it puts out, the mask's share is missing. Values and gradients have to be finite: a
    value that is not can be NaN where it was to be dropped. Enter the context inside the
    function that is traced; the tape has to record both operations. Run eagerly it changes nothing.
    """
    token = _step.set((examples, most))
    try:
        yield
    finally:
        _step.reset(token)


def drop(x, state, lane, rate, noise_shape=None):
    """`x` with a share of `rate` set to 0 and the rest divided by 1 - `rate`.

    `rate` is a number in [0, 1) or a float32 scalar. As in Keras, `noise_shape` has 1
    where one coin counts for a whole axis, and None for the axis' own size. The share is
    exact to 2**-32, and the factor is the inverse of the share kept. The one mask that can
    be joined with a ReLU before it: noise may be negative, and blocks have a factor of each example.
    """
    noise_shape, numbers = None if noise_shape is None else tuple(noise_shape), _numbers(lane, rate)
    if _in_step(x) and x.op.type == "Relu":
        return _relu_and_drop(x.op.inputs[0], state, numbers, noise_shape)
    factors = _drawn_ahead(x, state, numbers, noise_shape) if _in_step(x) and 1 in (noise_shape or ()) else None
    if factors is not None:  # few: kept for the gradient
        return _symmetric(lambda x: _scaled(x, factors), x)
    kernel = _kernel(_dropped, x.dtype, noise_shape)
    return _symmetric(lambda x: kernel(x, state, numbers), x)


def drop_blocks(x, state, lane, rate, block_size, channels_last=True):
    """`x` `(batch, height, width, channels)` without squares of each feature map (Ghiasi et al. 2018).

    On average a share of `rate` is dropped; what is left of an example is multiplied by
    one factor, the inverse of the share that was kept of it.
    """
    kernel, numbers = _kernel(_blocks_dropped, x.dtype, block_size, channels_last), _numbers(lane, rate)
    return _symmetric(lambda x: kernel(x, state, numbers), x)


def shake(x, state, lane, rate):
    """`x` times Gaussian noise of mean 1 and variance rate/(1 - rate) (Srivastava et al. 2014, section 10)."""
    kernel, numbers = _kernel(_shaken, x.dtype), _numbers(lane, rate)
    return _symmetric(lambda x: kernel(x, state, numbers), x)


def _in_step(x):
    """Whether `x` is of the graph of a step, and not of a function inside it, which may be called again elsewhere."""
    examples, _ = _step.get() or (None, None)
    return tf.is_symbolic_tensor(examples) and tf.is_symbolic_tensor(x) and x.graph is examples.graph


def _numbers(lane, rate):
    # One tensor: each argument of a compiled call costs about two microseconds.
    return tf.stack([lane, chance_of(rate)])


def _symmetric(multiplied, x):
    """`multiplied(x)`, a product with factors that are no function of `x`: so its gradient is the same function."""

    @tf.custom_gradient
    def applied(x):
        return _shaped(multiplied(x), x), lambda upstream: _symmetric(multiplied, upstream)

    return applied(x)


def _relu_and_drop(x, state, numbers, noise_shape):
    """`drop` of the ReLU of `x`: where something came out, what comes back goes through, scaled."""

    @tf.custom_gradient
    def applied(x):
        factors = _drawn_ahead(x, state, numbers, noise_shape)
        if factors is None:
            y = _kernel(_relu_dropped, x.dtype, noise_shape)(x, state, numbers)
        else:
            y = _scaled(tf.nn.relu(x), factors)

        def back(upstream):
            return _scaled(tf.raw_ops.ReluGrad(gradients=upstream, features=y), _scale(numbers[1]))

        return _shaped(y, x), back

    return applied(x)


def _drawn_ahead(x, state, numbers, noise_shape):
    """The factors of `drop`, which do not wait for `x`; None if their number is not known, or large.

    They are drawn for as many examples as a step may have, and the first ones taken: the same
    as would be drawn for those alone.
    """
    if not x.shape.rank:
        return None
    units = [x.shape[i] if n is None else n for i, n in enumerate(noise_shape or [None] * x.shape.rank)]
    (examples, most), any_batch = _step.get(), units[0] is None
    if any_batch:
        units[0] = most
    if None in units or math.prod(units) > AHEAD:
        return None
    dtype = tf.float64 if x.dtype == tf.float64 else tf.float32
    factors = _kernel(_factors, tf.int32, dtype)(tf.constant(units), state, numbers)
    factors.set_shape(units)
    return factors[:examples] if any_batch else factors


def _scaled(x, factor):
    """`x` times a `factor` of 32 bits or more, in `x`'s own type: 16 bits would round the factor itself."""
    wide = tf.cast(x, tf.float32) if x.dtype.size < 4 else x
    return tf.cast(wide * tf.cast(factor, wide.dtype), x.dtype)


def _shaped(y, like):
    y.set_shape(like.shape)
    return y


@functools.cache
def _kernel(function, dtype, *options):
    """`function` compiled by XLA for tensors of `dtype`; one trace for all ranks and sizes."""

    def run(x, state, numbers):
        seed, count = tf.unstack(tf.cast(state, tf.int32))
        return function(x, counter.keys(seed, count, numbers[0]), numbers[1], *options)

    return _compiled(run, tf.TensorSpec(None, dtype), tf.TensorSpec((2,), tf.int64), tf.TensorSpec((2,), tf.int32))


def _compiled(function, *signature):
    compiled = tf.function(function, input_signature=signature, jit_compile=True, autograph=False)
    return compiled.get_concrete_function()


def chance_of(rate):
    """The word below which a unit is dropped."""
    if not tf.is_tensor(rate):
        return tf.constant(counter.threshold(rate), tf.int32)
    words = tf.clip_by_value(tf.round(tf.cast(rate, tf.float64) * 2.0**32), 0.0, 2.0**32 - 1)
    return tf.cast(words - 2.0**31, tf.int32)


def _rate(chance):
    """The rate, float64, that `chance` stands for."""
    return (tf.cast(chance, tf.float64) + 2.0**31) / 2.0**32


def _scale(chance):
    """The inverse of the share kept, float64."""
    return 1 / (1 - _rate(chance))


# === What is compiled ===


def _words(first, second, size):
    """`counter.words`, its places computed in the loop that uses them and not read from memory.

    TensorFlow folds a range of known size into a constant, as large as the tensor itself,
    up to 10 MiB: so the words are cut from a larger one, of which the rest is never computed.
    """
    places = tf.range(tf.maximum(size, NEVER_FOLDED))
    return counter.mixed((places * counter.STEP + first)[:size], second, _shifted)


def _shifted(h, k):
    """`h` shifted right by `k` bits, zeros coming in: one instruction, which LiteRT lacks."""
    return tf.bitcast(tf.bitwise.right_shift(tf.bitcast(h, tf.uint32), tf.constant(k, tf.uint32)), h.dtype)


def _dropped(x, key, chance, noise_shape):
    shape, scale = tf.shape(x), _scale(chance)
    if noise_shape is None:  # as one row: rows of a few elements would not fill a vector
        row = tf.reshape(x, [-1])
        return tf.reshape(_kept_or_0(row, _words(*key, tf.size(x)) >= chance, scale), shape)
    units = tf.stack([shape[i] if n is None else n for i, n in enumerate(noise_shape)])
    return _kept_or_0(x, tf.reshape(_words(*key, tf.reduce_prod(units)) >= chance, units), scale)


def _relu_dropped(x, key, chance, noise_shape):
    return _dropped(tf.nn.relu(x), key, chance, noise_shape)


def _factors(units, key, chance, dtype):
    """What `_dropped` multiplies by, where so many `units` have one each."""
    kept = tf.reshape(_words(*key, tf.reduce_prod(units)) >= chance, units)
    return tf.where(kept, tf.cast(_scale(chance), dtype), tf.zeros((), dtype))


def _kept_or_0(x, kept, scale):
    return tf.where(kept, _scaled(x, scale), tf.zeros((), x.dtype))


def _shaken(x, key, chance):
    size, rate = tf.size(x), _rate(chance)
    # The second half of the plane of keys, for the angle.
    noise = counter.gauss(_words(key[0], key[1], size), _words(key[1], ~key[0], size))
    return _scaled(x, 1 + tf.cast(tf.sqrt(rate / (1 - rate)), tf.float32) * tf.reshape(noise, tf.shape(x)))


def _blocks_dropped(x, key, chance, block_size, channels_last):
    corners, rate = blocks.corners(tf.shape(x), _rate(chance), block_size, channels_last)
    begun = tf.reshape(_words(*key, tf.reduce_prod(corners)) < chance_of(rate), corners)
    return _scaled(x, blocks.factors(begun, tf.shape(x), block_size, channels_last))
