"""Models that are not one of the four, in train, compare, search, modes and export."""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import trainers
import tuning
import zoo
from trainers.plan import Plan
from trainers.training.train import run as train_plan
from zoo import data, runs
from zoo.artefacts import contract, export
from zoo.artefacts.verify import verify
from zoo.errors import BadInput
from zoo.surgery import network

QUIET = {"quiet": True, "threads": 1}
SHORT = {"epochs": 2, "train_size": 200, **QUIET}
CODE = """
import keras


def small(input_shape, classes):
    x = keras.Input(input_shape)
    y = keras.layers.Dense(12, activation="relu")(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(x)))
    return keras.Model(x, keras.layers.Dense(classes)(keras.layers.Dropout(0.4)(y)))
"""


def sequential(ending="softmax", classes=10, rate=0.4):
    """A Sequential classifier of digits as users write them."""
    head = {
        "softmax": [layers.Dense(classes, activation="softmax")],
        "logits": [layers.Dense(classes)],
        "layer": [layers.Dense(classes), layers.Softmax()],
    }[ending]
    body = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation="relu"), layers.Flatten()]
    return keras.Sequential([keras.Input((8, 8, 1)), *body, layers.Dense(12, "relu"), layers.Dropout(rate), *head])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "mine.keras"
    keras.utils.set_random_seed(3)
    sequential().save(path)
    return path


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", train_size=200)


@pytest.fixture(scope="module")
def trained(file, tmp_path_factory):
    return trainers.train(model=file, out=tmp_path_factory.mktemp("runs") / "run", **SHORT)


def weights(model):
    return [np.asarray(v) for v in model.trainable_variables]


def same(left, right):
    return all(np.array_equal(a, b) for a, b in zip(weights(left), weights(right), strict=True))


# === What is built ===


@pytest.mark.parametrize("ending", ["softmax", "logits", "layer"])
def test_training_works_on_logits_that_predict_what_the_model_predicts(ending, digits, tmp_path):
    model = sequential(ending)
    model.save(tmp_path / "m.keras")
    actual = network.survey(tmp_path / "m.keras", digits, weights="keep")
    built = actual.build(digits, actual.own, seed=0)
    x = digits.test.x[:20].astype("float32")
    expected = np.asarray(model(x))
    logits = np.asarray(built(x))
    got = logits if ending == "logits" else np.asarray(keras.ops.softmax(logits))
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(np.asarray(actual.ended(built)(x)), expected, atol=1e-6)
    assert actual.ending == ("logits" if ending == "logits" else "softmax")


def test_one_sigmoid_unit_is_trained_as_two_classes_and_saved_as_one(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    y = (x[:, 0] > 0).astype(int)
    np.savez(tmp_path / "two.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(1, activation="sigmoid")])
    model.save(tmp_path / "m.keras")
    dataset = data.load(str(tmp_path / "two.npz"))
    actual = network.survey(tmp_path / "m.keras", dataset, weights="keep")
    built = actual.build(dataset, actual.own, seed=0)
    rows = dataset.test.x
    p = np.asarray(keras.ops.softmax(built(rows)))[:, 1]
    scaled = (rows - dataset.train.x.mean(axis=0)) / dataset.train.x.std(axis=0)  # a table is scaled in front
    np.testing.assert_allclose(p, np.asarray(model(scaled))[:, 0], atol=1e-5)
    ended = np.asarray(actual.ended(built)(rows))
    assert ended.shape == (len(rows), 1)
    np.testing.assert_allclose(ended[:, 0], p, atol=1e-6)


def test_probabilities_of_other_code_are_recognised_by_their_values(digits, tmp_path):
    x = keras.Input((8, 8, 1))
    h = layers.Flatten()(layers.Rescaling(1 / 255)(x))
    y = layers.Average()([layers.Dense(10, "softmax")(h), layers.Dense(10, "softmax")(h)])
    model = keras.Model(x, y)
    model.save(tmp_path / "m.keras")
    actual = network.survey(tmp_path / "m.keras", digits, weights="keep")
    built = actual.build(digits, actual.own, seed=0)
    images = digits.test.x[:10].astype("float32")
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(built(images))), np.asarray(model(images)), atol=1e-6)


def test_fresh_weights_come_from_the_seed_alone_and_keep_takes_those_of_the_file(file, digits):
    fresh, kept = network.survey(file, digits), network.survey(file, digits, weights="keep")
    one, again, other = (fresh.build(digits, fresh.own, seed) for seed in (1, 1, 2))
    without = fresh.build(digits, fresh.named("none"), 1)
    assert same(one, again)
    assert same(one, without)  # whatever dropout there is
    assert not same(one, other)
    first, second = (kept.build(digits, kept.named(name), seed) for name, seed in (("own", 1), ("none", 2)))
    assert same(first, second)
    assert same(first, keras.models.load_model(file))
    assert not same(one, first)


def test_the_seed_decides_all_masks_also_those_at_no_site(digits, tmp_path):
    x = keras.Input((8, 8, 1))
    h = layers.Dense(16, "relu")(layers.Flatten()(layers.Rescaling(1 / 255)(x)))
    h = layers.GaussianNoise(0.5)(layers.Dropout(0.5)(h))
    keras.Model(x, layers.Dense(10)(h)).save(tmp_path / "m.keras")
    actual = network.survey(tmp_path / "m.keras", digits)
    images = digits.test.x[:8].astype("float32")
    drawn = [np.asarray(actual.build(digits, actual.own, seed)(images, training=True)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    words = np.random.default_rng(0).choice(["good", "bad", "film", "plot", "slow", "fine"], (120, 6))
    rows = [f"{' '.join(row)},{int('good' in row)}" for row in words.tolist()]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return path


def test_a_model_may_begin_with_augmentation(digits, tmp_path):
    augmented = keras.Sequential([keras.Input((8, 8, 1)), layers.RandomFlip(), layers.RandomRotation(0.1)])
    x = keras.Input((8, 8, 1))
    h = layers.Flatten()(layers.Rescaling(1 / 255)(augmented(x)))
    keras.Model(x, layers.Dense(10)(layers.Dropout(0.2)(h))).save(tmp_path / "m.keras")
    assert str(network.survey(tmp_path / "m.keras", digits).own) == "input=0.2"
    keras.Model(x, layers.Dense(10)(layers.Flatten()(augmented(x)))).save(tmp_path / "m.keras")
    with pytest.raises(BadInput, match="--input-range"):
        network.survey(tmp_path / "m.keras", digits)


@pytest.mark.parametrize(
    "recurrent",
    [
        layers.LSTM(6),
        layers.GRU(6),
        layers.SimpleRNN(6),
        layers.Bidirectional(layers.LSTM(6, dropout=0.2)),
        layers.RNN([layers.LSTMCell(6), layers.GRUCell(5)]),
        layers.TimeDistributed(layers.Dense(6)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_fresh_weights_of_layers_with_layers_inside_come_from_the_seed_alone(recurrent, texts, tmp_path):
    x = keras.Input((16,), dtype="int32")
    h = recurrent(layers.Embedding(50, 8)(x))
    h = layers.GlobalAveragePooling1D()(h) if len(h.shape) == 3 else h
    keras.Model(x, layers.Dense(2)(h)).save(tmp_path / "m.keras")
    dataset = data.load(texts, vocabulary=50, length=16)
    actual = network.survey(tmp_path / "m.keras", dataset)
    one, again, other = (actual.build(dataset, actual.own, seed) for seed in (1, 1, 2))
    assert same(one, again)
    for first, second in zip(one.trainable_weights, other.trainable_weights, strict=True):
        drawn = np.ptp(first.numpy()) > 0 and "bias" not in first.name
        assert not drawn or not np.array_equal(first, second), first.path


def textual(values=0.6, tokens=0.3):
    """A network whose masks at `embedding` no Drop describes: two in a row, one of whole maps."""
    x = keras.Input((16,), dtype="int32")
    h = layers.Embedding(50, 8)(x)
    h = layers.Dropout(values, name="drop_values")(layers.SpatialDropout1D(tokens, name="drop_tokens")(h))
    h = layers.Dense(12, "relu")(layers.GlobalAveragePooling1D()(layers.LSTM(8, return_sequences=True)(h)))
    return keras.Model(x, layers.Dense(2)(layers.Dropout(0.2, name="drop_hidden_1")(h)))


def masks_of(model):
    return {layer.name: layer.rate for layer in model.layers if hasattr(layer, "rate")}


def test_own_keeps_the_masks_that_no_drop_describes(texts, tmp_path):
    textual().save(tmp_path / "m.keras")
    dataset, said = data.load(texts, vocabulary=50, length=16), []
    actual = network.survey(tmp_path / "m.keras", dataset, say=said.append)
    assert str(actual.own) == "embedding=own,hidden=0.2"
    assert any("--drop embedding=own" in line for line in said)
    own = {"drop_tokens": 0.3, "drop_values": 0.6, "drop_hidden_1": 0.2}
    assert masks_of(actual.build(dataset, actual.own, 1)) == own
    assert masks_of(actual.build(dataset, actual.named("none"), 1)) == {}
    other = zoo.Placement.parse("embedding=own,hidden=0.5")
    assert masks_of(actual.build(dataset, other, 1)) == {**own, "drop_hidden_1": 0.5}
    assert masks_of(actual.build(dataset, zoo.Placement({"embedding": 0.1}), 1)) == {"drop_embedding_1": 0.1}
    assert network.Network.from_json(json.loads(json.dumps(actual.to_json()))) == actual
    tokens = np.random.default_rng(1).integers(1, 50, (8, 16))
    drawn = [np.asarray(actual.build(dataset, actual.own, seed)(tokens, training=True)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_models_that_differ_in_such_masks_alone_train_differently(texts, tmp_path):
    keras.utils.set_random_seed(0)
    weights = textual().get_weights()
    models = {"few": (0.0, 0.1), "many": (0.0, 0.7), "both": (0.6, 0.7)}
    for name, rates in models.items():
        model = textual(*rates)
        model.set_weights(weights)
        model.save(tmp_path / f"{name}.keras")
    options = {"dataset": texts, "vocabulary": 50, "length": 16, "weights": "keep", "workers": 1, "quiet": True}
    files = [tmp_path / f"{name}.keras" for name in models]
    summary = trainers.compare(model=files, arm="own", seeds=1, epochs=1, out=tmp_path / "out", **options)
    assert summary.runs["test_loss"].nunique() == 3


@pytest.mark.parametrize(
    ("name", "embedding"), [("winner", (0.0, 0.6)), ("values_and_tokens_30", (0.3, 0.6)), ("tokens_30", (0.3, 0.0))]
)
def test_the_networks_that_drop_tokens_are_trained_with_the_masks_that_they_have(name, embedding, texts, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "docs" / "searches")
    dataset = data.load(texts, vocabulary=8000, length=16)
    actual = network.survey(f"token_dropout:{name}", dataset)
    assert str(actual.own) == "embedding=own,attention=0.2,ffn_out=0.2"
    masks = masks_of(actual.build(dataset, actual.own, 1))
    assert (masks["drop_tokens"], masks["drop_embedding_1"]) == embedding
    assert masks["drop_attention_1"] == masks["drop_ffn_out_1"] == 0.2


def test_masks_are_kept_in_a_model_of_your_own_alone(file):
    with pytest.raises(BadInput, match="rate at site 'hidden' must be a number for mlp"):
        Plan.make(model="mlp", placement=zoo.Placement(keep=["hidden"]))
    kept = zoo.place(keras.models.load_model(file), zoo.Placement({"conv": 0.1}, keep=["hidden"]))
    assert sorted(masks_of(kept).values()) == [0.1, 0.4]
    with pytest.raises(BadInput, match="site must be one of"):
        zoo.place(keras.models.load_model(file), zoo.Placement(keep=["attention"]))


def test_placements_of_a_model_are_own_none_and_everywhere(file, digits):
    actual = network.survey(file, digits)
    assert list(actual.sites) == ["input", "conv", "features", "hidden"]
    assert str(actual.named("own")) == "hidden=0.4" == str(actual.named("default"))
    assert actual.named("none").sites == {}
    assert set(actual.named("everywhere").sites) == set(actual.sites)
    assert network.Network.from_json(json.loads(json.dumps(actual.to_json()))) == actual
    with pytest.raises(BadInput, match="placement must be one of own, none"):
        actual.named("paper2014")
    for refused in (lambda: actual.named("hidden=0.1"), lambda: zoo.place(keras.models.load_model(file), "hidden=0.1")):
        with pytest.raises(BadInput, match=r"got 'hidden=0\.1'; use --drop hidden=0\.1, or a dictionary in Python"):
            refused()


# === What is refused before training ===


def wrong(path, build):
    build().save(path)
    return path


def two_inputs():
    a, b = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    return keras.Model([a, b], layers.Dense(10)(layers.Flatten()(a + b)))


def unscaled():
    return keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])


def several_labels():
    body = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(10, "sigmoid")]
    return keras.Sequential([keras.Input((8, 8, 1)), *body])


def other_shape():
    return keras.Sequential([keras.Input((16, 16, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(10)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sequential(classes=7), "10 classes of digits, got 7; use --replace-head"),
        (two_inputs, "one input to be trained, got .* with 2"),
        (unscaled, "input_range must be one of raw, 0:1"),
        (several_labels, "several labels at a time; use --replace-head"),
        (
            other_shape,
            r"examples of digits, \(8, 8, 1\), got an input of \(16, 16, 1\); use --image-size 16",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_the_way_out(tmp_path, build, message):
    path = wrong(tmp_path / "m.keras", build)
    with pytest.raises(BadInput, match=message):
        trainers.train(model=path, out=tmp_path / "run", **SHORT)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "mlp", "weights": "keep"}, "weights must be left out for mlp"),
        ({"model": "applications/MobileNet", "weights": "keep"}, "weights must be fresh"),
        ({"model": "nothing.keras"}, "no such file"),
        ({"model": "applications/MobilNet"}, "did you mean MobileNet"),
        ({"model": "nothing_there:net"}, "cannot import nothing_there"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, options, message):
    with pytest.raises(BadInput, match=message):
        trainers.train(out=tmp_path / "run", **options, **SHORT)


def test_settings_are_refused_and_so_is_a_model_object(file, tmp_path):
    with pytest.raises(BadInput, match="set must be left out"):
        trainers.train(model=file, set={"hidden": 3}, out=tmp_path / "run", **SHORT)
    with pytest.raises(BadInput, match="model must be a name or a path, got a Sequential; save it"):
        trainers.train(model=sequential(), out=tmp_path / "run", **SHORT)


def test_a_new_head_fits_the_classes_and_the_input_range_the_pixels(digits, tmp_path):
    path = wrong(tmp_path / "seven.keras", lambda: sequential(classes=7))
    actual = network.survey(path, digits, weights="keep", replace_head=True)
    built = actual.build(digits, actual.own, 0)
    assert built.output_shape == (None, 10)
    before = weights(keras.models.load_model(path))
    for one, other in zip(weights(built)[:-2], before[:-2], strict=True):
        np.testing.assert_array_equal(one, other)
    raw = wrong(tmp_path / "raw.keras", unscaled)
    model = keras.models.load_model(raw)
    actual = network.survey(raw, digits, weights="keep", input_range="0:1")
    x = digits.test.x[:5].astype("float32")
    np.testing.assert_allclose(
        np.asarray(actual.build(digits, actual.own, 0)(x)), np.asarray(model(x / 255)), atol=1e-5
    )


# === Commands ===


def test_a_run_records_the_model_and_saves_it_as_it_was(trained, file):
    config = runs.read_config(trained.folder)
    assert config["model"] == str(file)
    assert config["network"]["own"] == {"scaling": "inverted", "sites": {"hidden": 0.4}}
    saved = trained.model
    np.testing.assert_allclose(np.asarray(saved(np.zeros((2, 8, 8, 1), "float32"))).sum(axis=1), 1, atol=1e-6)
    assert [layer.rate for layer in saved.layers if layer.name.startswith("drop_")] == [0.4]


def test_a_run_is_resumed_bit_for_bit(trained, file, tmp_path):
    plan = Plan.from_json(runs.read_config(trained.folder))
    train_plan(plan, tmp_path, until=1, **QUIET)
    train_plan(plan, tmp_path, **QUIET)
    assert same(keras.models.load_model(tmp_path / "model.keras"), trained.model)


def test_a_run_whose_file_has_changed_is_not_resumed(tmp_path):
    path = wrong(tmp_path / "m.keras", sequential)
    trainers.train(model=path, out=tmp_path / "run", **SHORT)
    (tmp_path / "run" / "metrics.json").unlink()
    wrong(path, sequential)
    with pytest.raises(BadInput, match="must be what it was when the run was started"):
        trainers.train(out=tmp_path / "run", resume=True, **QUIET)


def test_a_function_of_the_users_code_is_imported_and_trained(tmp_path, monkeypatch):
    (tmp_path / "nets_of_mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    first = trainers.train(model="nets_of_mine:small", out="one", **SHORT)
    second = trainers.train(model="nets_of_mine:small", out="two", drop="hidden=0.4", **SHORT)
    assert same(first.model, second.model)
    config = runs.read_config("one")
    assert config["model"] == "nets_of_mine:small"
    assert len(config["network"]["origin"]["sha256"]) == 64
    sys.modules.pop("nets_of_mine")


def test_a_comparison_has_the_arms_none_and_own_or_each_site(file, tmp_path):
    options = {"model": file, "seeds": 1, "workers": 1, "epochs": 1, "train_size": 100, **QUIET}
    result = trainers.compare(out=tmp_path / "own", **options)
    assert list(result["arms"]) == ["none", "own"]
    table = result.runs
    assert set(table["model"]) == {f"mine-{network.survey(file, data.load('digits')).label[-8:]}"}
    assert set(table["placement"].fillna("")) == {"", "hidden=0.4"}
    each = trainers.compare(out=tmp_path / "each", each_site=0.1, **options)
    assert list(each["arms"]) == ["none", "input", "conv", "features", "hidden"]
    body = [layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(10)]
    none = wrong(tmp_path / "none.keras", lambda: keras.Sequential([keras.Input((8, 8, 1)), *body]))
    with pytest.raises(BadInput, match=r"no dropout is recognised.*--each-site"):
        trainers.compare(**{**options, "model": none}, out=tmp_path / "nothing")


def test_a_search_tries_every_recognised_site(file, tmp_path):
    options = {"max_trials": 2, "workers": 1, "epochs": 1, "train_size": 100, **QUIET}
    result = tuning.search(model=file, out=tmp_path / "search", **options)
    assert {"rate_input", "rate_conv", "rate_features", "rate_hidden"} <= set(result.table().columns)


def test_an_artefact_names_the_origin_and_gives_logits(trained, file, tmp_path):
    folder = export.export(trained.folder, formats=("keras", "onnx"), out=tmp_path)
    card = contract.read(folder)
    assert folder.name == f"{card['architecture']['model']}-digits-own"
    assert card["architecture"]["origin"]["model"] == "mine.keras"
    assert str(file.parent) not in (folder / "card.json").read_text()
    assert all(check.ok for check in verify(folder))
    x = data.load("digits").test.x[:10]
    expected = np.asarray(trained.model(x.astype("float32")))
    np.testing.assert_allclose(zoo.load(folder, runtime="onnx").predict(x).probabilities, expected, atol=1e-5)
    again = export.export(folder, formats="keras", name="again", out=tmp_path)
    stated = contract.read(again)
    assert {key: stated[key] for key in ("architecture", "training", "metrics", "calibration")} == {
        key: card[key] for key in ("architecture", "training", "metrics", "calibration")
    }


# === Weights of ImageNet ===


@pytest.fixture
def colours(tmp_path):
    """A small set of colour images."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = rng.integers(0, 100, (40, 32, 32, 3)) + 100 * y[:, None, None, None]
    np.savez(tmp_path / "c.npz", x_train=x.astype("uint8"), y_train=y, x_test=x[:10].astype("uint8"), y_test=y[:10])
    return data.load(str(tmp_path / "c.npz"))


def test_weights_of_imagenet_are_below_a_head_that_is_fresh_by_the_seed(colours, monkeypatch):
    """What Keras would fetch is made here: the same network without its head, with other weights."""
    builder, built = keras.applications.MobileNet, []

    def fetching(weights=None, include_top=True, **options):
        model = builder(weights=None, include_top=include_top, **options)
        if weights == "imagenet":
            for layer in model.layers:
                layer.set_weights([np.full_like(value, 0.25) for value in layer.get_weights()])
            built.append(model)
        return model

    fetching.__module__, fetching.__name__ = builder.__module__, "MobileNet"
    monkeypatch.setattr(keras.applications, "MobileNet", fetching)
    surveyed = network.survey("applications/MobileNet", colours, weights="imagenet")
    first, again, other = (surveyed.build(colours, surveyed.own, seed) for seed in (1, 1, 2))
    *body, head = [layer for layer in first.layers if layer.weights]
    assert len(body) == sum(bool(layer.weights) for layer in built[0].layers)
    assert all((value == 0.25).all() for layer in body for value in layer.get_weights())
    kernel = head.get_weights()[0]
    assert np.array_equal(kernel, again.get_layer(head.name).get_weights()[0])
    assert not np.array_equal(kernel, other.get_layer(head.name).get_weights()[0])


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("applications/MobileNet", {}, "add --download"),
        ("file", {"download": True}, "fresh or keep"),
        ("applications/MobileNet", {"download": True}, "3 channels"),
    ],
)
def test_weights_of_imagenet_are_refused_where_they_cannot_be(model, options, message, file, tmp_path):
    asked = file if model == "file" else model
    with pytest.raises(BadInput, match=message):
        trainers.train(model=asked, weights="imagenet", out=tmp_path / "run", **options, **SHORT)
    assert not (tmp_path / "run").exists()


def test_weights_that_cannot_be_fetched_are_one_message(colours, monkeypatch):
    def offline(weights=None, **options):
        if weights == "imagenet":
            raise Exception("URL fetch failure on https://example.org: no network")
        return builder(weights=None, **options)

    builder = keras.applications.MobileNet
    offline.__module__, offline.__name__ = builder.__module__, "MobileNet"
    monkeypatch.setattr(keras.applications, "MobileNet", offline)
    with pytest.raises(BadInput, match="cannot get the ImageNet weights of MobileNet: URL fetch failure"):
        network.survey("applications/MobileNet", colours, weights="imagenet")


# === Layers that are not Keras' ===


@keras.saving.register_keras_serializable("test_networks")
class Twice(layers.Layer):
    def call(self, x):
        return 2 * x


def test_a_model_with_layers_of_its_own_says_that_it_cannot_be_exported(digits, tmp_path):
    body = sequential("logits").layers[:-1]
    keras.Sequential([keras.Input((8, 8, 1)), *body, Twice(), layers.Dense(10)]).save(tmp_path / "m.keras")
    said = []
    network.survey(tmp_path / "m.keras", digits, say=said.append)
    assert any("not exported: Twice" in line for line in said)
    path = tmp_path / "plain.keras"
    sequential().save(path)
    said.clear()
    network.survey(path, digits, say=said.append)
    assert not any("not exported" in line for line in said)
