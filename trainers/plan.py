"""The plan of one run: network, placement, data, recipe and seed.

`config.json` holds a plan. Two runs with equal plans are the same run. A plan is built and
checked before TensorFlow is imported.
"""

import dataclasses
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from trainers.recipe import Recipe, number_of_devices
from zoo import checks, cli, fields, runs
from zoo.data.options import DataOptions, dataset_name
from zoo.errors import BadInput
from zoo.models import catalogue
from zoo.placement.placement import Placement, unique_keys
from zoo.reading import parse_json, read_text
from zoo.schema import all_of, record, require
from zoo.surgery.network import Network

_Value = TypeVar("_Value")
_RECIPE = {f.name for f in dataclasses.fields(Recipe)}
_PLACEMENT = ("placement", "drop", "scaling", "drop_schedule")


@dataclass(frozen=True, kw_only=True)
class Data(DataOptions):
    """The data set, and how it is read and split."""

    dataset: str = fields.field(
        "digits", "digits, a TFDS name, folder:DIR, FILE.npz, FILE.csv, FILE.tsv or FILE.jsonl", dataset_name
    )


_DATA = {f.name for f in dataclasses.fields(Data)}


@dataclass(frozen=True)
class Plan:
    """Everything that decides the result of a run. Build it with `Plan.make`."""

    model: str
    settings: dict
    placement: Placement
    data: Data = field(default_factory=Data)
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0
    network: Network | None = None  # of a model that is not one of the four; `model` then is MODEL in full

    @classmethod
    def make(cls, base: "Plan | None" = None, **options: object) -> "Plan":
        """Returns the plan that the options of `python -m trainers train` describe.

        Args:
            base: The plan that supplies what the options leave out. The defaults if None.
            **options: The options of the command by name. None means "not given". `model` is a name, or
                a `Network`. `from_` is the path of a search's `best.json`; explicit options win over it.

        Raises:
            BadInput: An option is unknown or out of range, or the options contradict each other.

        Examples:
            >>> str(Plan.make(model="cnn", drop=["conv=0.1:spatial"]).placement)
            'conv=0.1:spatial'
        """
        given = {key: value for key, value in options.items() if value is not None}
        if "from_" in given:
            searched = read_placement_file(given.pop("from_"))
            settings = {**searched["settings"], **given.pop("settings", {})}
            given = {"placement": Placement.from_json(searched["placement"]), **searched["recipe"], **given}
            given |= {"settings": settings} if settings else {}
        asked = given.pop("model", (base.network or base.model) if base else "mlp")
        network, model = (asked, asked.model) if isinstance(asked, Network) else (None, asked)
        same_model = base is not None and base.model == model
        settings = {**(base.settings if same_model else {}), **given.pop("settings", {})}
        if network and settings:
            raise BadInput(f"set must be left out for {model}, got {', '.join(settings)}; change its own code")
        config = catalogue.configure(model, settings) if network is None else network
        where = {key: given.pop(key) for key in _PLACEMENT if key in given}
        placement = choose_placement(model, config, **where) if where or not same_model else base.placement
        placement.check(network.sites if network else config.sites(), network.label if network else model)
        seed = given.pop("seed", base.seed if base else 0)
        recipe = {key: given.pop(key) for key in list(given) if key in _RECIPE}
        if "devices" in recipe:
            recipe["devices"] = number_of_devices(recipe["devices"])
        data = {key: given.pop(key) for key in list(given) if key in _DATA}
        if given:
            raise BadInput(f"option must be one of those of a run, got {next(iter(given))!r}; see train --help")
        return cls(
            model,
            {} if network else catalogue.settings_of(config),
            placement,
            dataclasses.replace(base.data if base else Data(), **data),
            dataclasses.replace(base.recipe if base else Recipe(), **recipe),
            checks.integer("seed", seed, 0, checks.MOST["seed"]),
            network,
        )

    @property
    def label(self) -> str:
        """The name of the model in paths and columns."""
        return self.network.label if self.network else self.model

    @property
    def sites(self) -> Mapping[str, tuple[int, ...]]:
        """The block index of every occurrence, by site that the model has."""
        return self.network.sites if self.network else catalogue.configure(self.model, self.settings).sites()

    def over(self, kind: str) -> "Plan":
        """Returns the plan for a data set of a kind, `image` or `text`, which is known once the set is read.

        Token ids have no site `input`, so the placement `everywhere` has it for images alone.

        Examples:
            >>> str(Plan.make(model="transformer", placement="everywhere").over("text").placement)[:13]
            'embedding=0.2'
        """
        if self.network:
            return self
        config = catalogue.configure(self.model, self.settings)
        everywhere = [catalogue.named_placement(self.model, "everywhere", tokens, config) for tokens in (False, True)]
        plain = dataclasses.replace(self.placement, scaling="inverted", schedule="constant")
        if kind != "text" or plain != everywhere[0]:
            return self
        placement = dataclasses.replace(self.placement, sites=everywhere[1].sites)
        return dataclasses.replace(self, placement=placement)

    @property
    def name(self) -> str:
        """The default name of the run and its artefact: `<model>-<dataset>-<placement>`."""
        if self.network:
            placement = self.network.name_of(self.placement)
            return catalogue.artefact_name(self.network.label, self.data.dataset, placement)
        config = catalogue.configure(self.model, self.settings)
        return catalogue.name_of(self.model, self.data.dataset, self.placement, config=config)

    def command(self) -> str:
        """Returns the `python -m trainers train` command of this plan, without options at their defaults."""
        words = ["--model", self.model, "--dataset", self.data.dataset]
        defaults = {} if self.network else catalogue.settings_of(catalogue.configure(self.model))
        for key, value in self.settings.items():
            if value != defaults[key]:
                text = "/".join(map(str, value)) if isinstance(value, list) else str(value)
                words += ["--set", f"{key}={text}"]
        if self.network:
            words += ["--weights", "keep"] if self.network.weights == "keep" else []
            words += ["--replace-head"] if self.network.replace_head else []
            words += ["--input-range", self.network.input_range] if self.network.input_range else []
            words += [word for name in self.network.imports for word in ("--import", name)]
        default = self.network.own if self.network else catalogue.named_placement(self.model, "default")
        if self.placement != default:
            drops = [word for item in self.placement.drops() for word in ("--drop", item)]
            words += drops or ["--placement", "none"]
            words += ["--scaling", self.placement.scaling] if self.placement.scaling != "inverted" else []
            words += ["--drop-schedule", str(self.placement.schedule)] if self.placement.schedule.moves else []
        for part, defaults in ((self.data, Data()), (self.recipe, Recipe())):
            for key, value in dataclasses.asdict(part).items():
                if key != "dataset" and value != getattr(defaults, key):
                    option = key.replace("_", "-")
                    words += ["--no-" + option] if value is False else ["--" + option]
                    words += [] if isinstance(value, bool) else [str(value)]
        return shlex.join(["python", "-m", "trainers", "train", *words, "--seed", str(self.seed)])

    def to_json(self) -> dict:
        """Returns a dictionary that JSON can hold; `from_json` is the inverse."""
        return {
            "model": self.model,
            "settings": self.settings,
            "placement": self.placement.to_json(),
            "data": {"dataset": self.data.dataset, **self.data.to_json()},
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            **({"network": self.network.to_json()} if self.network else {}),
        }

    @classmethod
    def from_json(cls, config: dict) -> "Plan":
        """Returns the plan in the contents of a `config.json`. Raises `BadInput` if it is damaged."""
        try:
            network = Network.from_json(config["network"]) if config.get("network") else None
            settings = {} if network else catalogue.configure(config["model"], config["settings"])
            return cls(
                config["model"],
                settings if network else catalogue.settings_of(settings),
                Placement.from_json(config["placement"]),
                Data(**{key: config["data"][key] for key in _DATA if key in config["data"]}),
                Recipe.from_json(config["recipe"]),
                config["seed"],
                network,
            )
        except (KeyError, TypeError) as error:
            raise BadInput(f"cannot read {runs.CONFIG}: it lacks or misnames {error}; start the run again") from None

    @classmethod
    def read(cls, folder: str | Path) -> "Plan":
        """Returns the plan of the run in `folder`."""
        config = runs.read_config(folder)
        require(Path(folder) / runs.CONFIG, config, lambda name, value: cls.from_json(value), "start the run again")
        return cls.from_json(config)

    def differences(self, other: "Plan") -> list[str]:
        """Returns what differs from the plan `other`, each as `field: this, not that`."""
        return differences(self.to_json(), other.to_json())


def choose_placement(
    model: str,
    config: object,
    placement: str | Path | Placement | Mapping | None = None,
    drop: str | Iterable[str] | Mapping | None = None,
    scaling: str | None = None,
    drop_schedule: str | None = None,
) -> Placement:
    """Returns the placement that `--placement`, `--drop`, `--scaling` and `--drop-schedule` describe together.

    Without the first two it is the model's default. `drop` alone means exactly these sites. With
    both, the sites in `drop` replace those of the placement.
    """
    chosen = None
    if is_placement_file(placement):
        chosen = Placement.from_json(read_placement_file(placement)["placement"])
    elif placement is not None or not drop:
        if isinstance(config, Network):
            chosen = _of_network(config, placement)
        else:
            chosen = catalogue.resolve_placement(model, placement, config=config)
    if drop:
        dropped = Placement.parse(drop) if isinstance(drop, str | list | tuple) else Placement(drop)
        chosen = chosen.replaced(dropped) if chosen else dropped
    return dataclasses.replace(chosen, scaling=scaling or chosen.scaling, schedule=drop_schedule or chosen.schedule)


def _of_network(network, placement):
    """Returns the placement of a model that is not one of the four: a name, a mapping, or a `Placement`."""
    if placement is None or isinstance(placement, str):
        return network.named(placement or "own")
    return placement if isinstance(placement, Placement) else Placement(placement)


def is_placement_file(placement: object) -> bool:
    """Returns whether `placement` is the path of a placement file, not a name or a placement."""
    return isinstance(placement, str | Path) and str(placement).endswith(".json")


_AGAIN = "give a placement file, such as the best.json of a search"
_PLACEMENT_FILE = all_of(
    record({}, {"recipe": lambda name, value: Recipe.from_json(record({})(name, value)), "settings": record({})}),
    lambda name, value: Placement.from_json(value),
)


def read_placement_file(path: str | Path) -> dict:
    """Reads a placement file, such as the `best.json` of a search.

    Returns:
        A dictionary of `placement` (what `Placement.from_json` takes), `recipe` (fields of `Recipe`)
        and `settings` (fields of the model's configuration); the last two are empty if the file has none.

    Raises:
        BadInput: The file cannot be read, or its recipe has a bad field.
    """
    path = checks.path("the placement file", path)
    contents = parse_json(path, read_text(path, way=_AGAIN), _AGAIN, unique_keys)
    require(path, contents, _PLACEMENT_FILE, _AGAIN)
    chosen = {key: contents.pop(key, {}) for key in ("recipe", "settings")}
    return {"placement": contents, **chosen}


def recipe_note(placement: object) -> str | None:
    """Returns a sentence if `placement` is a file whose recipe is not used, else None."""
    if not is_placement_file(placement):
        return None
    contents = read_placement_file(placement)
    unused = [*contents["recipe"], *contents["settings"]]
    if not unused:
        return None
    return f"using only the placement of {placement}, not its {', '.join(unused)}; use --from for all"


def settings_of(given: str | Iterable[str] | Mapping | None) -> dict | None:
    """Returns model settings given as a mapping, `KEY=VALUE`, or a list of those, as a dictionary; None if not given.

    Examples:
        >>> settings_of("hidden=64/32")
        {'hidden': '64/32'}
    """
    if given is None or isinstance(given, Mapping):
        return None if given is None else dict(checks.mapping("set", given))
    return cli.settings(given)


def alias(name: str, value: _Value | None, other_name: str, other: _Value | None) -> _Value | None:
    """Returns the one of two values that is not None. Raises `BadInput` if both are given.

    Examples:
        >>> alias("model", None, "models", ["mlp"])
        ['mlp']
    """
    if value is not None and other is not None:
        raise BadInput(f"{name} must be given once, got {name} and its alias {other_name}; leave out {other_name}")
    return other if value is None else value


def differences(mine: dict, theirs: dict) -> list[str]:
    """Returns what differs between two nested dictionaries, each as `field: this, not that`."""
    mine, theirs = _flat(mine), _flat(theirs)
    keys = sorted(mine.keys() | theirs.keys())
    return [f"{k}: {mine.get(k)}, not {theirs.get(k)}" for k in keys if mine.get(k) != theirs.get(k)]


def _flat(value, prefix=""):
    """Returns a nested dictionary as one of `outer.inner` keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    items = (_flat(v, f"{prefix}.{k}" if prefix else k) for k, v in value.items())
    return {key: v for item in items for key, v in item.items()}
