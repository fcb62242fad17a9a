"""Where the random numbers of a layer come from: known generators, or sources that no seed reaches.

A mask layer of Keras or of this project is known. Any other code is asked: its call is traced, and the
trace shows which generators it advances, which random operations it holds, and whether Python draws.
"""

import random
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from zoo import keras_graph
from zoo.dropout.layers import is_mask, strength

_HIDDEN = ("dropout", "recurrent_dropout")  # rates of Keras' recurrent layers, which have no mask layer inside
# Random operations of TensorFlow whose names do not say so, and those that run any Python.
_DRAWING = {"Multinomial", "StatelessMultinomial", "TruncatedNormal", "NonDeterministicInts", "RngReadAndSkip"}
_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
# These prepare the seeds of the operations that draw.
_SEEDING = {"StatelessRandomGetKeyCounter", "StatelessRandomGetAlg", "StatelessRandomGetKeyCounterAlg"}
_PYTHON_DRAWS = "Python or NumPy, whose numbers a compiled call freezes"
_SIZE = 8  # of an axis of unknown size, in a trial
_TRIALS = 3

_known: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Randomness:
    """What a call of a layer draws.

    Attributes:
        draws: whether it draws from known generators in training.
        unseeded: what else it draws from in training, in words; empty if nothing.
        always: whether it draws at inference, too.
    """

    draws: bool = False
    unseeded: str = ""
    always: bool = False


def of(step: keras_graph.Step) -> Randomness:
    """Returns what a call draws. Calls of mask layers (`zoo.dropout.layers.is_mask`) are not examined."""
    if step not in _known:
        _known[step] = _examined(step)
    return _known[step]


def states(steps: Sequence[keras_graph.Step]) -> list[keras.Variable]:
    """Returns the states of the generators that `steps` draw from; the global one of Keras is last."""
    own = [state for step in steps for state in keras_graph.generator_states(step.operation)]
    shared = any(_is_foreign(part) for step in steps for part in keras_graph.inside(step.operation))
    return own + ([keras_graph.global_generator_state()] if shared else [])


def augments(operation: Any) -> bool:
    """Returns whether a layer augments or prepares examples: it draws in training, and is no part of dropout."""
    return any(keras_graph.family_of(kind).startswith("layers.preprocessing") for kind in type(operation).__mro__)


def _examined(step):
    parts = keras_graph.inside(step.operation)
    if not parts or augments(step.operation):
        return Randomness()
    if any(_is_foreign(part) for part in parts):
        return _traced(step) or Randomness(draws=_declares(parts))
    return Randomness(draws=_declares(parts))


def _declares(parts):
    """Returns whether a layer says that it draws: a mask inside, a rate above 0, or a generator of its own."""
    return any(_part_declares(part) for part in parts)


def _part_declares(part):
    if is_mask(part):
        return bool(strength(part))
    if augments(part):
        return False
    rates = [getattr(part, name) for name in _HIDDEN if hasattr(part, name)]
    if rates and keras_graph.family(part):
        return any(isinstance(rate, int | float) and rate for rate in rates)
    return any(isinstance(rate, int | float) and rate for rate in rates) or keras_graph.owns_generator(part)


def _is_foreign(part):
    """Returns whether a layer runs code that is neither of Keras' layers nor of this project's masks."""
    if is_mask(part):
        return False
    return isinstance(part, keras.layers.Lambda) or not keras_graph.family(part).startswith(("layers.", "models."))


# === Traces ===


def _traced(step):
    """Returns the `Randomness` of a call by tracing it; None if it cannot be traced."""
    variables = states([step])
    try:
        first, second = (_Trace(step, variables, training=True) for _ in range(2))
        still = _Trace(step, variables, training=False) if keras_graph.takes_training(step.operation) else first
    except Exception:  # code of any kind, which a call with real examples will report
        return None
    unseeded = first.unseeded
    if not unseeded and first.constants != second.constants:
        unseeded = _PYTHON_DRAWS
    if not unseeded and first.fixed and not still.fixed:  # in both modes it is a part of the function
        unseeded = "a fixed seed, or a generator that is no part of the layer"
    if not unseeded and first.varies():
        unseeded = "code outside of TensorFlow"
    return Randomness(first.draws, unseeded, always=bool(still.draws or still.unseeded))


class _Trace:
    """One traced call of a layer, with the states of its generators as arguments."""

    def __init__(self, step, variables, training):
        self._variables, advanced = variables, []
        symbols = {id(x): x for x in keras.tree.flatten((step.arguments.args, step.arguments.kwargs)) if _symbolic(x)}
        self._inputs = [tf.TensorSpec(x.shape, x.dtype) for x in symbols.values()]

        def call(inputs, values):
            args, kwargs = step.arguments.fill_in(dict(zip(symbols, inputs, strict=True)))
            if keras_graph.takes_training(step.operation):
                kwargs["training"] = training
            with keras.StatelessScope(list(zip(variables, values, strict=True))) as scope:
                y = step.operation(*args, **kwargs)
                advanced.extend(scope.get_current_value(v) is not x for v, x in zip(variables, values, strict=True))
            return keras.tree.flatten(y)

        python = _python_states(step)
        specs = [tf.TensorSpec(v.shape, v.dtype) for v in variables]
        self._call = tf.function(call, autograph=False).get_concrete_function(self._inputs, specs)
        nodes = [*self._call.graph.as_graph_def().node]
        for function in self._call.graph.as_graph_def().library.function:
            nodes += function.node_def
        kinds = {node.op for node in nodes}
        drawing = {k for k in kinds if k in _DRAWING or "Random" in k or k.startswith("Stateful")} - _SEEDING
        stateful = sorted(k for k in drawing if not k.startswith("Stateless"))
        self.draws = any(advanced)
        self.fixed = bool(drawing) and not self.draws
        self.unseeded = f"TensorFlow's {stateful[0]}, which keeps a state of its own" if stateful else ""
        if not stateful and _python_states(step) != python:
            self.unseeded = _PYTHON_DRAWS
        self._python = bool(kinds & _PYTHON)
        numbers = (n.attr["value"].tensor for n in nodes if n.op == "Const")
        self.constants = sorted(t.SerializeToString() for t in numbers if t.dtype != tf.string.as_datatype_enum)

    def varies(self):
        """Returns whether equal inputs and states give different outputs; only code outside of TensorFlow can."""
        if not self._python:
            return False
        rng = np.random.default_rng(0)
        inputs = [_example(rng, spec) for spec in self._inputs]
        values = [ops.cast(ops.convert_to_tensor([1, 0]), v.dtype) for v in self._variables]
        try:
            runs = [[np.asarray(y) for y in self._call(inputs, values)] for _ in range(_TRIALS)]
        except Exception:  # sizes that the layer cannot take
            return True
        return any(not np.array_equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))


def _symbolic(x):
    return isinstance(x, keras.KerasTensor)


def _example(rng, spec):
    shape = [_SIZE if n is None else n for n in spec.shape]
    return tf.cast(rng.normal(size=shape) if spec.dtype.is_floating else np.ones(shape), spec.dtype)


def _python_states(step):
    """Returns the states of the generators of Python and NumPy that the code of a layer may draw from."""
    held = [value for part in keras_graph.inside(step.operation) for value in vars(part).values()]
    generators = [g.bit_generator.state for g in held if isinstance(g, np.random.Generator)]
    legacy = [g.get_state(legacy=False) for g in held if isinstance(g, np.random.RandomState)]
    python = [g.getstate() for g in held if isinstance(g, random.Random)]
    return repr([generators, legacy, python, np.random.get_state(), random.getstate()])
