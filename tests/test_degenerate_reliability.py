"""Reliability of degenerate predictions: what is undefined is null with a reason, and nothing is NaN or a traceback."""

import functools
import json
import warnings

import numpy as np
import pytest

import zoo
from zoo import metrics
from zoo.artefacts import contract
from zoo.artefacts.predictions import Predictions, as_json, as_table
from zoo.data import Dataset, Part
from zoo.errors import BadInput
from zoo.reliability import assess, calibration, fitting, report, sets
from zoo.reliability.resampling import Bootstrap

RNG = np.random.default_rng(0)
KINDS = ("random", "one class", "constant", "certain and right", "certain and wrong", "ties")


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def predicted(kind, count, classes):
    """Probabilities `(count, classes)` and labels."""
    y = RNG.integers(0, classes, count)
    if kind == "one class":
        y[:] = 1
    p = metrics.softmax(2 * RNG.normal(size=(count, classes)))
    if kind == "constant":
        p = np.full((count, classes), 1 / classes)
    elif kind.startswith("certain"):
        p = np.eye(classes)[y if kind.endswith("right") else (y + 1) % classes]
    elif kind == "ties":
        p = np.ceil(4 * p) / np.ceil(4 * p).sum(axis=1, keepdims=True)
    return p, y


def drawn(p, samples):
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    return assess.Drawn(log_p, *((metrics.predictive_entropy(p), np.zeros(len(p))) if samples > 1 else ()))


def undefined(figures):
    """Yields every figure without a value."""
    if isinstance(figures, dict):
        if figures.get("value", 0) is None:
            yield figures
        for inner in figures.values():
            yield from undefined(inner)


@pytest.mark.parametrize("classes", [2, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_finite_or_null_with_a_reason(kind, classes):
    for tests, vals, coverage in [(1, 1, 0.5), (1, 30, 0.9), (20, 1, 0.9), (20, 30, 1e-12), (20, 30, 1 - 1e-12)]:
        (p, y), (p_val, y_val) = (predicted(kind, count, classes) for count in (tests, vals))
        parts = {"test": drawn(p, 1), "val": drawn(p_val, 1), "ood:one": drawn(p_val[:1], 1)}
        draws = Bootstrap(tests, 5), {"one": Bootstrap(1, 5)}
        measured = assess._measured(parts, y, y_val, range(classes), coverage, 0, *draws)
        figures = assess._rounded(measured)
        json.dumps(figures, allow_nan=False)
        assert all(row["reason"] for row in undefined(figures))
        assert (figures["coverage"]["value"] is None) == (np.ceil((vals + 1) * coverage - 1e-9) > vals)
        if kind == "constant":
            assert "the same at all" in figures["temperature"]["reason"]
        if kind.startswith("certain"):
            assert figures["temperature"]["value"] is None


@pytest.mark.parametrize("method", sets.METHODS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [2, 1000])
def test_sets_cover_the_examples_that_they_were_fitted_on_and_grow_with_the_coverage(method, kind, classes):
    p, y = predicted(kind, 50, classes)
    scores = sets.scores(p, method)
    assert np.isfinite(scores).all()
    of_labels = scores[np.arange(50), y]
    limits = [sets.threshold(of_labels, coverage) for coverage in (1e-12, 0.5, 0.9, 50 / 51)]
    assert limits[0] == of_labels.min()
    assert limits[-1] == of_labels.max()
    assert limits == sorted(limits)
    for coverage, limit in zip((0, 0.5, 0.9, 0.98), limits, strict=True):
        assert sets.prediction_sets(scores, limit)[np.arange(50), y].mean() >= coverage


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, float("nan")])
def test_a_coverage_at_or_beyond_its_ends_is_refused(coverage):
    with pytest.raises(BadInput, match=r"coverage must be .*\(0, 1\)|coverage must be a"):
        sets.threshold(np.arange(5.0), coverage)


def test_without_examples_nothing_is_fitted():
    for call in (
        lambda: calibration.temperature(np.empty((0, 3)), np.empty(0, int)),
        lambda: sets.threshold(np.empty(0), 0.5),
    ):
        with pytest.raises(BadInput, match=r"got (none|0)"):
            call()


@pytest.mark.parametrize("samples", [1, 7, 20])
def test_certain_samples_give_probabilities_of_at_most_1(samples):
    """The logarithm of their mean is above 0 by rounding, and thresholds below 0 would be refused in a card."""
    network = zoo.build("mlp", (2, 2, 1), 2, {"hidden": 0.5}, hidden=(4,))
    drawer = assess.Drawer(network, samples, 0, "per-example")
    outputs = np.tile(np.array([800.0, -800.0]), (samples, 3, 1))
    for _, predictions in drawer._averaged(outputs):
        part = predictions()
        assert -1e-12 < part.log_p.max() <= 0
        assert all((score >= 0).all() for score in part.scores.values())


def made(classes, tests, vals, y=None):
    def part(count):
        labels = RNG.integers(0, classes, count) if y is None else np.full(count, y)
        return Part(RNG.integers(0, 256, (count, 2, 2, 1)).astype("uint8"), labels.astype("int32"))

    labels = tuple(map(str, range(classes)))
    return Dataset("made", "image", (2, 2, 1), classes, labels, part(2), part(vals), part(tests), None, False, {})


@functools.cache
def network(classes, scale=1.0, rate=0.5):
    model = zoo.build("mlp", (2, 2, 1), classes, {"hidden": rate} if rate else {}, hidden=(4,), seed=1)
    model.set_weights([scale * w for w in model.get_weights()])
    return model


@pytest.mark.parametrize(
    ("classes", "tests", "vals", "samples", "scale"),
    [(2, 1, 1, 1, 1.0), (2, 3, 0, 2, 1.0), (1000, 2, 3, 2, 1e6)],
)
def test_small_parts_are_measured_whole(classes, tests, vals, samples, scale, tmp_path):
    dataset, model = made(classes, tests, vals, y=1), network(classes, scale)
    result = zoo.uncertainty(model, dataset, {"one": dataset.test.x[:1]}, samples=samples, resamples=5)
    if samples == 1:  # what is undefined is left out of the picture
        report.write(result, tmp_path / "out")
    written = json.loads(json.dumps(result, allow_nan=False))
    assert all(row["reason"] for row in undefined(written))
    assert report.text(written)
    mc = written["modes"]["mc"]
    assert (mc["selective"]["mutual_information"]["aurc"]["value"] is None) == (samples == 1)
    assert (mc["ood"]["one"]["variance"]["auroc"]["value"] is None) == (samples == 1)
    assert {row["mutual_information"] is None for row in result.examples if row["mode"] == "mc"} == {samples == 1}
    assert (mc["coverage"]["value"] is None) == (vals < 9)
    fitted = fitting.fit(model, dataset.val, dataset.test, samples=samples)
    if vals:
        json.dumps(fitted, allow_nan=False)
        contract._check_calibration(tmp_path, fitted)
    else:
        assert fitted is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_refused(value):
    with pytest.raises(BadInput, match="finite outputs"):
        assess._finite(np.array([[0.0, value]]))


def test_a_network_of_nan_is_refused():
    with pytest.raises(BadInput, match="finite outputs"):
        zoo.uncertainty(network(2, float("nan"), rate=0), made(2, 2, 2), resamples=5)


def test_parts_that_must_hold_examples_are_named():
    with pytest.raises(BadInput, match="test part of dataset must hold examples"):
        zoo.uncertainty(network(2), made(2, 0, 3))
    with pytest.raises(BadInput, match="ood 'none' must hold examples"):
        zoo.uncertainty(network(2), made(2, 2, 3), {"none": np.empty((0, 2, 2, 1), "uint8")})


@pytest.mark.parametrize("samples", [1, 3])
def test_the_mutual_information_of_one_sample_is_null(samples):
    logits = RNG.normal(size=(samples, 2, 3)).astype("float32")
    actual = Predictions(("a", "b", "c"), "mc", "onnx", 1, logits, threshold=0.5)
    row = json.loads(json.dumps(as_json(["x", "y"], actual), allow_nan=False))["predictions"][0]
    assert (row["mutual_information"] is None) == (samples == 1) == ("One sample" in row["in_words"])
    assert "mutual information" in as_table(["x", "y"], actual)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("mode", ["inference", "mc"])
def test_equal_probabilities_are_all_in_a_set_or_none_whichever_way_they_were_computed(classes, mode):
    """A threshold of equal probabilities lies at them; rounding must not empty the sets."""
    shape = (7, 1, classes) if mode == "mc" else (1, classes)
    actual = Predictions(tuple(map(str, range(classes))), mode, "onnx", 1, np.zeros(shape, "float32"), threshold=0.0)
    limit = sets.threshold(sets.scores(np.exp(metrics.log_softmax(np.zeros((9, classes)))))[:, 0], 0.9)
    assert not actual.sets.any()
    assert Predictions(actual.labels, mode, "onnx", 1, actual.logits, threshold=limit).sets.all()


def test_an_impossible_class_adds_nothing_to_the_entropy():
    assert metrics.entropy(np.array([[0.0, -np.inf], [0.0, 0.0]])) == pytest.approx([0, np.log(2)])
