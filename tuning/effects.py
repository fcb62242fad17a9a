"""The main effects of what a search tuned, fitted by least squares: each separate from the others.

The tuner changes all values at once, so the mean error at one rate mixes the effect of that
rate with those of the other values that happened to be tried with it. An additive model of
the validation error separates them. It ignores interactions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from tuning.space import Space

if TYPE_CHECKING:
    from tuning.study import Trial

LEVEL = 0.95
# Rates enter as categories if there are enough runs, otherwise as a polynomial; None: no model, plain means.
FORMS = ("levels", "quadratic", "linear", None)
_DEGREES = {"quadratic": 2, "linear": 1}
_EXECUTION, _EPOCHS = "execution number", "epochs of a stopped run"
_LEAST_FREEDOM = 3  # degrees of freedom; with fewer, intervals say nothing


@dataclass(frozen=True)
class Effect:
    """The effect of one hyperparameter on the validation error, in per cent.

    Attributes:
        levels: the values that were tried, in the order of the space.
        means: the fitted error at each level, averaged over what the runs have elsewhere.
        halves: half the width of the 95 % interval of each mean; None without a model.
        places: for each run that the effect applies to, the index of its level.
        errors: the errors of those runs, with the effects of the other hyperparameters removed.
        partial: whether each of those runs was stopped before its last epoch.
        stopped: whether each of those runs is of a trial that was stopped as clearly worse than the best.
    """

    levels: tuple
    means: np.ndarray
    halves: np.ndarray | None
    places: np.ndarray
    errors: np.ndarray
    partial: np.ndarray
    stopped: np.ndarray


@dataclass(frozen=True)
class Effects:
    """The effects of all hyperparameters.

    Attributes:
        form: how the rates enter the model, one of `FORMS`.
        adjusted: whether effects of something else were removed from the errors.
        by_name: the effects by hyperparameter.
        full_length: trial id -> its mean error, with the effect of stopping early removed if
            there is a model.
    """

    form: str | None
    adjusted: bool
    by_name: Mapping[str, Effect]
    full_length: Mapping[str, float]


def fit(trials: "Sequence[Trial]", space: Space) -> Effects:
    """Returns the main effects of every hyperparameter of which at least one value was tried.

    The number of the execution enters the model too, because executions of one number share
    their seed, and so does the number of epochs of runs that were stopped early.

    Args:
        trials: the completed trials, full and partial, and those stopped as clearly worse.
        space: what was tuned.
    """
    runs = [
        {
            **trial.values,
            _EXECUTION: number,
            _EPOCHS: trial.until,
            "trial": trial.id,
            "stopped": trial.status == "STOPPED",
            "error": row["val_error"],
        }
        for trial in trials
        for number, row in trial.executions.items()
    ]
    y = np.array([run["error"] for run in runs])
    tried = {name: tuple(c for c in levels if any(run[name] == c for run in runs))
             for name, levels in space.candidates.items()}  # fmt: skip
    others = {_EXECUTION: sorted({run[_EXECUTION] for run in runs})}
    others[_EPOCHS] = [None, *sorted({run[_EPOCHS] for run in runs} - {None})]
    for form in FORMS:
        design = _Design({**tried, **others}, form)
        x = np.array([design.row(run) for run in runs])
        freedom = len(y) - x.shape[1]
        if form is None or (freedom >= _LEAST_FREEDOM and np.linalg.matrix_rank(x) == x.shape[1]):
            break
    model = _Model(x, y, freedom) if form else None
    by_name = {name: _effect(name, levels, runs, y, design, model) for name, levels in tried.items()}
    varied = sum(len(levels) > 1 for levels in (*tried.values(), *others.values()))
    return Effects(form, varied > 1 and form is not None, by_name, _full_length(runs, design, model))


class _Design:
    """The columns of the additive model; the first level of a category is its reference."""

    def __init__(self, levels, form):
        self._levels, self._form = levels, form

    def row(self, run):
        """The row of a run."""
        return [1.0, *(column for name, levels in self._levels.items() for column in self._columns(name, levels, run))]

    def _columns(self, name, levels, run):
        if name.startswith("rate_") and self._form in _DEGREES:
            degree = min(_DEGREES[self._form], len(levels) - 1)
            return [run[name] ** power for power in range(1, degree + 1)]
        return [float(applies(name, run) and run[name] == level) for level in levels[1:]]


class _Model:
    """Least squares, and the covariance of its coefficients."""

    def __init__(self, x, y, freedom):
        self.coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
        self.residuals = y - x @ self.coefficients
        variance = self.residuals @ self.residuals / freedom
        self._covariance = variance * np.linalg.inv(x.T @ x)
        self._quantile = stats.t.ppf((1 + LEVEL) / 2, freedom)

    def half(self, row):
        """Half the width of the interval of the mean at a row of the design."""
        return self._quantile * np.sqrt(row @ self._covariance @ row)


def applies(name: str, values: Mapping) -> bool:
    """Returns whether a hyperparameter matters in a run: kind and scaling do not if nothing is dropped."""
    if name.startswith("kind_"):
        return values[f"rate_{name.removeprefix('kind_')}"] > 0
    if name == "scaling":
        return any(value > 0 for key, value in values.items() if key.startswith("rate_"))
    return True


def _effect(name, levels, runs, y, design, model):
    chosen = [i for i, run in enumerate(runs) if applies(name, run)]
    levels = tuple(level for level in levels if any(runs[i][name] == level for i in chosen))
    places = np.array([levels.index(runs[i][name]) for i in chosen], int)
    partial = np.array([runs[i][_EPOCHS] is not None for i in chosen], bool)
    stopped = np.array([runs[i]["stopped"] for i in chosen], bool)
    if model is None:
        means = np.array([y[chosen][places == place].mean() for place in range(len(levels))])
        return Effect(levels, means, None, places, y[chosen], partial, stopped)
    # The prediction at a level, averaged over the runs as they are elsewhere, at full length.
    rows = [np.mean([design.row({**runs[i], name: level, _EPOCHS: None}) for i in chosen], axis=0) for level in levels]
    means = np.array([row @ model.coefficients for row in rows])
    halves = np.array([model.half(row) for row in rows])
    errors = means[places] + model.residuals[chosen]
    return Effect(levels, means, halves, places, errors, partial, stopped)


def _full_length(runs, design, model):
    errors = {}
    for i, run in enumerate(runs):
        error = run["error"]
        if run[_EPOCHS] is not None and model is not None:
            error = design.row({**run, _EPOCHS: None}) @ model.coefficients + model.residuals[i]
        errors.setdefault(run["trial"], []).append(error)
    return {trial: float(np.mean(values)) for trial, values in errors.items()}
