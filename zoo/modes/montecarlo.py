"""Monte-Carlo dropout at about the price of one pass.

Everything before the first active dropout gives the same values in every sample and runs
once. The rest is repeated, many samples in one compiled call. With dropout in the head of
a network, fifty samples cost little more than one.
"""

import functools
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import keras_graph
from zoo.dropout.layers import is_mask
from zoo.errors import BadInput
from zoo.modes.modes import Caller

_BYTES = 64 * 2**20  # of the largest tensor of a call; more does not help and only fills memory

# Operations (not layers) that compute each example independently, unless they work along the batch axis.
_APART = """
    Absolute Add Argmax Argmin Cast Clip Concatenate Cos Cumsum Divide DotProductAttention Elu Equal Erf Exp ExpandDims
    Expm1 Flip Floor FloorDivide Gelu Greater GreaterEqual HardSigmoid HardSilu LeakyRelu Less LessEqual Log Log1p
    LogSoftmax LogicalAnd LogicalNot LogicalOr Logsumexp Matmul Max Maximum Mean Min Minimum Mod Moveaxis Multiply
    Negative Normalize NotEqual OneHot OnesLike Power Relu Relu6 Repeat Reshape Roll Round Rsqrt Selu Sigmoid Sign
    Silu Sin Softmax Softplus Softsign Split Sqrt Square Squeeze Stack Std StopGradient Subtract Sum Swapaxes Tanh
    TrueDivide Var Where ZerosLike
"""
_AXES = ("axis", "axis1", "axis2", "source", "destination")


class Sampler:
    """Draws samples of a Functional model's output in mode `mc`.

    Works for any Functional graph: several inputs, branches, shared layers, nested models.
    Samples share one batch where possible. They are drawn one after the other if a layer is
    not Keras' own, computes across the batch, or has dropout inside a recurrent layer.

    Args:
        model: a Functional model with one output.
        masks: `per-example`, or `shared`: a sample has one mask for all examples. It is then one thinned
            network (`zoo.thinned`), and its output for an example does not depend on the other examples.

    Raises:
        BadInput (a ValueError): the model has no active dropout or more than one output, or
            `zoo.in_mode` refuses it.

    Examples:
        >>> import numpy as np, zoo
        >>> sampler = Sampler(zoo.build("cnn", (8, 8, 1), 10, {"hidden": 0.5}))
        >>> sampler.samples(np.zeros((2, 8, 8, 1), "uint8"), seeds=[1, 2, 3]).shape
        (3, 2, 10)
        >>> sampler.about
        '5 of 6 layers with weights run once for all samples, 1 once per sample'
    """

    def __init__(self, model: keras.Model, masks: str = "per-example") -> None:
        self._graph = keras_graph.Graph(model)
        if len(self._graph.outputs) != 1:
            raise BadInput(f"model must have one output, got {model.name!r} with {len(self._graph.outputs)} outputs")
        self._caller = Caller(self._graph.steps, "mc", compiled=True, masks=masks)
        if not self._caller.draws:
            raise BadInput(
                f"model must have a dropout rate above 0, got {model.name!r} without any, so every sample would equal "
                "inference; use mode inference"
            )
        self._once, self._repeated = self._split()
        produced = {place for step in self._repeated for place in step.outputs}
        needed = {place for step in self._repeated for place in step.inputs.values()} - produced
        self._frontier = sorted(needed)
        self._together = (
            not self._caller.opaque
            and all(_has_examples(step) for step in self._graph.steps)
            and all(_keeps_examples_apart(step) for step in self._repeated)
        )
        self._width = max((_size(symbol) for step in self._repeated for symbol in step.symbols), default=1)
        inputs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in model.inputs]
        self._signature = [inputs, tf.TensorSpec((None,), tf.int32)]
        self._drawn = self._compiled(lambda *given: self._draw(*given)[0])

    @property
    def about(self) -> str:
        """A sentence that says what runs once and what is repeated for each sample."""
        once, repeated = ({id(s.operation) for s in steps if _has_weights(s)} for steps in (self._once, self._repeated))
        if not once:
            return "dropout comes before the first layer with weights, so every layer runs once per sample"
        layers = len(once | repeated)
        return (
            f"{len(once)} of {layers} layers with weights run once for all samples, {len(repeated)} once per sample"
            + ("" if self._together else ", one sample after the other")
        )

    def samples(self, x: Any, seeds: Iterable[int]) -> np.ndarray:
        """Returns float32 outputs `(samples, batch, ...)`, one sample for each 32-bit integer in `seeds`."""
        return self._drawn(*self._given(x, seeds)).numpy()

    def samples_and_inference(self, x: Any, seeds: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns `samples`, and the outputs `(batch, ...)` of inference, for little more than the samples alone."""
        samples, plain = self._with_inference(*self._given(x, seeds))
        return samples.numpy(), plain.numpy()

    @functools.cached_property
    def _with_inference(self):
        caller = Caller(self._graph.steps, "inference")

        def both(inputs, seeds):
            samples, values = self._draw(inputs, seeds)
            with caller.scope(seeds):
                keras_graph.run(self._repeated, values, caller.with_seeds(seeds))
            return samples, tf.cast(values[self._graph.outputs[0]], tf.float32)

        return self._compiled(both)

    def _compiled(self, function):
        return tf.function(function, input_signature=self._signature, autograph=False).get_concrete_function()

    def _given(self, x, seeds):
        inputs = self._graph.place_inputs(x)
        return [inputs[place] for place in self._graph.inputs], tf.constant(np.asarray(seeds, np.int32))

    def _split(self):
        """Returns the steps before any mask, and those that depend on a mask."""
        once, repeated, random = [], [], set()
        for step in self._graph.steps:
            if step in self._caller.draws or random & set(step.inputs.values()):
                random |= set(step.outputs)
                repeated.append(step)
            else:
                once.append(step)
        return once, repeated

    def _draw(self, inputs, seeds):
        """Returns the samples, and the values by place of everything that runs once."""
        values = dict(zip(self._graph.inputs, inputs, strict=True))
        with self._caller.scope(seeds):
            keras_graph.run(self._once, values, self._caller.with_seeds(seeds[:1]))
        groups = self._groups(seeds, tf.shape(inputs[0])[0])
        shape = self._graph.symbols[0].shape[1:]
        drawn = tf.map_fn(
            lambda group: self._sample(values, group), groups, fn_output_signature=tf.TensorSpec((None, None, *shape))
        )
        return tf.reshape(drawn, tf.concat([[-1], tf.shape(drawn)[2:]], 0))[: tf.size(seeds)], values

    def _groups(self, seeds, batch):
        """Returns the seeds in rows, one row per call, the last row padded."""
        # Divided twice: the size of a batch may exceed 32 bits.
        most = tf.maximum(1, _BYTES // (4 * self._width) // tf.maximum(batch, 1)) if self._together else 1
        calls = tf.maximum(1, -(-tf.size(seeds) // most))
        group = tf.maximum(1, -(-tf.size(seeds) // calls))
        rows = tf.reshape(tf.pad(seeds, [[0, calls * group - tf.size(seeds)]]), [-1, group])
        return rows if self._together else tf.ensure_shape(rows, (None, 1))

    def _sample(self, once, seeds):
        """Returns outputs `(samples, batch, ...)` for a group of seeds, from the values that were computed once."""
        count = tf.size(seeds)
        values = {place: _repeated(once[place], count) for place in self._frontier}
        with self._caller.scope(seeds):
            keras_graph.run(self._repeated, values, self._caller.with_seeds(seeds))
        y = tf.cast(values[self._graph.outputs[0]], tf.float32)
        return tf.reshape(y, tf.concat([[count, -1], tf.shape(y)[1:]], 0))


def _repeated(value, count):
    """Returns `count` copies of a batch, one after the other, with its padding mask."""
    copies = tf.tile(value, tf.concat([[count], tf.ones(tf.rank(value) - 1, tf.int32)], 0))
    padding = keras_graph.padding_of(value)
    return keras_graph.with_padding(copies, None if padding is None else _repeated(padding, count))


def _has_examples(step):
    """Returns whether a step keeps the number of examples, judging by its symbolic outputs."""
    return all(symbol.shape and symbol.shape[0] is None for symbol in step.symbols)


def _keeps_examples_apart(step):
    """Returns whether a step is known to compute each example independently: Keras' own code, not along the batch."""
    operation, layers = step.operation, keras_graph.inside(step.operation)
    if any(_runs_foreign_code(part) or _along_batch(part, step) for part in layers or [operation]):
        return False
    kind = type(operation).__name__
    if kind == "Einsum":  # the batch is the first axis of every term
        return len({term.strip()[:1] for term in operation.subscripts.replace("->", ",").split(",")}) == 1
    if kind == "GetItem":  # x[:, 0] keeps the batch as it is, x[::-1] does not
        key = step.arguments.args[1]
        return isinstance(key, tuple) and key[0] in (slice(None), Ellipsis)
    if kind == "Transpose":
        return operation.axes is not None and operation.axes[0] == 0
    return bool(layers) or kind in _APART.split()


def _runs_foreign_code(part):
    if is_mask(part):
        return False
    functions = (value for name, value in vars(part).items() if name.endswith("activation") and callable(value))
    modules = (getattr(code, "__module__", None) or "" for code in (type(part), *functions))
    return isinstance(part, keras.layers.Lambda) or any(name.partition(".")[0] != "keras" for name in modules)


def _along_batch(part, step):
    """Returns whether an operation works along the first axis, or along all axes."""
    axes = keras.tree.flatten([getattr(part, name) for name in _AXES if hasattr(part, name)])
    return any(n is None or n in (0, -len(symbol.shape)) for symbol in step.symbols for n in axes)


def _size(symbol):
    """Returns the number of values per example of a symbolic tensor, ignoring unknown sizes."""
    return math.prod(n for n in symbol.shape[1:] if n is not None)


def _has_weights(step):
    return any(layer.weights for layer in keras_graph.inside(step.operation))
