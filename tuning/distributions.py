"""The candidates of a search space as Optuna's distributions. Imports no TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna


def distributions(candidates: Mapping[str, Sequence]) -> dict[str, "optuna.distributions.BaseDistribution"]:
    """Returns the places of the candidates, by name: in order for numbers, without an order for names."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return {
        name: IntDistribution(0, len(values) - 1)
        if all(isinstance(value, int | float) for value in values)
        else CategoricalDistribution(range(len(values)))
        for name, values in candidates.items()
    }
