"""Bootstrap intervals over test examples, shared by all measures.

A measure is a function of weights `(resamples, examples)`: how often each example counts. Weights of 1
give the value, multinomial counts a resample. Two measures on the same resamples have a paired difference.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.checks import MOST, integer

Measure = Callable[[np.ndarray], np.ndarray]  # weights (resamples, examples) -> values (resamples,)

RESAMPLES = 500
LEVEL = 0.95
_AT_ONCE = 50  # resamples per call: bounds memory


@dataclass(frozen=True)
class Estimate:
    """A figure and its values on resamples; the difference of two is paired if the resamples are the same.

    Attributes:
        value: the figure on the examples.
        resampled: float64 `(resamples,)`.
    """

    value: float
    resampled: np.ndarray

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.value - other.value, self.resampled - other.resampled)

    def figure(self) -> dict[str, float]:
        """Returns `value` and the limits `low` and `high` of its 95 % percentile interval."""
        low, high = np.quantile(self.resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return {"value": self.value, "low": float(low), "high": float(high)}


class Bootstrap:
    """Resamples of the examples, for percentile intervals (Efron & Tibshirani 1993, section 13.3).

    Args:
        examples: number of examples.
        resamples: number of resamples.
        seed: seed of the resamples.

    Examples:
        >>> values = np.array([0.0, 1.0, 1.0, 0.0])
        >>> Bootstrap(4, seed=1).estimate(mean_of(values)).figure()["value"]
        0.5
    """

    def __init__(self, examples: int, resamples: int = RESAMPLES, seed: int = 0) -> None:
        integer("number of examples", examples)
        integer("resamples", resamples, 1, MOST["resamples"])
        rng = np.random.default_rng(seed)
        self.examples = examples
        self._weights = np.empty((resamples, examples), np.float32)  # counts: exact in float32
        for row in self._weights:
            row[:] = np.bincount(rng.integers(0, examples, examples), minlength=examples)

    def batches(self) -> Iterator[np.ndarray]:
        """Yields the weights of all resamples, some at a time."""
        for i in range(0, len(self._weights), _AT_ONCE):
            yield self._weights[i : i + _AT_ONCE]

    @property
    def ones(self) -> np.ndarray:
        """The weights of the examples themselves, float64 `(1, examples)`."""
        return np.ones((1, self.examples))

    def estimate(self, measure: Measure) -> Estimate:
        """Returns a measure on the examples and on every resample."""
        return estimates(lambda weights: {"value": measure(weights)}, self)["value"]

    def of_sums(self, measures: Mapping[str, "OfSums"]) -> dict[str, Estimate]:
        """Returns measures of weighted sums, all of which are computed by one matrix product."""
        columns = np.concatenate([measure.columns for measure in measures.values()], axis=1)
        sums = columns.sum(axis=0)[None]
        drawn = (self._weights @ columns.astype(np.float32)).astype(np.float64)
        result, start = {}, 0
        for name, measure in measures.items():
            here = slice(start, start := start + measure.columns.shape[1])
            value = float(measure.combine(sums[:, here] / self.examples)[0])
            resampled = measure.combine(drawn[:, here] / self.examples)
            if measure.biased:
                resampled = np.maximum(resampled - (resampled.mean() - value), 0.0)
            result[name] = Estimate(value, resampled)
        return result


def estimates(measures: Callable[..., Mapping[str, np.ndarray]], *draws: Bootstrap) -> dict[str, Estimate]:
    """Returns several measures that are computed together, on the examples and on every resample.

    Args:
        measures: a function of the weights of each of `draws` that returns values `(resamples,)` by name.
        draws: resamples of one or more sets of examples, the same number of each.
    """
    values = measures(*(draw.ones for draw in draws))
    drawn = [measures(*weights) for weights in zip(*(draw.batches() for draw in draws), strict=True)]
    return {
        name: Estimate(float(value[0]), np.concatenate([rows[name] for rows in drawn]).astype(np.float64))
        for name, value in values.items()
    }


def exact(measure: Measure, examples: int) -> float:
    """Returns a measure on the examples themselves, each counted once, in float64."""
    return float(measure(np.ones((1, examples)))[0])


def undefined(reason: str) -> dict[str, Any]:
    """Returns the figure of a measure that has no value here, with the reason."""
    return {"value": None, "low": None, "high": None, "reason": reason}


@dataclass(frozen=True)
class OfSums:
    """A measure that depends on weighted means over the examples alone.

    Attributes:
        columns: what is averaged, float64 `(examples, columns)`.
        combine: a function of means `(resamples, columns)` to values `(resamples,)`.
        biased: whether resampling adds to the measure, which is at least 0. Its resamples are then shifted by the
            estimated bias (Efron & Tibshirani 1993, section 10.2), or the interval would lie above the value.
    """

    columns: np.ndarray
    combine: Callable[[np.ndarray], np.ndarray]
    biased: bool = False

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Returns the measure with weights `(resamples, examples)`."""
        return self.combine(weights @ self.columns.astype(weights.dtype) / weights.sum(axis=1, keepdims=True))


def mean_of(values: np.ndarray) -> OfSums:
    """Returns the measure that averages `values` `(examples,)`.

    Examples:
        >>> exact(mean_of(np.array([1.0, 3.0])), 2)
        2.0
    """
    return OfSums(np.asarray(values, np.float64)[:, None], lambda means: means[:, 0])
