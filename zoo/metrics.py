"""What is measured on logits: error, loss, calibration error, entropy. NumPy alone.

Functions take logits `(examples, classes)`, unless they say that they take probabilities;
errors are per cent, losses and entropies are in nats.
"""

import numpy as np


def log_softmax(logits):
    """Logarithms of the softmax, in float64."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def softmax(logits):
    """Probabilities, in float64."""
    z = np.asarray(logits, np.float64)
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def error(logits, labels):
    """Share of examples whose largest logit is not their label's, in per cent."""
    return 100.0 * float(np.mean(np.argmax(logits, axis=-1) != labels))


def loss(logits, labels):
    """Mean negative log-likelihood of the labels, in nats."""
    return -float(np.mean(log_softmax(logits)[np.arange(len(labels)), labels]))


def calibration_error(logits, labels, bins=15):
    """Expected calibration error over `bins` equal bins of confidence, in per cent.

    Guo et al. 2017, equation 3. It depends on the number of bins and is biased upward
    on small sets, so the loss belongs beside it.
    """
    probabilities = np.exp(log_softmax(logits))
    confidence = probabilities.max(axis=-1)
    correct = probabilities.argmax(axis=-1) == labels
    # Bins are (low, high], so that a confidence of exactly 1 has a bin.
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return 100.0 * float(np.abs(gaps).sum() / len(labels))


def entropy(logits):
    """Entropy of each predicted distribution, in nats: `(examples,)`."""
    log_p = log_softmax(logits)
    return -(np.exp(log_p) * log_p).sum(axis=-1)


def predictive_entropy(probabilities):
    """Entropy of each distribution of `probabilities` `(..., classes)`; a probability of 0 adds nothing."""
    p = np.asarray(probabilities, np.float64)
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1)


def mutual_information(probabilities):
    """What samples `(samples, examples, classes)` of probabilities disagree about: `(examples,)`.

    Entropy of their mean minus the mean of their entropies (Gal et al. 2017, "Deep Bayesian
    active learning", BALD): 0 where all samples say the same.
    """
    p = np.asarray(probabilities, np.float64)
    gap = predictive_entropy(p.mean(axis=0)) - predictive_entropy(p).mean(axis=0)
    return np.maximum(gap, 0.0)  # it is never negative, but for rounding


def summary(logits, labels):
    """Error (per cent), loss (nats) and calibration error (per cent) in one dictionary."""
    return {
        "error": error(logits, labels),
        "loss": loss(logits, labels),
        "ece": calibration_error(logits, labels),
    }
