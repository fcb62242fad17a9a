"""The whole training step against `numpy_reference`, over several epochs: weights, losses and errors."""

import numpy as np
import pytest
from numpy_reference import OPTIMIZERS, Run

import zoo
from trainers import recipe
from trainers.recipe import Recipe
from trainers.training.loop import Engine, fit
from zoo import data

EPOCHS, BATCH, SEED = 3, 32, 7


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train_size=120)  # 4 steps an epoch, the last of 24 examples


def both(digits, rate=0.0, **options):
    """The rows of the project's loop and of the reference, and the weights of both."""
    model = zoo.build("mlp", (8, 8, 1), 10, {"hidden": rate} if rate else {}, SEED, hidden=(24, 16))
    reference = Run(model.get_weights(), SEED, EPOCHS * 4, rate, batch_size=BATCH, **{k: v for k, v in options.items()})
    engine = Engine(model, Recipe(epochs=EPOCHS, batch_size=BATCH, **options), digits, SEED)
    x, y, rows = digits.train.x, digits.train.y, []
    for epoch in range(1, EPOCHS + 1):
        loss, error = reference.epoch(epoch, x, y)
        inference, val = reference.evaluate(x, y), reference.evaluate(digits.val.x, digits.val.y)
        rows.append([loss, error, *inference, *val])
    names = ("train_loss", "train_error", "train_loss_inference", "train_error_inference", "val_loss", "val_error")
    ours = [[row[name] for name in names] for row in fit(engine)]
    return ours, rows, model.get_weights(), reference.weights


def assert_same(digits, **options):
    ours, rows, weights, expected = both(digits, **options)
    np.testing.assert_allclose(ours, rows, rtol=1e-4, atol=1e-4)
    for weight, reference in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, reference, atol=1e-5)


RATES = {"sgd": 0.1, "rmsprop": 1e-3, "lion": 3e-4}


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("name", recipe.OPTIMIZERS)
def test_an_optimizer_is_that_of_its_paper(digits, name, decay):
    assert set(OPTIMIZERS) == set(recipe.OPTIMIZERS)
    rate = RATES.get(name, 1e-3)
    assert_same(digits, optimizer=name, learning_rate=rate, schedule="constant", warmup=0.0, weight_decay=decay)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_momentum_is_that_of_the_recipe(digits, name, momentum):
    assert_same(digits, optimizer=name, learning_rate=RATES[name], momentum=momentum, schedule="constant", warmup=0.0)


@pytest.mark.parametrize("warmup", [0.0, 0.25])
@pytest.mark.parametrize("schedule", recipe.SCHEDULES)
def test_a_learning_rate_schedule_is_followed_at_every_step(digits, schedule, warmup):
    assert_same(digits, optimizer="sgd", learning_rate=0.1, schedule=schedule, warmup=warmup)


def test_label_smoothing_moves_the_target_and_the_training_loss(digits):
    assert_same(digits, optimizer="sgd", learning_rate=0.1, label_smoothing=0.2)


@pytest.mark.parametrize("bound", [0.5, 2.0])
def test_max_norm_bounds_hidden_units_after_every_step(digits, bound):
    assert_same(digits, optimizer="sgd", learning_rate=0.2, max_norm=bound, schedule="constant", warmup=0.0)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_masks_follow_from_seed_layer_and_step(digits, rate):
    assert_same(digits, rate=rate, optimizer="sgd", learning_rate=0.1)


def test_all_of_it_together(digits):
    options = {"weight_decay": 0.1, "max_norm": 1.0, "label_smoothing": 0.1, "schedule": "linear", "warmup": 0.25}
    assert_same(digits, rate=0.3, optimizer="adam", learning_rate=3e-3, **options)
