"""The recipe: schedules, decay, max-norm, augmentation, and what it refuses."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL

from trainers.recipe import Recipe
from trainers.training.augmentation import augmentation
from trainers.training.optimizer import constrain, learning_rate, make_optimizer
from zoo.errors import BadInput


def rates(recipe, steps=100):
    schedule = learning_rate(recipe, steps)
    return np.array([float(schedule(step)) for step in range(steps + 1)])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_rises_to_its_highest_then_falls_to_0(schedule):
    values = rates(Recipe(schedule=schedule, warmup=0.2, learning_rate=0.5))
    assert values[0] == pytest.approx(0.5 / 20)
    assert values[20] == pytest.approx(0.5)
    assert values[-1] == pytest.approx(0, abs=1e-7)
    assert (np.diff(values[:21]) > 0).all()
    assert (np.diff(values[20:]) < 0).all()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
def test_no_step_before_the_end_has_a_rate_of_0(schedule, steps):
    for warmup in (0.0, 0.05, 0.5, 0.999):
        made = learning_rate(Recipe(schedule=schedule, warmup=warmup), steps)
        assert all((made if isinstance(made, float) else float(made(step))) > 0 for step in range(steps))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_the_rise_begins_where_it_was_told_to(schedule):
    for start in (0.0, 0.25, 1.0):
        values = rates(Recipe(schedule=schedule, warmup=0.2, warmup_start=start, learning_rate=0.5))
        assert values[0] == pytest.approx(0.5 * start)
        assert values[10] == pytest.approx(0.5 * (start + (1 - start) / 2))


def test_the_recipe_of_an_earlier_version_rises_from_0():
    written = {key: value for key, value in Recipe().to_json().items() if key != "warmup_start"}
    assert Recipe.from_json(written).warmup_start == 0.0
    assert Recipe.from_json(Recipe().to_json()).warmup_start is None


def test_linear_is_half_way_down_half_way_through():
    assert rates(Recipe(schedule="linear", warmup=0.0, learning_rate=1.0))[50] == pytest.approx(0.5)


def test_a_constant_rate_without_warmup_is_a_number_that_callbacks_may_change():
    assert learning_rate(Recipe(schedule="constant", warmup=0.0), 100) == 1e-3
    held = rates(Recipe(schedule="constant", warmup=0.1, learning_rate=1.0))
    assert held[10:] == pytest.approx(np.ones(91))


@pytest.mark.parametrize("warmup", [0.0, 0.001, 0.999])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_short_runs_have_finite_rates(schedule, warmup, steps):
    schedule = learning_rate(Recipe(schedule=schedule, warmup=warmup, learning_rate=1.0), steps)
    values = [schedule if isinstance(schedule, float) else float(schedule(i)) for i in range(steps + 1)]
    assert np.isfinite(values).all()
    assert max(values) <= 1


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_weight_decay_is_decoupled_and_spares_biases_and_norms(name):
    model = SMALL["resnet"].build({})
    recipe = Recipe(optimizer=name, momentum=0.0, weight_decay=0.1, learning_rate=0.5, schedule="constant", warmup=0.0)
    optimizer = make_optimizer(recipe, 10)
    optimizer.build(model.trainable_variables)
    before = [w.numpy() for w in model.trainable_variables]
    optimizer.apply([tf.zeros_like(w) for w in model.trainable_variables], model.trainable_variables)
    for old, weight in zip(before, model.trainable_variables, strict=True):
        shrunk = 1 - 0.5 * 0.1 if weight.name == "kernel" else 1.0
        np.testing.assert_allclose(weight.numpy(), old * shrunk, rtol=1e-6, err_msg=weight.path)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_max_norm_bounds_the_incoming_weights_of_hidden_units_after_a_step(name, optimizer):
    model, recipe = SMALL[name].build({}), Recipe(max_norm=0.3, optimizer=optimizer)
    constrain(recipe, model)
    optimizer = make_optimizer(recipe, 10)
    optimizer.build(model.trainable_variables)
    optimizer.apply([tf.zeros_like(w) for w in model.trainable_variables], model.trainable_variables)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D):
            norms = np.linalg.norm(layer.kernel.numpy().reshape(-1, layer.kernel.shape[-1]), axis=0)
            assert (norms.max() > 0.301) == (layer.name == "logits"), layer.name
            assert layer.kernel_constraint is None, "the saved file would carry it"


def test_augmentation_varies_images_and_repeats_with_its_seed():
    x = np.random.default_rng(0).integers(1, 256, (32, 12, 12, 3)).astype("float32")
    a, b, c = (
        augmentation(Recipe(augment=True), (12, 12, 3), flip, seed)
        for flip, seed in ((False, 1), (False, 1), (False, 2))
    )
    first = a(x, training=True).numpy()
    np.testing.assert_array_equal(first, b(x, training=True))
    assert not np.array_equal(first, c(x, training=True))
    assert not np.array_equal(first, a(x, training=True))
    assert ((first == x).mean(axis=(1, 2, 3)) < 1).mean() > 0.5
    assert first.min() >= 0
    assert first.max() <= 255


def test_what_is_erased_or_shifted_in_is_black():
    x = np.full((64, 12, 12, 1), 200, "float32")
    y = augmentation(Recipe(augment=True), (12, 12, 1), False, 3)(x, training=True).numpy()
    assert set(np.unique(y)) == {0, 200}
    inner = y[:, 3:-3, 3:-3] == 0  # which no shift by a tenth reaches
    assert 0.1 < inner.any(axis=(1, 2, 3)).mean() < 0.9


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_mirrored_only_where_the_set_allows_it(flip):
    x = np.zeros((200, 12, 12, 1), "float32")
    x[:, :, :4] = 200  # bright on the left, which no shift by a tenth brings to the right
    y = augmentation(Recipe(augment=True), (12, 12, 1), flip, 3)(x, training=True).numpy()
    mirrored = y[:, :, 8:].mean() > 20
    assert mirrored == flip


REFUSED = [
    {"epochs": 0}, {"epochs": 1.5}, {"batch_size": True}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
    {"momentum": 1.0}, {"warmup": -0.1}, {"weight_decay": -1.0}, {"max_norm": 0.0}, {"label_smoothing": 1.0},
    {"early_stopping": 0}, {"optimizer": "adma"}, {"schedule": "cosin"},
]  # fmt: skip


@pytest.mark.parametrize("fields", REFUSED, ids=str)
def test_values_out_of_range_are_refused_by_name(fields):
    (name, value), *_ = fields.items()
    with pytest.raises(BadInput, match=rf"{name} must be .*, got {re.escape(repr(value))}"):
        Recipe(**fields)


def test_json_brings_a_recipe_back_and_refuses_unknown_fields():
    recipe = Recipe(max_norm=3.0, augment=True)
    assert Recipe.from_json(recipe.to_json()) == recipe
    with pytest.raises(BadInput, match=r"recipe field must be .*, got 'dropout'"):
        Recipe.from_json({"dropout": 0.5})
