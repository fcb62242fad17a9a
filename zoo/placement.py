"""Where dropout goes, how much, and of which kind: a value, apart from any network.

A *site* is a named place in a network, a `Drop` says what happens there, and a
`Placement` maps sites to Drops. "Dropout 0.1 in a transformer" means five different
things in seven libraries; a placement means one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from zoo.drop import KINDS, RAMPS, SITES, Drop, check_site, listed, member
from zoo.errors import BadInput
from zoo.schedule import CONSTANT, Schedule

SCALINGS = ("inverted", "original")
_UNSCALED = {
    "gaussian": "its noise has mean 1, so nothing is left to scale at inference",
    "drop_block": "its factor is another for every example, so none is right at inference",
}


@dataclass(frozen=True)
class Placement:
    """Sites and their Drops, and how the lost magnitude is made up for.

    `sites`: mapping of site to `Drop`, rate, or list of rates.
    `scaling`: `inverted` (survivors are scaled by 1/(1-rate) in training) or
        `original` (values are scaled by 1-rate at inference; Srivastava et al. 2014).
    `schedule`: how all its rates move while training, a `Schedule` or its text.

    Raises `BadInput` (a ValueError) for an unknown site, an output site, a kind that
    does not fit its site, and `original` where one factor at inference cannot stand for
    what happened in training: with gaussian noise (mean 1: there is nothing to make up
    for), with drop_block (a factor of its own per example) and with rates that move.

    >>> str(Placement({"hidden": 0.5, "conv": Drop(0.1, "spatial")}))
    'conv=0.1:spatial,hidden=0.5'
    """

    sites: Mapping[str, Drop] = field(default_factory=dict)
    scaling: str = "inverted"
    schedule: Schedule = CONSTANT

    def __post_init__(self):
        member("scaling", self.scaling, SCALINGS)
        if not isinstance(self.schedule, Schedule):
            object.__setattr__(self, "schedule", Schedule.parse(self.schedule))
        if self.scaling == "original" and self.schedule.moves:
            raise BadInput(
                f"received schedule {str(self.schedule)!r} with scaling 'original', whose factor at inference is that "
                "of one rate; use scaling 'inverted'"
            )
        drops = {}
        for site, drop in dict(self.sites).items():
            check_site(site)
            drop = drop if isinstance(drop, Drop) else Drop(drop)
            if site not in KINDS[drop.kind]:
                fitting = [kind for kind, sites in KINDS.items() if site in sites]
                raise BadInput(
                    f"received kind {drop.kind!r} at site {site!r}; {drop.kind!r} is for "
                    f"{listed(KINDS[drop.kind])}, and {site!r} takes {listed(fitting)}"
                )
            if drop.kind in _UNSCALED and self.scaling == "original":
                raise BadInput(
                    f"received kind {drop.kind!r} at site {site!r} with scaling 'original': {_UNSCALED[drop.kind]}; "
                    "use scaling 'inverted'"
                )
            drops[site] = drop
        if not drops:  # nothing moves where nothing is dropped: a control is one under any schedule
            object.__setattr__(self, "schedule", CONSTANT)
        ordered = {site: drops[site] for site in SITES if site in drops}
        object.__setattr__(self, "sites", MappingProxyType(ordered))

    def __hash__(self):
        return hash((tuple(self.sites.items()), self.scaling, self.schedule))

    def __reduce__(self):
        # A read-only mapping can neither be copied nor sent to another process; its text can.
        return Placement.parse, (str(self),)

    def check(self, sites, model):
        """Refuse what the network `model` lacks; `sites` maps its sites to block indices."""
        for site, drop in self.sites.items():
            if site not in sites:
                raise BadInput(f"received site {site!r}, which {model} lacks; it has {listed(sites)}")
            if isinstance(drop.rate, tuple) and len(drop.rate) != len(sites[site]):
                raise BadInput(
                    f"received {len(drop.rate)} rates for site {site!r}, which occurs "
                    f"{len(sites[site])} times in {model}; give one rate, or one per occurrence"
                )
        return self

    def replaced(self, other):
        """This placement with the sites of `other` put in the place of its own."""
        return Placement({**self.sites, **other.sites}, self.scaling, self.schedule)

    def not_in_files(self):
        """The drops that a file of stock layers cannot hold, as text."""
        return ",".join(f"{site}={drop}" for site, drop in self.sites.items() if drop.kind == "drop_block")

    # === JSON ===

    def to_json(self):
        """A dictionary as it stands in a placement file."""
        moving = {"schedule": str(self.schedule)} if self.schedule.moves else {}
        return {"scaling": self.scaling, **moving, "sites": {s: d.to_json() for s, d in self.sites.items()}}

    @classmethod
    def from_json(cls, data):
        """The inverse of `to_json`. Raises `BadInput` for an unknown or repeated key."""
        if isinstance(data, str):
            try:
                data = json.loads(data, object_pairs_hook=_unique_keys)
            except json.JSONDecodeError as error:
                raise BadInput(f"received a placement that is no JSON: {error}") from None
        _check_keys("placement", data, ("scaling", "schedule", "sites"))
        sites = data.get("sites", {})
        if not isinstance(sites, dict):
            raise BadInput(f"received {sites!r} for 'sites'; it must be an object of site to rate or drop")
        drops = {s: _drop_from_json(s, d) for s, d in sites.items()}
        return cls(drops, data.get("scaling", "inverted"), data.get("schedule", "constant"))

    # === The form of --drop ===

    @classmethod
    def parse(cls, items, scaling=None, schedule=None):
        """From `SITE=RATE[/RATE...][:KIND][:RAMP][:BLOCK_SIZE]`, one string joined by commas or a list.

        Items `scaling=original` and `schedule=early` state those, so that `str(placement)` comes back whole.
        """
        if isinstance(items, str):
            items = [item for item in items.split(",") if item.strip()]
        sites = {}
        for item in items:
            site, equals, text = item.strip().partition("=")
            if not equals or not text:
                raise BadInput(f"received {item!r}; a drop is written SITE=RATE[:KIND], as in hidden=0.5")
            if site == "scaling":
                scaling = text
                continue
            if site == "schedule":
                schedule = text
                continue
            check_site(site)
            if site in sites:
                raise BadInput(
                    f"received site {site!r} twice ({sites[site]} and {text}); a site takes one drop, "
                    "with rates per occurrence written as 0.1/0.2/0.3"
                )
            sites[site] = _parse_drop(text)
        return cls(sites, scaling or "inverted", schedule or "constant")

    def __str__(self):
        items = [f"{site}={drop}" for site, drop in self.sites.items()]
        items += ["scaling=original"] if self.scaling == "original" else []
        items += [f"schedule={self.schedule}"] if self.schedule.moves else []
        return ",".join(items)


def _parse_drop(text):
    rates, *words = text.split(":")
    given = {}
    for word in words:
        slot = "block_size" if word.isdecimal() else "ramp" if word in RAMPS else "kind"
        if slot in given:
            raise BadInput(f"received two words for the {slot} in {text!r}; write RATE[:KIND][:RAMP][:BLOCK_SIZE]")
        given[slot] = int(word) if slot == "block_size" else word
    try:
        values = tuple(float(rate) for rate in rates.split("/"))
    except ValueError:
        raise BadInput(f"received rate {rates!r}; a rate is a number in [0, 1), or several as 0.1/0.2") from None
    return Drop(values if "/" in rates else values[0], **given)


def _drop_from_json(site, data):
    if not isinstance(data, dict):
        return Drop(data)
    _check_keys(f"drop at site {site!r}", data, ("rate", "kind", "ramp", "block_size"))
    if "rate" not in data:
        raise BadInput(f"received a drop at site {site!r} without 'rate'; write {{\"rate\": 0.5}}")
    return Drop(**data)


def _check_keys(what, data, allowed):
    if not isinstance(data, dict):
        raise BadInput(f"received {data!r} for a {what}; it must be a JSON object with {listed(allowed)}")
    for key in data:
        member(f"key in the {what}", key, allowed)


def _unique_keys(pairs):
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise BadInput(f"received key {key!r} twice in a placement; each site is given once")
    return dict(pairs)
