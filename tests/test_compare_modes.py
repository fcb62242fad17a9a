"""The modes of one network side by side: what is measured, on which models, and what the command writes."""

import functools
import json

import keras
import numpy as np
import pytest
from conftest import SMALL
from keras import layers

import zoo
from zoo import keras_graph, metrics
from zoo.artefacts import locate
from zoo.errors import BadInput
from zoo.models import scores
from zoo.modes import moments, report
from zoo.modes.compare import COMPARED, ModesResult, compare_modes, gap

pytestmark = pytest.mark.xdist_group("compare_modes")  # one process, so that each comparison is made once
RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(2000, 64)).astype("float32")
RATIOS = {0.1: 1.16, 0.3: 1.63, 0.5: 2.47}  # Li et al. 2019 for ReLU of a standard normal


def dropped_before_batch_norm(rate):
    """ReLU of the input, dropout, BatchNorm that has stored the variance which training shows it, head."""
    x = keras.Input((64,))
    h = layers.Dropout(rate, name="drop", seed=1)(layers.ReLU(name="relu")(x))
    norm = layers.BatchNormalization(name="norm")
    model = keras.Model(x, layers.Dense(3, name="logits")(norm(h)))
    variance = 0.5 / (1 - rate) - 1 / (2 * np.pi)
    norm.moving_variance.assign(np.full(64, variance))
    norm.moving_mean.assign(np.full(64, (2 * np.pi) ** -0.5))
    return model


def layer(actual, name):
    return next(row for row in actual["layers"] if row["name"] == name)


def classifier(inputs, h, classes=4, activation=None):
    model = keras.Model(inputs, layers.Dense(classes, activation, name="head")(h))
    keras.utils.set_random_seed(1)
    return model


# === What is measured ===


@pytest.mark.parametrize("rate", RATIOS)
def test_the_variance_shift_before_a_batch_norm_is_that_of_the_literature(rate):
    actual = compare_modes(dropped_before_batch_norm(rate), NORMAL, samples=2)
    (norm,) = actual["batch_norms"]
    assert norm["channels"] == 64
    assert norm["masks_on_over_off"] == pytest.approx(RATIOS[rate], rel=0.02)
    assert norm["variance_shift"] == pytest.approx(RATIOS[rate], rel=0.02)
    row = layer(actual, "drop")
    assert row["rate"] == rate
    for mode in ("training", "mc"):
        assert row["variance_ratio"][mode] == pytest.approx(RATIOS[rate], rel=0.02)


@pytest.mark.parametrize("rate", RATIOS)
def test_means_hold_behind_a_mask_because_survivors_are_rescaled(rate):
    row = layer(compare_modes(dropped_before_batch_norm(rate), NORMAL, samples=2), "drop")
    ratios = row["mean_ratio"]
    assert ratios["training"] == pytest.approx(1, abs=0.01)
    assert ratios["mc"] == pytest.approx(1, abs=0.01)
    assert ratios["uncompensated_training"] == pytest.approx(1 - rate, abs=0.01)
    assert ratios["uncompensated_inference"] == pytest.approx(1 / (1 - rate), rel=1e-5)


def test_figures_of_a_layer_are_those_of_its_output_and_count_live_units():
    x = keras.Input((6,))
    dense = layers.Dense(8, "relu", name="hidden")
    model = classifier(x, layers.Dropout(0.5, name="drop")(dense(x)))
    dense.bias.assign([-100.0] * 2 + [0.0] * 6)  # two units are never on
    data = RNG.normal(size=(300, 6)).astype("float32")
    actual = compare_modes(model, data, samples=2)
    y = np.asarray(dense(data), np.float64)
    figures = layer(actual, "hidden")["modes"]["inference"]
    assert figures["mean"] == pytest.approx(y.mean())
    assert figures["variance"] == pytest.approx(y.var())
    assert figures["live"] == 0.75
    assert figures["active"] == pytest.approx((y != 0).mean())
    dropped = layer(actual, "drop")["modes"]
    assert dropped["mc"]["live"] == 0.75
    assert dropped["mc"]["active"] == pytest.approx(figures["active"] / 2, rel=0.1)


def test_units_of_a_channels_first_layer_are_its_channels():
    y = np.zeros((2, 3, 4, 4), "float32")
    y[:, 0], y[1, 2] = 5.0, 1.0
    actual = moments.summed(moments._sums(y, 1).numpy())
    assert actual["live"] == pytest.approx(2 / 3)
    assert actual["active"] == pytest.approx((32 + 16) / 96)
    assert moments.by_unit(moments._sums(y, 1).numpy())[0].tolist() == [5.0, 0.0, 0.5]


@functools.cache
def compared(name):
    """A small network with dropout everywhere, examples, classes, and the comparison of its modes, made once."""
    model, x = SMALL[name].build("everywhere"), SMALL[name].batch(60)
    y = np.random.default_rng(1).integers(0, 5, 60)
    return model, x, y, compare_modes(model, x, y, samples=3, seed=7)


def test_figures_of_the_modes_are_those_of_their_outputs(small):
    model, x, y, result = compared(small.name)
    actual = result["modes"]
    logits = np.asarray(model(x, training=False))
    assert {k: actual["inference"][k] for k in ("error", "ece")} == {
        "error": metrics.error(logits, y),
        "ece": pytest.approx(metrics.calibration_error(logits, y)),
    }
    assert actual["inference"]["loss"] == pytest.approx(metrics.loss(logits, y), rel=1e-5)
    assert actual["mc"]["loss"] < actual["mc_single"]["loss"]  # Jensen
    assert actual["mc"]["entropy"] > actual["mc_single"]["entropy"]
    assert actual["mc_single"]["sd"]["loss"] > 0
    assert set(actual) == set(COMPARED)
    assert all(actual.values())


def test_without_batch_norm_training_is_one_sample_of_mc():
    actual = compare_modes(zoo.build("mlp", (4, 4, 1), 3, {"hidden": 0.5}, hidden=(32,)), images(40, 3)[0], samples=2)
    for row in actual["layers"]:
        assert row["modes"]["training"] == row["modes"]["mc"]
    assert actual["modes"]["training"] == {"entropy": pytest.approx(actual["modes"]["mc_single"]["entropy"], rel=0.2)}


def test_without_dropout_mc_is_inference_and_says_so(small):
    actual = compare_modes(small.build({}), small.batch(), samples=2)
    assert [mode for mode, figures in actual["modes"].items() if figures] == ["inference", "training"]
    assert "nothing is dropped" in actual["notes"][0]
    for row in actual["layers"]:
        assert row["variance_ratio"]["mc"] in (1.0, None)
        assert row["mean_ratio"]["mc"] in (1.0, None)
    assert all(norm["masks_on_over_off"] == 1 for norm in actual["batch_norms"])
    assert "nothing is dropped" in report.text(actual)


def images(n, classes, shape=(4, 4, 1)):
    return RNG.integers(0, 256, (n, *shape)).astype("uint8"), RNG.integers(0, classes, n)


def test_nothing_changes_in_the_model_and_one_seed_gives_one_result(small):
    model, x, y, first = compared(small.name)
    before = [np.array(v) for v in model.variables]
    assert json.dumps(first, allow_nan=False) == json.dumps(compare_modes(model, x, y, samples=3, seed=7))
    fresh = small.build("everywhere")
    for old, new, untouched in zip(before, model.variables, fresh.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
        np.testing.assert_array_equal(old, np.array(untouched))


def test_another_seed_gives_another_result():
    model, x, y, first = compared("mlp")
    assert compare_modes(model, x, y, samples=3, seed=8)["modes"]["mc"] != first["modes"]["mc"]


def test_the_card_has_the_same_figures(small):
    model, x, y, actual = compared(small.name)
    card = gap(model, x, y, samples=3, seed=7)
    assert [row["name"] for row in card["modes"]] == ["inference", "training", "mc"]
    for row in card["modes"]:
        for key in ("error", "loss", "ece", "entropy"):
            assert row[key] == pytest.approx(actual["modes"][row["name"]][key], rel=1e-6)
    norm = "of the batch" if small.model == "resnet" else "none"
    assert (card["modes"][1]["dropout"], card["modes"][1]["batch_norm"]) == ("on", norm)


# === Models that are not ours ===


def test_nested_models_several_batch_norms_and_a_softmax():
    x = keras.Input((12,), name="x")
    inside = keras.Input((8,))
    block = keras.Model(inside, layers.Dropout(0.4, name="drop")(layers.BatchNormalization(name="bn")(inside)))
    block.name = "block"
    h = block(layers.Dense(8, "relu", name="first")(x))
    h = layers.BatchNormalization(name="outer")(block(h))
    actual = compare_modes(classifier(x, h, activation="softmax"), NORMAL[:90, :12], RNG.integers(0, 4, 90), samples=2)
    assert [norm["name"] for norm in actual["batch_norms"]] == ["block/bn", "block/bn (call 2)", "outer"]
    assert "probabilities" in actual["assumed"]
    assert actual["modes"]["inference"]["loss"] == pytest.approx(np.log(4), abs=1.5)


def test_attention_with_dropout_inside_keeps_its_factor():
    x = keras.Input((5, 8))
    h = layers.MultiHeadAttention(2, 4, dropout=0.3, name="mha")(x, x)
    model = classifier(x, layers.Dropout(0.2, name="drop")(layers.GlobalAveragePooling1D()(h)))
    data = RNG.normal(size=(50, 5, 8)).astype("float32")
    actual = compare_modes(model, data, samples=3)
    assert actual["notes"] == ["the modes without 1/(1-rate) do not change: mha"]
    assert layer(actual, "mha")["variance_ratio"]["mc"] != 1
    alone = compare_modes(classifier(x, layers.Flatten()(h)), data, samples=2)
    assert alone["modes"]["uncompensated_training"] is None
    assert "no mask layer" in alone["notes"][0]


def test_several_inputs_and_one_sigmoid():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    h = layers.GaussianDropout(0.3)(layers.Concatenate()([a, b]))
    model = classifier([a, b], h, classes=1, activation="sigmoid")
    x, y = [NORMAL[:40, :3], NORMAL[:40, :2]], RNG.integers(0, 2, 40)
    actual = compare_modes(model, x, y, samples=2)
    p = np.asarray(model(x, training=False), np.float64)[:, 0]
    expected = -np.mean(np.where(y == 1, np.log(p), np.log(1 - p)))
    assert actual["modes"]["inference"]["loss"] == pytest.approx(expected, rel=1e-5)
    assert "class 1" in actual["assumed"]


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (lambda h: layers.Dense(3)(h), "logits"),
        (lambda h: layers.Softmax()(layers.Dense(3)(h)), "softmax"),
        (lambda h: layers.Activation("softmax", dtype="float32")(layers.Dense(3)(h)), "softmax"),
        (lambda h: keras.ops.softmax(layers.Dense(3)(h)), "softmax"),
        (lambda h: layers.Reshape((3,))(layers.Dense(3, "sigmoid")(h)), "sigmoid"),
        (lambda h: layers.Dense(3)(layers.Softmax()(h)), "logits"),
        (lambda h: layers.Dense(3, "tanh")(h), "logits"),
    ],
)
def test_what_the_outputs_stand_for_is_told_from_the_last_operation(head, form):
    x = keras.Input((4,))
    actual = scores.scores_of(keras_graph.Graph(keras.Model(x, head(x))))
    assert actual.form == form
    p = np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    logits = actual.logits(np.log(np.maximum(p, 1e-300)) if form == "logits" else p)
    np.testing.assert_allclose(np.exp(metrics.log_softmax(logits)), p, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.full(5, 3)}, "integers from 0 to 2"),
        ({"y": np.zeros(4, int)}, "of the 5 examples"),
        ({"x": NORMAL[:0], "y": None}, "number of examples must be .*, got 0"),
        ({"samples": 0}, "samples must be .*, got 0"),
        ({"x": np.full((5, 64), np.inf, "float32")}, "finite outputs"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    options = {"x": NORMAL[:5], "y": np.zeros(5, int), **change}
    with pytest.raises(BadInput, match=message):
        compare_modes(dropped_before_batch_norm(0.1), **options)


def test_a_model_with_other_outputs_is_refused():
    x = keras.Input((4, 2))
    for outputs in ([x + 1, x + 2], layers.Dense(3)(x)):
        with pytest.raises(BadInput, match="one output"):
            compare_modes(keras.Model(x, outputs), np.zeros((2, 4, 2)))


def test_a_model_over_strings_is_cut_at_its_tokens():
    strings = keras.Input((), dtype="string")
    words = layers.TextVectorization(output_sequence_length=4, vocabulary=["good", "film"], name="tokens")
    h = layers.GlobalAveragePooling1D()(layers.Embedding(4, 6)(words(strings)))
    model = classifier(strings, layers.Dropout(0.5)(h), classes=2)
    cut = locate.from_tokens(model)
    ids = np.array([[2, 3, 0, 0], [1, 1, 2, 0]], "int32")
    np.testing.assert_array_equal(cut(ids), model(keras.ops.convert_to_tensor(["good film", "a b good"])))
    assert compare_modes(cut, ids, samples=2)["modes"]["mc"]


# === The result as an object ===


def test_the_result_is_a_dictionary_with_a_headline_a_figure_and_the_model():
    model, _, _, result = compared("resnet")
    assert isinstance(result, ModesResult)
    assert result.model is model
    assert result["model"] == model.name
    assert "mc" in result.headline
    assert f"{result['modes']['inference']['error']:.2f} %" in repr(result)
    assert "\n" not in repr(result)
    assert json.loads(result.to_json()) == json.loads(json.dumps(result))
    assert len(result.figure().axes) >= 4
    without_classes = compare_modes(*compared("mlp")[:2], samples=1)
    assert "error" not in without_classes.headline


def test_the_table_of_the_result_has_a_row_per_mode():
    model = zoo.build("mlp", (4, 4, 1), 3, {"hidden": 0.5}, hidden=(8,))
    table = compare_modes(model, *images(20, 3), samples=2).table()
    assert list(table["mode"]) == ["inference", "training", "mc", "mc_single", *COMPARED[4:]]
    assert list(table)[:5] == ["mode", "error", "loss", "ece", "entropy"]
    assert list(table)[-1] == "about"
    assert table["error_sd"].notna().sum() == 1


def test_layers_that_do_not_move_are_counted_not_drawn(tmp_path):
    x = keras.Input((6,))
    h = layers.Dropout(0.5, name="drop")(layers.Dense(8, "relu", name="still")(x))
    result = compare_modes(classifier(x, h), RNG.normal(size=(200, 6)).astype("float32"), samples=2)
    assert [row["name"] for row in report.moved(result["layers"])] == ["drop", "head"]
    names = [label.get_text() for ax in result.figure().axes for label in ax.get_yticklabels()]
    assert "drop" in names
    assert "still" not in names
    assert "other layers within 2 % of inference in variance: 1" in report.text(result)


def test_axes_of_error_and_loss_start_at_zero(small):
    result = compared(small.name)[-1]
    assert [ax.get_xlim()[0] for ax in result.figure().axes[:2]] == [0, 0]
