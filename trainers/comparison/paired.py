"""Statistics of runs that are paired by seed: means, differences and variances.

SciPy computes them. A statistic that does not exist (an interval from one seed, a ratio to a
variance of zero) is None, not NaN, so that the result is valid JSON. Errors and calibration
errors are in per cent, losses in nats.
"""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize, special, stats

from zoo.checks import number
from zoo.errors import BadInput

MEASURES = ("test_error", "test_loss", "test_ece")
LEVEL = 0.95
POWER = 0.8  # of the smallest difference that an experiment is said to detect
RESAMPLES = 9999
# Equal differences of decimal fractions may differ in the last bits.
_SAME = 1e-9
_QUANTILES = (np.arange(1000) + 0.5) / 1000


def describe(values: Sequence[float]) -> dict:
    """Returns count, mean and sample standard deviation (n - 1), in the unit of the values.

    Values that are not finite (a run that diverged) are left out and counted in `excluded`.

    Examples:
        >>> describe([1.0, 3.0])
        {'n': 2, 'mean': 2.0, 'sd': 1.4142135623730951, 'excluded': 0}
        >>> describe([3.0])
        {'n': 1, 'mean': 3.0, 'sd': None, 'excluded': 0}
    """
    all_values = _floats(values)
    x = all_values[np.isfinite(all_values)]
    return {
        "n": int(x.size),
        "mean": float(x.mean()) if x.size else None,
        "sd": float(x.std(ddof=1)) if x.size > 1 else None,
        "excluded": int(all_values.size - x.size),
    }


def t_interval(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> tuple:
    """Returns the paired t interval of mean(b - a); `(None, None)` with fewer than two pairs.

    It is also `(None, None)` if all differences are equal: the interval would have no width, which a
    few seeds cannot justify.

    Examples:
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
    """Returns the percentile bootstrap interval of mean(b - a), resampling pairs with the given seed.

    It is a check that assumes no normal distribution. With ten pairs a 95 % interval covers about
    89 %, whereas the t interval covers 95 %. It is `(None, None)` as in `t_interval`.

    Examples:
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
    """Returns var(b) / var(a), and the two-sided p value of equal variances, for paired samples.

    For pairs, cov(b + a, b - a) = var(b) - var(a). So the variances are equal if the sums and the
    differences do not correlate, and that correlation is tested. Pairing gives the test more power
    than an F test or a Brown-Forsythe test. It assumes a bivariate normal distribution.

    p is None with fewer than three pairs, and if an arm, the sums or the differences do not vary.
    The ratio is None if `a` does not vary.

    Sources: Pitman (1939), "A note on normal correlation", Biometrika 31:9-12;
    Morgan (1939), "A test for the significance of the difference between the two
    variances in a sample from a normal bivariate population", Biometrika 31:13-19.

    Examples:
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


def t_test(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Returns the two-sided p value of the paired t test of mean(b - a) = 0; None as in `t_interval`.

    Examples:
        >>> round(t_test([3.0, 4.0, 5.0], [2.0, 3.5, 3.5]), 3)
        0.074
    """
    a, b = _floats(a), _floats(b)
    if a.size < 2 or _constant(b - a, a, b):
        return None
    return float(stats.ttest_rel(b, a).pvalue)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Returns p values corrected for the number of comparisons; None stays None and does not count.

    The chance that any true null hypothesis is rejected stays below the level (Holm 1979, "A simple
    sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6:65-70).

    Examples:
        >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    corrected, largest = list(p), 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        corrected[place] = largest
    return corrected


def probability_better(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> tuple:
    """Returns the share of pairs in which `b` is lower than `a`, and its exact interval (Clopper & Pearson 1934).

    It estimates the probability that the next run of `b` is better than that of `a` with the same seed
    (Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks", section 3). Equal
    values count half. With them the interval is that of both roundings of the count, so it is wide enough.

    Examples:
        >>> [round(value, 3) for value in probability_better([3.0, 4.0, 5.0], [2.0, 3.5, 3.5])]
        [1.0, 0.292, 1.0]
    """
    a, b = _floats(a), _floats(b)
    if not a.size:
        return None, None, None
    wins = float((b < a).sum() + 0.5 * (b == a).sum())
    low, high = (
        stats.binomtest(int(round_(wins)), a.size).proportion_ci(level, method="exact")
        for round_ in (math.floor, math.ceil)
    )
    return wins / a.size, float(low.low), float(high.high)


def power(difference: float, sd: float, n: int, level: float = LEVEL) -> float:
    """Returns the probability that a paired t test with `n` pairs finds a mean difference.

    Args:
        difference: The true mean difference.
        sd: The standard deviation of the differences.
        n: The number of pairs.
        level: 1 minus the level of the test.

    Examples:
        >>> round(power(1.0, 1.0, 10), 3)
        0.803
    """
    # The mean of both tails over the quantiles of the estimated spread: SciPy's noncentral t fails for large shifts.
    shift, spread = abs(difference) / sd * math.sqrt(n), _spread(n, level)
    return float(np.mean(special.ndtr(shift - spread) + special.ndtr(-shift - spread)))


@functools.lru_cache(maxsize=1024)
def _spread(n, level):
    """What a mean must exceed to be found, in true standard errors: its quantiles over experiments."""
    estimated = np.sqrt(stats.chi2.ppf(_QUANTILES, n - 1) / (n - 1))
    return float(stats.t.ppf((1 + level) / 2, n - 1)) * estimated


@functools.lru_cache(maxsize=1024)
def _effect(n, level, wanted):
    """The smallest difference, in standard deviations, that n pairs find with probability `wanted`."""
    return float(optimize.brentq(lambda effect: power(effect, 1.0, n, level) - wanted, 1e-6, 1e3))


def detectable(a: Sequence[float], b: Sequence[float], level: float = LEVEL, wanted: float = POWER) -> float | None:
    """Returns the smallest true difference that so many pairs find with probability `wanted`, at their spread.

    None as in `t_interval`.

    Examples:
        >>> round(detectable([3.0, 4.0, 5.0], [2.0, 3.5, 3.5]), 2)
        1.63
    """
    a, b = _floats(a), _floats(b)
    if a.size < 2 or _constant(b - a, a, b):
        return None
    return float((b - a).std(ddof=1)) * _effect(a.size, level, wanted)


def pairs_needed(
    difference: float, sd: float | Callable[[int], float], level: float = LEVEL, wanted: float = POWER
) -> int | None:
    """Returns how many pairs find a true mean difference with probability `wanted`; None if more than 100,000.

    Args:
        difference: The true mean difference.
        sd: The standard deviation of the differences, or a function of the number of pairs, as of `crossed_spread`.
        level: 1 minus the level of the test.
        wanted: The probability.

    Examples:
        >>> pairs_needed(1.0, 1.0), pairs_needed(0.0, 1.0)
        (10, None)
    """
    few, enough = 1, 100_000

    def found(n):
        return power(difference, sd(n) if callable(sd) else sd, n, level) >= wanted

    if not difference or not found(enough):
        return None
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if found(middle) else (middle, enough)
    return enough


def crossed_interval(differences: np.ndarray, level: float = LEVEL) -> tuple:
    """Returns the interval of a mean difference over other seeds and other test examples, and its p value.

    All seeds are tested on the same examples, so that a mean over both varies with both: the variance is
    that of a two-way layout with random rows and columns, (MS_seeds + MS_examples - MS_rest) / (seeds x
    examples), never less than that of either alone (Owen 2007, "The pigeonhole bootstrap", Annals of
    Applied Statistics 1:386-411, section 3). Student's t with seeds - 1 degrees of freedom is cautious.

    Args:
        differences: Of each seed and test example, `(seeds, examples)`: -1, 0 or 1 for errors.
        level: The level of the interval.

    Returns:
        `(low, high, p)`; `(None, None, None)` with fewer than two seeds or examples, or if nothing varies.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> low, high, p = crossed_interval(rng.normal(size=(10, 500)) - 0.2)
        >>> low < -0.2 < high < 0, p < 0.01
        (True, True)
    """
    d = np.asarray(differences, dtype=float)
    if d.ndim != 2 or min(d.shape) < 2 or not np.ptp(d):
        return None, None, None
    mean, seeds = d.mean(), len(d)
    ms_seed, ms_example, ms_rest = _mean_squares(d)
    error = math.sqrt(max(ms_seed + ms_example - ms_rest, ms_seed, ms_example) / d.size)
    half = float(stats.t.ppf((1 + level) / 2, seeds - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, seeds - 1))
    return float(mean - half), float(mean + half), p


def crossed_spread(differences: np.ndarray) -> Callable[[int], float]:
    """Returns the standard deviation of one seed's difference, as a function of the number of seeds.

    Divided by the square root of that number it is the error of the mean over other seeds and other test examples, as
    in `crossed_interval`. More seeds lower the part of the seeds alone: that of the examples stays.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> spread = crossed_spread(rng.normal(size=(10, 500)) + rng.normal(size=500))
        >>> spread(10**6) / 10**3 > 0.9 * spread(10) / 10**0.5
        True
    """
    d = np.asarray(differences, dtype=float)
    seeds, examples = d.shape
    ms_seed, ms_example, ms_rest = _mean_squares(d)
    of_seed, of_example = max(0.0, ms_seed - ms_rest) / examples, max(0.0, ms_example - ms_rest) / seeds
    return lambda n: math.sqrt(of_seed + (n * of_example + ms_rest) / examples)


def _mean_squares(d):
    """The mean squares of a two-way layout `(seeds, examples)`: of its rows, of its columns, and of the rest."""
    seeds, examples = d.shape
    of_seed, of_example = d.mean(axis=1), d.mean(axis=0)
    rest = d - of_seed[:, None] - of_example + d.mean()
    ms_rest = float((rest**2).sum()) / ((seeds - 1) * (examples - 1))
    return examples * float(of_seed.var(ddof=1)), seeds * float(of_example.var(ddof=1)), ms_rest


def paired(a: Sequence[float], b: Sequence[float], level: float = LEVEL, seed: int = 0) -> dict:
    """Compares two arms whose i-th values come from the same seed.

    Pairs with a value that is not finite are left out.

    Args:
        a: The values of the control.
        b: The values of the other arm.
        level: The level of the intervals.
        seed: The seed of the bootstrap.

    Returns:
        A dictionary of `n`, `difference` = mean(b - a), its t interval `low` and `high`, the bootstrap
        interval `bootstrap_low` and `bootstrap_high` (all in the unit of the values),
        `variance_ratio` = var(b) / var(a), `variance_p` (Pitman-Morgan), `p` (paired t test), `better`
        with `better_low` and `better_high` (`probability_better`), `detectable` (the smallest difference
        that so many pairs find with a probability of 80 %) and `level`. Statistics that do not exist are
        None.

    Raises:
        BadInput: The lengths differ, or `level` is not between 0 and 1.

    Examples:
        >>> result = paired([3.0, 4.0, 5.0], [2.0, 3.5, 3.5])
        >>> result["n"], result["difference"]
        (3, -1.0)
    """
    a, b = _floats(a), _floats(b)
    if a.shape != b.shape:
        raise BadInput(f"a and b must have one value per seed each, got {a.size} and {b.size} values")
    number("level", level, 0, 1, closed="neither")
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
        "p": t_test(a, b),
        **dict(zip(("better", "better_low", "better_high"), probability_better(a, b, level), strict=True)),
        "detectable": detectable(a, b, level),
        "level": level,
    }


def summarise(rows: list[dict], order: Sequence[str] = ()) -> dict:
    """Returns the statistics of every arm, and of every arm against the control of its model.

    `rows` are those of results.csv, numbers parsed. The result is the contents of summary.json:

        {"arms":  {name: {n, mean, sd, excluded,                  <- test error, per cent
                          "test_loss": {n, mean, sd, excluded},   <- nats
                          "test_ece":  {n, mean, sd, excluded}}}, <- per cent
         "pairs": [{a, b, n, difference, low, high, bootstrap_low, bootstrap_high,
                    variance_ratio, variance_p, p, p_holm, better, better_low, better_high,
                    detectable, level,                            <- test error, points
                    "test_loss": {n, difference, ...}, "test_ece": {n, difference, ...}}]}

    `a` is the control, which is the first arm in the order of `by_arm`. `difference` is mean(b - a):
    it is negative if `b` is better. `p_holm` is `p` corrected for the number of pairs. Pairs consist
    of the seeds that both arms have. With several models, arms are called "model/arm", and pairs
    stay within a model. Of two rows of the same model, arm and seed the later one counts.

    Raises:
        BadInput: A row lacks a column.

    Examples:
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
    for measure in MEASURES:
        values = [pair if measure == MEASURES[0] else pair[measure] for pair in summary["pairs"]]
        for value, corrected in zip(values, holm([value["p"] for value in values]), strict=True):
            value["p_holm"] = corrected
    return summary


def by_arm(rows: list[dict], order: Sequence[str] = ()) -> dict:
    """Returns the rows as `{arm name as in the summary: (model, {seed: row})}`, the control first.

    Parallel runs are in the file in the order in which they ended, which does not show the control.
    `order` shows it: names as "model/arm" or "arm". Without it, arms without dropout (an empty
    `placement`) come first, and otherwise the order of the file is kept.

    Raises:
        BadInput: A row lacks a column.

    Examples:
        >>> row = {"model": "mlp", "seed": 1, "test_error": 3.0, "test_loss": 0.1, "test_ece": 1.0}
        >>> rows = [{**row, "arm": "default", "placement": "hidden=0.5"}, {**row, "arm": "none", "placement": ""}]
        >>> list(by_arm(rows)), list(by_arm(rows, order=["mlp/default", "mlp/none"]))
        (['none', 'default'], ['default', 'none'])
    """
    needed = ("model", "arm", "seed", *MEASURES)
    for row in rows:
        missing = [column for column in needed if column not in row]
        if missing:
            raise BadInput(f"rows of results.csv must have {', '.join(needed)}, got one without {', '.join(missing)}")
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
    """The statistics of the error, with those of the other measures nested under their names."""
    error, *others = MEASURES
    return {**statistic(error), **{key: statistic(key) for key in others}}


def _floats(values) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], dtype=float)


def _constant(x: np.ndarray, *scale: np.ndarray) -> bool:
    """Whether x is constant, up to the rounding errors of the values in `scale`."""
    largest = max(float(np.abs(s).max()) for s in scale)
    return float(np.ptp(x)) <= _SAME * largest
