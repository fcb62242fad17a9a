"""Networks that a claim needs and the zoo has not: a residual network with pre-activation blocks.

In such a block each BatchNorm comes before its convolution (He et al. 2016, arXiv 1603.05027), so that there is
a place after the last BatchNorm of the branch and before its last weight layer.
"""

import keras
from keras import layers

FILTERS, RATE = (4, 8, 16), 0.3


def plain(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns the network without dropout."""
    return _build(input_shape, classes)


def inside(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns the network with masks after the last BatchNorm of each branch and before its last weight layer."""
    return _build(input_shape, classes, "inside")


def branch(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns the network with masks at the end of each branch, before the sum."""
    return _build(input_shape, classes, "branch")


def before_pool(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns the network with a mask before global pooling."""
    return _build(input_shape, classes, "before_pool")


def after_pool(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns the network with a mask after global pooling."""
    return _build(input_shape, classes, "after_pool")


def _build(input_shape, classes, where=""):
    def mask(place, x, name):
        return layers.Dropout(RATE, name=f"drop_{name}")(x) if place == where else x

    inputs = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255, name="pixels")(inputs)
    x = _convolution(FILTERS[0], "stem")(x)
    for stage, filters in enumerate(FILTERS, start=1):
        name, strides = f"stage_{stage}", 2 if stage > 1 else 1
        y = _normed(x, f"{name}_a")
        short = x if stage == 1 else _convolution(filters, f"{name}_shortcut", strides, 1)(y)
        y = _convolution(filters, f"{name}_a", strides)(y)
        y = mask("inside", _normed(y, f"{name}_b"), f"{name}_inside")
        y = _convolution(filters, f"{name}_b")(y)
        x = layers.Add(name=f"{name}_add")([short, mask("branch", y, f"{name}_branch")])
    x = mask("before_pool", _normed(x, "last"), "before_pool")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = mask("after_pool", x, "after_pool")
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x), name="preactivation")


def _convolution(filters, name, strides=1, size=3):
    return layers.Conv2D(
        filters, size, strides, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )


def _normed(x, name):
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
