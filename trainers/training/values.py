"""What differs between runs of one topology, as variables that a compiled engine reads.

Runs of one architecture, data set and recipe differ in their initial weights, in the states of their
seed generators, in their rates, and in their learning rates. All of these are values: an engine that is
traced once can carry out each of these runs. XLA rounds products with constants in another way than
products with variables, so where it compiles the step, rates and learning rates stay constants.
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainers.recipe import Recipe
from trainers.training import optimizer
from zoo import keras_graph
from zoo.dropout import live


class Numbers:
    """The numbers of a learning-rate schedule as variables. Pass it as `number` to `optimizer.learning_rate`."""

    def __init__(self) -> None:
        self._variables: list[tf.Variable] = []

    def __call__(self, value: float) -> tf.Variable:
        """Returns a variable that holds `value`, float32, the type in which a schedule computes."""
        self._variables.append(tf.Variable(value, dtype=tf.float32, trainable=False))
        return self._variables[-1]

    def take(self, recipe: Recipe, steps: int) -> None:
        """Sets the variables to the numbers of the schedule of another recipe, which differs in them alone."""
        values: list[float] = []

        def noted(value):
            values.append(value)
            return value

        optimizer.learning_rate(recipe, steps, noted)
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)


class Values:
    """The variables of a traced model and of its optimizer, and the values of the run that uses them.

    Args:
        model: the model that is traced.
        constant: whether rates and learning rates stay constants.
    """

    def __init__(self, model: keras.Model, constant: bool) -> None:
        self._model = model
        self.numbers: Callable = float if constant else Numbers()
        if not constant:
            for layer in filter(live.takes, keras_graph.inside(model)):
                live.enliven(layer)

    def keep(self, optimizer_: keras.optimizers.Optimizer) -> None:
        """Remembers the initial values of the variables of a new optimizer, whose moments begin at 0."""
        self._optimizer = optimizer_
        self._initial = [None if variable.shape.rank else variable.numpy() for variable in optimizer_.variables]
        assert not any(np.any(variable) for variable in optimizer_.variables if variable.shape.rank)

    def take(self, model: keras.Model, recipe: Recipe, steps: int) -> None:
        """Takes over the values of a new run, and makes the variables of its model those that are traced.

        `model` then trains: its weights are the same memory as those of the traced model. It has the same topology.
        """
        layers = list(zip(keras_graph.inside(self._model), keras_graph.inside(model), strict=True))
        if model is not self._model:
            for traced, new in layers:
                keras_graph.share_variables(traced, new)
        if isinstance(self.numbers, Numbers):
            self.numbers.take(recipe, steps)
            for traced, new in layers:
                live.set_rate(traced, new)
        for variable, value in zip(self._optimizer.variables, self._initial, strict=True):
            variable.assign(np.zeros(variable.shape, variable.dtype) if value is None else value)
        if optimizer.is_constant(recipe, steps):
            self._optimizer.learning_rate = recipe.learning_rate


def copied(sources: Iterable[Any], targets: Iterable[Any]) -> None:
    """Assigns the values of `sources` to `targets`, variables of the same shapes."""
    for source, target in zip(sources, targets, strict=True):
        target.assign(source)
