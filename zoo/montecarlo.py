"""Monte-Carlo dropout at about the price of one pass.

What stands before the first active dropout gives the same values in every sample. It
runs once; the rest is repeated, many samples in one compiled call. In a network whose
dropout stands in the head, fifty samples then cost little more than one.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from zoo import dropout, graph
from zoo.errors import BadInput
from zoo.modes import Caller

_BYTES = 64 * 2**20  # of the largest tensor of a call; more gains nothing and only fills memory

# Operations, no layers, that compute each example from itself alone, unless along the axis of the batch.
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
    `about` says what is computed once and what is repeated. Where samples cannot be put
    side by side into one batch (a layer that is not Keras' own, something computed across
    the batch, dropout inside a recurrent layer), they are drawn one after the other.

    Raises `BadInput` if the model has no active dropout, and where `zoo.modes.in_mode` would.

    >>> import numpy as np, zoo
    >>> sampler = Sampler(zoo.build("cnn", (8, 8, 1), 10, {"hidden": 0.5}))
    >>> sampler.samples(np.zeros((2, 8, 8, 1), "uint8"), seeds=[1, 2, 3]).shape
    (3, 2, 10)
    >>> sampler.about
    '5 of 6 layers with weights run once for all samples, 1 once a sample'
    """

    def __init__(self, model):
        self._graph = graph.Graph(model)
        if len(self._graph.outputs) != 1:
            raise BadInput(f"received {model.name!r} with {len(self._graph.outputs)} outputs; it must have one")
        self._caller = Caller(self._graph.steps, "mc", compiled=True)
        if not self._caller.draws:
            raise BadInput(
                f"received {model.name!r}, which has no dropout above rate 0: every sample would equal inference; "
                "predict in the mode inference"
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
        compiled = tf.function(self._draw, input_signature=[inputs, tf.TensorSpec((None,), tf.int32)], autograph=False)
        self._drawn = compiled.get_concrete_function()

    @property
    def about(self):
        """What a sample costs beyond the first, in a sentence."""
        once, repeated = ({id(s.operation) for s in steps if _weighs(s)} for steps in (self._once, self._repeated))
        if not once:
            return "nothing can be saved: dropout stands before the first layer with weights, so all runs once a sample"
        layers = len(once | repeated)
        return (
            f"{len(once)} of {layers} layers with weights run once for all samples, {len(repeated)} once a sample"
            + ("" if self._together else ", one sample after the other")
        )

    def samples(self, x, seeds):
        """Outputs `(samples, batch, ...)`, float32, for int32 `seeds` `(samples,)`."""
        inputs = self._graph.place_inputs(x)
        seeds = tf.constant(np.asarray(seeds, np.int32))
        return self._drawn([inputs[place] for place in self._graph.inputs], seeds).numpy()

    def _split(self):
        """The steps that no mask reaches, and those that one does."""
        once, repeated, random = [], [], set()
        for step in self._graph.steps:
            if step in self._caller.draws or random & set(step.inputs.values()):
                random |= set(step.outputs)
                repeated.append(step)
            else:
                once.append(step)
        return once, repeated

    def _draw(self, inputs, seeds):
        values = dict(zip(self._graph.inputs, inputs, strict=True))
        with self._caller.scope(seeds):
            graph.run(self._once, values, self._caller.with_seeds(seeds[:1]))
        groups = self._groups(seeds, tf.shape(inputs[0])[0])
        shape = self._graph.symbols[0].shape[1:]
        drawn = tf.map_fn(
            lambda group: self._sample(values, group), groups, fn_output_signature=tf.TensorSpec((None, None, *shape))
        )
        return tf.reshape(drawn, tf.concat([[-1], tf.shape(drawn)[2:]], 0))[: tf.size(seeds)]

    def _groups(self, seeds, batch):
        """The seeds in rows of as many as go into one call, the last row filled up."""
        # Divided twice: the size of a whole batch may not fit into 32 bits.
        most = tf.maximum(1, _BYTES // (4 * self._width) // tf.maximum(batch, 1)) if self._together else 1
        calls = tf.maximum(1, -(-tf.size(seeds) // most))
        group = tf.maximum(1, -(-tf.size(seeds) // calls))
        rows = tf.reshape(tf.pad(seeds, [[0, calls * group - tf.size(seeds)]]), [-1, group])
        return rows if self._together else tf.ensure_shape(rows, (None, 1))

    def _sample(self, once, seeds):
        """Outputs `(samples, batch, ...)` for one group of seeds, from the values that were computed once."""
        count = tf.size(seeds)
        values = {place: _repeated(once[place], count) for place in self._frontier}
        with self._caller.scope(seeds):
            graph.run(self._repeated, values, self._caller.with_seeds(seeds))
        y = tf.cast(values[self._graph.outputs[0]], tf.float32)
        return tf.reshape(y, tf.concat([[count, -1], tf.shape(y)[1:]], 0))


def _repeated(value, count):
    """`count` copies of a batch, one after the other, with what says which positions are padding."""
    copies = tf.tile(value, tf.concat([[count], tf.ones(tf.rank(value) - 1, tf.int32)], 0))
    if getattr(value, "_keras_mask", None) is not None:
        copies._keras_mask = _repeated(value._keras_mask, count)
    return copies


def _has_examples(step):
    """Whether a step gives as many examples as come in, as far as its symbolic outputs say."""
    return all(symbol.shape and symbol.shape[0] is None for symbol in step.symbols)


def _keeps_examples_apart(step):
    """Whether a step is known to compute each example from itself alone: Keras' own, and not along the batch."""
    operation, layers = step.operation, graph.inside(step.operation)
    if any(_runs_code_of_others(part) or _along_batch(part, step) for part in layers or [operation]):
        return False
    kind = type(operation).__name__
    if kind == "Einsum":  # the batch is the first axis of every term
        return len({term.strip()[:1] for term in operation.subscripts.replace("->", ",").split(",")}) == 1
    if kind == "GetItem":  # x[:, 0] takes the whole batch, x[::-1] does not leave it as it is
        key = step.arguments.args[1]
        return isinstance(key, tuple) and key[0] in (slice(None), Ellipsis)
    if kind == "Transpose":
        return operation.axes is not None and operation.axes[0] == 0
    return bool(layers) or kind in _APART.split()


def _runs_code_of_others(part):
    if dropout.is_mask(part):
        return False
    functions = (value for name, value in vars(part).items() if name.endswith("activation") and callable(value))
    whose = (getattr(code, "__module__", None) or "" for code in (type(part), *functions))
    return isinstance(part, keras.layers.Lambda) or any(name.partition(".")[0] != "keras" for name in whose)


def _along_batch(part, step):
    """Whether an operation works along the first axis, or, without any axis, along all."""
    axes = keras.tree.flatten([getattr(part, name) for name in _AXES if hasattr(part, name)])
    return any(n is None or n in (0, -len(symbol.shape)) for symbol in step.symbols for n in axes)


def _size(symbol):
    """Numbers that an example takes in a symbolic tensor, as far as its shape is known."""
    return math.prod(n for n in symbol.shape[1:] if n is not None)


def _weighs(step):
    return any(layer.weights for layer in graph.inside(step.operation))
