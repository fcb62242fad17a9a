"""Rates that move while training: what each schedule is, who moves it, and that nothing is traced anew."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from trainers.plan import Plan
from trainers.recipe import Recipe
from trainers.training.loop import Engine, fit
from trainers.training.train import train
from zoo import data
from zoo.dropout import scheduled
from zoo.errors import BadInput
from zoo.placement.placement import Placement
from zoo.placement.schedule import SCHEDULES, Schedule


def factors(text, progress=(0, 0.25, 0.5, 0.75, 1)):
    return np.asarray(Schedule.parse(text).factor(progress))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("early:0.5", [1, 0.5, 0, 0, 0]),
        ("late:0.5", [0, 0, 1, 1, 1]),
        ("curriculum", 1 - np.exp([0, -2.5, -5, -7.5, -10])),
        ("annealed", np.exp([0, -2.5, -5, -7.5, -10])),
    ],
)
def test_a_schedule_is_what_its_source_says(text, expected):
    np.testing.assert_allclose(factors(text), expected, atol=1e-6)


def test_early_and_late_speak_of_a_sixth_of_the_run_as_in_the_paper():
    np.testing.assert_allclose(factors("early", [0, 1 / 12, 0.2]), [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(factors("late", [0.16, 0.17]), [0, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("erly", r"schedule must be one of .*, got 'erly'; did you mean 'early'"),
        ("early:0", r"part of schedule 'early' must be in \(0, 1\], got 0"),
        ("early:1.5", r"part of schedule 'early' must be in \(0, 1\], got 1\.5"),
        ("early:x", r"schedule must be NAME\[:PART\].*, got 'early:x'"),
        ("curriculum:0.5", r"only early and late"),
        ("", r"schedule must be one of .*, got ''"),
    ],
)
def test_what_is_no_schedule_is_refused(text, message):
    with pytest.raises(BadInput, match=message):
        Schedule.parse(text)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_placement_with_a_schedule_comes_back_from_text_and_json(name):
    placement = Placement({"hidden": 0.5}, schedule=f"{name}:0.3" if name in ("early", "late") else name)
    assert Placement.parse(str(placement)) == placement
    assert Placement.from_json(placement.to_json()) == placement
    assert Placement({}, schedule=name) == Placement()


def test_rates_that_move_have_no_one_factor_for_the_original_scaling():
    with pytest.raises(BadInput, match=r"scaling must be 'inverted' with schedule 'early', got 'original'"):
        Placement({"hidden": 0.5}, "original", "early")


def test_a_command_says_the_schedule_again():
    plan = Plan.make(drop=["hidden=0.4"], drop_schedule="late:0.25")
    assert "--drop-schedule late:0.25" in plan.command()
    assert Plan.from_json(plan.to_json()) == plan


def engine(schedule, epochs=4):
    digits = data.load("digits", train_size=100)
    model = zoo.build("mlp", (8, 8, 1), 10, Placement({"hidden": 0.5}, schedule=schedule), hidden=(16,))
    return Engine(model, Recipe(epochs=epochs, batch_size=25), digits, seed=1)


def test_the_loop_moves_the_rate_at_every_step_and_traces_once():
    traces, whole = [], engine("early:0.5")
    step = whole.train_step
    whole.train_step = lambda x, y: traces.append(1) or step(x, y)
    (rate,), seen = scheduled.of(whole.model), []
    for _ in fit(whole, subset=0):
        seen.append(float(rate.variable))
    # 16 steps; an epoch ends with the factor of its last step, which had the progress (4 * epoch - 1) / 16.
    np.testing.assert_allclose(seen, [1 - 3 / 8, 1 - 7 / 8, 0, 0], atol=1e-6)
    assert len(traces) == 1


def test_a_moved_rate_is_the_rate_at_which_values_are_dropped():
    layer = zoo.build("mlp", (8, 8, 1), 10, Placement({"hidden": 0.5}, schedule="late")).get_layer("drop_hidden_1")
    call = tf.function(lambda x: layer(x, training=True))
    for factor in (0.0, 0.2, 1.0):
        layer.moving.variable.assign(factor)
        y = call(tf.ones((400, 500))).numpy()
        error = np.sqrt(0.5 * factor * (1 - 0.5 * factor) / y.size)
        assert abs((y == 0).mean() - 0.5 * factor) <= 4 * error  # error rate 1 in 16,000
        np.testing.assert_allclose(y.max(), 1 / (1 - 0.5 * factor), rtol=1e-6)
    assert len(call._list_all_concrete_functions()) == 1


def test_a_run_with_moving_rates_is_resumed_bit_for_bit(tmp_path):
    options = {"model": "mlp", "settings": {"hidden": 16}, "drop": {"hidden": 0.5}, "drop_schedule": "curriculum"}
    options |= {"train_size": 200, "epochs": 4, "quiet": True}
    train(**options, out=tmp_path / "whole")
    from trainers.training.train import run

    (tmp_path / "paused").mkdir()
    plan = Plan.make(**{k: v for k, v in options.items() if k != "quiet"})
    run(plan, tmp_path / "paused", quiet=True, until=2)
    train(**options, out=tmp_path / "paused", resume=True)
    whole, paused = (keras.models.load_model(tmp_path / name / "model.keras") for name in ("whole", "paused"))
    for a, b in zip(whole.get_weights(), paused.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_stock_fit_moves_the_rates_by_a_callback():
    model = zoo.build("mlp", (8, 8, 1), 10, Placement({"hidden": 0.5}, schedule="late:0.5"), hidden=(8,))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    (rate,), seen = scheduled.of(model), []
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(float(rate.variable)))
    x, y = np.zeros((20, 8, 8, 1)), np.zeros(20)
    model.fit(x, y, batch_size=10, epochs=4, verbose=0, callbacks=[zoo.FollowSchedule(), look])
    assert seen == [0, 0, 0, 0, 1, 1, 1, 1]


def test_the_report_draws_the_schedules(tmp_path):
    from trainers.comparison.compare import compare

    arms = {"none": {}, "fading": Placement({"hidden": 0.5}, schedule="early:0.5")}
    compare(arms=arms, seeds=2, epochs=1, settings={"hidden": 8}, train_size=100, out=tmp_path / "out", quiet=True)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "fading: early:0.5." in page
    assert "schedule=early:0.5" in page


# === FollowSchedule in other models ===


def scheduled_network(schedule="late:1"):
    return zoo.build("mlp", (8, 8, 1), 10, Placement({"hidden": 0.5}, schedule=schedule), hidden=(16,))


def factors_in_fit(model, inner, **options):
    (rate,), seen = scheduled.of(inner), []
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(float(rate.variable)))
    x, y = np.zeros((40, 8, 8, 1), "float32"), np.arange(40) % 10
    data = options.pop("data", None) or (x, y)
    zoo.compile(model).fit(*data, epochs=2, verbose=0, callbacks=[zoo.FollowSchedule(), look], **options)
    return seen


def nested_in_two_models(inner):
    outer = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.RandomFlip(), inner])
    return keras.Sequential([keras.Input((8, 8, 1)), outer])


class Around(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x, training=None):
        return self.inner(x, training=training)


@pytest.mark.parametrize("wrapped", [nested_in_two_models, Around])
def test_follow_schedule_moves_the_rates_of_a_nested_model(wrapped):
    inner = scheduled_network("early:1")
    np.testing.assert_allclose(factors_in_fit(wrapped(inner), inner, batch_size=10), 1 - np.arange(8) / 8, atol=1e-6)


def test_follow_schedule_counts_the_batches_that_keras_does_not_know():
    def batches():
        for _ in range(4):
            yield np.zeros((10, 8, 8, 1), "float32"), np.arange(10)

    of_unknown_size = tf.data.Dataset.from_generator(
        batches, output_signature=(tf.TensorSpec((None, 8, 8, 1), "float32"), tf.TensorSpec((None,), "int32"))
    )
    inner = scheduled_network("early:1")
    seen = factors_in_fit(inner, inner, data=(of_unknown_size,))
    np.testing.assert_allclose(seen, [1, 1, 1, 1, 1 / 2, 3 / 8, 1 / 4, 1 / 8], atol=1e-6)


def test_follow_schedule_waits_for_the_next_epoch_if_one_has_more_batches_than_before():
    model = scheduled_network("early:1")
    (rate,), callback, seen = scheduled.of(model), zoo.FollowSchedule(), []
    callback.set_model(model)
    callback.set_params({"steps": 2, "epochs": 4})
    callback.on_train_begin()
    callback.on_epoch_begin(1)
    for batch in range(4):
        callback.on_train_batch_begin(batch)
        seen.append(float(rate.variable))
    np.testing.assert_allclose(seen, [3 / 4, 5 / 8, 1 / 2, 1 / 2], atol=1e-6)


@pytest.mark.parametrize(
    "drop", [0.5, *(zoo.Drop(0.5, kind) for kind in ("spatial", "gaussian", "drop_block"))], ids=lambda drop: str(drop)
)
def test_a_rate_that_has_moved_to_zero_changes_nothing(drop):
    model = zoo.build("cnn", (8, 8, 1), 10, Placement({"conv": drop}, schedule="curriculum"), filters=(4,), hidden=(8,))
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype("float32")
    for rate in scheduled.of(model):
        rate.variable.assign(0.0)
    np.testing.assert_allclose(model(x, training=True), model(x, training=False), rtol=1e-6)


def reloaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


@pytest.mark.parametrize("how", [lambda m, _: keras.models.clone_model(m), reloaded])
def test_follow_schedule_refuses_a_model_that_has_lost_its_schedule(how, tmp_path):
    model = how(scheduled_network(), tmp_path)
    nested = keras.Sequential([keras.Input((8, 8, 1)), how(scheduled_network(), tmp_path)])
    for lost in (model, nested):
        with pytest.raises(BadInput, match="drop_hidden_1"):
            zoo.compile(lost).fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0, callbacks=[zoo.FollowSchedule()])


@pytest.mark.parametrize("placement", [{"hidden": 0.5}, {}])
def test_follow_schedule_has_nothing_to_do_for_constant_rates(placement):
    model = zoo.compile(zoo.build("mlp", (8, 8, 1), 10, placement, hidden=(16,)))
    model.fit(np.zeros((4, 8, 8, 1)), np.zeros(4), verbose=0, callbacks=[zoo.FollowSchedule()])


@pytest.mark.parametrize("part", [1e-300, 1e-45, 1e-38])
@pytest.mark.parametrize("ops", [None, keras.ops])
def test_a_part_that_float32_cannot_hold_divides_by_no_zero(part, ops):
    schedule = Schedule("early", part)
    progress = np.float32([0, 0.5]) if ops is None else tf.constant([0, 0.5])
    np.testing.assert_array_equal(schedule.factor(progress, ops), [1, 0])
    if ops is not None:  # XLA takes subnormal numbers for 0
        factor = tf.function(lambda progress: schedule.factor(progress, ops), jit_compile=True)
        np.testing.assert_array_equal(factor(progress), [1, 0])
