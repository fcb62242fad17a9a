"""Dropping at the price of a product: what the mask layers compute in training.

A mask is a hash of the elements' numbers (`zoo.counter`), drawn, compared and multiplied
in one loop that XLA compiles, so that nothing but the tensor itself goes through memory.
No mask is kept for the gradient: that is the same function of what comes back, its mask
drawn again. Behind a ReLU, in a training step, the output itself tells what was dropped
(`joined_with_relu`). Outside of compiled models each call is a small program of its own,
compiled once for each shape and process.

A draw is named by the `state` of a seed generator, int64 `(2,)`: its seed and how many
draws went before; `lane` keeps the draws of replicas apart.
"""

import contextlib
import contextvars
import functools

import tensorflow as tf

from zoo import blocks, counter

NEVER_FOLDED = 10 * 2**20 // 4 + 1  # int32: TensorFlow's `ConstantFoldingOptions` allow constants of 10 MiB

_joining = contextvars.ContextVar("joining", default=False)


@contextlib.contextmanager
def joined_with_relu():
    """A context in which a mask of `drop` directly behind TensorFlow's `Relu` is traced as one operation with it.

    For training steps, of which nobody sees the inside: one pass through memory each way in
    the place of two. With respect to what goes into the ReLU the gradient is the same, as long
    as what comes back is finite. With respect to what the ReLU puts out, the mask's share is
    missing. Enter it inside the function that is traced; the tape has to record both.
    """
    token = _joining.set(True)
    try:
        yield
    finally:
        _joining.reset(token)


def drop(x, state, lane, rate, noise_shape=None):
    """`x` with a share of `rate` set to 0 and the rest divided by 1 - `rate`.

    `rate` is a number in [0, 1) or a float32 scalar. As in Keras, `noise_shape` has 1
    where one coin counts for a whole axis, and None for the axis' own size. The share is
    exact to 2**-32, and the factor is the inverse of the share kept. The one mask that can
    be joined with a ReLU before it: noise may be negative, and blocks have a factor of each example.
    """
    noise_shape = None if noise_shape is None else tuple(noise_shape)
    operation = getattr(x, "op", None)  # what is no part of a graph has none
    if _joining.get() and operation is not None and operation.type == "Relu":
        return _relu_and_drop(operation.inputs[0], state, _numbers(lane, rate), noise_shape)
    return _symmetric(_kernel(_dropped, x.dtype, noise_shape), x, state, _numbers(lane, rate))


def drop_blocks(x, state, lane, rate, block_size, channels_last=True):
    """`x` `(batch, height, width, channels)` without squares of each feature map (Ghiasi et al. 2018).

    On average a share of `rate` is dropped; what is left of an example is multiplied by
    one factor, the inverse of the share that was kept of it.
    """
    kernel = _kernel(_blocks_dropped, x.dtype, block_size, channels_last)
    return _symmetric(kernel, x, state, _numbers(lane, rate))


def shake(x, state, lane, rate):
    """`x` times Gaussian noise of mean 1 and variance rate/(1 - rate) (Srivastava et al. 2014, section 10)."""
    return _symmetric(_kernel(_shaken, x.dtype), x, state, _numbers(lane, rate))


def _numbers(lane, rate):
    # One tensor: each argument of a compiled call costs about two microseconds.
    return tf.stack([lane, chance_of(rate)])


def _symmetric(kernel, x, state, numbers):
    """The values of `x` times their factors: so the gradient is the same function of what comes back."""

    @tf.custom_gradient
    def applied(x):
        y = _shaped(kernel(x, state, numbers), x)
        return y, lambda upstream: _symmetric(kernel, upstream, state, numbers)

    return applied(x)


def _relu_and_drop(x, state, numbers, noise_shape):
    """`drop` of the ReLU of `x`: where something came out, what comes back goes through, scaled."""
    forward, backward = _kernel(_relu_dropped, x.dtype, noise_shape), _gradient_kernel(x.dtype)

    @tf.custom_gradient
    def applied(x):
        y = _shaped(forward(x, state, numbers), x)
        return y, lambda upstream: _shaped(backward(upstream, y, numbers), x)

    return applied(x)


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


@functools.cache
def _gradient_kernel(dtype):
    """`_passed_back` compiled by XLA for tensors of `dtype`."""
    tensor = tf.TensorSpec(None, dtype)
    return _compiled(_passed_back, tensor, tensor, tf.TensorSpec((2,), tf.int32))


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
    shape, scale = tf.shape(x), 1 / (1 - _rate(chance))
    if noise_shape is None:  # as one row: rows of a few elements would not fill a vector
        row = tf.reshape(x, [-1])
        return tf.reshape(_kept_or_0(row, _words(*key, tf.size(x)) >= chance, scale), shape)
    units = tf.stack([shape[i] if n is None else n for i, n in enumerate(noise_shape)])
    return _kept_or_0(x, tf.reshape(_words(*key, tf.reduce_prod(units)) >= chance, units), scale)


def _relu_dropped(x, key, chance, noise_shape):
    return _dropped(tf.nn.relu(x), key, chance, noise_shape)


def _passed_back(upstream, y, numbers):
    """The gradient of `_relu_dropped`, which has put out `y`."""
    return _kept_or_0(upstream, y > 0, 1 / (1 - _rate(numbers[1])))


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


def _scaled(x, factor):
    """`x` times a float32 `factor`, in `x`'s own type: 16 bits would round the factor itself."""
    wide = tf.cast(x, tf.float32) if x.dtype.size < 4 else x
    return tf.cast(wide * tf.cast(factor, wide.dtype), x.dtype)
