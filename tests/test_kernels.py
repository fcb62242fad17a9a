"""What the mask layers compile: no more than it says, and the same when it is joined with a ReLU."""

import contextlib
import math
import re

import numpy as np
import pytest
import tensorflow as tf
from mask_layers import every_dtype, every_layer, made

from zoo import counter, kernels
from zoo.dropout import kind_of


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


@every_layer
@every_dtype
def test_joined_with_a_relu_values_and_gradients_are_the_same(name, dtype):
    def traced(context):
        layer, x = made(name, dtype=dtype)

        @tf.function
        def run(x, upstream):
            with context(), tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(tf.nn.relu(x), training=True)
            return y, tape.gradient(y, x, upstream)

        x = tf.cast(x - 1, dtype)
        types = [operation.type for operation in run.get_concrete_function(x, x).graph.get_operations()]
        return types.count("ReluGrad"), run(x, tf.cast(tf.exp(x), dtype))

    (apart, expected), (joined, found) = traced(contextlib.nullcontext), traced(kernels.joined_with_relu)
    assert (apart, joined) == (1, 0 if kind_of(made(name)[0]) in ("dropout", "spatial", "drop_path") else 1)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(tf.cast(a, tf.float32), tf.cast(b, tf.float32))


def test_a_relu_joined_with_a_mask_may_go_elsewhere_too():
    def gradient(context):
        layer, x = made("dropout")

        @tf.function
        def run(x):
            with context(), tf.GradientTape() as tape:
                tape.watch(x)
                r = tf.nn.relu(x)
                y = layer(r, training=True) + layer(r, training=True) + tf.square(r)
            return tape.gradient(y, x)

        return run(x - 1)

    np.testing.assert_allclose(gradient(kernels.joined_with_relu), gradient(contextlib.nullcontext), rtol=1e-6)


def test_a_constant_of_a_joined_step_has_no_relu():
    layer, x = made("dropout")

    @tf.function
    def run():
        with kernels.joined_with_relu():
            return layer(x, training=True)

    np.testing.assert_array_equal(run(), made("dropout")[0](x, training=True))
