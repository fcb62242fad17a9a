"""How a network is trained, as one value: everything but the network and the data."""

import dataclasses
import math
from dataclasses import dataclass
from numbers import Real

from zoo.errors import BadInput

OPTIMIZERS = ("adam", "sgd", "rmsprop", "nadam", "lion")
SCHEDULES = ("constant", "cosine", "linear")

# What is neither a direction in feature space nor worth shrinking: offsets and scales.
_NOT_DECAYED = ("bias", "gamma", "beta")
_WORTH_COMPILING = 1000  # steps, well beyond those after which the seconds of compiling are back


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule and regularisers beside dropout.

    `learning_rate`: the highest; reached after `warmup`, a fraction of all steps, from
        which `schedule` takes it to 0 (`cosine`, `linear`) or holds it (`constant`).
    `weight_decay`: decoupled (Loshchilov & Hutter 2019), not on biases and norms.
    `max_norm`: bound on the norm of each hidden unit's incoming weights (Srivastava et
        al. 2014, section 5.1), or None.
    `augment`: random shift by up to a tenth, cut-out of a square (DeVries & Taylor
        2017), and flips where the data set allows them.
    `early_stopping`: epochs without a lower validation error before the run ends and
        the best epoch's weights come back, or None.
    `jit_compile`: whether XLA compiles the step, which takes seconds once and gives other
        last digits; None for what is faster: yes for networks without convolutions in
        runs of at least 1,000 steps.

    Raises `BadInput` (a ValueError) for a value outside its range.

    >>> Recipe(epochs=10, learning_rate=3e-4).batch_size
    128
    """

    epochs: int = 50
    batch_size: int = 128
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 0.0
    max_norm: float | None = None
    label_smoothing: float = 0.0
    augment: bool = False
    early_stopping: int | None = None
    jit_compile: bool | None = None

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            _whole(name, getattr(self, name))
        if self.early_stopping is not None:
            _whole("early_stopping", self.early_stopping)
        _between("learning_rate", self.learning_rate, 0, math.inf, above=True)
        _between("momentum", self.momentum, 0, 1)
        _between("warmup", self.warmup, 0, 1)
        _between("weight_decay", self.weight_decay, 0, math.inf)
        _between("label_smoothing", self.label_smoothing, 0, 1)
        if self.max_norm is not None:
            _between("max_norm", self.max_norm, 0, math.inf, above=True)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)

    def to_json(self):
        """A dictionary of all fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data):
        """The inverse of `to_json`. Raises `BadInput` for an unknown field."""
        known = {f.name for f in dataclasses.fields(cls)}
        for key in data:
            _one_of("field of the recipe", key, known)
        return cls(**data)

    # === What TensorFlow is told ===

    def rate_at(self, steps):
        """The learning rate over `steps` optimiser steps: a number, or a Keras schedule."""
        import keras

        warm = round(self.warmup * steps)
        if self.schedule == "constant" and not warm:
            return self.learning_rate  # a plain number, so that callbacks may change it
        if self.schedule == "cosine" and warm < steps:
            return keras.optimizers.schedules.CosineDecay(
                0.0 if warm else self.learning_rate,
                decay_steps=steps - warm,
                warmup_target=self.learning_rate if warm else None,
                warmup_steps=warm,
            )
        end = self.learning_rate if self.schedule == "constant" else 0.0
        rise = [(0, 0.0), (warm, self.learning_rate)] if warm else [(0, self.learning_rate)]
        return _piecewise_linear([*rise, (steps, end)])

    def compiles(self, model, steps):
        """Whether XLA is to compile the step of `model` in a run of `steps` steps; see `jit_compile`."""
        if self.jit_compile is not None:
            return self.jit_compile
        import keras

        convolves = any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
        return steps >= _WORTH_COMPILING and not convolves

    def make_optimizer(self, steps):
        """A Keras optimiser for a run of `steps` steps, its weight decay kept off biases and norms."""
        import keras

        from trainers.adam import Adam

        kinds = keras.optimizers
        rate, decay = self.rate_at(steps), self.weight_decay or None
        optimizer = {
            "adam": lambda: Adam(rate, weight_decay=decay),
            "sgd": lambda: kinds.SGD(rate, momentum=self.momentum, weight_decay=decay),
            "rmsprop": lambda: kinds.RMSprop(rate, momentum=self.momentum, weight_decay=decay),
            "nadam": lambda: kinds.Nadam(rate, weight_decay=decay),
            "lion": lambda: kinds.Lion(rate, weight_decay=decay),
        }[self.optimizer]()
        if decay:
            optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
        return optimizer

    def constrain(self, model):
        """Put `max_norm` on the incoming weights of every hidden unit of `model`.

        The bound is set on the variables, which the optimiser projects after each step;
        the layers, and so a saved file, stay as they are.
        """
        if self.max_norm is None:
            return
        import keras

        for layer in model.layers:
            if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D) and layer.name != "logits":
                axis = list(range(len(layer.kernel.shape) - 1))
                layer.kernel.constraint = keras.constraints.MaxNorm(self.max_norm, axis=axis)

    def make_augmentation(self, input_shape, flip, seed):
        """Keras layers that vary a batch of images, or None; their state belongs to the checkpoint."""
        if not self.augment:
            return None
        import keras

        from zoo.seeds import seed_for

        layers = [
            keras.layers.RandomTranslation(
                0.1, 0.1, fill_mode="constant", interpolation="nearest", seed=seed_for(seed, "shift")
            ),
            keras.layers.RandomErasing(
                factor=0.5,
                scale=(0.05, 0.15),
                fill_value=0.0,
                value_range=(0, 255),
                seed=seed_for(seed, "cut"),
            ),
        ]
        if flip:
            layers.insert(0, keras.layers.RandomFlip("horizontal", seed=seed_for(seed, "flip")))
        return keras.Sequential([keras.Input(input_shape), *layers], name="augmentation")


def _piecewise_linear(corners):
    import keras

    class PiecewiseLinear(keras.optimizers.schedules.LearningRateSchedule):
        """Straight lines between (step, rate) corners; Keras has none that rises before it falls."""

        def __call__(self, step):
            step = keras.ops.cast(step, "float32")
            (at, rate), value = corners[0], corners[0][1]
            for end, target in corners[1:]:
                share = keras.ops.clip((step - at) / max(end - at, 1), 0.0, 1.0)
                value = value + share * (target - rate)
                at, rate = end, target
            return value

        def get_config(self):
            return {"corners": corners}

    return PiecewiseLinear()


def _whole(name, value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"received {name} {value!r}; it is a whole number of at least 1")


def _between(name, value, low, high, above=False):
    inside = isinstance(value, Real) and not isinstance(value, bool) and low <= value < high
    if not inside or (above and value == low):
        where = f"above {low}" if above else f"at least {low}"
        raise BadInput(
            f"received {name} {value!r}; it is a number {where}" + (f" and below {high}" if high < math.inf else "")
        )


def _one_of(what, value, allowed):
    if value not in allowed:
        raise BadInput(f"received {what} {value!r}; allowed: {', '.join(sorted(allowed))}")
