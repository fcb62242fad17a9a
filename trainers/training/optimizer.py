"""Carries out a recipe: optimiser, learning rate, weight decay, max-norm and compilation."""

import itertools
from collections.abc import Callable

import keras
import tensorflow as tf

from trainers.recipe import Recipe
from zoo import keras_graph

# Offsets and scales: decaying them does not regularise.
_NOT_DECAYED = ("bias", "gamma", "beta")
_WORTH_COMPILING = 1000  # steps; by then the faster steps have repaid the compilation


def make_optimizer(recipe: Recipe, steps: int, number: Callable = float) -> keras.optimizers.Optimizer:
    """Returns a Keras optimiser for a run of `steps` steps. It does not decay biases and normalisation parameters.

    `number` is as in `learning_rate`.
    """
    kinds = keras.optimizers
    rate, decay = learning_rate(recipe, steps, number), recipe.weight_decay or None
    optimizer = {
        "adam": lambda: Adam(rate, weight_decay=decay),
        "sgd": lambda: kinds.SGD(rate, momentum=recipe.momentum, weight_decay=decay),
        "rmsprop": lambda: kinds.RMSprop(rate, momentum=recipe.momentum, weight_decay=decay),
        "nadam": lambda: kinds.Nadam(rate, weight_decay=decay),
        "lion": lambda: kinds.Lion(rate, weight_decay=decay),
    }[recipe.optimizer]()
    if decay:
        optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    return optimizer


def is_constant(recipe: Recipe, steps: int) -> bool:
    """Returns whether the learning rate of a run of `steps` steps is one number."""
    return recipe.schedule == "constant" and not round(recipe.warmup * steps)


def learning_rate(
    recipe: Recipe, steps: int, number: Callable = float
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate over `steps` optimiser steps: a number, or a Keras schedule.

    Args:
        recipe: The recipe.
        steps: The number of optimiser steps.
        number: Makes of each number of the schedule that depends on `recipe.learning_rate` what the schedule
            computes with: a float, or a variable that holds it.
    """
    warm = round(recipe.warmup * steps)
    start = recipe.warmup_start if recipe.warmup_start is not None else 1 / max(warm, 1)
    first = recipe.learning_rate * start
    if is_constant(recipe, steps):
        return recipe.learning_rate  # a plain number, so that callbacks may change it
    if recipe.schedule == "cosine" and warm < steps:
        return keras.optimizers.schedules.CosineDecay(
            number(first if warm else recipe.learning_rate),
            decay_steps=steps - warm,
            warmup_target=number(recipe.learning_rate) if warm else None,
            warmup_steps=warm,
        )
    end = recipe.learning_rate if recipe.schedule == "constant" else 0.0
    rise = [(0, first), (warm, recipe.learning_rate)] if warm else [(0, recipe.learning_rate)]
    return _piecewise_linear([*rise, (steps, end)], number)


def _piecewise_linear(corners, number):
    starts, places = number(corners[0][1]), [place for place, _ in corners]
    slopes = [number(after - before) for (_, before), (_, after) in itertools.pairwise(corners)]

    class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
        """Linear interpolation between (step, rate) points. Keras has no linear decay with warmup."""

        def __call__(self, step):
            step, value = keras.ops.cast(step, "float32"), keras.ops.convert_to_tensor(starts)
            for (begin, end), slope in zip(itertools.pairwise(places), slopes, strict=True):
                share = keras.ops.clip((step - begin) / max(end - begin, 1), 0.0, 1.0)
                value = value + share * slope
            return value

        def get_config(self):
            return {"corners": corners}

    return PiecewiseLinear()


def constrain(recipe: Recipe, model: keras.Model) -> None:
    """Puts `max_norm` on the incoming weights of every hidden unit of `model`.

    The constraint is set on the variables, and the optimiser applies it after each step. The layers,
    and so a saved file, do not change.
    """
    if recipe.max_norm is None:
        return
    last = keras_graph.Graph(model).steps[-1].operation
    for layer in keras_graph.inside(model):
        if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D) and layer is not last and layer.built:
            axis = list(range(len(layer.kernel.shape) - 1))
            layer.kernel.constraint = keras.constraints.MaxNorm(recipe.max_norm, axis=axis)


def compiles(recipe: Recipe, model: keras.Model, steps: int) -> bool:
    """Returns whether XLA compiles the step of `model` in a run of `steps` steps; see `Recipe.jit_compile`."""
    if recipe.jit_compile is not None:
        return recipe.jit_compile
    convolves = any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    return steps >= _WORTH_COMPILING and not convolves


# === Adam ===


class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma & Ba 2015, algorithm 1) on TensorFlow's fused kernel.

    The arguments are those of Keras, and the values agree up to rounding. With `amsgrad`, and for
    sparse gradients, Keras' own update is used.

    Examples:
        >>> Adam(1e-3).learning_rate.numpy()
        np.float32(0.001)
    """

    def update_step(
        self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> tf.Operation | None:
        """Updates `variable` by one step against `gradient`."""
        if self.amsgrad or not isinstance(gradient, tf.Tensor):
            return super().update_step(gradient, variable, learning_rate)
        momentum, velocity = keras_graph.moments_of(self, variable)
        variable = variable.value if isinstance(variable, keras.Variable) else variable
        kind = variable.dtype
        step = tf.cast(self.iterations + 1, kind)
        beta_1, beta_2 = tf.cast(self.beta_1, kind), tf.cast(self.beta_2, kind)
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.value.handle,
            v=velocity.value.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=tf.cast(learning_rate, kind),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, kind),
            grad=tf.cast(gradient, kind),
        )


# A saved model names the parent class, which any Keras can load.
keras_graph.save_as(Adam, "keras.optimizers.Adam")
