"""Calibration: whether a probability of 0.8 is right in 80 % of the cases, and the temperature that makes it so.

Probabilities are given as logarithms, float64 `(examples, classes)`, so that nothing is lost near 0. Labels
are int `(examples,)`.
"""

from typing import Any

import numpy as np
from scipy.optimize import brentq

from zoo.errors import BadInput
from zoo.reliability.resampling import OfSums, mean_of

BINS = 15
_FLOOR = np.log(np.finfo(np.float64).eps)  # of a probability of exactly 0, as in scikit-learn's log_loss
_COLDEST, _HOTTEST = 1e-2, 1e2
_EQUAL = 1e-9  # range of the logarithms of probabilities that count as all equal


def errors(log_p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns 100 for each wrong example and 0 for each right one: its mean is the error, per cent."""
    return 100.0 * (log_p.argmax(axis=1) != labels)


def losses(log_p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the negative log-likelihood of each label, in nats `(examples,)`.

    A probability of exactly 0 counts as the float64 epsilon, as in scikit-learn's `log_loss`.
    """
    of_labels = log_p[np.arange(len(labels)), labels]
    return -np.where(np.isneginf(of_labels), _FLOOR, of_labels)


def brier_scores(log_p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the Brier score of each example, 0 to 2 `(examples,)` (Brier 1950).

    It is the sum over classes of the squared difference between probability and truth, as scikit-learn's
    `brier_score_loss` with `scale_by_half=False`.
    """
    gaps = np.exp(log_p)
    gaps[np.arange(len(labels)), labels] -= 1.0
    return (gaps**2).sum(axis=1)


def calibration_error(log_p: np.ndarray, labels: np.ndarray, bins: int = BINS, mass: bool = False) -> OfSums:
    """Returns the measure of the expected calibration error of the top class, per cent.

    Bins have equal width, `(low, high]` (Guo et al. 2017, arXiv 1706.04599, equation 3), or with `mass`
    an equal number of examples in the order of confidence, the first bins one more if they do not divide
    evenly (Nguyen & O'Connor 2015, arXiv 1508.05154). Resamples keep the bins of all examples.
    """
    confidence = np.exp(log_p.max(axis=1))
    correct = log_p.argmax(axis=1) == labels
    of_example = _equal_mass(confidence, bins) if mass else _equal_width(confidence, bins)
    gaps = np.zeros((len(labels), bins))
    gaps[np.arange(len(labels)), of_example] = correct - confidence
    return OfSums(gaps, lambda means: 100.0 * np.abs(means).sum(axis=1), biased=True)


def reliability_diagram(log_p: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """Returns a row per bin of equal width that has examples: its limits, count, confidence and accuracy.

    `low` and `high` are the 95 % Wilson interval of the accuracy (Wilson 1927). All but `count` are
    fractions.
    """
    confidence = np.exp(log_p.max(axis=1))
    correct = log_p.argmax(axis=1) == labels
    of_example = _equal_width(confidence, bins)
    rows = []
    for b in np.unique(of_example):
        inside = of_example == b
        count, hits = int(inside.sum()), int(correct[inside].sum())
        low, high = _wilson(hits, count)
        rows.append(
            {
                "from": b / bins,
                "to": (b + 1) / bins,
                "count": count,
                "confidence": float(confidence[inside].mean()),
                "accuracy": hits / count,
                "low": low,
                "high": high,
            }
        )
    return rows


def brier_decomposition(log_p: np.ndarray, labels: np.ndarray, bins: int = BINS) -> dict[str, float]:
    """Returns the parts of the Brier score, which is reliability - resolution + uncertainty + within_bins.

    Each class counts as a forecast of its own, with its probability in bins of equal width (Murphy 1973;
    `within_bins` is the remainder of Stephenson et al. 2008, two terms that binning leaves). Low
    `reliability` is good, high `resolution` is good, `uncertainty` depends on the labels alone.
    """
    p = np.exp(log_p)
    parts = dict.fromkeys(("reliability", "resolution", "uncertainty", "within_bins"), 0.0)
    n = len(labels)
    for k in range(p.shape[1]):
        truth, base = (labels == k).astype(np.float64), float(np.mean(labels == k))
        parts["uncertainty"] += base * (1 - base)
        of_example = _equal_width(p[:, k], bins)
        for b in np.unique(of_example):
            q, t = p[of_example == b, k], truth[of_example == b]
            share = len(q) / n
            parts["reliability"] += share * (q.mean() - t.mean()) ** 2
            parts["resolution"] += share * (t.mean() - base) ** 2
            parts["within_bins"] += share * (q.var() - 2 * np.mean((q - q.mean()) * (t - t.mean())))
    return {key: float(value) for key, value in parts.items()}


def temperature(log_p: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature that minimises the loss (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    Fit it on the validation part, never on the test part. The loss is convex in 1 / temperature, so the
    root of its derivative is the only minimum.

    Raises:
        BadInput: no temperature between 0.01 and 100 minimises it, as when every example is right, all classes are
            equally probable, or there are no examples.

    Examples:
        >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
        >>> t = temperature(np.log(p), np.array([0, 0, 0, 1]))  # right in 75 %: too confident
        >>> round(float(np.exp(scaled(np.log(p), t)[0, 0])), 3)
        0.75
    """
    if not len(labels):
        raise BadInput("temperature needs validation examples, got none; keep some")
    finite = np.maximum(log_p, np.log(np.finfo(np.float64).tiny))  # a probability of 0 stays far below all others
    of_labels = finite[np.arange(len(labels)), labels]

    def slope(inverse):
        return float(np.mean((np.exp(scaled(finite, 1 / inverse)) * finite).sum(axis=1) - of_labels))

    if not slope(1 / _HOTTEST) < 0 < slope(1 / _COLDEST):
        falls = f"falls with ever {'lower' if slope(1 / _COLDEST) <= 0 else 'higher'} ones"
        same = np.ptp(finite) < _EQUAL
        raise BadInput(
            f"temperature must lie between {_COLDEST:g} and {_HOTTEST:g}, got a loss that "
            f"{'is the same at all of them' if same else falls} on these {len(labels)} examples; use "
            f"{'a model that tells classes apart' if same else 'more validation examples'}"
        )
    return 1.0 / brentq(slope, 1 / _HOTTEST, 1 / _COLDEST, xtol=1e-12, rtol=1e-12)


def scaled(log_p: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the logarithms of the probabilities at another temperature. The predicted class stays."""
    z = log_p / temperature
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def measures(log_p: np.ndarray, labels: np.ndarray) -> dict[str, OfSums]:
    """Returns the measures `error` (%), `loss` (nats), `brier`, `ece` (%) and `ece_mass` (%)."""
    return {
        "error": mean_of(errors(log_p, labels)),
        "loss": mean_of(losses(log_p, labels)),
        "brier": mean_of(brier_scores(log_p, labels)),
        "ece": calibration_error(log_p, labels),
        "ece_mass": calibration_error(log_p, labels, mass=True),
    }


def _equal_width(values, bins):
    return np.clip(np.ceil(values * bins).astype(int) - 1, 0, bins - 1)


def _equal_mass(values, bins):
    of_example = np.empty(len(values), int)
    for b, indices in enumerate(np.array_split(np.argsort(values, kind="stable"), bins)):
        of_example[indices] = b
    return of_example


def _wilson(hits, count):
    from scipy.stats import binomtest

    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
