"""Properties of values, on many examples: what is written reads back the same, and choices stay inside their space."""

import argparse
import copy
import itertools
import json
import pickle
import shlex

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers import options
from trainers.plan import Plan
from trainers.recipe import OPTIMIZERS, SCHEDULES, Recipe
from tuning.space import Space
from zoo.checks import shortest
from zoo.models import catalogue, configs
from zoo.placement import schedule as schedules
from zoo.placement.drop import KINDS, SITES, Drop
from zoo.placement.placement import Placement
from zoo.placement.schedule import Schedule

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)

rates = st.floats(0, 1, exclude_max=True)
several = st.lists(rates, min_size=1, max_size=4).map(tuple)
parts = st.floats(0, 1, exclude_min=True)
all_schedules = st.one_of(
    st.sampled_from([name for name in schedules.SCHEDULES if name not in ("early", "late")]).map(Schedule),
    st.builds(Schedule, st.sampled_from(["early", "late"]), parts),
)


@st.composite
def drops(draw, site=None):
    kind = draw(st.sampled_from([k for k, sites in KINDS.items() if site is None or site in sites]))
    size = {"block_size": draw(st.integers(1, 99))} if kind == "drop_block" else {}
    if draw(st.booleans()):
        return Drop(draw(several), kind, **size)
    return Drop(draw(rates), kind, draw(st.sampled_from(["constant", "linear"])), **size)


@st.composite
def placements(draw, among=tuple(SITES), ramps=True):
    sites = {site: draw(drops(site)) for site in draw(st.lists(st.sampled_from(among), unique=True))}
    scaled = all(drop.kind not in ("gaussian", "drop_block") for drop in sites.values())
    schedule = draw(all_schedules)
    scaling = draw(st.sampled_from(["inverted", "original"])) if scaled and not schedule.moves else "inverted"
    return Placement(sites, scaling, schedule)


# === Values and their texts ===


@quick
@given(all_schedules)
def test_a_schedule_reads_back_from_its_text(schedule):
    assert Schedule.parse(str(schedule)) == schedule


@quick
@given(all_schedules, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_schedule_is_a_factor_between_0_and_1_that_never_turns_back(schedule, progress):
    factors = np.asarray(schedule.factor(sorted(progress)), np.float64)
    assert ((factors >= 0) & (factors <= 1)).all()
    steps = np.diff(factors)
    assert (steps <= 0).all() or (steps >= 0).all()


@quick
@given(drops())
def test_a_drop_reads_back_from_its_text_and_from_json(drop):
    site = KINDS[drop.kind][0]
    placement = Placement({site: drop})
    assert Placement.parse(f"{site}={drop}") == placement
    assert Placement.from_json(json.dumps(placement.to_json())) == placement


@quick
@given(placements())
def test_a_placement_reads_back_from_text_json_copies_and_pickles(placement):
    assert Placement.parse(str(placement)) == placement
    assert Placement.parse(str(placement).split(",") if str(placement) else []) == placement
    assert Placement.from_json(json.loads(json.dumps(placement.to_json()))) == placement
    for twin in (copy.deepcopy(placement), pickle.loads(pickle.dumps(placement))):
        assert twin == placement
        assert hash(twin) == hash(placement)


@quick
@given(drops(), st.lists(st.integers(0, 5), min_size=1, max_size=6).map(sorted))
def test_a_rate_is_given_to_every_occurrence_and_a_ramp_ends_at_it(drop, blocks):
    if isinstance(drop.rate, tuple):
        assert drop.rates(blocks) == drop.rate
        return
    realised = drop.rates(blocks)
    assert len(realised) == len(blocks)
    assert realised[-1] == drop.rate
    assert all(0 <= rate <= drop.rate for rate in realised)
    assert list(realised) == sorted(realised)


@quick
@given(placements(), placements())
def test_sites_of_the_second_placement_replace_those_of_the_first(first, second):
    try:
        both = first.replaced(second)
    except ValueError:  # the scaling of the first does not suit a kind of the second
        return
    assert dict(both.sites) == {**first.sites, **second.sites}
    assert both.scaling == first.scaling


# === Plans ===

recipes = st.builds(
    Recipe,
    epochs=st.integers(1, 10**6),
    batch_size=st.integers(1, 10**6),
    optimizer=st.sampled_from(OPTIMIZERS),
    schedule=st.sampled_from(SCHEDULES),
    learning_rate=st.floats(0, 1e3, exclude_min=True),
    momentum=rates,
    warmup=rates,
    weight_decay=st.floats(0, 1e3),
    max_norm=st.none() | st.floats(0, 1e3, exclude_min=True),
    label_smoothing=rates,
    augment=st.booleans(),
    early_stopping=st.none() | st.integers(1, 100),
    jit_compile=st.none() | st.booleans(),
)


@st.composite
def plans(draw):
    hidden = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=3))
    fitting = {"input": 1, "hidden": len(hidden)}
    placement = draw(placements(tuple(fitting)))
    sites = {
        site: Drop((0.1,) * fitting[site], drop.kind) if isinstance(drop.rate, tuple) else drop
        for site, drop in placement.sites.items()
    }
    placement = Placement(sites, placement.scaling, placement.schedule)
    plan = Plan.make(model="mlp", settings={"hidden": hidden}, placement=placement, seed=draw(st.integers(0, 2**40)))
    return Plan(plan.model, plan.settings, plan.placement, plan.data, draw(recipes), plan.seed)


@quick
@given(plans())
def test_a_plan_reads_back_from_its_command_and_its_json(plan):
    parser = argparse.ArgumentParser()
    options.add_placement_options(parser)
    options.add_run_options(parser)
    typed = parser.parse_args(shlex.split(plan.command())[4:])
    assert Plan.make(**options.given(typed, "out", "resume", "threads", "data_dir", "download")) == plan
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


# === Settings and spaces ===


@quick
@given(st.lists(st.integers(1, 65_536), min_size=1, max_size=5))
def test_widths_read_back_from_their_text(widths):
    text = "/".join(map(str, widths))
    assert configs.configured(configs.MLP, {"hidden": text}).hidden == tuple(widths)
    config = configs.configured(configs.MLP, {"hidden": widths})
    assert catalogue.configure("mlp", catalogue.settings_of(config)) == config


tuned_rates = st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=5)


@st.composite
def spaces(draw):
    sites = draw(st.lists(st.sampled_from(list(SITES)), min_size=1, max_size=3, unique=True))
    kinds = {
        site: draw(st.lists(st.sampled_from([k for k, fit in KINDS.items() if site in fit]), min_size=1, unique=True))
        for site in sites
    }
    others = {}
    if draw(st.booleans()):
        others["learning_rate"] = draw(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=3))
    if draw(st.booleans()):
        others["weight_decay"] = draw(st.lists(st.floats(0, 1e3), min_size=1, max_size=3))
    return Space({site: draw(tuned_rates) for site in sites}, kinds, others)


@quick
@given(spaces())
def test_a_space_reads_back_from_json_and_from_its_options(space):
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space
    texts = [f"{site}={_joined(rates)}:{'/'.join(space.kinds[site])}" for site, rates in space.rates.items()]
    texts += [f"{name}={_joined(values)}" for name, values in space.others.items()]
    assert Space.parse(texts) == space


def _joined(values):
    return "/".join(map(shortest, values))


@quick
@given(spaces(), st.randoms(use_true_random=False))
def test_any_choice_of_a_space_is_a_placement_with_its_rates(space, random):
    values = {name: random.choice(candidates) for name, candidates in space.candidates.items()}
    placement = space.placement(values)
    for site in space.rates:
        assert placement.sites[site].rate == values[f"rate_{site}"]
    assert space.is_control(values) == all(drop.rate == 0 for drop in placement.sites.values())
    assert space.is_control(space.control(values))
    sent = {name: float(np.float32(v)) if isinstance(v, float) else v for name, v in values.items()}
    assert space.snapped(space.snapped(sent)) == space.snapped(sent)


@quick
@given(st.data())
def test_what_a_trial_chooses_reaches_its_plan(data):
    base = Plan.make(model="mlp", settings={"hidden": "10/20"}, drop=["input=0.1"], max_norm=3.0, momentum=0.5)
    others = {
        "learning_rate": st.floats(1e-9, 1e3),
        "weight_decay": st.floats(0, 1e3),
        "label_smoothing": rates,
        "max_norm": st.just(0.0) | st.floats(1e-3, 9),
        "width": st.floats(0.1, 3),
    }
    values = {name: (data.draw(each), data.draw(each)) for name, each in others.items()}
    values["scaling"] = ("original", "inverted")
    space = Space({"hidden": (0.25, 0.5)}, {}, values)
    chosen = {name: data.draw(st.sampled_from(candidates)) for name, candidates in space.candidates.items()}
    plan = space.plan(base, chosen, seed=5)
    for name in ("learning_rate", "weight_decay", "label_smoothing"):
        assert getattr(plan.recipe, name) == chosen[name]
    assert plan.recipe.max_norm == (chosen["max_norm"] or None)
    assert plan.settings["hidden"] == [max(1, round(width * chosen["width"])) for width in (10, 20)]
    assert {site: drop.rate for site, drop in plan.placement.sites.items()} == {
        "input": 0.1,
        "hidden": chosen["rate_hidden"],
    }
    assert plan.placement.scaling == chosen["scaling"]
    assert (plan.seed, plan.recipe.momentum, plan.data) == (5, 0.5, base.data)


@quick
@given(spaces())
def test_the_size_of_a_space_counts_its_different_choices(space):
    names, candidates = zip(*space.candidates.items(), strict=True)
    if np.prod([len(c) for c in candidates]) > 2000:
        return
    choices = (dict(zip(names, values, strict=True)) for values in itertools.product(*candidates))
    assert len({space.key(choice) for choice in choices}) == space.size
