"""Placements: which dropout goes where, as a value. Imports neither Keras nor TensorFlow."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
