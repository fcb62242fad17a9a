"""Three modes of one network, never two.

`inference`: no dropout, stored BatchNorm statistics. `training`: dropout on, batch
statistics, which are not stored. `mc`: dropout on, stored BatchNorm statistics; what
Monte-Carlo dropout (Gal & Ghahramani 2016) needs, and what `training=True` is not.

The masks of `training` and `mc` are a function of an explicit seed (`zoo.counter`).
Calling a mode, however often, changes nothing that any mode computes.
"""

import secrets

import keras
import tensorflow as tf
from keras import ops

from zoo import counter, dropout, graph, masked
from zoo.errors import BadInput

MODES = ("inference", "training", "mc")
_HIDDEN = ("dropout", "recurrent_dropout")  # what Keras' recurrent layers call rates that no layer of theirs shows


def in_mode(model, mode):
    """A function `(x, seed=None)` that runs the Functional `model` in `mode`.

    `seed` is a whole number of 32 bits; without one each call draws its own. The
    function can be traced by `tf.function`, with `seed` an int32 scalar.

    Raises `BadInput` (a ValueError) for an unknown mode or a model that is not
    Functional, and in `mc` for a layer that holds both dropout and BatchNorm in code
    of its own, where one cannot be had without the other.

    >>> import numpy as np, zoo
    >>> model = zoo.build("mlp", (8, 8, 1), 10, seed=1)
    >>> sample = in_mode(model, "mc")
    >>> sample(np.zeros((2, 8, 8, 1), "uint8"), seed=7).shape
    TensorShape([2, 10])
    """
    if mode not in MODES:
        raise BadInput(f"received mode {mode!r}; allowed: {', '.join(MODES)}")
    whole = graph.Graph(model)
    caller = Caller(whole.steps, mode)

    def call(x, seed=None):
        seeds = _seeds(seed)
        values = whole.place_inputs(x)
        with caller.scope(seeds):
            graph.run(whole.steps, values, caller.with_seeds(seeds))
        return whole.result(values)

    return call


def _seeds(seed):
    if seed is None and not tf.executing_eagerly():
        raise BadInput("received no seed inside a tf.function, which would draw one once and for all; pass one in")
    if not tf.is_tensor(seed) and seed is not None and (int(seed) != seed or not -(2**31) <= seed < 2**31):
        raise BadInput(f"received seed {seed!r}; it is a whole number from -2**31 to 2**31 - 1")
    return ops.reshape(ops.convert_to_tensor(fresh_seed() if seed is None else seed, "int32"), (1,))


def fresh_seed():
    """A seed that no other process draws: a signed whole number of 32 bits."""
    return secrets.randbits(32) - 2**31


class Caller:
    """Makes the calls of a network in a mode.

    Only layers that draw are told that they train in `mc`; in `training`, all. `rescale`
    as in `zoo.masked`; `compiled` draws and applies each mask in one XLA kernel,
    ten times as fast, but nothing that another runtime could read.
    """

    def __init__(self, steps, mode, rescale=True, compiled=False):
        self._mode, self._rescale = mode, rescale
        self._masked = tf.function(masked.masked, jit_compile=True) if compiled else masked.masked
        self._salts = {step: counter.salt(step.name, step.call) for step in steps if dropout.is_mask(step.operation)}
        # In the order in which they run, since a generator is seeded by its number.
        self._opaque = [step for step in steps if step not in self._salts and hides_masks(step.operation)]
        if mode == "mc":
            for step in self._opaque:
                _refuse_batch_norm(step)

    @property
    def draws(self):
        """The steps that draw something, in `training` and `mc`."""
        return {step for step in self._salts if dropout.strength(step.operation)} | set(self._opaque)

    @property
    def opaque(self):
        """The steps of layers with dropout inside their own code, as in recurrent layers."""
        return self._opaque

    def scope(self, seeds):
        """Within it, opaque layers draw from `seeds`, and nothing that a layer updates is stored."""
        states = [v for step in self._opaque for v in step.operation.variables if v.name == "seed_generator_state"]
        key = [counter.bits(seeds[:1], counter.salt("generator", i), 2)[0] for i in range(len(states))]
        return keras.StatelessScope([(v, ops.cast(k, v.dtype)) for v, k in zip(states, key, strict=True)])

    def with_seeds(self, seeds):
        """What `graph.run` calls for each step, masks drawn for `seeds` `(samples,)`."""

        def call(step, *args, **kwargs):
            if step in self._salts and self._mode != "inference":
                x = args[0] if args else kwargs["inputs"]
                return _with_padding(x, self._masked(step.operation, x, seeds, self._salts[step], self._rescale))
            if graph.takes_training(step.operation):
                drawing = self._mode == "mc" and step in self._opaque
                kwargs["training"] = self._mode == "training" or drawing
            return step.operation(*args, **kwargs)

        return call


def _with_padding(x, y):
    """`y` with what says which positions of `x` are padding, as Keras' layers hand it on."""
    if getattr(x, "_keras_mask", None) is not None:
        y._keras_mask = x._keras_mask
    return y


def hides_masks(operation):
    """Whether a layer that is no mask itself draws masks in training: attention, recurrent, composed layers."""
    return any(
        dropout.strength(part) if dropout.is_mask(part) else any(_rate(part, name) for name in _HIDDEN)
        for part in graph.inside(operation)
    )


def _rate(layer, name):
    value = getattr(layer, name, 0)
    return value if isinstance(value, int | float) else 0


def _refuse_batch_norm(step):
    if any(isinstance(part, keras.layers.BatchNormalization) for part in graph.inside(step.operation)):
        raise BadInput(
            f"received the layer {step.name!r}, a {type(step.operation).__name__} with both dropout and BatchNorm "
            "in code of its own: dropout cannot be switched on there without batch statistics; write it as a "
            "Functional model"
        )
