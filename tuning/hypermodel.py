"""For users' own keras-tuner code: a model of the zoo whose dropout keras-tuner chooses."""

import keras
import keras_tuner

from trainers.plan import Plan
from trainers.recipe import Recipe
from tuning.oracles import hyperparameters
from tuning.space import Space
from zoo import catalogue
from zoo.errors import BadInput


class HyperModel(keras_tuner.HyperModel):
    """Builds compiled models over a `Space`.

    Args:
        model: a model's name, as in `zoo.build`.
        input_shape: shape of one example; `classes`: number of logits.
        tune: a `Space`, or `--tune` texts; the model's default space unless given.
        placement: what stands at sites that are not tuned (nothing unless given).
        steps: optimiser steps of a whole run, which the learning-rate schedule spans; a
            constant rate unless given.
        recipe: the fields of `Recipe` (`learning_rate`, `weight_decay`, ...).
        seed: of weights, masks; every build of equal values gives equal weights.
        **settings: fields of the model's configuration.

    The metric to search by is `val_accuracy`. Raises `BadInput` (a ValueError) for a
    space that does not fit the model.

    >>> hypermodel = HyperModel("mlp", (8, 8, 1), 10, tune=["hidden=0:0.5:0.1"], hidden=32)
    >>> tuner = keras_tuner.RandomSearch(hypermodel, "val_accuracy", max_trials=5, seed=1)
    """

    def __init__(
        self, model, input_shape, classes, tune=None, placement=None, steps=None, recipe=None, seed=0, **settings
    ):
        super().__init__(name=model, tunable=True)
        catalogue.check_model(model)
        self.space = tune if isinstance(tune, Space) else Space.parse(tune) if tune else Space.default(model)
        recipe = {"schedule": "constant", "warmup": 0.0, **(recipe or {})} if steps is None else recipe or {}
        Recipe(**recipe)
        if "label_smoothing" in self.space.others or recipe.get("label_smoothing"):
            raise BadInput("received label_smoothing, which the project's own loop has; use `tuning.search` for it")
        known = {"vocabulary": settings.pop("vocabulary")} if "vocabulary" in settings else {}
        self._base = Plan.make(model=model, placement=placement or {}, settings=settings, seed=seed, **recipe)
        self.space.check(self._base)
        self._built = {"input_shape": input_shape, "classes": classes, **known}
        self._steps = steps

    def build(self, hp):
        """A compiled model with the dropout, and whatever else is tuned, of `hp`."""
        hyperparameters(self.space, into=hp)
        plan = self.space.plan(self._base, self.space.snapped({name: hp.get(name) for name in self.space.names}))
        model = catalogue.build(plan.model, placement=plan.placement, seed=plan.seed, **self._built, **plan.settings)
        plan.recipe.constrain(model)
        model.compile(
            optimizer=plan.recipe.make_optimizer(self._steps or 1),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model
