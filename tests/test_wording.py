"""Sentences about a comparison: they claim no more than the figures."""

import pytest

from trainers.comparison import paired, wording


def pair(**changes):
    figures_of_pair = {"n": 10, "difference": -0.61, "low": -1.01, "high": -0.21, "level": 0.95}
    figures_of_pair |= {"bootstrap_low": -0.9, "bootstrap_high": -0.3}
    figures_of_pair |= {"variance_ratio": 0.25, "variance_p": 0.03}
    return {"a": "none", "b": "default", **figures_of_pair, **changes}


def test_an_interval_below_zero_is_said_to_be_lower():
    said, interval = wording.sentence(pair()).split(" (")
    assert said == "default lowered the test error by 0.61 points against none"
    assert interval == "95 % interval 0.21 to 1.01, 10 paired seeds)"


def test_an_interval_above_zero_is_said_to_be_higher():
    said, interval = wording.sentence(pair(difference=0.61, low=0.21, high=1.01)).split(" (")
    assert said == "default raised the test error by 0.61 points against none"
    assert interval == "95 % interval 0.21 to 1.01, 10 paired seeds)"


@pytest.mark.parametrize(("low", "high"), [(-1.3, 0.1), (-1.2, 0.0), (None, None)])
def test_an_interval_that_holds_zero_or_does_not_exist_is_no_difference(low, high):
    text = wording.sentence(pair(low=low, high=high))
    assert text.startswith("no difference in test error can be told from chance")
    assert "default minus none is -0.61 points" in text


def test_one_seed_is_not_called_a_difference():
    actual = {"a": "none", "b": "default", **paired.paired([3.0], [1.0])}
    assert "1 seed: too few for an interval" in wording.sentence(actual)


def test_identical_arms_are_said_to_be_the_same():
    actual = paired.paired([3.0, 4.0], [3.0, 4.0])
    text = wording.sentence({"a": "none", "b": "default", **actual})
    assert text == "default and none have the same test error at each of 2 paired seeds"


def test_no_common_seed_says_that_nothing_can_be_said():
    actual = {"a": "none", "b": "default", **paired.paired([], [])}
    assert "no seed has a test error for both" in wording.sentence(actual)


def test_the_loss_has_its_own_sentence_in_nats():
    text = wording.sentence(pair(test_loss=pair(difference=0.05, low=0.01, high=0.09)), "test_loss")
    assert text.startswith("default raised the test loss by 0.050 nats")


def test_variance_is_called_smaller_only_when_the_test_says_so():
    assert "varies less" in wording.variance_sentence(pair())
    assert wording.variance_sentence(pair(variance_p=0.3)).startswith("no difference in the variance")
    assert wording.variance_sentence(pair(variance_p=None)).startswith("no difference in the variance")
    assert "cannot be compared" in wording.variance_sentence(pair(variance_ratio=None))


def test_a_bound_near_zero_is_not_rounded_to_zero():
    assert "interval 0.0004 to 1.01" in wording.sentence(pair(high=-0.0004))


def test_many_pairs_come_with_a_word_about_luck():
    pairs = [pair(b=name, test_loss=pair(), test_ece=pair()) for name in ("x", "y", "z")]
    (note,) = wording.notes({"arms": {}, "pairs": pairs})
    assert "up to 15 %" in note
    headline = wording.headline({"arms": {}, "pairs": [*pairs[:2], pair(b="z", high=0.2)]})
    assert headline.endswith("2 lowered the test error (x, y), 1 cannot be told from chance")


def test_few_seeds_are_no_effect_in_any_sentence():
    few = pair(n=4, test_loss=pair(n=4), test_ece=pair(n=4))
    assert all("4 seeds: too few for an interval" in text for text in wording.sentences(few))
    headline = wording.headline({"arms": {}, "pairs": [few, pair(b="x")]})
    assert headline.endswith("1 lowered the test error (x), 1 has too few seeds for an interval")


def test_the_headline_names_the_placements():
    placements = {"none": "no dropout", "default": "hidden=0.5"}
    text = wording.headline({"arms": {}, "pairs": [pair()]}, placements)
    assert "default (hidden=0.5)" in text
    assert "none (no dropout)" in text


def test_runs_without_a_finite_figure_are_mentioned():
    rows = [{"model": "mlp", "arm": "none", "seed": s, "test_error": 90.0, "test_loss": loss, "test_ece": 1.0}
            for s, loss in enumerate((0.1, float("nan")))]  # fmt: skip
    assert "none: 1 run" in wording.notes(paired.summarise(rows))[0]
