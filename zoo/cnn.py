"""A classical CNN: blocks of small convolutions, pooling, and a wide fully-connected head.

The manner is that of Simonyan & Zisserman 2015 (VGG), section 2.1; they put dropout
0.5 after the first fully-connected layers, the site `hidden`.
"""

import keras
from keras import layers

from zoo.errors import BadInput


def build(config, inputs, classes, drop):
    """Image `(batch, height, width, channels)`, raw pixels 0..255, to logits `(batch, classes)`.

    `config` is an `architectures.CNN`; `drop(site, x)` applies the placement.
    Raises `BadInput` if the image is too small for that many poolings.
    """
    smallest = 2 ** len(config.filters)
    if min(inputs.shape[1:3]) < smallest:
        raise BadInput(
            f"received images of {inputs.shape[1]}x{inputs.shape[2]}; cnn with {len(config.filters)} blocks "
            f"halves them that often and needs at least {smallest}x{smallest}; set fewer filters"
        )
    x = layers.Rescaling(1 / 255, name="pixels")(inputs)
    x = drop("input", x)
    for b, filters in enumerate(config.filters, start=1):
        for c in range(1, config.convolutions):
            x = drop("conv", _convolution(x, filters, f"conv_{b}_{c}"))
        x = _convolution(x, filters, f"conv_{b}_{config.convolutions}")
        pool = layers.MaxPooling2D(name=f"pool_{b}")
        # Scaling whole maps and pooling them commute: behind the pooling the same mask costs a quarter.
        x = drop("conv", pool(x)) if drop.whole_maps("conv") else pool(drop("conv", x))
    x = layers.Flatten(name="flatten")(x)
    x = drop("features", x)
    for i, width in enumerate(config.hidden, start=1):
        x = layers.Dense(width, activation="relu", kernel_initializer="he_normal", name=f"hidden_{i}")(x)
        x = drop("hidden", x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="cnn")


def _convolution(x, filters, name):
    return layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=name)(x)
