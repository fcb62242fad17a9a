"""Mean, variance and live units of every layer's output, summed batch by batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras import Model, layers, tree

from zoo import keras_graph
from zoo.dropout.layers import is_mask

# Watched besides layers with weights and masks, because they change the distribution and not only the shape.
_LOOKED_AT = tuple(f"layers.{part}" for part in ("activations", "merging", "normalization", "pooling"))


class Watch:
    """Runs a Functional network and sums up the output of each watched layer.

    Sums are float64 and per unit, so memory does not grow with the number of examples.

    Args:
        model: the network.
        graph: its graph.
        caller: makes the calls; a `zoo.modes.modes.Caller`, or an object with its `scope` and `with_seeds`.
        watched: the steps whose output is summed.
    """

    def __init__(
        self, model: Model, graph: keras_graph.Graph, caller: Any, watched: Sequence[keras_graph.Step]
    ) -> None:
        self._graph, self._caller, self.steps = graph, caller, list(watched)
        self._norms = [step for step in self.steps if is_batch_norm(step)]
        self._after, self._before = [0.0] * len(self.steps), [0.0] * len(self._norms)
        inputs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in model.inputs]
        # Traced at once: TensorFlow would otherwise warn about several functions with one name.
        compiled = tf.function(self._observed, autograph=False)
        self._pass = compiled.get_concrete_function(inputs, tf.TensorSpec((1,), tf.int32))

    def __call__(self, x: Any, seed: int) -> np.ndarray:
        """Returns the output `(batch, ...)` for a batch `x`, with masks from the 32-bit `seed`."""
        inputs = self._graph.place_inputs(x)
        y, after, before = self._pass([inputs[place] for place in self._graph.inputs], tf.constant([seed], tf.int32))
        self._after = [total + sums.numpy() for total, sums in zip(self._after, after, strict=True)]
        self._before = [total + sums.numpy() for total, sums in zip(self._before, before, strict=True)]
        return y.numpy()

    @property
    def layers(self) -> list[dict[str, float]]:
        """The figures of `summed` for the output of each watched step so far."""
        return [summed(sums) for sums in self._after]

    @property
    def norm_inputs(self) -> dict[keras_graph.Step, np.ndarray]:
        """The variance `(channels,)` of the input of each watched BatchNorm so far."""
        return {step: by_unit(sums)[1] for step, sums in zip(self._norms, self._before, strict=True)}

    def _observed(self, inputs, seeds):
        make_call = self._caller.with_seeds(seeds)
        after, before = {}, {}

        def call(step, *args, **kwargs):
            if step in self._norms:
                before[step] = _sums((*args, *kwargs.values())[0], step.operation.axis)
            y = make_call(step, *args, **kwargs)
            if step in self.steps:
                after[step] = _sums(tree.flatten(y)[0], _unit_axis(step.operation))
            return y

        values = dict(zip(self._graph.inputs, inputs, strict=True))
        with self._caller.scope(seeds):
            keras_graph.run(self._graph.steps, values, call)
        y = values[self._graph.outputs[0]]
        return y, [after[step] for step in self.steps], [before[step] for step in self._norms]


def worth_watching(graph: keras_graph.Graph) -> list[keras_graph.Step]:
    """Returns the steps with weights, masks, activations, sums or pooling, and the step of the output."""
    return [step for step in graph.steps if _is_float(step) and (_matters(step) or graph.outputs[0] in step.outputs)]


def is_batch_norm(step: keras_graph.Step) -> bool:
    """Returns whether a step is a BatchNorm, whose input can be compared with its stored statistics."""
    return isinstance(step.operation, layers.BatchNormalization)


def by_unit(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean and variance of every unit, two float64 arrays `(units,)`, from sums `(4, units)`."""
    count, total, squares, _ = sums
    mean = total / count
    return mean, np.maximum(squares / count - mean**2, 0.0)  # negative only through rounding


def summed(sums: np.ndarray) -> dict[str, float]:
    """Returns the figures of a layer's whole output from sums `(4, units)`.

    Returns:
        `mean`, `variance`: over all values, that is examples, positions and units together.
        `active`: the share of values that are not 0. After a ReLU it measures sparsity as in
            Srivastava et al. 2014, section 7.2.
        `live`: the share of units (features or channels) that are not 0 for at least one
            example, position and mask.
    """
    count, total, squares, active = sums.sum(axis=1)
    mean = total / count
    return {
        "mean": float(mean),
        "variance": float(max(squares / count - mean**2, 0.0)),
        "live": float((sums[3] > 0).mean()),
        "active": float(active / count),
    }


def _sums(y, axis):
    """Returns count, sum, sum of squares and number of non-zeros of each unit: float64 `(4, units)`."""
    y = tf.convert_to_tensor(y)
    if y.shape.rank < 2:
        y, axis = tf.expand_dims(y, -1), -1
    last, axis = y.shape.rank - 1, axis % y.shape.rank
    if axis != last:
        y = tf.transpose(y, [*(i for i in range(last + 1) if i != axis), axis])
    y = tf.reshape(y, (-1, tf.shape(y)[-1]))  # twice as fast as summing over several axes
    z = tf.cast(y, tf.float64)
    total, squares = tf.reduce_sum(z, 0), tf.reduce_sum(tf.square(z), 0)
    active = tf.reduce_sum(tf.cast(tf.not_equal(y, 0), tf.float64), 0)
    return tf.stack([tf.ones_like(total) * tf.cast(tf.shape(y)[0], tf.float64), total, squares, active])


def _unit_axis(operation):
    return 1 if getattr(operation, "data_format", None) == "channels_first" else -1


def _is_float(step):
    return "float" in str(step.symbols[0].dtype)


def _matters(step):
    operation, family = step.operation, keras_graph.family(step.operation)
    if family.startswith("ops.nn") or is_mask(operation):
        return True
    if family.startswith(_LOOKED_AT):
        return True
    # After a mask, Rescaling is the factor of the original formulation; elsewhere it is preprocessing.
    scale = isinstance(operation, layers.Rescaling) and step.name.rpartition("/")[2].startswith("scale_")
    return scale or any(part.weights for part in keras_graph.inside(operation))
