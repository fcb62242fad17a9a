"""keras-tuner's oracles and Optuna's samplers, made so that a search can be repeated and resumed.

An oracle proposes the next combination. Its state is never written. The journal holds the
questions and results, and a new oracle that gets them again reaches the same state. So each
answer must be a function of the seed and of the results before it; keras-tuner's own
seeding nearly achieves that.
"""

import warnings

import keras_tuner
import numpy as np
from keras_tuner import oracles
from sklearn.exceptions import ConvergenceWarning

from tuning.request import OPTUNA
from tuning.space import Space
from zoo.seeds import of_tuner

OBJECTIVE = keras_tuner.Objective("val_error", "min")
_NEVER = 10**9
_COLLISIONS = 1000


def make(tuner: str, space: Space, seed: int, epochs: int) -> keras_tuner.Oracle:
    """Returns an oracle.

    Args:
        tuner: `random`, `grid`, `bayesian`, `hyperband` (Li et al. 2018), or one of `OPTUNA`.
        space: what is tuned.
        seed: seed of its proposals.
        epochs: epochs of a full run, for `hyperband`.
    """
    common = {
        "objective": OBJECTIVE,
        "hyperparameters": hyperparameters(space),
        "allow_new_entries": False,
        "tune_new_entries": False,
        # keras-tuner treats a seed of 0 as no seed.
        "seed": of_tuner(seed) or 1,
        "max_consecutive_failed_trials": _NEVER,
    }
    if tuner == "hyperband":
        oracle = _Hyperband(max_epochs=epochs, **common)
    elif tuner == "bayesian":
        oracle = _Bayesian(max_trials=None, num_initial_points=max(3 * len(space.names), 3), **common)
    elif tuner == "grid":
        oracle = _Grid(**common)
    elif tuner in OPTUNA:
        oracle = _sampled(tuner, common)
    else:
        oracle = _Random(max_trials=None, **common)
    oracle.verbose = 0
    # With its default of 20 draws, a random search can miss the last combinations of a space.
    oracle._max_collisions = _COLLISIONS
    return oracle


def _sampled(tuner, common):
    from tuning.samplers import Sampled  # Optuna is optional

    class Unsaved(_Unsaved, Sampled):
        pass

    return Unsaved(tuner, **common)


def hyperparameters(space: Space, into: keras_tuner.HyperParameters | None = None) -> keras_tuner.HyperParameters:
    """Returns `space` as keras-tuner's `HyperParameters`, added to `into` if that is given."""
    hp = into or keras_tuner.HyperParameters()
    for name, values in space.candidates.items():
        hp.Choice(name, list(values), default=values[0])
    return hp


def rounds(epochs: int) -> list[list[tuple[int, int]]]:
    """Returns the brackets of Hyperband for runs of `epochs` epochs: lists of (trials, epochs of each)."""
    oracle = _Hyperband(max_epochs=epochs, seed=1)
    brackets = range(oracle._get_num_brackets() - 1, -1, -1)
    return [[(oracle._get_size(b, r), oracle._get_epochs(b, r)) for r in range(b + 1)] for b in brackets]


class _Unsaved:
    """Writes no files: the journal holds the state."""

    def save(self):
        pass

    def _save_trial(self, trial):
        pass


class _Random(_Unsaved, oracles.RandomSearchOracle):
    pass


class _Grid(_Unsaved, oracles.GridSearchOracle):
    pass


class _Hyperband(_Unsaved, oracles.HyperbandOracle):
    pass


class _Bayesian(_Unsaved, oracles.BayesianOptimizationOracle):
    """Its draws depend only on the number of trials, and it never proposes a combination twice.

    So an answer that the journal holds (`recalled`) is not computed again, which takes a
    second with a Gaussian process, and does not change later answers. keras-tuner's own
    oracle keeps proposing the optimum that it has found.
    """

    recalled = None

    def populate_space(self, trial_id):
        completed = sum(trial.status == "COMPLETED" for trial in self.trials.values())
        if completed < self.num_initial_points:
            return super().populate_space(trial_id)
        if self.recalled is not None:
            return {"status": "RUNNING", "values": dict(self.recalled)}
        state = self.seed + _COLLISIONS * len(self.trials)
        self._random_state, self._seed_state = np.random.RandomState(state % 2**32), state
        with warnings.catch_warnings():
            # A rate without effect has its length scale at the bound; the warning asks for nothing.
            warnings.simplefilter("ignore", ConvergenceWarning)
            answer = super().populate_space(trial_id)
        return self._random_populate_space() if self._duplicate(answer["values"]) else answer
