"""Searches of the dropout rate with keras-tuner: a rate, an honest curve, and what the winner is worth.

    import tuning
    tuning.search(model="mlp", tune=["hidden=0:0.8:0.1"], retrain=10)

Public names are handed on when they are first used, so that importing this package
does not import TensorFlow.
"""

import importlib

__all__ = ["HyperModel", "Space", "search"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module 'tuning' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name == "HyperModel":
        return importlib.import_module("tuning.hypermodel").HyperModel
    if name == "Space":
        return importlib.import_module("tuning.space").Space
    return importlib.import_module(f"tuning.{name}")
