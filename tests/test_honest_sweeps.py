"""Comparisons and searches refuse, or say, what would make their figures another thing than they seem."""

import math

import pytest

import trainers
from trainers.comparison import compare as comparison
from trainers.comparison import wording
from trainers.plan import Plan
from tuning.hypermodel import HyperModel
from tuning.request import Request
from zoo.errors import BadInput


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a\\b", "", ".hidden", "a\nb"])
@pytest.mark.parametrize("written", [lambda n: [f"{n}=hidden=0.5"], lambda n: {n: {"hidden": 0.5}}])
def test_the_name_of_an_arm_is_that_of_a_folder(tmp_path, name, written):
    """A path would make the runs of one arm those of another."""
    with pytest.raises(BadInput, match="--arm"):
        trainers.compare(arm=written(name), out=tmp_path / "c", quiet=True)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("tune", ["epochs=1.5", "batch_size=8/8.5", "learning_rate=0.1/0.1", {"epochs": [1, 1]}])
def test_values_to_tune_are_those_that_are_trained(tmp_path, tune):
    """A fraction of an epoch is refused, and so is a value twice."""
    with pytest.raises(BadInput):
        trainers.compare(tune=tune, out=tmp_path / "c", quiet=True)


def test_each_site_is_an_arm():
    """`each_site` compares every site of the model alone with none."""
    plans = comparison._plans(["cnn"], None, {}, {}, 0.3)
    placements = {arm: str(plan.placement) for (_, arm), plan in plans.items()}
    assert next(iter(placements)) == "none"
    assert placements.pop("none") == ""
    assert {"input", "conv", "hidden"} <= set(placements)
    assert all(text == f"{site}=0.3" for site, text in placements.items())
    for wrong in ({"each_site": 1.0}, {"each_site": 0.2, "arm": "none"}):
        with pytest.raises(BadInput, match="--each-site"):
            trainers.compare(**wrong, quiet=True)


def test_each_site_follows_the_data(tmp_path):
    """Token ids have no site `input`; images, and the features of a table, do."""
    texts, table = tmp_path / "texts.csv", tmp_path / "table.csv"
    texts.write_text("text,label\n" + "".join(f"a film as good as film {i},{i % 2}\n" for i in range(60)))
    table.write_text("width,height,label\n" + "".join(f"{i},{i * 7 % 5},{i % 2}\n" for i in range(60)))
    asked = [("transformer", texts, False), ("transformer", "digits", True), ("mlp", table, True)]
    for model, dataset, expected in asked:
        plans = comparison._plans([model], None, {"dataset": str(dataset)}, {}, 0.2)
        assert ((model, "input") in plans) is expected, model


def test_tuning_seeds_are_not_compared(tmp_path):
    """With --tune, the compared seeds end before those of the tuning begin."""
    with pytest.raises(BadInput, match="seeds"):
        trainers.compare(tune="epochs=1/2", seeds=1001, out=tmp_path / "c", quiet=True)


@pytest.mark.parametrize("figures", [[(1.0, 0.1)], [(1.0, 0.1), (90.0, math.nan)], [(1.0, 0.1), (90.0, None)]])
def test_a_candidate_that_failed_or_diverged_on_a_seed_does_not_win(figures):
    """It is not averaged over the other seeds."""
    good = [(50.0, 2.0), (50.0, 2.0)]
    assert comparison._score(good, 2) < comparison._score(figures, 2)


def test_the_page_says_which_seeds_a_mean_is_over():
    """After a failed run, the mean of the other arm covers more seeds than the difference."""
    arm = {"mean": 1.0, "sd": None, "excluded": 0}
    arm |= {"test_loss": arm, "test_ece": arm}
    arms = {"none": {**arm, "n": 3}, "default": {**arm, "n": 2}}
    pair = {"a": "none", "b": "default", "n": 2}
    (note,) = wording.notes({"arms": arms, "pairs": [pair]})
    assert note.startswith("none")
    assert "3 seeds" in note
    assert wording.notes({"arms": {**arms, "none": {**arm, "n": 2}}, "pairs": [pair]}) == []


def test_with_a_fixed_site_the_scaling_makes_another_network():
    """Combinations that train different networks are counted and told apart; the control has one scaling."""
    space = Request.make(tune=["hidden=0/0.5", "scaling=inverted/original"], drop="input=0.1").space
    combinations = [{"rate_hidden": r, "scaling": s} for r in (0.0, 0.5) for s in ("inverted", "original")]
    assert len({space.key(values) for values in combinations}) == space.size == 4
    assert [space.is_control(values) for values in combinations] == [True, False, False, False]
    free = Request.make(tune=["hidden=0/0.5", "scaling=inverted/original"]).space
    assert len({free.key(values) for values in combinations}) == free.size == 3


def test_a_hypermodel_trains_the_rate_that_it_reports():
    """A value that is no candidate is not replaced by one in silence."""
    space = HyperModel("mlp", (8, 8, 1), 10, tune=["hidden=0:0.4:0.2"], hidden=8).space
    for rate in (0.25, 0.2):
        values = space.snapped({"rate_hidden": rate})
        assert space.plan(Plan.make(model="mlp", drop={}), values).placement.sites["hidden"].rate == rate
