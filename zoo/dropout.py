"""The layers that draw masks: the one place that knows how.

Everything else asks for a kind, a rate and a seed. All layers here are Keras' own,
so that a saved model opens in plain Keras.
"""

import keras

from zoo.seeds import seed_for


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
    """Whether a layer draws masks or multiplicative noise, ours or anybody's."""
    return isinstance(
        layer,
        keras.layers.Dropout
        | keras.layers.SpatialDropout1D
        | keras.layers.SpatialDropout2D
        | keras.layers.SpatialDropout3D
        | keras.layers.GaussianDropout
        | keras.layers.AlphaDropout,
    )


def kind_of(layer):
    """The kind of a mask layer, read from the layer itself."""
    if isinstance(layer, keras.layers.SpatialDropout1D | keras.layers.SpatialDropout2D):
        return "spatial"
    if isinstance(layer, keras.layers.GaussianDropout):
        return "gaussian"
    shape = getattr(layer, "noise_shape", None)
    return "drop_path" if shape and all(size == 1 for size in shape[1:]) else "dropout"
