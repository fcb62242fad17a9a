"""What can be said about runs that are paired by seed: means, differences, spreads.

Every figure comes from SciPy. Where a figure does not exist (an interval from one
seed, a ratio to a variance of zero) the answer is None, never NaN, so that the result
is valid JSON. Errors and calibration errors are per cent, losses are nats.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from zoo.errors import BadInput

MEASURES = ("test_error", "test_loss", "test_ece")
LEVEL = 0.95
RESAMPLES = 9999
# Differences of decimal fractions that are equal on paper differ in the last bits.
_SAME = 1e-9


def describe(values: Sequence[float]) -> dict:
    """Count, mean and sample standard deviation (n - 1), in the unit of the values.

    Values that are not finite (a run that diverged) cannot enter a mean; they are left
    out and counted in `excluded`, so that nobody has to guess.

    >>> describe([1.0, 3.0])
    {'n': 2, 'mean': 2.0, 'sd': 1.4142135623730951, 'excluded': 0}
    >>> describe([3.0])
    {'n': 1, 'mean': 3.0, 'sd': None, 'excluded': 0}
    """
    everything = _floats(values)
    x = everything[np.isfinite(everything)]
    return {
        "n": int(x.size),
        "mean": float(x.mean()) if x.size else None,
        "sd": float(x.std(ddof=1)) if x.size > 1 else None,
        "excluded": int(everything.size - x.size),
    }


def t_interval(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> tuple:
    """Paired t interval of mean(b - a); `(None, None)` with fewer than two pairs.

    It is also `(None, None)` when all differences are equal: a spread of zero measured
    on a few seeds would make an interval without width, which claims a certainty that
    nobody has.

    >>> low, high = t_interval([3.0, 4.0, 5.0], [2.0, 3.5, 3.5])
    >>> round(low, 2), round(high, 2)
    (-2.24, 0.24)
    """
    a, b = _floats(a), _floats(b)
    if a.size < 2 or _constant(b - a, a, b):
        return None, None
    interval = stats.ttest_rel(b, a).confidence_interval(level)
    return float(interval.low), float(interval.high)


def bootstrap_interval(a: Sequence[float], b: Sequence[float], level: float = LEVEL, seed: int = 0) -> tuple:
    """Percentile bootstrap interval of mean(b - a), resampling pairs; one seed, one answer.

    A check that assumes no normal distribution, and no more than a check: at ten pairs
    a 95 % interval covers about 89 %, where the t interval covers 95 %. None as in
    `t_interval`.

    >>> bootstrap_interval([3.0, 4.0, 5.0], [2.0, 3.5, 3.5])
    (-1.5, -0.5)
    """
    a, b = _floats(a), _floats(b)
    if a.size < 2 or _constant(b - a, a, b):
        return None, None
    result = stats.bootstrap(
        (b - a,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def pitman_morgan(a: Sequence[float], b: Sequence[float]) -> tuple:
    """var(b) / var(a), and the two-sided p of equal variances, for paired samples.

    For pairs, cov(b + a, b - a) = var(b) - var(a), so that equal variances mean that sums
    and differences do not correlate; that correlation is tested. Pairing gives the test
    more power than an F or Brown-Forsythe test has. It assumes pairs from a bivariate
    normal distribution.

    p is None with fewer than three pairs, and when an arm, the sums or the differences
    do not vary; the ratio is None when `a` does not vary.

    Sources: Pitman (1939), "A note on normal correlation", Biometrika 31:9-12;
    Morgan (1939), "A test for the significance of the difference between the two
    variances in a sample from a normal bivariate population", Biometrika 31:13-19.

    >>> ratio, p = pitman_morgan([1.0, 5.0, 2.0, 8.0, 3.0], [2.0, 4.1, 3.6, 4.9, 3.0])
    >>> round(ratio, 3), round(p, 3)
    (0.157, 0.023)
    """
    a, b = _floats(a), _floats(b)
    if a.size < 2 or _constant(a, a):
        return None, None
    if _constant(b, b):
        return 0.0, None
    ratio = float(b.var(ddof=1) / a.var(ddof=1))
    if a.size < 3 or _constant(b + a, a, b) or _constant(b - a, a, b):
        return ratio, None
    return ratio, float(stats.pearsonr(b + a, b - a).pvalue)


def paired(a: Sequence[float], b: Sequence[float], level: float = LEVEL, seed: int = 0) -> dict:
    """Compare two arms whose i-th values come from the same seed.

    Returns `n`, `difference` = mean(b - a), its t interval `low`, `high`, the bootstrap
    interval `bootstrap_low`, `bootstrap_high` (all in the unit of the values),
    `variance_ratio` = var(b) / var(a), `variance_p` (Pitman-Morgan) and `level`. What
    does not exist is None. A pair with a value that is not finite is left out.

    Raises BadInput when the lengths differ, for then the values are no pairs, and when
    `level` is not between 0 and 1.

    >>> result = paired([3.0, 4.0, 5.0], [2.0, 3.5, 3.5])
    >>> result["n"], result["difference"]
    (3, -1.0)
    """
    a, b = _floats(a), _floats(b)
    if a.shape != b.shape:
        raise BadInput(f"paired() got {a.size} and {b.size} values; it needs one value an arm for each seed.")
    if not 0 < level < 1:
        raise BadInput(f"level is {level!r}; it must lie between 0 and 1, for example 0.95.")
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    low, high = t_interval(a, b, level)
    bootstrap_low, bootstrap_high = bootstrap_interval(a, b, level, seed)
    ratio, p = pitman_morgan(a, b)
    return {
        "n": int(a.size),
        "difference": float((b - a).mean()) if a.size else None,
        "low": low,
        "high": high,
        "bootstrap_low": bootstrap_low,
        "bootstrap_high": bootstrap_high,
        "variance_ratio": ratio,
        "variance_p": p,
        "level": level,
    }


def summarise(rows: list[dict], order: Sequence[str] = ()) -> dict:
    """Statistics of every arm, and of every arm against the control of its model.

    `rows` are those of results.csv, numbers parsed. The result is that of summary.json:

        {"arms":  {name: {n, mean, sd, excluded,                  <- test error, per cent
                          "test_loss": {n, mean, sd, excluded},   <- nats
                          "test_ece":  {n, mean, sd, excluded}}}, <- per cent
         "pairs": [{a, b, n, difference, low, high, bootstrap_low, bootstrap_high,
                    variance_ratio, variance_p, level,            <- test error, points
                    "test_loss": {n, difference, ...}, "test_ece": {n, difference, ...}}]}

    `a` is the control, the first arm; which is first, see `by_arm`. `difference` is
    mean(b - a): negative where `b` is better. Pairs are made of the seeds that both arms
    have. With several models in the file arms are called "model/arm", and pairs stay
    within a model. Of two rows of one model, arm and seed the later one counts: the run
    was done again.

    Raises BadInput when a row lacks a column that is needed.

    >>> rows = [
    ...     {"model": "mlp", "arm": arm, "seed": seed, "test_error": error, "test_loss": 0.1, "test_ece": 1.0}
    ...     for arm, errors in {"none": (3.0, 3.5), "default": (2.5, 2.5)}.items()
    ...     for seed, error in enumerate(errors)
    ... ]
    >>> summary = summarise(rows)
    >>> summary["arms"]["none"]["mean"], summary["pairs"][0]["difference"]
    (3.25, -0.75)
    """
    arms = by_arm(rows, order)
    summary = {"arms": {}, "pairs": []}
    controls = {}
    for name, (model, runs) in arms.items():
        summary["arms"][name] = _nest(lambda key, runs=runs: describe([run[key] for run in runs.values()]))
        control = controls.setdefault(model, name)
        if control == name:
            continue
        first = arms[control][1]
        seeds = sorted(first.keys() & runs.keys())
        pair = _nest(
            lambda key, first=first, runs=runs, seeds=seeds: paired(
                [first[seed][key] for seed in seeds], [runs[seed][key] for seed in seeds]
            )
        )
        summary["pairs"].append({"a": control, "b": name, **pair})
    return summary


def by_arm(rows: list[dict], order: Sequence[str] = ()) -> dict:
    """Rows sorted into `{arm name as in the summary: (model, {seed: row})}`, control first.

    Runs that were trained side by side stand in the file in the order in which they
    ended, so the file cannot say which arm is the control. `order` can: names as
    "model/arm" or "arm". Without it arms with an empty `placement`, hence without dropout,
    come first, and otherwise the order of the file holds.

    Raises BadInput when a row lacks a column that is needed.

    >>> row = {"model": "mlp", "seed": 1, "test_error": 3.0, "test_loss": 0.1, "test_ece": 1.0}
    >>> rows = [{**row, "arm": "default", "placement": "hidden=0.5"}, {**row, "arm": "none", "placement": ""}]
    >>> list(by_arm(rows)), list(by_arm(rows, order=["mlp/default", "mlp/none"]))
    (['none', 'default'], ['default', 'none'])
    """
    needed = ("model", "arm", "seed", *MEASURES)
    for row in rows:
        missing = [column for column in needed if column not in row]
        if missing:
            raise BadInput(f"A row of results lacks {', '.join(missing)}; it needs {', '.join(needed)}.")
    models = list(dict.fromkeys(row["model"] for row in rows))
    order = list(order)

    def rank(row):
        places = [order.index(name) for name in (f"{row['model']}/{row['arm']}", row["arm"]) if name in order]
        return models.index(row["model"]), *(places or [len(order)])[:1], bool(row.get("placement"))

    arms = {}
    for row in sorted(rows, key=rank):
        name = f"{row['model']}/{row['arm']}" if len(models) > 1 else row["arm"]
        arms.setdefault(name, (row["model"], {}))[1][row["seed"]] = row
    return arms


def _nest(statistic) -> dict:
    """The error's statistics, with those of the other measures inside under their names."""
    error, *others = MEASURES
    return {**statistic(error), **{key: statistic(key) for key in others}}


def _floats(values) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], dtype=float)


def _constant(x: np.ndarray, *scale: np.ndarray) -> bool:
    """Whether x does not vary, up to the rounding of the numbers it was computed from."""
    largest = max(float(np.abs(s).max()) for s in scale)
    return float(np.ptp(x)) <= _SAME * largest
