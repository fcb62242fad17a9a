"""The multi-layer perceptron of Srivastava et al. 2014, section 6.1, over pixels or the features of a table."""

from typing import TYPE_CHECKING

import keras
from keras import layers

from zoo.models import rows

if TYPE_CHECKING:
    from zoo.models.configs import MLP
    from zoo.models.sites import Sites


def build(config: "MLP", inputs: keras.KerasTensor, classes: int, drop: "Sites") -> keras.Model:
    """Builds the network.

    Args:
        config: widths of the hidden layers.
        inputs: images `(batch, height, width, channels)`, raw pixels, 0 to 255; or rows `(batch, features)`,
            which a layer brings to mean 0 and variance 1 (`zoo.models.rows`).
        classes: number of classes.
        drop: applies the placement, as in `x = drop("hidden", x)`.

    Returns:
        A model with logits `(batch, classes)`.
    """
    if len(inputs.shape) == 2:
        x = drop("input", layers.Normalization(name=rows.LAYER)(inputs))
    else:
        x = drop("input", layers.Rescaling(1 / 255, name="pixels")(inputs))
        x = layers.Flatten("channels_last", name="flatten")(x)
    for i, width in enumerate(config.hidden, start=1):
        x = layers.Dense(width, activation="relu", kernel_initializer="he_normal", name=f"hidden_{i}")(x)
        x = drop("hidden", x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="mlp")
