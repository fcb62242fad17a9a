"""Compiled engines that are kept, so that the runs of a sweep trace each topology once."""

import collections
import dataclasses
import hashlib
import json
from typing import Any

import keras

from trainers.recipe import Recipe
from trainers.training import optimizer
from trainers.training.loop import Engine, total_steps
from zoo import keras_graph
from zoo.data.dataset import Dataset
from zoo.dropout import live

KEPT = 8  # engines
KEPT_WEIGHTS = 2**26  # of all engines together; with two moments each, 768 MiB


class Engines:
    """The engines of a process. A run whose topology is known gets one that is compiled already.

    Attributes:
        made: number of engines so far.
        dropped: number of those that are no longer kept, so that a caller knows when there is something to free.
    """

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[Any, Engine] = collections.OrderedDict()
        self.made = self.dropped = 0

    def engine(self, model: keras.Model, recipe: Recipe, dataset: Dataset, seed: int) -> Engine:
        """Returns an engine for a run; see `Engine`."""
        topology = _topology(model, recipe, dataset)
        if topology is not None and topology in self._kept:
            self._kept.move_to_end(topology)
            engine = self._kept[topology]
            engine.renew(model, recipe, seed)
            return engine
        self.made += 1
        engine = Engine(model, recipe, dataset, seed, shared=topology is not None)
        if topology is None:
            self.dropped += 1  # at the end of its run
            return engine
        self._kept[topology] = engine
        while len(self._kept) > 1 and (len(self._kept) > KEPT or self._weights() > KEPT_WEIGHTS):
            self._kept.popitem(last=False)
            self.dropped += 1
        return engine

    def _weights(self):
        return sum(engine.model.count_params() for engine in self._kept.values())

    def clear(self) -> None:
        """Forgets all engines."""
        self.dropped += len(self._kept)
        self._kept.clear()


def _topology(model, recipe, dataset):
    """Returns what two runs must have in common to share an engine; None if that cannot be known.

    It is all that a trace depends on besides variables: code other than that of Keras and of this project may
    depend on anything.
    """
    layers = keras_graph.inside(model)
    masks = {layer.name for layer in layers if live.takes(layer)}
    if any(_unknown(layer) or (layer.name in masks and not live.takes(layer)) for layer in layers):
        return None
    constant = optimizer.compiles(recipe, model, total_steps(recipe, dataset))  # see `Values`
    values = ("seed",) if constant else ("seed", "rate")
    try:
        config = json.dumps(_without(values, masks, model.get_config()))
    except (NotImplementedError, TypeError, ValueError):
        return None
    kinds = tuple(f"{type(layer).__module__}.{type(layer).__qualname__}" for layer in layers)
    schedules = tuple(str(moving.schedule) for layer in layers if (moving := getattr(layer, "moving", None)))
    same = recipe if constant else dataclasses.replace(recipe, learning_rate=1.0)
    return config, kinds, schedules, same, id(dataset), tuple(map(_adapted, layers))


def _unknown(layer):
    own = keras_graph.family(layer) or type(layer).__module__.startswith("zoo.")
    return not own or isinstance(layer, keras.layers.Lambda) or hasattr(layer, "save_assets")


def _adapted(layer):
    """What a layer that was adapted to data computes with, which is traced as constants."""
    if not hasattr(layer, "finalize_state"):
        return None
    return hashlib.sha256(b"".join(variable.numpy().tobytes() for variable in layer.variables)).hexdigest()


def _without(values, masks, config):
    """Returns a configuration without the `values` of the layers named `masks`, and the seeds of initialisers."""
    if isinstance(config, list | tuple):
        return [_without(values, masks, item) for item in config]
    if not isinstance(config, dict):
        return config
    drawn = isinstance(inner := config.get("config"), dict) and inner.get("name") in masks
    left_out = values if drawn else ("seed",) if config.get("module") == "keras.initializers" else ()
    if left_out:
        return {**config, "config": {key: value for key, value in inner.items() if key not in left_out}}
    return {key: _without(values, masks, value) for key, value in config.items()}
