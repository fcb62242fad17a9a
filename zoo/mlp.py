"""The multi-layer perceptron of Srivastava et al. 2014, section 6.1: where dropout began."""

import keras
from keras import layers


def build(config, inputs, classes, drop):
    """Image `(batch, height, width, channels)`, raw pixels 0..255, to logits `(batch, classes)`.

    `config` is an `architectures.MLP`; `drop(site, x)` applies the placement.
    """
    x = layers.Rescaling(1 / 255, name="pixels")(inputs)
    x = drop("input", x)
    x = layers.Flatten(name="flatten")(x)
    for i, width in enumerate(config.hidden, start=1):
        x = layers.Dense(width, activation="relu", kernel_initializer="he_normal", name=f"hidden_{i}")(x)
        x = drop("hidden", x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="mlp")
