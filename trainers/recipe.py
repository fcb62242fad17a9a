"""The training recipe: optimiser, learning-rate schedule and regularisers other than dropout."""

import dataclasses
from dataclasses import dataclass
from math import inf

from zoo import checks, fields, startup
from zoo.checks import MOST
from zoo.errors import BadInput

OPTIMIZERS = ("adam", "sgd", "rmsprop", "nadam", "lion")
SCHEDULES = ("constant", "cosine", "linear")
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")


def _devices(name, value):
    if isinstance(value, str) and value != "all":
        raise BadInput(f"{name} must be a number of devices, or all, got {checks.shown(value)}")
    return value if value == "all" else checks.integer(name, value, 1, MOST["devices"])


def number_of_devices(value: int | str | None) -> int:
    """Returns the number of devices that `Recipe.devices` means by `value`, 1 for None.

    Raises:
        BadInput: neither a number of devices nor `all`.
    """
    given = 1 if value is None else _devices("devices", value)
    return startup.devices() if given == "all" else given


@dataclass(frozen=True)
class Recipe:
    """Optimiser, learning-rate schedule and regularisers other than dropout.

    The options of the command lines and their help texts are generated from the fields.

    Args:
        epochs: Passes over the training set.
        batch_size: Examples per step.
        optimizer: One of `adam`, `sgd`, `rmsprop`, `nadam`, `lion`.
        learning_rate: The peak learning rate.
        momentum: Momentum of `sgd` and `rmsprop`.
        schedule: `constant`, `cosine` or `linear` decay of the learning rate.
        warmup: Fraction of the steps in which the learning rate rises linearly to its peak.
        warmup_start: Learning rate of the first step, as a fraction of the peak. None is 1/n for a rise over
            n steps. At 0 the first step, in short runs a whole epoch, trains nothing.
        weight_decay: Decoupled weight decay (Loshchilov & Hutter 2019). Biases and normalisation
            parameters are not decayed.
        max_norm: Upper bound on the norm of each hidden unit's incoming weights (Srivastava et
            al. 2014, section 5.1).
        label_smoothing: Fraction of the target distribution that is spread over all classes.
        augment: Shifts images by up to a tenth, cuts out a square (DeVries & Taylor 2017), and
            flips them if the data set allows it.
        early_stopping: Stops after this many epochs without a lower validation error and
            restores the best epoch.
        jit_compile: Compiles the training step with XLA. Compiling takes seconds and changes the
            last digits. None compiles networks without convolutions in runs of at least 1,000 steps.
        dtype: What layers compute in: `float32`, or 16 bits with weights of 32 (Micikevicius et al. 2018). With
            `mixed_float16` the loss is scaled. What a run keeps computes in float32.
        devices: Number of devices that share each batch, see `trainers.training.devices`. `all` is replaced by
            the number of GPUs, 1 without any, when a run is planned.

    Raises:
        BadInput: A value is out of range. `BadInput` is a `ValueError`.

    Examples:
        >>> Recipe(epochs=10, learning_rate=3e-4).batch_size
        128
    """

    epochs: int = fields.whole(50, "passes over the training set", maximum=MOST["epochs"])
    batch_size: int = fields.whole(128, "examples per step", maximum=MOST["batch_size"])
    optimizer: str = fields.choice("adam", ", ".join(OPTIMIZERS), OPTIMIZERS)
    learning_rate: float = fields.real(1e-3, "peak learning rate", 0, inf, closed="neither")
    momentum: float = fields.real(0.9, "momentum of sgd and rmsprop", 0, 1)
    schedule: str = fields.choice("cosine", f"learning-rate schedule: {', '.join(SCHEDULES)}", SCHEDULES)
    warmup: float = fields.real(0.05, "fraction of the steps in which the learning rate rises to its peak", 0, 1)
    warmup_start: float | None = fields.real(
        None,
        "learning rate of the first step as a fraction of the peak (default: 1/n for a rise over n steps)",
        0,
        1,
        closed="both",
    )
    weight_decay: float = fields.real(0.0, "decoupled weight decay, not of biases and norms", 0, inf)
    max_norm: float | None = fields.real(
        None, "upper bound on the norm of each hidden unit's incoming weights", 0, inf, closed="neither"
    )
    label_smoothing: float = fields.real(0.0, "fraction of the target spread over all classes", 0, 1)
    augment: bool = fields.field(
        False, "shift images, cut out squares, and flip them if the data set allows it", checks.flag
    )
    early_stopping: int | None = fields.whole(
        None,
        "stop after N epochs without a lower validation error and restore the best epoch",
        maximum=MOST["early_stopping"],
    )
    jit_compile: bool | None = fields.field(
        None,
        "compile the training step with XLA (default: only long runs of networks without convolutions)",
        checks.flag,
    )
    dtype: str = fields.choice("float32", f"what layers compute in: {', '.join(DTYPES)}", DTYPES)
    devices: int = fields.field(
        1, "GPUs that share each batch, or all; without GPUs, parts of the CPU", _devices, metavar="N|all"
    )

    def __post_init__(self):
        fields.check(self)

    def to_json(self) -> dict:
        """Returns a dictionary of all fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict) -> "Recipe":
        """Returns the recipe of `to_json`, perhaps of an earlier version. Raises `BadInput` for an unknown field."""
        known = [f.name for f in dataclasses.fields(cls)]
        for key in data:
            checks.one_of("recipe field", key, known)
        return cls(**{"warmup_start": 0.0, **data})  # version 0.1 had no such field, and rose from 0
