"""Rates that change during training: a schedule is a factor in [0, 1] over the progress of a run.

Imports nothing heavy.
"""

from dataclasses import dataclass
from typing import Any

from zoo.checks import number, one_of, shortest, shown
from zoo.errors import BadInput

# What each schedule does to the rates of a placement.
SCHEDULES = {
    "constant": "the rate throughout",
    "early": "falls linearly from the rate to 0 over the first PART of the run (Liu et al. 2023)",
    "late": "0 over the first PART of the run, then the rate (Liu et al. 2023)",
    "curriculum": "rises from 0 towards the rate, times 1 - exp(-10 progress) (Morerio et al. 2017)",
    "annealed": "falls from the rate towards 0, times exp(-10 progress) (the reverse of curriculum)",
}
PART = 1 / 6  # 50 of 300 epochs in Liu et al. 2023
STEEPNESS = 10  # Morerio et al. 2017, section 3: gamma is 10 over the number of steps
_SMALLEST = 2.0**-126  # of float32: nothing is divided by 0
_WITH_PART = ("early", "late")


@dataclass(frozen=True)
class Schedule:
    """How the rates of a placement change during training.

    Args:
        name: one of

            - `constant`: the rate throughout
            - `early`: falls linearly from the rate to 0 over the first `part` of the run (Liu et al. 2023)
            - `late`: 0 over the first `part` of the run, then the rate (Liu et al. 2023)
            - `curriculum`: the rate times 1 - exp(-10 progress) (Morerio et al. 2017)
            - `annealed`: the rate times exp(-10 progress)
        part: share of the run, in (0, 1], for `early` and `late`.

    Raises:
        BadInput: an unknown name, a part outside (0, 1], or a part with another schedule. `BadInput` is
            a `ValueError`.

    Examples:
        >>> float(Schedule("early", 0.5).factor(0.25))
        0.5
        >>> str(Schedule.parse("late:0.25"))
        'late:0.25'
    """

    name: str = "constant"
    part: float = PART

    def __post_init__(self) -> None:
        one_of("schedule", self.name, SCHEDULES)
        part = float(number(f"part of schedule {self.name!r}", self.part, 0, 1, closed="right"))
        object.__setattr__(self, "part", part)
        if self.part != PART and self.name not in _WITH_PART:
            raise BadInput(
                f"part must be left out for schedule {self.name!r}, got {self.part:g}; only early and late have one"
            )

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Returns the schedule of a text `NAME[:PART]`, the inverse of `str(schedule)`.

        Raises:
            BadInput: a text of another form, or a bad value.
        """
        if not isinstance(text, str):
            raise BadInput(f"schedule must be NAME[:PART], as in early:0.3, got {shown(text)}")
        name, colon, part = text.partition(":")
        try:
            return cls(name, float(part)) if colon else cls(name)
        except ValueError as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"schedule must be NAME[:PART], as in early:0.3, got {text!r}") from None

    @property
    def moves(self) -> bool:
        """Whether the rates change."""
        return self.name != "constant"

    def factor(self, progress: Any, ops: Any = None) -> Any:
        """Returns the factor of the rates at a point of the run.

        Args:
            progress: share of the run that is over, in [0, 1]: a number or an array.
            ops: `keras.ops` for a float32 tensor, with `progress` a float32 tensor; None for NumPy.

        Returns:
            Factors in [0, 1], of the shape of `progress`.
        """
        if ops is None:
            import numpy

            ops, progress = numpy, numpy.asarray(progress, numpy.float32)
        if self.name == "early":
            return ops.maximum(0.0, 1 - progress / max(self.part, _SMALLEST))
        if self.name == "late":
            return ops.where(progress >= self.part, ops.ones_like(progress), ops.zeros_like(progress))
        if self.name == "annealed":
            return ops.exp(-STEEPNESS * progress)
        if self.name == "curriculum":
            return 1 - ops.exp(-STEEPNESS * progress)
        return ops.ones_like(progress)

    def __str__(self) -> str:
        return self.name if self.part == PART else f"{self.name}:{shortest(self.part)}"


CONSTANT = Schedule()
