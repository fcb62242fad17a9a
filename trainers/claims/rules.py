"""The rules for a verdict. Each is data, so that it can be fixed, hashed and printed before an experiment runs.

A contrast is a weighted sum of measured values of the arms, computed for each seed. It holds if the
interval of its mean lies on the claimed side of its limit. Otherwise it fails if the interval excludes every
effect of the claimed kind that is at least `least`, and else it is open. A verdict is `reproduced`, `refuted`
or `undecided` in the same sense.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from trainers.comparison import paired

REPRODUCED, REFUTED, UNDECIDED = "reproduced", "refuted", "undecided"
ENOUGH = 5  # seeds, below which there is no verdict
LEVEL = paired.LEVEL


@dataclass
class Results:
    """What an experiment measured.

    Attributes:
        rows: By arm and seed, the measured values by name.
        wrong: By arm and seed, whether each test example was misclassified; empty if it was not kept.
    """

    rows: Mapping[str, Mapping[int, Mapping[str, Any]]]
    wrong: Mapping[str, Mapping[int, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What one part of a rule came to; all values in the unit of the measure.

    `low` and `high` are the interval over seeds; with `crossed`, over seeds and test examples. `needed` seeds
    detect a difference of `effect`.
    """

    label: str
    verdict: str
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    crossed: bool = False
    p: float | None = None
    p_holm: float | None = None
    better: float | None = None
    detectable: float | None = None
    needed: int | None = None
    effect: float | None = None
    least: float = 0.0
    unit: str = ""
    why: str = ""
    limit: float = 0.0
    claimed: str = "below"


@dataclass(frozen=True)
class Contrast:
    """A weighted sum over arms, on one side of a limit.

    Args:
        label: What it is, in words.
        weights: The weight of each arm, of `arm:measure`, or of `arm|arm`: of these arms the one with the lowest
            mean validation error.
        claimed: `below` the limit, `above` it, or `zero`: within `least` of it.
        least: The smallest effect that counts. An interval that excludes it, but not zero on the claimed side,
            refutes the claim. Negative: the claim fails only if the interval is so far on the other side.
        limit: What the sum is compared with.
        measure: The measured value, unless a weight names its own.
        log: Takes logarithms, so that a difference is a ratio.
    """

    label: str
    weights: Mapping[str, float]
    claimed: str = "below"
    least: float = 0.0
    measure: str = "test_error"
    log: bool = False
    limit: float = 0.0

    def arms(self) -> list[str]:
        """Returns the arms that it reads."""
        return [arm for key in self.weights for arm in key.partition(":")[0].split("|")]

    def text(self) -> str:
        """Returns the contrast as a sentence."""
        terms = " ".join(_signed(weight) + self._term(key) for key, weight in self.weights.items()).removeprefix("+ ")
        unit, limit = unit_of(self), f"{self.limit:.3g}"
        if self.claimed == "zero":
            return (
                f"{self.label}: holds if the interval of {terms} lies within {self.least:g}{unit} of {limit}, fails if "
                "all of it lies beyond"
            )
        side, sign = ("above", -1) if self.claimed == "below" else ("below", 1)
        end = f"{self.limit + sign * self.least:.3g}"
        return (
            f"{self.label}: holds if the interval of {terms} lies {self.claimed} {limit}{unit}, else fails if all of "
            f"it lies {side} {end}"
        )

    def _term(self, key):
        arm, _, measure = key.partition(":")
        name = f"the best on validation of ({', '.join(arm.split('|'))})" if "|" in arm else arm
        return f"{'log ' if self.log else ''}{measure or self.measure} of {name}"

    def find(self, results: Results, comparisons: int = 1) -> Finding:
        """Returns what the results say; what could be detected is for the first step of Holm's correction."""
        chosen = {key: self._chosen(key, results) for key in self.weights}
        seeds = _common(results.rows, chosen.values())
        values = np.array([self._value(results, chosen, seed) for seed in seeds], float)
        finite = np.isfinite(values)
        seeds, values = [seed for seed, ok in zip(seeds, finite, strict=True) if ok], values[finite]
        n, unit = len(values), unit_of(self)
        if n < ENOUGH:
            value = float(values.mean()) if n else None
            why = f"{n} seeds, fewer than {ENOUGH}"
            value = None if value is None else value + self.limit
            return Finding(
                self.label,
                UNDECIDED,
                n,
                value,
                least=self.least,
                unit=unit,
                why=why,
                limit=self.limit,
                claimed=self.claimed,
            )
        zero, mean = np.zeros(n), float(values.mean()) + self.limit
        better, _, _ = paired.probability_better(zero, values)
        low, high = paired.t_interval(zero, values)
        if low is None:  # no spread at all: an exact value
            low = high = float(values.mean())
            p = None
        else:
            p = paired.t_test(zero, values)
        differences = self._differences(results, chosen, seeds)
        crossed = differences is not None and bool(np.ptp(differences))
        if crossed:
            low, high, p = paired.crossed_interval(differences)
        half = (high - low) / 2
        sd = half / float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * math.sqrt(n)
        level = 1 - (1 - LEVEL) / comparisons
        smallest = paired.detectable(zero, values / values.std(ddof=1) * sd, level) if sd and np.ptp(values) else None
        spread = paired.crossed_spread(differences) if crossed else sd
        effect = self.distance(mean)
        needed = paired.pairs_needed(effect, spread, level) if sd else None
        verdict = self._verdict(low, high)
        low, high = low + self.limit, high + self.limit
        return Finding(
            self.label,
            verdict,
            n,
            mean,
            low,
            high,
            crossed,
            p,
            p,
            better,
            smallest,
            needed,
            effect,
            self.least,
            unit,
            limit=self.limit,
            claimed=self.claimed,
        )

    def distance(self, mean: float) -> float:
        """Returns the difference that has to be found for a verdict, if the true value is `mean`."""
        off = abs(mean - self.limit)
        return abs(self.least - off) if self.claimed == "zero" else max(off, self.least)

    def _verdict(self, low, high):
        if self.claimed == "zero":
            if -self.least <= low and high <= self.least:
                return REPRODUCED
            return REFUTED if low > self.least or high < -self.least else UNDECIDED
        sign = 1 if self.claimed == "above" else -1
        near, far = (low, high) if sign > 0 else (-high, -low)
        if near > 0:
            return REPRODUCED
        return REFUTED if far < self.least or (not self.least and far <= 0) else UNDECIDED

    def _chosen(self, key, results):
        """The arm of a weight; of several the one with the lowest mean validation error."""
        arms = [arm for arm in key.partition(":")[0].split("|") if results.rows.get(arm)]
        if not arms:
            return None
        if len(arms) == 1:
            return arms[0]
        means = {arm: np.mean([row["val_error"] for row in results.rows[arm].values()]) for arm in arms}
        return min(means, key=means.get)

    def _value(self, results, chosen, seed):
        total = -self.limit
        for key, weight in self.weights.items():
            value = results.rows[chosen[key]][seed].get(key.partition(":")[2] or self.measure)
            if value is None or (self.log and value <= 0):
                return math.nan
            total += weight * (math.log(value) if self.log else value)
        return total

    def _differences(self, results, chosen, seeds):
        """The differences `(seeds, test examples)` of errors whose examples are known, None for other measures."""
        plain = self.measure == "test_error" and not self.log and not any(":" in key for key in self.weights)
        known = plain and all(seed in results.wrong.get(arm, {}) for arm in chosen.values() for seed in seeds)
        if not known:
            return None
        differences = sum(
            weight * np.stack([100.0 * results.wrong[chosen[key]][seed] for seed in seeds])
            for key, weight in self.weights.items()
        )
        return differences - self.limit


def _signed(weight):
    size = "" if abs(weight) == 1 else f"{abs(weight):g} x "
    return f"{'-' if weight < 0 else '+'} {size}"


def _common(rows, arms):
    """The seeds that all arms have, in order; none if an arm is missing."""
    each = [set(rows.get(arm, {})) for arm in arms]
    return sorted(set.intersection(*each)) if each else []


@dataclass(frozen=True)
class Spread:
    """Whether an arm varies less over the seeds than another: the test of Pitman and Morgan.

    Args:
        label: What it is, in words.
        a: The arm that is said to vary more.
        b: The arm that is said to vary less.
        measure: The measured value.
    """

    label: str
    a: str
    b: str
    measure: str = "test_error"

    def arms(self) -> list[str]:
        """Returns the arms that it reads."""
        return [self.a, self.b]

    def text(self) -> str:
        """Returns the rule as a sentence."""
        return (
            f"{self.label}: holds if the variance of {self.measure} over seeds is significantly smaller in {self.b} "
            f"than in {self.a} (Pitman-Morgan test), fails if it is significantly larger"
        )

    def find(self, results: Results, comparisons: int = 1) -> Finding:
        """Returns what the results say; the value is the logarithm of the ratio of the standard deviations."""
        seeds = sorted(set(results.rows.get(self.a, {})) & set(results.rows.get(self.b, {})))
        a, b = ([results.rows[arm][seed].get(self.measure) for seed in seeds] for arm in (self.a, self.b))
        kept = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
        n = len(kept)
        if n < ENOUGH:
            return Finding(self.label, UNDECIDED, n, why=f"{n} seeds, fewer than {ENOUGH}")
        a, b = (np.array(column, float) for column in zip(*kept, strict=True))
        ratio, p = paired.pitman_morgan(a, b)
        if not ratio or p is None:
            return Finding(self.label, UNDECIDED, n, why="an arm does not vary")
        value, (low, high) = 0.5 * math.log(ratio), _ratio_interval(a, b)
        verdict = UNDECIDED if p >= 1 - LEVEL else REPRODUCED if value < 0 else REFUTED
        smallest, needed = _detectable_ratio(a, b, value, 1 - (1 - LEVEL) / comparisons)
        return Finding(
            self.label,
            verdict,
            n,
            value,
            low,
            high,
            p=p,
            p_holm=p,
            detectable=smallest,
            needed=needed,
            effect=abs(value),
            unit=" log ratio",
        )


def _ratio_interval(a, b):
    """The interval of log(sd(b) / sd(a)) that the test of Pitman and Morgan inverts to (Morgan 1939)."""
    n, r = len(a), float(np.corrcoef(a, b)[0, 1])
    ratio = float(b.std(ddof=1) / a.std(ddof=1))
    t = float(stats.t.ppf((1 + LEVEL) / 2, n - 2))
    k = 1 + 2 * (1 - r * r) * t * t / (n - 2)
    wide = math.log(k + math.sqrt(k * k - 1)) / 2
    return math.log(ratio) - wide, math.log(ratio) + wide


def _detectable_ratio(a, b, value, level):
    """The smallest log ratio of spreads that so many pairs find with 80 % power, and the pairs that `value` needs.

    The error of the log ratio is about sqrt((1 - r^2) / (n - 2)), of which the interval above is the exact form.
    """
    n, r = len(a), float(np.corrcoef(a, b)[0, 1])
    times = float(stats.t.ppf((1 + level) / 2, n - 2) + stats.t.ppf(paired.POWER, n - 2))
    normal = float(stats.norm.ppf((1 + level) / 2) + stats.norm.ppf(paired.POWER))
    needed = math.ceil(2 + (1 - r * r) * (normal / value) ** 2) if value else None
    return times * math.sqrt((1 - r * r) / (n - 2)), needed if needed and needed <= 100_000 else None


@dataclass(frozen=True)
class Disagreement:
    """Whether two runs of an arm disagree on fewer test examples than two runs of another.

    A pair of seeds disagrees on an example that one of them gets right and the other wrong. The interval
    is that of the jackknife over seeds, with Student's t.

    Args:
        label: What it is, in words.
        a: The arm that is said to vary more.
        b: The arm that is said to vary less.
    """

    label: str
    a: str
    b: str

    def arms(self) -> list[str]:
        """Returns the arms that it reads."""
        return [self.a, self.b]

    def text(self) -> str:
        """Returns the rule as a sentence."""
        return (
            f"{self.label}: holds if two seeds disagree on fewer test examples in {self.b} than in {self.a}, that is, "
            "if the jackknife interval of the difference in per cent lies below 0; fails if all of it lies above 0"
        )

    def find(self, results: Results, comparisons: int = 1) -> Finding:
        """Returns what the results say."""
        seeds = sorted(set(results.wrong.get(self.a, {})) & set(results.wrong.get(self.b, {})))
        n = len(seeds)
        if n < ENOUGH:
            return Finding(self.label, UNDECIDED, n, unit=" points", why=f"{n} seeds, fewer than {ENOUGH}")
        a, b = (np.stack([results.wrong[arm][seed] for seed in seeds]) for arm in (self.a, self.b))
        value, low, high, p = jackknife(lambda kept: _disagreement(b[kept]) - _disagreement(a[kept]), n)
        verdict = REPRODUCED if high < 0 else REFUTED if low > 0 else UNDECIDED
        return Finding(self.label, verdict, n, value, low, high, p=p, p_holm=p, unit=" points")


def _disagreement(wrong):
    """The share of test examples on which two seeds disagree, a mean over the pairs, in per cent."""
    n, count = len(wrong), wrong.sum(axis=0)
    return 100.0 * float((count * (n - count)).mean()) / (n * (n - 1) / 2)


def jackknife(statistic: Any, n: int) -> tuple[float, float, float, float]:
    """Returns a statistic of n seeds, the ends of its jackknife interval (Tukey 1958), and the p value of 0.

    Examples:
        >>> values = np.arange(10.0)
        >>> mean, low, high, p = jackknife(lambda kept: float(values[kept].mean()), 10)
        >>> round(mean, 2), round(low, 2), round(high, 2)
        (4.5, 2.33, 6.67)
    """
    every = np.arange(n)
    value = statistic(every)
    pseudo = np.array([n * value - (n - 1) * statistic(np.delete(every, i)) for i in every])
    error = float(pseudo.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    p = 2 * float(stats.t.sf(abs(value) / error, n - 1)) if error else math.nan
    return value, value - half, value + half, p


@dataclass(frozen=True)
class Near:
    """Whether an exactly computed number is what theory says.

    Args:
        label: What it is, in words.
        measure: The name of the number.
        target: What theory says.
        within: The largest distance that counts as equal.
    """

    label: str
    measure: str
    target: float
    within: float

    def arms(self) -> list[str]:
        """Returns no arm."""
        return []

    def text(self) -> str:
        """Returns the rule as a sentence."""
        within = f"within {self.within:g} of" if self.within else "equal to"
        return f"{self.label}: holds if {self.measure} is {within} {self.target:g}, fails otherwise"

    def find(self, results: Results, comparisons: int = 1) -> Finding:
        """Returns what the results say."""
        value = results.rows["exact"][0].get(self.measure)
        if value is None:
            return Finding(self.label, UNDECIDED, 0, why="it was not computed")
        verdict = REPRODUCED if abs(value - self.target) <= self.within else REFUTED
        return Finding(
            self.label, verdict, 1, value, value, value, least=self.within, limit=self.target, claimed="zero"
        )


@dataclass(frozen=True)
class Every:
    """Holds if every part holds; fails if any part fails."""

    parts: tuple[Any, ...]

    def text(self) -> str:
        """Returns the rule as a sentence."""
        return "Reproduced if every part holds, refuted if any fails, else undecided."

    def judge(self, results: Results) -> tuple[str, list[Finding]]:
        """Returns the verdict, and what each part came to."""
        findings, verdicts = [], set()
        for part in self.parts:
            if isinstance(part, AtLeast):
                verdict, inner = part.judge(results)
                findings += inner
            else:
                findings.append(part.find(results))
                verdict = findings[-1].verdict
            verdicts.add(verdict)
        if REFUTED in verdicts:
            return REFUTED, findings
        return (REPRODUCED if verdicts == {REPRODUCED} else UNDECIDED), findings


@dataclass(frozen=True)
class AtLeast:
    """Holds if at least `count` parts hold after Holm's correction; fails once so many can no longer hold."""

    count: int
    parts: tuple[Any, ...]

    def text(self) -> str:
        """Returns the rule as a sentence."""
        k, n = self.count, len(self.parts)
        return (
            f"Reproduced if at least {k} of the {n} parts hold with Holm's correction for {n} comparisons, refuted if "
            f"more than {n - k} fail, else undecided."
        )

    def as_part(self) -> str:
        """Returns the rule as a sentence where it is one part of another; its own parts follow."""
        k, n = self.count, len(self.parts)
        return (
            f"The next {n} are one part: holds if at least {k} of them {'hold' if k > 1 else 'holds'} with Holm's "
            f"correction for {n} comparisons, fails if more than {n - k} fail."
        )

    def judge(self, results: Results) -> tuple[str, list[Finding]]:
        """Returns the verdict, and what each part came to."""
        findings = [part.find(results, len(self.parts)) for part in self.parts]
        corrected = paired.holm([finding.p for finding in findings])
        findings = [
            dataclasses.replace(
                finding,
                p_holm=p,
                verdict=UNDECIDED if finding.verdict == REPRODUCED and not _significant(p) else finding.verdict,
            )
            for finding, p in zip(findings, corrected, strict=True)
        ]
        held = sum(finding.verdict == REPRODUCED for finding in findings)
        failed = sum(finding.verdict == REFUTED for finding in findings)
        if held >= self.count:
            return REPRODUCED, findings
        return (REFUTED if failed > len(findings) - self.count else UNDECIDED), findings


def _significant(p):
    return p is not None and p < 1 - LEVEL


Rule = Every | AtLeast
Part = Contrast | Spread | Disagreement | Near


def members(rule: Rule) -> tuple[Part, ...]:
    """Returns the parts of a rule, also those of the rules inside."""
    return tuple(part for each in rule.parts for part in (each.parts if isinstance(each, AtLeast) else [each]))


def spelled(rule: Rule) -> dict[str, Any]:
    """Returns a rule as a dictionary that JSON can hold, with the names of its kinds."""
    parts = [
        spelled(part) if isinstance(part, AtLeast) else {"kind": type(part).__name__, **dataclasses.asdict(part)}
        for part in rule.parts
    ]
    own = {f.name: getattr(rule, f.name) for f in dataclasses.fields(rule) if f.name != "parts"}
    return {"kind": type(rule).__name__, **own, "parts": parts}


def unit_of(part: Part) -> str:
    """Returns the unit of what a part measures, with a space before it; an empty text if there is none."""
    if getattr(part, "log", False):
        return " log ratio"
    measures = {key.partition(":")[2] or part.measure for key in getattr(part, "weights", {"": 1})}
    kinds = {_kind(measure) for measure in measures}
    return f" {kinds.pop()}".rstrip() if len(kinds) == 1 else ""


def _kind(measure):
    words = measure.split("_")
    if "error" in words or "ece" in words or "gap" in words:
        return "points"
    return "nats" if "loss" in words else ""


def held_seeds(results: Results, arms: Iterable[str]) -> int:
    """Returns how many seeds every one of some arms has."""
    each = [set(results.rows.get(arm, {})) for arm in arms]
    return len(set.intersection(*each)) if each else 0
