"""Rows of a table: the layer that brings each feature to mean 0 and variance 1."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

LAYER = "normalization"  # name of the layer in a model of `zoo.build` over rows


def standardise(model: "keras.Model", x: np.ndarray) -> "keras.Model":
    """Sets the mean and variance of the layer `normalization` to those of the training examples.

    Unlike `Normalization.adapt`, it leaves the scale of a feature that never varies as it is: divided by its
    standard deviation of 0, any other value in later data would be huge.

    Args:
        model: a model of `zoo.build` over rows.
        x: training examples `(n, features)`.

    Returns:
        The same model.

    Examples:
        >>> from zoo.models.catalogue import build
        >>> model = standardise(build("mlp", (2,), 2, hidden=(4,)), np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> np.asarray(model.get_layer("normalization")(np.array([[3.0, 6.0]]))).tolist()
        [[1.0, 1.0]]
    """
    layer = model.get_layer(LAYER)
    mean, variance = x.mean(axis=0, dtype=np.float64), x.var(axis=0, dtype=np.float64)
    layer.adapt_mean.assign(mean.astype(np.float32))
    layer.adapt_variance.assign(np.where(variance > 0, variance, 1.0).astype(np.float32))
    layer.finalize_state()  # computes what the layer uses from the two
    return model
