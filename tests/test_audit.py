"""The audit: each rule finds what it is for, finds nothing in a sound model, and its command works."""

import json
import shlex

import keras
import numpy as np
import pytest
from conftest import SMALL
from foreign import GRAPHS
from keras import layers, ops

import zoo
from zoo.__main__ import main
from zoo.surgery.audit import LEVELS, USUAL, variance_ratio
from zoo.surgery.opening import open_model


def dense(*middle, units=8, **options):
    return keras.Sequential([keras.Input((6,)), layers.Dense(units, **options), *middle, layers.Dense(3)])


def convolutional(*middle, **options):
    head = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, **options), *middle, *head])


@keras.saving.register_keras_serializable("audit")
class Noisy(layers.Layer):
    """Augmentation that its author forgot to switch off."""

    def call(self, x):
        return x + keras.random.normal(ops.shape(x))


def baked(layer):
    x = keras.Input((6,))
    return keras.Model(x, layers.Dense(3)(layer(layers.Dense(4, activation="relu")(x), training=True)))


def drop(rate=0.2, kind=layers.Dropout):
    return kind(rate, name="drop")


# Rule, level, layer, and a model that it is about.
CASES = [
    ("dropout-at-output", "error", "drop", lambda: keras.Sequential([keras.Input((6,)), *dense().layers, drop()])),
    (
        "dropout-at-output",
        "error",
        "drop",
        lambda: keras.Sequential([keras.Input((6,)), *dense().layers, drop(), layers.Softmax()]),
    ),
    ("dropout-before-batchnorm", "error", "drop", lambda: dense(layers.ReLU(), drop(0.5), layers.BatchNormalization())),
    ("dropout-before-batchnorm", "warning", "drop", lambda: dense(drop(0.1), layers.BatchNormalization())),
    (
        "dropout-before-batchnorm",
        "warning",
        "drop",
        lambda: dense(layers.ReLU(), drop(), layers.Dense(4), layers.BatchNormalization()),
    ),
    ("single-values-on-maps", "warning", "drop", lambda: convolutional(drop(), activation="relu")),
    (
        "masks-in-series",
        "warning",
        "drop",
        lambda: dense(layers.ReLU(), layers.GaussianDropout(0.1), drop()),
    ),
    ("rate-above-usual", "warning", "drop", lambda: dense(layers.ReLU(), drop(0.8))),
    ("dropout-after-selu", "warning", "drop", lambda: dense(drop(), activation="selu")),
    ("training-baked-in", "warning", "drop", lambda: baked(drop())),
    ("training-baked-in", "error", "norm", lambda: baked(layers.BatchNormalization(name="norm"))),
    ("rate-one", "error", "drop", lambda: dense(layers.ReLU(), drop(1.0))),
    ("bias-before-norm", "note", "c", lambda: convolutional(layers.BatchNormalization(), layers.ReLU(), name="c")),
    (
        "decay-before-norm",
        "note",
        "c",
        lambda: dense(layers.LayerNormalization(), layers.ReLU(), name="c", kernel_regularizer="l2"),
    ),
    ("wide-layer-without-dropout", "note", "w", lambda: dense(units=512, activation="relu", name="w")),
    ("transformer-without-dropout", "note", "transformer", lambda: SMALL["transformer"].build({})),
    ("random-at-inference", "error", "noisy", lambda: dense(Noisy(name="noisy"), activation="relu")),
    (
        "one-rate-everywhere",
        "note",
        "norm",
        lambda: keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                drop(),
                layers.Conv2D(4, 3, use_bias=False),
                layers.BatchNormalization(name="norm"),
                layers.ReLU(),
                layers.Dropout(0.2),
                layers.Flatten(),
                layers.Dropout(0.2),
                layers.Dense(3),
            ]
        ),
    ),
]
SOUND = {
    "mlp": lambda: SMALL["mlp"].build({"input": 0.2, "hidden": 0.5}),
    "resnet": lambda: SMALL["resnet"].build({"features": 0.1, "branch": zoo.Drop(0.2, "drop_path")}),
    "transformer": lambda: SMALL["transformer"].build("default"),
    "cnn": lambda: SMALL["cnn"].build({"conv": zoo.Drop(0.1, "spatial"), "hidden": 0.5}),
    "alpha": lambda: dense(layers.AlphaDropout(0.1), activation="selu"),
    "frozen": lambda: GRAPHS["nested_three_deep"]()[0],
}


@pytest.mark.parametrize(("rule", "level", "layer", "make"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_each_rule_finds_what_it_is_for_and_says_why(rule, level, layer, make):
    actual = [finding for finding in zoo.audit(make()) if finding.rule == rule]
    assert len(actual) == 1
    (finding,) = actual
    assert finding.level == level
    assert finding.layer == layer
    assert all((finding.reason, finding.reference, finding.remedy))
    assert finding["rule"] == rule


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_in_a_sound_model(name):
    assert [finding for finding in zoo.audit(SOUND[name]()) if finding.level != "note"] == []


def test_the_ratio_is_that_of_activations_under_dropout():
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=1_000_000), 0)
    for rate in (0.1, 0.3, 0.5):
        dropped = x * (rng.uniform(size=x.size) >= rate) / (1 - rate)
        assert variance_ratio(rate) == pytest.approx(dropped.var() / x.var(), rel=0.02)


@pytest.mark.parametrize(("rule", "level", "layer", "make"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_the_command_of_a_finding_runs_and_the_finding_is_gone(rule, level, layer, make, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = make()
    actual = [f for f in zoo.audit(model, "mine.keras") if f.rule == rule and f.command]
    if actual:
        model.save("mine.keras")
    for finding in actual:
        main(shlex.split(finding.command.removeprefix("python -m zoo ")))
        capsys.readouterr()
        after = zoo.audit(open_model("fixed.keras"))
        assert not [f for f in after if f.rule == rule]


def test_findings_come_errors_first_and_as_json(tmp_path, capsys):
    model = dense(layers.ReLU(), drop(0.9), layers.BatchNormalization(), layers.GaussianDropout(0.1))
    model.save(tmp_path / "mine.keras")
    levels = [LEVELS.index(finding.level) for finding in zoo.audit(model)]
    assert levels == sorted(levels)
    assert main(["audit", str(tmp_path / "mine.keras"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["findings"]
    assert [row["rule"] for row in printed] == [finding.rule for finding in zoo.audit(model)]
    assert set(printed[0]) == {"rule", "level", "layer", "reason", "reference", "remedy", "command"}
    assert main(["audit", str(tmp_path / "mine.keras"), "--strict"]) == 1
    text = capsys.readouterr().out
    assert all(row["reason"] in text for row in printed)
    assert main(["audit", "mlp", "--input-shape", "8,8,1", "--classes", "3", "--strict"]) == 0
    capsys.readouterr()


def test_every_site_has_a_usual_rate():
    from zoo.placement.drop import SITES

    assert set(USUAL) == set(SITES)
