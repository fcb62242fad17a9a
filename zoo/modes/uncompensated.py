"""A network in its three modes, and in two more that lack the factor 1/(1-rate).

Dropout scales the units it keeps by 1/(1-rate). These modes show what goes wrong otherwise:

`uncompensated_training`: as `mc`, but kept units are not rescaled. After each mask the
mean is (1-rate) times that of inference, so training and inference see different scales.
`uncompensated_inference`: nothing is dropped, and the output of each mask layer is too
large by 1/(1-rate). A network trained without rescaling (the original formulation,
Srivastava et al. 2014, section 4) sees this if prediction omits its factor 1-rate.

Noise of mean 1 (Gaussian dropout) needs no factor and stays as it is. So does dropout
inside layers such as `MultiHeadAttention`, whose own code applies the factor.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from zoo import keras_graph
from zoo.dropout.layers import is_mask, kind_of
from zoo.errors import BadInput
from zoo.modes.modes import Caller

PAIR = ("uncompensated_training", "uncompensated_inference")
DRAWING = ("training", "mc", "uncompensated_training")
_FACTORED = ("dropout", "spatial", "drop_path")  # kinds that scale the units they keep by 1/(1-rate)


def callers(steps: Sequence[keras_graph.Step], masks: str = "per-example") -> tuple[dict[str, Any], list[str]]:
    """Returns a caller for each mode of a network, and sentences about the modes that it lacks.

    `masks` are those of mode `mc` alone, see `zoo.in_mode`.
    """
    by_mode: dict[str, Any] = {name: Caller(steps, name) for name in ("inference", "training")}
    draws = by_mode["inference"].draws
    if not draws:
        return by_mode, ["nothing is dropped in this model: mc equals inference, and there is no factor to leave out"]
    try:
        by_mode["mc"] = Caller(steps, "mc", masks=masks)
    except BadInput as error:
        return by_mode, [f"mode mc is not available: {error}"]
    unscaled = sorted(step.name for step in draws if not _factored(step))
    if len(unscaled) == len(draws):
        return by_mode, ["no mask layer of this model rescales what it keeps, so there is no factor to leave out"]
    by_mode["uncompensated_training"] = Caller(steps, "mc", rescale=False)
    by_mode["uncompensated_inference"] = _TooLarge(steps)
    return by_mode, [f"the modes without 1/(1-rate) do not change: {', '.join(unscaled)}"] if unscaled else []


class _TooLarge:
    """A `Caller` in mode inference that multiplies the output of each mask layer by 1/(1-rate)."""

    def __init__(self, steps):
        self._inference = Caller(steps, "inference")
        self.scope = self._inference.scope

    def with_seeds(self, seeds: tf.Tensor) -> Callable:
        plain = self._inference.with_seeds(seeds)

        def call(step, *args, **kwargs):
            y = plain(step, *args, **kwargs)
            if not _factored(step):
                return y
            return keras_graph.with_padding(y / (1 - step.operation.rate), keras_graph.padding_of(y))

        return call


def _factored(step):
    layer = step.operation
    return is_mask(layer) and kind_of(layer) in _FACTORED and layer.rate > 0
