"""A Functional model as a list of calls, with nested models expanded.

Keras runs such a list in `model(x)`. As a value, it can be inspected, and each call can be made in a
mode of its own, or skipped if its result is known.

This is the only file that uses private parts of Keras.
"""

import collections
import contextlib
import copy
import functools
import inspect
import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras.src import api_export  # holds the names under which classes are saved
from keras.src.backend.common import global_state  # holds the variables that wait for their values
from keras.src.models.functional import (
    Functional,  # the class behind `keras.Model(inputs, outputs)`
    functional_like_constructor,
)
from keras.src.random import seed_generator  # holds the global generator

from zoo.checks import shown
from zoo.errors import BadInput


@dataclass(frozen=True, eq=False)
class Step:
    """One call of a layer, or of an operation such as an addition.

    A place is a number that stands for one tensor of the graph.

    Attributes:
        operation: the layer or operation.
        name: its name, after the names of the models that contain it (`encoder/drop_1`).
        call: number of the call, from 1; a shared layer has several.
        arguments: Keras' symbolic arguments.
        inputs: place by id of each symbolic tensor in `arguments`.
        outputs: places of the outputs.
        symbols: symbolic outputs.
    """

    operation: Any
    name: str
    call: int
    arguments: Any
    inputs: dict[int, int]
    outputs: tuple[int, ...]
    symbols: tuple


class Graph:
    """The steps of a model in the order in which they run.

    Attributes:
        steps: the calls, `Step`s.
        inputs: places of the model's inputs.
        outputs: places of its outputs.
        symbols: its symbolic outputs.
        input_names: names of its inputs.
        tensors: symbolic tensor of each place. Where a nested model begins or ends, a place has one in
            each of the two models; this is that of the outer one.

    Raises:
        BadInput: the model is neither Functional nor a built Sequential one. The calls of other models
            cannot be known without running their code.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = _functional(model)
        if self._model is None:
            raise BadInput(
                "model must be a Functional model or a built Sequential one, got "
                f"{shown(getattr(model, 'name', model))}, a {type(model).__name__}; write it as "
                "keras.Model(inputs, outputs)"
            )
        self.steps: list[Step] = []
        self._places, self._calls = 0, dict[str, int]()
        self.tensors: dict[int, Any] = {}
        self._depths: dict[int, int] = {}
        self.inputs = [self._place() for _ in self._model.inputs]
        self.outputs = self._open(self._model, self.inputs, "")
        self.steps = _leading_to(self.outputs, self.steps)
        self.symbols = tuple(self._model.outputs)
        self.input_names = [tensor._keras_history.operation.name for tensor in self._model.inputs]

    def place_inputs(self, x: Any) -> dict[int, Any]:
        """Returns the values of the model's inputs by place, converted as Keras converts them."""
        try:
            return dict(zip(self.inputs, self._model._standardize_inputs(x), strict=True))
        except Exception as error:  # the conversion of an object may raise anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise BadInput(f"x must be what the model takes, got {shown(x)} ({reason})") from error

    def result(self, values: dict[int, Any]) -> Any:
        """Returns the model's output, in its own structure, from values by place."""
        return keras.tree.pack_sequence_as(self._model._outputs_struct, [values[place] for place in self.outputs])

    def _place(self):
        self._places += 1
        return self._places

    def _open(self, model, inputs, prefix):
        """Appends the steps of `model`, whose inputs are at the places `inputs`; returns the places of its outputs."""
        place_of = dict(zip(map(id, model.inputs), inputs, strict=True))
        self._record(inputs, model.inputs, prefix)
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input or any(id(tensor) not in place_of for tensor in node.input_tensors):
                    continue
                name = f"{prefix}{node.operation.name}"
                nested = _functional(node.operation)
                if nested is not None and _fits(nested, node):
                    input_places = [place_of[id(tensor)] for tensor in node.input_tensors]
                    places = self._open(nested, input_places, f"{name}/")
                else:
                    places = tuple(self._place() for _ in node.outputs)
                    self._append(node, name, place_of, places)
                place_of |= zip(map(id, node.outputs), places, strict=True)
                self._record(places, node.outputs, prefix)
        return tuple(place_of[id(tensor)] for tensor in model.outputs)

    def _record(self, places, tensors, prefix):
        depth = prefix.count("/")
        for place, tensor in zip(places, tensors, strict=True):
            if depth < self._depths.get(place, depth + 1):
                self.tensors[place], self._depths[place] = tensor, depth

    def _append(self, node, name, place_of, places):
        call = self._calls[name] = self._calls.get(name, 0) + 1
        inputs = {id(tensor): place_of[id(tensor)] for tensor in node.input_tensors}
        self.steps.append(Step(node.operation, name, call, node.arguments, inputs, places, tuple(node.outputs)))


def run(steps: Iterable[Step], values: dict[int, Any], call: Callable) -> dict[int, Any]:
    """Makes the calls of `steps` with `call(step, *args, **kwargs)`.

    Args:
        steps: steps of a graph.
        values: values by place. Results are added to it.
        call: makes one call.

    Returns:
        `values`.
    """
    for step in steps:
        args, kwargs = step.arguments.fill_in({key: values[place] for key, place in step.inputs.items()})
        results = keras.tree.flatten(call(step, *args, **kwargs))
        values |= zip(step.outputs, results, strict=True)
    return values


def _leading_to(places, steps):
    """Returns the steps that `places` depend on. A nested model may have outputs that are not used."""
    needed, used = set(places), []
    for step in reversed(steps):
        if needed & set(step.outputs):
            needed |= set(step.inputs.values())
            used.append(step)
    return used[::-1]


def inputs_of(model: keras.Model) -> Any:
    """Returns the symbolic inputs of a Functional or built Sequential model, in the structure of its inputs."""
    return _functional(model)._inputs_struct


def takes_training(operation: Any) -> bool:
    """Returns whether an operation has an argument `training`."""
    return isinstance(operation, keras.Layer) and operation._call_has_training_arg


def inside(operation: Any) -> list[keras.Layer]:
    """Returns a layer and the layers inside it; nothing for an operation that is not a layer."""
    return list(operation._flatten_layers()) if isinstance(operation, keras.Layer) else []


def _functional(model):
    """Returns the Functional graph of a model; None if the model has none, or runs code of its own."""
    if isinstance(model, keras.Sequential):
        model = model._functional
    plain = isinstance(model, Functional) and type(model).call is Functional.call
    return model if plain else None


def _fits(model, node):
    """Returns whether the arguments of a call match a nested model's inputs in structure, types and ranks."""
    arguments = node.arguments.args[:1] or (None,)
    try:
        keras.tree.assert_same_structure(arguments[0], model._inputs_struct)
    except (ValueError, TypeError):
        return False
    tensors = keras.tree.flatten(arguments[0])
    same = [id(tensor) for tensor in tensors] == [id(tensor) for tensor in node.input_tensors]
    return same and all(
        a.dtype == b.dtype and len(a.shape) == len(b.shape) for a, b in zip(tensors, model.inputs, strict=True)
    )


# === A model built again ===


def rebuilt(
    model: keras.Model,
    skip: Collection[int] = (),
    after: Mapping[int, Callable] | None = None,
    replace: Callable[[Any], Any] = lambda operation: None,
    start: tuple[Any, Any] | None = None,
    fresh: bool = False,
) -> keras.Model:
    """Builds a Functional or Sequential model again, with layers left out, added and replaced.

    Nested models stay nested, shared layers shared. Nothing is shared with `model`: layers are made
    from their configurations, and all variables are copied, those of seed generators too. The result
    is not compiled.

    Args:
        model: the model.
        skip: ids of symbolic tensors whose layers are left out: the calls return their inputs.
        after: functions by id of a symbolic tensor. What a function returns for the new tensor takes
            its place.
        replace: returns the layer that takes the place of a layer, or None for a copy.
        start: for a model with one input, the symbolic input of the result, and the tensor made of it that takes
            the place of the model's input; a copy of the model's input if None.
        fresh: whether weights begin anew, by the layers' own initialisers. What layers adapted to data is kept.

    Raises:
        BadInput: the model is neither Functional nor a built Sequential one, or a layer cannot be made
            from its configuration.
    """
    Graph(model)  # refuses other models
    layers = [layer for layer in inside(model) if isinstance(layer, keras.Layer)]
    scope = {type(layer).__name__: type(layer) for layer in layers if not family(layer)}
    with keras.saving.custom_object_scope(scope):
        rebuild = _Rebuild(skip, after or {}, replace)
        result = rebuild.model(model, start)
    rebuild.copy_variables(fresh)
    return result


class _Rebuild:
    """Copies of operations and models, each made once."""

    def __init__(self, skip, after, replace):
        self._skip, self._after, self._replace = skip, after, replace
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._replaced: set[int] = set()

    def model(self, model, start=None):
        """Returns the copy of a Functional or Sequential model."""
        graph = _functional(model)
        inputs = [self._input(tensor) for tensor in graph.inputs] if start is None else [start[0]]
        begins = inputs if start is None else [start[1]]
        tensors = {id(old): self._edited(old, new) for old, new in zip(graph.inputs, begins, strict=True)}
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.is_input or any(id(tensor) not in tensors for tensor in node.input_tensors):
                    continue
                if id(node.outputs[0]) in self._skip:
                    results = [tensors[id(node.input_tensors[0])]]
                else:
                    args, kwargs = node.arguments.fill_in(tensors)
                    operation = self._copy(node.operation)
                    results = keras.tree.flatten(args[0] if operation is None else operation(*args, **kwargs))
                for old, new in zip(node.outputs, results, strict=True):
                    tensors[id(old)] = self._edited(old, new)
        outputs = [tensors[id(tensor)] for tensor in graph.outputs]
        return self._packed(model, graph, inputs, outputs)

    def _packed(self, model, graph, inputs, outputs):
        if isinstance(model, keras.Sequential) and (chain := _chain(inputs[0], outputs[0])):
            input_layer = inputs[0]._keras_history.operation
            copy_ = keras.Sequential([input_layer, *chain], name=model.name)
        else:
            packed = (
                keras.tree.pack_sequence_as(graph._inputs_struct, inputs),
                keras.tree.pack_sequence_as(graph._outputs_struct, outputs),
            )
            plain = type(model) is keras.Model or not functional_like_constructor(type(model))
            cls = keras.Model if plain or isinstance(model, keras.Sequential) else type(model)
            copy_ = cls(*packed, name=model.name)
        self._copies[id(model)] = (model, copy_)
        return copy_

    def _input(self, tensor):
        layer = tensor._keras_history.operation
        return type(layer).from_config(layer.get_config()).output

    def _edited(self, old, new):
        return self._after[id(old)](new) if id(old) in self._after else new

    def _copy(self, operation):
        """Returns the copy of a layer, an operation or a nested model; None for a nested model without layers."""
        if id(operation) not in self._copies:
            self._copies[id(operation)] = (operation, self._made(operation))
        return self._copies[id(operation)][1]

    def _made(self, operation):
        if isinstance(operation, keras.Model) and _functional(operation) is not None:
            nested = self.model(operation)
            return nested if _functional(nested)._operations[1:] else None
        if not isinstance(operation, keras.Layer):
            return _bare_copy(operation)
        replaced = self._replace(operation)
        if replaced is not None:
            self._replaced.add(id(operation))
            return replaced
        if isinstance(operation, keras.layers.Lambda):  # its function would lose what it refers to
            config = keras.Layer.get_config(operation)
            known = ("function", "mask", "arguments", "_output_shape")
            function, mask, arguments, shape = (getattr(operation, name) for name in known)
            return keras.layers.Lambda(function, output_shape=shape, mask=mask, arguments=arguments, **config)
        try:
            copied = type(operation).from_config(operation.get_config())
            if isinstance(operation, _OnePath):
                copied.explicit, copied.make_dropout = operation.explicit, operation.make_dropout
            return copied
        except Exception as error:  # whatever the layer's own code raises
            raise BadInput(
                f"each layer must be made from its configuration, got {operation.name!r}, a "
                f"{type(operation).__name__} whose get_config and from_config fail ({str(error).strip()[:200]}); "
                "write get_config so that it returns all arguments of __init__"
            ) from error

    def copy_variables(self, fresh):
        """Copies all variables and vocabularies, and which layers are frozen; if `fresh`, only what was adapted."""
        pairs = [(old, new) for old, new in self._copies.values() if isinstance(old, keras.Layer) and new is not None]
        for old, new in pairs:
            if not isinstance(old, Functional | keras.Sequential) or _functional(old) is None:
                adapted = any(hasattr(part, "finalize_state") or hasattr(part, "save_assets") for part in inside(old))
                if adapted or not fresh:
                    _copy_variables(old, new, id(old) not in self._replaced)
        for old, new in reversed(pairs):  # a model sets all its layers, so its layers come after it
            if old.trainable != new.trainable:
                new.trainable = old.trainable


def _chain(start, end):
    """Returns the layers between two symbolic tensors, None if there is anything else than a chain of layers."""
    layers = []
    while end is not start:
        history = end._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        again = any(history.operation is layer for layer in layers)
        plain = isinstance(history.operation, keras.Layer) and len(node.outputs) == 1 and not again
        if not plain or not node.input_tensors or node.arguments.args[:1] != (node.input_tensors[0],):
            return None
        if any(value not in (None, False) for key, value in node.arguments.kwargs.items() if key != "mask"):
            return None
        layers.append(history.operation)
        end = node.input_tensors[0]
    return layers[::-1] or None


def _bare_copy(operation):
    """Returns a copy of an operation without weights, without the calls that it was part of."""
    copied = copy.copy(operation)
    copied._lock = False
    copied._inbound_nodes, copied._outbound_nodes = [], []
    return copied


def _copy_variables(old, new, seeds):
    old_values, new_values = old.variables, new.variables
    if not seeds:  # a replaced layer has its own
        old_values, new_values = _without_seeds(old_values), _without_seeds(new_values)
    if [tuple(v.shape) for v in old_values] != [tuple(v.shape) for v in new_values]:
        raise BadInput(
            f"each layer must be made from its configuration, got {old.name!r}, a {type(old).__name__} whose copy has "
            "other weights; write get_config so that it returns all arguments of __init__"
        )
    for source, target in zip(old_values, new_values, strict=True):
        target.assign(source)
    for source, target in zip(inside(old), inside(new), strict=False):
        if hasattr(source, "finalize_state") and source.built and source.variables:
            target.finalize_state()  # Normalization computes with what it derives from its variables
        if hasattr(source, "save_assets") and not source.variables:
            with tempfile.TemporaryDirectory() as folder:  # vocabularies of TextVectorization and lookups
                source.save_assets(folder)
                target.load_assets(folder)


def _without_seeds(variables):
    return [variable for variable in variables if variable.name != "seed_generator_state"]


# === Attention layers that hold a rate ===


class _OnePath:
    """Part of an attention layer that computes inference in the same way at every rate.

    Keras' layers take another path as soon as their rate is above 0, with other rounding errors.
    `explicit` says whether inference takes the path of rates above 0; None for that of the own rate.
    `make_dropout` returns the layer that draws the masks, None for Keras' own.
    """

    explicit: bool | None = None
    make_dropout: Callable | None = None

    def _compute_attention(self, *args, **kwargs):
        name = "_dropout" if hasattr(self, "_dropout") else "dropout"
        training = inspect.signature(super()._compute_attention).bind(*args, **kwargs).arguments.get("training")
        rate = getattr(self, name)
        if self.explicit is None or (training and rate > 0):
            return super()._compute_attention(*args, **kwargs)
        try:
            setattr(self, name, 0.5 if self.explicit else 0.0)  # which path; nothing is dropped on either
            return super()._compute_attention(*args, **kwargs)
        finally:
            setattr(self, name, rate)


def _with_masks(keras_build):
    """Returns the method `build` with the same signature, from which Keras reads what to pass."""

    @functools.wraps(keras_build)
    def build(self, *args, **kwargs):
        keras_build(self, *args, **kwargs)
        if self.make_dropout is not None and self._dropout_layer.rate > 0:
            self._dropout_layer = self.make_dropout(self.dtype_policy)

    return build


def _one_path(base: type) -> type:
    """Returns the subclass of an attention layer; files name their parts after the class, so it has the same name."""
    return type(base.__name__, (_OnePath, base), {"build": _with_masks(base.build), "__module__": __name__})


_ONE_PATH = {base: _one_path(base) for base in (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)}


def with_rate(layer: keras.Layer, rate: float, seed: int, make_dropout: Callable) -> keras.Layer:
    """Returns an attention layer of the same configuration with another rate, made anew and not built.

    Its inference computes what that of `layer` computes, bit for bit, also where Keras' own layer
    takes another path at the new rate. It is saved as the layer of Keras that it extends.

    Args:
        layer: `MultiHeadAttention`, `GroupQueryAttention`, or a layer with an argument `dropout`.
        rate: the new rate.
        seed: seed of the masks.
        make_dropout: returns the layer that draws the masks, from a dtype policy.

    Raises:
        BadInput: the layer's code refuses the rate.
    """
    cls, config = type(layer), {**layer.get_config(), "dropout": rate, "seed": seed}
    if rate == layer.dropout == 0:
        config["seed"] = layer.get_config().get("seed")
    try:
        new = _ONE_PATH.get(cls, cls).from_config(config)
    except Exception as error:  # as with flash attention, which has no dropout
        raise BadInput(
            f"rate at site 'attention' must be 0 for {layer.name!r}, a {cls.__name__}, got {rate:g}: {error}"
        ) from error
    if isinstance(new, _OnePath):
        before = layer.explicit if isinstance(layer, _OnePath) else None
        new.explicit = bool(layer.dropout > 0) if before is None else before
        new.make_dropout = make_dropout
    return new


# === Other private parts of Keras ===


def restart_names() -> None:
    """Makes Keras number layers without a name as in a new process.

    `keras.backend.clear_session` does it, too, but makes TensorFlow prepare every compiled function again.
    """
    global_state.set_global_attribute("object_name_uids", collections.defaultdict(int))


@contextlib.contextmanager
def names_from_the_start() -> Iterator[None]:
    """A context in which Keras numbers layers without a name as in a new process, so that code names them alike."""
    before = global_state.get_global_attribute("object_name_uids")
    restart_names()
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", before or collections.defaultdict(int))


def save_as(cls: type, name: str) -> None:
    """Saves instances of `cls` under `name`, the name of the Keras class that it extends.

    A file then opens without this project, with an instance of the Keras class.
    """
    api_export.REGISTERED_OBJS_TO_NAMES[cls] = name


def built_at_init(layer: keras.Layer) -> None:
    """Marks a layer as built, unless a subclass has a `build` method of its own."""
    layer._build_at_init()


def family(operation: Any) -> str:
    """Returns the Keras module of an operation, such as `layers.pooling.max_pooling2d`; empty for other code."""
    return family_of(type(operation))


def family_of(kind: type) -> str:
    """Returns the Keras module of a class, see `family`."""
    module = kind.__module__
    return module.removeprefix("keras.src.") if module.startswith("keras.src.") else ""


def weights_of(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables of a layer, without those of seed generators."""
    return _without_seeds(layer.variables)


def padding_of(x: Any) -> Any:
    """Returns the padding mask that Keras' layers attach to a tensor; None if there is none."""
    return getattr(x, "_keras_mask", None)


def with_padding(y: Any, padding: Any) -> Any:
    """Attaches a padding mask to `y` unless it is None; returns `y`."""
    if padding is not None:
        y._keras_mask = padding
    return y


def generator_states(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the state variables of the seed generators inside a layer."""
    return [variable for variable in layer.variables if variable.name == "seed_generator_state"]


def owns_generator(layer: keras.Layer) -> bool:
    """Returns whether a layer itself, not a layer inside it, owns a seed generator."""
    return bool(layer._seed_generators)


def share_variables(source: keras.Layer, target: keras.Layer) -> None:
    """Gives `source` the values of `target`, and makes the memory of its variables that of `target`, too.

    Only the variables of the layers themselves, not of those inside them. A seed generator is left alone if one of
    the layers has none.
    """
    pairs = [*zip(_own_variables(source), _own_variables(target), strict=True)]
    pairs += [(a.state, b.state) for a, b in zip(_generators(source), _generators(target), strict=False)]
    for kept, given in pairs:
        kept.assign(given)
        given._value = kept._value


def _own_variables(layer):
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _generators(layer):
    own = vars(layer).get("seed_generator")
    return list(layer._seed_generators) or ([] if own is None else [own])


def global_generator_state() -> keras.Variable:
    """Returns the state of the generator that `keras.random` draws from without a seed."""
    return seed_generator.global_seed_generator().state


def moments_of(
    optimizer: keras.optimizers.Optimizer, variable: keras.Variable
) -> tuple[keras.Variable, keras.Variable]:
    """Returns the two running moments that an Adam optimizer keeps for `variable`."""
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


for _base, _layer in _ONE_PATH.items():
    save_as(_layer, api_export.get_name_from_symbol(_base))


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """A context in which variables have a shape but no values, so that a model can be measured before it is built."""
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute("uninitialized_variables", [])


def largest_output(model: keras.Model) -> int:
    """Returns the number of values in the largest output of an operation for one example, as far as it is known."""
    functional = _functional(model)
    nodes = [node for operation in functional.operations for node in operation._inbound_nodes] if functional else []
    tensors = [tensor for node in nodes for tensor in node.output_tensors]
    return max((math.prod(size or 1 for size in tensor.shape) for tensor in tensors), default=0)
