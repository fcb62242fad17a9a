"""Whose network is trained: a model that is not one of the four, as a value that a run records and builds from."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.checks import listed, one_of, way_to_rates
from zoo.errors import BadInput
from zoo.placement.placement import Placement
from zoo.seeds import of_layer, of_weight

if TYPE_CHECKING:
    import keras

    from zoo.data.dataset import Dataset
    from zoo.surgery.recognise import Recognised

WEIGHTS = ("fresh", "keep", "imagenet")
RANGES = ("raw", "0:1", "-1:1", "caffe", "torch")
PLACEMENTS = ("own", "none", "everywhere", "default")
_INPUTS = {"image": ("image", "float32"), "text": ("tokens", "int32"), "table": ("features", "float32")}
_SHOWN = 64  # training examples whose outputs decide between logits and probabilities


@dataclass(frozen=True)
class Network:
    """A model that is not one of the four, and how it is trained. `survey` makes one.

    Attributes:
        model: MODEL, in full: the path of a `.keras` file, `applications/NAME` or `MODULE:FUNCTION`.
        weights: `fresh`: by the seed of the run and the layers' own initialisers; `keep`: those of the file;
            `imagenet`: those of `keras.applications`, below a fresh head.
        replace_head: whether a new output layer for the classes of the data replaces the last one.
        input_range: what an image model expects of its pixels, one of `RANGES`; None if it sees to that itself.
        imports: packages that register custom layers.
        origin: what tells whether the model is still the same: a hash of its file or code, or a version.
        sites: block index of every occurrence, by recognised site.
        own: the placement that the model came with.
        elsewhere: masks at no recognised site, which stay, in words.
        ending: what the model's outputs are: `logits`, `softmax`, or `sigmoid` (of one unit, like `logit`).
    """

    model: str
    weights: str = "fresh"
    replace_head: bool = False
    input_range: str | None = None
    imports: tuple[str, ...] = ()
    origin: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    own: Placement = field(default_factory=Placement)
    elsewhere: tuple[str, ...] = ()
    ending: str = "logits"

    @property
    def label(self) -> str:
        """The model's name in paths and columns: a slug, and eight digits of a hash of what it is.

        Examples:
            >>> Network("applications/ResNet50").label
            'ResNet50-de67406c'
        """
        name = re.split("[/:]", self.model.removesuffix(".keras"))[-1]
        slug = re.sub(r"[^A-Za-z0-9._]+", "_", name)[:40] or "model"
        return f"{slug}-{hashlib.sha256((self.origin.get('sha256') or self.model).encode()).hexdigest()[:8]}"

    def named(self, name: str) -> Placement:
        """Returns the placement called `name`: `own` (also `default`), `none`, or `everywhere` (0.2 at each site)."""
        one_of("placement", name, PLACEMENTS, way_to_rates(name))
        if name == "everywhere":
            return Placement(dict.fromkeys(self.sites, 0.2))
        return Placement() if name == "none" else self.own

    def name_of(self, placement: Placement) -> str:
        """Returns the name of a placement, `custom` if it has none."""
        return next((name for name in ("none", "own", "everywhere") if placement == self.named(name)), "custom")

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary fit for JSON, the inverse of `from_json`."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        sites = {site: list(blocks) for site, blocks in self.sites.items()}
        lists = {key: list(values[key]) for key in ("imports", "elsewhere")}
        return {**values, **lists, "sites": sites, "origin": dict(self.origin), "own": self.own.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Network":
        """Returns the network in a dictionary that `to_json` made. Raises `BadInput` for another one."""
        try:
            known = {f.name: values[f.name] for f in dataclasses.fields(cls)}
            sites = {str(site): tuple(int(block) for block in blocks) for site, blocks in known["sites"].items()}
            lists = {key: tuple(map(str, known[key])) for key in ("imports", "elsewhere")}
            return cls(**{**known, **lists, "sites": sites, "own": Placement.from_json(known["own"])})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"network must be what a run recorded, got a damaged entry ({error})") from error

    def build(self, dataset: "Dataset", placement: Placement, seed: int) -> "keras.Model":
        """Returns the network for a data set, under a placement, with logits as its outputs.

        Args:
            dataset: the data set.
            placement: where dropout goes.
            seed: decides fresh weights, and the masks.

        Raises:
            BadInput: the model is no longer what it was, or does not fit the data.
        """
        from zoo import keras_graph
        from zoo.surgery.place import placed

        model, inserted = placed(self._prepared(dataset, seed), placement, seed)
        # Masks that stay, and augmentation, draw by the seed too.
        layers = [part for part in keras_graph.inside(model) if not any(part is layer for layer in inserted)]
        states = [s for part in layers if keras_graph.owns_generator(part) for s in keras_graph.generator_states(part)]
        for number, state in enumerate({id(state): state for state in states}.values()):
            state.assign([of_layer(seed, f"own {number}") % 2**32, 0])
        return model

    def ended(self, model: "keras.Model") -> "keras.Model":
        """Returns a trained network with the outputs that the user's model has."""
        import keras

        y = model.outputs[0]
        if self.ending == "softmax":
            y = keras.layers.Softmax(name="probabilities")(y)
        elif self.ending in ("sigmoid", "logit"):
            y = y[:, 1:] - y[:, :1]
            y = keras.ops.sigmoid(y) if self.ending == "sigmoid" else y
        return keras.Model(model.inputs[0], y, name=model.name)

    def _prepared(self, dataset: "Dataset", seed: int) -> "keras.Model":
        """Returns the network before dropout is placed, with logits as its outputs."""
        model = opened(self.model, dataset, self.imports)
        if self.origin and origin_of(self.model) != self.origin:
            raise BadInput(
                f"{self.model} must be what it was when the run was started, got another version; restore it"
            )
        if self.replace_head:
            model = headed(model, dataset.classes)
        _check_fit(self.model, model, dataset)
        start = _start(self.model, model, dataset, self.input_range)
        with _Seeded(seed):
            model = initialised(model, seed, start, self.weights != "keep", self.replace_head)
        if self.weights == "imagenet":
            from zoo.surgery.opening import pretrain

            pretrain(model, self.model)
        return logits_of(model, dataset.train.head(_SHOWN).x)


def survey(
    model: str | Path,
    dataset: "Dataset",
    weights: str | None = None,
    replace_head: bool = False,
    input_range: str | None = None,
    imports: Sequence[str] = (),
    say: Callable[[str], object] = lambda line: None,
) -> Network:
    """Opens a model that is not one of the four, checks that it can be trained on a data set, and finds its sites.

    Args:
        model: MODEL, see `zoo.surgery.opening.open_model`.
        dataset: the data set.
        weights: one of `WEIGHTS`; fresh if None.
        replace_head: replaces the last layer by one for the classes of the data.
        input_range: one of `RANGES`, for an image model that does not scale its pixels itself.
        imports: packages to import first; their code runs.
        say: called with lines about the model.

    Raises:
        BadInput: there is no such model, or it does not fit the data; the message says what would.
    """
    from zoo.surgery.recognise import sites

    text, weights = _full(str(model)), weights or "fresh"
    one_of("weights", weights, WEIGHTS)
    if weights == "keep" and not text.endswith(".keras"):
        raise BadInput(f"weights must be fresh for {model}, which has no weights, got keep; use a .keras file")
    if weights == "imagenet" and not text.startswith("applications/"):
        raise BadInput(f"weights must be fresh or keep for {model}, got imagenet; use applications/NAME")
    if weights == "imagenet" and dataset.input_shape[-1:] != (3,):
        raise BadInput(
            f"weights must be fresh for {dataset.name}, whose examples have the shape {dataset.input_shape}, got "
            "imagenet, whose images have 3 channels"
        )
    if input_range is not None:
        one_of("input_range", input_range, RANGES)
        if dataset.kind != "image":
            raise BadInput(f"input_range must be left out for {dataset.name}, which holds no images, got {input_range}")
    imports = (imports,) if isinstance(imports, str) else tuple(imports)
    raw = opened(text, dataset, imports, say)
    network = Network(text, weights, replace_head, input_range, imports, origin_of(text))
    if replace_head:
        raw = headed(raw, dataset.classes)
    _check_fit(text, raw, dataset)
    ending = _ending(raw, dataset)
    recognised: Recognised = sites(network._prepared(dataset, 0))
    say(f"{network.label}: {_found(recognised.blocks())}")
    words = [f"{row['kind']} {row['rate']:g} in {row['layer']}: {row['why']}" for row in recognised.elsewhere]
    for line in words:
        say(f"note: it has {line}")
    own = recognised.own()
    if own.keep:
        say(
            f"note: no placement describes its masks at {listed(own.keep)}; `own` keeps them, and so does --drop "
            f"{own.keep[0]}=own"
        )
    if foreign := _foreign(raw):
        say(
            f"note: runs of it are trained and compared, but not exported: {listed(foreign)}, which Keras does not have"
        )
    return dataclasses.replace(network, sites=recognised.blocks(), own=own, elsewhere=tuple(words), ending=ending)


def _foreign(model):
    """Returns the names of the classes of layers that are not Keras', which an artefact cannot hold."""
    from zoo import keras_graph
    from zoo.dropout import layers

    kinds = {type(layer) for layer in keras_graph.inside(model)}
    # The mask layers of this project are saved as Keras' own, but for one.
    ours = {kind for kind in vars(layers).values() if isinstance(kind, type)} - {layers.DropBlock2D}
    return sorted(kind.__name__ for kind in kinds - ours if not keras_graph.family_of(kind))


def _found(sites):
    if not sites:
        return "no site for dropout is recognised"
    return "sites " + ", ".join(f"{site} ({len(blocks)})" for site, blocks in sites.items())


def is_network(model: Any) -> bool:
    """Returns whether a MODEL is not one of the four: a file, an application or a function.

    Examples:
        >>> is_network("mlp"), is_network("mine.keras"), is_network("aplications/x")
        (False, True, False)
    """
    text = str(model)
    return text.endswith((".keras", ".h5", ".hdf5")) or text.startswith("applications/") or ":" in text


def opened(
    text: str, dataset: "Dataset", imports: Sequence[str], say: Callable[[str], object] = lambda line: None
) -> "keras.Model":
    """Opens MODEL for a data set; layers without names get those of a new process."""
    from zoo import keras_graph
    from zoo.surgery.opening import open_model

    known = {} if text.endswith(".keras") else {"input_shape": dataset.input_shape, "classes": dataset.classes}
    with keras_graph.names_from_the_start(), _Seeded(0):
        return open_model(text, imports=imports, say=say, **known)


def origin_of(text: str) -> dict[str, str]:
    """Returns what identifies a model: a hash of its file or of its function's module, or the version of Keras."""
    if text.endswith(".keras"):
        return {"sha256": hashlib.sha256(Path(text).read_bytes()).hexdigest()}
    if text.startswith("applications/"):
        from zoo.versions import versions

        return {"keras": versions(("keras",))["keras"]}
    spec = importlib.util.find_spec(text.partition(":")[0])
    code = Path(spec.origin).read_bytes() if spec and spec.origin and Path(spec.origin).is_file() else b""
    return {"sha256": hashlib.sha256(code).hexdigest()}


def _full(text):
    return str(Path(text).expanduser().absolute()) if text.endswith(".keras") else text


# === Inputs ===


def _check_fit(name, model, dataset):
    """Raises `BadInput` for a model that cannot be trained on a data set, with what would help."""
    from zoo import keras_graph
    from zoo.models.scores import scores_of

    graph = keras_graph.Graph(model)
    if len(graph.inputs) != 1:
        raise BadInput(
            f"model must have one input to be trained, got {name} with {len(graph.inputs)} "
            f"({listed(graph.input_names)}); combine them in the model, or place and audit it with python -m zoo"
        )
    tensor = keras_graph.inputs_of(model)
    tensor = tensor if hasattr(tensor, "shape") else next(iter(tensor.values() if isinstance(tensor, dict) else tensor))
    given, taken = dataset.input_shape, tuple(tensor.shape[1:])
    if len(taken) != len(given) or not all(a in (None, b) for a, b in zip(taken, given, strict=True)):
        way = f"use --image-size {taken[0]}" if len(taken) == 3 and taken[0] == taken[1] else "use another data set"
        raise BadInput(f"{name} must take the examples of {dataset.name}, {given}, got an input of {taken}; {way}")
    scores = scores_of(graph)
    if scores.form == "sigmoid" and scores.units > 1:
        raise BadInput(
            f"{name} must end in logits, a softmax or a sigmoid of one unit, got a sigmoid of {scores.units} units, "
            "which stands for several labels at a time; use --replace-head"
        )
    if scores.classes != dataset.classes:
        raise BadInput(
            f"{name} must have the {dataset.classes} classes of {dataset.name}, got {scores.classes}; use "
            "--replace-head for a new output layer"
        )


def _start(name, model, dataset, input_range):
    """Returns the symbolic input for the data set, and the tensor made of it that enters the model."""
    import keras

    from zoo import keras_graph
    from zoo.models import rows
    from zoo.surgery.opening import preprocessed

    kind, dtype = _INPUTS[dataset.kind]
    x = keras.Input(dataset.input_shape, name=kind, dtype=dtype)
    scaling = keras.layers.Rescaling | keras.layers.Normalization
    operations = [step.operation for step in keras_graph.Graph(model).steps]
    # Augmentation may come before it.
    past = [op for op in operations if isinstance(op, scaling) or "preprocessing" not in keras_graph.family(op)]
    first = (past or operations)[0]
    scaled = isinstance(first, scaling) or name.startswith("applications/")
    if dataset.kind == "table" and not isinstance(first, keras.layers.Normalization):
        layer = keras.layers.Normalization(name=rows.LAYER)
        y = layer(x)
        rows.standardise(keras.Model(x, y), dataset.train.x)
        return x, y
    if dataset.kind != "image":
        return x, x
    if input_range is None and not scaled:
        raise BadInput(
            f"input_range must be one of {listed(RANGES)} for {name}, which does not begin with Rescaling or "
            "Normalization, got none; state with --input-range what it expects of its pixels"
        )
    if input_range in (None, "raw"):
        return x, x
    if input_range == "0:1":
        return x, keras.layers.Rescaling(1 / 255, name="pixels")(x)
    return x, preprocessed(x, {"-1:1": "tf"}.get(input_range, input_range))


# === Weights ===


class _Seeded:
    """A context in which Python's and NumPy's random numbers, from which Keras takes seeds, follow a seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self):
        self._before = random.getstate(), np.random.get_state()
        random.seed(self._seed)
        np.random.seed(self._seed % 2**32)

    def __exit__(self, *error):
        random.setstate(self._before[0])
        np.random.set_state(self._before[1])


def initialised(model: "keras.Model", seed: int, start: tuple, fresh: bool, new_head: bool) -> "keras.Model":
    """Returns a copy of a model with fresh weights, or its own.

    The seed of a weight depends on the seed of the run and on the place of its layer, not on the layer's name,
    which may be a number that Keras drew.

    Args:
        model: the model.
        seed: seed of the run.
        start: the input of the copy, see `zoo.keras_graph.rebuilt`.
        fresh: whether weights begin anew.
        new_head: whether those of the last layer do in any case.
    """
    from zoo import keras_graph

    copy = keras_graph.rebuilt(model, start=start, fresh=fresh)
    layers = [layer for layer in keras_graph.inside(copy) if layer is not copy]
    named = HEAD if new_head and not fresh else None
    for number, layer in enumerate(layers):
        if fresh or layer.name == named:
            _reinitialise(layer, number, seed)
    return copy


def _reinitialise(layer, number, seed):
    for weight in layer.weights:  # layers inside it come later, and begin anew once more
        slot = f"{weight.name}_initializer"
        initializer = getattr(layer, slot, None)
        config = initializer.get_config() if hasattr(initializer, "get_config") else {}
        if "seed" in config:
            config["seed"] = of_weight(seed, f"layer {number}", weight.name)
            initializer = type(initializer).from_config(config)
            with contextlib.suppress(AttributeError):  # a recurrent layer shows that of its cell, which comes later
                setattr(layer, slot, initializer)
            weight.assign(initializer(weight.shape, weight.dtype))


# === Outputs ===

HEAD = "new_head"


def headed(model: "keras.Model", classes: int) -> "keras.Model":
    """Returns the model with a new output layer, a Dense layer of logits, in place of its last Dense layer.

    Raises:
        BadInput: the last layer with weights is not a Dense layer of the model itself.
    """
    import keras

    from zoo import keras_graph

    graph = keras_graph.Graph(model)
    made = {place: step for step in graph.steps for place in step.outputs}
    step = made[graph.outputs[0]]
    while isinstance(step.operation, keras.layers.Activation | keras.layers.Softmax | keras.layers.Dropout):
        step = made[next(iter(step.inputs.values()))]
    if not isinstance(step.operation, keras.layers.Dense) or "/" in step.name:
        raise BadInput(
            f"replace_head must be used with a model that ends in a Dense layer of its own, got {model.name!r}, which "
            f"ends in {step.name!r}, a {type(step.operation).__name__}; replace the head in your own code"
        )
    features = graph.tensors[next(iter(step.inputs.values()))]
    return keras.Model(model.inputs, keras.layers.Dense(classes, name=HEAD)(features), name=model.name)


def logits_of(model: "keras.Model", x: Any = None) -> "keras.Model":
    """Returns the network with logits `(batch, classes)` as its outputs, for the same predictions.

    A final softmax, or a sigmoid of one unit, is taken away; one unit becomes two, the first of them 0. Other code
    that makes probabilities gets a logarithm behind it.

    Args:
        model: a classifier.
        x: examples, whose outputs decide where the operations do not tell; needed only then.

    Raises:
        BadInput: it cannot be told whether the outputs are logits or probabilities.
    """
    from zoo import keras_graph
    from zoo.models.scores import scores_of

    graph = keras_graph.Graph(model)
    scores = scores_of(graph)
    if not scores.certain and x is not None:
        scores = scores.settled(np.asarray(model(x, training=False)))
    if scores.form == "logits" and scores.units > 1:
        return model
    return keras_graph.rebuilt(model, **_without_ending(graph, scores))


def _without_ending(graph, scores):
    """Returns the edits of `zoo.keras_graph.rebuilt` that turn the outputs into logits."""
    import keras

    step = next(step for step in graph.steps if graph.outputs[0] in step.outputs)
    symbol, operation = step.symbols[0], step.operation
    activation = getattr(getattr(operation, "activation", None), "__name__", "linear")
    alone = type(operation).__name__ in ("Softmax", "Sigmoid", "Activation")
    edits: dict[str, Any] = {}
    taken = False
    if scores.form != "logits" and alone:
        edits["skip"], taken = {id(symbol)}, True
    elif scores.form != "logits" and activation == scores.form and isinstance(operation, keras.layers.Dense):
        config = {**operation.get_config(), "activation": "linear"}
        edits["replace"] = lambda layer: type(layer).from_config(config) if layer is operation else None
        taken = True

    def after(y):
        if not taken and scores.form == "softmax":
            return keras.ops.log(keras.ops.maximum(y, np.finfo("float32").tiny))
        if not taken and scores.form == "sigmoid":
            y = keras.ops.log(keras.ops.maximum(y, 1e-30)) - keras.ops.log(keras.ops.maximum(1 - y, 1e-30))
        return keras.ops.concatenate([keras.ops.zeros_like(y), y], axis=-1) if scores.units == 1 else y

    if scores.units == 1 or not taken:
        edits["after"] = {id(symbol): after}
    return edits


def _ending(model, dataset):
    """Returns what the outputs of a user's model are, see `Network.ending`."""
    from zoo import keras_graph
    from zoo.models.scores import scores_of

    scores = scores_of(keras_graph.Graph(model))
    if not scores.certain:
        scores = scores.settled(np.asarray(model(dataset.train.head(_SHOWN).x.astype("float32"), training=False)))
    return "logit" if scores.form == "logits" and scores.units == 1 else scores.form
