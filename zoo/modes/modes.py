"""The three modes of a network.

`inference`: no dropout, stored BatchNorm statistics. `training`: dropout on, batch
statistics, which are not stored. `mc`: dropout on, stored BatchNorm statistics, as
Monte-Carlo dropout needs (Gal & Ghahramani 2016); `training=True` does not provide it.

The masks of `training` and `mc` are a function of an explicit seed (`zoo.dropout.counter`).
Calling a mode never changes what any mode computes.
"""

import secrets
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from keras import ops

from zoo import checks, keras_graph
from zoo.dropout import counter, seeded
from zoo.dropout.layers import is_mask, strength
from zoo.errors import BadInput
from zoo.modes import MASKS, MODES, randomness


def in_mode(model: keras.Model, mode: str, masks: str = "per-example") -> Callable:
    """Returns a function `(x, seed=None)` that runs a Functional model in one mode.

    Args:
        model: a Functional model, or a Sequential one that has been built.
        mode: `inference`, `training` or `mc`.
        masks: `per-example`, or `shared`: all examples get one mask, so that a call is one thinned network
            and the result for an example depends on it and the seed alone.

    Returns:
        A function of inputs `x` and an optional `seed`, a signed 32-bit integer. Without a
        seed, each call draws its own. `tf.function` can trace it with an int32 scalar seed.

    Raises:
        BadInput (a ValueError): an unknown mode; a model that is not Functional; in `mc`, a
            layer whose own code has both dropout and BatchNorm, which cannot be separated; in
            `mc` and `training`, a layer that draws random numbers which no seed decides; in
            `inference`, a layer that draws them there; with `shared`, a layer with dropout in its own code.

    Examples:
        >>> import numpy as np, zoo
        >>> model = zoo.build("mlp", (8, 8, 1), 10, seed=1)
        >>> sample = in_mode(model, "mc")
        >>> sample(np.zeros((2, 8, 8, 1), "uint8"), seed=7).shape
        TensorShape([2, 10])
    """
    checks.one_of("mode", mode, MODES)
    graph = keras_graph.Graph(model)
    caller = Caller(graph.steps, mode, masks=masks)

    def call(x, seed=None):
        seeds = _seeds(seed)
        values = graph.place_inputs(x)
        with caller.scope(seeds):
            keras_graph.run(graph.steps, values, caller.with_seeds(seeds))
        return graph.result(values)

    return call


def _seeds(seed):
    if seed is None and not tf.executing_eagerly():
        raise BadInput(
            "seed must be given inside a tf.function, got None; a traced function would reuse one seed for all calls"
        )
    if not tf.is_tensor(seed) and seed is not None:
        checks.integer("seed", seed, -(2**31), 2**31 - 1)
    return ops.reshape(ops.convert_to_tensor(fresh_seed() if seed is None else seed, "int32"), (1,))


def whether_drops(model: keras.Model) -> bool:
    """Returns whether a Functional model draws masks in `mc`, so that `mc` differs from `inference`."""
    return bool(Caller(keras_graph.Graph(model).steps, "inference").draws)


def fresh_seed() -> int:
    """Returns a random signed 32-bit seed, different in every process."""
    return secrets.randbits(32) - 2**31


class Caller:
    """Makes the calls of a network in one mode.

    In `mc`, only layers that draw masks get `training=True`; in `training`, all layers do.

    Args:
        steps: the steps of a `zoo.keras_graph.Graph`.
        mode: `inference`, `training` or `mc`.
        rescale: whether masks scale the units they keep by 1/(1-rate).
        compiled: draw and apply each mask in one XLA kernel. This is ten times as fast, but
            other runtimes cannot read such a graph.
        masks: `per-example` or `shared`, see `in_mode`.

    Raises:
        BadInput: as `in_mode`.
    """

    def __init__(
        self,
        steps: Sequence[keras_graph.Step],
        mode: str,
        rescale: bool = True,
        compiled: bool = False,
        masks: str = "per-example",
    ) -> None:
        checks.one_of("masks", masks, MASKS)
        self._mode, self._rescale, self._shared = mode, rescale, masks == "shared"
        self._masked = tf.function(seeded.masked, jit_compile=True, autograph=False) if compiled else seeded.masked
        masks = [step for step in steps if is_mask(step.operation)]
        self._salts = {step: counter.salt(step.name, step.call) for step in masks}
        # In execution order: a generator is seeded by its number.
        others = [step for step in steps if not is_mask(step.operation)]
        self._opaque = [step for step in others if randomness.of(step).draws]
        for step in others:
            _refuse_unseeded(step, mode)
        if self._shared and mode != "inference":
            for step in self._opaque:
                _refuse_sharing(step)
        if mode == "mc":
            for step in self._opaque:
                _refuse_batch_norm(step)
        augmenting = [step for step in others if mode == "training" and randomness.augments(step.operation)]
        self._states = randomness.states([*self._opaque, *augmenting])

    @property
    def draws(self) -> set[keras_graph.Step]:
        """The steps that draw masks in `training` and `mc`."""
        return {step for step in self._salts if strength(step.operation)} | set(self._opaque)

    @property
    def opaque(self) -> list[keras_graph.Step]:
        """The steps of layers with dropout in their own code, such as recurrent layers."""
        return self._opaque

    def scope(self, seeds: tf.Tensor) -> keras.StatelessScope:
        """Returns a context in which opaque layers draw from `seeds` and layers store no updates."""
        states = self._states
        key = [counter.bits(seeds[:1], counter.salt("generator", i), 2)[0] for i in range(len(states))]
        return keras.StatelessScope([(v, ops.cast(k, v.dtype)) for v, k in zip(states, key, strict=True)])

    def masked(self, step: keras_graph.Step, x: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Returns `x` `(samples * batch, ...)` under the masks that the step draws for `seeds` `(samples,)`."""
        return self._masked(step.operation, x, seeds, self._salts[step], self._rescale, self._shared)

    def with_seeds(self, seeds: tf.Tensor) -> Callable:
        """Returns the function that `keras_graph.run` calls for each step, with masks for `seeds` `(samples,)`."""

        def call(step, *args, **kwargs):
            if step in self._salts and self._mode != "inference":
                x = args[0] if args else kwargs["inputs"]
                y = self.masked(step, x, seeds)
                return keras_graph.with_padding(y, keras_graph.padding_of(x))
            if keras_graph.takes_training(step.operation):
                drawing = self._mode == "mc" and step in self._opaque
                kwargs["training"] = self._mode == "training" or drawing
            return step.operation(*args, **kwargs)

        return call


def _refuse_unseeded(step, mode):
    draws = randomness.of(step)
    kind = f"layer {step.name!r}, a {type(step.operation).__name__},"
    if mode == "inference" and draws.always:
        raise BadInput(
            f"mode inference needs layers without random numbers, but {kind} draws them with training=False, too; "
            "let its `call` take `training`, and draw only if it is True"
        )
    if mode != "inference" and draws.unseeded:
        raise BadInput(
            f"mode {mode} needs random numbers that follow from a seed, but {kind} draws from {draws.unseeded}; "
            "give the layer a keras.random.SeedGenerator as an attribute, and draw with keras.random from it"
        )


def _refuse_sharing(step):
    raise BadInput(
        f"masks must be per-example for this model, got shared: layer {step.name!r}, a "
        f"{type(step.operation).__name__}, draws masks for each example in its own code; omit --masks"
    )


def _refuse_batch_norm(step):
    if any(isinstance(part, keras.layers.BatchNormalization) for part in keras_graph.inside(step.operation)):
        raise BadInput(
            f"mode mc needs dropout without batch statistics, but layer {step.name!r}, a "
            f"{type(step.operation).__name__} with both dropout and BatchNorm in its own code, cannot separate them; "
            "write it as a Functional model"
        )
