"""Rates that change during training: the variable that holds the factor, and the callback that sets it."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from zoo import keras_graph
from zoo.checks import listed
from zoo.dropout.layers import is_mask, strength
from zoo.errors import BadInput
from zoo.placement.schedule import Schedule


class MovingRate:
    """The factor of the rates of a model's mask layers.

    It is a variable, so that changing it traces nothing again. It is 1 until the project's loop, or
    `FollowSchedule` in `fit`, sets it at every step.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.variable = tf.Variable(1.0, trainable=False, name="rate_factor")

    def move(self, progress: float | tf.Tensor) -> None:
        """Sets the factor to that of the schedule at `progress`, the share of the run that is over."""
        self.variable.assign(self.schedule.factor(ops.convert_to_tensor(progress, "float32"), ops))

    def __deepcopy__(self, memo: dict[int, Any]) -> "MovingRate":
        return self  # copies of a layer belong to the same run


def of(model: keras.Model) -> list[MovingRate]:
    """Returns the `MovingRate`s of a model's layers and of those inside them, each once."""
    moving = (getattr(layer, "moving", None) for layer in keras_graph.inside(model))
    return list(dict.fromkeys(rate for rate in moving if rate is not None))


def _unscheduled(model):
    """Returns the names of the mask layers that no placement has set: a clone or a reloaded file has no schedule."""
    masks = (layer for layer in keras_graph.inside(model) if is_mask(layer) and strength(layer))
    return [layer.name for layer in masks if "moving" not in vars(layer)]


class FollowSchedule(keras.callbacks.Callback):
    """A callback for `fit` that applies the schedule of a model's placement to its rates.

    The model is one of `zoo.build`, alone or inside another one. With a placement of constant rates it does nothing.

    Raises:
        BadInput: when training starts, if nothing in the model knows a schedule: a clone, a copy or a reloaded file
            has lost it. `BadInput` is a `ValueError`.

    Examples:
        >>> model = zoo.build("mlp", (8, 8, 1), 10, zoo.Placement({"hidden": 0.5}, schedule="late"))
        >>> digits = zoo.data.load("digits", train_size=100)
        >>> history = zoo.compile(model).fit(
        ...     digits.train.x, digits.train.y, epochs=2, verbose=0, callbacks=[FollowSchedule()]
        ... )
    """

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Finds the rates that move."""
        self._moving, self._steps = of(self.model), self.params["steps"]
        lost = _unscheduled(self.model)
        if lost and not self._moving:
            raise BadInput(
                f"model must know the schedule of its rates, got {self.model.name!r}, whose layers {listed(lost)} have "
                "none, as in a clone or a reloaded file; build it with zoo.build and its placement, and take over the "
                "weights with set_weights"
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch."""
        self._epoch, self._batch = epoch, 0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the factor of the rates for the next step."""
        # The number of batches of a generator is not known before its first epoch has ended.
        over = batch / self._steps if self._steps else 0.0
        for moving in self._moving:
            moving.move((self._epoch + min(over, 1.0)) / self.params["epochs"])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the batches of the epoch."""
        self._batch = batch + 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the number of batches, where Keras does not know it."""
        self._steps = self._steps or self._batch
