"""The runtimes of an exported model, and the list of them. Each runtime has a file with everything about it."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.artefacts.runtimes.base import Runtime

# The name in `--runtime` and in the `formats` of a card: the class in the file of that name; in the order of a card.
RUNTIMES = {"keras": "Keras", "savedmodel": "SavedModel", "onnx": "Onnx", "litert": "LiteRT"}
FASTEST_FIRST = ("onnx", "litert", "savedmodel", "keras")


def runtime(name: str) -> "type[Runtime]":
    """Returns the class of a runtime. This does not import the runtime's own packages."""
    return getattr(importlib.import_module(f"zoo.artefacts.runtimes.{name}"), RUNTIMES[name])
