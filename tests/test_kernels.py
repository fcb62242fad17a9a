"""What the mask layers compile: no more than it says, and the same within a training step."""

import contextlib
import math
import re

import numpy as np
import pytest
import tensorflow as tf
from mask_layers import calls_of, every_layer, made

from zoo.dropout import counter, kernels
from zoo.dropout.layers import Dropout, kind_of


@pytest.mark.parametrize("size", [1, 1000, kernels.NEVER_FOLDED + 1])
def test_the_words_drawn_in_a_compiled_program_are_those_of_the_counter(size):
    x, state, rate = tf.ones((size,)), tf.constant([5, 7], tf.int64), 0.3
    kept = counter.words(*counter.keys(tf.constant(5), tf.constant(7)), size) >= counter.threshold(rate)
    np.testing.assert_array_equal(kernels.drop(x, state, tf.constant(0), rate) > 0, kept)


@pytest.mark.parametrize("noise_shape", [None, (None,)])
def test_a_unit_whose_word_is_the_threshold_is_kept(noise_shape):
    state = tf.constant([5, 7], tf.int64)
    words = np.asarray(counter.words(*counter.keys(tf.constant(5), tf.constant(7)), 1000))
    threshold = np.sort(words)[300]
    kept = kernels.drop(tf.ones((1000,)), state, tf.constant(0), tf.constant(threshold), noise_shape) > 0
    np.testing.assert_array_equal(kept, words >= threshold)


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


def in_step(x, most=11):
    return kernels.within_step(tf.shape(x)[0], most)


@every_layer
def test_within_a_step_the_shape_is_known_as_without_dropout(name):
    layer, x = made(name)
    most = len(x)

    @tf.function
    def run(x):
        with in_step(x, most):
            return layer(x, training=True)

    assert run.get_concrete_function(x).outputs[0].shape == x.shape
    several = tf.TensorSpec((None, *x.shape[1:]), x.dtype)
    assert run.get_concrete_function(several).outputs[0].shape[1:] == x.shape[1:]


@pytest.mark.parametrize("error", [False, True])
def test_after_a_step_layers_compute_as_before_it(error):
    layer, x = made("dropout")

    @tf.function
    def run(x):
        before = layer(tf.nn.relu(x), training=True)
        with contextlib.suppress(ZeroDivisionError), in_step(x):
            within = layer(tf.nn.relu(x), training=True)
            if error:
                raise ZeroDivisionError
        return before, within, layer(tf.nn.relu(x), training=True)

    calls = calls_of(run.get_concrete_function(x))
    fused = ["Relu" not in {tensor.op.type for tensor in call.inputs} for call in calls]
    assert fused == [False, True, False]


def apart(x):
    return contextlib.nullcontext()


def traced(name, context, dtype="float32", rows=None, xla=False, before=tf.nn.relu):
    """What a layer puts out and its gradient, behind `before`, and its calls of compiled programs."""
    layer, x = made(name, dtype=dtype)
    x = tf.cast(x - 1, dtype)

    @tf.function(input_signature=[tf.TensorSpec((rows, *x.shape[1:]), dtype)] * 2, jit_compile=xla)
    def run(x, upstream):
        with context(x), tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(before(x), training=True)
        return y, tape.gradient(y, x, upstream)

    return [tf.cast(t, tf.float64) for t in run(x, tf.exp(x))], calls_of(run.get_concrete_function())


def waits(call):
    """Whether a call waits for what was given to the function that it stands in, the variables aside."""
    seen, todo = set(), [call]
    while todo:
        operation = todo.pop()
        if operation not in seen:
            seen.add(operation)
            todo += [t.op for t in operation.inputs] + list(operation.control_inputs)
    return any(operation.type == "Placeholder" and operation.outputs[0].dtype != tf.resource for operation in seen)


def assert_same(expected, actual, rtol=0):
    for a, b in zip(expected, actual, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=0)


@pytest.mark.parametrize("rows", [None, 8], ids=["any_batch", "one_batch"])
@every_layer
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("ahead", [kernels.AHEAD, 0], ids=["ahead", "with_the_tensor"])
def test_in_a_step_values_and_gradients_are_the_same(monkeypatch, name, dtype, rows, ahead):
    monkeypatch.setattr(kernels, "AHEAD", ahead)
    (expected, _), (actual, calls) = traced(name, apart, dtype), traced(name, in_step, dtype, rows)
    joined = kind_of(made(name)[0]) in ("dropout", "spatial", "drop_path")
    assert [waits(call) for call in calls] == ([not ahead] if joined else [True, True])
    assert_same(expected, actual)


@every_layer
def test_in_a_step_that_xla_compiles_they_are_the_same_too(name):
    (expected, _), (actual, _) = traced(name, apart), traced(name, in_step, xla=True)
    assert_same(expected, actual, rtol=0 if name != "gaussian" else 1e-5)


@pytest.mark.parametrize("name", ["noise_shape", "drop_path", "spatial_1d", "spatial_2d_first", "spatial_3d"])
def test_whole_maps_without_a_relu_are_dropped_by_factors_drawn_ahead(name):
    (expected, before), (actual, calls) = (traced(name, context, before=tf.identity) for context in (apart, in_step))
    assert [waits(call) for call in before] == [True, True]
    assert [waits(call) for call in calls] == [False]
    assert_same(expected, actual)


@pytest.mark.parametrize("noise_shape", [(8, 1, 5), (1, None, 5), (None, None, 1), None])
@pytest.mark.parametrize("relu", [True, False], ids=["relu", "no_relu"])
@pytest.mark.parametrize("rows", [8, 1])
def test_in_a_step_any_noise_shape_and_a_rate_that_moves_drop_the_same(noise_shape, relu, rows):
    x, state, rate = tf.random.normal((rows, 4, 5)), tf.constant([5, 7], tf.int64), tf.Variable(0.3)

    def dropped(context):
        @tf.function(input_signature=[tf.TensorSpec((None, 4, 5))])
        def run(x):
            with context(x):
                return kernels.drop(tf.nn.relu(x) if relu else x, state, tf.constant(0), rate + 0.0, noise_shape)

        return run(x)

    assert_same([dropped(apart)], [dropped(in_step)])


@pytest.mark.parametrize(("most", "width", "late"), [(2**8, 2**10, False), (2**8 + 1, 2**10, True), (8, None, True)])
def test_a_mask_of_many_units_or_of_no_known_number_waits_for_its_tensor(most, width, late):
    layer = Dropout(0.5)

    @tf.function(input_signature=[tf.TensorSpec((None, width))])
    def run(x):
        with in_step(x, most):
            return layer(tf.nn.relu(x), training=True)

    assert kernels.AHEAD == 2**18
    assert [waits(call) for call in calls_of(run.get_concrete_function())] == [late]


def test_a_function_within_a_step_may_be_called_in_another():
    layer, x = made("dropout")
    inner = tf.function(lambda x: layer(tf.nn.relu(x), training=True))
    drawn = []
    for _ in range(2):

        @tf.function
        def run(x):
            with in_step(x):
                return inner(x)

        drawn.append(run(x))
    again = made("dropout")[0]
    assert_same([again(x, training=True) for _ in drawn], drawn)


@pytest.mark.parametrize("name", ["dropout", "spatial_2d"])
def test_a_step_that_runs_eagerly_drops_the_same(name):
    layer, x = made(name)
    with in_step(x):
        actual = layer(tf.nn.relu(x), training=True)
    assert_same([made(name)[0](x, training=True)], [actual])


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

        return run(x - 1), len(calls_of(run.get_concrete_function(x)))

    (expected, before), (actual, calls) = gradient(apart), gradient(in_step)
    assert (before, calls) == (4, 2)
    assert_same([expected], [actual], rtol=1e-6)


def test_a_constant_in_a_step_has_no_relu():
    layer, x = made("dropout")

    @tf.function
    def run():
        with in_step(x):
            return layer(x, training=True)

    np.testing.assert_array_equal(run(), made("dropout")[0](x, training=True))


# === Integers ===


@pytest.mark.parametrize("kind", ["int32", "uint8", "int64", "bool"])
@pytest.mark.parametrize("layer", ["Dropout", "SpatialDropout1D", "GaussianDropout", "DropBlock2D"])
def test_integers_are_refused_in_training_as_keras_does(kind, layer):
    from zoo import dropout
    from zoo.errors import BadInput
    from zoo.modes.modes import in_mode

    shape = {"SpatialDropout1D": (3, 4), "DropBlock2D": (6, 6, 2)}.get(layer, (5,))
    mask, x = getattr(dropout, layer)(0.5, name="mask"), np.ones((2, *shape), kind)
    with pytest.raises(ValueError, match=kind):
        mask(x, training=True)
    np.testing.assert_array_equal(mask(x, training=False), x)
    inputs = tf.keras.Input(shape, dtype=kind)
    for of_mask in (mask, *([getattr(tf.keras.layers, layer)(0.5)] if layer != "DropBlock2D" else [])):
        with pytest.raises(BadInput, match=f"floating.*{kind}"):
            in_mode(tf.keras.Model(inputs, of_mask(inputs)), "mc")(x, 1)
