"""The layers that draw masks, and their two sources of masks: the one place that knows how.

Everything else asks for a kind, a rate and a seed. All layers here are Keras' own,
so that a saved model opens in plain Keras. In training they draw from Keras'
generators; `masked` does the same to a tensor from a counter (`zoo.counter`), for
Monte-Carlo passes and exports.
"""

import math

import keras
from keras import ops

from zoo import counter
from zoo.seeds import seed_for

_SPATIAL = (keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D)
_STOCK = (
    keras.layers.Dropout,
    *_SPATIAL,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.AlphaDropout,
)


def mask_layer(kind, rate, *, rank, name, seed):
    """A stock Keras layer that drops with probability `rate`, in training alone.

    `rank` is that of its input, the batch axis counted: `(batch, height, width,
    channels)` is 4. The masks depend on the model's `seed` and on `name`, never on
    the global seed or on other layers.

    Raises ValueError for a kind that is not one of `zoo.placement.KINDS`.
    """
    seed = seed_for(seed, name)
    if kind == "dropout":
        return keras.layers.Dropout(rate, seed=seed, name=name)
    if kind == "spatial":
        layer = {3: keras.layers.SpatialDropout1D, 4: keras.layers.SpatialDropout2D}[rank]
        return layer(rate, seed=seed, name=name)
    if kind == "drop_path":
        # Stochastic depth: one coin per example (Huang et al. 2016).
        return keras.layers.Dropout(rate, noise_shape=(None,) + (1,) * (rank - 1), seed=seed, name=name)
    if kind == "gaussian":
        return keras.layers.GaussianDropout(rate, seed=seed, name=name)
    raise ValueError(f"received kind {kind!r}")


def scale_layer(rate, *, name):
    """Turns the inverted layer before it into the original formulation.

    Inverted dropout gives x/(1-rate) in training and x at inference; times 1-rate that
    is x and (1-rate)x, which is what Srivastava et al. 2014 (section 4) describe.
    """
    return keras.layers.Rescaling(1.0 - rate, name=name)


def is_mask(layer):
    """Whether a layer does nothing but draw masks or noise: Keras' own, ours or anybody's."""
    return isinstance(layer, _STOCK) and any(type(layer).call is stock.call for stock in _STOCK)


def strength(layer):
    """The rate of a mask layer, or the standard deviation of one that adds noise; 0 if it does nothing."""
    return layer.stddev if isinstance(layer, keras.layers.GaussianNoise) else layer.rate


def kind_of(layer):
    """The kind of a mask layer, read from the layer itself."""
    if isinstance(layer, _SPATIAL):
        return "spatial"
    if isinstance(layer, keras.layers.GaussianDropout):
        return "gaussian"
    if isinstance(layer, keras.layers.AlphaDropout | keras.layers.GaussianNoise):
        return type(layer).__name__
    shape = getattr(layer, "noise_shape", None)
    return "drop_path" if shape and all(size == 1 for size in shape[1:]) else "dropout"


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
    noise = _noise_shape(layer, (batch, *shape[1:]))
    size = math.prod(noise) if all(isinstance(n, int) for n in noise) else ops.prod(ops.stack(noise))
    drawn = _drawn(layer, x.dtype, seeds, salt, size)
    if samples == 1:
        return _applied(layer, x, ops.reshape(drawn, noise), rescale)
    apart = ops.reshape(x, (-1, batch, *shape[1:]))
    return ops.reshape(_applied(layer, apart, ops.reshape(drawn, (-1, *noise)), rescale), shape)


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


def _noise_shape(layer, shape):
    """The shape of the mask for one batch of `shape`: 1 where one draw counts for a whole axis."""
    if isinstance(layer, _SPATIAL):
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else len(shape) - 1
        return tuple(n if i in (0, axis) else 1 for i, n in enumerate(shape))
    given = getattr(layer, "noise_shape", None) or (None,) * len(shape)
    return tuple(n if wish is None else wish for wish, n in zip(given, shape, strict=True))
