"""Optuna's samplers behind the interface of keras-tuner's oracles.

A sampler lives in memory. The journal asks and tells it the same again when a search is resumed, and it is seeded,
so that it answers the same.
"""

import warnings
from typing import TYPE_CHECKING, Any

import keras_tuner

from tuning.distributions import distributions

if TYPE_CHECKING:
    import optuna

_STARTING = 10  # random trials before tpe and gp begin to model, as in Optuna


class Sampled(keras_tuner.Oracle):
    """Proposes what a sampler of Optuna proposes, and a random combination in place of one that was tried.

    Args:
        tuner: one of `tuning.request.OPTUNA`.
        **options: those of keras-tuner's oracles.
    """

    def __init__(self, tuner: str, **options: Any):
        super().__init__(**options)
        self._study, self._asked = _study(tuner, self.seed), {}
        self._values = {hp.name: list(hp.values) for hp in self.hyperparameters.space}
        self._places = distributions(self._values)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the next combination, or the status STOPPED once every combination was proposed."""
        trial = self._study.ask(self._places)
        values = {name: self._values[name][trial.params[name]] for name in self._places}
        if self._duplicate(values):
            self._study.tell(trial, state=_failed())
            values = self._random_values()
            if values is None:
                return {"status": "STOPPED", "values": None}
            self._study.enqueue_trial({name: self._values[name].index(value) for name, value in values.items()})
            trial = self._study.ask(self._places)
        self._asked[trial_id] = trial
        return {"status": "RUNNING", "values": values}

    def end_trial(self, trial: Any) -> None:
        """Tells the sampler how a trial ended, too."""
        super().end_trial(trial)
        asked = self._asked.pop(trial.trial_id, None)
        if asked is None:
            return
        ended = self.trials[trial.trial_id]
        if ended.status == "COMPLETED":
            self._study.tell(asked, ended.score)
        else:
            self._study.tell(asked, state=_failed())


def _study(tuner: str, seed: int) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if tuner == "optuna:gp":
            sampler: optuna.samplers.BaseSampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=_STARTING)
        elif tuner == "optuna:cmaes":
            sampler = optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        else:
            # Kinds and rates of one site are chosen together.
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=_STARTING)
    return optuna.create_study(direction="minimize", sampler=sampler)


def _failed():
    import optuna

    return optuna.trial.TrialState.FAIL
