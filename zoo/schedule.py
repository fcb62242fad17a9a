"""Rates that move while training: a schedule is a factor in [0, 1] over the progress of a run.

Nothing heavy is imported here, so that a command line can refuse a bad schedule before
TensorFlow starts.
"""

from dataclasses import dataclass
from numbers import Real

from zoo.drop import member
from zoo.errors import BadInput

# What each schedule does to the rate that a placement states.
SCHEDULES = {
    "constant": "the rate as it is stated",
    "early": "linear from the rate to 0 over the first PART of the run, then none (Liu et al. 2023)",
    "late": "none over the first PART of the run, then the rate (Liu et al. 2023)",
    "curriculum": "none at first, then rising towards the rate: 1 - exp(-10 progress) of it (Morerio et al. 2017)",
    "annealed": "the rate at first, then falling towards none: exp(-10 progress) of it (the reverse of curriculum)",
}
PART = 1 / 6  # 50 of 300 epochs in Liu et al. 2023
STEEPNESS = 10  # Morerio et al. 2017, section 3: gamma is 10 over the number of steps
_IN_PARTS = ("early", "late")


@dataclass(frozen=True)
class Schedule:
    """How the rates of a placement move. `part` is the share of the run that `early` and `late` speak of.

    Raises `BadInput` (a ValueError) for an unknown name, and for a part outside (0, 1] or
    with a schedule that has none.

    >>> float(Schedule("early", 0.5).factor(0.25))
    0.5
    >>> str(Schedule.parse("late:0.25"))
    'late:0.25'
    """

    name: str = "constant"
    part: float = PART

    def __post_init__(self):
        member("schedule", self.name, SCHEDULES)
        if isinstance(self.part, bool) or not isinstance(self.part, Real) or not 0 < self.part <= 1:
            raise BadInput(f"received {self.part!r} as the part of schedule {self.name!r}; it is a share in (0, 1]")
        if self.part != PART and self.name not in _IN_PARTS:
            raise BadInput(f"received the part {self.part:g} with schedule {self.name!r}; only early and late have one")

    @classmethod
    def parse(cls, text):
        """From `NAME[:PART]`."""
        name, colon, part = str(text).partition(":")
        try:
            return cls(name, float(part)) if colon else cls(name)
        except ValueError as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(f"received schedule {text!r}; it is NAME[:PART], as in early:0.3") from None

    @property
    def moves(self):
        """Whether rates change at all."""
        return self.name != "constant"

    def factor(self, progress):
        """What the rate is multiplied by at `progress`, numbers in [0, 1]: a float32 tensor of their shape."""
        from keras import ops

        progress = ops.convert_to_tensor(progress, "float32")
        if self.name == "early":
            return ops.maximum(0.0, 1 - progress / self.part)
        if self.name == "late":
            return ops.cast(progress >= self.part, "float32")
        if self.name == "annealed":
            return ops.exp(-STEEPNESS * progress)
        if self.name == "curriculum":
            return 1 - ops.exp(-STEEPNESS * progress)
        return ops.ones_like(progress)

    def __str__(self):
        return self.name if self.part == PART else f"{self.name}:{self.part:g}"


CONSTANT = Schedule()
