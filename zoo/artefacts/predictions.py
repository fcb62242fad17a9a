"""What a model says of examples: probabilities, and how sure it is."""

import functools
from dataclasses import dataclass

import numpy as np

from zoo import metrics

_AT_ONCE = 256  # examples whose samples are held as float64 together


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of `n` examples. All but `logits` is computed from them when it is first read.

    `logits`: float32 `(n, classes)`; in mc `(samples, n, classes)`.
    `seed`: what the samples were drawn with, in mc.
    `probabilities` `(n, classes)`: in mc the mean over the samples.
    `std` `(n, classes)`: the samples' standard deviation; 0 in inference.
    `entropy` `(n,)`: predictive entropy, that of `probabilities`, in nats.
    `mutual_information` `(n,)`: the part of it that the samples disagree about; 0 in inference.
    `classes` `(n,)`: the most probable class, an index into `labels`.
    """

    labels: tuple
    mode: str
    runtime: str
    seed: int | None
    logits: np.ndarray

    @functools.cached_property
    def probabilities(self):
        # The one that everybody reads, so computed without the others where that can be.
        return metrics.softmax(self.logits) if self.logits.ndim == 2 else self._measured[0]

    @property
    def std(self):
        return self._measured[1]

    @property
    def entropy(self):
        return self._measured[2]

    @property
    def mutual_information(self):
        return self._measured[3]

    @property
    def classes(self):
        return self.probabilities.argmax(axis=-1)

    @functools.cached_property
    def _measured(self):
        """Probabilities, standard deviations, entropies and mutual information."""
        if self.logits.ndim == 2:
            p = self.probabilities
            return p, np.zeros_like(p), metrics.predictive_entropy(p), np.zeros(len(p))
        starts = range(0, self.logits.shape[1], _AT_ONCE)
        parts = [_of_samples(self.logits[:, start : start + _AT_ONCE]) for start in starts]
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))


def _of_samples(logits):
    p = np.exp(metrics.log_softmax(logits))
    mean = p.mean(axis=0)
    return mean, p.std(axis=0), metrics.predictive_entropy(mean), metrics.mutual_information(p)
