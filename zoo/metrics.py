"""Metrics of logits and probabilities: error, loss, calibration error, entropy. Uses NumPy alone.

Logits are `(examples, classes)`, labels int `(examples,)`. Errors are per cent, losses and entropies
in nats.
"""

import numpy as np
from numpy.typing import ArrayLike


def log_softmax(logits: ArrayLike) -> np.ndarray:
    """Returns the logarithm of the softmax, float64 of the shape of `logits`."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def softmax(logits: ArrayLike) -> np.ndarray:
    """Returns the softmax, float64 of the shape of `logits`."""
    z = np.asarray(logits, np.float64)
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def error(logits: ArrayLike, labels: np.ndarray) -> float:
    """Returns the classification error, per cent."""
    return 100.0 * float(np.mean(np.argmax(logits, axis=-1) != labels))


def loss(logits: ArrayLike, labels: np.ndarray) -> float:
    """Returns the mean negative log-likelihood (cross-entropy) of the labels, in nats."""
    return -float(np.mean(log_softmax(logits)[np.arange(len(labels)), labels]))


def calibration_error(logits: ArrayLike, labels: np.ndarray, bins: int = 15) -> float:
    """Returns the expected calibration error, per cent (Guo et al. 2017, equation 3).

    It depends on the number of bins, and is biased upward on small sets. Report the loss with it.

    Args:
        logits: `(examples, classes)`.
        labels: int `(examples,)`.
        bins: number of confidence bins of equal width.
    """
    probabilities = np.exp(log_softmax(logits))
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == labels
    # Bins are (low, high], so that a confidence of 1 has a bin.
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return 100.0 * float(np.abs(gaps).sum() / len(labels))


def entropy(logits: ArrayLike) -> np.ndarray:
    """Returns the entropy of each predicted distribution, in nats: `(examples,)`. 0 log 0 counts as 0."""
    log_p = log_softmax(logits)
    return -(np.exp(log_p) * np.where(np.isneginf(log_p), 0.0, log_p)).sum(axis=-1)


def predictive_entropy(probabilities: ArrayLike) -> np.ndarray:
    """Returns the entropy of probabilities `(..., classes)`, in nats: `(...,)`. 0 log 0 counts as 0."""
    p = np.asarray(probabilities, np.float64)
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1)


def mutual_information(probabilities: ArrayLike) -> np.ndarray:
    """Returns the mutual information of prediction and weights, in nats: `(examples,)`.

    It is the entropy of the mean prediction minus the mean entropy of the samples (BALD, Gal et al. 2017,
    "Deep Bayesian active learning with image data"), and 0 if all samples are equal.

    Args:
        probabilities: Monte Carlo samples `(samples, examples, classes)`.
    """
    p = np.asarray(probabilities, np.float64)
    gap = predictive_entropy(p.mean(axis=0)) - predictive_entropy(p).mean(axis=0)
    return np.maximum(gap, 0.0)  # negative only by rounding


def by_class(logits: ArrayLike, labels: np.ndarray) -> dict[str, list]:
    """Returns `confusion`, a row per true class, and `class_errors` in per cent, None for a class without examples.

    `confusion` is left out with more than 100 classes.

    Examples:
        >>> by_class([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]], np.array([0, 1, 1]))
        {'class_errors': [0.0, 50.0], 'confusion': [[1, 0], [1, 1]]}
    """
    scores, labels = np.asarray(logits), np.asarray(labels)
    classes = max(scores.shape[1], int(labels.max(initial=0)) + 1)
    counts = np.bincount(labels * classes + scores.argmax(-1), minlength=classes**2).reshape(classes, classes)
    errors = [100.0 * (1 - row[i] / total) if (total := row.sum()) else None for i, row in enumerate(counts)]
    figures = {"class_errors": [error if error is None else float(error) for error in errors]}
    return {**figures, "confusion": counts.tolist()} if classes <= 100 else figures


def summary(logits: ArrayLike, labels: np.ndarray) -> dict[str, float]:
    """Returns `error` (per cent), `loss` (nats) and `ece` (expected calibration error, per cent)."""
    return {
        "error": error(logits, labels),
        "loss": loss(logits, labels),
        "ece": calibration_error(logits, labels),
    }
