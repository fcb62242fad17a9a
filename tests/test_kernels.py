"""What the mask layers compile: no more than it says, and the same within a training step."""

import contextlib
import math
import re

import numpy as np
import pytest
import tensorflow as tf
from mask_layers import every_dtype, every_layer, made

from zoo import counter, kernels
from zoo.dropout import Dropout, kind_of


@pytest.mark.parametrize("size", [1, 1000, kernels.NEVER_FOLDED + 1])
def test_the_words_drawn_in_a_compiled_program_are_those_of_the_counter(size):
    x, state, rate = tf.ones((size,)), tf.constant([5, 7], tf.int64), 0.3
    kept = counter.words(*counter.keys(tf.constant(5), tf.constant(7)), size) >= counter.threshold(rate)
    np.testing.assert_array_equal(kernels.drop(x, state, tf.constant(0), rate) > 0, kept)


def constants_of(name):
    """The sizes of the constants in a layer's compiled program for 256 examples, and the program's own lines."""
    layer, x = made(name)
    step = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    program = step.experimental_get_compiler_ir(tf.ones((256, *x.shape[1:])))(stage="optimized_hlo")
    shapes = re.findall(r"\[([\d,]*)\]\S* constant\(", program)
    return [math.prod(int(n) for n in shape.split(",") if n) for shape in shapes], program[program.index("\nENTRY") :]


@every_layer
def test_a_compiled_mask_reads_no_constant_as_large_as_its_tensor(name):
    sizes, program = constants_of(name)
    assert sizes
    assert max(sizes) < 64
    assert str(kernels.NEVER_FOLDED) not in program  # the larger range is never written out


def test_a_constant_as_large_as_the_tensor_would_be_seen(monkeypatch):
    monkeypatch.setattr(kernels, "_words", counter.words)
    monkeypatch.setattr(kernels, "_kernel", kernels._kernel.__wrapped__)
    assert max(constants_of("dropout")[0]) == 256 * 6


def traced(name, context, dtype="float32", rows=None):
    """Values and gradient of a layer behind a ReLU, and the operations of the graph that computes them."""
    layer, x = made(name, dtype=dtype)
    x = tf.cast(x - 1, dtype)

    @tf.function(input_signature=[tf.TensorSpec((rows, *x.shape[1:]), dtype)] * 2)
    def run(x, upstream):
        with context(x), tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(tf.nn.relu(x), training=True)
        return y, tape.gradient(y, x, upstream)

    operations = run.get_concrete_function().graph.get_operations()
    return [tf.cast(t, tf.float32) for t in run(x, tf.cast(tf.exp(x), dtype))], operations


def step_of(most):
    return lambda x: kernels.within_step(tf.shape(x)[0], most)


def apart(x):
    return contextlib.nullcontext()


def draws(operations):
    """What goes into each call of a compiled program, without the generator's state and the numbers."""
    return [call.inputs[0] for call in operations if "PartitionedCall" in call.type]


in_steps = pytest.mark.parametrize("rows", [None, 8], ids=["any_batch", "one_batch"])


@in_steps
@every_layer
@every_dtype
@pytest.mark.parametrize("ahead", [kernels.AHEAD, 0], ids=["ahead", "with_the_tensor"])
def test_in_a_step_values_and_gradients_are_the_same(monkeypatch, name, dtype, rows, ahead):
    monkeypatch.setattr(kernels, "AHEAD", ahead)
    (expected, _), (found, operations) = traced(name, apart, dtype), traced(name, step_of(11), dtype, rows)
    joined = kind_of(made(name)[0]) in ("dropout", "spatial", "drop_path")
    assert len(draws(operations)) == (1 if joined else 2)
    assert (draws(operations)[0].dtype == tf.int32) == (joined and ahead > 0)  # a shape and not the tensor
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


@every_dtype
@pytest.mark.parametrize("name", ["noise_shape", "drop_path", "spatial_1d", "spatial_2d_first", "spatial_3d"])
def test_whole_maps_without_a_relu_are_dropped_by_factors_drawn_ahead(name, dtype):
    def run(context):
        layer, x = made(name, dtype=dtype)

        @tf.function(input_signature=[tf.TensorSpec((None, *x.shape[1:]), dtype)])
        def run(x):
            with context(x), tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            return y, tape.gradient(y, x, tf.exp(x))

        operations = run.get_concrete_function().graph.get_operations()
        return [tf.cast(t, tf.float32) for t in run(tf.cast(x, dtype))], draws(operations)

    (expected, _), (found, drawn) = run(apart), run(step_of(11))
    assert [t.dtype for t in drawn] == [tf.int32]
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_mask_of_more_units_than_are_drawn_ahead_waits_for_its_tensor():
    def drawn(most):
        layer = Dropout(0.5)

        @tf.function(input_signature=[tf.TensorSpec((None, 2**10))])
        def run(x):
            with step_of(most)(x):
                return layer(tf.nn.relu(x), training=True)

        return draws(run.get_concrete_function().graph.get_operations())[0].dtype

    assert kernels.AHEAD == 2**18
    assert (drawn(2**8), drawn(2**8 + 1)) == (tf.int32, tf.float32)


def test_a_relu_joined_with_a_mask_may_go_elsewhere_too():
    def gradient(context):
        layer, x = made("dropout")

        @tf.function
        def run(x):
            with context(x), tf.GradientTape() as tape:
                tape.watch(x)
                r = tf.nn.relu(x)
                y = layer(r, training=True) + layer(r, training=True) + tf.square(r)
            return tape.gradient(y, x)

        return run(x - 1)

    np.testing.assert_allclose(gradient(step_of(8)), gradient(apart), rtol=1e-6)


def test_a_constant_in_a_step_has_no_relu():
    layer, x = made("dropout")

    @tf.function
    def run():
        with step_of(8)(x):
            return layer(x, training=True)

    np.testing.assert_array_equal(run(), made("dropout")[0](x, training=True))
