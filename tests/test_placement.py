"""A placement is a value: it is checked when it is made, and travels as JSON and as text unchanged."""

import copy
import json

import numpy as np
import pytest

from zoo.errors import BadInput
from zoo.models.catalogue import CONFIGS, named_placement, resolve_placement
from zoo.placement.drop import KINDS, SITES, Drop
from zoo.placement.placement import Placement

EXAMPLES = [
    {},
    {"hidden": 0.5},
    {"hidden": 0},
    {"conv": Drop(0.1, "spatial"), "hidden": 0.5},
    {"conv": (0.1, 0.2, 1 / 3)},
    {"conv": Drop((0.1, 0.2), "spatial")},
    {"branch": Drop(0.2, "drop_path", ramp="linear"), "features": 1e-4},
    {site: Drop(0.3, "gaussian") for site in SITES},
]
placements = pytest.mark.parametrize("sites", EXAMPLES, ids=[str(Placement(sites)) or "none" for sites in EXAMPLES])


@placements
@pytest.mark.parametrize("scaling", ["inverted", "original"])
def test_json_text_and_a_deep_copy_bring_a_placement_back(sites, scaling):
    if scaling == "original" and any(getattr(d, "kind", "") == "gaussian" for d in sites.values()):
        scaling = "inverted"
    placement = Placement(sites, scaling)
    assert Placement.from_json(json.dumps(placement.to_json())) == placement
    assert Placement.parse(str(placement)) == placement
    assert copy.deepcopy(placement) == placement
    assert hash(Placement.parse(str(placement))) == hash(placement)


def test_the_form_of_a_placement_file_is_the_documented_one():
    text = '{"scaling": "inverted", "sites": {"conv": {"rate": 0.1, "kind": "spatial"}, "hidden": 0.5}}'
    placement = Placement.from_json(text)
    assert placement == Placement({"conv": Drop(0.1, "spatial"), "hidden": 0.5})
    assert placement.to_json() == json.loads(text)


def test_the_recipe_of_a_search_is_no_part_of_the_placement():
    placement = Placement.from_json('{"sites": {"hidden": 0.5}, "recipe": {"learning_rate": 0.003}}')
    assert placement == Placement({"hidden": 0.5})
    assert "recipe" not in placement.to_json()


def test_a_list_of_drops_is_read_as_the_command_line_gives_it():
    placement = Placement.parse(["hidden=0.5", "conv=0.1/0.2:spatial", "branch=0.3:drop_path:linear"])
    assert placement == Placement(
        {"hidden": 0.5, "conv": Drop((0.1, 0.2), "spatial"), "branch": Drop(0.3, "drop_path", "linear")}
    )


REFUSED = [
    ("hidden=1", r"rate must be in \[0, 1\), got 1\.0"),
    ("hidden=-0.1", r"rate must be in \[0, 1\), got -0\.1"),
    ("hidden=nan", r"rate must be in \[0, 1\), got nan"),
    ("hidden=half", r"rate must be a number in \[0, 1\).*, got 'half'"),
    ("hidden", r"drop must be SITE=RATE.*, got 'hidden'"),
    ("hidden=", r"drop must be SITE=RATE.*, got 'hidden='"),
    ("hiden=0.5", r"site must be one of input, embedding, .*, got 'hiden'; did you mean 'hidden'"),
    ("hidden=0.5:dropuot", r"kind must be one of dropout, spatial, .*, got 'dropuot'; did you mean 'dropout'"),
    ("hidden=0.5:drop_path", r"kind at site 'hidden' must be one of dropout, gaussian, got 'drop_path'.*for branch"),
    ("hidden=0.5:spatial", r"kind at site 'hidden' must be .*, got 'spatial'.*for input, conv"),
    ("hidden=0.5,hidden=0.2", r"site 'hidden' must be given once, got 0\.5 and 0\.2"),
    ("hidden=0.5:dropout:gaussian", r"kind must be given once, got '0\.5:dropout:gaussian'"),
    ("conv=0.1/0.2:linear", r"ramp must be 'constant' .*, got 'linear' with the rates \(0\.1, 0\.2\)"),
    (
        "hidden=0.5:gaussian,scaling=original",
        r"scaling must be 'inverted' with kind 'gaussian' at site 'hidden', got 'original'",
    ),
    ("hidden=0.5,scaling=inverse", r"scaling must be one of inverted, original, got 'inverse'"),
    *(
        (f"{name}=0.5", rf"site must be .*, got '{name}'; nothing is dropped at the output.*'hidden'")
        for name in ("output", "logits")
    ),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_cannot_be_is_refused_with_what_was_received_and_what_is_allowed(text, message):
    with pytest.raises(BadInput, match=message):
        Placement.parse(text)


REFUSED_JSON = [
    ("{", "not JSON"),
    ("[]", "must be a JSON object"),
    ('{"sites": []}', r"sites must be a JSON object of site to rate .*, got \[\]"),
    ('{"site": {}}', r"key in the placement must be .*, got 'site'; did you mean 'sites'"),
    (
        '{"sites": {"hidden": {"rate": 0.5, "knd": "dropout"}}}',
        r"drop at site 'hidden' must be .*, got 'knd'",
    ),
    ('{"sites": {"hidden": {"kind": "dropout"}}}', "drop at site 'hidden' must have a rate"),
    ('{"sites": {"hidden": 0.5, "hidden": 0.2}}', "key 'hidden' must be given once .*, got it 2 times"),
    ('{"sites": {"hidden": true}}', r"rate must be .*, got True"),
    ('{"sites": {"hidden": "0.5"}}', r"rate must be .*, got '0.5'"),
    ('{"sites": {"hidden": []}}', r"rate must be .*, got \[\]"),
    ('{"sites": {"hidden": {"rate": 0.5, "kind": ["dropout"]}}}', r"kind must be one of .*, got \['dropout'\]"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED_JSON, ids=[text for text, _ in REFUSED_JSON])
def test_a_damaged_placement_file_is_refused(text, message):
    with pytest.raises(BadInput, match=message):
        Placement.from_json(text)


@pytest.mark.parametrize("model", CONFIGS)
def test_a_site_that_a_model_lacks_is_refused_with_those_it_has(model):
    has = CONFIGS[model]().sites()
    for site in set(SITES) - set(has):
        with pytest.raises(BadInput, match=f"site must be one of {', '.join(has)} for {model}, got '{site}'"):
            resolve_placement(model, {site: 0.1})


def test_as_many_rates_as_occurrences_are_asked_for():
    with pytest.raises(BadInput, match=r"rate of site 'conv' must be one number, or 4 .* in cnn.*, got 3"):
        resolve_placement("cnn", {"conv": (0.1, 0.2, 0.3)})


def test_named_placements():
    assert named_placement("mlp", "none") == Placement()
    assert str(named_placement("mlp", "default")) == "hidden=0.5"
    assert str(named_placement("cnn", "paper2014")) == "input=0.2,hidden=0.5"
    assert set(named_placement("transformer", "everywhere").sites) == set(CONFIGS["transformer"]().sites())
    assert "input" not in named_placement("transformer", "everywhere", tokens=True).sites
    for model in ("resnet", "transformer"):
        with pytest.raises(BadInput, match=f"placement must be .* for {model}, got 'paper2014'"):
            named_placement(model, "paper2014")
    with pytest.raises(BadInput, match=r"placement must be one of .*, got 'defualt'"):
        resolve_placement("mlp", "defualt")
    with pytest.raises(BadInput, match=r"got 'hidden=0\.25'; use --drop hidden=0\.25, or a dictionary in Python"):
        resolve_placement("mlp", "hidden=0.25")


def test_none_is_the_default_and_an_empty_mapping_is_none():
    assert resolve_placement("mlp", None) == named_placement("mlp", "default")
    assert resolve_placement("mlp", {}) == Placement()


@pytest.mark.parametrize("options", [{"scaling": ""}, {"schedule": ""}])
def test_an_empty_option_is_no_default(options):
    with pytest.raises(BadInput, match=next(iter(options))):
        Placement.parse("hidden=0.5", **options)


def test_masks_of_a_models_own_are_kept_where_the_placement_says_so():
    kept = Placement({"hidden": 0.5}, keep=["features", "embedding", "hidden"])
    assert kept.keep == ("embedding", "features")  # hidden has a rate
    assert str(kept) == "embedding=own,features=own,hidden=0.5"
    assert Placement.parse(str(kept)) == Placement.from_json(json.dumps(kept.to_json())) == copy.deepcopy(kept) == kept
    assert kept != Placement({"hidden": 0.5})
    assert kept.replaced(Placement({"features": 0.1})) == Placement(
        {"features": 0.1, "hidden": 0.5}, keep=["embedding"]
    )
    assert kept.replaced(Placement(keep=["hidden"])).sites == {}
    with pytest.raises(BadInput, match="site must be one of"):
        Placement(keep=["nowhere"])


def test_a_placement_cannot_be_changed():
    with pytest.raises(TypeError):
        Placement({"hidden": 0.5}).sites["hidden"] = Drop(0.1)


def test_every_kind_fits_only_sites_that_exist():
    assert all(set(sites) <= set(SITES) for sites in KINDS.values())


def test_numbers_of_numpy_become_those_of_python():
    drop = Drop(np.float32(0.25), "drop_block", block_size=np.int64(3))
    assert (type(drop.rate), type(drop.block_size)) == (float, int)
    assert drop == Drop(0.25, "drop_block", block_size=3)
    assert type(Drop((np.float64(0.1), 0.2)).rate[0]) is float
