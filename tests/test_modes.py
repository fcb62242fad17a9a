"""Three modes of one network, on the Functional graphs of all sorts of `graphs.py`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from graphs import GRAPHS, Block, batch, built, stack
from keras import layers

from zoo.dropout import counter, seeded
from zoo.errors import BadInput
from zoo.modes.modes import MODES, in_mode

every_graph = pytest.mark.parametrize("name", GRAPHS)
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")


def run(model, mode, x, seed=None):
    return [np.asarray(y) for y in keras.tree.flatten(in_mode(model, mode)(x, seed))]


def stock(model, x, training):
    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=training))]


def assert_equal(a, b):
    assert [y.dtype for y in a] == [y.dtype for y in b]
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


def state(model):
    return [np.array(variable) for variable in model.variables]


# === Inference ===


@every_graph
def test_inference_is_that_of_keras_bit_for_bit(name):
    model, x = built(name)
    assert_equal(run(model, "inference", x), stock(model, x, training=False))


def test_inference_of_a_nested_model_whose_input_gains_an_axis_is_that_of_keras():
    model = stack((), stack((1,), layers.Dense(6), layers.Dropout(0.5)))
    assert_equal(run(model, "inference", batch(model)), stock(model, batch(model), training=False))


def test_training_true_baked_into_a_call_does_not_reach_inference():
    model, x = built("training_baked_in")
    assert_equal(run(model, "inference", x), run(model, "inference", x))
    assert (run(model, "inference", x)[0] != 0).all()


def test_several_outputs_keep_their_structure():
    x = keras.Input((6,))
    model = keras.Model(x, {"b": layers.Dropout(0.5)(x), "a": [x * 2, layers.Dense(2)(x)]})
    drawn = in_mode(model, "mc")(batch(model), 1)
    keras.tree.assert_same_structure(drawn, model(batch(model)))
    assert (np.asarray(drawn["b"]) == 0).any()


# === Masks of mc and training ===


@every_graph
@pytest.mark.parametrize("mode", ["mc", "training"])
def test_a_seed_is_a_sample_and_another_seed_another_one(name, mode):
    model, x = built(name)
    first = run(model, mode, x, 1)
    assert_equal(run(model, mode, x, 1), first)
    assert any((a != b).any() for a, b in zip(run(model, mode, x, 2), first, strict=True))
    assert all(np.isfinite(y).all() for y in first)


@every_graph
def test_modes_give_the_types_that_keras_gives(name):
    model, x = built(name)
    expected = [y.dtype for y in stock(model, x, training=True)]
    assert [y.dtype for y in run(model, "mc", x, 1)] == expected
    assert [y.dtype for y in run(model, "training", x, 1)] == expected


@every_graph
def test_modes_leave_every_variable_and_loss_as_it_was(name):
    model, x = built(name)
    before = state(model)
    for mode in MODES:
        run(model, mode, x, 3)
    assert_equal(state(model), before)
    assert not model.losses


def test_a_hundred_calls_of_mc_and_training_leave_inference_bit_identical():
    h = (layers.BatchNormalization(), layers.Dropout(0.5), Block(), layers.Dense(6, activity_regularizer="l2"))
    model = stack((5, 6), *h, layers.LSTM(4, dropout=0.3), layers.GaussianNoise(0.1), layers.BatchNormalization())
    x, twin = batch(model), keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    before, variables = run(model, "inference", x), state(model)
    calls = [tf.function(in_mode(model, mode)) for mode in ("mc", "training")]
    for seed in range(100):
        for call in calls:
            call(x, tf.constant(seed))
    assert_equal(run(model, "inference", x), before)
    assert_equal(run(twin, "inference", x), before)
    assert_equal(state(model), variables)


@every_graph
def test_a_saved_and_loaded_model_draws_the_same_sample(name, tmp_path):
    model, x = built(name)
    model.save(tmp_path / "model.keras")
    assert_equal(run(keras.models.load_model(tmp_path / "model.keras"), "mc", x, 5), run(model, "mc", x, 5))


def test_a_traced_mode_takes_the_seed_as_a_tensor_and_draws_what_it_draws_eagerly():
    model, x = built("shared_dropout")
    call = tf.function(in_mode(model, "mc"))
    for seed in (0, -1, 2**31 - 1, -(2**31)):
        assert_equal([call(x, tf.constant(seed)).numpy()], run(model, "mc", x, seed))


def test_without_a_seed_each_call_draws_its_own():
    model, x = built("shared_dropout")
    assert (run(model, "mc", x)[0] != run(model, "mc", x)[0]).any()


def test_a_dropout_layer_called_twice_draws_two_masks():
    model, _ = built("shared_dropout")
    a, b = np.split(run(model, "mc", np.ones((8, 20), "float32"), 1)[0] == 0, 2, axis=1)
    assert (a != b).any()


def test_a_nested_model_called_twice_draws_two_masks():
    model = stack((6,), layers.Activation("relu"), layers.Dropout(0.5))
    x = keras.Input((6,))
    twice = keras.Model(x, [model(x), model(x)])
    a, b = run(twice, "mc", np.ones((8, 6), "float32"), 1)
    assert ((a == 0) != (b == 0)).any()


def test_several_recurrent_layers_draw_the_same_sample_from_every_caller():
    # Callers once numbered the generators in the order of a set, which is another one for every caller.
    model = stack((4, 3), *(layers.SimpleRNN(3, dropout=0.5, return_sequences=True) for _ in range(6)))
    for _ in range(5):
        assert_equal(run(model, "mc", batch(model), 1), run(model, "mc", batch(model), 1))


def test_padding_is_handed_on_through_every_mask_to_the_layer_that_heeds_it():
    model, tokens = built("padding_across_masks")
    *_, last, lstm = model.layers
    h = in_mode(keras.Model(model.input, last.output), "mc")(tokens, 1)
    np.testing.assert_array_equal(h._keras_mask, tokens != 0)
    np.testing.assert_allclose(run(model, "mc", tokens, 1)[0], lstm(h, mask=tokens != 0), atol=1e-6)


# === BatchNorm ===


def test_mc_uses_the_stored_statistics():
    model, x = built("batch_norm_next_to_dropout")
    _, convolution, first, relu, drop, second, flatten, dense = model.layers

    def by_hand(norm, h):
        scale = norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon)
        return h * scale + norm.beta - norm.moving_mean * scale

    h = relu(by_hand(first, convolution(x)))
    h = by_hand(second, seeded.masked(drop, h, tf.constant([9]), counter.salt(drop.name, 1)))
    np.testing.assert_allclose(run(model, "mc", x, 9)[0], dense(flatten(h)), rtol=1e-4, atol=1e-5)


def test_training_uses_batch_statistics_as_keras_does():
    model = stack((6,), layers.Dense(5), layers.BatchNormalization(), layers.Dense(3), layers.BatchNormalization())
    x, before = batch(model), state(model)
    drawn = run(model, "training", x, 1)
    assert_equal(state(model), before)
    assert_equal(run(model, "mc", x, 1), run(model, "inference", x))
    assert_equal(stock(model, x, training=True), drawn)  # last, since Keras' own call stores the statistics


def test_a_frozen_batch_norm_keeps_its_statistics_in_training():
    model = stack((6,), layers.BatchNormalization(trainable=False), layers.Dense(3))
    assert_equal(run(model, "training", batch(model), 1), run(model, "inference", batch(model)))


# === Layers with dropout in code of their own ===

OWN = {
    "block": lambda: Block(),
    "lstm": lambda: layers.LSTM(4, dropout=0.5),
    "gru": lambda: layers.GRU(4, recurrent_dropout=0.5),
    "stacked cells": lambda: layers.RNN([layers.LSTMCell(4, dropout=0.5), layers.LSTMCell(4)]),
    "convolutional": lambda: keras.Sequential([layers.Reshape((5, 3, 2)), layers.ConvLSTM1D(2, 2, dropout=0.5)]),
}


@pytest.mark.parametrize("name", OWN)
def test_dropout_inside_a_layer_draws_from_the_seed_in_mc(name):
    model = stack((5, 6), OWN[name]())
    x = batch(model)
    first = run(model, "mc", x, 1)
    assert_equal(run(model, "mc", x, 1), first)
    assert (run(model, "mc", x, 2)[0] != first[0]).any()
    assert (run(model, "inference", x)[0] != first[0]).any()


def test_two_layers_with_dropout_inside_draw_different_masks():
    x = keras.Input((30,))
    a, b = run(keras.Model(x, [Block()(x), Block()(x)]), "mc", np.ones((9, 30), "float32"), 1)
    assert ((a == 0) != (b == 0)).any()


# === Refusals ===


class Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Subclassed(name="mine"), "model must be a Functional model .*, got 'mine', a Subclassed"),
        (keras.Sequential([layers.Dense(3)], name="early"), "a built Sequential one, got 'early', a Sequential"),
        (layers.Dense(3, name="layer"), "'layer', a Dense"),
    ],
)
def test_a_model_whose_calls_are_not_known_is_refused(model, message):
    with pytest.raises(BadInput, match=message):
        in_mode(model, "mc")


def test_an_unknown_mode_is_refused_with_those_there_are():
    with pytest.raises(BadInput, match=r"mode must be one of inference, training, mc, got 'test'"):
        in_mode(stack((6,), layers.Dropout(0.5)), "test")


def test_dropout_and_batch_norm_in_one_layers_code_are_refused_in_mc_alone():
    model = stack((6,), Block(normalised=True, name="both"))
    with pytest.raises(BadInput, match="'both', a Block with both dropout and BatchNorm"):
        in_mode(model, "mc")
    assert_equal(run(model, "inference", batch(model)), stock(model, batch(model), training=False))
    assert (run(model, "training", batch(model), 1)[0] != run(model, "training", batch(model), 2)[0]).any()


def test_no_seed_inside_a_tf_function_is_refused():
    model = stack((6,), layers.Dropout(0.5))
    with pytest.raises(BadInput, match=r"seed must be given inside a tf\.function"):
        tf.function(in_mode(model, "mc"), autograph=False)(batch(model))


@pytest.mark.parametrize("seed", [2**31, -(2**31) - 1, 1.5])
def test_a_seed_that_32_bits_cannot_hold_is_refused(seed):
    model, x = built("branches")
    with pytest.raises(BadInput, match="seed must be an integer from"):
        in_mode(model, "mc")(x, seed=seed)
