"""How far a model's predictions can be trusted, in inference and with dropout on, side by side.

The measures are in `calibration`, `selective`, `shift` and `sets`; this file draws the predictions once
and measures them.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from zoo import checks, keras_graph, metrics
from zoo.data.dataset import HOLDS
from zoo.errors import BadInput
from zoo.models.scores import scores_of
from zoo.modes import MASKS
from zoo.modes.modes import in_mode, whether_drops
from zoo.modes.montecarlo import Sampler
from zoo.reliability import calibration, corruptions, selective, sets, shift
from zoo.reliability.resampling import RESAMPLES, Bootstrap, Estimate, estimates, mean_of, undefined
from zoo.results import Result
from zoo.seeds import of_sample

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from zoo.data import Dataset

SAMPLES = 50
COVERAGE = 0.9
PREFIXES = (1, 2, 5, 10, 20, 50, 100)  # numbers of samples at which every figure is given
BATCH = 256  # examples of a pass
MODES = ("inference", "mc")
SCALARS = (
    "error",
    "loss",
    "brier",
    "ece",
    "ece_mass",
    "ece_scaled",
    "temperature",
    "aurc",
    "excess_aurc",
    *tuple(f"error_at_{share}" for share in selective.SHARES),
    "coverage",
    "set_size",
)


class UncertaintyResult(Result):
    """The result of `zoo.uncertainty`: the contents of `uncertainty.json`, with a table and a figure.

    Attributes:
        examples: a row per test example and mode, as in `per_example.csv`.
        images: the test images, for the figure; None for other inputs.
    """

    def __init__(self, figures: dict[str, Any], examples: list[dict[str, Any]], images: np.ndarray | None) -> None:
        super().__init__(figures)
        self.examples = examples
        self.images = images

    @property
    def headline(self) -> str:
        """Error, loss and calibration error of each mode in one line."""
        rows = [(name, self["modes"][name]) for name in MODES if self["modes"][name]]
        shown = [(name, *(row[key]["value"] for key in ("error", "loss", "ece"))) for name, row in rows]
        figures = "; ".join(f"{name} error {e:.2f} %, loss {loss:.3f}, ECE {ece:.1f} %" for name, e, loss, ece in shown)
        return f"{self['model']} on {self['examples']:,} test examples: {figures}"

    def table(self) -> "pandas.DataFrame":
        """Returns a row per figure: its value and interval in each mode, and their difference."""
        import pandas

        columns = {**{name: row for name, row in self["modes"].items() if row}, "difference": self["difference"]}
        rows = []
        for key in SCALARS:
            row: dict[str, Any] = {"figure": key}
            for name, figures in columns.items():
                if figures and key in figures:
                    row |= {f"{name}{suffix}": figures[key][of] for suffix, of in _LIMITS}
            rows.append(row)
        return pandas.DataFrame(rows)

    def figure(self) -> "Figure":
        """Draws calibration, selective prediction, shift, prediction sets, and the most and least certain examples."""
        from zoo.reliability.figure import draw

        return draw(self, self.examples, self.images)


_LIMITS = (("", "value"), ("_low", "low"), ("_high", "high"))


@dataclass(frozen=True)
class Drawn:
    """What a mode predicts for some examples: `log_p` `(examples, classes)`, and how the samples spread."""

    log_p: np.ndarray
    sample_entropy: np.ndarray | None = None  # (examples,), as for `selective.scores`
    variance: np.ndarray | None = None

    @functools.cached_property
    def scores(self) -> dict[str, np.ndarray]:
        return selective.scores(self.log_p, self.sample_entropy, self.variance)


def uncertainty(
    model: keras.Model,
    dataset: "Dataset",
    ood: Mapping[str, Any] | None = None,
    samples: int = SAMPLES,
    coverage: float = COVERAGE,
    seed: int = 0,
    resamples: int = RESAMPLES,
    masks: str = "per-example",
    corrupt: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> UncertaintyResult:
    """Measures how far a classifier's predictions can be trusted, in inference and in Monte-Carlo mode.

    Temperature and prediction sets are fitted on the validation part; everything is measured on the test
    part. Figures have a `value` and the limits `low` and `high` of a 95 % bootstrap interval over test
    examples. Undefined figures are None with a `reason`.

    Args:
        model: a Functional classifier, see `zoo.compare_modes`.
        dataset: what `zoo.data.load` returned.
        ood: foreign examples by name, arrays in the form of the model's input. Scores should tell them
            from the test part.
        samples: number of Monte-Carlo samples.
        coverage: share of prediction sets that should hold the true class, in (0, 1).
        seed: seed of the masks and resamples.
        resamples: number of bootstrap resamples.
        masks: `per-example` or `shared`, see `zoo.Sampler`.
        corrupt: whether to measure corrupted test images, too, see `zoo.reliability.corruptions`.
        say: called with a line of progress before each step.

    Returns:
        A dictionary with `.table()`, `.figure()` and `.examples`. Its keys are:

        `modes`: figures of `inference` and `mc`. error, ece (equal-width bins), ece_mass (equal-mass bins),
            ece_scaled (after temperature scaling), aurc, excess_aurc and error_at_N (after the N % least
            certain are handed over) are per cent; loss is in nats; brier is 0 to 2. aurc and error_at_N use
            the probability of the predicted class; `selective` has them by every score. coverage and
            set_size are those of the method `thr`; `sets` has all methods and each class. `ood` has auroc,
            aupr and fpr95 by data set and score. `mc` is None if the model has no dropout.
        `difference`: mc minus inference, paired by example.
        `samples`: the figures of mc with 1, 2, 5, ... samples.
        `corruptions`: error, loss and ece of each mode by kind of corruption, a row per strength from 1 to 5; None
            unless `corrupt`, and for other inputs than images.
        `notes`: what is undefined, and why.

    Raises:
        BadInput (a ValueError): another kind of model, or arguments out of range.

    Examples:
        >>> import zoo
        >>> model = zoo.build("mlp", (8, 8, 1), 10, {"hidden": 0.5}, hidden=(16,))
        >>> result = uncertainty(model, zoo.data.load("digits"), samples=2, resamples=10)
        >>> sorted(result["samples"])
        ['1', '2']
    """
    checks.integer("samples", samples, 1, checks.MOST["samples"])
    checks.integer("seed", seed, 0, checks.MOST["seed"])
    checks.number("coverage", coverage, 0, 1, closed="neither")
    checks.one_of("masks", masks, MASKS)
    test, val, foreign = _examples(dataset, ood)
    sources = {"test": test[0], "val": val[0], **{f"ood:{name}": x for name, x in foreign.items()}}
    drawer = Drawer(model, samples, seed, masks)
    draws: dict[str, dict[int, dict[str, Drawn]]] = {}
    for name, x in sources.items():
        say(f"predicting {len(x):,} {_SOURCES.get(name, name.replace('ood:', 'foreign examples of '))}{drawer.about}")
        for mode, counts in drawer.predictions(x).items():
            for count, predictions in counts.items():
                draws.setdefault(mode, {}).setdefault(count, {})[name] = predictions
    say(f"measuring, with {resamples} resamples")
    bootstrap = Bootstrap(len(test[1]), resamples, seed)
    others = {name: Bootstrap(len(x), resamples, seed + 1 + i) for i, (name, x) in enumerate(foreign.items())}
    measured: dict[str, dict[str, Any] | None] = dict.fromkeys(MODES)
    by_count: dict[str, Any] = {}
    notes = []
    per_example = []
    for mode, counts in draws.items():
        for count, parts in counts.items():
            figures = _measured(parts, test[1], val[1], dataset.labels, coverage, seed, bootstrap, others)
            if count == 1:
                _without_spread(figures)
            if mode == "mc":
                by_count[str(count)] = _rounded(figures)
        measured[mode] = figures
        per_example += _rows(mode, parts["test"], test[1], figures["_sets"])
    if measured["mc"] is None:
        notes.append("the model has no dropout, so there is no Monte-Carlo mode")
    difference = _difference(measured) if measured["mc"] else None
    result = {
        "model": model.name,
        "dataset": dataset.name,
        "examples": len(test[1]),
        "validation_examples": len(val[1]),
        "classes": list(dataset.labels),
        "drawn": samples,
        "masks": masks,
        "level": coverage,
        "seed": seed,
        "assumed": drawer.assumed,
        "modes": {name: _rounded(figures) for name, figures in measured.items()},
        "difference": difference,
        "samples": by_count,
        "corruptions": _corruptions(drawer, dataset, test, bootstrap, seed, notes, say) if corrupt else None,
        "notes": notes,
    }
    images = test[0] if dataset.kind == "image" else None
    return UncertaintyResult(result, per_example, images)


def _examples(dataset, ood):
    """Returns the test part, the validation part, which may be empty, and the foreign examples by name."""
    if not (hasattr(dataset, "test") and hasattr(dataset, "val")):
        raise BadInput(f"dataset must be what zoo.data.load returned, got {checks.shown(dataset)}")
    checks.mapping("ood", {} if ood is None else ood)
    test, val = _arrays(dataset.test), _arrays(dataset.val)
    foreign = {name: np.asarray(x) for name, x in (ood or {}).items()}
    for name, x in {"the test part of dataset": test[0], **{f"ood {name!r}": x for name, x in foreign.items()}}.items():
        if not len(x):
            raise BadInput(f"{name} must hold examples, got none; give some")
    return test, val, foreign


def _arrays(part):
    head = part.head(len(part))
    return head.x, np.asarray(head.y)


class Drawer:
    """Predicts examples in inference and, if the model drops anything, in Monte-Carlo mode."""

    def __init__(self, model, samples, seed, masks):
        self._scores, self._settled = scores_of(keras_graph.Graph(model)), False
        self._samples, self._seed, self._shared = samples, seed, masks == "shared"
        self._sampler = _sampler(model, masks)
        self.about = "" if self._sampler is None else f", {samples} samples each"
        if self._sampler is None:
            self._plain = tf.function(in_mode(model, "inference"), autograph=False)

    @property
    def assumed(self) -> str:
        """How the outputs are read, as a sentence."""
        return self._scores.assumed

    def predictions(self, x: np.ndarray, prefixes: bool = True) -> dict[str, dict[int, Drawn]]:
        """Returns the predictions by mode and number of samples; with `prefixes`, of the first 1, 2, 5, ... ones."""
        if not len(x):  # only the validation part can be empty, and nothing is fitted then
            empty = Drawn(np.empty((0, self._classes)))
            return {mode: dict.fromkeys(counts, empty) for mode, counts in self._counts(prefixes).items()}
        plain, drawn = [], []
        for b, start in enumerate(range(0, len(x), BATCH)):
            outputs, samples = self._outputs(x[start : start + BATCH], 0 if self._shared else b)
            plain.append(outputs)
            drawn.append(samples)
        outputs = np.concatenate(plain)
        if not self._settled:  # the first source is the test part
            self._scores, self._settled = self._scores.settled(outputs), True
        log_p = metrics.log_softmax(_finite(self._scores.logits(outputs)))
        by_mode = {"inference": {0: Drawn(log_p)}}
        self._classes = log_p.shape[-1]
        if self._sampler is not None:
            by_mode["mc"] = {}
            wanted = self._counts(prefixes)["mc"]
            for count, predictions in self._averaged(np.concatenate(drawn, axis=1)):
                if count in wanted:
                    by_mode["mc"][count] = predictions()
        return by_mode

    def _counts(self, prefixes):
        """Returns the numbers of samples of each mode."""
        if self._sampler is None:
            return {"inference": [0]}
        return {"inference": [0], "mc": [*(n for n in PREFIXES if prefixes and n < self._samples), self._samples]}

    def _outputs(self, x, chunk):
        if self._sampler is None:
            return self._plain(tf.constant(x), tf.constant(0)).numpy(), None
        seeds = [of_sample(self._seed, s, chunk) for s in range(self._samples)]
        samples, plain = self._sampler.samples_and_inference(x, seeds)
        return plain, samples

    def _averaged(self, outputs) -> Iterator[tuple[int, Callable[[], Drawn]]]:
        """Yields the mean over the first 1, 2, 3, ... samples; running sums keep one sample in float64 at a time."""
        total: Any = -np.inf
        p_sum, squares, entropy = 0.0, 0.0, 0.0
        for count, sample in enumerate(outputs, 1):
            log_p = metrics.log_softmax(_finite(self._scores.logits(sample)))
            p = np.exp(log_p)
            total = np.logaddexp(total, log_p)
            p_sum, squares, entropy = p_sum + p, squares + p * p, entropy + metrics.predictive_entropy(p)

            def predictions(count=count, total=total, p_sum=p_sum, squares=squares, entropy=entropy):
                log_mean = np.minimum(total - np.log(count), 0.0)  # above 0 only by rounding
                if count == 1:
                    return Drawn(log_mean)
                variance = np.maximum(squares / count - (p_sum / count) ** 2, 0.0).mean(axis=-1)
                return Drawn(log_mean, entropy / count, variance)

            yield count, predictions


_SOURCES = {"test": "test examples", "val": "validation examples"}


def _sampler(model, masks):
    """Returns a sampler; None for a model without dropout."""
    if not whether_drops(model):
        return None
    return Sampler(model, masks)


def _finite(logits):
    if not np.isfinite(logits).all():
        raise BadInput("model must have finite outputs on these examples, got NaN or infinity; train it again")
    return logits


def _corruptions(drawer, dataset, test, bootstrap, seed, notes, say):
    """Returns error, loss and calibration error of each mode by kind of corruption and strength."""
    if dataset.kind != "image":
        notes.append(f"corruptions are for images, and {dataset.name} holds {HOLDS[dataset.kind]}")
        return None
    rows: dict[str, list] = {}
    for kind in corruptions.KINDS:
        say(f"corrupting the test images: {kind}, strengths {corruptions.STRENGTHS[0]} to {corruptions.STRENGTHS[-1]}")
        for strength in corruptions.STRENGTHS:
            by_mode = drawer.predictions(corruptions.corrupted(test[0], kind, strength, seed), prefixes=False)
            figures: dict[str, Any] = dict.fromkeys(MODES)
            for mode, counts in by_mode.items():
                (predictions,) = counts.values()
                measures = calibration.measures(predictions.log_p, test[1])
                kept = bootstrap.of_sums({key: measures[key] for key in ("error", "loss", "ece")})
                figures[mode] = _rounded(kept)
            rows.setdefault(kind, []).append({"strength": strength, **figures})
    return rows


def _measured(parts, y, y_val, labels, coverage, seed, bootstrap, others):
    """Returns the figures of a mode; estimates stay `Estimate`s, so that differences can be paired."""
    test, val = parts["test"], parts["val"]
    sums = calibration.measures(test.log_p, y)
    figures = _scaled(test.log_p, val.log_p, y, y_val, sums)
    kinds = {name: _sets(test, val, y, y_val, labels, coverage, seed, name, sums) for name in sets.METHODS}
    averaged = bootstrap.of_sums(sums)
    for name, kind in kinds.items():
        kind |= {key: averaged.pop(f"{name} {key}") for key in _OF_SETS if f"{name} {key}" in sums}
    figures |= averaged
    wrong = test.log_p.argmax(axis=1) != y
    known = test.scores
    curves = {name: selective.RiskCoverage(score, wrong) for name, score in known.items()}
    by_score = {name: estimates(curve.measures, bootstrap) for name, curve in curves.items()}
    figures |= by_score["probability"]
    figures |= {key: kinds["thr"][key] for key in _OF_SETS}
    foreign = {name.removeprefix("ood:"): part for name, part in parts.items() if name.startswith("ood:")}
    return figures | {
        "brier_parts": calibration.brier_decomposition(test.log_p, y),
        "diagram": calibration.reliability_diagram(test.log_p, y),
        "selective": {name: {**row, "curve": curves[name].curve()} for name, row in by_score.items()},
        "sets": {name: {k: v for k, v in kind.items() if k != "members"} for name, kind in kinds.items()},
        "ood": {
            name: {
                score: estimates(shift.Detection(known[score], values).measures, bootstrap, others[name])
                for score, values in part.scores.items()
            }
            for name, part in foreign.items()
        },
        "_sets": kinds["thr"]["members"],
    }


_OF_SETS = ("coverage", "set_size")


def _scaled(log_p, log_p_val, y, y_val, sums):
    """Returns the temperature, and adds the measures after scaling to `sums`."""
    try:
        temperature = calibration.temperature(log_p_val, y_val)
    except BadInput as error:
        return {key: undefined(str(error)) for key in ("temperature", "ece_scaled", "loss_scaled")}
    after = calibration.scaled(log_p, temperature)
    sums["ece_scaled"] = calibration.calibration_error(after, y)
    sums["loss_scaled"] = mean_of(calibration.losses(after, y))
    return {"temperature": {"value": temperature, "low": None, "high": None, "reason": "fitted on the validation part"}}


def _sets(test, val, y, y_val, labels, coverage, seed, method, sums):
    """Returns the prediction sets of a method, and adds their measures to `sums`."""
    fitting_val = sets.scores(np.exp(val.log_p), method, seed)
    try:
        limit = sets.threshold(fitting_val[np.arange(len(y_val)), y_val], coverage)
    except BadInput as error:
        return {**{key: undefined(str(error)) for key in _OF_SETS}, "members": None}
    members = sets.prediction_sets(sets.scores(np.exp(test.log_p), method, seed + 1), limit)
    inside, sizes = members[np.arange(len(y)), y], members.sum(axis=1)
    sums[f"{method} coverage"], sums[f"{method} set_size"] = mean_of(inside), mean_of(sizes)
    by_class = {
        str(labels[k]): {"coverage": float(inside[y == k].mean()), "set_size": float(sizes[y == k].mean())}
        for k in np.unique(y)
    }
    return {"threshold": limit, "by_class": by_class, "members": members}


def _without_spread(figures):
    """Adds the scores that one sample does not have, as undefined ones."""
    for score in selective.OF_SAMPLES:
        known = figures["selective"]["probability"]
        figures["selective"][score] = {key: _ONE if key != "curve" else None for key in known}
        for by_score in figures["ood"].values():
            by_score[score] = dict.fromkeys(by_score["probability"], _ONE)


_ONE = undefined("one sample has no spread; use more samples")


def _difference(measured):
    inference, mc = measured["inference"], measured["mc"]
    figures = {
        key: (mc[key] - inference[key]).figure()
        for key in SCALARS
        if isinstance(mc[key], Estimate) and isinstance(inference[key], Estimate)
    }
    figures["ood"] = {
        name: {
            score: {key: (mc["ood"][name][score][key] - row[key]).figure() for key in row}
            for score, row in by_score.items()
        }
        for name, by_score in inference["ood"].items()
    }
    return figures


def _rounded(figures):
    """Returns figures fit for JSON: estimates as value and limits, without what belongs to single examples."""
    if isinstance(figures, Estimate):
        return figures.figure()
    if isinstance(figures, Mapping):
        return {key: _rounded(value) for key, value in figures.items() if not key.startswith("_")}
    return figures


def _rows(mode, part: Drawn, y: Sequence[int], members) -> Iterable[dict[str, Any]]:
    scores = part.scores
    predicted = part.log_p.argmax(axis=1)
    empty = np.zeros(len(y)) if mode == "inference" else [None] * len(y)  # undefined in one sample
    columns = {key: scores.get(key, empty) for key in selective.OF_SAMPLES}
    for i, label in enumerate(y):
        inside = "" if members is None else " ".join(map(str, np.flatnonzero(members[i])))
        yield {
            "index": i,
            "label": int(label),
            "mode": mode,
            "predicted": int(predicted[i]),
            "probability": float(np.exp(part.log_p[i, predicted[i]])),
            "entropy": float(scores["entropy"][i]),
            **{key: None if values[i] is None else float(values[i]) for key, values in columns.items()},
            "set": inside,
        }
