"""Other implementations of dropout that did not help enough, each in place of `zoo.dropout.kernels.drop`.

`lanes` are the parts into which a random 32-bit word is cut; `where` and `product` are the
two ways to apply a boolean mask. The last two implementations drop nothing: they show the
price if drawing were free, with a program compiled by XLA and with TensorFlow's product.
The current implementation fuses a mask after a ReLU with the ReLU, and so do those called
`joined`; compare the others with `NOT_JOINED`. Lanes and XLA programs are for element-wise masks.
"""

import contextlib
import random
import statistics
from collections.abc import Sequence

from zoo import startup

startup.tensorflow()

import tensorflow as tf  # noqa: E402 - behind the quiet start

from benchmarks import price  # noqa: E402
from zoo.dropout import counter, kernels  # noqa: E402

MODELS = ("mlp", "resnet", "transformer")
ROUNDS = 31
SECONDS = 0.1  # about the length of a measurement
NOT_JOINED = "not joined, drawn in the product"
_USED = kernels.drop


def attempts(models: Sequence[str] = MODELS, rounds: int = ROUNDS) -> dict:
    """Returns rows by model, way and xla: the median ratio of the step time to that without dropout.

    In steps that XLA compiles as a whole, only the fusion with a ReLU is measured.
    """
    rows = [row for model in models for row in _compared(model, False, WAYS, rounds)]
    rows += [row for model in models for row in _compared(model, True, {NOT_JOINED: _apart}, rounds)]
    return {"what": "step time against no dropout, batch 128, ways of drawing and applying masks", "rows": rows}


def _compared(model, xla, ways, rounds):
    runs = {"none": price.stepper(model, {}, "ours", xla)}
    try:
        for name, way in {"ours": _USED, **ways}.items():
            kernels.drop = way
            runs[name] = price.stepper(model, price.PLACEMENTS[model], "ours", xla)
    finally:
        kernels.drop = _USED
    for run in runs.values():
        run(2)
    steps = max(1, round(SECONDS / (price.seconds_of(runs["none"], 4) / 4)))
    orders = [random.Random(round_).sample(list(runs), len(runs)) for round_ in range(rounds)]
    seconds = [{name: price.warm_seconds_of(runs[name], steps) for name in order} for order in orders]
    for name in ("ours", *ways):
        low, ratio, high = statistics.quantiles([each[name] / each["none"] for each in seconds], n=4)
        yield {"model": model, "way": name, "xla": xla, "ratio": ratio, "low": low, "high": high}


def _lanes(bits, apply):
    lane = {8: tf.uint8, 16: tf.uint16, 32: tf.uint32}[bits]

    def drop(x, state, lane_, rate, noise_shape=None):
        shape = tf.shape(x)
        words = tf.reduce_prod(shape) * bits // 32
        drawn = tf.random.stateless_uniform([words], tf.cast(state, tf.int32), None, None, tf.uint32, alg="philox")
        drawn = drawn if bits == 32 else tf.bitcast(drawn, lane)
        below = round(rate * 2**bits)
        mask, scale = tf.reshape(drawn, shape) >= tf.constant(below, lane), 1 / (1 - below / 2**bits)

        @tf.custom_gradient
        def applied(x):
            return apply(x, mask, scale), lambda upstream: apply(upstream, mask, scale)

        return applied(x)

    return drop


def _where(x, mask, scale):
    return tf.where(mask, x * scale, tf.zeros((), x.dtype))


def _product(x, mask, scale):
    return x * (tf.cast(mask, x.dtype) * scale)


def _compiled(masks):
    """`zoo.dropout.kernels.drop` for single values, its masks drawn by `masks(first key, second key, size, rate)`."""

    @tf.function(jit_compile=True, autograph=False)
    def run(x, state, rate):
        seed, count = tf.unstack(tf.cast(state, tf.int32))
        row = tf.reshape(x, [-1])
        kept = masks(*counter.keys(seed, count), tf.size(x), rate)
        return tf.reshape(tf.where(kept, row * (1 / (1 - rate)), 0.0), tf.shape(x))

    def drop(x, state, lane, rate, noise_shape=None):
        @tf.custom_gradient
        def applied(x):
            return run(x, state, rate), lambda upstream: run(upstream, state, rate)

        return applied(x)

    return drop


def _byte_masks(first, second, size, rate):
    lanes = tf.reshape(tf.bitcast(counter.words(first, second, size // 4), tf.uint8), [-1])
    return lanes >= tf.constant(round(rate * 256), tf.uint8)


def _read_masks(first, second, size, rate):
    return counter.words(first, second, size) >= counter.threshold(rate)


def _apart(x, state, lane, rate, noise_shape=None):
    return _USED(tf.identity(x), state, lane, rate, noise_shape)  # no longer the ReLU's own output


@contextlib.contextmanager
def _ahead(most):
    """A context in which up to `most` factors are drawn ahead."""
    usual, kernels.AHEAD = kernels.AHEAD, most
    try:
        yield
    finally:
        kernels.AHEAD = usual


def _with_the_tensor(x, state, lane, rate, noise_shape=None):
    with _ahead(0):
        return _USED(x, state, lane, rate, noise_shape)


def _always_ahead(x, state, lane, rate, noise_shape=None):
    with _ahead(2**62):
        if x.op.type == "Relu":
            return _USED(x, state, lane, rate, noise_shape)
        factors = kernels._drawn_ahead(x, state, kernels._numbers(lane, rate), noise_shape)
        return kernels._symmetric(lambda x: x * factors, x)


def _xla_product(x, state, lane, rate, noise_shape=None):
    @tf.custom_gradient
    def applied(x):
        return _times(x), _times

    return applied(x)


@tf.function(jit_compile=True, autograph=False)
def _times(x):
    return x * 1.0001


WAYS = {
    "8-bit lanes, where": _lanes(8, _where),
    "8-bit lanes, product": _lanes(8, _product),
    "16-bit lanes, product": _lanes(16, _product),
    "32-bit words, where": _lanes(32, _where),
    "8-bit lanes by XLA": _compiled(_byte_masks),
    "places read from a constant, by XLA": _compiled(_read_masks),
    NOT_JOINED: _apart,
    "joined, drawn in the product": _with_the_tensor,
    "joined, all drawn ahead, of any size, and kept for the gradient": _always_ahead,
    "a product by XLA, nothing drawn": _xla_product,
    "a product, nothing drawn": lambda x, state, lane, rate, noise_shape=None: x * 1.0001,
}
