"""A convolutional network: blocks of 3x3 convolutions with pooling, then a fully-connected head.

The layout follows VGG (Simonyan & Zisserman 2015, section 2.1). VGG applies dropout of 0.5 after the
fully-connected layers, the site `hidden`.
"""

from typing import TYPE_CHECKING

import keras
from keras import layers

from zoo.errors import BadInput

if TYPE_CHECKING:
    from zoo.models.configs import CNN
    from zoo.models.sites import Sites


def build(config: "CNN", inputs: keras.KerasTensor, classes: int, drop: "Sites") -> keras.Model:
    """Builds the network.

    Args:
        config: filters, convolutions per block, and widths of the head.
        inputs: images `(batch, height, width, channels)`, raw pixels, 0 to 255.
        classes: number of classes.
        drop: applies the placement, as in `x = drop("conv", x)`.

    Returns:
        A model with logits `(batch, classes)`.

    Raises:
        BadInput: the images are too small to be halved once per block.
    """
    smallest = 2 ** len(config.filters)
    if min(inputs.shape[1:3]) < smallest:
        raise BadInput(
            f"images must be at least {smallest}x{smallest} pixels for cnn with {len(config.filters)} blocks, "
            f"got {inputs.shape[1]}x{inputs.shape[2]}; use fewer blocks, as in filters=(32,)"
        )
    x = layers.Rescaling(1 / 255, name="pixels")(inputs)
    x = drop("input", x)
    for b, filters in enumerate(config.filters, start=1):
        for c in range(1, config.convolutions):
            x = drop("conv", _convolution(x, filters, f"conv_{b}_{c}"))
        x = _convolution(x, filters, f"conv_{b}_{config.convolutions}")
        pool = layers.MaxPooling2D(data_format="channels_last", name=f"pool_{b}")
        # Masks of whole feature maps commute with pooling, and cost a quarter on the smaller map.
        x = drop("conv", pool(x)) if drop.whole_maps("conv") else pool(drop("conv", x))
    x = layers.Flatten("channels_last", name="flatten")(x)
    x = drop("features", x)
    for i, width in enumerate(config.hidden, start=1):
        x = layers.Dense(width, activation="relu", kernel_initializer="he_normal", name=f"hidden_{i}")(x)
        x = drop("hidden", x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="cnn")


def _convolution(x, filters, name):
    return layers.Conv2D(
        filters,
        3,
        padding="same",
        data_format="channels_last",
        activation="relu",
        kernel_initializer="he_normal",
        name=name,
    )(x)
