"""A residual network with batch normalisation (He et al. 2016, section 4.2).

Inside a block dropout stands after the activation and before the next convolution, the
site `conv` (Zagoruyko & Komodakis 2016); on the branch, after its last normalisation,
the site `branch` (Huang et al. 2016). Both feed a later BatchNorm, whose stored variance
then fits training but not inference (Li et al. 2019); `features`, behind the last
BatchNorm, is free of that, and is the default.
"""

import keras
from keras import layers


def build(config, inputs, classes, drop):
    """Image `(batch, height, width, channels)`, raw pixels 0..255, to logits `(batch, classes)`.

    `config` is an `architectures.ResNet`; `drop(site, x)` applies the placement.
    """
    x = layers.Rescaling(1 / 255, name="pixels")(inputs)
    x = drop("input", x)
    x = _convolution(x, config.filters[0], "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for s, (filters, blocks) in enumerate(zip(config.filters, config.blocks, strict=True), start=1):
        for b in range(1, blocks + 1):
            # Every stage but the first begins by halving the feature map.
            strides = 2 if s > 1 and b == 1 else 1
            x = _residual_block(x, filters, strides, drop, name=f"stage_{s}_{b}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
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
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
