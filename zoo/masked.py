"""What a mask layer does, drawn from an explicit seed by operations that every runtime has.

For Monte-Carlo passes and exports. The mask layers themselves, which move a generator
along and are compiled by XLA, are in `zoo.dropout`; these work for Keras' own as well.
"""

import math

import keras
from keras import ops

from zoo import blocks, counter, kernels
from zoo.dropout import DropBlock2D, noise_pattern, strength


def masked(layer, x, seeds, salt, rescale=True):
    """What the mask layer `layer` makes of `x` in training, its masks drawn from a counter.

    `x` holds one batch per seed, one after the other: `(samples * batch, ...)` for
    int32 `seeds` `(samples,)`. Every sample draws what it would draw alone. Without
    `rescale`, survivors are left as they are, which is what compensation is there for.
    """
    x = layer.dtype_policy.convert_input(x, layer.autocast, layer.input_dtype)  # as in any call of a layer
    if strength(layer) == 0:
        return x
    shape = ops.shape(x)
    samples = seeds.shape[0]
    batch = shape[0] if samples == 1 else shape[0] // ops.shape(seeds)[0]
    if isinstance(layer, DropBlock2D):
        return _without_blocks(layer, x, seeds, salt, (batch, *shape[1:]), rescale)
    noise = tuple(n if wish is None else wish for wish, n in zip(_pattern(layer, x), (batch, *shape[1:]), strict=True))
    drawn = _drawn(layer, x.dtype, seeds, salt, _product(noise))
    if samples == 1:
        return _applied(layer, x, ops.reshape(drawn, noise), rescale)
    apart = ops.reshape(x, (-1, batch, *shape[1:]))
    return ops.reshape(_applied(layer, apart, ops.reshape(drawn, (-1, *noise)), rescale), shape)


def _pattern(layer, x):
    return noise_pattern(layer) or (None,) * len(x.shape)


def _product(sizes):
    """A number of elements, as a number where all `sizes` are known."""
    return math.prod(sizes) if all(isinstance(n, int) for n in sizes) else ops.prod(ops.stack(sizes))


def _without_blocks(layer, x, seeds, salt, one_batch, rescale):
    last = layer.data_format == "channels_last"
    corners, rate = blocks.corners(ops.stack(one_batch), layer.rate, layer.block_size, last)
    begun = counter.bits(seeds, salt, ops.prod(corners)) < kernels.chance_of(rate)
    begun = ops.reshape(begun, (-1, *ops.unstack(corners, 4)[1:]))
    factors = blocks.factors(begun, ops.shape(x), layer.block_size, last)
    return x * ops.cast(factors if rescale else factors > 0, x.dtype)


def _drawn(layer, dtype, seeds, salt, size):
    if isinstance(layer, keras.layers.GaussianDropout | keras.layers.GaussianNoise):
        return ops.cast(counter.normal(seeds, salt, size), dtype)
    return counter.kept(seeds, salt, size, layer.rate)


def _applied(layer, x, drawn, rescale):
    """`x` under booleans (kept or not) or standard normal noise, broadcast to it."""
    if isinstance(layer, keras.layers.GaussianNoise):
        return x + drawn * layer.stddev
    if isinstance(layer, keras.layers.GaussianDropout):
        return x * (1 + drawn * math.sqrt(layer.rate / (1 - layer.rate)))
    if isinstance(layer, keras.layers.AlphaDropout):
        # Klambauer et al. 2017, section 3: dropped units go to the negative saturation of SELU.
        low = -1.6732632423543772 * 1.0507009873554805
        a = ((1 - layer.rate) * (1 + layer.rate * low**2)) ** -0.5
        return ops.where(drawn, x, low) * a - a * low * layer.rate
    # A product, not a choice: four times as fast in TensorFlow, and the same bits.
    return x * (ops.cast(drawn, x.dtype) * (1 / (1 - layer.rate) if rescale else 1.0))
