"""Compiling: `zoo.compile`, and the warning for a loss on probabilities; a model stays an ordinary Keras model."""

import copy
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import zoo
from trainers.recipe import Recipe
from trainers.training.loop import Engine
from zoo import data
from zoo.errors import BadInput

losses = keras.losses
ON_PROBABILITIES = {
    "name": "sparse_categorical_crossentropy",
    "one-hot": "categorical_crossentropy",
    "class name": "SparseCategoricalCrossentropy",
    "short name": "kld",
    "chosen by Keras": "crossentropy",
    "function": losses.sparse_categorical_crossentropy,
    "object": losses.SparseCategoricalCrossentropy(),
    "focal": losses.CategoricalFocalCrossentropy(),
    "generalized": losses.CategoricalGeneralizedCrossEntropy(),
    "divergence": losses.KLDivergence(),
    "list": ["sparse_categorical_crossentropy"],
    "dictionary": {"logits": "sparse_categorical_crossentropy"},
}
ON_LOGITS = {
    "none": None,
    "object": losses.SparseCategoricalCrossentropy(from_logits=True),
    "one-hot": losses.CategoricalCrossentropy(from_logits=True),
    "hinge": "categorical_hinge",
    "squares": "mse",
    "own function": lambda y, logits: keras.ops.mean(logits),
    "unknown name": "my_loss",
}


def network(**options):
    return zoo.build("mlp", (8, 8, 1), 10, hidden=(8,), **options)


def examples(n=20):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 8, 8, 1)).astype("uint8"), np.arange(n) % 10


@pytest.mark.parametrize("name", ON_PROBABILITIES)
def test_a_loss_on_probabilities_warns_once_with_the_way_out(name):
    model, loss = network(), ON_PROBABILITIES[name]
    with pytest.warns(UserWarning, match=r"logits.*zoo\.compile\(model\).*from_logits=True") as caught:
        model.compile("adam", loss)
    assert caught[0].filename == __file__
    assert model.compiled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.compile("adam", loss)
    other = network()
    with pytest.warns(UserWarning, match="logits"):
        other.compile(loss=loss)


@pytest.mark.parametrize("name", ON_LOGITS)
def test_other_losses_do_not_warn(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network().compile("adam", ON_LOGITS[name])


def test_the_loop_and_zoo_compile_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        zoo.compile(network())
        Engine(network(), Recipe(epochs=1), data.load("digits", train_size=50), seed=0)


def test_zoo_compile_returns_the_model_ready_to_fit():
    keras.utils.set_random_seed(0)  # of the order of the examples
    model = network()
    assert zoo.compile(model) is model
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    x, y = examples()
    history = model.fit(x, y, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert "accuracy" in history


def test_keywords_replace_the_defaults():
    loss = losses.CategoricalCrossentropy(from_logits=True)
    model = zoo.compile(network(), optimizer="sgd", loss=loss, metrics=["mae"], jit_compile=False)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.loss is loss
    assert model.jit_compile is False
    x, y = examples()
    assert set(model.fit(x, np.eye(10)[y], verbose=0).history) == {"loss", "mae"}


@pytest.mark.parametrize("model", ["mlp", None, keras.layers.Dense(3)])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(BadInput, match="model must be a Keras model, got"):
        zoo.compile(model)


def test_any_keras_model_can_be_compiled():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert zoo.compile(model).loss.from_logits


def test_copies_clones_and_files_are_plain_models(tmp_path):
    model, (x, _) = network(seed=1), examples()
    assert type(model) is type(keras.Model(model.inputs, model.outputs))
    model.save(tmp_path / "model.keras")
    others = {
        "file": keras.models.load_model(tmp_path / "model.keras"),
        "copy": copy.deepcopy(model),
        "clone": keras.models.clone_model(model),
        "configuration": type(model).from_config(model.get_config()),
    }
    for name, other in others.items():
        assert type(other) is type(model), name
        assert "compile" not in vars(other), name
        other.set_weights(model.get_weights())
        np.testing.assert_array_equal(np.asarray(other(x)), np.asarray(model(x)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            other.compile("adam", "sparse_categorical_crossentropy")


def test_the_configuration_is_that_of_keras():
    built, clone = network(seed=1), keras.models.clone_model(network(seed=1))
    assert built.get_config() == clone.get_config()
    with pytest.warns(UserWarning, match="logits"):
        built.compile("adam", "sparse_categorical_crossentropy")
    clone.compile("adam", "sparse_categorical_crossentropy")
    assert built.get_compile_config().keys() == clone.get_compile_config().keys()
    assert built.get_compile_config()["loss"] == clone.get_compile_config()["loss"]


def test_a_compiled_file_opens_in_plain_keras(tmp_path):
    model = zoo.compile(network())
    model.fit(*examples(), verbose=0)
    model.save(tmp_path / "model.keras")
    code = (
        "import sys, warnings; warnings.simplefilter('error', UserWarning); import keras\n"
        f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r})\n"
        "assert model.compiled and model.loss.from_logits\n"
        "assert 'zoo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
