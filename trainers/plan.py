"""One run, planned: which network, which placement, which data, which recipe, which seed.

A plan is what `config.json` holds, and all that two runs need to have in common to be
the same run. It is made and checked before TensorFlow starts.
"""

import dataclasses
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from trainers.recipe import Recipe
from zoo import catalogue
from zoo.errors import BadInput
from zoo.placement import Placement

_RECIPE = {f.name for f in dataclasses.fields(Recipe)}


@dataclass(frozen=True)
class Data:
    """Which data set, and how it is cut.

    `image_size` resizes images to that edge, in pixels; `vocabulary` and `length` are
    the numbers of token ids and of positions for text.
    """

    dataset: str = "digits"
    train_size: int | None = None
    split_seed: int = 0
    image_size: int | None = None
    vocabulary: int = 8000
    length: int = 64


_DATA = {f.name for f in dataclasses.fields(Data)}


@dataclass(frozen=True)
class Plan:
    """A run before it is begun. Build it with `Plan.make`."""

    model: str
    settings: dict
    placement: Placement
    data: Data = field(default_factory=Data)
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0

    @classmethod
    def make(cls, base=None, **options):
        """A plan from the options of `python -m trainers train`, over the plan `base` if given.

        Options that are absent or None leave the base, or the defaults, as they are.
        Raises `BadInput` for what cannot be, before anything is built.

        >>> str(Plan.make(model="cnn", drop=["conv=0.1:spatial"]).placement)
        'conv=0.1:spatial'
        """
        given = {key: value for key, value in options.items() if value is not None}
        model = given.pop("model", base.model if base else "mlp")
        catalogue.check_model(model)
        same = base is not None and base.model == model
        settings = {**(base.settings if same else {}), **given.pop("settings", {})}
        config = catalogue.configure(model, settings)
        wish = {key: given.pop(key) for key in ("placement", "drop", "scaling", "drop_schedule") if key in given}
        placement = choose_placement(model, config, **wish) if wish or not same else base.placement
        placement.check(config.sites(), model)
        seed = given.pop("seed", base.seed if base else 0)
        recipe = {key: given.pop(key) for key in list(given) if key in _RECIPE}
        data = {key: given.pop(key) for key in list(given) if key in _DATA}
        if given:
            raise BadInput(f"received the option {next(iter(given))!r}, which a run does not have")
        check_counts(seed=(seed, 0), **{key: (value, 0 if key == "split_seed" else 1) for key, value in data.items()})
        return cls(
            model,
            catalogue.settings_of(config),
            placement,
            dataclasses.replace(base.data if base else Data(), **data),
            dataclasses.replace(base.recipe if base else Recipe(), **recipe),
            seed,
        )

    @property
    def name(self):
        """`<model>-<dataset>-<placement>`, what a run or its artefact is called unless it is given a name."""
        config = catalogue.configure(self.model, self.settings)
        return catalogue.name_of(self.model, self.data.dataset, self.placement, config=config)

    def command(self):
        """The `python -m trainers train` command of this plan, without what is the default anyway."""
        words = ["--model", self.model, "--dataset", self.data.dataset]
        defaults = catalogue.settings_of(catalogue.configure(self.model))
        for key, value in self.settings.items():
            if value != defaults[key]:
                text = "/".join(map(str, value)) if isinstance(value, list) else str(value)
                words += ["--set", f"{key}={text}"]
        if self.placement != catalogue.named_placement(self.model, "default"):
            drops = [word for site, drop in self.placement.sites.items() for word in ("--drop", f"{site}={drop}")]
            words += drops or ["--placement", "none"]
            words += ["--scaling", self.placement.scaling] if self.placement.scaling != "inverted" else []
            words += ["--drop-schedule", str(self.placement.schedule)] if self.placement.schedule.moves else []
        for value, default in ((self.data, Data()), (self.recipe, Recipe())):
            for key, chosen in dataclasses.asdict(value).items():
                if key != "dataset" and chosen != getattr(default, key):
                    option = key.replace("_", "-")
                    words += ["--no-" + option] if chosen is False else ["--" + option]
                    words += [] if isinstance(chosen, bool) else [str(chosen)]
        return shlex.join(["python", "-m", "trainers", "train", *words, "--seed", str(self.seed)])

    def to_json(self):
        """A JSON-able dictionary, the inverse of `from_json`."""
        return {
            "model": self.model,
            "settings": self.settings,
            "placement": self.placement.to_json(),
            "data": dataclasses.asdict(self.data),
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, config):
        """The plan in the contents of a `config.json`. Raises `BadInput` if it is damaged."""
        try:
            return cls(
                config["model"],
                catalogue.settings_of(catalogue.configure(config["model"], config["settings"])),
                Placement.from_json(config["placement"]),
                Data(**{key: config["data"][key] for key in _DATA}),
                Recipe.from_json(config["recipe"]),
                config["seed"],
            )
        except (KeyError, TypeError) as error:
            raise BadInput(f"received a config.json that lacks or misnames {error}; start the run again") from None

    @classmethod
    def read(cls, folder):
        """The plan of the run in `folder`."""
        path = Path(folder) / "config.json"
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, json.JSONDecodeError) as error:
            raise BadInput(f"cannot read {path} ({error}); choose another --out") from None

    def differences(self, other):
        """What differs between two plans: a list of `field: this, not that`."""
        return differences(self.to_json(), other.to_json())


def choose_placement(model, config, placement=None, drop=None, scaling=None, drop_schedule=None):
    """The placement that `--placement`, `--drop`, `--scaling` and `--drop-schedule` ask for together.

    Neither of the first two: the model's default. `drop` alone: exactly these sites.
    Both: the placement, with those sites replaced.
    """
    chosen = None
    if isinstance(placement, str) and placement.endswith(".json"):
        chosen = read_placement(placement)
    elif placement is not None or not drop:
        chosen = catalogue.resolve_placement(model, placement, config=config)
    if drop:
        dropped = Placement.parse(drop) if isinstance(drop, str | list | tuple) else Placement(drop)
        chosen = chosen.replaced(dropped) if chosen else dropped
    return Placement(chosen.sites, scaling or chosen.scaling, drop_schedule or chosen.schedule)


def read_placement(path):
    """The placement in a JSON file. Raises `BadInput` if it cannot be read."""
    try:
        return Placement.from_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read the placement file {path} ({error})") from None


def check_counts(**counts):
    """Refuse a count below its least: `name=(value, least)`; None stands for a default."""
    for name, (value, least) in counts.items():
        if name == "dataset" or value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadInput(f"received {name} {value!r}; it is a whole number of at least {least}")


def differences(mine, theirs):
    """What differs between two nested dictionaries: a list of `field: this, not that`."""
    mine, theirs = _flat(mine), _flat(theirs)
    keys = sorted(mine.keys() | theirs.keys())
    return [f"{k}: {mine.get(k)}, not {theirs.get(k)}" for k in keys if mine.get(k) != theirs.get(k)]


def _flat(value, prefix=""):
    """A nested dictionary as one of `outer.inner` keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    items = (_flat(v, f"{prefix}.{k}" if prefix else k) for k, v in value.items())
    return {key: v for item in items for key, v in item.items()}
