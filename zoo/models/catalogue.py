"""The four models by name: their configurations, their named placements, and `build`."""

import contextlib
import dataclasses
import fnmatch
import importlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.checks import MOST, integer, one_of, shown, texts, way_to_rates
from zoo.data.options import SMALLEST_VOCABULARY
from zoo.errors import BadInput
from zoo.models import configs
from zoo.placement.drop import KINDS, SITES, Drop
from zoo.placement.placement import Placement

if TYPE_CHECKING:
    import keras

CONFIGS = {
    "mlp": configs.MLP,
    "cnn": configs.CNN,
    "resnet": configs.ResNet,
    "transformer": configs.Transformer,
}
DEFAULTS = {
    "mlp": {"hidden": 0.5},
    "cnn": {"hidden": 0.5},
    "resnet": {"features": 0.1},
    "transformer": dict.fromkeys(("embedding", "attention", "attention_out", "ffn_hidden", "ffn_out"), 0.1),
}
PLACEMENTS = ("none", "default", "paper2014", "everywhere")

# What `build` and the trainers take as a placement.
PlacementLike = Placement | Mapping[str, Drop | float | Sequence[float]] | str | None


def list_models(pattern: str = "*") -> list[str]:
    """Returns the names of the models that match a shell pattern.

    Args:
        pattern: a shell pattern; `*` stands for any characters.

    Returns:
        Names that `build` takes as `model`.

    Examples:
        >>> list_models("*n*")
        ['cnn', 'resnet', 'transformer']
    """
    return [name for name in CONFIGS if any(fnmatch.fnmatch(name, text) for text in texts("pattern", pattern))]


def check_model(name: str) -> None:
    """Raises `BadInput`, with the nearest name, unless `name` is a model."""
    one_of("model", name, CONFIGS)


def configure(model: str, settings: Mapping[str, Any] | None = None) -> configs.Config:
    """Returns the configuration of a model.

    Args:
        model: name of a model.
        settings: values by field, each an integer, a tuple of integers or its text, such as `256/256`.
            Other fields keep their defaults.

    Raises:
        BadInput: an unknown model or field, or a value out of range.
    """
    check_model(model)
    return configs.configured(CONFIGS[model], settings or {})


def named_placement(model: str, name: str, tokens: bool = False, config: configs.Config | None = None) -> Placement:
    """Returns the placement called `name` for a model.

    Args:
        model: name of a model.
        name: `none`, `default`, `everywhere` (every site at 0.2) or, for `mlp` and `cnn`,
            `paper2014` (input 0.2, hidden 0.5; Srivastava et al. 2014, section 6.1).
        tokens: whether the model takes token ids.
        config: configuration of the model; its default if None.

    Raises:
        BadInput: an unknown name, or `paper2014` for another model.
    """
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
                f"placement must be one of none, default, everywhere for {model}, got 'paper2014'; "
                "Srivastava et al. 2014 describe it for fully-connected layers, so mlp and cnn have it"
            )
        return Placement({"input": 0.2, "hidden": 0.5})
    raise BadInput(
        f"placement must be one of {', '.join(PLACEMENTS)}, or a .json file, got {shown(name)}{way_to_rates(name)}"
    )


def resolve_placement(
    model: str, placement: PlacementLike = None, tokens: bool = False, config: configs.Config | None = None
) -> Placement:
    """Returns a `Placement` whose sites the model has.

    Args:
        model: name of a model.
        placement: a `Placement`, a mapping of site to rate or `Drop`, a name, or None for `default`.
        tokens: whether the model takes token ids.
        config: configuration of the model; its default if None.

    Raises:
        BadInput: `placement` is none of these, or does not fit the model.
    """
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
            f"placement must be a Placement, a dictionary of site to rate or Drop, or one of {', '.join(PLACEMENTS)}, "
            f"got {shown(placement)}"
        )
    if placement.keep:
        site = placement.keep[0]
        raise BadInput(f"rate at site {site!r} must be a number for {model}, which has no masks of its own, got 'own'")
    return placement.check(config.sites(tokens), f"{model} over tokens" if tokens else model)


def name_of(
    model: str, dataset: str, placement: Placement, tokens: bool = False, config: configs.Config | None = None
) -> str:
    """Returns `<model>-<dataset>-<placement>`; a placement without a name is called `custom`.

    Examples:
        >>> name_of("cnn", "digits", Placement({"hidden": 0.5}))
        'cnn-digits-default'
    """
    label = "custom"
    for name in PLACEMENTS:
        with contextlib.suppress(BadInput):
            if label == "custom" and placement == named_placement(model, name, tokens, config):
                label = name
    return artefact_name(model, dataset, label)


def artefact_name(model: str, dataset: str, placement: str) -> str:
    """Returns `<model>-<dataset>-<placement>` of their names, fit for a folder.

    Examples:
        >>> artefact_name("mlp", "data/wine.csv", "none")
        'mlp-data-wine-none'
    """
    parts = dataset.replace("folder:", "").strip("/")
    parts = re.sub(r"[.](npz|csv|tsv|jsonl)$", "", parts).split("/")[-2:]
    return "-".join([model, *(re.sub(r"[^A-Za-z0-9._]+", "_", part) for part in parts if part), placement])


def build(
    model: str,
    input_shape: Sequence[int],
    classes: int,
    placement: PlacementLike = None,
    seed: int = 0,
    vocabulary: int | None = None,
    **settings: int | str | Sequence[int],
) -> "keras.Model":
    """Builds a model: an ordinary Functional Keras model that returns logits.

    The model is not compiled. `zoo.compile(model)` compiles it with a loss on logits.

    Args:
        model: `mlp`, `cnn`, `resnet` or `transformer`.
        input_shape: `(height, width, channels)` for images; `(length,)` for token ids, with `vocabulary`;
            `(features,)` for rows of a table, which only `mlp` takes. Images are raw pixels, 0 to 255: the
            model rescales them itself. Token id 0 is padding. Rows pass a `Normalization` layer, to be set
            with `model.get_layer("normalization").adapt(x)`.
        classes: number of classes, at least 2.
        placement: where dropout goes. A mapping of site to rate or `Drop`, a `Placement`, or a name:
            `none`, `default`, `everywhere` or `paper2014`. `{}` is no dropout; None is the
            model's default. The sites are, by model:

            - `mlp`: input, hidden
            - `cnn`: input, conv, features, hidden
            - `resnet`: input, conv, branch, features
            - `transformer`: input (images only), embedding, attention, attention_out, ffn_hidden,
              ffn_out, branch, features
        seed: decides the initial weights and the masks. A layer's weights and masks depend on the seed
            and the layer's name, not on the other layers.
        vocabulary: number of token ids. Only `transformer` takes token ids.
        **settings: fields of the model's configuration. Their defaults are, by model:

            - `mlp`: hidden=(512, 512)
            - `cnn`: filters=(32, 64), convolutions=2, hidden=(256,)
            - `resnet`: filters=(16, 32, 64), blocks=(1, 1, 1)
            - `transformer`: patch=4, width=64, depth=4, heads=4, ffn=256

    Returns:
        A `keras.Model` from a batch of inputs to logits `(batch, classes)`, float32. Compiled with a
        loss that expects probabilities, it warns once.

    Raises:
        BadInput: an unknown model, site, setting or placement, or a shape that the model cannot
            take. Nothing has been built then. `BadInput` is a `ValueError`.

    Examples:
        >>> model = build("mlp", (8, 8, 1), 10, placement={"hidden": 0.5}, hidden=(64, 64))
        >>> model.output_shape
        (None, 10)
    """
    config = configure(model, settings)
    tokens = vocabulary is not None
    input_shape, classes, vocabulary = _checked(model, input_shape, classes, vocabulary)
    placement = resolve_placement(model, placement, tokens, config)

    integer("seed", seed, -MOST["seed"], MOST["seed"])

    from zoo import startup

    startup.tensorflow()
    import keras

    from zoo.models.compiling import warning_on_probabilities
    from zoo.models.sites import Sites
    from zoo.seeds import initialise

    name = "tokens" if tokens else "image" if len(input_shape) == 3 else "features"
    builder = importlib.import_module(f"zoo.models.{model}").build
    extra = {"vocabulary": vocabulary} if tokens else {}

    def built():
        inputs = keras.Input(input_shape, name=name, dtype="int32" if tokens else "float32")
        return builder(config, inputs, classes, Sites(placement, config.sites(tokens), seed), **extra)

    if _most_weights(config, input_shape, classes, vocabulary or 0) > MOST["weights"]:
        _check_weights(model, built)
    return warning_on_probabilities(initialise(built(), seed))


def _most_weights(config, input_shape, classes, vocabulary):
    """Returns a number of weights that a network does not exceed."""
    sizes = [
        size for value in dataclasses.astuple(config) for size in (value if isinstance(value, tuple) else (value,))
    ]
    widest, layers = max(*sizes, classes), 1 + sum(map(len, config.sites().values()))
    return widest * (widest * (9 * layers + math.prod(input_shape)) + vocabulary)


def _check_weights(model, built):
    """Raises `BadInput` for a network that has too many weights, before they are made."""
    from zoo import keras_graph

    with keras_graph.without_memory():
        weights = sum(math.prod(variable.shape) for variable in built().variables)
    if weights > MOST["weights"]:
        raise BadInput(
            f"{model} must have at most {MOST['weights']:,} weights, got {weights:,}; choose smaller images, a smaller "
            "vocabulary, or smaller values of --set"
        )


def settings_of(config: configs.Config) -> dict[str, Any]:
    """Returns a configuration as a dictionary fit for JSON, which `configure` takes as `settings`."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def _checked(model, input_shape, classes, vocabulary):
    """Returns input shape, classes and vocabulary as plain numbers, once they are checked."""
    shape = tuple(input_shape) if isinstance(input_shape, list | tuple) else (input_shape,)
    shape = tuple(integer("each size in input_shape", size, 1, 2**26) for size in shape)
    if vocabulary is not None and model != "transformer":
        raise BadInput(
            f"vocabulary must be None for {model}, which takes no token ids, got {shown(vocabulary)}; use transformer"
        )
    ranks, form = {3}, "(height, width, channels)"
    if vocabulary is not None:
        ranks, form = {1}, "(length,)"
    elif model == "mlp":
        ranks, form = {1, 3}, "(height, width, channels) or (features,)"
    if len(shape) not in ranks:
        hint = "; for token ids give vocabulary=N" if len(shape) == 1 and model == "transformer" else ""
        raise BadInput(f"input_shape of {model} must be {form}, got {shown(input_shape)}{hint}")
    if vocabulary is not None:
        vocabulary = integer("vocabulary", vocabulary, SMALLEST_VOCABULARY, MOST["vocabulary"])
    return shape, integer("classes", classes, 2, MOST["classes"]), vocabulary


def describe(model: str) -> dict[str, Any]:
    """Returns what `python -m zoo list` prints about a model, fit for JSON.

    Returns:
        `name`, `about`, `configuration` (rows of name, default and about), `sites` (rows of name,
        occurrences, about and kinds) and `placements` (text by name).
    """
    kind, sites = CONFIGS[model], configure(model).sites()
    placements = {}
    for name in PLACEMENTS:
        with contextlib.suppress(BadInput):
            placements[name] = str(named_placement(model, name))
    return {
        "name": model,
        "about": (kind.__doc__ or "").strip(),
        "configuration": [
            dict(zip(("name", "default", "about"), row, strict=True)) for row in configs.describe_fields(kind)
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
