"""The search space: zero and both ends, one name per site, a placement out."""

import itertools

import keras_tuner
import numpy as np
import pytest

from trainers.plan import Plan
from tuning.oracles import hyperparameters
from tuning.space import DEFAULTS, Space
from zoo.errors import BadInput
from zoo.models import catalogue
from zoo.placement.drop import Drop

EVERYTHING = (
    "conv=0:0.25:0.1:dropout/spatial",
    "hidden=0.5",
    "scaling=inverted/original",
    "width=0.5/1",
    "max_norm=0/3",
    "learning_rate=0.001/0.003",
)


def combinations(space):
    return [dict(zip(space.candidates, v, strict=True)) for v in itertools.product(*space.candidates.values())]


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("hidden=0:0.5:0.1", (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)),
        ("hidden=0.2:0.5:0.2", (0.0, 0.2, 0.4, 0.5)),
        ("hidden=0.3", (0.0, 0.3)),
        ("hidden=0.5/0.1", (0.0, 0.1, 0.5)),
        ("hidden=0.7:0.7:0.1", (0.0, 0.7)),
    ],
)
def test_zero_and_both_ends_are_among_the_rates(text, rates):
    assert Space.parse([text]).rates["hidden"] == rates


def test_the_size_counts_what_trains_another_network():
    space = Space.parse(EVERYTHING)
    assert space.size == len({space.key(values) for values in combinations(space)})


def test_each_site_has_one_rate_by_its_name_in_keras_tuner():
    names = [hp.name for hp in hyperparameters(Space.parse(EVERYTHING)).space]
    assert names == ["rate_conv", "rate_hidden", "kind_conv", "scaling", "width", "learning_rate", "max_norm"]


def test_numbers_that_went_through_32_bits_are_what_they_were():
    space = Space.parse(EVERYTHING)
    for values in combinations(space):
        sent = {k: float(np.float32(v)) if isinstance(v, float) else v for k, v in values.items()}
        assert space.snapped(sent) == values


def test_a_choice_becomes_the_plan_of_a_run():
    space = Space.parse(EVERYTHING)
    base = Plan.make(model="cnn", drop=["features=0.2"], max_norm=4.0, settings={"filters": "8/16", "hidden": "32"})
    values = {"rate_conv": 0.2, "kind_conv": "spatial", "rate_hidden": 0.5, "scaling": "original"}
    values |= {"width": 0.5, "learning_rate": 0.003}
    plan = space.plan(base, {**values, "max_norm": 3.0}, seed=7)
    assert str(plan.placement) == "conv=0.2:spatial,features=0.2,hidden=0.5,scaling=original"
    assert (plan.settings["filters"], plan.settings["hidden"]) == ([4, 8], [16])
    assert (plan.recipe.learning_rate, plan.recipe.max_norm, plan.seed) == (0.003, 3.0, 7)
    assert space.plan(base, {**values, "max_norm": 0.0}).recipe.max_norm is None


def test_the_control_has_the_topology_of_its_rivals_and_no_dropout():
    space = Space.parse(EVERYTHING)
    control = space.control()
    assert space.is_control(control)
    assert {site: drop.rate for site, drop in space.placement(control).sites.items()} == {"conv": 0.0, "hidden": 0.0}


@pytest.mark.parametrize("model", DEFAULTS)
def test_the_default_space_fits_its_model(model):
    space = Space.default(model).check(Plan.make(model=model, placement="none"))
    assert all(rates[0] == 0 for rates in space.rates.values())
    assert set(space.rates) >= set(catalogue.named_placement(model, "default").sites)


def test_a_space_comes_back_from_json():
    space = Space.parse(EVERYTHING)
    assert Space.from_json(space.to_json()) == space


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["hiden=0:0.5:0.1"], "did you mean 'hidden'"),
        (["logits=0:0.5:0.1"], "nothing is dropped at the output"),
        (["hidden=0:0.5"], "SITE=LOW:HIGH:STEP"),
        (["hidden=0:0.5:0"], r"STEP of --tune hidden=0:0\.5:0 must be .* > 0, got 0"),
        (["hidden=0.5:0.1:0.1"], r"must be <= HIGH, got 0\.5 and 0\.1"),
        (["hidden=0:1:0.1"], r"HIGH of .* must be in \[0, 1\), got 1"),
        (["hidden=0"], "must include one > 0"),
        (["hidden"], "SITE=LOW:HIGH:STEP"),
        (["hidden=0/0.1", "hidden=0/0.2"], "twice"),
        (["conv=0/0.1:drop_path"], "drop_path"),
        (["conv=0/0.1:spatail"], "did you mean 'spatial'"),
        (["hidden=0/0.5:gaussian", "scaling=original"], "gaussian"),
        (["learning_rate=0.1"], "at least one site"),
        (["hidden=0/0.1", "learning_rate=-1"], "learning_rate"),
        (["hidden=0/0.1", "width=0"], "width, a factor, must be a finite number > 0, got 0"),
        (["hidden=0/0.1", "width=x"], "numbers"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(items, message):
    with pytest.raises(BadInput, match=message):
        Space.parse(items)


@pytest.mark.parametrize("name", ["rates", "kinds", "others"])
@pytest.mark.parametrize("wrong", [["hidden"], "hidden=0/0.5", 0.5, None])
def test_a_space_of_something_else_than_mappings_is_refused_by_name(name, wrong):
    with pytest.raises(BadInput, match=f"{name} must be a dict"):
        Space(**{"rates": {"hidden": (0.0, 0.5)}, name: wrong})


def test_a_site_that_the_model_lacks_is_refused():
    with pytest.raises(BadInput, match="site must be one of input, hidden for mlp, got"):
        Space.parse(["conv=0/0.1"]).check(Plan.make(model="mlp", placement="none"))


def test_a_hypermodel_builds_what_keras_tuner_chose(tmp_path):
    from sklearn.datasets import load_digits

    import tuning

    hypermodel = tuning.HyperModel("mlp", (8, 8, 1), 10, ["hidden=0:0.4:0.2", "learning_rate=0.01/0.02"], hidden=16)
    tuner = keras_tuner.GridSearch(hypermodel, "val_accuracy", max_trials=3, seed=1, directory=tmp_path)
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) * 255 / 16).round()
    tuner.search(images[:200], labels[:200], validation_data=(images[200:300], labels[200:300]), epochs=2, verbose=0)
    trials = tuner.oracle.get_best_trials(3)
    assert len({tuple(trial.hyperparameters.values.items()) for trial in trials}) == 3
    model = hypermodel.build(trials[0].hyperparameters)
    rates = [layer.rate for layer in model.layers if layer.name.startswith("drop_")]
    assert rates == [trials[0].hyperparameters["rate_hidden"]]
    assert float(model.optimizer.learning_rate) == pytest.approx(trials[0].hyperparameters["learning_rate"])


def test_drops_outside_the_space_stay_as_they_are():
    space = Space.parse(["hidden=0/0.5"])
    base = Plan.make(model="cnn", drop=["conv=0.1:spatial", "hidden=0.9"])
    assert space.plan(base, {"rate_hidden": 0.5}).placement.sites["conv"] == Drop(0.1, "spatial")
    assert space.plan(base, {"rate_hidden": 0.5}).placement.sites["hidden"] == Drop(0.5)
