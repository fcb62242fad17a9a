"""Other ways to drop values, which did not help: each in the place of `zoo.kernels.drop`, in one run.

`lanes` are what the random bits of a 32-bit word are cut into; `where` and `product` are
how a kept boolean mask is applied. The last two drop nothing: they are what is left of
the price if drawing were free, in a program of its own by XLA and as TensorFlow's product.
"""

import statistics

import tensorflow as tf

from benchmarks import price
from zoo import kernels

MODELS = ("mlp", "transformer")
ROUNDS = 25


def attempts(models=MODELS, rounds=ROUNDS):
    """Rows of model, way: the median ratio of its step time to that without dropout."""
    kept, rows = kernels.drop, []
    for model in models:
        runs = {"none": price.stepper(model, {}, "ours", False)}
        try:
            for name, way in {"ours": kept, **WAYS}.items():
                kernels.drop = way
                runs[name] = price.stepper(model, price.PLACEMENTS[model], "ours", False)
                runs[name](2)  # traced while the way is in its place
        finally:
            kernels.drop = kept
        runs["none"](2)
        steps = max(1, round(0.1 / (price.seconds_of(runs["none"], 4) / 4)))
        seconds = [{name: price.seconds_of(run, steps) for name, run in runs.items()} for _ in range(rounds)]
        for name in runs.keys() - {"none"}:
            ratios = [each[name] / each["none"] for each in seconds]
            low, middle, high = statistics.quantiles(ratios, n=4)
            rows.append({"model": model, "way": name, "ratio": middle, "low": low, "high": high})
    return {"what": "step time against no dropout, batch 128, ways of drawing and applying masks", "rows": rows}


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
    "a product by XLA, nothing drawn": _xla_product,
    "a product, nothing drawn": lambda x, state, lane, rate, noise_shape=None: x * 1.0001,
}
