"""How models are trained: one run, a comparison of placements, and what came of it.

    import trainers
    trainers.train(model="mlp", dataset="digits", epochs=5)

Public names are handed on when they are first used, so that importing this package
does not import TensorFlow.
"""

import importlib
import sys
import types

__all__ = ["Recipe", "compare", "train"]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module 'trainers' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name == "Recipe":
        return importlib.import_module("trainers.recipe").Recipe
    return importlib.import_module(f"trainers.{name}")


def callable_as(module, name):
    """Let `module` be called as its function `name`.

    `trainers.train` is a module and, for users, a function; Python binds the module's
    name in the package whenever it is first imported, so the module itself has to answer.
    """

    class Callable(types.ModuleType):
        def __call__(self, *args, **kwargs):
            return getattr(self, name)(*args, **kwargs)

    sys.modules[module].__class__ = Callable
