"""What the mask layers compute in training, at about the cost of a multiplication.

A mask is a hash of the elements' indices (`zoo.dropout.counter`). XLA compiles drawing, comparing and
multiplying into one loop, so that only the tensor itself passes through memory. No mask is stored for
the gradient: the gradient is the same function of the upstream gradient, with the mask drawn again.
Outside of compiled models each call is a small program of its own, compiled once per shape and process.

In a small network, calling such a program takes longer than running it. So the steps of the project's
loop (`within_step`) call fewer of them, some of them before the tensor is known.

A draw is identified by the `state` of a seed generator, int64 `(2,)`: its seed and the number of
earlier draws. `lane` distinguishes replicas.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Sequence

import tensorflow as tf

from zoo.dropout import counter, drop_block

NEVER_FOLDED = 10 * 2**20 // 4 + 1  # int32: TensorFlow's `ConstantFoldingOptions` allow constants of 10 MiB

AHEAD = 2**18  # largest number of factors drawn ahead: a float32 tensor of 1 MiB

_step: contextvars.ContextVar = contextvars.ContextVar("step", default=None)


@contextlib.contextmanager
def within_step(examples: tf.Tensor, most: int) -> Iterator[None]:
    """Returns a context in which to trace a training step.

    A mask of `drop` directly after TensorFlow's `Relu` is fused with it. Its gradient passes where the
    output is above 0, so no mask is drawn for it. Up to `AHEAD` factors of such a mask, or of one of
    whole feature maps, are drawn by a program that does not wait for the tensor and can run in parallel
    with the operation that computes it. Factors of whole feature maps are stored for the gradient.

    Use it only for steps whose intermediate tensors are not observed, and whose masked tensors have one
    row per example. The gradient with respect to the input of the ReLU is exact; that with respect to
    its output lacks the mask. Values and gradients must be finite: a dropped value that is not finite
    can become NaN. Enter the context inside the traced function; the tape must record both operations.
    Eager execution is not affected.

    Args:
        examples: number of examples of the step, an int scalar tensor.
        most: largest number of examples of a step.
    """
    token = _step.set((examples, most))
    try:
        yield
    finally:
        _step.reset(token)


def drop(
    x: tf.Tensor,
    state: tf.Tensor,
    lane: tf.Tensor,
    rate: float | tf.Tensor,
    noise_shape: Sequence[int | None] | None = None,
) -> tf.Tensor:
    """Sets a share of `rate` of `x` to 0 and divides the rest by the share kept.

    This is the only mask that `within_step` fuses with a ReLU: Gaussian factors may be negative, and
    those of blocks differ between examples.

    Args:
        x: a float tensor of any shape.
        state: state of a seed generator, int64 `(2,)`.
        lane: number of the replica, an int32 scalar.
        rate: a number in [0, 1), or a float32 scalar. It is exact to 2**-32.
        noise_shape: as in Keras, 1 for an axis that shares one draw, None for the axis' own size.
    """
    noise_shape, numbers = None if noise_shape is None else tuple(noise_shape), _numbers(lane, rate)
    if _in_step(x) and x.op.type == "Relu":
        return _relu_and_drop(x.op.inputs[0], state, numbers, noise_shape)
    factors = _drawn_ahead(x, state, numbers, noise_shape) if _in_step(x) and 1 in (noise_shape or ()) else None
    if factors is not None:  # few enough to store for the gradient
        return _symmetric(lambda x: _scaled(x, factors), x)
    kernel = _kernel(_dropped, x.dtype, noise_shape)
    return _symmetric(lambda x: kernel(x, state, numbers), x)


def drop_blocks(
    x: tf.Tensor,
    state: tf.Tensor,
    lane: tf.Tensor,
    rate: float | tf.Tensor,
    block_size: int,
    channels_last: bool = True,
) -> tf.Tensor:
    """Drops squares of each feature map of `x` `(batch, height, width, channels)` (Ghiasi et al. 2018).

    A share of `rate` is dropped on average. The rest of an example is divided by the share kept in that
    example. Arguments are those of `drop`; `block_size` is the edge of a square, in pixels.
    """
    kernel, numbers = _kernel(_blocks_dropped, x.dtype, block_size, channels_last), _numbers(lane, rate)
    return _symmetric(lambda x: kernel(x, state, numbers), x)


def shake(x: tf.Tensor, state: tf.Tensor, lane: tf.Tensor, rate: float | tf.Tensor) -> tf.Tensor:
    """Multiplies `x` by Gaussian noise of mean 1 and variance rate/(1-rate), see `drop`.

    Srivastava et al. 2014, section 10.
    """
    kernel, numbers = _kernel(_shaken, x.dtype), _numbers(lane, rate)
    return _symmetric(lambda x: kernel(x, state, numbers), x)


def _in_step(x):
    """Returns whether `x` is in the graph of a step; functions inside it may be called from elsewhere."""
    examples, _ = _step.get() or (None, None)
    return tf.is_symbolic_tensor(examples) and tf.is_symbolic_tensor(x) and x.graph is examples.graph


def _numbers(lane, rate):
    # One tensor, since each argument of a compiled call costs about two microseconds.
    return tf.stack([lane, chance_of(rate)])


def _symmetric(multiplied, x):
    """Returns `multiplied(x)`, a product with factors independent of `x`, so its gradient is the same function."""

    @tf.custom_gradient
    def applied(x):
        return _shaped(multiplied(x), x), lambda upstream: _symmetric(multiplied, upstream)

    return applied(x)


def _relu_and_drop(x, state, numbers, noise_shape):
    """Returns `drop` of the ReLU of `x`. The gradient passes, scaled, where the output is above 0."""

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
    """Returns the factors of `drop` before `x` is known; None if their number is unknown or above `AHEAD`.

    They are drawn for the largest step, and the first ones are used. Those equal the ones that would be
    drawn for the actual number of examples.
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
    return factors[:examples] if any_batch else factors


def _scaled(x, factor):
    """Returns `x` times `factor` in the type of `x`, computed in 32 bits or more, since 16 would round the factor."""
    wide = tf.cast(x, tf.float32) if x.dtype.size < 4 else x
    return tf.cast(wide * tf.cast(factor, wide.dtype), x.dtype)


def _shaped(y, like):
    y.set_shape(like.shape)
    return y


@functools.cache
def _kernel(function, dtype, *options):
    """Compiles `function` with XLA for tensors of `dtype`, in one trace for all ranks and sizes."""

    def run(x, state, numbers):
        seed, count = tf.unstack(tf.cast(state, tf.int32))
        return function(x, counter.keys(seed, count, numbers[0]), numbers[1], *options)

    return _compiled(run, tf.TensorSpec(None, dtype), tf.TensorSpec((2,), tf.int64), tf.TensorSpec((2,), tf.int32))


def _compiled(function, *signature):
    compiled = tf.function(function, input_signature=signature, jit_compile=True, autograph=False)
    return compiled.get_concrete_function()


def chance_of(rate: float | tf.Tensor) -> tf.Tensor:
    """Returns the word, int32, below which a unit is dropped; see `zoo.dropout.counter.threshold`."""
    if not tf.is_tensor(rate):
        return tf.constant(counter.threshold(rate), tf.int32)
    if rate.dtype == tf.int32:  # a word already
        return tf.convert_to_tensor(rate)
    words = tf.clip_by_value(tf.round(tf.cast(rate, tf.float64) * 2.0**32), 0.0, 2.0**32 - 1)
    return tf.cast(words - 2.0**31, tf.int32)


def _rate(chance):
    """Returns the rate, float64, of a word."""
    return (tf.cast(chance, tf.float64) + 2.0**31) / 2.0**32


def _scale(chance):
    """Returns the inverse of the share kept, float64."""
    return 1 / (1 - _rate(chance))


# === Compiled functions ===


def _words(first, second, size):
    """Returns `counter.words`, with the indices computed in the loop instead of read from memory.

    TensorFlow folds a range of known size into a constant of up to 10 MiB. So the words are cut from a
    larger range, the rest of which is never computed.
    """
    places = tf.range(tf.maximum(size, NEVER_FOLDED))
    return counter.mixed((places * counter.STEP + first)[:size], second, _shifted)


def _shifted(h, k):
    """Shifts `h` right by `k` bits, filling with zeros: one instruction, which LiteRT lacks."""
    return tf.bitcast(tf.bitwise.right_shift(tf.bitcast(h, tf.uint32), tf.constant(k, tf.uint32)), h.dtype)


def _dropped(x, key, chance, noise_shape):
    shape, scale = tf.shape(x), _scale(chance)
    if noise_shape is None:  # as one row, since rows of a few elements do not fill a vector register
        row = tf.reshape(x, [-1])
        return tf.reshape(_kept_or_0(row, _words(*key, tf.size(x)) >= chance, scale), shape)
    units = tf.stack([shape[i] if n is None else n for i, n in enumerate(noise_shape)])
    return _kept_or_0(x, tf.reshape(_words(*key, tf.reduce_prod(units)) >= chance, units), scale)


def _relu_dropped(x, key, chance, noise_shape):
    return _dropped(tf.nn.relu(x), key, chance, noise_shape)


def _factors(units, key, chance, dtype):
    """Returns the factors of `_dropped`, one per unit; `units` is their shape."""
    kept = tf.reshape(_words(*key, tf.reduce_prod(units)) >= chance, units)
    return tf.where(kept, tf.cast(_scale(chance), dtype), tf.zeros((), dtype))


def _kept_or_0(x, kept, scale):
    return tf.where(kept, _scaled(x, scale), tf.zeros((), x.dtype))


def _shaken(x, key, chance):
    size, rate = tf.size(x), _rate(chance)
    # Swapped and inverted keys give independent words for the angle.
    noise = counter.gauss(_words(key[0], key[1], size), _words(key[1], ~key[0], size))
    return _scaled(x, 1 + tf.cast(tf.sqrt(rate / (1 - rate)), tf.float32) * tf.reshape(noise, tf.shape(x)))


def _blocks_dropped(x, key, chance, block_size, channels_last):
    corners, rate = drop_block.corners(tf.shape(x), _rate(chance), block_size, channels_last)
    started = tf.reshape(_words(*key, tf.reduce_prod(corners)) < chance_of(rate), corners)
    return _scaled(x, drop_block.factors(started, tf.shape(x), block_size, channels_last))
