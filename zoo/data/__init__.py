"""Data sets: what can be read, and how it is split into training, validation and test parts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
