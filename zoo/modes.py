"""Three modes of one network, never two.

`inference`: no dropout, stored BatchNorm statistics. `training`: dropout on, batch
statistics. `mc`: dropout on, stored BatchNorm statistics; what Monte-Carlo dropout
(Gal & Ghahramani 2016) needs, and what `training=True` is not.
"""

import keras

from zoo import dropout
from zoo.errors import BadInput

MODES = ("inference", "training", "mc")


def in_mode(model, mode):
    """A function of an input batch that runs the Functional `model` in `mode`.

    In `mc` nothing that inference computes is changed, however often it is called.

    Raises `BadInput` (a ValueError) for an unknown mode.

    >>> import numpy as np, zoo
    >>> model = zoo.build("mlp", (8, 8, 1), 10, seed=1)
    >>> sample = in_mode(model, "mc")
    >>> sample(np.zeros((2, 8, 8, 1), "uint8")).shape
    TensorShape([2, 10])
    """
    if mode not in MODES:
        raise BadInput(f"received mode {mode!r}; allowed: {', '.join(MODES)}")
    if mode == "mc":
        return _with_active_masks(model)
    return lambda x: model(x, training=mode == "training")


def _with_active_masks(model):
    """The same layers wired once more, each told whether it trains: only masks do."""
    return keras.models.clone_model(
        model,
        clone_function=lambda layer: layer,
        call_function=lambda layer, *args, **kwargs: layer(
            *args, **{**kwargs, "training": dropout.is_mask(layer)} if _takes_training(layer) else kwargs
        ),
    )


def _takes_training(layer):
    return isinstance(layer, keras.Layer) and layer._call_has_training_arg
