"""What outputs stand for, where the last operation does not say so: by values, or refused."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import zoo
from zoo import metrics
from zoo.errors import BadInput
from zoo.modes.compare import compare_modes

X = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")


def classifier(head, units=3):
    x = keras.Input((6,))
    h = layers.Dropout(0.3)(layers.Dense(16, "relu")(x))
    return keras.Model(x, head(layers.Dense(units)(h), layers.Dense(units)(h)))


def _mine(z):
    return tf.nn.softmax(z)


AVERAGES = {
    "Average": lambda a, b: layers.Average()([layers.Softmax()(a), layers.Softmax()(b)]),
    "sum": lambda a, b: (ops.softmax(a) + ops.softmax(b)) / 2,
    "Lambda": lambda a, b: layers.Lambda(_mine)(a),
    "own activation": lambda a, b: layers.Activation(_mine)(a),
    "operations": lambda a, b: ops.exp(a) / ops.sum(ops.exp(a), axis=1, keepdims=True),
    "dropout after it": lambda a, b: layers.Dropout(0.2)(layers.Softmax()(a)),
    "temperature": lambda a, b: ops.softmax(a / 2) * 1.0,
}


@pytest.mark.parametrize("name", AVERAGES)
def test_probabilities_are_recognised_by_their_values(name):
    model = classifier(AVERAGES[name])
    y = np.arange(40) % 3
    result = compare_modes(model, X, y, samples=2)
    p = np.asarray(model(X), np.float64)
    expected = -np.log(p[np.arange(40), y]).mean()
    assert result["modes"]["inference"]["loss"] == pytest.approx(expected, rel=1e-4)
    assert "probabilities" in result["assumed"]


def test_an_average_of_sigmoids_is_a_probability_of_class_1():
    model = classifier(lambda a, b: layers.Average()([ops.sigmoid(a), layers.Activation("sigmoid")(b)]), units=1)
    y = np.arange(40) % 2
    p = np.asarray(model(X), np.float64)[:, 0]
    actual = compare_modes(model, X, y, samples=2)["modes"]["inference"]["loss"]
    assert actual == pytest.approx(-np.log(np.where(y == 1, p, 1 - p)).mean(), rel=1e-4)


AMBIGUOUS = {
    "Lambda": (lambda a, b: layers.Lambda(lambda z: ops.sigmoid(z))(a), 1),
    "product": (lambda a, b: ops.sigmoid(a) * ops.sigmoid(b), 3),
    "largest": (lambda a, b: layers.Maximum()([layers.Softmax()(a), layers.Softmax()(b)]), 3),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_values_that_can_be_either_are_refused(name):
    head, units = AMBIGUOUS[name]
    with pytest.raises(BadInput, match="logits or probabilities"):
        compare_modes(classifier(head, units), X, samples=2)


LOGITS = {
    "Dense": lambda a, b: a,
    "Average": lambda a, b: layers.Average()([a, b]),
    "sum": lambda a, b: a + b,
    "Lambda": lambda a, b: layers.Lambda(lambda z: z * 3)(a),
    "logarithm": lambda a, b: ops.log_softmax(a),
}


@pytest.mark.parametrize("name", LOGITS)
def test_logits_stay_logits(name):
    model = classifier(LOGITS[name])
    result = compare_modes(model, X, np.arange(40) % 3, samples=2)
    assert result["modes"]["inference"]["loss"] == pytest.approx(metrics.loss(model(X), np.arange(40) % 3), rel=1e-4)
    assert "logits" in result["assumed"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo.compile(model)


# === zoo.compile ===

PROBABILITIES = {"softmax": lambda a, b: layers.Activation("softmax")(a), **AVERAGES}


@pytest.mark.parametrize("name", PROBABILITIES)
def test_compile_refuses_its_loss_on_logits_for_probabilities(name):
    model = classifier(PROBABILITIES[name])
    with pytest.raises(BadInput, match=f"{model.name!r}, which returns probabilities"):
        zoo.compile(model)
    with pytest.warns(UserWarning, match="returns probabilities"):
        zoo.compile(model, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo.compile(model, loss="sparse_categorical_crossentropy")


def test_compile_warns_of_a_loss_on_probabilities_for_the_logits_of_any_model():
    with pytest.warns(UserWarning, match="returns logits") as caught:
        zoo.compile(classifier(LOGITS["Dense"]), loss="sparse_categorical_crossentropy")
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("head", [lambda a, b: a, lambda a, b: ops.sigmoid(a)])
def test_compile_refuses_its_loss_for_one_output(head):
    with pytest.raises(BadInput):
        zoo.compile(classifier(head, units=1))
