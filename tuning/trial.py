"""One trial of a search: a combination, where it stands, and what came of it."""

import re
from dataclasses import dataclass, field
from statistics import fmean

CONTROL = "control"
FIGURES = ("val_error", "val_loss", "val_error_best", "val_error_last", "epochs", "seconds")


@dataclass
class Trial:
    """A combination of `values`; `key` tells it apart from others.

    `until`: the epoch at which it pauses, or None for a full run; `after`: the trial
    whose runs it goes on with. `asked`: the oracle's trials that it answers.
    `executions`: number -> figures, one run each.
    """

    id: str
    values: dict
    key: tuple
    until: int | None = None
    after: str | None = None
    status: str = "RUNNING"
    message: str = ""
    worker: str | None = None
    attempts: int = 0
    seen: float = 0.0
    asked: list = field(default_factory=list)
    executions: dict = field(default_factory=dict)

    def mean(self, figure):
        """The mean of a figure over the executions."""
        return fmean(row[figure] for row in self.executions.values())

    @property
    def score(self):
        """What trials are ranked by: validation error (per cent), then validation loss (nats)."""
        return self.mean("val_error"), self.mean("val_loss")

    @property
    def cause(self):
        """The message of a failure without its numbers: that of equal failures is equal."""
        return re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?|\b(nan|inf)\b", "#", self.message)


def rounded(value):
    """A figure to seven digits, what is left of it after keras-tuner's service: the same by whatever way it came."""
    return float(f"{float(value):.7g}")
