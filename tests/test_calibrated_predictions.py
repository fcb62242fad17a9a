"""Predictions with the temperature and the thresholds of the card: calibrated probabilities, and sets of classes."""

import json

import fake_artefacts as fake
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom

import zoo
from zoo import data
from zoo.__main__ import main
from zoo.artefacts import card, contract
from zoo.artefacts.predictions import Predictions, in_words
from zoo.artefacts.runtimes import RUNTIMES
from zoo.errors import BadInput
from zoo.reliability import calibration, fitting

X = fake.IMAGES
FITTED = {
    "coverages": [0.5, 0.9],
    "modes": {
        "inference": {"temperature": 2.0, "thresholds": [0.5, 0.7]},
        "mc": {"temperature": None, "reason": "every example is right", "thresholds": [0.4, 0.8]},
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("shelf") / "made-by-hand", calibration=FITTED)


def test_a_temperature_divides_the_logits_and_changes_no_class(folder):
    plain, scaled = (zoo.load(folder).predict(X, calibrated=on) for on in (False, True))
    np.testing.assert_allclose(scaled.probabilities, softmax(plain.logits.astype(float) / 2, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(scaled.classes, plain.classes)
    assert (scaled.entropy > plain.entropy).all()
    assert scaled.temperature == 2.0


def test_a_set_holds_the_classes_above_the_threshold_of_the_next_larger_coverage(folder):
    artefact = zoo.load(folder)
    for coverage, threshold in ((0.5, 0.5), (0.51, 0.7), (0.9, 0.7), (0.2, 0.5)):
        actual = artefact.predict(X, coverage=coverage)
        np.testing.assert_array_equal(actual.sets, actual.probabilities >= 1 - threshold)
    assert artefact.predict(X).sets is None
    scaled = artefact.predict(X, coverage=0.9, calibrated=True)
    np.testing.assert_array_equal(scaled.sets, artefact.predict(X, coverage=0.9).sets)
    mc = artefact.predict(X, "mc", 4, seed=1, coverage=0.9)
    np.testing.assert_array_equal(mc.sets, mc.probabilities >= 0.2 - 1e-12)


def test_what_an_artefact_lacks_is_refused_with_the_reason(folder, tmp_path):
    artefact, earlier = zoo.load(folder), zoo.load(fake.write(tmp_path / "a"))
    for call, message in (
        (lambda: artefact.predict(X, coverage=0.95), r"coverage must be at most 0\.9, .* got 0\.95"),
        (lambda: artefact.predict(X, coverage=1), r"coverage must be in \(0, 1\)"),
        (lambda: artefact.predict(X, "mc", 2, calibrated=True), "every example is right"),
        (lambda: earlier.predict(X, calibrated=True), "by an earlier version"),
        (lambda: earlier.predict(X, coverage=0.9), "by an earlier version"),
    ):
        with pytest.raises(BadInput, match=message):
            call()


@pytest.mark.parametrize(
    "change",
    [
        {"coverages": [0.9, 0.5]},
        {"coverages": "all"},
        {"modes": {"training": {}}},
        {"modes": {"inference": {"temperature": -1, "thresholds": [0.5, 0.7]}}},
        {"modes": {"inference": {"temperature": 2.0, "thresholds": [0.5]}}},
        {"modes": {"inference": {"temperature": 2.0, "thresholds": [0.5, True]}}},
        {"modes": []},
    ],
)
def test_a_damaged_entry_is_refused_before_anything_is_opened(change, tmp_path):
    with pytest.raises(BadInput, match=r"calibration\..* must be"):
        zoo.load(fake.write(tmp_path / "a", calibration={**FITTED, **change}))


def test_a_number_that_is_not_finite_is_refused_before_anything_is_opened(tmp_path):
    modes = {"inference": {"temperature": float("nan"), "thresholds": [0.5, 0.7]}}
    with pytest.raises(BadInput, match="NaN, which is not finite"):
        zoo.load(fake.write(tmp_path / "a", calibration={**FITTED, "modes": modes}))


def test_the_command_prints_sets_and_says_in_words_how_certain_it_is(folder, tmp_path, capsys):
    np.save(tmp_path / "x.npy", X[:2])
    words = ["predict", str(folder), str(tmp_path / "x.npy")]
    main([*words, "--coverage", "0.9", "--calibrated"])
    shown = capsys.readouterr().out
    assert "set of classes" in shown
    assert "temperature 2.000" in shown
    main([*words, "--coverage", "0.9", "--mode", "mc", "--samples", "20", "--seed", "1"])
    shown = capsys.readouterr().out
    assert shown.count("samples predict") == 2
    main([*words, "--coverage", "0.9", "--mode", "mc", "--samples", "20", "--seed", "1", "--json"])
    row = json.loads(capsys.readouterr().out)["predictions"][0]
    actual = zoo.load(folder).predict(X[:1], "mc", 20, seed=1, coverage=0.9)
    assert set(row["set"]) <= set(fake.LABELS)
    assert row["in_words"] in shown
    assert f"{actual.votes[0].max()} of 20" in row["in_words"] or "all 20" in row["in_words"]


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [
        ([[0.99, 0.01]] * 4, "Certain: all 4 samples predict cat."),
        ([[0.9, 0.1]] * 3 + [[0.4, 0.6]], "Fairly certain: 3 of 4 samples predict cat."),
        ([[0.55, 0.45]] * 4, "Uncertain: all 4 samples predict cat, the next is dog; both are plausible."),
        (
            [[0.99, 0.01]] * 3 + [[0.02, 0.98]] * 2,
            "Uncertain: 3 of 5 samples predict cat, the next is dog; the samples disagree, as for inputs unlike the "
            "training data.",
        ),
        ([[0.9, 0.1]], "One sample says nothing about how certain cat is; use more samples."),
    ],
)
def test_the_words_follow_from_the_samples(probabilities, words):
    logits = np.log(np.array(probabilities, np.float32))[:, None]
    assert in_words(Predictions(("cat", "dog"), "mc", "onnx", 1, logits), 0) == words


@pytest.mark.parametrize("model", ["cnn", "transformer"])
def test_an_export_fits_both_on_the_validation_part(artefacts, model):
    stated, digits = contract.read(artefacts[model])["calibration"], data.load("digits")
    artefact = zoo.load(artefacts[model], "onnx")
    expected = calibration.temperature(np.log(artefact.predict(digits.val.x).probabilities), digits.val.y)
    assert stated["modes"]["inference"]["temperature"] == pytest.approx(expected, rel=1e-3)
    actual = artefact.predict(digits.test.x, coverage=0.8)
    covered = int(actual.sets[np.arange(360), digits.test.y].sum())
    assert binom.cdf(covered, 360, 0.8) > 1e-4
    for mode, row in stated["modes"].items():
        assert row["loss_scaled"] <= row["loss"] + 0.02, mode
        assert row["thresholds"] == sorted(row["thresholds"])
    page = (artefacts[model] / card.PAGE).read_text()
    assert "## Calibration" in page
    assert f"{stated['modes']['mc']['temperature']:.3f}" in page


def test_every_runtime_gives_the_same_sets_and_calibrated_probabilities(artefacts):
    x = data.load("digits").test.x[:40]
    for mode, samples in (("inference", 1), ("mc", 3)):
        first = None
        for runtime in RUNTIMES:
            actual = zoo.load(artefacts["cnn"], runtime).predict(x, mode, samples, 1, calibrated=True, coverage=0.9)
            first = first or actual
            np.testing.assert_allclose(actual.probabilities, first.probabilities, atol=1e-4)
            assert (actual.sets != first.sets).sum() <= 1  # a probability may lie at the threshold


def test_without_validation_examples_nothing_is_fitted():
    digits = data.load("digits", train_size=20)
    network = zoo.build("mlp", (8, 8, 1), 10, {}, hidden=(8,))
    assert fitting.fit(network, digits.val.head(0), digits.test.head(5)) is None
    few = fitting.fit(network, digits.val.head(9), digits.test.head(5))
    assert few["coverages"][-1] == 0.9
