"""What passes through a network: mean, variance and live units of every layer's output, batch by batch."""

import numpy as np
import tensorflow as tf
from keras import layers, tree

from zoo import dropout, graph

# Besides layers with weights and masks: what changes a distribution, not only a shape.
_LOOKED_AT = ("activations", "merging", "normalization", "pooling")


class Watch:
    """Runs a Functional network in one way, and adds up what each layer puts out.

    `caller` makes the calls: a `zoo.modes.Caller`, or what has its `scope` and `with_seeds`.
    Sums are float64 and by unit, so memory does not grow with the number of examples.
    `steps` are those whose output is watched.
    """

    def __init__(self, model, whole, caller, watched):
        self._graph, self._caller, self.steps = whole, caller, list(watched)
        self._norms = [step for step in self.steps if is_batch_norm(step)]
        self._after, self._before = [0.0] * len(self.steps), [0.0] * len(self._norms)
        inputs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in model.inputs]
        # Traced here and now: TensorFlow would warn of several functions of one name.
        self._pass = tf.function(self._observed).get_concrete_function(inputs, tf.TensorSpec((1,), tf.int32))

    def __call__(self, x, seed):
        """The output `(batch, ...)` for one batch `x`, whose masks come from the 32-bit `seed`."""
        inputs = self._graph.place_inputs(x)
        y, after, before = self._pass([inputs[place] for place in self._graph.inputs], tf.constant([seed], tf.int32))
        self._after = [total + found.numpy() for total, found in zip(self._after, after, strict=True)]
        self._before = [total + found.numpy() for total, found in zip(self._before, before, strict=True)]
        return y.numpy()

    @property
    def layers(self):
        """For each watched step what `summed` says of its output so far."""
        return [summed(sums) for sums in self._after]

    @property
    def norm_inputs(self):
        """For each watched BatchNorm the variance of its input so far, by channel: `(channels,)`."""
        return {step: by_unit(sums)[1] for step, sums in zip(self._norms, self._before, strict=True)}

    def _observed(self, inputs, seeds):
        made = self._caller.with_seeds(seeds)
        after, before = {}, {}

        def call(step, *args, **kwargs):
            if step in self._norms:
                before[step] = _sums((*args, *kwargs.values())[0], step.operation.axis)
            y = made(step, *args, **kwargs)
            if step in self.steps:
                after[step] = _sums(tree.flatten(y)[0], _unit_axis(step.operation))
            return y

        values = dict(zip(self._graph.inputs, inputs, strict=True))
        with self._caller.scope(seeds):
            graph.run(self._graph.steps, values, call)
        y = values[self._graph.outputs[0]]
        return y, [after[step] for step in self.steps], [before[step] for step in self._norms]


def worth_watching(whole):
    """The steps whose output tells something: with weights, masks, activations, sums, pools, and the output itself."""
    return [step for step in whole.steps if _is_float(step) and (_matters(step) or whole.outputs[0] in step.outputs)]


def is_batch_norm(step):
    """Whether a step is a BatchNorm, whose input can be compared with what it has stored."""
    return isinstance(step.operation, layers.BatchNormalization)


def by_unit(sums):
    """Mean and variance of every unit, from sums `(4, units)`: two float64 arrays `(units,)`."""
    count, total, squares, _ = sums
    mean = total / count
    return mean, np.maximum(squares / count - mean**2, 0.0)  # below 0 by rounding alone


def summed(sums):
    """What sums `(4, units)` say of a layer's output as a whole, as a dictionary.

    `mean`, `variance`: over all values, that is examples, positions and units together.
    `active`: share of all values that are not 0. Behind a ReLU this is what Srivastava et
    al. 2014, section 7.2, look at: the lower, the sparser.
    `live`: share of units that are not 0 throughout, so that some example, at some
    position, and in `training` and `mc` under some mask, switches them on. A unit is a
    feature, or a channel.
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
    """Count, sum, sum of squares and number of non-zeros of each unit: float64 `(4, units)`."""
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
    operation, module = step.operation, type(step.operation).__module__
    if module.startswith("keras.src.ops.nn") or dropout.is_mask(operation):
        return True
    if any(module.startswith(f"keras.src.layers.{part}") for part in _LOOKED_AT):
        return True
    # Behind a mask, Rescaling is the original formulation's factor; elsewhere it is preprocessing.
    scale = isinstance(operation, layers.Rescaling) and step.name.rpartition("/")[2].startswith("scale_")
    return scale or any(part.weights for part in graph.inside(operation))
