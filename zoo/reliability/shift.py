"""Shift: whether a score tells foreign examples from those of the test part."""

import numpy as np


class Detection:
    """How well a score detects foreign examples, which should score higher.

    Examples of equal score count as in random order in `auroc`, and are accepted or rejected together in
    the others, as in scikit-learn.

    Args:
        known: score of the test examples `(n,)`.
        foreign: score of the foreign examples `(m,)`.

    Examples:
        >>> detection = Detection(np.array([0.1, 0.2]), np.array([0.3, 0.15]))
        >>> detection.measures(np.ones((1, 2)), np.ones((1, 2)))["auroc"]
        array([0.75])
    """

    def __init__(self, known: np.ndarray, foreign: np.ndarray) -> None:
        self._sizes = len(known), len(foreign)
        score = np.concatenate([known, foreign])
        self._order = np.argsort(-score, kind="stable")  # the most foreign first
        ranked = score[self._order]
        self._starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self._is_foreign = self._order >= len(known)

    def measures(self, known: np.ndarray, foreign: np.ndarray) -> dict[str, np.ndarray]:
        """Measures `auroc`, `aupr` (average precision) and `fpr95`, as fractions.

        `fpr95` is the share of test examples that are rejected by the strictest threshold that rejects
        at least 95 % of the foreign ones.

        Args:
            known: weights of the test examples `(resamples, n)`.
            foreign: weights of the foreign examples `(resamples, m)`.
        """
        weights = np.concatenate([known, foreign], axis=1)[:, self._order]
        hits, alarms = weights * self._is_foreign, weights * ~self._is_foreign
        if len(self._starts) < len(self._order):
            hits, alarms = (np.add.reduceat(values, self._starts, axis=1) for values in (hits, alarms))
        n, m = known.sum(axis=1), foreign.sum(axis=1)
        caught, alarmed = hits.cumsum(axis=1), alarms.cumsum(axis=1)
        auroc = 1 - (hits * (alarmed - alarms / 2)).sum(axis=1) / (n * m)
        taken = caught + alarmed
        precision = np.divide(caught, taken, out=np.zeros_like(taken), where=taken > 0)
        aupr = (hits * precision).sum(axis=1) / m
        first = (caught < 0.95 * m[:, None] - 1e-6).sum(axis=1)[:, None]
        fpr95 = np.take_along_axis(alarmed, first, 1)[:, 0] / n
        return {"auroc": auroc, "aupr": aupr, "fpr95": fpr95}
