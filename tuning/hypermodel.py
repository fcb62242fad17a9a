"""For your own keras-tuner code: a model of the zoo whose dropout keras-tuner chooses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner

from trainers.plan import Plan
from trainers.recipe import Recipe
from trainers.training.optimizer import constrain, make_optimizer
from tuning.oracles import hyperparameters
from tuning.space import Space
from zoo.errors import BadInput
from zoo.models import catalogue

if TYPE_CHECKING:
    from zoo.placement.drop import Drop
    from zoo.placement.placement import Placement


class HyperModel(keras_tuner.HyperModel):
    """Builds compiled models over a `Space`.

    Use `val_accuracy` as the objective.

    Args:
        model: the model's name, as in `zoo.build`.
        input_shape: shape of one example, such as `(height, width, channels)`.
        classes: number of classes, which is the number of logits.
        tune: a `Space`, or `--tune` texts (default: the default space of the model).
        placement: dropout at sites that are not tuned (default: none).
        steps: optimizer steps of a whole run, over which the learning rate follows its
            schedule (default: a constant learning rate).
        recipe: fields of `Recipe`, such as `{"weight_decay": 1e-4}`.
        seed: seed of weights and masks; equal values give equal weights.
        **settings: fields of the model's configuration, such as `hidden=32`.

    Raises:
        BadInput: the space does not fit the model (a ValueError).

    Examples:
        >>> hypermodel = HyperModel("mlp", (8, 8, 1), 10, tune=["hidden=0:0.5:0.1"], hidden=32)
        >>> tuner = keras_tuner.RandomSearch(hypermodel, "val_accuracy", max_trials=5, seed=1)
    """

    def __init__(
        self,
        model: str,
        input_shape: Sequence[int],
        classes: int,
        tune: str | Iterable[str] | Space | None = None,
        placement: "str | Placement | Mapping[str, float | Drop] | None" = None,
        steps: int | None = None,
        recipe: Mapping[str, Any] | None = None,
        seed: int = 0,
        **settings: Any,
    ):
        super().__init__(name=model, tunable=True)
        catalogue.check_model(model)
        if isinstance(tune, Space):
            self.space = tune
        else:
            self.space = Space.parse([tune] if isinstance(tune, str) else tune) if tune else Space.default(model)
        recipe = {"schedule": "constant", "warmup": 0.0, **(recipe or {})} if steps is None else recipe or {}
        Recipe(**recipe)
        if "label_smoothing" in self.space.others or recipe.get("label_smoothing"):
            raise BadInput("label_smoothing must be left out of a HyperModel, got a value; use `tuning.search` for it")
        tokens = {"vocabulary": settings.pop("vocabulary")} if "vocabulary" in settings else {}
        self._base = Plan.make(model=model, placement=placement or {}, settings=settings, seed=seed, **recipe)
        self.space = self.space.check(self._base)
        self._built = {"input_shape": input_shape, "classes": classes, **tokens}
        self._steps = steps

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Returns a compiled model with the values of `hp`, its rates and whatever else is tuned."""
        hyperparameters(self.space, into=hp)
        plan = self.space.plan(self._base, self.space.snapped({name: hp.get(name) for name in self.space.names}))
        model = catalogue.build(plan.model, placement=plan.placement, seed=plan.seed, **self._built, **plan.settings)
        constrain(plan.recipe, model)
        model.compile(
            optimizer=make_optimizer(plan.recipe, self._steps or 1),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model
