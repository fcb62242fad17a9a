"""A residual network with batch normalization (He et al. 2016, section 4.2).

The site `conv` is inside a block, after the activation and before the next convolution (Zagoruyko &
Komodakis 2016). The site `branch` is at the end of the residual branch, after its last normalization
(Huang et al. 2016). Both feed a later BatchNorm, whose stored variance then matches training but not
inference (Li et al. 2019). The default site, `features`, comes after the last BatchNorm.
"""

from typing import TYPE_CHECKING

import keras
from keras import layers

if TYPE_CHECKING:
    from zoo.models.configs import ResNet
    from zoo.models.sites import Sites


def build(config: "ResNet", inputs: keras.KerasTensor, classes: int, drop: "Sites") -> keras.Model:
    """Builds the network.

    Args:
        config: filters and number of blocks of each stage.
        inputs: images `(batch, height, width, channels)`, raw pixels, 0 to 255.
        classes: number of classes.
        drop: applies the placement, as in `x = drop("branch", x)`.

    Returns:
        A model with logits `(batch, classes)`.
    """
    x = layers.Rescaling(1 / 255, name="pixels")(inputs)
    x = drop("input", x)
    x = _convolution(x, config.filters[0], "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for s, (filters, blocks) in enumerate(zip(config.filters, config.blocks, strict=True), start=1):
        for b in range(1, blocks + 1):
            # Every stage except the first halves the feature map.
            strides = 2 if s > 1 and b == 1 else 1
            x = _residual_block(x, filters, strides, drop, name=f"stage_{s}_{b}")
    x = layers.GlobalAveragePooling2D("channels_last", name="pool")(x)
    x = drop("features", x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="resnet")


def _residual_block(x, filters, strides, drop, name):
    branch = _convolution(x, filters, f"{name}_a", strides)
    branch = layers.ReLU(name=f"{name}_a_relu")(branch)
    branch = drop("conv", branch)
    branch = _convolution(branch, filters, f"{name}_b")
    branch = drop("branch", branch)
    if strides > 1 or x.shape[-1] != filters:
        x = _convolution(x, filters, f"{name}_shortcut", strides, size=1)  # projection shortcut
    x = layers.Add(name=f"{name}_add")([x, branch])
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolution(x, filters, name, strides=1, size=3):
    x = layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        data_format="channels_last",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
