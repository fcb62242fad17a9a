"""The modes of a network (inference, training and Monte-Carlo), how to run them, and how they compare."""

import lazy_loader

from zoo.startup import quietly

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = quietly(__getattr__, __all__)

# inference: no dropout, stored BatchNorm statistics. training: dropout, batch statistics. mc: dropout, stored ones.
MODES = ("inference", "training", "mc")
# per-example: each example has masks of its own. shared: a sample has one mask, so that it is one thinned network.
MASKS = ("per-example", "shared")
PREDICTING = ("inference", "mc")  # the modes of `predict`; batch statistics do not suit predictions
