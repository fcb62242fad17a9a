"""Predictions of a model with their uncertainty, and how they are printed."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo import metrics

_AT_ONCE = 256  # examples whose samples are converted to float64 together
_MOST, _MANY = 0.95, 0.7  # shares of samples, and probabilities, of what is called certain and fairly certain
_ROUNDING = 1e-6  # by which a probability may differ between runtimes: a class at the threshold is in the set
_WIDEST = 60  # characters of an input or a label in the table


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for `n` examples. Everything but `logits` is computed from them on first use.

    Attributes:
        labels: names of the classes.
        mode: `inference` or `mc`.
        runtime: name of the runtime.
        seed: seed of the samples in mc, else None.
        logits: float32 `(n, classes)`; in mc `(samples, n, classes)`.
        temperature: of calibrated probabilities, else None.
        threshold: of prediction sets, else None.
        probabilities: `(n, classes)`; in mc the mean over the samples; calibrated if there is a `temperature`.
        std: `(n, classes)`, standard deviation over the samples; 0 in inference.
        entropy: `(n,)`, entropy of `probabilities` in nats.
        mutual_information: `(n,)` in nats, the part of the uncalibrated entropy that comes from
            disagreement between the samples; 0 in inference.
        classes: `(n,)`, the most probable class, an index into `labels`.
        sets: bool `(n, classes)`, the classes of each prediction set, which may be empty; None without a
            `threshold`. They do not depend on the temperature.
    """

    labels: tuple[str, ...]
    mode: str
    runtime: str
    seed: int | None
    logits: np.ndarray
    temperature: float | None = None
    threshold: float | None = None

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        if self.temperature is None:
            return self._plain
        with np.errstate(divide="ignore"):  # a probability of 0 stays 0
            return metrics.softmax(np.log(self._plain) / self.temperature)

    @property
    def std(self) -> np.ndarray:
        return self._measured[1]

    @property
    def entropy(self) -> np.ndarray:
        return self._measured[2] if self.temperature is None else metrics.predictive_entropy(self.probabilities)

    @property
    def mutual_information(self) -> np.ndarray:
        return self._measured[3]

    @property
    def classes(self) -> np.ndarray:
        return self._plain.argmax(axis=-1)

    @property
    def sets(self) -> np.ndarray | None:
        return None if self.threshold is None else 1.0 - self._plain <= self.threshold + _ROUNDING

    @functools.cached_property
    def votes(self) -> np.ndarray:
        """The number of samples that predict each class, int `(n, classes)`; of one pass in inference."""
        winners = np.atleast_2d(self.logits.argmax(axis=-1))
        return np.stack([(winners == k).sum(axis=0) for k in range(len(self.labels))], axis=-1)

    @functools.cached_property
    def _plain(self):
        # Most callers read only these, so the other measures are not computed with them in inference.
        return metrics.softmax(self.logits) if self.logits.ndim == 2 else self._measured[0]

    @functools.cached_property
    def _measured(self):
        """Returns probabilities, standard deviations, entropies and mutual information."""
        if self.logits.ndim == 2:
            p = self._plain
            return p, np.zeros_like(p), metrics.predictive_entropy(p), np.zeros(len(p))
        starts = range(0, self.logits.shape[1], _AT_ONCE)
        parts = [_of_samples(self.logits[:, start : start + _AT_ONCE]) for start in starts]
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))


def _of_samples(logits):
    p = np.exp(metrics.log_softmax(logits))
    mean = p.mean(axis=0)
    return mean, p.std(axis=0), metrics.predictive_entropy(mean), metrics.mutual_information(p)


# === As the command line prints them ===


def as_json(names: Sequence[str], predictions: Predictions) -> dict[str, Any]:
    """Returns the dictionary that `predict --json` prints."""
    rows, sets = [], predictions.sets
    for i, (name, class_) in enumerate(zip(names, predictions.classes.tolist(), strict=True)):
        row = {
            "input": name,
            "class": predictions.labels[class_],  # as in the table
            "label": predictions.labels[class_],
            "index": class_,
            "probability": float(predictions.probabilities[i, class_]),
            "probabilities": predictions.probabilities[i].tolist(),
            "std": predictions.std[i].tolist(),
            "entropy": float(predictions.entropy[i]),
        }
        if predictions.mode == "mc":
            several = len(predictions.logits) > 1  # undefined in one sample, as `in_words` says
            row["mutual_information"] = float(predictions.mutual_information[i]) if several else None
            row["in_words"] = in_words(predictions, i)
        if sets is not None:
            row["set"] = [predictions.labels[k] for k in np.flatnonzero(sets[i])]
        rows.append(row)
    result: dict[str, Any] = {"predictions": rows, "mode": predictions.mode, "runtime": predictions.runtime}
    if predictions.mode == "mc":
        result |= {"seed": predictions.seed, "samples": len(predictions.logits)}
    if predictions.temperature is not None:
        result["temperature"] = predictions.temperature
    return result


def in_words(predictions: Predictions, i: int) -> str:
    """Returns a sentence that says how certain Monte-Carlo samples are of example `i`."""
    votes, samples = predictions.votes[i], len(predictions.logits)
    class_, p = predictions.classes[i], predictions.probabilities[i].max()
    label = _shown(predictions.labels[class_])
    share = votes[class_] / samples
    if samples == 1:
        return f"One sample says nothing about how certain {label} is; use more samples."
    agree = f"all {samples} samples predict" if share == 1 else f"{votes[class_]} of {samples} samples predict"
    if share >= _MOST and p >= _MOST:
        return f"Certain: {agree} {label}."
    if share >= _MANY and p >= _MANY:
        return f"Fairly certain: {agree} {label}."
    others = np.where(np.arange(len(votes)) == class_, -1, predictions.probabilities[i])
    second = _shown(predictions.labels[int(others.argmax())])
    # Disagreement between samples is what more training data would remove (Gal 2016, section 3.3).
    disagree = predictions.mutual_information[i] > 0.5 * predictions._measured[2][i]
    why = "the samples disagree, as for inputs unlike the training data" if disagree else "both are plausible"
    return f"Uncertain: {agree} {label}, the next is {second}; {why}."


def as_table(names: Sequence[str], predictions: Predictions) -> str:
    """Returns a table with a row per input; in mc with the uncertainty, the number of samples and the seed."""
    result = as_json(names, predictions)
    mc = predictions.mode == "mc"
    sets = predictions.sets is not None
    headings = ["input", "class", "probability", *(["spread", "entropy", "mutual information"] if mc else [])]
    rows = [[*headings, *(["set of classes"] if sets else [])]]
    for row in result["predictions"]:
        figures = [row["probability"]]
        if mc:
            figures += [row["std"][row["index"]], row["entropy"], row["mutual_information"]]
        shown = ["-" if figure is None else f"{figure:.4f}" for figure in figures]
        rows.append([_shown(row["input"]), _shown(row["label"]), *shown])
        if sets:
            rows[-1].append(_shown(", ".join(row["set"]) or "none"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = {0, 1, *([len(rows[0]) - 1] if sets else [])}
    lines = ["  ".join(_cells(row, widths, left)).rstrip() for row in rows]
    if mc:
        lines += ["", *(f"{_shown(row['input'])}: {row['in_words']}" for row in result["predictions"])]
    drawn = f", {result['samples']} samples, seed {result['seed']}" if mc else ""
    scaled = "" if predictions.temperature is None else f"; calibrated, temperature {predictions.temperature:.3f}"
    return "\n".join([*lines, "", f"mode {result['mode']}{drawn}; runtime {result['runtime']}{scaled}"])


def _cells(row, widths, left):
    """Yields padded cells: text aligned left, numbers right."""
    for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.ljust(width) if i in left else cell.rjust(width)


def _shown(text):
    """Returns a text shortened to one line, without control characters."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."
