"""The mask layers, their kernels, and the hash that all random bits come from."""

import lazy_loader

from zoo.startup import quietly

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__getattr__ = quietly(__getattr__, __all__)
