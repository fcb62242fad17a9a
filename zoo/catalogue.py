"""The four models by name: their configuration, their placements, and how they are built."""

import contextlib
import csv
import dataclasses
import difflib
import fnmatch
import importlib
import re
from collections.abc import Mapping
from pathlib import Path

from zoo import architectures
from zoo.drop import KINDS, SITES
from zoo.errors import BadInput
from zoo.placement import Placement

CONFIGS = {
    "mlp": architectures.MLP,
    "cnn": architectures.CNN,
    "resnet": architectures.ResNet,
    "transformer": architectures.Transformer,
}
DEFAULTS = {
    "mlp": {"hidden": 0.5},
    "cnn": {"hidden": 0.5},
    "resnet": {"features": 0.1},
    "transformer": dict.fromkeys(("embedding", "attention", "attention_out", "ffn_hidden", "ffn_out"), 0.1),
}
PLACEMENTS = ("none", "default", "paper2014", "everywhere")


def list_models(pattern="*"):
    """Names of the models that match a shell pattern.

    >>> list_models("*n*")
    ['cnn', 'resnet', 'transformer']
    """
    return [name for name in CONFIGS if fnmatch.fnmatch(name, pattern)]


def check_model(name):
    """Refuse an unknown model, with the nearest name and the full list."""
    if name not in CONFIGS:
        close = difflib.get_close_matches(str(name), CONFIGS, n=1, cutoff=0.3)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise BadInput(f"received model {name!r}; {hint}there are {', '.join(CONFIGS)}")


def configure(model, settings=None):
    """The configuration of `model` with `settings` (field -> value or its text) put in."""
    check_model(model)
    return architectures.configured(CONFIGS[model], settings or {})


def named_placement(model, name, tokens=False, config=None):
    """The placement called `name`, for `model`. Raises `BadInput` where it does not apply."""
    sites = (config or configure(model)).sites(tokens)
    if name == "none":
        return Placement()
    if name == "default":
        return Placement(DEFAULTS[model])
    if name == "everywhere":
        return Placement(dict.fromkeys(sites, 0.2))
    if name == "paper2014":
        if model not in ("mlp", "cnn"):
            raise BadInput(
                f"received placement 'paper2014' for {model}: Srivastava et al. 2014 describe it for "
                "fully-connected layers, so for mlp and cnn alone; use 'default' or 'everywhere'"
            )
        return Placement({"input": 0.2, "hidden": 0.5})
    raise BadInput(f"received placement {name!r}; allowed: {', '.join(PLACEMENTS)}, or a .json file")


def resolve_placement(model, placement=None, tokens=False, config=None):
    """A `Placement` that fits `model`, from a name, a mapping, a `Placement`, or None for the default."""
    check_model(model)
    config = config or configure(model)
    if placement is None:
        placement = "default"
    if isinstance(placement, str):
        placement = named_placement(model, placement, tokens, config)
    elif isinstance(placement, Mapping):
        placement = Placement(placement)
    elif not isinstance(placement, Placement):
        raise BadInput(
            f"received placement {placement!r}; it is a Placement, a dictionary of site to rate or Drop, "
            f"or one of {', '.join(PLACEMENTS)}"
        )
    return placement.check(config.sites(tokens), f"{model} over tokens" if tokens else model)


def name_of(model, dataset, placement, tokens=False, config=None):
    """`<model>-<dataset>-<placement>`, where the placement has a name or is called `custom`.

    >>> name_of("cnn", "digits", Placement({"hidden": 0.5}))
    'cnn-digits-default'
    """
    named = "custom"
    for name in PLACEMENTS:
        with contextlib.suppress(BadInput):
            if named == "custom" and placement == named_placement(model, name, tokens, config):
                named = name
    parts = dataset.replace("folder:", "").strip("/").removesuffix(".npz").split("/")[-2:]
    return "-".join([model, *(re.sub(r"[^A-Za-z0-9._]+", "_", part) for part in parts if part), named])


def build(model, input_shape, classes, placement=None, seed=0, vocabulary=None, **settings):
    """Build a model, an ordinary Functional Keras model that returns logits `(batch, classes)`.

    Args:
        model: `mlp`, `cnn`, `resnet` or `transformer`.
        input_shape: `(height, width, channels)` of images with raw pixels 0..255; with
            `vocabulary`, `(length,)` of token ids, where 0 is padding.
        classes: number of classes, at least 2.
        placement: a `Placement`, a dictionary of site to rate or `Drop`, a name, `{}`
            for no dropout, or None for the model's default.
        seed: weights and masks are a function of it and of the layers' names alone.
        vocabulary: number of token ids, for `transformer` over tokens.
        **settings: fields of the model's configuration, as `python -m zoo list` prints them.

    Raises:
        BadInput (a ValueError): an unknown model, site, setting or placement, or a shape
            that the model cannot take. Nothing has been built then.

    >>> model = build("mlp", (8, 8, 1), 10, placement={"hidden": 0.5}, hidden=(64, 64))
    >>> model.output_shape
    (None, 10)
    """
    config = configure(model, settings)
    tokens = vocabulary is not None
    _check_shape(model, input_shape, classes, vocabulary)
    placement = resolve_placement(model, placement, tokens, config)

    from zoo import startup

    startup.tensorflow()
    import keras

    from zoo.realise import Sites
    from zoo.seeds import initialise

    inputs = keras.Input(
        tuple(input_shape), name="tokens" if tokens else "image", dtype="int32" if tokens else "float32"
    )
    drop = Sites(placement, config.sites(tokens), seed)
    builder = importlib.import_module(f"zoo.{model}").build
    extra = {"vocabulary": vocabulary} if tokens else {}
    return initialise(builder(config, inputs, classes, drop, **extra), seed)


def settings_of(config):
    """A configuration as a JSON-able dictionary, the inverse of `configure`."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def _check_shape(model, input_shape, classes, vocabulary):
    shape = tuple(input_shape) if isinstance(input_shape, list | tuple) else (input_shape,)
    if not all(isinstance(size, int) and size > 0 for size in shape):
        raise BadInput(f"received input_shape {input_shape!r}; it holds whole numbers of at least 1")
    if vocabulary is not None and model != "transformer":
        raise BadInput(f"received a vocabulary for {model}, which takes images; transformer takes tokens")
    rank, form = (1, "(length,)") if vocabulary is not None else (3, "(height, width, channels)")
    if len(shape) != rank:
        hint = "; for token ids give vocabulary=N" if len(shape) == 1 and model == "transformer" else ""
        raise BadInput(f"received input_shape {input_shape!r} for {model}; it must be {form}{hint}")
    if vocabulary is not None and (not isinstance(vocabulary, int) or vocabulary < 2):
        raise BadInput(f"received vocabulary {vocabulary!r}; it is the number of token ids, at least 2")
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
        raise BadInput(f"received classes {classes!r}; it is a whole number of at least 2")


def shipped(pattern="*"):
    """The trained models in `saved_models/` of architectures that match: rows of its `results.csv`."""
    table = Path(__file__).parent.parent / "saved_models" / "results.csv"
    if not table.exists():
        return []
    with open(table, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] in list_models(pattern)]
    fields = ("name", "model", "dataset", "placement")
    return [{**{key: row[key] for key in fields}, "test_error": float(row["test_error"])} for row in rows]


def describe(model):
    """What `python -m zoo list` says of a model, as a JSON-able dictionary."""
    kind, sites = CONFIGS[model], configure(model).sites()
    placements = {}
    for name in PLACEMENTS:
        with contextlib.suppress(BadInput):
            placements[name] = str(named_placement(model, name))
    return {
        "name": model,
        "about": kind.__doc__.strip(),
        "configuration": [
            dict(zip(("name", "default", "about"), row, strict=True)) for row in architectures.describe_fields(kind)
        ],
        "sites": [
            {
                "name": site,
                "occurrences": len(blocks),
                "about": SITES[site],
                "kinds": [kind for kind, fitting in KINDS.items() if site in fitting],
            }
            for site, blocks in sites.items()
        ],
        "placements": placements,
    }
