"""Selective prediction: which examples to hand to a person, and what error is left on the others."""

import numpy as np

from zoo import metrics

SHARES = (5, 10, 20)  # per cent of the examples that are handed over
OF_SAMPLES = ("mutual_information", "variance")  # the scores that need two or more samples


def scores(
    log_p: np.ndarray, sample_entropy: np.ndarray | None = None, variance: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Returns the uncertainty of each example by several scores, higher for less certain, each `(examples,)`.

    Args:
        log_p: logarithms of the predicted probabilities `(examples, classes)`.
        sample_entropy: mean entropy of the Monte-Carlo samples, in nats `(examples,)`; None without samples.
        variance: variance of the probability over samples, mean over classes `(examples,)`; None without samples.

    Returns:
        `probability` (1 minus that of the predicted class), `entropy` (nats), and with samples
        `mutual_information` (nats) and `variance`.
    """
    entropy = metrics.predictive_entropy(np.exp(log_p))
    of_example = {"probability": -np.expm1(log_p.max(axis=1)), "entropy": entropy}
    if sample_entropy is not None:
        of_example["mutual_information"] = np.maximum(entropy - sample_entropy, 0.0)  # negative only by rounding
    if variance is not None:
        of_example["variance"] = variance
    return of_example


class RiskCoverage:
    """Error against the share of examples that are kept, the most certain first (El-Yaniv & Wiener 2010).

    Examples of equal score come in random order: each figure is the mean over all their orders, so that
    it does not depend on the order of the data set.

    Args:
        score: uncertainty `(examples,)`, higher for less certain.
        wrong: whether each prediction is wrong, bool `(examples,)`.

    Examples:
        >>> curve = RiskCoverage(np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, False, False, True]))
        >>> figures = curve.measures(np.ones((1, 4)))
        >>> figures["aurc"], figures["error_at_20"]
        (array([6.25]), array([25.]))
    """

    def __init__(self, score: np.ndarray, wrong: np.ndarray) -> None:
        self._order = np.argsort(score, kind="stable")
        ranked = np.asarray(score)[self._order]
        first = np.r_[True, ranked[1:] != ranked[:-1]]
        self._ends = np.r_[np.flatnonzero(first)[1:], len(ranked)] - 1  # the last example of each group
        self._errors = np.flatnonzero(np.asarray(wrong)[self._order])
        groups = np.cumsum(first)[self._errors] - 1  # of each error
        new = np.r_[True, groups[1:] != groups[:-1]] if len(groups) else np.zeros(0, bool)
        self._starts, self._bad = np.flatnonzero(new), groups[new]  # of errors, and their groups
        harmonic = np.r_[0.0, np.cumsum(1.0 / np.arange(1, len(ranked) + 1))]
        self._harmonic, self._sums = harmonic, np.r_[0.0, np.cumsum(harmonic)]

    def curve(self, points: int = 100) -> dict[str, list[float]]:
        """Returns `coverage` and `error`, per cent, after groups of equal scores, about `points` of them."""
        until, _, _, errors = (sums[0] for sums in self._counted(np.ones((1, len(self._order)))))
        kept, errors = until, np.bincount(self._bad, errors, len(until)).cumsum()
        chosen = np.unique(np.searchsorted(kept, np.linspace(kept[0], kept[-1], points)))
        return {
            "coverage": (100.0 * kept[chosen] / kept[-1]).tolist(),
            "error": (100.0 * errors[chosen] / kept[chosen]).tolist(),
        }

    def measures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Measures the curve, per cent, with weights `(resamples, examples)`.

        Returns:
            `aurc`, the area under the curve: the mean error over all numbers of kept examples (Geifman, Uziel &
            El-Yaniv 2019, arXiv 1805.08206, section 3). `excess_aurc`, the area minus that of a perfect order,
            in which all errors come last. `error_at_N`, the error once the least certain N % of the examples
            are handed over; the number kept is rounded up.
        """
        until, after, before, errors = self._counted(weights)
        n, wrong = until[:, -1].astype(np.float64), errors.sum(axis=1)
        # An error at rank r counts in the error of r or more kept examples: it adds 1/r + ... + 1/n to the area. In a
        # group of equal scores, each rank is as likely.
        ranks = self._sums[after] - self._sums[before]
        rate = np.divide(errors, after - before, out=np.zeros(errors.shape), where=after > before)
        area = (wrong * self._of(n) - (rate * ranks).sum(axis=1)) / n
        right = n - wrong
        perfect = (wrong - right * (self._of(n) - self._of(right))) / n
        figures = {"aurc": 100 * area, "excess_aurc": 100 * (area - perfect)}
        errors_and_0 = np.pad(errors, ((0, 0), (0, 1)))
        wrong_until = np.pad(errors.cumsum(axis=1), ((0, 0), (1, 0)))
        for share in SHARES:
            wanted = np.ceil(n * (1 - share / 100) - 1e-9)
            least = wanted.astype(until.dtype)  # searching for another type would copy every row
            group = np.array([np.searchsorted(row, most) for row, most in zip(until, least, strict=True)])
            rows, place = np.arange(len(until)), np.searchsorted(self._bad, group)  # the errors before the group
            start = np.where(group > 0, until[rows, group - 1], 0).astype(np.float64)
            size = until[rows, group] - start
            bad = np.append(self._bad, -1)[place] == group
            inside = np.where(bad, errors_and_0[rows, place], 0.0)
            figures[f"error_at_{share}"] = 100 * (wrong_until[rows, place] + (wanted - start) * inside / size) / wanted
        return figures

    def _of(self, counts):
        return self._harmonic[np.rint(counts).astype(int)]

    def _counted(self, weights):
        """Returns weights summed along the order of the groups.

        They are the weight up to the end of each group; and for each group with errors, the weight up to its end,
        the weight up to its beginning, both as integers, and the weight of its errors.
        """
        ordered = weights[:, self._order]
        until = ordered.cumsum(axis=1)
        if len(self._ends) < len(self._order):
            until = until[:, self._ends]
        after, before = until[:, self._bad].astype(int), np.where(self._bad > 0, until[:, self._bad - 1], 0).astype(int)
        errors = ordered[:, self._errors].astype(np.float64)
        if len(self._starts) < len(self._errors):
            errors = np.add.reduceat(errors, self._starts, axis=1)
        return until, after, before, errors
