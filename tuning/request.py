"""What a search was asked to do, as one value: what `search.json` holds, and what a resumed one must share."""

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

from trainers.compare import TUNING_SEED
from trainers.plan import Plan, differences
from tuning.space import Space
from zoo.errors import BadInput

FORMAT = 2  # of the folder and of the journal; those of another cannot be gone on with
TUNERS = ("random", "grid", "bayesian", "hyperband")
TRIALS = 20  # unless --max-trials says otherwise
_MAY_DIFFER = ("max_trials",)
_PACKAGES = ("tensorflow", "keras", "keras-tuner")


@dataclass(frozen=True)
class Request:
    """A search before it is begun. `max_trials` is None for every combination."""

    tuner: str
    space: Space
    base: Plan
    executions: int = 1
    seed: int = 0
    max_trials: int | None = None

    @classmethod
    def make(cls, before=None, tune=None, tuner=None, max_trials=None, executions=None, seed=None, **options):
        """From the options of `python -m tuning search`; what is not given is that of the request `before`.

        Raises `BadInput` for what cannot be, before anything is built.
        """
        if before is None and not {"placement", "drop"} & options.keys():
            options["placement"] = "none"
        base = Plan.make(before and before.base, seed=0, **options)
        same = before is not None and before.base.model == base.model
        if tune is not None:
            space = tune if isinstance(tune, Space) else Space.parse([tune] if isinstance(tune, str) else tune)
        else:
            space = before.space if same else Space.default(base.model)
        tuner = tuner or (before.tuner if before else "random")
        if tuner not in TUNERS:
            raise BadInput(f"received tuner {tuner!r}; allowed: {', '.join(TUNERS)}")
        if max_trials is None:
            max_trials = before.max_trials if before else TRIALS if tuner in ("random", "bayesian") else None
        return cls(
            tuner,
            space.check(base),
            base,
            executions or (before.executions if before else 1),
            seed if seed is not None else before.seed if before else 0,
            max_trials,
        )

    @property
    def limit(self):
        """How many trials there can be; those of Hyperband are counted by its own rounds."""
        if self.tuner == "hyperband":
            return self.max_trials or 10**9
        return min(self.max_trials or self.space.size, self.space.size)

    @property
    def seeds(self):
        """The seeds of a trial's executions: not those over which anything is compared later."""
        first = TUNING_SEED * (1 + self.seed)
        return list(range(first, first + self.executions))

    def to_json(self):
        """A JSON-able dictionary, the inverse of `from_json`, with the versions that matter."""
        return {
            "format": FORMAT,
            "tuner": self.tuner,
            "space": self.space.to_json(),
            "plan": self.base.to_json(),
            "executions": self.executions,
            "seed": self.seed,
            "max_trials": self.max_trials,
            "versions": versions(),
        }

    @classmethod
    def from_json(cls, found):
        """The request in the contents of a `search.json`. Raises `BadInput` if it is damaged."""
        try:
            space, base = Space.from_json(found["space"]), Plan.from_json(found["plan"])
            return cls(found["tuner"], space, base, found["executions"], found["seed"], found["max_trials"])
        except (KeyError, TypeError) as error:
            raise BadInput(f"received a search.json that lacks or misnames {error}; name another --out") from None


def versions():
    """The versions on which a sequence of trials and the bits of a run depend."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def check_same(out, before, now):
    """Refuse to go on in `out` with a request that differs from that which began it; more trials may be asked for."""
    kept, asked = ({k: v for k, v in found.items() if k not in _MAY_DIFFER} for found in (before, now))
    found = differences(asked, kept)
    if before["max_trials"] and now["max_trials"] and now["max_trials"] < before["max_trials"]:
        found.append(f"max_trials: {now['max_trials']}, not {before['max_trials']} or more")
    if found:
        raise BadInput(
            f"received --resume with a search that differs from that of {Path(out)}: {'; '.join(found)}; "
            "leave out what is as before, or name another --out"
        )
