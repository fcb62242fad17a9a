"""What a classifier's outputs stand for: logits, or probabilities from a softmax or sigmoid.

A model does not say so. Its last operation does where it is one of Keras' own; of other code, such
as a Lambda, the values decide, and results state what was assumed.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from zoo import keras_graph
from zoo.errors import BadInput
from zoo.keras_graph import Graph

# Operations that pass their input on, in another shape or type.
_PASSING = {"Activation", "Cast", "Flatten", "Identity", "Reshape", "Squeeze"}
_PROBABILITIES = {"softmax": "softmax", "sigmoid": "sigmoid", "hard_sigmoid": "sigmoid", "hardsigmoid": "sigmoid"}
# Layers whose outputs are logits, unless their activation makes them something else.
_LINEAR = {"Dense", "EinsumDense", "Conv1D", "Conv2D", "BatchNormalization", "LayerNormalization"}
_SUM = 1e-3  # largest distance of a sum of probabilities from 1: float16 has three digits
_SMALLEST = np.finfo(np.float32).tiny  # replaces a probability that was rounded to 0: 87 nats


@dataclass(frozen=True)
class Scores:
    """How to read the outputs `(..., units)` of a model.

    Attributes:
        form: `logits`, `softmax` or `sigmoid`.
        units: size of the output.
        why: what tells the form, as the beginning of a sentence.
        certain: whether the operations tell it; otherwise `settled` must look at values.
    """

    form: str
    units: int
    why: str = "the last operation is neither softmax nor sigmoid"
    certain: bool = True

    @property
    def classes(self) -> int:
        """The number of classes; one unit separates two."""
        return max(2, self.units)

    @property
    def assumed(self) -> str:
        """The assumption about the outputs, as a sentence."""
        if self.form == "logits":
            what = "of class 1 against class 0" if self.units == 1 else "one per class"
            return f"{self.why}, so outputs are read as logits, {what}"
        if self.form == "softmax":
            return f"{self.why}, so outputs are read as probabilities"
        what = "the probability of class 1" if self.units == 1 else "probabilities, divided by their sum"
        return f"{self.why}, so outputs are read as {what}"

    def settled(self, outputs: np.ndarray) -> "Scores":
        """Returns how to read outputs `(examples, units)` that the operations left open, judging by values.

        Args:
            outputs: outputs in inference.

        Raises:
            BadInput: all values lie between 0 and 1, as probabilities do, but do not add up to 1.
        """
        z = np.asarray(outputs, np.float64)
        if not z.size or not np.isfinite(z).all():
            return self
        within = z.min() >= -_SUM and z.max() <= 1 + _SUM
        if self.form == "logits" and self.units > 1 and within and (np.abs(z.sum(axis=-1) - 1) <= _SUM).all():
            return dataclasses.replace(
                self, form="softmax", why="the outputs of every example add up to 1", certain=True
            )
        if self.certain or not within:
            return dataclasses.replace(self, certain=True)
        raise BadInput(
            f"outputs must be known to be logits or probabilities, got {len(z)} examples with values from "
            f"{z.min():.3g} to {z.max():.3g}, which can be either; end the model with "
            "keras.layers.Activation('sigmoid') or 'softmax', or with a Dense layer without activation, for logits"
        )

    def logits(self, outputs: np.ndarray) -> np.ndarray:
        """Returns float64 logits `(..., classes)` whose softmax equals what outputs `(..., units)` stand for."""
        z = np.asarray(outputs, np.float64)
        if self.form == "logits":
            return np.concatenate([np.zeros_like(z), z], axis=-1) if self.units == 1 else z
        if self.units == 1 and self.form == "sigmoid":
            z = np.concatenate([1 - z, z], axis=-1)
        return np.log(np.maximum(z, _SMALLEST))


def scores_of(graph: Graph) -> Scores:
    """Returns how to read the outputs of a network.

    Raises:
        BadInput: the network has more than one output, or one that is not `(batch, classes)`.
    """
    shape = graph.symbols[0].shape if len(graph.symbols) == 1 else None
    if shape is None or len(shape) != 2 or shape[-1] is None:
        shapes = ", ".join(str(tuple(symbol.shape)) for symbol in graph.symbols)
        raise BadInput(
            f"model must have one output of shape (batch, classes), got {shapes}; "
            "build the classifier alone with keras.Model(inputs, output)"
        )
    producer = {place: step for step in graph.steps for place in step.outputs}
    form = _form(producer, graph.outputs[0])
    if form in ("softmax", "sigmoid"):
        return Scores(form, shape[-1], f"the last operation is a {form}")
    return Scores("logits", shape[-1], certain=form == "logits")


def _form(producer, place):
    """Returns the form of the tensor at `place`: `logits`, `softmax`, `sigmoid`, or None if it cannot be told."""
    step = producer.get(place)
    while step is not None:
        function = getattr(step.operation, "activation", None)
        activation = getattr(function, "__name__", "linear")
        kind, places = type(step.operation).__name__, list(step.inputs.values())
        if activation != "linear":
            own = (getattr(function, "__module__", None) or "").startswith("keras.")
            return _PROBABILITIES.get(activation, "logits" if own else None)
        if not keras_graph.family(step.operation):
            return None
        if kind.lower() in _PROBABILITIES:
            return _PROBABILITIES[kind.lower()]
        if kind in ("Average", "Maximum", "Minimum"):
            forms = {_form(producer, place) for place in places}
            agreed = forms.pop() if len(forms) == 1 else None
            return agreed if kind == "Average" or agreed != "softmax" else None  # its largest do not add up to 1
        if kind in _LINEAR:
            return "logits"
        if kind not in _PASSING:
            return None
        step = producer.get(next(iter(places), None))
    return None
