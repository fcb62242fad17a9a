"""Where dropout goes, at what rate and of which kind: a value, separate from any network.

A *site* is a named place in a network, a `Drop` says what happens there, and a `Placement` maps sites
to Drops.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.checks import listed, mapping, one_of, shown, texts
from zoo.errors import BadInput
from zoo.placement.drop import KINDS, RAMPS, SITES, Drop, check_site
from zoo.placement.schedule import CONSTANT, Schedule
from zoo.reading import parse_json

SCALINGS = ("inverted", "original")
OWN = "own"  # in place of a rate: the masks of a model's own
_UNSCALED = {
    "gaussian": "its noise has mean 1, so there is nothing to scale at inference",
    "drop_block": "its factor differs between examples, so no single factor fits inference",
}


@dataclass(frozen=True)
class Placement:
    """Sites and their Drops, and how activations are scaled.

    Args:
        sites: mapping of site to `Drop`, rate or sequence of rates.
        scaling: `inverted` scales the kept values by 1/(1-rate) in training. `original` scales all
            values by 1-rate at inference (Srivastava et al. 2014).
        schedule: how all rates change during training: a `Schedule` or its text, such as `early:0.3`.
        keep: sites of a model that is not one of the four whose own masks stay as they are, since no Drop describes
            them: two masks in a row, or a kind that does not fit the site. The placement `own` has those.

    Raises:
        BadInput: an unknown site, an output site, or a kind that does not fit its site; `original`
            scaling with `gaussian`, with `drop_block`, or with a schedule. `BadInput` is a
            `ValueError`.

    Examples:
        >>> str(Placement({"hidden": 0.5, "conv": Drop(0.1, "spatial")}))
        'conv=0.1:spatial,hidden=0.5'
        >>> str(Placement({"hidden": 0.5}, keep=["embedding"]))
        'embedding=own,hidden=0.5'
    """

    sites: Mapping[str, Drop] = field(default_factory=dict)
    scaling: str = "inverted"
    schedule: Schedule = CONSTANT
    keep: tuple[str, ...] = ()

    if TYPE_CHECKING:  # what may be given is more than what the fields hold

        def __init__(
            self,
            sites: Mapping[str, Drop | float | Sequence[float]] = ...,
            scaling: str = ...,
            schedule: Schedule | str = ...,
            keep: Sequence[str] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        one_of("scaling", self.scaling, SCALINGS)
        if not isinstance(self.schedule, Schedule):
            object.__setattr__(self, "schedule", Schedule.parse(self.schedule))
        if self.scaling == "original" and self.schedule.moves:
            raise BadInput(
                f"scaling must be 'inverted' with schedule {str(self.schedule)!r}, got 'original'; "
                "its factor at inference fits a constant rate only"
            )
        drops = {}
        for site, drop in mapping("sites", self.sites).items():
            check_site(site)
            drop = drop if isinstance(drop, Drop) else Drop(drop)
            if site not in KINDS[drop.kind]:
                fitting = [kind for kind, sites in KINDS.items() if site in sites]
                raise BadInput(
                    f"kind at site {site!r} must be one of {listed(fitting)}, got {drop.kind!r}; "
                    f"{drop.kind!r} is for {listed(KINDS[drop.kind])}"
                )
            if drop.kind in _UNSCALED and self.scaling == "original":
                raise BadInput(
                    f"scaling must be 'inverted' with kind {drop.kind!r} at site {site!r}, got 'original'; "
                    f"{_UNSCALED[drop.kind]}"
                )
            drops[site] = drop
        if not drops:  # equal to any other empty placement: there is no rate to change
            object.__setattr__(self, "schedule", CONSTANT)
        kept = texts("keep", self.keep)
        for site in kept:
            check_site(site)
        object.__setattr__(self, "keep", tuple(site for site in SITES if site in kept and site not in drops))
        ordered = {site: drops[site] for site in SITES if site in drops}
        object.__setattr__(self, "sites", MappingProxyType(ordered))

    def __hash__(self) -> int:
        return hash((tuple(self.sites.items()), self.scaling, self.schedule, self.keep))

    def __reduce__(self) -> tuple:
        # Python can neither copy nor pickle a read-only mapping.
        return Placement.parse, (str(self),)

    def check(self, sites: Mapping[str, Sequence[int]], model: str) -> "Placement":
        """Checks that a network has the sites, and as many occurrences of each as there are rates.

        Args:
            sites: block index of every occurrence, by site of the network.
            model: what messages call the network.

        Returns:
            This placement.

        Raises:
            BadInput: the network lacks a site, or the number of rates is not that of the occurrences.
        """
        for site in (*self.sites, *self.keep):
            if site not in sites:
                raise BadInput(f"site must be one of {listed(sites)} for {model}, got {site!r}")
        for site, drop in self.sites.items():
            if isinstance(drop.rate, tuple) and len(drop.rate) != len(sites[site]):
                raise BadInput(
                    f"rate of site {site!r} must be one number, or {len(sites[site])} numbers (one per occurrence in "
                    f"{model}), got {len(drop.rate)} numbers"
                )
        return self

    def replaced(self, other: "Placement") -> "Placement":
        """Returns this placement with the sites of `other` added, or replaced where both have one."""
        sites = {site: drop for site, drop in self.sites.items() if site not in other.keep}
        return Placement({**sites, **other.sites}, self.scaling, self.schedule, (*self.keep, *other.keep))

    def not_in_files(self) -> str:
        """Returns the Drops that a file of stock Keras layers cannot hold, in the form of `--drop`."""
        return ",".join(f"{site}={drop}" for site, drop in self.sites.items() if drop.kind == "drop_block")

    # === JSON ===

    def to_json(self) -> dict[str, Any]:
        """Returns the contents of a placement file."""
        schedule = {"schedule": str(self.schedule)} if self.schedule.moves else {}
        keep = {"keep": list(self.keep)} if self.keep else {}
        return {"scaling": self.scaling, **schedule, **keep, "sites": {s: d.to_json() for s, d in self.sites.items()}}

    @classmethod
    def from_json(cls, data: str | Mapping[str, Any]) -> "Placement":
        """Returns the placement of a placement file, the inverse of `to_json`.

        Args:
            data: JSON text, or the dictionary that it holds. All keys are optional: `sites`,
                `scaling`, `schedule`, `keep`, and `recipe`. The `best.json` of a search also holds the recipe
                of its best trial; it is no part of the placement, and is ignored here.

        Raises:
            BadInput: text that is not JSON, an unknown or repeated key, or a bad value.

        Examples:
            >>> str(Placement.from_json('{"sites": {"hidden": 0.5}, "recipe": {"learning_rate": 0.003}}'))
            'hidden=0.5'
        """
        if isinstance(data, str):
            data = parse_json("the placement", data, 'write it as {"sites": {"hidden": 0.5}}', unique_keys)
        contents = _checked_keys("placement", data, ("scaling", "schedule", "sites", "keep", "recipe", "settings"))
        sites = contents.get("sites", {})
        if not isinstance(sites, dict):
            raise BadInput(f"sites must be a JSON object of site to rate or drop, got {shown(sites)}")
        drops = {s: _drop_from_json(s, d) for s, d in sites.items()}
        scaling, schedule = contents.get("scaling", "inverted"), contents.get("schedule", "constant")
        return cls(drops, scaling, schedule, contents.get("keep", ()))

    # === The form of --drop ===

    @classmethod
    def parse(cls, items: str | Sequence[str], scaling: str | None = None, schedule: str | None = None) -> "Placement":
        """Returns the placement that `--drop` options describe, the inverse of `str(placement)`.

        Args:
            items: `SITE=RATE[/RATE...][:KIND][:RAMP][:BLOCK_SIZE]`, as a list, or joined by commas. The
                items `scaling=original` and `schedule=early` set those. `RATE/` is the rate of a single
                occurrence. `SITE=own` keeps the masks that a model of your own has there.
            scaling: scaling if no item sets it.
            schedule: schedule if no item sets it.

        Raises:
            BadInput: an item of another form, a site given twice, or a bad value.

        Examples:
            >>> Placement.parse("hidden=0.5").sites["hidden"].rate
            0.5
        """
        items = [item for text in texts("drop", items) for item in text.split(",") if item.strip()]
        sites: dict[str, Drop | str] = {}
        for item in items:
            site, equals, text = item.strip().partition("=")
            if not equals or not text:
                raise BadInput(f"drop must be SITE=RATE[:KIND], as in hidden=0.5, got {item!r}")
            if site == "scaling":
                scaling = text
                continue
            if site == "schedule":
                schedule = text
                continue
            check_site(site)
            if site in sites:
                raise BadInput(
                    f"site {site!r} must be given once, got {sites[site]} and {text}; "
                    "write several rates, one per occurrence, as 0.1/0.2/0.3"
                )
            sites[site] = OWN if text == OWN else _parse_drop(text)
        drops = {site: drop for site, drop in sites.items() if isinstance(drop, Drop)}
        keep = [site for site in sites if site not in drops]
        scaling = "inverted" if scaling is None else scaling
        return cls(drops, scaling, "constant" if schedule is None else schedule, keep)

    def drops(self) -> list[str]:
        """Returns what each site gets, in the form of `--drop` and in the order of the sites."""
        said = {**self.sites, **dict.fromkeys(self.keep, OWN)}
        return [f"{site}={said[site]}" for site in SITES if site in said]

    def __str__(self) -> str:
        items = self.drops()
        items += ["scaling=original"] if self.scaling == "original" else []
        items += [f"schedule={self.schedule}"] if self.schedule.moves else []
        return ",".join(items)


def _parse_drop(text):
    rates, *words = text.split(":")
    options = {}
    for word in words:
        name = "block_size" if word.isdecimal() else "ramp" if word in RAMPS else "kind"
        if name in options:
            raise BadInput(f"{name} must be given once, got {text!r}; write RATE[:KIND][:RAMP][:BLOCK_SIZE]")
        options[name] = int(word) if name == "block_size" else word
    try:
        values = tuple(float(rate) for rate in rates.removesuffix("/").split("/"))
    except ValueError:
        raise BadInput(f"rate must be a number in [0, 1), or several as in 0.1/0.2, got {rates!r}") from None
    return Drop(values if "/" in rates else values[0], **options)


def _drop_from_json(site, data):
    if not isinstance(data, dict):
        return Drop(data)
    _checked_keys(f"drop at site {site!r}", data, ("rate", "kind", "ramp", "block_size"))
    if "rate" not in data:
        raise BadInput(f'drop at site {site!r} must have a rate, as in {{"rate": 0.5}}, got {shown(data)}')
    return Drop(**data)


def _checked_keys(what, data, allowed):
    if not isinstance(data, dict):
        raise BadInput(f"{what} must be a JSON object with {listed(allowed)}, got {shown(data)}")
    for key in data:
        one_of(f"key in the {what}", key, allowed)
    return data


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the pairs of a JSON object as a dictionary. Raises `BadInput` if a key is repeated."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise BadInput(f"key {key!r} must be given once in a placement, got it {keys.count(key)} times")
    return dict(pairs)
