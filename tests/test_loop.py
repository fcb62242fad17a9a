"""The loop against stock Keras, and what it tells callbacks, rows and data."""

import contextlib
import dataclasses
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from mask_layers import calls_of

import zoo
from trainers.recipe import Recipe
from trainers.training import loop
from trainers.training.loop import Engine, fit
from zoo import Drop, Placement, data, metrics
from zoo.dropout import kernels
from zoo.errors import RunFailed
from zoo.seeds import seed_for

PLAIN = Recipe(epochs=2, schedule="constant", warmup=0.0)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train_size=300)


def small_mlp(placement=None, seed=1):
    return zoo.build("mlp", (8, 8, 1), 10, {} if placement is None else placement, seed, hidden=(24,))


class Orders(keras.callbacks.Callback):
    """Remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def on_train_begin(self, logs=None):
        self.heard.append("train begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.heard.append(f"epoch {epoch} begin")

    def on_epoch_end(self, epoch, logs=None):
        self.heard.append((epoch, dict(logs)))

    def on_train_end(self, logs=None):
        self.heard.append("train end")


def test_an_epoch_is_that_of_stock_fit_on_the_same_batches(digits):
    ours, stock = small_mlp(), small_mlp()
    list(fit(Engine(ours, PLAIN, digits, seed=5)))
    stock.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for epoch in (1, 2):
        order = np.random.default_rng(seed_for(5, f"order/{epoch}")).permutation(len(digits.train))
        stock.fit(digits.train.x[order], digits.train.y[order], batch_size=128, shuffle=False, verbose=0)
    for a, b in zip(ours.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_a_row_holds_what_the_model_does_in_both_modes(digits):
    engine = Engine(small_mlp({"hidden": 0.5}), PLAIN, digits, seed=1)
    rows = list(fit(engine, track_test=True))
    assert [row["epoch"] for row in rows] == [1, 2]
    last = rows[-1]
    logits = np.asarray(engine.model(digits.train.x))
    assert last["train_error_inference"] == pytest.approx(metrics.error(logits, digits.train.y))
    assert last["train_loss_inference"] == pytest.approx(metrics.loss(logits, digits.train.y), rel=1e-5)
    assert last["train_loss"] > last["train_loss_inference"], "dropout makes the loss that training sees higher"
    for name, part in (("val", digits.val), ("test", digits.test)):
        logits = np.asarray(engine.model(part.x))
        assert last[f"{name}_error"] == pytest.approx(metrics.error(logits, part.y))
        assert last[f"{name}_loss"] == pytest.approx(metrics.loss(logits, part.y), rel=1e-5)


def test_a_row_holds_the_seconds_of_training_within_those_of_the_epoch(digits):
    begun = time.perf_counter()
    rows = list(fit(Engine(small_mlp(), PLAIN, digits, seed=1)))
    assert all(0 < row["train_seconds"] <= row["seconds"] for row in rows)
    assert sum(row["seconds"] for row in rows) <= time.perf_counter() - begun


def test_callbacks_hear_of_epochs_under_the_names_of_keras(digits):
    orders = Orders()
    rows = list(fit(Engine(small_mlp(), PLAIN, digits, seed=1), [orders]))
    kinds = [h if isinstance(h, str) else h[0] for h in orders.heard]
    assert kinds == ["train begin", "epoch 0 begin", 0, "epoch 1 begin", 1, "train end"]
    logs = orders.heard[2][1]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "val_error"} <= set(logs)
    assert logs["val_accuracy"] == pytest.approx(1 - rows[0]["val_error"] / 100)


def test_callbacks_hear_of_batches_once_an_epoch_as_with_an_epoch_of_steps_per_execution(digits):
    heard = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: heard.append(("begin", batch)),
        on_train_batch_end=lambda batch, logs: heard.append(("end", batch, logs)),
    )
    (row, *_) = list(fit(Engine(small_mlp(), PLAIN, digits, seed=1), [look]))
    steps = -(-len(digits.train) // PLAIN.batch_size)
    assert [entry[:2] for entry in heard] == [("begin", 0), ("end", steps - 1)] * 2
    assert look.params == {"epochs": 2, "steps": steps, "verbose": 0}
    assert heard[1][2]["loss"] == row["train_loss"]
    assert heard[1][2]["accuracy"] == pytest.approx(1 - row["train_error"] / 100)


def test_keras_callbacks_stop_and_slow_the_run(digits):
    slower = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=100)
    stop = keras.callbacks.EarlyStopping("val_loss", patience=2, min_delta=100)
    engine = Engine(small_mlp(), dataclasses.replace(PLAIN, epochs=9), digits, seed=1)
    assert len(list(fit(engine, [slower, stop]))) == 3
    assert float(engine.optimizer.learning_rate) < 1e-3


@pytest.mark.parametrize(
    ("model", "placement", "settings", "draws"),
    [
        ("mlp", Placement({"hidden": 0.5}, schedule="annealed"), {"hidden": (24, 24)}, 2),
        ("cnn", {"hidden": 0.5, "conv": Drop(0.2, "spatial")}, {"filters": (4, 6), "hidden": (12,)}, 5),
        ("resnet", {"conv": 0.2, "branch": Drop(0.2, "drop_path")}, {"filters": (4, 6), "blocks": (1, 1)}, 4),
    ],
)
def test_masks_of_a_step_are_drawn_once_and_train_the_same_network(
    digits, monkeypatch, model, placement, settings, draws
):
    weights, drawn = [], []
    for context in (kernels.within_step, lambda examples, most: contextlib.nullcontext()):
        monkeypatch.setattr(kernels, "within_step", context)
        engine = Engine(zoo.build(model, (8, 8, 1), 10, placement, 1, **settings), PLAIN, digits, seed=5)
        batch = tf.TensorSpec((None, 8, 8, 1), tf.uint8), tf.TensorSpec((None,), tf.int32)
        step = tf.function(engine.step, autograph=False).get_concrete_function(*batch)
        drawn.append([call.inputs[0].dtype for call in calls_of(step)])
        list(fit(engine, subset=0))
        weights.append(engine.model.get_weights())
    assert drawn == [[tf.int32] * draws, [tf.float32] * 2 * draws]  # from a shape, and from what goes through
    assert len(digits.train) % PLAIN.batch_size  # the last batch is a smaller one
    for ours, apart in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, apart)


def test_cutting_an_epoch_into_calls_changes_no_bit(digits, monkeypatch):
    weights = []
    for seconds in (1.0, 1e-9):  # at 1e-9 every call is one step
        monkeypatch.setattr(loop, "CALL_SECONDS", seconds)
        engine = Engine(small_mlp({"hidden": 0.5}), PLAIN, digits, seed=1)
        list(fit(engine))
        weights.append(engine.model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_arms_of_a_seed_share_initial_weights_and_data_order(digits):
    seen = []
    for placement in ({}, {"hidden": 0.5}):
        engine = Engine(small_mlp(placement, seed=4), PLAIN, digits, seed=4)
        seen.append(engine.model.get_weights())
        calls = []
        engine._source._steps = lambda order, first, last, calls=calls: calls.append(order.numpy()) or (0.0, 0)
        engine.train_epoch(1)
        engine.train_epoch(2)
        seen[-1] += calls
        assert not np.array_equal(calls[0], calls[-1]), "each epoch has an order of its own"
    for a, b in zip(*seen, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_cross_entropy_of_keras(digits, smoothing):
    engine = Engine(small_mlp(), dataclasses.replace(PLAIN, label_smoothing=smoothing), digits, seed=1)
    x, y = digits.train.x[:50], digits.train.y[:50]
    logits = engine.model(x)
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    target = keras.utils.to_categorical(y, 10)
    np.testing.assert_allclose(np.mean(engine._losses(y, logits)), expected(target, logits), rtol=1e-5)


def test_augmentation_reaches_the_training_examples_of_every_step_and_no_others(digits):
    plain, augmented = (
        Engine(small_mlp(), dataclasses.replace(PLAIN, augment=a), digits, seed=1) for a in (False, True)
    )
    before = [augmented.evaluate(part) for part in (digits.train, digits.val)]
    assert before == [plain.evaluate(part) for part in (digits.train, digits.val)]
    seen = []
    augmented._step = lambda x, y: seen.append(np.asarray(x)) or (0.0, 0)
    x, y = tf.constant(digits.train.x[:20]), tf.constant(digits.train.y[:20])
    for _ in range(2):
        augmented.train_step(x, y)
    assert (seen[0] != np.asarray(x)).any()
    assert (seen[0] != seen[1]).any()
    plain._step = augmented._step
    plain.train_step(x, y)
    np.testing.assert_array_equal(seen[2], x)


def test_a_loss_that_is_no_number_ends_the_run_with_advice(digits):
    recipe = dataclasses.replace(PLAIN, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(RunFailed, match=r"loss became (nan|inf).*epoch 1.*--learning-rate"):
        list(fit(Engine(small_mlp(), recipe, digits, seed=1)))


def test_a_batch_larger_than_the_set_is_one_step(digits):
    recipe = dataclasses.replace(PLAIN, batch_size=10_000, epochs=1)
    assert np.isfinite(next(fit(Engine(small_mlp(), recipe, digits, seed=1)))["train_loss"])


def test_mixed_precision_trains(digits):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        engine = Engine(small_mlp({"hidden": 0.2}), dataclasses.replace(PLAIN, epochs=4), digits, seed=1)
        rows = list(fit(engine))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert type(engine.optimizer).__name__ == "LossScaleOptimizer"
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
