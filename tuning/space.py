"""What a search may choose from, and what a choice means: a placement, and a plan of a run.

A space is independent of any network: sites and their rates, the kinds, the scaling, and
a few fields of the recipe. `Space.check` says whether it fits a plan. Rates are lists of
rounded numbers with both ends, 0 always among them: a search that cannot answer "none"
answers a question that nobody asked.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trainers.plan import Plan
from trainers.recipe import Recipe
from zoo import catalogue
from zoo.architectures import widened
from zoo.drop import KINDS, SITES, Drop, check_site, listed, member
from zoo.errors import BadInput
from zoo.placement import SCALINGS, Placement

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

    `rates`: site -> rates to try, 0 among them; hyperparameter `rate_<site>`.
    `kinds`: site -> kinds to try; a hyperparameter `kind_<site>` where there are several.
    `others`: `scaling`; `width`, a factor on every width of the network; and the recipe's
        `learning_rate`, `weight_decay`, `max_norm` (0: none), `label_smoothing` -> values.

    Raises `BadInput` (a ValueError) for an unknown site, kind or field and for a value
    outside its range.

    >>> space = Space.parse(["conv=0:0.2:0.1:spatial", "hidden=0/0.5", "learning_rate=0.001/0.003"])
    >>> space.names, space.size
    (('rate_conv', 'rate_hidden', 'learning_rate'), 12)
    >>> str(space.placement({"rate_conv": 0.1, "rate_hidden": 0.5, "learning_rate": 0.001}))
    'conv=0.1:spatial,hidden=0.5'
    """

    rates: Mapping[str, tuple[float, ...]]
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    others: Mapping[str, tuple] = field(default_factory=dict)

    def __post_init__(self):
        if not self.rates:
            raise BadInput("received a search space without a site; name one, as in --tune hidden=0:0.8:0.1")
        rates = {site: _rates(site, self.rates[site]) for site in SITES if site in self.rates}
        for site in self.rates:
            check_site(site)
        kinds = {site: tuple(dict.fromkeys(self.kinds.get(site, ("dropout",)))) for site in rates}
        others = {name: _values(name, self.others[name]) for name in OTHERS if name in self.others}
        for name in self.others:
            member("field to tune", name, OTHERS)
        for name, value in (("rates", rates), ("kinds", kinds), ("others", others)):
            object.__setattr__(self, name, MappingProxyType(value))
        for site, several in kinds.items():
            for kind, scaling in itertools.product(several, others.get("scaling", ("inverted",))):
                Placement({site: Drop(max(rates[site]), kind)}, scaling)

    @property
    def candidates(self):
        """Hyperparameter -> its values, in the order in which a signal meets the sites."""
        found = {f"rate_{site}": rates for site, rates in self.rates.items()}
        found |= {f"kind_{site}": kinds for site, kinds in self.kinds.items() if len(kinds) > 1}
        return found | dict(self.others)

    @property
    def names(self):
        """The names of the hyperparameters."""
        return tuple(self.candidates)

    @property
    def size(self):
        """How many different combinations there are; at rate 0 neither kind nor scaling makes a difference."""
        dropped = math.prod(1 + (len(rates) - 1) * len(self.kinds[site]) for site, rates in self.rates.items()) - 1
        apart = math.prod(len(values) for name, values in self.others.items() if name != "scaling")
        return apart * (dropped * len(self.others.get("scaling", ("inverted",))) + 1)

    # === What a choice means ===

    def snapped(self, values):
        """`values` as the candidates spell them: keras-tuner's service sends numbers in 32 bits."""
        found = {}
        for name, candidates in self.candidates.items():
            value = values[name]
            number = not isinstance(value, str)
            found[name] = min(candidates, key=lambda c, v=value: abs(c - v)) if number else value
        return found

    def key(self, values):
        """What tells combinations apart, hashable; equal for those that train the same network."""
        others = [(name, values[name]) for name in self.others if name != "scaling"]
        return str(self.placement(values)), tuple(others)

    def placement(self, values, base=None):
        """The `Placement` of a choice, over the sites of `base` that are not tuned."""
        chosen = {
            site: Drop(
                values[f"rate_{site}"], values.get(f"kind_{site}", kinds[0]) if values[f"rate_{site}"] else "dropout"
            )
            for site, kinds in self.kinds.items()
        }
        fixed = base.sites if base else {}
        some = any(values[f"rate_{site}"] for site in self.rates) or bool(fixed)
        scaling = values.get("scaling", base.scaling if base else "inverted") if some else "inverted"
        return Placement({**fixed, **chosen}, scaling, base.schedule if base else "constant")

    def plan(self, base, values, seed=None):
        """The `Plan` of a run with this choice: `base`, with what is tuned put in."""
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

    def control(self, values=None):
        """The combination without any dropout: that of `values` with every rate 0, or of first values."""
        values = values or {name: candidates[0] for name, candidates in self.candidates.items()}
        return values | {f"rate_{site}": 0.0 for site in self.rates}

    def is_control(self, values):
        """Whether no site drops anything."""
        return not any(values[f"rate_{site}"] for site in self.rates)

    def check(self, base):
        """Refuse a space that does not fit the plan `base`: a site that its network lacks, a width too small."""
        config = catalogue.configure(base.model, base.settings)
        for factor in self.others.get("width", ()):
            widened(config, factor)
        widest = {name: candidates[-1] for name, candidates in self.candidates.items()}
        self.placement(widest, base.placement).check(config.sites(), base.model)
        return self

    # === How it is written ===

    @classmethod
    def parse(cls, items):
        """From `SITE=LOW:HIGH:STEP[:KIND[/KIND]]`, `SITE=R1/R2/...[:KIND]` and `FIELD=V1/V2/...` texts."""
        rates, kinds, others = {}, {}, {}
        for item in items:
            name, equals, text = item.partition("=")
            if not equals or not text:
                raise BadInput(f"received --tune {item!r}; it is written SITE=LOW:HIGH:STEP, as in hidden=0:0.8:0.1")
            if name in rates or name in others:
                raise BadInput(f"received --tune {name} twice; give all its values at once")
            if name in OTHERS:
                others[name] = tuple(text.split("/") if name == "scaling" else _numbers(item, text.split("/")))
                continue
            if name not in SITES:
                check_site(name) if name in ("output", "logits", "head") else member("--tune", name, (*SITES, *OTHERS))
            rates[name], found = _parse_rates(item, text)
            if found:
                kinds[name] = found
        return cls(rates, kinds, others)

    @classmethod
    def default(cls, model):
        """The space that is searched for `model` unless another is given."""
        return cls.parse(DEFAULTS[model])

    def to_json(self):
        """A JSON-able dictionary, the inverse of `from_json`."""
        return {name: {key: list(v) for key, v in getattr(self, name).items()} for name in ("rates", "kinds", "others")}

    @classmethod
    def from_json(cls, data):
        """The space in a dictionary that `to_json` made."""
        return cls(data["rates"], data["kinds"], data["others"])


def _parse_rates(item, text):
    parts = text.split(":")
    numeric = list(itertools.takewhile(lambda part: part.replace("/", "").replace(".", "").isdigit(), parts))
    words = parts[len(numeric) :]
    if len(words) > 1 or len(numeric) not in (1, 3):
        raise BadInput(f"received --tune {item!r}; it is written SITE=LOW:HIGH:STEP[:KIND] or SITE=R1/R2/...[:KIND]")
    kinds = tuple(words[0].split("/")) if words else ()
    for kind in kinds:
        member("kind", kind, KINDS)
    if len(numeric) == 1:
        return tuple(_numbers(item, numeric[0].split("/"))), kinds
    low, high, step = _numbers(item, numeric)
    if not 0 <= low <= high < 1 or step <= 0:
        raise BadInput(f"received --tune {item!r}; it takes 0 <= LOW <= HIGH < 1 and a STEP above 0")
    steps = math.floor((high - low) / step + 1e-9)
    return (*(low + i * step for i in range(steps + 1)), high), kinds


def _numbers(item, texts):
    try:
        return [float(text) for text in texts]
    except ValueError:
        raise BadInput(f"received --tune {item!r}; {listed(texts)} are to be numbers") from None


def _rates(site, rates):
    for rate in rates:
        Drop(rate)
    rounded = sorted({0.0, *(round(float(rate), DIGITS) for rate in rates)})
    if len(rounded) < 2:
        raise BadInput(f"received no rate above 0 for site {site!r}; leave the site out, or give it rates to try")
    return tuple(rounded)


def _values(name, values):
    values = tuple(dict.fromkeys(values))
    if not values:
        raise BadInput(f"received no value for {name}; give some, as in {name}=0.001/0.003")
    if name == "scaling":
        for value in values:
            member("scaling", value, SCALINGS)
        return values
    for value in values:
        if name == "width":
            if not value > 0 or math.isinf(value):
                raise BadInput(f"received width {value!r}; it is a factor above 0, as in 0.5/1/2")
        elif not (name == "max_norm" and value == 0):
            Recipe(**{name: value})
    return tuple(float(value) for value in values)
