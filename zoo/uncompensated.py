"""A network in its three modes, and in the two that it would have without the factor 1/(1-rate).

Survivors of dropout are scaled by 1/(1-rate). What goes wrong if they are not:

`uncompensated_training`: as `mc`, survivors left as they are. Behind each mask the mean
is (1-rate) of what it is at inference: training and inference see different scales.
`uncompensated_inference`: nothing dropped, and the output of each mask layer 1/(1-rate)
too large: what prediction sees if a network trained like that (the original formulation,
Srivastava et al. 2014, section 4) is run without its factor 1-rate.

Noise of mean 1 (Gaussian dropout) needs no such factor and is left as it is, and so is
dropout inside layers such as `MultiHeadAttention`, whose code has the factor built in.
"""

from zoo import dropout
from zoo.errors import BadInput
from zoo.modes import Caller

PAIR = ("uncompensated_training", "uncompensated_inference")
DRAWING = ("training", "mc", "uncompensated_training")
_FACTORED = ("dropout", "spatial", "drop_path")  # kinds whose survivors are scaled by 1/(1-rate)


def callers(steps):
    """What makes the calls of a network, by mode, and sentences about the modes that it has not."""
    found = {name: Caller(steps, name) for name in ("inference", "training")}
    draws = found["inference"].draws
    if not draws:
        return found, ["nothing is dropped in this model: mc equals inference, and there is no factor to leave out"]
    try:
        found["mc"] = Caller(steps, "mc")
    except BadInput as error:
        return found, [f"there is no mc: {error}"]
    left = sorted(step.name for step in draws if not _factored(step))
    if len(left) == len(draws):
        return found, ["no mask layer of this model scales its survivors, so there is no factor to leave out"]
    found["uncompensated_training"] = Caller(steps, "mc", rescale=False)
    found["uncompensated_inference"] = _TooLarge(steps)
    return found, [f"without 1/(1-rate) leaves these as they are: {', '.join(left)}"] if left else []


class _TooLarge:
    """As a `Caller` in mode inference, the output of each mask layer 1/(1-rate) too large."""

    def __init__(self, steps):
        self._inference = Caller(steps, "inference")
        self.scope = self._inference.scope

    def with_seeds(self, seeds):
        plain = self._inference.with_seeds(seeds)

        def call(step, *args, **kwargs):
            y = plain(step, *args, **kwargs)
            if not _factored(step):
                return y
            larger = y / (1 - step.operation.rate)
            if getattr(y, "_keras_mask", None) is not None:
                larger._keras_mask = y._keras_mask
            return larger

        return call


def _factored(step):
    layer = step.operation
    return dropout.is_mask(layer) and dropout.kind_of(layer) in _FACTORED and layer.rate > 0
