"""A compiled engine that is given another run trains it to the same bits as an engine of its own."""

import sys

import keras
import numpy as np
import psutil
import pytest

from trainers import networks
from trainers.parallel.jobs import Job, attempt, loaded
from trainers.plan import Plan
from trainers.training.engines import KEPT, Engines
from trainers.training.session import build
from trainers.training.train import run
from zoo import keras_graph, runs
from zoo.reading import read_csv

SHORT = {"epochs": 2, "train_size": 100, "batch_size": 32}
ENCODER = {"width": 8, "heads": 2, "depth": 1, "ffn": 8}
SMALL = {
    "mlp": {"settings": {"hidden": (12, 8)}, "drop": ["input=0.1", "hidden=0.5"]},
    "cnn": {"settings": {"filters": (3,), "hidden": (8,)}, "drop": ["conv=0.2:drop_block", "hidden=0.3:gaussian"]},
    "resnet": {"settings": {"filters": (4,), "blocks": (2,)}, "drop": ["conv=0.2:spatial", "branch=0.3:drop_path"]},
    "transformer": {"settings": ENCODER, "placement": "everywhere"},
}
# What the second run of a topology has of its own.
OTHER = {"seed": 7, "learning_rate": 0.0037}
USER = """
import keras

def mine(input_shape, classes):
    x = keras.Input(input_shape)
    y = keras.layers.Dense(12, activation="relu")(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(x)))
    y = keras.layers.BatchNormalization()(keras.layers.Dropout(0.4)(y))
    return keras.Model(x, keras.layers.Dense(classes)(y))

class Odd(keras.layers.Layer):
    def call(self, x):
        return x + 1.0

def odd(input_shape, classes):
    x = keras.Input(input_shape)
    y = keras.layers.Flatten()(Odd()(keras.layers.Rescaling(1 / 255)(x)))
    return keras.Model(x, keras.layers.Dense(classes)(y))
"""


def halved(drop):
    """The same sites and kinds at half the rate."""
    return [f"{site}={float(rate) / 2}{colon}{kind}" for site, rate, colon, kind in map(parts, drop)]


def parts(text):
    site, _, rest = text.partition("=")
    rate, colon, kind = rest.partition(":")
    return site, rate, colon, kind


def trained(plan, folder, engines, **options):
    """A run in a new folder; layers are numbered as in a process of its own."""
    keras_graph.restart_names()
    folder.mkdir(exist_ok=True, parents=True)
    run(plan, folder, quiet=True, load=loaded, engines=engines, **options)
    return folder


def everything(folder):
    """What a run has written: the history without times, its variables, and the file of the model."""
    history = [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in read_csv(folder / runs.HISTORY)]
    with np.load(folder / runs.CHECKPOINT) as state:
        variables = [state[f"variable/{i}"].tolist() for i in range(len(state.files) - 1) if f"variable/{i}" in state]
    model = keras.models.load_model(folder / runs.MODEL)
    return history, variables, model.to_json(), [weight.tolist() for weight in model.get_weights()]


def check(tmp_path, first, second):
    """Trains two plans in one engine, and the second one in an engine of its own."""
    engines = Engines()
    trained(first, tmp_path / "first", engines)
    shared = everything(trained(second, tmp_path / "shared", engines))
    assert engines.made == 1
    own = everything(trained(second, tmp_path / "own", None))
    assert shared == own
    assert everything(tmp_path / "first")[1] != own[1]


@pytest.mark.parametrize("model", SMALL)
def test_a_run_in_a_shared_engine_ends_with_the_bits_of_a_run_on_its_own(tmp_path, model):
    first = Plan.make(model=model, **SMALL[model], **SHORT, augment=model == "resnet")
    changed = {"drop": halved(SMALL[model]["drop"])} if "drop" in SMALL[model] else {}
    check(tmp_path, first, Plan.make(first, **OTHER, **changed))


@pytest.mark.parametrize("schedule", ["early:0.5", "late"])
def test_rates_that_move_are_values_too(tmp_path, schedule):
    options = {**SHORT, "schedule": "linear", "warmup": 0.3, "optimizer": "nadam", "settings": {"hidden": (12,)}}
    first = Plan.make(model="mlp", drop=["hidden=0.5"], drop_schedule=schedule, **options)
    check(tmp_path, first, Plan.make(first, **OTHER, drop=["hidden=0.2"], drop_schedule=schedule))


@pytest.mark.parametrize("rates", [("0.4", "0"), ("0", "0.4")])
def test_a_rate_of_0_is_a_value(tmp_path, rates):
    options = {**SHORT, "schedule": "constant", "warmup": 0.0, "max_norm": 2.0, "settings": {"hidden": (12,)}}
    first, second = (Plan.make(model="mlp", drop=[f"hidden={rate}"], **options) for rate in rates)
    check(tmp_path, first, Plan.make(second, **OTHER))


def test_with_xla_too(tmp_path):
    options = {**SHORT, "jit_compile": True, "warmup": 0.4, "settings": {"hidden": (12,)}}
    first = Plan.make(model="mlp", drop=["input=0", "hidden=0.1"], **options)
    check(tmp_path, first, Plan.make(first, seed=7))


def test_a_model_of_the_user_is_shared_and_one_with_unknown_code_is_not(tmp_path, monkeypatch):
    (tmp_path / "users_own.py").write_text(USER)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = dict.fromkeys(networks.OPTIONS)
    for name in ("mine", "odd"):
        network = networks.whose(f"users_own:{name}", {"dataset": "digits", **SHORT, "train_size": 100}, own, {})
        first = Plan.make(model=network, placement="own", **SHORT)
        second = Plan.make(first, **OTHER)
        if name == "mine":
            check(tmp_path / name, first, second)
        else:
            engines = Engines()
            for number, plan in enumerate((first, second)):
                trained(plan, tmp_path / name / str(number), engines)
            assert engines.made == 2
    sys.modules.pop("users_own")


def test_a_run_that_was_cut_off_goes_on_in_an_engine_that_had_other_runs(tmp_path):
    first = Plan.make(model="mlp", **SMALL["mlp"], **SHORT)
    second, engines = Plan.make(first, **OTHER), Engines()
    trained(second, tmp_path / "cut", engines, until=1)
    trained(first, tmp_path / "first", engines)
    trained(second, tmp_path / "cut", engines)
    assert engines.made == 1
    assert everything(tmp_path / "cut") == everything(trained(second, tmp_path / "own", None))


# === Which engine ===


def engine_of(engines, dataset, **options):
    plan = Plan.make(**{"model": "mlp", "settings": {"hidden": (8,)}, **SHORT, **options})
    return engines.engine(build(plan, dataset), plan.recipe, dataset, plan.seed)


@pytest.mark.parametrize(
    "other",
    [
        {"settings": {"hidden": (9,)}},
        {"drop": ["input=0.5"]},
        {"drop": ["hidden=0.5:gaussian"]},
        {"drop": ["hidden=0.5"], "scaling": "original"},
        {"drop": ["hidden=0.5"], "drop_schedule": "late"},
        {"weight_decay": 0.1},
        {"epochs": 3},
        {"label_smoothing": 0.1},
    ],
    ids=str,
)
def test_what_a_trace_depends_on_gets_an_engine_of_its_own(other):
    engines, dataset = Engines(), loaded("digits", train_size=100)
    first = engine_of(engines, dataset, drop=["hidden=0.5"])
    assert engine_of(engines, dataset, **{"drop": ["hidden=0.5"], **other}) is not first
    assert engine_of(engines, dataset, drop=["hidden=0.3"], seed=2, learning_rate=0.1) is first


def test_other_data_get_an_engine_of_their_own():
    engines = Engines()
    first = engine_of(engines, loaded("digits", train_size=100))
    assert engine_of(engines, loaded("digits", train_size=101)) is not first


@pytest.mark.parametrize("other", [{"drop": ["hidden=0.3"]}, {"learning_rate": 0.1}, {"drop": ["hidden=0"]}], ids=str)
def test_with_xla_rates_and_learning_rates_are_constants(other):
    engines, dataset, common = (
        Engines(),
        loaded("digits", train_size=100),
        {"drop": ["hidden=0.5"], "jit_compile": True},
    )
    first = engine_of(engines, dataset, **common)
    assert engine_of(engines, dataset, **common | other) is not first
    assert engine_of(engines, dataset, **common, seed=2) is first


def test_the_number_of_engines_is_limited():
    engines, dataset = Engines(), loaded("digits", train_size=100)
    first = engine_of(engines, dataset, settings={"hidden": (2,)})
    for width in range(3, 3 + KEPT):
        engine_of(engines, dataset, settings={"hidden": (width,)})
    assert (engines.made, engines.dropped) == (KEPT + 1, 1)
    assert engine_of(engines, dataset, settings={"hidden": (2 + KEPT,)}) is not first
    assert (engines.made, engines.dropped) == (KEPT + 1, 1)
    engine_of(engines, dataset, settings={"hidden": (2,)})
    assert (engines.made, engines.dropped) == (KEPT + 2, 2)


def test_memory_does_not_grow_with_the_number_of_runs(tmp_path):
    def resident_after(seeds):
        for seed in seeds:
            drop = ["hidden=0.5"] if seed % 2 else ["hidden=0.2"]
            plan = Plan.make(model="mlp", drop=drop, seed=seed, **SHORT | {"epochs": 1})
            folder = tmp_path / str(seed)
            folder.mkdir()
            outcome = attempt(Job("mlp", "a", seed, plan.to_json(), str(folder)), None, 1, {"sweep": "one"})
            assert outcome.metrics, outcome.message
        return psutil.Process().memory_info().rss

    before = resident_after(range(5))
    # A model of 270,000 weights with its moments is 3 MiB, its trace several more.
    assert resident_after(range(5, 30)) - before < 12 * 2**20
