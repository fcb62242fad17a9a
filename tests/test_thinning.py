"""`zoo.thinned`: the network of one sample is a plain Keras model that computes what the sample computes."""

import zipfile

import keras
import numpy as np
import pytest
from graphs import batch, built, every_graph, stack
from keras import layers

import zoo
from zoo.errors import BadInput
from zoo.keras_graph import Graph, inside
from zoo.modes.modes import Caller, in_mode

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
REFUSED = ("shared_dropout", "nested_model_called_twice", "training_baked_in")
MASKS = ("Dropout", "Noise", "DropBlock")


def sample(model, x, seed):
    return np.asarray(keras.ops.cast(in_mode(model, "mc", "shared")(x, seed), "float32"))


def masks_of(model):
    kinds = (type(layer).__name__ for layer in inside(model) if getattr(layer, "rate", 1) or hasattr(layer, "stddev"))
    return [kind for kind in kinds if any(name in kind for name in MASKS)]


@every_graph
def test_the_thinned_network_is_the_sample(name):
    model, x = built(name)
    weights = [weight.numpy().copy() for weight in model.weights]
    if Caller(Graph(model).steps, "mc").opaque or name in REFUSED:
        with pytest.raises(BadInput, match=r"in its own code|called once|training=True"):
            zoo.thinned(model, 7)
        return
    network = zoo.thinned(model, 7)
    assert not masks_of(network)
    digits = {"mixed_float16": 1e-2, "mixed_bfloat16": 5e-2}.get(name, 1e-5)
    actual = np.asarray(keras.ops.cast(network(x), "float32"))
    np.testing.assert_allclose(actual, sample(model, x, 7), rtol=digits, atol=digits)
    assert not np.allclose(actual, sample(model, x, 8), rtol=digits, atol=digits)
    for before, after in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(before, after.numpy())


@pytest.mark.parametrize("seed", [0, -(2**31)])
def test_every_site_of_every_network_can_be_thinned_and_saved(small, seed, tmp_path):
    sites = {site: 0.4 for site in small.sites()}
    if "conv" in sites:
        sites["conv"] = zoo.Drop(0.3, "drop_block", block_size=2)
    if "branch" in sites:
        sites["branch"] = zoo.Drop(0.3, "drop_path")
    model, x = small.build(sites), small.batch(5)
    network = zoo.thinned(model, seed)
    np.testing.assert_allclose(network(x), sample(model, x, seed), rtol=1e-6, atol=2e-6)
    network.save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        assert "dropout_zoo" not in archive.read("config.json").decode()
    again = keras.saving.load_model(tmp_path / "a.keras", safe_mode=True)
    np.testing.assert_array_equal(again(x), network(x))


def test_masks_go_into_the_weights_that_follow_them():
    model = stack(
        (6, 6, 2),
        layers.Conv2D(8, 3, activation="relu"),
        layers.SpatialDropout2D(0.5),
        layers.Conv2D(4, 3, activation="gelu"),
        layers.Dropout(0.4),
        layers.Flatten(),
        layers.Dense(9, "tanh"),
        layers.Dropout(0.5),
        layers.Dense(3),
    )
    network = zoo.thinned(model, 3)
    kinds = [type(layer).__name__ for layer in network.layers if not isinstance(layer, layers.InputLayer)]
    assert kinds == ["Conv2D", "Conv2D", "Flatten", "Dense", "Dense"]
    x = batch(model)
    np.testing.assert_allclose(network(x), sample(model, x, 3), rtol=1e-5, atol=1e-6)
    kernel = network.layers[-1].kernel.numpy()
    dropped = (kernel == 0).all(axis=1)
    assert 0 < dropped.sum() < 9
    np.testing.assert_array_equal(kernel[~dropped], 2 * model.layers[-1].kernel.numpy()[~dropped])


def test_a_mask_that_several_layers_read_keeps_a_layer_of_its_own_and_the_bits():
    x = keras.Input((12,))
    masked = layers.Dropout(0.3, name="mask")(layers.Dense(8, "relu")(x))
    model = keras.Model(x, layers.Add()([layers.Dense(3)(masked), layers.Dense(3)(masked)]))
    network = zoo.thinned(model, 5)
    assert network.get_layer("mask_fixed").scale.shape == (8,)
    given = batch(model)
    np.testing.assert_array_equal(network(given), sample(model, given, 5))


def test_what_cannot_be_thinned_is_refused():
    plain = stack((6,), layers.Dense(3))
    with pytest.raises(BadInput, match="dropout rate above 0"):
        zoo.thinned(plain, 1)
    with pytest.raises(BadInput, match="seed must be"):
        zoo.thinned(plain, 2**31)
    with pytest.raises(BadInput, match="known number of units"):
        zoo.thinned(stack((None, 3), layers.Dropout(0.5), layers.Dense(2)), 1)
    maps = stack((None, None, 3), layers.SpatialDropout2D(0.5), layers.Conv2D(2, 1))
    x = np.ones((2, 5, 4, 3), "float32")
    np.testing.assert_allclose(zoo.thinned(maps, 1)(x), sample(maps, x, 1), rtol=1e-6, atol=1e-6)
