"""What a search is asked to do, as one value: the contents of `search.json`, which a resumed search must share."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.comparison.compare import TUNING_SEED
from trainers.plan import Plan, differences
from tuning.space import Space
from zoo.checks import MOST, number, one_of
from zoo.errors import BadInput
from zoo.schema import by_name, nullable, real, record, text, whole
from zoo.versions import versions

FORMAT = 2  # of the folder and its journal; a search in another format cannot be resumed
# Optuna's samplers, and what each of them needs.
OPTUNA = {"optuna:tpe": ("optuna",), "optuna:gp": ("optuna", "torch"), "optuna:cmaes": ("optuna", "cmaes")}
TUNERS = ("random", "grid", "bayesian", "hyperband", *OPTUNA)
TRIALS = 20  # the default of --max-trials
LEAST_EXECUTIONS = 3  # of a trial that can be stopped: two to compare, and one to skip
STOP_WORSE = 0.05  # the error rate of `--stop-worse` without a value
PACKAGES = ("tensorflow", "keras", "keras-tuner")  # their versions decide the trials and the bits of a run
_MAY_DIFFER = ("max_trials",)


def check_tuner(tuner: str) -> None:
    """Raises `BadInput` if there is no such tuner, or a package that it needs is not installed.

    Examples:
        >>> check_tuner("grid")
    """
    one_of("tuner", tuner, TUNERS)
    absent = {name: missing(*OPTUNA.get(name, ())) for name in TUNERS}
    if absent[tuner]:
        ready = [name for name in TUNERS if not absent[name]]
        raise BadInput(
            f"tuner must be one of {', '.join(ready)}, which are installed, got {tuner}, which needs "
            f"{' and '.join(absent[tuner])}; pip install {' '.join(absent[tuner])}, or choose another"
        )


def missing(*packages: str) -> list[str]:
    """Returns those of `packages` that are not installed.

    Examples:
        >>> missing("numpy", "no_such_package")
        ['no_such_package']
    """
    return [name for name in packages if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Request:
    """A search before it starts. Build it with `Request.make`.

    `max_trials` None means every combination, `stop_worse` None that no trial is stopped.
    """

    tuner: str
    space: Space
    base: Plan
    executions: int = 1
    seed: int = 0
    max_trials: int | None = None
    stop_worse: float | None = None

    @classmethod
    def make(
        cls,
        before: "Request | None" = None,
        tune: str | Iterable[str] | Space | None = None,
        tuner: str | None = None,
        max_trials: int | None = None,
        executions: int | None = None,
        seed: int | None = None,
        stop_worse: float | None = None,
        **options: Any,
    ) -> "Request":
        """Returns the request for the options of `python -m tuning search`.

        Args:
            before: the request of the search that is resumed; it provides the options that are not given.
            tune: the search space: one or several `--tune` texts, or a `Space`.
            tuner: one of `TUNERS`; `optuna` is `optuna:tpe`.
            max_trials: the largest number of trials.
            executions: runs of each trial.
            seed: seed of the sequence of trials and of their runs.
            stop_worse: error rate of stopping a trial that is clearly worse than the best.
            **options: the options of `Plan.make`.

        Raises:
            BadInput: an option is invalid. Nothing has been built or written.

        Examples:
            >>> Request.make(tune="hidden=0/0.5", tuner="grid").limit
            2
        """
        if before is None and not {"placement", "drop"} & options.keys():
            options["placement"] = "none"
        base = Plan.make(before and before.base, seed=0, **options)
        same_model = before is not None and before.base.model == base.model
        if tune is not None:
            space = tune if isinstance(tune, Space) else Space.parse([tune] if isinstance(tune, str) else tune)
        else:
            space = before.space if before is not None and same_model else Space.default_of(base)
        tuner = tuner or (before.tuner if before else "random")
        tuner = "optuna:tpe" if tuner == "optuna" else tuner
        check_tuner(tuner)
        if max_trials is None:
            max_trials = before.max_trials if before else TRIALS if tuner in ("random", "bayesian", *OPTUNA) else None
        executions = executions or (before.executions if before else 1)
        if stop_worse is None:
            stop_worse = before.stop_worse if before else None
        else:
            _check_stopping(stop_worse, tuner, executions)
        return cls(
            tuner,
            space.check(base),
            base,
            executions,
            seed if seed is not None else before.seed if before else 0,
            max_trials,
            stop_worse,
        )

    @property
    def limit(self) -> int:
        """The largest number of trials. Hyperband without `max_trials` is limited by its own rounds."""
        if self.tuner == "hyperband":
            return self.max_trials or 10**9
        return min(self.max_trials or self.space.size, self.space.size)

    @property
    def seeds(self) -> list[int]:
        """The seeds of a trial's executions. They are never the seeds of a later comparison."""
        first = TUNING_SEED * (1 + self.seed)
        return list(range(first, first + self.executions))

    def to_json(self) -> dict:
        """Returns a JSON-able dictionary, the inverse of `from_json`, with the versions that matter."""
        return {
            "format": FORMAT,
            "tuner": self.tuner,
            "space": self.space.to_json(),
            "plan": self.base.to_json(),
            "executions": self.executions,
            "seed": self.seed,
            "max_trials": self.max_trials,
            **({} if self.stop_worse is None else {"stop_worse": self.stop_worse}),
            "versions": versions(PACKAGES),
        }

    @classmethod
    def from_json(cls, data: dict) -> "Request":
        """Returns the request in the contents of a `search.json`.

        Raises:
            BadInput: a key is missing or misspelt.
        """
        SCHEMA("", data)
        space, base = Space.from_json(data["space"]), Plan.from_json(data["plan"])
        counts = data["executions"], data["seed"], data["max_trials"], data.get("stop_worse")
        return cls(data["tuner"], space, base, *counts)


def _check_stopping(stop_worse, tuner, executions):
    number("stop_worse", stop_worse, 0, 1, closed="neither")
    if tuner == "hyperband":
        raise BadInput(
            f"stop_worse must be left out with the tuner hyperband, which stops trials itself, got {stop_worse:g}; "
            "choose another tuner, or leave it out"
        )
    if executions < LEAST_EXECUTIONS:
        raise BadInput(
            f"executions must be an integer >= {LEAST_EXECUTIONS} with stop_worse, got {executions}; choose 5, or "
            "leave out stop_worse"
        )


SCHEMA = record(
    {
        "format": whole(),
        "tuner": text,
        "space": lambda name, value: Space.from_json(record({})(name, value)),
        "plan": lambda name, value: Plan.from_json(record({})(name, value)),
        "executions": whole(1, MOST["executions"]),
        "seed": whole(0, MOST["seed"]),
        "max_trials": nullable(whole(1, MOST["trials"])),
        "versions": by_name(text),
    },
    {"stop_worse": nullable(real(0, 1, "neither"))},
)


def check_same(before: dict, now: dict, out: str | Path | None) -> None:
    """Checks that the request `now` resumes the search `before` in the folder `out`; more trials are allowed.

    Raises:
        BadInput: the requests differ; the message lists the differences.
    """
    if "plan" in before:  # an earlier version did not know all options
        before = {**before, "plan": Plan.from_json(before["plan"]).to_json()}
    kept, asked = ({k: v for k, v in request.items() if k not in _MAY_DIFFER} for request in (before, now))
    changes = differences(asked, kept)
    if before["max_trials"] and now["max_trials"] and now["max_trials"] < before["max_trials"]:
        changes.append(f"max_trials: {now['max_trials']}, not {before['max_trials']} or more")
    if changes:
        raise BadInput(
            f"options must be those of the search in {out} to resume it, got {'; '.join(changes)}; "
            "leave out the options that have not changed, or name another --out"
        )
