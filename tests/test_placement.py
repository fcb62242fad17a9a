"""A placement is a value: it is checked when it is made, and travels as JSON and as text unchanged."""

import copy
import json

import pytest

from zoo.catalogue import CONFIGS, named_placement, resolve_placement
from zoo.drop import KINDS, SITES, Drop
from zoo.errors import BadInput
from zoo.placement import Placement

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


def test_a_list_of_drops_is_read_as_the_command_line_gives_it():
    placement = Placement.parse(["hidden=0.5", "conv=0.1/0.2:spatial", "branch=0.3:drop_path:linear"])
    assert placement == Placement(
        {"hidden": 0.5, "conv": Drop((0.1, 0.2), "spatial"), "branch": Drop(0.3, "drop_path", "linear")}
    )


REFUSED = [
    ("hidden=1", r"received rate 1\.0.*\[0, 1\)"),
    ("hidden=-0.1", r"received rate -0\.1.*\[0, 1\)"),
    ("hidden=nan", r"received rate nan.*\[0, 1\)"),
    ("hidden=half", r"received rate 'half'.*number in \[0, 1\)"),
    ("hidden", r"received 'hidden'.*SITE=RATE"),
    ("hidden=", r"received 'hidden='.*SITE=RATE"),
    ("hiden=0.5", r"received site 'hiden'.*did you mean 'hidden'.*allowed: input, embedding"),
    ("hidden=0.5:dropuot", r"received kind 'dropuot'.*did you mean 'dropout'.*allowed: dropout, spatial"),
    ("hidden=0.5:drop_path", r"'drop_path' at site 'hidden'.*for branch.*'hidden' takes dropout, gaussian"),
    ("hidden=0.5:spatial", r"'spatial' at site 'hidden'.*for input, conv"),
    ("hidden=0.5,hidden=0.2", r"received site 'hidden' twice \(0\.5 and 0\.2\)"),
    ("hidden=0.5:dropout:gaussian", r"two words for the kind"),
    ("conv=0.1/0.2:linear", r"ramp 'linear' with the rates"),
    ("hidden=0.5:gaussian,scaling=original", r"'gaussian' at site 'hidden' with scaling 'original'.*'inverted'"),
    ("hidden=0.5,scaling=inverse", r"received scaling 'inverse'.*allowed: inverted, original"),
    *((f"{name}=0.5", rf"'{name}': nothing is dropped at the output.*'hidden'") for name in ("output", "logits")),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_cannot_be_is_refused_with_what_was_received_and_what_is_allowed(text, message):
    with pytest.raises(BadInput, match=message):
        Placement.parse(text)


REFUSED_JSON = [
    ("{", "no JSON"),
    ("[]", "must be a JSON object"),
    ('{"sites": []}', "object of site to rate"),
    ('{"site": {}}', "received key in the placement 'site'.*did you mean 'sites'"),
    ('{"sites": {"hidden": {"rate": 0.5, "knd": "dropout"}}}', "received key in the drop at site 'hidden' 'knd'"),
    ('{"sites": {"hidden": {"kind": "dropout"}}}', "site 'hidden' without 'rate'"),
    ('{"sites": {"hidden": 0.5, "hidden": 0.2}}', "received key 'hidden' twice"),
    ('{"sites": {"hidden": true}}', "received rate True"),
    ('{"sites": {"hidden": "0.5"}}', "received rate '0.5'"),
    ('{"sites": {"hidden": []}}', "empty list of rates"),
    ('{"sites": {"hidden": {"rate": 0.5, "kind": ["dropout"]}}}', "received kind"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED_JSON, ids=[text for text, _ in REFUSED_JSON])
def test_a_damaged_placement_file_is_refused(text, message):
    with pytest.raises(BadInput, match=message):
        Placement.from_json(text)


@pytest.mark.parametrize("model", CONFIGS)
def test_a_site_that_a_model_lacks_is_refused_with_those_it_has(model):
    has = CONFIGS[model]().sites()
    for site in set(SITES) - set(has):
        with pytest.raises(BadInput, match=f"received site '{site}', which {model} lacks; it has {', '.join(has)}"):
            resolve_placement(model, {site: 0.1})


def test_as_many_rates_as_occurrences_are_asked_for():
    with pytest.raises(BadInput, match=r"received 3 rates for site 'conv', which occurs 4 times in cnn"):
        resolve_placement("cnn", {"conv": (0.1, 0.2, 0.3)})


def test_named_placements():
    assert named_placement("mlp", "none") == Placement()
    assert str(named_placement("mlp", "default")) == "hidden=0.5"
    assert str(named_placement("cnn", "paper2014")) == "input=0.2,hidden=0.5"
    assert set(named_placement("transformer", "everywhere").sites) == set(CONFIGS["transformer"]().sites())
    assert "input" not in named_placement("transformer", "everywhere", tokens=True).sites
    for model in ("resnet", "transformer"):
        with pytest.raises(BadInput, match=f"'paper2014' for {model}"):
            named_placement(model, "paper2014")
    with pytest.raises(BadInput, match="received placement 'defualt'"):
        resolve_placement("mlp", "defualt")


def test_none_is_the_default_and_an_empty_mapping_is_none():
    assert resolve_placement("mlp", None) == named_placement("mlp", "default")
    assert resolve_placement("mlp", {}) == Placement()


def test_a_placement_cannot_be_changed():
    with pytest.raises(TypeError):
        Placement({"hidden": 0.5}).sites["hidden"] = Drop(0.1)


def test_every_kind_fits_only_sites_that_exist():
    assert all(set(sites) <= set(SITES) for sites in KINDS.values())
