"""Statistics over seeds: right on simulated data, and silent about what does not exist."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from trainers.comparison.paired import bootstrap_interval, describe, paired, pitman_morgan, summarise, t_interval
from zoo.errors import BadInput

# No warning is acceptable: each would be printed beside a user's result.
pytestmark = pytest.mark.filterwarnings("error")

A = [3.1, 2.8, 3.6, 2.5, 3.3, 3.0]
B = [2.4, 2.5, 2.7, 2.2, 2.9, 2.3]


def simulate(times, n=10, correlation=0.8, sd_ratio=1.0, difference=0.0, seed=0):
    """Pairs of arms of n seeds each, normal, correlated as the arms of one seed are."""
    covariance = [[1, correlation * sd_ratio], [correlation * sd_ratio, sd_ratio**2]]
    draws = np.random.default_rng(seed).multivariate_normal([0, difference], covariance, size=(times, n))
    return [(draw[:, 0], draw[:, 1]) for draw in draws]


def row(arm, seed, error, model="mlp", placement=None, loss=0.1, ece=1.0):
    figures = {"test_error": error, "test_loss": loss, "test_ece": ece}
    return {"model": model, "arm": arm, "placement": placement, "seed": seed, **figures}


def near(rate, expected, times, errors=4):
    return abs(rate - expected) <= errors * math.sqrt(expected * (1 - expected) / times)


# === On simulated data ===


def test_t_interval_holds_the_true_difference_95_times_in_100():
    times = 2000
    intervals = [t_interval(a, b) for a, b in simulate(times, difference=-0.5)]
    assert near(np.mean([low <= -0.5 <= high for low, high in intervals]), 0.95, times)


def test_bootstrap_interval_at_ten_pairs_holds_it_about_89_times_in_100():
    # The page says so to its readers.
    times = 400
    intervals = [bootstrap_interval(a, b) for a, b in simulate(times, difference=-0.5, seed=1)]
    assert near(np.mean([low <= -0.5 <= high for low, high in intervals]), 0.89, times)


def test_pitman_morgan_rejects_equal_variances_5_times_in_100():
    times = 2000
    p = [pitman_morgan(a, b)[1] for a, b in simulate(times, seed=2)]
    assert near(np.mean(np.array(p) < 0.05), 0.05, times)


def test_pitman_morgan_p_is_uniform_under_equal_variances():
    p = [pitman_morgan(a, b)[1] for a, b in simulate(2000, seed=3)]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_pitman_morgan_sees_a_doubled_standard_deviation_at_ten_pairs():
    p = [pitman_morgan(a, b)[1] for a, b in simulate(1000, sd_ratio=2, seed=4)]
    assert np.mean(np.array(p) < 0.05) > 0.6


# === By another road ===


def test_t_interval_is_that_of_one_sample_of_differences():
    expected = stats.ttest_1samp(np.subtract(B, A), 0).confidence_interval(0.9)
    assert t_interval(A, B, level=0.9) == pytest.approx(tuple(expected))


def test_pitman_morgan_p_is_that_of_its_closed_form():
    # Snedecor & Cochran: t = (F - 1) sqrt(n - 2) / (2 sqrt(F (1 - r^2))).
    ratio, p = pitman_morgan(A, B)
    r = np.corrcoef(A, B)[0, 1]
    t = (ratio - 1) * math.sqrt(len(A) - 2) / (2 * math.sqrt(ratio * (1 - r**2)))
    assert ratio == pytest.approx(np.var(B, ddof=1) / np.var(A, ddof=1))
    assert p == pytest.approx(2 * stats.t.sf(abs(t), len(A) - 2))


def test_swapping_the_arms_turns_every_sign():
    forward, back = paired(A, B), paired(B, A)
    assert (back["low"], back["high"]) == pytest.approx((-forward["high"], -forward["low"]))
    assert back["variance_ratio"] == pytest.approx(1 / forward["variance_ratio"])
    assert back["variance_p"] == pytest.approx(forward["variance_p"])


def test_bootstrap_gives_the_same_interval_twice():
    assert bootstrap_interval(A, B, seed=5) == bootstrap_interval(A, B, seed=5)


def test_difference_is_second_arm_minus_control():
    assert paired([3.0, 4.0, 5.0], [2.0, 3.5, 3.5])["difference"] == -1.0


# === What does not exist is None ===

DEGENERATE = {
    "no pairs": ([], []),
    "one pair": ([3.0], [2.0]),
    "two pairs": ([3.0, 4.0], [2.0, 3.5]),
    "identical arms": (A, A),
    "constant difference": (A, [a + 0.1 for a in A]),
    "control without spread": ([3.0] * 6, B),
    "other arm without spread": (A, [3.0] * 6),
    "both without spread": ([3.0] * 6, [2.0] * 6),
    "all zero": ([0.0] * 6, [0.0] * 6),
    "mirrored arms": (A, [6.0 - a for a in A]),
    "one diverged": ([3.0, 4.0, 5.0], [2.0, math.nan, 3.5]),
    "one infinite": ([3.0, 4.0, 5.0], [2.0, math.inf, 3.5]),
    "one missing": ([3.0, 4.0, 5.0], [2.0, None, 3.5]),
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_arms_give_valid_json_without_a_warning(case):
    json.dumps(paired(*DEGENERATE[case]), allow_nan=False)


@pytest.mark.parametrize("case", ["no pairs", "one pair", "identical arms", "constant difference"])
def test_without_a_spread_of_differences_there_is_no_interval(case):
    result = paired(*DEGENERATE[case])
    assert [result[key] for key in ("low", "high", "bootstrap_low", "bootstrap_high")] == [None] * 4


def test_two_pairs_have_an_interval_but_no_variance_test():
    result = paired([3.0, 4.0], [2.0, 3.5])
    assert result["low"] < -0.75 < result["high"]
    assert result["variance_p"] is None


def test_an_arm_without_spread_is_not_called_significant():
    assert paired(*DEGENERATE["other arm without spread"])["variance_p"] is None


def test_one_value_has_no_standard_deviation():
    assert describe([2.5]) == {"n": 1, "mean": 2.5, "sd": None, "excluded": 0}


def test_values_that_are_not_finite_are_left_out_and_counted():
    assert describe([1.0, math.nan, 3.0, None]) == {
        "n": 2,
        "mean": 2.0,
        "sd": pytest.approx(2**0.5),
        "excluded": 2,
    }


@pytest.mark.parametrize("arguments", [([1.0], [1.0, 2.0]), ([1.0], [2.0], 1.5)])
def test_what_cannot_be_paired_is_refused(arguments):
    with pytest.raises(BadInput):
        paired(*arguments)


# === The summary ===


def test_only_seeds_that_both_arms_have_are_paired():
    rows = [row("none", s, e) for s, e in ((0, 3.0), (1, 4.0), (2, 9.0))]
    rows += [row("default", s, e) for s, e in ((3, 0.0), (1, 3.0), (0, 2.5))]
    (pair,) = summarise(rows)["pairs"]
    assert (pair["n"], pair["difference"]) == (2, -0.75)


def test_every_arm_is_paired_with_the_first():
    summary = summarise([row(arm, s, e) for arm in ("none", "x", "y") for s, e in enumerate(A)])
    assert [(p["a"], p["b"]) for p in summary["pairs"]] == [("none", "x"), ("none", "y")]


def test_models_are_never_paired_with_each_other():
    rows = [row(arm, 0, 3.0, model) for model in ("mlp", "cnn") for arm in ("none", "default")]
    summary = summarise(rows)
    assert [(p["a"], p["b"]) for p in summary["pairs"]] == [
        ("mlp/none", "mlp/default"),
        ("cnn/none", "cnn/default"),
    ]
    assert list(summary["arms"]) == ["mlp/none", "mlp/default", "cnn/none", "cnn/default"]


def test_loss_and_calibration_error_have_the_same_statistics_inside():
    arms = (("none", A), ("x", B))
    rows = [row(arm, s, 3.0, loss=e / 10, ece=e) for arm, es in arms for s, e in enumerate(es)]
    summary = summarise(rows)
    assert summary["pairs"][0]["test_ece"] == {**paired(A, B), "p_holm": paired(A, B)["p"]}  # of one pair
    assert summary["arms"]["x"]["test_loss"]["mean"] == pytest.approx(np.mean(B) / 10)


def test_the_order_in_which_runs_ended_does_not_choose_the_control():
    rows = [row("default", 0, 2.0, placement="hidden=0.5"), row("none", 0, 3.0, placement="")]
    assert summarise(rows)["pairs"][0]["a"] == "none"
    assert summarise(rows, order=["mlp/default", "mlp/none"])["pairs"][0]["a"] == "default"


def test_a_run_done_again_counts_once():
    summary = summarise([row("none", 0, 9.0), row("none", 0, 3.0)])
    assert (summary["arms"]["none"]["n"], summary["arms"]["none"]["mean"]) == (1, 3.0)


def test_no_rows_give_an_empty_summary():
    assert summarise([]) == {"arms": {}, "pairs": []}


def test_a_missing_column_is_named():
    with pytest.raises(BadInput, match="test_ece"):
        summarise([{"model": "mlp", "arm": "none", "seed": 0, "test_error": 3.0, "test_loss": 0.1}])
