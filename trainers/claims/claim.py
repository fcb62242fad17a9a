"""A claim as data: its sentence, its source, its experiment and the rule for its verdict."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainers import networks
from trainers.claims.rules import Contrast, Rule, members, spelled
from trainers.plan import Plan
from zoo.placement.placement import Placement

QUICK = {"seeds": 2, "epochs": 1, "train_size": 300}  # of `--quick`: whether it runs, not what it shows


@dataclass(frozen=True)
class Experiment:
    """Arms that are trained with the same seeds. Several claims may read one experiment.

    Args:
        name: The folder of its rows; the id of the claim that it was made for.
        arms: By name, the options of `Plan.make` that are the arm's own.
        common: The options of `Plan.make` that all arms share.
        seeds: Runs of each arm, with the seeds 0, 1, 2, ...
        tune: Recipe fields and their candidates, chosen for each arm by validation error on other seeds.
        curves: Whether to measure the test part after each epoch, for a picture of bands.
        measures: What is measured on the trained networks besides error and loss, and of which arms (all if empty).
        seconds: About how long it takes with one thread.
    """

    name: str
    arms: Mapping[str, Mapping[str, Any]]
    common: Mapping[str, Any]
    seeds: int = 10
    tune: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    curves: bool = False
    measures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: int = 0

    def plans(self, quick: bool = False, **where: Any) -> dict[tuple[str, str], Plan]:
        """Returns the plan of each arm by (model, arm).

        Args:
            quick: Whether they are too small to show anything.
            **where: `data_dir` and `download`; a network that is not one of the four is built for the data.
        """
        plans = {}
        for name, own in self.arms.items():
            options = {**self.common, **own}
            if ":" in options["model"]:
                data = {key: options[key] for key in ("dataset", "train_size")}
                options["model"] = networks.whose(options["model"], data, {}, where)
                options["placement"] = "own"
            else:
                options["placement"] = Placement.parse(options.get("placement") or [])
            if quick:
                options["epochs"] = min(options.get("epochs", QUICK["epochs"]), QUICK["epochs"])
                options["train_size"] = min(options.get("train_size", QUICK["train_size"]), QUICK["train_size"])
            plan = Plan.make(**options)
            plans[plan.label, name] = plan
        return plans

    def measures_of(self, arm: str) -> tuple[str, ...]:
        """Returns the names of what is measured on the networks of an arm."""
        return tuple(name for name, arms in self.measures.items() if not arms or arm in arms)

    def hash(self) -> str:
        """Returns a hash of everything that decides its numbers."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "seconds"}
        return _hash(fields)


@dataclass(frozen=True)
class Claim:
    """A claim about dropout.

    Args:
        number: Its place in the list.
        id: Its name on the command line and in paths.
        sentence: What is claimed.
        source: Who claims it.
        rule: What decides the verdict.
        experiment: What is run; None for a claim that is computed exactly.
        exact: The name of the computation of an exact claim, in `trainers.claims.exact`.
        note: What differs from the source.
        needs: What is missing here to run it; None if nothing is.
        also: What is reported beside the rule, without a say in the verdict.
    """

    number: str
    id: str
    sentence: str
    source: str
    rule: Rule
    experiment: Experiment | None = None
    exact: str | None = None
    note: str = ""
    needs: str | None = None
    also: tuple[Contrast, ...] = ()

    @property
    def seconds(self) -> int:
        """About how long its experiment takes."""
        return self.experiment.seconds if self.experiment else 30

    def hash(self) -> str:
        """Returns the hash of the rule: of the sentence, the experiment and what decides the verdict."""
        experiment = self.experiment.hash() if self.experiment else self.exact
        return _hash({"sentence": self.sentence, "experiment": experiment, "rule": spelled(self.rule)})

    def arms(self) -> tuple[str, ...]:
        """Returns the names of the arms that its rule reads."""
        return tuple(dict.fromkeys(arm for part in members(self.rule) for arm in part.arms()))


def _hash(value):
    text = json.dumps(value, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
