"""What a layer draws from an explicit seed: the law of the stock layer, and a gradient that is the mask."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from zoo.dropout import counter, seeded
from zoo.dropout.layers import DropBlock2D
from zoo.errors import BadInput


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("rescale", [True, False])
def test_masks_and_their_gradient_are_0_or_one_factor(rate, rescale):
    layer, x = layers.Dropout(rate), tf.random.stateless_uniform((50, 40), (1, 2), 0.5, 1.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = seeded.masked(layer, x, tf.constant([3]), 17, rescale)
    kept = np.asarray(counter.kept(np.array([3], "int32"), 17, x.shape.num_elements(), rate)).reshape(x.shape)
    factor = kept * np.float32(1 / (1 - rate) if rescale else 1)
    np.testing.assert_array_equal(y, x * factor)
    np.testing.assert_array_equal(tape.gradient(y, x), factor)


STOCK = {  # a layer, the shape of its input, and the elements that it draws for, the others being copies
    "dropout": (layers.Dropout(0.3), (500, 200), np.s_[:]),
    "noise shape": (layers.Dropout(0.3, noise_shape=(None, 1, 40)), (500, 2, 40), np.s_[:, :1]),
    "spatial 1d": (layers.SpatialDropout1D(0.3), (500, 2, 40), np.s_[:, :1]),
    "spatial 2d": (layers.SpatialDropout2D(0.3), (500, 2, 3, 40), np.s_[:, :1, :1]),
    "spatial 2d first": (layers.SpatialDropout2D(0.3, "channels_first"), (500, 40, 2, 3), np.s_[:, :, :1, :1]),
    "spatial 3d": (layers.SpatialDropout3D(0.3), (500, 2, 1, 2, 40), np.s_[:, :1, :1, :1]),
    "spatial 3d first": (layers.SpatialDropout3D(0.3, "channels_first"), (500, 40, 2, 1, 2), np.s_[:, :, :1, :1, :1]),
    "gaussian": (layers.GaussianDropout(0.3), (500, 200), np.s_[:]),
    "noise": (layers.GaussianNoise(0.3), (500, 200), np.s_[:]),
    "alpha": (layers.AlphaDropout(0.3), (500, 200), np.s_[:]),
    "alpha noise shape": (layers.AlphaDropout(0.3, noise_shape=(None, 1, 40)), (500, 2, 40), np.s_[:, :1]),
}


@pytest.mark.parametrize("name", STOCK)
def test_a_mask_has_the_law_of_the_stock_layer(name):
    layer, shape, drawn = STOCK[name]
    keras.utils.set_random_seed(1)
    x = tf.ones(shape)
    both = [np.asarray(y, "float64") for y in (layer(x, training=True), seeded.masked(layer, x, tf.constant([5]), 23))]
    assert all((y == y[drawn]).all() for y in both)
    one, other = (y[drawn] for y in both)
    assert distance(one, other) < 4  # in means; error rate 1 in 16,000
    assert distance((one - one.mean()) ** 2, (other - one.mean()) ** 2) < 4  # in variances; the same error rate
    if not isinstance(layer, layers.GaussianDropout | layers.GaussianNoise):
        np.testing.assert_allclose(np.unique(one), np.unique(other), rtol=1e-5)


def distance(a, b):
    """That of the means of two samples, in standard errors."""
    return abs(a.mean() - b.mean()) / np.sqrt(a.var() / a.size + b.var() / b.size)


@pytest.mark.parametrize("layer", [layers.Dropout(0.3), layers.GaussianNoise(0.3), layers.SpatialDropout1D(0.3)])
def test_integers_are_refused(layer):
    with pytest.raises(BadInput, match="must be floating in training"):
        seeded.masked(layer, tf.ones((2, 3, 4), tf.int32), tf.constant([3]), 17)


@pytest.mark.parametrize("shared", [False, True])
def test_blocks_are_those_of_each_sample_alone(shared):
    layer, x = DropBlock2D(0.2, 3), tf.random.stateless_uniform((3 * 4, 9, 8, 2), (1, 2), 0.5, 1.0)
    seeds = [3, -5, 2**31 - 1]
    together = np.asarray(seeded.masked(layer, x, tf.constant(seeds), 17, rescale=False, shared=shared))
    for sample, seed in enumerate(seeds):
        rows = slice(4 * sample, 4 * sample + 4)
        alone = np.asarray(seeded.masked(layer, x[rows], tf.constant([seed]), 17, rescale=False, shared=shared))
        np.testing.assert_array_equal(together[rows], alone)
        kept = alone != 0
        np.testing.assert_array_equal(alone, kept * np.asarray(x[rows]))
        assert 0.5 < kept.mean() < 0.95
        assert (kept == kept[:1]).all() == shared
