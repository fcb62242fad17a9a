"""Rates that move while a model trains: the variable behind them, and who moves it."""

import keras
import tensorflow as tf


class MovingRate:
    """The factor that multiplies the rates of a model's mask layers, in a variable: moving it traces nothing anew.

    It is 1 until somebody moves it: the project's loop at every step, or `FollowSchedule` under `fit`.
    """

    def __init__(self, schedule):
        self.schedule = schedule
        self.variable = tf.Variable(1.0, trainable=False, name="rate_factor")

    def move(self, progress):
        """Set the factor to that of the schedule at `progress`, a share of the run."""
        self.variable.assign(self.schedule.factor(progress))

    def __deepcopy__(self, memo):
        return self  # a copied layer belongs to the same run


def of(model):
    """The `MovingRate`s of a model's layers, each once."""
    return list(dict.fromkeys(layer.moving for layer in model.layers if getattr(layer, "moving", None) is not None))


class FollowSchedule(keras.callbacks.Callback):
    """Moves a model's rates along their schedule under Keras' own `fit`.

    >>> model = zoo.build("mlp", (8, 8, 1), 10, zoo.Placement({"hidden": 0.5}, schedule="late"))
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> model.fit(images, labels, epochs=20, callbacks=[FollowSchedule()])
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        steps = self.params["steps"] or batch + 1
        for moving in of(self.model):
            moving.move((self._epoch + batch / steps) / self.params["epochs"])
