"""What a classifier's output stands for: logits, or probabilities by softmax or sigmoid.

A Functional model does not say so. Its last operation does: what is not a softmax or a
sigmoid is taken for logits, and whoever shows figures shows that sentence too.
"""

from dataclasses import dataclass

import numpy as np

from zoo.errors import BadInput

# Operations that hand their input on, in another shape or type.
_PASSING = {"Activation", "Cast", "Flatten", "Identity", "Reshape", "Squeeze"}
_SMALLEST = np.finfo(np.float32).tiny  # stands in for a probability that was rounded to 0: 87 nats


@dataclass(frozen=True)
class Scores:
    """How the outputs `(..., units)` of a model are read: `form` is logits, softmax or sigmoid."""

    form: str
    units: int

    @property
    def classes(self):
        """The number of classes: one unit tells two apart."""
        return max(2, self.units)

    @property
    def assumed(self):
        """What was assumed, in a sentence."""
        if self.form == "logits":
            what = "of class 1 against class 0" if self.units == 1 else "a class each"
            return f"the last operation is neither softmax nor sigmoid, so outputs are taken for logits, {what}"
        if self.form == "softmax":
            return "the last operation is a softmax, so outputs are taken for probabilities"
        what = "the probability of class 1" if self.units == 1 else "probabilities, divided by their sum"
        return f"the last operation is a sigmoid, so outputs are taken for {what}"

    def logits(self, outputs):
        """float64 logits `(..., classes)`, whose softmax is what the outputs `(..., units)` say."""
        z = np.asarray(outputs, np.float64)
        if self.form == "logits":
            return np.concatenate([np.zeros_like(z), z], axis=-1) if self.units == 1 else z
        if self.units == 1 and self.form == "sigmoid":
            z = np.concatenate([1 - z, z], axis=-1)
        return np.log(np.maximum(z, _SMALLEST))


def scores_of(whole):
    """The `Scores` of a `zoo.graph.Graph`. Raises `BadInput` for an output that is no classifier's."""
    shape = whole.symbols[0].shape if len(whole.symbols) == 1 else None
    if shape is None or len(shape) != 2 or shape[-1] is None:
        received = ", ".join(str(tuple(symbol.shape)) for symbol in whole.symbols)
        raise BadInput(
            f"received a model with output {received}; it must have one output (batch, classes): "
            "give the part of it that classifies, keras.Model(inputs, output)"
        )
    return Scores(_form(whole), shape[-1])


def _form(whole):
    made = {place: step for step in whole.steps for place in step.outputs}
    step = made.get(whole.outputs[0])
    while step is not None:
        activation = getattr(getattr(step.operation, "activation", None), "__name__", "linear")
        kind = type(step.operation).__name__
        name = kind.lower() if activation == "linear" else activation
        if name in ("softmax", "sigmoid"):
            return name
        if activation != "linear" or kind not in _PASSING:
            break
        step = made.get(next(iter(step.inputs.values()), None))
    return "logits"
