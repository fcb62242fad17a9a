"""Sampling the mode mc quickly draws what drawing one sample at a time does, on Functional graphs of all sorts."""

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from graphs import batch, built, every_graph, stack
from keras import layers, ops

from zoo.dropout import counter
from zoo.errors import BadInput
from zoo.modes import montecarlo
from zoo.modes.modes import in_mode
from zoo.modes.montecarlo import Sampler

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")

# === Samples are those that mode mc draws one at a time ===


def one_by_one(model, x, seeds):
    call = in_mode(model, "mc")
    return np.stack([np.asarray(tf.cast(call(x, seed), tf.float32)) for seed in seeds])


def assert_same_samples(model, x, seeds, sampler=None):
    """The samples are equal up to rounding, that of 16 bits where the network computes in them."""
    drawn, expected = (sampler or Sampler(model)).samples(x, seeds), one_by_one(model, x, seeds)
    assert (drawn.dtype, drawn.shape) == (np.dtype("float32"), expected.shape)
    digits = {"mixed_float16": 1e-2, "mixed_bfloat16": 5e-2}.get(model.name, 1e-5)
    np.testing.assert_allclose(drawn, expected, rtol=digits, atol=digits)
    np.testing.assert_array_equal(drawn == 0, expected == 0)


@every_graph
def test_samples_are_those_of_mode_mc(name):
    model, x = built(name)
    model.name = name
    sampler = Sampler(model)
    assert_same_samples(model, x, [3, -1, 2**31 - 1, 3, 0], sampler)
    assert_same_samples(model, batch(model, n=3, seed=1), [7, -(2**31)], sampler)  # another batch, another count


@pytest.mark.parametrize("name", ["branches", "noise_shapes"])
@pytest.mark.parametrize("per_group", [0, 1, 2, 4])
def test_more_samples_than_fit_into_one_group_are_the_same_samples(name, per_group, monkeypatch):
    model, x = built(name)
    together = Sampler(model)
    expected = together.samples(x, range(5))
    monkeypatch.setattr(montecarlo, "_BYTES", 4 * 4 * together._width * per_group)
    apart = Sampler(model)
    assert apart._groups(tf.range(5), tf.constant(4)).shape[1] == max(1, -(-5 // -(-5 // max(1, per_group))))
    np.testing.assert_allclose(apart.samples(x, range(5)), expected, rtol=1e-5, atol=1e-5)


def test_groups_stay_small_where_the_bytes_of_a_batch_exceed_32_bits():
    sampler = Sampler(built("sequential")[0])
    for sampler._width, n in [(224 * 224 * 64, 335), (2**30, 2), (2**33, 1)]:
        assert sampler._groups(tf.range(50), tf.constant(n)).shape == (50, 1)


def test_no_seeds_and_no_examples_give_empty_results():
    sampler, x = Sampler(built("sequential")[0]), np.zeros((4, 6), "float32")
    assert sampler.samples(x, []).shape == (0, 4, 2)
    assert sampler.samples(x[:0], [1, 2]).shape == (2, 0, 2)


def test_samples_right_behind_a_mask_are_its_zeros_bit_for_bit():
    x, seeds = np.ones((3, 50), "float32"), np.array([4, 5, 6], "int32")
    model = stack((50,), layers.Dropout(0.5))
    kept = counter.kept(seeds, counter.salt(model.layers[1].name, 1), x.size, 0.5)
    np.testing.assert_array_equal(Sampler(model).samples(x, seeds), 2.0 * np.reshape(kept, (3, 3, 50)))


# What is computed across the batch: each of these mixes samples up if they stand side by side in one batch.
ACROSS = {
    "mean": lambda h: h - ops.mean(h, axis=0, keepdims=True),
    "softmax": lambda h: ops.softmax(h, axis=0),
    "softmax counted from the end": lambda h: ops.softmax(h, axis=-2),
    "softmax layer": layers.Softmax(axis=0),
    "flip": lambda h: ops.flip(h, axis=0),
    "roll of all axes": lambda h: ops.roll(h, 1),
    "concatenate": lambda h: ops.concatenate([h, h], axis=0),
    "tile": lambda h: ops.tile(h, (2, 1)),
    "pad": lambda h: ops.pad(h, [[1, 1], [0, 0]]),
    "slice": lambda h: h[1:, :],
    "products of examples": lambda h: ops.einsum("bi,ci->bc", h, h),
    "transposed": lambda h: ops.matmul(h, ops.transpose(h)),
    "lambda": layers.Lambda(lambda h: h - ops.mean(h, axis=0)),
    "activation": layers.Dense(3, activation=lambda h: ops.softmax(h, axis=0)),
    "inside a model": lambda h: keras.Sequential([layers.UnitNormalization(axis=0)])(h),
}


@pytest.mark.parametrize("name", ACROSS)
def test_what_is_computed_across_the_batch_stays_right(name):
    mixed_up = ACROSS[name]
    behind = stack((6,), layers.Dense(4), layers.Dropout(0.5), mixed_up)
    assert_same_samples(behind, batch(behind), [1, 2, 3])
    if name in ("mean", "softmax", "flip"):
        x = keras.Input((6,))
        h = layers.Dense(4)(x)
        before = keras.Model(x, layers.Dropout(0.5)(h) * ops.mean(h, axis=0, keepdims=True) + mixed_up(h))
        assert_same_samples(before, batch(before), [1, 2, 3])


# === What runs how often ===


@keras.saving.register_keras_serializable("tests")
class Counting(layers.Layer):
    """Counts its calls, those of a compiled graph too."""

    calls = 0

    def call(self, x):
        def count(x):
            Counting.calls += 1
            return x

        if keras.backend.is_keras_tensor(x):
            return x
        y = tf.py_function(count, [x], x.dtype)
        return tf.ensure_shape(y, x.shape)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize(("before", "calls"), [(True, 1), (False, 5)])
def test_what_stands_before_the_first_mask_runs_once(before, calls):
    parts = [Counting(), layers.Dropout(0.5)]
    model = stack((6,), layers.Dense(5), *(parts if before else parts[::-1]), layers.Dense(2))
    sampler, Counting.calls = Sampler(model), 0
    drawn = sampler.samples(batch(model), range(5))
    assert Counting.calls == calls
    np.testing.assert_allclose(drawn, one_by_one(model, batch(model), range(5)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("branches", "1 of 3 layers with weights run once for all samples, 2 once per sample"),
        ("nested_model_called_twice", "1 of 1 layers with weights run once for all samples, 0 once per sample"),
        ("lstms_over_padded_tokens", "1 of 2 layers with weights run once for all samples, 1 once per sample"),
        (
            "noise",
            "dropout comes before the first layer with weights, so every layer runs once per sample",
        ),
    ],
)
def test_about_says_what_is_saved(name, sentence):
    assert Sampler(built(name)[0]).about.startswith(sentence)


def test_about_says_when_samples_are_drawn_one_after_the_other():
    for name, apart in [("branches", False), ("attention", True)]:
        assert Sampler(built(name)[0]).about.endswith(", one sample after the other") == apart


def test_samples_of_our_own_architectures_are_drawn_side_by_side(small):
    assert Sampler(small.build("everywhere"))._together


@pytest.mark.parametrize(
    "part",
    [
        lambda h: layers.MultiHeadAttention(2, 4)(h, h),
        lambda h: layers.TimeDistributed(layers.Dense(3, "gelu"))(h)[:, 0],
        lambda h: layers.GRU(3)(layers.LayerNormalization()(h)),
        lambda h: (
            ops.einsum("bqd,bkd->bqk", h, ops.transpose(h, (0, 1, 2))) / 2.0 + ops.mean(h, axis=-1, keepdims=True)
        ),
    ],
)
def test_keras_own_layers_and_usual_operations_are_run_side_by_side(part):
    keras.utils.set_random_seed(1)  # far below 0, GELU is 0 or almost 0 as rounding has it: not by these weights
    model = stack((5, 4), layers.Dropout(0.5), part)
    assert Sampler(model)._together
    assert_same_samples(model, batch(model), [1, 2, 3])


# === Refusals, memory ===


def test_a_model_without_active_dropout_is_refused():
    x = keras.Input((6,))
    unused = keras.Model(x, [layers.Dense(2)(x), layers.Dropout(0.5)(x)])
    for model in (stack((6,), layers.Dropout(0), layers.Dense(2)), stack((6,), lambda h: unused(h)[0])):
        with pytest.raises(BadInput, match=r"dropout rate above 0, got .*every sample would equal inference"):
            Sampler(model)


def test_two_outputs_are_refused():
    x = keras.Input((6,))
    with pytest.raises(BadInput, match=r"must have one output, got .* with 2 outputs"):
        Sampler(keras.Model(x, [layers.Dropout(0.5)(x), layers.Dense(2)(x)]))


def test_memory_stays_flat_over_calls():
    def resident():
        return psutil.Process().memory_info().rss

    model, x = built("batch_norm_next_to_dropout")
    sampler = Sampler(model)
    for call in range(300):
        sampler.samples(x, range(call, call + 8))
        if call == 30:
            early = resident()
    assert resident() < 1.05 * early
