"""The fused update against Keras' own."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from trainers.recipe import Recipe
from trainers.training.optimizer import Adam, make_optimizer


def moved(kind, xla=False, steps=5, **options):
    """Weights after some steps down a bowl, and the moments."""
    weights = [keras.Variable(np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4)), keras.Variable([0.5, 0.0])]
    optimizer = kind(0.05, **options)
    optimizer.build(weights)

    @tf.function(jit_compile=xla)
    def step():
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_sum(tf.square(w.value - 3.0)) for w in weights)
        optimizer.apply(tape.gradient(loss, [w.value for w in weights]), weights)

    for _ in range(steps):
        step()
    return [v.numpy() for v in (*weights, *optimizer.variables)]


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"clipnorm": 0.5}, {"beta_1": 0.5, "epsilon": 0.1}])
def test_weights_and_moments_are_those_of_keras(options, xla):
    for ours, theirs in zip(moved(Adam, xla, **options), moved(keras.optimizers.Adam, xla, **options), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=5e-6)


def test_what_the_kernel_does_not_know_is_left_to_keras():
    for ours, theirs in zip(moved(Adam, amsgrad=True), moved(keras.optimizers.Adam, amsgrad=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_gradients_may_be_accumulated_over_steps():
    options = {"steps": 6, "gradient_accumulation_steps": 2}
    for ours, theirs in zip(moved(Adam, **options), moved(keras.optimizers.Adam, **options), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=5e-6)


def test_sparse_gradients_move_the_rows_that_they_are_of():
    tables = []
    for kind in (Adam, keras.optimizers.Adam):
        table = keras.Variable(np.ones((6, 2), "float32"))
        optimizer = kind(0.1)
        optimizer.build([table])
        for rows in ([1, 1, 4], [2, 4]):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(tf.gather(table.value, rows)))
            optimizer.apply([tape.gradient(loss, table.value)], [table])
        tables.append(table.numpy())
    np.testing.assert_allclose(*tables, rtol=1e-6)
    assert (tables[0][[0, 3, 5]] == 1).all()


def test_the_optimiser_of_a_saved_model_is_keras_own(tmp_path):
    model = zoo.build("mlp", (8, 8, 1), 10, {}, hidden=(4,))
    model.compile(make_optimizer(Recipe(schedule="constant", warmup=0.0), 10), "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    code = "import keras; print(type(keras.models.load_model('model.keras').optimizer).__module__)"
    plain = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert plain.stdout.strip() == "keras.src.optimizers.adam", plain.stderr
