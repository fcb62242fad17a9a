"""A Functional model as the list of calls that it makes, nested models opened up.

Keras runs such a list behind `model(x)`. Here it is a value, so that each call can be
made in a mode of its own, looked at, or left out because its result is there already.
"""

from dataclasses import dataclass

import keras
from keras.src.models.functional import Functional  # the class behind `keras.Model(inputs, outputs)`

from zoo.errors import BadInput


@dataclass(frozen=True, eq=False)
class Step:
    """One call of one operation: a layer, or an operation such as an addition.

    `name` is the layer's, with those of the models around it (`encoder/drop_1`); `call`
    counts the calls of a shared layer from 1. `inputs` maps the symbolic tensors in
    `arguments` to places, `outputs` are places; `symbols` are the symbolic outputs.
    """

    operation: object
    name: str
    call: int
    arguments: object
    inputs: dict
    outputs: tuple
    symbols: tuple


class Graph:
    """The steps of `model` in the order in which they run, and the places of what goes in and out.

    `symbols` are the symbolic outputs.

    Raises `BadInput` if the model is not Functional (or Sequential and built): another
    model's calls cannot be known without running its code.
    """

    def __init__(self, model):
        self._model = _functional(model)
        if self._model is None:
            raise BadInput(
                f"received {getattr(model, 'name', model)!r}, a {type(model).__name__}; it must be a Functional model, "
                "or a Sequential one that has been built: write it as keras.Model(inputs, outputs)"
            )
        self.steps, self._places, self._calls = [], 0, {}
        self.inputs = [self._place() for _ in self._model.inputs]
        self.outputs = self._open(self._model, self.inputs, "")
        self.steps = _leading_to(self.outputs, self.steps)
        self.symbols = tuple(self._model.outputs)

    def place_inputs(self, x):
        """The values of the model's inputs by place, converted as Keras converts them."""
        return dict(zip(self.inputs, self._model._standardize_inputs(x), strict=True))

    def result(self, values):
        """The model's output, in its own structure, from the values of the places."""
        return keras.tree.pack_sequence_as(self._model._outputs_struct, [values[place] for place in self.outputs])

    def _place(self):
        self._places += 1
        return self._places

    def _open(self, model, inputs, prefix):
        """Append the steps of `model`, whose inputs stand in the places `inputs`; the places of its outputs."""
        here = dict(zip(map(id, model.inputs), inputs, strict=True))
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if node.is_input or any(id(tensor) not in here for tensor in node.input_tensors):
                    continue
                name = f"{prefix}{node.operation.name}"
                nested = _functional(node.operation)
                if nested is not None and _fits(nested, node):
                    given = [here[id(tensor)] for tensor in node.input_tensors]
                    places = self._open(nested, given, f"{name}/")
                else:
                    places = tuple(self._place() for _ in node.outputs)
                    self._append(node, name, here, places)
                here |= zip(map(id, node.outputs), places, strict=True)
        return tuple(here[id(tensor)] for tensor in model.outputs)

    def _append(self, node, name, here, places):
        call = self._calls[name] = self._calls.get(name, 0) + 1
        inputs = {id(tensor): here[id(tensor)] for tensor in node.input_tensors}
        self.steps.append(Step(node.operation, name, call, node.arguments, inputs, places, tuple(node.outputs)))


def run(steps, values, call):
    """Make the calls of `steps` by `call(step, *args, **kwargs)`; `values` by place grows by their results."""
    for step in steps:
        args, kwargs = step.arguments.fill_in({key: values[place] for key, place in step.inputs.items()})
        results = keras.tree.flatten(call(step, *args, **kwargs))
        values |= zip(step.outputs, results, strict=True)
    return values


def _leading_to(places, steps):
    """The steps that `places` rest on: nobody may take one of the outputs of a nested model."""
    needed, found = set(places), []
    for step in reversed(steps):
        if needed & set(step.outputs):
            needed |= set(step.inputs.values())
            found.append(step)
    return found[::-1]


def takes_training(operation):
    """Whether an operation wants to know if it is training."""
    return isinstance(operation, keras.Layer) and operation._call_has_training_arg


def inside(operation):
    """The layers that a layer is made of, itself first; nothing for an operation that is no layer."""
    return list(operation._flatten_layers()) if isinstance(operation, keras.Layer) else []


def _functional(model):
    """The Functional graph of a model, or None if it has none that says all that the model does."""
    if isinstance(model, keras.Sequential):
        model = model._functional
    plain = isinstance(model, Functional) and type(model).call is Functional.call
    return model if plain else None


def _fits(model, node):
    """Whether a call hands a nested model just what its own inputs say, in their structure, types and ranks."""
    given = node.arguments.args[:1] or (None,)
    try:
        keras.tree.assert_same_structure(given[0], model._inputs_struct)
    except (ValueError, TypeError):
        return False
    tensors = keras.tree.flatten(given[0])
    same = [id(tensor) for tensor in tensors] == [id(tensor) for tensor in node.input_tensors]
    return same and all(
        a.dtype == b.dtype and len(a.shape) == len(b.shape) for a, b in zip(tensors, model.inputs, strict=True)
    )
