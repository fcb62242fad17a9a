"""Keras models whose regularisation is a value you pass in.

    import zoo
    model = zoo.build("cnn", input_shape=(28, 28, 1), classes=10, placement={"hidden": 0.5})

Public names are handed on when they are first used, so that importing this package
does not import TensorFlow.
"""

import importlib

_PUBLIC = {
    "BadInput": "zoo.errors",
    "RunFailed": "zoo.errors",
    "Drop": "zoo.placement",
    "FollowSchedule": "zoo.moving",
    "Placement": "zoo.placement",
    "Schedule": "zoo.schedule",
    "build": "zoo.catalogue",
    "list_models": "zoo.catalogue",
    "load": "zoo.artefacts.load",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
