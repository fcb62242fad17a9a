"""Prediction sets by split conformal prediction: sets of classes that hold the true one as often as asked.

The guarantee holds if validation and test examples are exchangeable: over draws of both, a set holds the true
class with a probability of at least `coverage` (Vovk et al. 2005; Angelopoulos & Bates 2021, arXiv 2107.07511).

The thresholds stand in the cards of artefacts and are applied to the outputs of every runtime, so this is NumPy alone:
MAPIE, which has the same methods, wraps an estimator of scikit-learn.
"""

import numpy as np

from zoo.checks import number
from zoo.errors import BadInput

METHODS = ("thr", "aps", "raps")
_PENALTY, _FREE = 0.1, 1  # of `raps`: added per class beyond the first


def scores(probabilities: np.ndarray, method: str = "thr", seed: int = 0) -> np.ndarray:
    """Returns how badly each class fits each example, `(examples, classes)`. A set holds the lowest ones.

    Args:
        probabilities: `(examples, classes)`.
        method: `thr` is 1 minus the probability (Sadinle et al. 2019, arXiv 1609.00451; also called LAC).
            `aps` is the total probability of the more probable classes plus a uniform share of the
            class's own (Romano et al. 2020, arXiv 2006.02544). `raps` adds 0.1 for each class beyond
            the first (Angelopoulos et al. 2021, arXiv 2009.14193, with lambda 0.1 and k 1).
        seed: seed of the uniform shares of `aps` and `raps`.
    """
    p = np.asarray(probabilities, np.float64)
    if method == "thr":
        return 1.0 - p
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    shares = np.random.default_rng(seed).random((len(p), 1))
    ranked_scores = ranked.cumsum(axis=1) - ranked + shares * ranked
    if method == "raps":
        ranked_scores += _PENALTY * np.maximum(0, np.arange(1, p.shape[1] + 1) - _FREE)
    fitting = np.empty_like(p)
    np.put_along_axis(fitting, order, ranked_scores, axis=1)
    return fitting


def threshold(scores_of_labels: np.ndarray, coverage: float) -> float:
    """Returns the largest score in a set, from the scores of the true classes of the validation part.

    It is the ceil((n + 1) * coverage)-th smallest of the n scores.

    Raises:
        BadInput: there are too few examples for this coverage, or it is not in (0, 1).

    Examples:
        >>> threshold(np.arange(1, 10) / 10, 0.9)
        0.9
    """
    number("coverage", coverage, 0, 1, closed="neither")
    n = len(scores_of_labels)
    rank = max(1, int(np.ceil((n + 1) * coverage - 1e-9)))
    if rank > n:
        needed = int(np.ceil(coverage / (1 - coverage) - 1e-9))
        raise BadInput(
            f"coverage {coverage:g} needs at least {needed} validation examples, got {n}; use more examples or a "
            "lower coverage"
        )
    return float(np.sort(scores_of_labels)[rank - 1])


def prediction_sets(scores: np.ndarray, threshold: float) -> np.ndarray:
    """Returns which classes are in the set of each example, bool `(examples, classes)`. A set may be empty."""
    return scores <= threshold
