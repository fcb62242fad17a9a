"""keras-tuner's oracles, made so that a search can be repeated and resumed.

An oracle says which combination comes next. Its state is never written: the journal holds
what it was asked and told, and a fresh oracle that hears the same answers again stands
where the old one stood. For that each answer has to be a function of the seed and of what
went before, which keras-tuner's own seeding nearly gives.
"""

import warnings

import keras_tuner
import numpy as np
from keras_tuner import oracles
from sklearn.exceptions import ConvergenceWarning

from zoo.seeds import seed_for

OBJECTIVE = keras_tuner.Objective("val_error", "min")
_NEVER = 10**9
_COLLISIONS = 1000


def make(tuner, space, seed, epochs):
    """The oracle `tuner` over `space`; `epochs` are those of a full run, for `hyperband`."""
    common = {
        "objective": OBJECTIVE,
        "hyperparameters": hyperparameters(space),
        "allow_new_entries": False,
        "tune_new_entries": False,
        # keras-tuner takes a seed of 0 for none.
        "seed": seed_for(seed, "tuner") or 1,
        "max_consecutive_failed_trials": _NEVER,
    }
    if tuner == "hyperband":
        oracle = _Hyperband(max_epochs=epochs, **common)
    elif tuner == "bayesian":
        oracle = _Bayesian(max_trials=None, num_initial_points=max(3 * len(space.names), 3), **common)
    elif tuner == "grid":
        oracle = _Grid(**common)
    else:
        oracle = _Random(max_trials=None, **common)
    oracle.verbose = 0
    # Its default, 20 draws, leaves a nearly exhausted space unfinished by chance.
    oracle._max_collisions = _COLLISIONS
    return oracle


def hyperparameters(space, into=None):
    """`space` as keras-tuner's `HyperParameters`, put into `into` if that is given."""
    found = into or keras_tuner.HyperParameters()
    for name, values in space.candidates.items():
        found.Choice(name, list(values), default=values[0])
    return found


def rounds(epochs):
    """The brackets of Hyperband for runs of `epochs`: a list of lists of (trials, epochs of each)."""
    oracle = _Hyperband(objective=OBJECTIVE, max_epochs=epochs, seed=1)
    brackets = range(oracle._get_num_brackets() - 1, -1, -1)
    return [[(oracle._get_size(b, r), oracle._get_epochs(b, r)) for r in range(b + 1)] for b in brackets]


class _Unsaved:
    """Writes no files of its own: the journal is the search's memory."""

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
    """Draws depend on the number of trials alone, and a combination is never proposed twice.

    So an answer that is known (`recalled`) need not be computed again, which takes a
    second for a Gaussian process, and leaves no trace in those that follow. keras-tuner's
    own goes on proposing the optimum that it has found.
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
            # A length scale at its bound is what a rate without effect looks like; nobody can mend it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            answer = super().populate_space(trial_id)
        return self._random_populate_space() if self._duplicate(answer["values"]) else answer
