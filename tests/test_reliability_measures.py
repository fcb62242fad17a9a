"""Measures of reliability equal independent implementations, on random and on degenerate inputs."""

import itertools

import numpy as np
import pytest
from scipy.stats import betabinom
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score, roc_curve

from zoo.errors import BadInput
from zoo.reliability import calibration, selective, sets, shift
from zoo.reliability.resampling import Bootstrap, estimates, exact, mean_of

RNG = np.random.default_rng(0)


def random_case(n=200, classes=4, scale=2.0, seed=0):
    rng = np.random.default_rng(seed)
    p = np.exp(scale * rng.normal(size=(n, classes)))
    return p / p.sum(1, keepdims=True), rng.integers(0, classes, n)


def certain(labels, classes=4):
    return np.eye(classes)[labels]


CASES = {
    "random": random_case(),
    "one class": (random_case()[0], np.zeros(200, int)),
    "all right": (certain(random_case()[1]), random_case()[1]),
    "all wrong": (certain((random_case()[1] + 1) % 4), random_case()[1]),
    "ties": (
        np.round(random_case()[0] * 4 + 1) / np.round(random_case()[0] * 4 + 1).sum(1, keepdims=True),
        random_case()[1],
    ),
    "one example": (np.array([[0.2, 0.5, 0.3, 0.0]]), np.array([1])),
    "zeros and ones": (certain(RNG.integers(0, 4, 50)), RNG.integers(0, 4, 50)),
}


@pytest.fixture(params=CASES)
def case(request):
    p, labels = CASES[request.param]
    with np.errstate(divide="ignore"):
        return p, np.log(p), labels


def test_loss_and_brier_score_equal_scikit_learn(case):
    p, log_p, labels = case
    measures = calibration.measures(log_p, labels)
    every = np.arange(p.shape[1])
    assert exact(measures["loss"], len(labels)) == pytest.approx(log_loss(labels, p, labels=every), abs=1e-6)
    brier = brier_score_loss(labels, p, labels=every, scale_by_half=False)
    assert exact(measures["brier"], len(labels)) == pytest.approx(brier, abs=1e-6)


def ece_by_hand(p, labels, bins_of):
    confidence, hits = p.max(1), p.argmax(1) == labels
    return 100 * sum(abs(hits[b].mean() - confidence[b].mean()) * b.mean() for b in bins_of(confidence) if b.any())


def test_calibration_errors_equal_arithmetic_by_hand(case):
    p, log_p, labels = case
    measures = calibration.measures(log_p, labels)

    def width(c):
        edges = np.linspace(0, 1, 16)
        return [(c > low) & (c <= high) for low, high in itertools.pairwise(edges)]

    def mass(c):
        ranks = np.argsort(np.argsort(c, kind="stable"), kind="stable")
        limits = np.cumsum([0] + [len(part) for part in np.array_split(np.arange(len(c)), 15)])
        return [(ranks >= low) & (ranks < high) for low, high in itertools.pairwise(limits)]

    assert exact(measures["ece"], len(labels)) == pytest.approx(ece_by_hand(p, labels, width), abs=1e-6)
    assert exact(measures["ece_mass"], len(labels)) == pytest.approx(ece_by_hand(p, labels, mass), abs=1e-6)


def test_the_parts_of_the_brier_score_add_up(case):
    p, log_p, labels = case
    parts = calibration.brier_decomposition(log_p, labels)
    total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within_bins"]
    assert total == pytest.approx(brier_score_loss(labels, p, labels=np.arange(4), scale_by_half=False), abs=1e-9)
    assert parts["reliability"] >= 0
    assert parts["resolution"] >= 0


def test_the_reliability_diagram_counts_every_example_once(case):
    _, log_p, labels = case
    rows = calibration.reliability_diagram(log_p, labels)
    assert sum(row["count"] for row in rows) == len(labels)
    assert all(row["low"] <= row["accuracy"] <= row["high"] for row in rows)
    error = sum(row["count"] * (1 - row["accuracy"]) for row in rows) / len(labels)
    assert 100 * error == pytest.approx(calibration.errors(log_p, labels).mean())


def test_temperature_minimises_the_loss_and_changes_no_class():
    p, _ = random_case(400, seed=3)
    log_p = np.log(p)
    labels = np.array([np.random.default_rng(i).choice(4, p=row) for i, row in enumerate(p)])
    best = calibration.temperature(log_p, labels)
    losses = [calibration.losses(calibration.scaled(log_p, t), labels).mean() for t in (0.98 * best, best, 1.02 * best)]
    assert losses[1] < losses[0]
    assert losses[1] < losses[2]
    assert np.array_equal(calibration.scaled(log_p, best).argmax(1), log_p.argmax(1))


def test_temperature_undoes_a_known_one():
    rng = np.random.default_rng(1)
    log_p = calibration.scaled(rng.normal(size=(20000, 3)) * 2, 1.0)
    labels = np.array([rng.choice(3, p=row) for row in np.exp(log_p)])
    assert calibration.temperature(log_p * 3, labels) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("name", ["all right", "all wrong"])
def test_a_temperature_without_a_minimum_is_refused(name):
    p, labels = CASES[name]
    with pytest.raises(BadInput, match="validation examples"):
        calibration.temperature(np.log(np.maximum(p, 1e-9)), labels)


def orders(score, rng, n=400):
    """Random orders from certain to uncertain that break ties at random."""
    for _ in range(n):
        shuffled = rng.permutation(len(score))
        yield shuffled[np.argsort(score[shuffled], kind="stable")]


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_under_risk_and_coverage_is_its_mean_over_the_orders_of_ties(ties):
    rng = np.random.default_rng(5)
    score, wrong = rng.random(40), rng.random(40) < 0.3
    score = np.round(score * 4) if ties else score
    risks = [100 * np.cumsum(wrong[o]) / np.arange(1, 41) for o in orders(score, rng, 4000 if ties else 1)]
    curve = selective.RiskCoverage(score, wrong)
    tolerance = {"abs": 4 * np.std([r.mean() for r in risks]) / len(risks) ** 0.5 + 1e-9}
    figures = curve.measures(np.ones((1, 40)))
    assert figures["aurc"][0] == pytest.approx(np.mean(risks), **tolerance)
    for share in (5, 10, 20):
        kept = int(np.ceil(40 * (1 - share / 100) - 1e-9))
        at = [r[kept - 1] for r in risks]
        spread = {"abs": 4 * np.std(at) / len(at) ** 0.5 + 1e-9}
        assert figures[f"error_at_{share}"][0] == pytest.approx(np.mean(at), **spread)


def test_weights_count_as_repeated_examples():
    rng = np.random.default_rng(6)
    score, wrong = np.round(rng.random(30) * 10), rng.random(30) < 0.4
    counts = rng.multinomial(30, [1 / 30] * 30)
    repeated = selective.RiskCoverage(np.repeat(score, counts), np.repeat(wrong, counts))
    curve = selective.RiskCoverage(score, wrong)
    expected = repeated.measures(np.ones((1, 30)))
    for name, value in curve.measures(counts[None].astype("float32")).items():
        assert value[0] == pytest.approx(expected[name][0], rel=1e-4)


def test_a_perfect_order_has_no_excess_and_a_useless_one_the_mean_error():
    def figure(name, score, wrong):
        return selective.RiskCoverage(score, wrong).measures(np.ones((1, 50)))[name][0]

    wrong = np.arange(50) >= 40
    assert figure("excess_aurc", wrong.astype(float), wrong) == pytest.approx(0, abs=1e-9)
    assert figure("aurc", np.zeros(50), wrong) == pytest.approx(20.0)
    for all_of in (np.zeros(50, bool), np.ones(50, bool)):
        assert figure("aurc", np.arange(50.0), all_of) == pytest.approx(100.0 * all_of[0])
        assert figure("excess_aurc", np.arange(50.0), all_of) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("case", ["random", "ties", "apart", "equal", "one each"])
def test_detection_equals_scikit_learn(case):
    rng = np.random.default_rng(7)
    known, foreign = rng.normal(size=60), rng.normal(1, 1, size=40)
    if case == "ties":
        known, foreign = np.round(known), np.round(foreign)
    if case == "apart":
        foreign = foreign + 100
    if case == "equal":
        known, foreign = np.zeros(60), np.zeros(40)
    if case == "one each":
        known, foreign = known[:1], foreign[:1]
    draws = Bootstrap(len(known), 20), Bootstrap(len(foreign), 20, seed=1)
    figures = {key: row.figure() for key, row in estimates(shift.Detection(known, foreign).measures, *draws).items()}
    truth = np.r_[np.zeros(len(known)), np.ones(len(foreign))]
    score = np.r_[known, foreign]
    assert figures["auroc"]["value"] == pytest.approx(roc_auc_score(truth, score), abs=1e-9)
    assert figures["aupr"]["value"] == pytest.approx(average_precision_score(truth, score), abs=1e-9)
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    assert figures["fpr95"]["value"] == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-9)
    assert all(row["low"] <= row["value"] + 1e-6 and row["value"] - 1e-6 <= row["high"] for row in figures.values())


@pytest.mark.parametrize("method", sets.METHODS)
def test_conformal_sets_cover_as_often_as_the_beta_binomial_says(method):
    n, m, coverage, runs = 99, 100, 0.9, 400
    rng = np.random.default_rng(8)
    covered = []
    for run in range(runs):
        logits = rng.normal(size=(n + m, 6)) * 1.5
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        labels = np.array([rng.choice(6, p=row) for row in p])
        fitting = sets.scores(p, method, seed=run)
        of_labels = fitting[np.arange(n + m), labels]
        inside = sets.prediction_sets(fitting[n:], sets.threshold(of_labels[:n], coverage))
        covered.append(inside[np.arange(m), labels[n:]].sum())
    rank = int(np.ceil((n + 1) * coverage))
    expected = betabinom(m, rank, n + 1 - rank)
    assert np.mean(covered) == pytest.approx(expected.mean(), abs=3 * expected.std() / runs**0.5)


def test_too_few_validation_examples_for_a_coverage_are_refused_with_the_number_needed():
    assert sets.threshold(np.arange(9.0), 0.9) == 8.0
    with pytest.raises(BadInput, match=r"at least 9 .*got 8"):
        sets.threshold(np.arange(8.0), 0.9)


def test_bootstrap_intervals_cover_the_truth():
    """400 intervals of a mean: a share outside 91 to 98 % has a chance below 0.1 %."""
    rng = np.random.default_rng(9)
    hits = 0
    for run in range(400):
        figure = Bootstrap(100, 400, seed=run).estimate(mean_of(rng.normal(size=100))).figure()
        hits += figure["low"] <= 0 <= figure["high"]
    assert 0.91 < hits / 400 < 0.98


def test_a_paired_difference_of_equal_measures_is_exactly_0():
    measure = mean_of(RNG.random(50))
    draws = Bootstrap(50, 100)
    assert (draws.estimate(measure) - draws.estimate(measure)).figure() == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize("wrong", [False, True])
def test_the_risk_of_one_example_is_0_or_100(wrong):
    figures = selective.RiskCoverage(np.array([0.3]), np.array([wrong])).measures(np.ones((1, 1)))
    for name in ("aurc", "error_at_5", "error_at_10", "error_at_20"):
        assert figures[name][0] == pytest.approx(100.0 * wrong, abs=1e-6)


def test_no_temperature_changes_a_class_of_a_degenerate_case(case):
    _, log_p, _ = case
    for temperature in (0.1, 3.0):
        assert np.array_equal(calibration.scaled(log_p, temperature).argmax(1), log_p.argmax(1))
