"""The statistics of comparisons and claims, on simulated data: intervals cover the truth, tests hold their level.

A count of 1,000 repetitions at 95 % has a standard error of 0.7 points; three of them are allowed, or what the
method states.
"""

import numpy as np
import pytest
from scipy import stats

from trainers.claims import rules
from trainers.claims.rules import (
    REFUTED,
    REPRODUCED,
    UNDECIDED,
    AtLeast,
    Contrast,
    Disagreement,
    Every,
    Results,
    Spread,
)
from trainers.comparison import paired

REPETITIONS = 1000
ERROR = 3 * (0.95 * 0.05 / REPETITIONS) ** 0.5


def simulated(rng, difference=0.0, sd=1.0, seeds=10, arms=("none", "dropout"), common=1.0):
    """Rows of arms that share a part of each seed; every arm but the first differs by `difference`."""
    shared = rng.normal(size=seeds) * common
    rows = {}
    for number, arm in enumerate(arms):
        values = shared + rng.normal(size=seeds) * sd + (difference if number else 0)
        rows[arm] = {seed: {"test_error": 10 + value, "val_error": 10.0} for seed, value in enumerate(values)}
    return Results(rows)


def contrast(claimed="below", least=0.0, b="dropout"):
    return Contrast("b minus a", {b: 1, "none": -1}, claimed, least)


def test_the_interval_of_a_contrast_covers_the_truth_95_times_in_100():
    rng, covered = np.random.default_rng(1), 0
    for _ in range(REPETITIONS):
        finding = contrast().find(simulated(rng, -0.7))
        covered += finding.low < -0.7 < finding.high
    assert abs(covered / REPETITIONS - 0.95) < ERROR


def test_a_claim_that_is_not_true_is_reproduced_once_in_40():
    rng = np.random.default_rng(2)
    count = sum(contrast().find(simulated(rng)).verdict == REPRODUCED for _ in range(REPETITIONS))
    assert abs(count / REPETITIONS - 0.025) < 3 * (0.025 * 0.975 / REPETITIONS) ** 0.5


def test_a_true_claim_is_refuted_once_in_40_at_most():
    rng = np.random.default_rng(3)
    count = sum(contrast(least=0.5).find(simulated(rng, -0.5)).verdict == REFUTED for _ in range(REPETITIONS))
    assert count / REPETITIONS < 0.025 + 3 * (0.025 * 0.975 / REPETITIONS) ** 0.5


@pytest.mark.parametrize(("seed_sd", "example_sd"), [(0.5, 0.0), (0.0, 2.0), (0.3, 1.0), (0.0, 0.0)])
def test_the_crossed_interval_covers_a_mean_over_seeds_and_examples(seed_sd, example_sd):
    rng, covered, repetitions = np.random.default_rng(4), 0, 600
    for _ in range(repetitions):
        of_seed, of_example = rng.normal(size=(10, 1)) * seed_sd, rng.normal(size=(1, 40)) * example_sd
        low, high, _ = paired.crossed_interval(0.3 + of_seed + of_example + rng.normal(size=(10, 40)))
        covered += low < 0.3 < high
    # With nothing but noise between runs it is wider than it need be, never narrower.
    assert covered / repetitions > 0.95 - 3 * (0.95 * 0.05 / repetitions) ** 0.5


def test_holm_errs_in_5_of_100_families_at_most_and_where_all_are_null_near_5():
    rng = np.random.default_rng(5)
    p = rng.random((4000, 5))
    wrong = np.mean([min(paired.holm(row)) < 0.05 for row in p])
    assert abs(wrong - 0.05) < 3 * (0.05 * 0.95 / 4000) ** 0.5


def test_holm_is_that_of_the_definition():
    assert paired.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.holm([0.01, None, 0.04]) == [0.02, None, 0.04]
    assert paired.holm([]) == []


def test_several_comparisons_reproduce_a_claim_that_is_not_true_in_5_of_100_families_at_most():
    rng, arms = np.random.default_rng(6), ("none", "a", "b", "c")
    rule = AtLeast(1, tuple(contrast(b=arm) for arm in arms[1:]))
    verdicts = [rule.judge(simulated(rng, arms=arms))[0] for _ in range(300)]
    assert verdicts.count(REPRODUCED) / 300 < 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5


def test_the_exact_interval_of_p_better_covers_it():
    rng, covered, truth = np.random.default_rng(7), 0, stats.norm.cdf(0.5 / 2**0.5)
    for _ in range(REPETITIONS):
        a, b = rng.normal(size=10), rng.normal(size=10) - 0.5
        _, low, high = paired.probability_better(a, b)
        covered += low <= truth <= high
    assert covered / REPETITIONS > 0.95 - ERROR


def test_equal_values_count_half():
    assert paired.probability_better([1.0, 1.0], [1.0, 1.0])[0] == 0.5
    assert paired.probability_better([], []) == (None, None, None)


@pytest.mark.parametrize("n", [5, 10, 30])
def test_power_is_the_share_of_simulated_experiments_that_find_the_difference(n):
    d = np.random.default_rng(8).normal(size=(REPETITIONS, n)) + 0.8
    actual = (stats.ttest_1samp(d, 0, axis=1).pvalue < 0.05).mean()
    assert abs(paired.power(0.8, 1.0, n) - actual) < 3 * (0.25 / REPETITIONS) ** 0.5


@pytest.mark.parametrize(("effect", "n"), [(0.3, 10), (1.0, 6), (0.5, 40)])
def test_power_is_that_of_the_noncentral_t_distribution(effect, n):
    critical, shift = stats.t.ppf(0.975, n - 1), effect * n**0.5
    exact = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
    assert paired.power(effect, 1.0, n) == pytest.approx(exact, abs=2e-3)


def test_the_detectable_difference_is_found_in_80_of_100_experiments():
    a = np.zeros(10)
    b = np.random.default_rng(9).normal(size=10)
    smallest = paired.detectable(a, b)
    assert paired.power(smallest, b.std(ddof=1), 10) == pytest.approx(0.8, abs=1e-6)
    assert paired.detectable(a, a) is None


def test_so_many_pairs_are_needed_and_no_fewer():
    for difference in (0.2, 0.5, 2.0):
        n = paired.pairs_needed(difference, 1.0)
        assert paired.power(difference, 1.0, n) >= 0.8 > paired.power(difference, 1.0, n - 1)


def layout(rng, seeds, examples, of_seed, of_example, mean):
    """Differences of a two-way layout `(seeds, examples)`."""
    rows, columns = rng.normal(size=(seeds, 1)) * of_seed, rng.normal(size=examples) * of_example
    return mean + rows + columns + rng.normal(size=(seeds, examples))


def test_the_spread_over_seeds_and_examples_is_that_of_means_over_other_seeds_and_examples():
    rng = np.random.default_rng(15)
    predicted = [paired.crossed_spread(layout(rng, 40, 200, 0.3, 2.0, 0.0))(10) / 10**0.5 for _ in range(20)]
    actual = np.std([layout(rng, 10, 200, 0.3, 2.0, 0.0).mean() for _ in range(2000)])
    assert np.mean(predicted) == pytest.approx(actual, rel=0.08)


def test_the_seeds_that_are_needed_find_the_difference_in_80_of_100_experiments():
    rng = np.random.default_rng(16)
    spread = paired.crossed_spread(layout(rng, 200, 400, 0.4, 0.5, 0.0))
    n = paired.pairs_needed(0.2, spread)
    found = [paired.crossed_interval(layout(rng, n, 400, 0.4, 0.5, 0.2))[2] < 0.05 for _ in range(400)]
    assert abs(np.mean(found) - 0.8) < 0.09  # the interval is cautious, the components are estimates


def test_seeds_do_not_replace_test_examples():
    spread = paired.crossed_spread(layout(np.random.default_rng(17), 10, 400, 0.1, 3.0, 0.0))
    assert paired.pairs_needed(0.2, spread) is None


def test_with_several_comparisons_more_seeds_are_needed():
    rng = np.random.default_rng(18)
    part = Contrast("b minus a", {"b": 1, "a": -1}, least=0.3, measure="loss")
    rows = {arm: {seed: {"loss": rng.normal(), "val_error": 1.0} for seed in range(10)} for arm in "ab"}
    one, four = (part.find(Results(rows), comparisons) for comparisons in (1, 4))
    assert (one.value, one.low, one.p) == (four.value, four.low, four.p)
    assert four.needed > one.needed
    assert four.detectable > one.detectable


def test_equality_is_decided_by_the_distance_from_its_bound():
    part = Contrast("b minus a", {"b": 1, "a": -1}, "zero", 0.5)
    assert [part.distance(mean) for mean in (0.1, -0.4, 0.9)] == pytest.approx([0.4, 0.1, 0.4])
    assert Contrast("b", {"b": 1}, "below", 0.2).distance(-0.05) == 0.2


def test_the_interval_of_a_ratio_of_spreads_covers_it():
    rng, covered = np.random.default_rng(10), 0
    for _ in range(REPETITIONS):
        results = simulated(rng, sd=0.5)
        for row in results.rows["dropout"].values():
            row["test_error"] = 10 + 0.5 * (row["test_error"] - 10)
        finding = Spread("spread", "none", "dropout").find(results)
        covered += finding.low < np.log(0.5) < finding.high
    assert abs(covered / REPETITIONS - 0.95) < ERROR


def test_equal_spreads_are_called_different_5_times_in_100():
    rng = np.random.default_rng(11)
    verdicts = [Spread("spread", "none", "dropout").find(simulated(rng, sd=0.5)).verdict for _ in range(REPETITIONS)]
    assert abs(verdicts.count(UNDECIDED) / REPETITIONS - 0.95) < ERROR


def test_the_ratio_of_spreads_that_is_called_detectable_is_found_in_about_80_of_100_experiments():
    rng, repetitions = np.random.default_rng(14), 600
    first = rng.normal(size=(2, 20))
    smallest, _ = rules._detectable_ratio(*first, 0.5, 0.95)
    p = [paired.pitman_morgan(a, np.exp(smallest) * b)[1] for a, b in rng.normal(size=(repetitions, 2, 20))]
    assert abs(np.mean(np.array(p) < 0.05) - 0.8) < 0.08  # an approximation


def test_a_disagreement_that_is_equal_is_called_smaller_about_once_in_40():
    rng, part, repetitions, count = np.random.default_rng(12), Disagreement("d", "none", "dropout"), 400, 0
    for _ in range(repetitions):
        hard = rng.random(300) * 0.4  # each example has its own chance to be wrong
        wrong = {arm: {seed: rng.random(300) < hard for seed in range(12)} for arm in ("none", "dropout")}
        count += part.find(Results({}, wrong)).verdict == REPRODUCED
    # The jackknife's level is approximate: it may be off by half.
    assert count / repetitions < 1.5 * 0.025 + 3 * (0.025 * 0.975 / repetitions) ** 0.5


def test_a_smaller_disagreement_is_found():
    rng = np.random.default_rng(13)
    hard = rng.random(1000) * 0.4
    steady = rng.random(1000) < hard
    wrong = {
        "none": {seed: rng.random(1000) < hard for seed in range(10)},
        "dropout": {seed: steady ^ (rng.random(1000) < 0.02) for seed in range(10)},
    }
    finding = Disagreement("d", "none", "dropout").find(Results({}, wrong))
    assert finding.verdict == REPRODUCED
    assert finding.value < 0


def test_the_verdicts_of_a_contrast():
    def verdict(values, **options):
        rows = {
            arm: {seed: {"test_error": v if arm == "b" else 0.0, "val_error": 1.0} for seed, v in enumerate(values)}
            for arm in "ab"
        }
        return Contrast("b minus a", {"b": 1, "a": -1}, **options).find(Results(rows)).verdict

    low, small, mixed = [-1.1, -1.0, -0.9, -1.0, -1.0], [-0.01, 0.02, 0.0, 0.01, -0.02], [-3, 3, -2, 2, 0.1]
    assert verdict(low, claimed="below") == REPRODUCED
    assert verdict(low, claimed="above") == REFUTED
    assert verdict(small, claimed="below", least=0.5) == REFUTED
    assert verdict(small, claimed="below") == UNDECIDED
    assert verdict(small, claimed="zero", least=0.5) == REPRODUCED
    assert verdict(low, claimed="zero", least=0.5) == REFUTED
    assert verdict(mixed, claimed="zero", least=0.5) == UNDECIDED
    assert verdict(low, claimed="below", limit=-0.5) == REPRODUCED
    assert verdict(low, claimed="below", limit=-2.0) == REFUTED
    assert verdict(low[:4], claimed="below") == UNDECIDED  # too few seeds


def test_the_best_arm_is_chosen_on_validation_not_on_test():
    rows = {
        "none": {s: {"test_error": 10.0 + 0.01 * s, "val_error": 0.0} for s in range(5)},
        "x": {s: {"test_error": 9.0 - 0.02 * s, "val_error": 2.0} for s in range(5)},  # better on test
        "y": {s: {"test_error": 11.0 + 0.02 * s, "val_error": 1.0} for s in range(5)},  # better on validation
    }
    finding = Contrast("best minus none", {"x|y": 1, "none": -1}).find(Results(rows))
    assert finding.value == pytest.approx(1.02)


def test_every_part_must_hold_and_one_that_fails_refutes():
    rows = {"none": {}, "dropout": {}}
    for seed in range(6):
        rows["none"][seed] = {"test_error": 10.0, "val_error": 1.0}
        rows["dropout"][seed] = {"test_error": 9.0 + 0.1 * seed, "val_error": 1.0}
    lower, higher = contrast(), contrast("above")
    results = Results(rows)
    assert Every((lower,)).judge(results)[0] == REPRODUCED
    assert Every((lower, higher)).judge(results)[0] == REFUTED
    assert AtLeast(1, (lower, higher)).judge(results)[0] == REPRODUCED
    assert AtLeast(2, (lower, higher)).judge(results)[0] == REFUTED
    assert [rules.held_seeds(results, arms) for arms in ([], ["none", "dropout"], ["none", "x"])] == [0, 6, 0]
