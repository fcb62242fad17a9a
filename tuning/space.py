"""The values that a search may choose, and the placement and plan of each choice.

A space is independent of any network: sites with their rates, kinds, the scaling, and a
few fields of the recipe. `Space.check` checks that it fits a plan. Rates are rounded numbers,
with both ends of a range and always 0, so that a search can answer "no dropout".
"""

import dataclasses
import itertools
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trainers.plan import Plan
from trainers.recipe import Recipe
from zoo.checks import listed, mapping, number, one_of, texts
from zoo.errors import BadInput
from zoo.models import catalogue
from zoo.models.configs import widened
from zoo.placement.drop import KINDS, SITES, Drop, check_site
from zoo.placement.placement import SCALINGS, Placement
from zoo.schema import by_name, each, real, record, text

RECIPE = ("learning_rate", "weight_decay", "max_norm", "label_smoothing")
OTHERS = ("scaling", "width", *RECIPE)
DIGITS = 6  # decimals that values are rounded to: 0.3, not 0.30000000000000004

DEFAULTS = {
    "mlp": ("input=0:0.3:0.1", "hidden=0:0.8:0.1"),
    "cnn": ("conv=0:0.3:0.1:spatial", "hidden=0:0.8:0.1"),
    "resnet": ("conv=0:0.3:0.1", "features=0:0.5:0.1"),
    "transformer": tuple(
        f"{site}=0:0.3:0.1" for site in ("embedding", "attention", "attention_out", "ffn_hidden", "ffn_out")
    ),
}


@dataclass(frozen=True)
class Space:
    """The candidates of everything that is tuned.

    Args:
        rates: site -> rates to try; 0 is added. The hyperparameter is `rate_<site>`.
        kinds: site -> kinds to try (default `dropout`). With several kinds there is a
            hyperparameter `kind_<site>`.
        others: field -> values to try: `scaling`; `width`, a factor on all widths of the
            network; and `learning_rate`, `weight_decay`, `max_norm` (0: none) and
            `label_smoothing` of the recipe.
        fixed: whether sites that are not tuned drop too, as `check` finds out. Then the scaling
            also makes a difference where all tuned rates are 0.

    Raises:
        BadInput: an unknown site, kind or field, or a value out of range (a ValueError).

    Examples:
        >>> space = Space.parse(["conv=0:0.2:0.1:spatial", "hidden=0/0.5", "learning_rate=0.001/0.003"])
        >>> space.names, space.size
        (('rate_conv', 'rate_hidden', 'learning_rate'), 12)
        >>> str(space.placement({"rate_conv": 0.1, "rate_hidden": 0.5, "learning_rate": 0.001}))
        'conv=0.1:spatial,hidden=0.5'
    """

    rates: Mapping[str, tuple[float, ...]]
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    others: Mapping[str, tuple] = field(default_factory=dict)
    fixed: bool = False

    def __post_init__(self):
        for name in ("rates", "kinds", "others"):
            mapping(name, getattr(self, name))
        if not self.rates:
            raise BadInput("tune must name at least one site, got none; add one, such as --tune hidden=0:0.8:0.1")
        rates = {site: _rates(site, self.rates[site]) for site in SITES if site in self.rates}
        for site in self.rates:
            check_site(site)
        kinds = {site: tuple(dict.fromkeys(self.kinds.get(site, ("dropout",)))) for site in rates}
        others = {name: _values(name, self.others[name]) for name in OTHERS if name in self.others}
        for name in self.others:
            one_of("field to tune", name, OTHERS)
        for name, value in (("rates", rates), ("kinds", kinds), ("others", others)):
            object.__setattr__(self, name, MappingProxyType(value))
        for site, several in kinds.items():
            for kind, scaling in itertools.product(several, others.get("scaling", ("inverted",))):
                Placement({site: Drop(max(rates[site]), kind)}, scaling)

    @property
    def candidates(self) -> dict[str, tuple]:
        """Hyperparameter -> its values; sites in the order in which a signal passes them."""
        rates = {f"rate_{site}": rates for site, rates in self.rates.items()}
        kinds = {f"kind_{site}": kinds for site, kinds in self.kinds.items() if len(kinds) > 1}
        return rates | kinds | dict(self.others)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the hyperparameters."""
        return tuple(self.candidates)

    @property
    def size(self) -> int:
        """The number of different combinations; at rate 0, kind and scaling make no difference."""
        dropped = math.prod(1 + (len(rates) - 1) * len(self.kinds[site]) for site, rates in self.rates.items()) - 1
        apart = math.prod(len(values) for name, values in self.others.items() if name != "scaling")
        scalings = len(self.others.get("scaling", ("inverted",)))
        return apart * (dropped * scalings + (scalings if self.fixed else 1))

    # === The meaning of a choice ===

    def snapped(self, values: Mapping) -> dict:
        """Returns `values` with each number replaced by its candidate: keras-tuner's service sends 32-bit numbers.

        A number that is no candidate stays as it is, so that what is trained is what is reported.
        """
        nearest = {}
        for name, candidates in self.candidates.items():
            value = values[name]
            if not isinstance(value, str):
                candidate = min(candidates, key=lambda c, v=value: abs(c - v))  # type: ignore[misc]
                value = candidate if math.isclose(candidate, value, rel_tol=1e-6, abs_tol=1e-9) else value
            nearest[name] = value
        return nearest

    def key(self, values: Mapping) -> Hashable:
        """Returns the identity of a combination; it is equal for combinations that train the same network."""
        others = [(name, values[name]) for name in self.others if name != "scaling"]
        return (str(self.placement(values)), tuple(others), *([values.get("scaling")] if self.fixed else []))

    def placement(self, values: Mapping, base: Placement | None = None) -> Placement:
        """Returns the placement of a choice, with the sites of `base` that are not tuned."""
        chosen = {
            site: Drop(
                values[f"rate_{site}"], values.get(f"kind_{site}", kinds[0]) if values[f"rate_{site}"] else "dropout"
            )
            for site, kinds in self.kinds.items()
        }
        fixed = base.sites if base else {}
        some = any(values[f"rate_{site}"] for site in self.rates) or bool(fixed)
        scaling = values.get("scaling", base.scaling if base else "inverted") if some else "inverted"
        keep = base.keep if base else ()
        return Placement({**fixed, **chosen}, scaling, base.schedule if base else "constant", keep)

    def plan(self, base: Plan, values: Mapping, seed: int | None = None) -> Plan:
        """Returns the plan `base` with the values of a choice, and with `seed` if it is given."""
        recipe = {name: values[name] for name in RECIPE if name in values}
        if recipe.get("max_norm") == 0:
            del recipe["max_norm"]
            base = dataclasses.replace(base, recipe=dataclasses.replace(base.recipe, max_norm=None))
        settings = {}
        if "width" in values:
            wide = widened(catalogue.configure(base.model, base.settings), values["width"])
            settings = catalogue.settings_of(wide)
        placement = self.placement(values, base.placement)
        return Plan.make(base, placement=placement, settings=settings, seed=seed, **recipe)

    def control(self, values: Mapping | None = None) -> dict:
        """Returns a combination without dropout: `values`, or the first value of everything, with all rates 0."""
        values = values or {name: candidates[0] for name, candidates in self.candidates.items()}
        if self.fixed and "scaling" in self.others:
            values = {**values, "scaling": self.others["scaling"][0]}
        return {**values, **{f"rate_{site}": 0.0 for site in self.rates}}

    def is_control(self, values: Mapping) -> bool:
        """Returns whether no tuned site drops anything, and the others drop as they do in the control."""
        if self.fixed and "scaling" in self.others and values["scaling"] != self.others["scaling"][0]:
            return False
        return not any(values[f"rate_{site}"] for site in self.rates)

    def check(self, base: Plan) -> "Space":
        """Returns the space if it fits the plan `base`.

        Raises:
            BadInput: the network lacks a site, or a width becomes too small.
        """
        if base.network and "width" in self.others:
            raise BadInput(f"--tune width must be left out for {base.label}, whose widths are in its own code")
        for factor in self.others.get("width", ()):
            widened(catalogue.configure(base.model, base.settings), factor)
        widest = {name: candidates[-1] for name, candidates in self.candidates.items()}
        self.placement(widest, base.placement).check(base.sites, base.label)
        fixed = any(drop.rate for site, drop in base.placement.sites.items() if site not in self.rates)
        return dataclasses.replace(self, fixed=fixed)

    # === Its written forms ===

    @classmethod
    def parse(cls, items: Iterable[str]) -> "Space":
        """Returns the space of `--tune` texts.

        Args:
            items: `SITE=LOW:HIGH:STEP[:KIND[/KIND]]`, `SITE=RATE/RATE[:KIND[/KIND]]` and
                `FIELD=VALUE/VALUE` texts.

        Raises:
            BadInput: a text has another form, or names something twice.
        """
        rates, kinds, others = {}, {}, {}
        for item in texts("--tune", items):
            name, equals, text = item.partition("=")
            if not equals or not text:
                raise BadInput(f"--tune must be SITE=LOW:HIGH:STEP, as in hidden=0:0.8:0.1, got {item!r}")
            if name in rates or name in others:
                raise BadInput(f"--tune must name {name} once, got it twice; give all its values together")
            if name in OTHERS:
                others[name] = tuple(text.split("/") if name == "scaling" else _numbers(item, text.split("/")))
                continue
            if name not in SITES:
                check_site(name) if name in ("output", "logits", "head") else one_of("--tune", name, (*SITES, *OTHERS))
            rates[name], named = _parse_rates(item, text)
            if named:
                kinds[name] = named
        return cls(rates, kinds, others)

    @classmethod
    def default(cls, model: str) -> "Space":
        """Returns the default space of a model."""
        return cls.parse(DEFAULTS[model])

    @classmethod
    def default_of(cls, base: Plan) -> "Space":
        """Returns the default space of a plan: of its model, or 0 to 0.3 at every site of a model of the user's."""
        if base.network is None:
            return cls.default(base.model)
        if not base.sites:
            raise BadInput(f"--model must have a site for dropout, got {base.label}, in which none is recognised")
        return cls.parse([f"{site}=0:0.3:0.1" for site in base.sites])

    def to_json(self) -> dict:
        """Returns a JSON-able dictionary, the inverse of `from_json`."""
        return {name: {key: list(v) for key, v in getattr(self, name).items()} for name in ("rates", "kinds", "others")}

    @classmethod
    def from_json(cls, data: dict) -> "Space":
        """Returns the space in a dictionary that `to_json` made. Raises `BadInput` if it is something else."""
        _SCHEMA("space", data)
        return cls(data["rates"], data["kinds"], data["others"])


_MOST_RATES = 10_000  # of a site
_SCHEMA = record(
    {
        "rates": by_name(each(real(0, 1), 1, _MOST_RATES + 2)),
        "kinds": by_name(each(text)),
        "others": by_name(each(lambda name, value: value, 1, _MOST_RATES)),
    }
)


def _parse_rates(item, text):
    parts = text.split(":")
    numeric = list(itertools.takewhile(lambda part: all(map(_is_number, part.split("/"))), parts))
    words = parts[len(numeric) :]
    if len(words) > 1 or len(numeric) not in (1, 3):
        raise BadInput(f"--tune must be SITE=LOW:HIGH:STEP[:KIND] or SITE=RATE/RATE[:KIND], got {item!r}")
    kinds = tuple(words[0].split("/")) if words else ()
    for kind in kinds:
        one_of("kind", kind, KINDS)
    if len(numeric) == 1:
        return tuple(_numbers(item, numeric[0].split("/"))), kinds
    low, high, step = _numbers(item, numeric)
    number(f"LOW of --tune {item}", low, 0, 1)
    number(f"HIGH of --tune {item}", high, 0, 1)
    number(f"STEP of --tune {item}", step, 0, closed="neither")
    if low > high:
        raise BadInput(f"LOW of --tune {item} must be <= HIGH, got {low:g} and {high:g}")
    if (high - low) / step > _MOST_RATES:
        raise BadInput(f"--tune {item} must have at most {_MOST_RATES:,} rates, got more; choose a larger STEP")
    steps = math.floor((high - low) / step)
    return (*(low + i * step for i in range(steps + 1)), high), kinds


def _is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _numbers(item, texts):
    try:
        return [float(text) for text in texts]
    except ValueError:
        raise BadInput(f"the values of --tune must be numbers, got {listed(texts)} in {item!r}") from None


def _rates(site, rates):
    for rate in rates:
        Drop(rate)
    rounded = sorted({0.0, *(round(float(rate), DIGITS) for rate in rates)})
    if len(rounded) < 2:
        raise BadInput(f"the rates of {site} must include one > 0, got {listed(rounded)}; leave the site out otherwise")
    return tuple(rounded)


def _values(name, values):
    values = tuple(dict.fromkeys(values))
    if not values:
        raise BadInput(f"{name} must have at least one value, got none; write it as in {name}=0.001/0.003")
    if name == "scaling":
        for value in values:
            one_of("scaling", value, SCALINGS)
        return values
    for value in values:
        if name == "width":
            number("width, a factor,", value, 0, closed="neither")
        elif not (name == "max_norm" and value == 0):
            Recipe(**{name: value})
    return tuple(float(value) for value in values)
