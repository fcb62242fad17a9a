"""One network in its three modes, side by side: what dropout changes between training and prediction.

`zoo.modes.uncompensated` adds two modes to the three of `zoo.modes`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from zoo import checks, keras_graph, metrics
from zoo.checks import MOST, integer, shown
from zoo.dropout.layers import is_mask, strength
from zoo.errors import BadInput
from zoo.models.scores import scores_of
from zoo.modes import MASKS, MODES, moments
from zoo.modes.montecarlo import Sampler
from zoo.modes.report import WORDS
from zoo.modes.uncompensated import DRAWING, PAIR, callers
from zoo.results import Result
from zoo.seeds import of_pass, of_sample

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

BATCH = 128  # largest batch of a pass; in `training` it determines the batch statistics
DRAWN = 1000  # examples to be seen under some mask: fewer examples are passed through several times
SAMPLES = 20
_NEAR_ZERO = 0.1  # standard deviations of a layer's output: a smaller mean has no ratio
COMPARED = (*MODES, "mc_single", *PAIR)


class ModesResult(Result):
    """The result of `compare_modes`: a dictionary fit for JSON, with a table, a figure and the model.

    Attributes:
        model: the network that was compared. The key `model` is its name.
    """

    def __init__(self, figures: dict[str, Any], model: keras.Model) -> None:
        super().__init__(figures)
        self.model = model

    @property
    def headline(self) -> str:
        """The error of each mode, or the entropy without labels, in one line."""
        shown = [(name, self["modes"][name]) for name in MODES if self["modes"][name]]
        if "error" in shown[0][1]:
            figures = ", ".join(f"{name} {row['error']:.2f} %" for name, row in shown)
            return f"{self['model']}, test error on {self['examples']:,} examples: {figures}"
        figures = ", ".join(f"{name} {row['entropy']:.3f}" for name, row in shown)
        return f"{self['model']}, entropy (nats) on {self['examples']:,} examples: {figures}"

    def table(self) -> "pandas.DataFrame":
        """Returns a row per mode: its figures, their standard deviation over samples, and what the mode is."""
        import pandas

        rows = []
        for name, (_, about) in WORDS.items():
            figures = self["modes"][name]
            if figures:
                spread = {f"{key}_sd": value for key, value in (figures.get("sd") or {}).items()}
                plain = {key: value for key, value in figures.items() if key != "sd"}
                rows.append({"mode": name, **plain, **spread, "about": about})
        table = pandas.DataFrame(rows)
        return table[[*(key for key in table if key != "about"), "about"]]

    def figure(self) -> "Figure":
        """Draws error and loss by mode, the layers that move, and the BatchNorms that shift."""
        from zoo.modes.figure import draw

        return draw(self)


def compare_modes(
    model: keras.Model,
    x: Any,
    y: Sequence[int] | np.ndarray | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    masks: str = "per-example",
) -> ModesResult:
    """Compares what a Functional classifier computes in each mode.

    Nothing is stored in the model. Memory holds one batch and the outputs.

    Args:
        model: any Functional model with one output `(batch, classes)`: logits or
            probabilities, told from its last operations, or from its values (key `assumed`).
        x: examples in the form that the model takes; nested if it has several inputs.
        y: integer classes `(examples,)`; without them there is no error, loss and ece.
        samples: number of Monte-Carlo samples.
        seed: seed of the masks and of the batches in mode `training`.
        masks: in `mc`, `per-example` or `shared`, see `zoo.Sampler`.

    Returns:
        A dictionary with `.table()`, `.figure()` and `.model`. Its keys are:

        `modes`: figures by mode. error and ece are per cent; loss and entropy (mean, of
            the predicted distribution) are nats. `mc` averages probabilities over the
            samples; `mc_single` averages the figures of single samples, with their
            standard deviation in `sd`. Other modes with dropout average over `passes`
            passes. Unavailable modes are None, and `notes` says why.
        `layers`: a row per layer in call order: the figures of `moments.summed` by mode,
            and `mean_ratio`, `variance_ratio` of each mode to inference. A ratio is None
            if the variance in inference is 0, or the mean less than a tenth of a standard
            deviation. Layers with infinite outputs are left out.
        `batch_norms`: a row per BatchNorm: `variance_shift` is the larger over the smaller
            of the variance of its input in inference and the stored one, averaged over
            channels (Li et al. 2019, arXiv 1801.05134, section 4); `masks_on_over_off`
            the variance of its input in mc over that in inference.

    Raises:
        BadInput (a ValueError): another kind of model; outputs that may be logits or
            probabilities; a layer that `zoo.in_mode` refuses; or `y` that does not fit.

    Examples:
        >>> import numpy as np, zoo
        >>> model = zoo.build("mlp", (8, 8, 1), 10, {"hidden": 0.5}, hidden=(16,))
        >>> result = compare_modes(model, np.zeros((4, 8, 8, 1), "uint8"))
        >>> list(result["modes"]["inference"])
        ['entropy']
    """
    graph = keras_graph.Graph(model)
    checks.one_of("masks", masks, MASKS)
    by_mode, notes = callers(graph.steps, masks)
    figures = _figures(model, graph, by_mode, x, y, samples, seed, moments.worth_watching(graph), masks)
    watches = figures.pop("watches")
    layers = {name: watch.layers for name, watch in watches.items()}
    norms = {name: watch.norm_inputs for name, watch in watches.items()}
    if not by_mode["inference"].draws:  # mc then equals inference, bit for bit
        layers["mc"], norms["mc"] = layers["inference"], norms["inference"]
    rows = [
        _layer(step, {name: values[i] for name, values in layers.items()})
        for i, step in enumerate(watches["inference"].steps)
    ]
    figures |= {
        "layers": [row for row in rows if row],
        "batch_norms": [
            _norm_shift(step, norms["inference"][step], norms["mc"][step] if "mc" in norms else None)
            for step in norms["inference"]
        ],
        "notes": notes,
    }
    return ModesResult(figures, model)


def gap(model: keras.Model, x: Any, y: np.ndarray, samples: int = SAMPLES, seed: int = 0) -> dict[str, Any]:
    """Returns the figures of the three modes alone, for the card of a model.

    Args:
        model, x, y, samples, seed: as for `compare_modes`.

    Returns:
        A dictionary. `modes` has a row per available mode: its name, what dropout and
        BatchNorm do in it, error, loss, ece and entropy.
    """
    graph = keras_graph.Graph(model)
    by_mode = {name: caller for name, caller in callers(graph.steps)[0].items() if name not in PAIR}
    figures = _figures(model, graph, by_mode, x, y, samples, seed, [])
    has_norm = any(moments.is_batch_norm(step) for step in graph.steps)
    drops = bool(by_mode["inference"].draws)
    rows = [
        {
            "name": name,
            "dropout": "on" if drops and name != "inference" else "off",
            "batch_norm": ("of the batch" if name == "training" else "stored") if has_norm else "none",
            **figures["modes"][name],
        }
        for name in by_mode
    ]
    return {"modes": rows, **{key: figures[key] for key in ("examples", "samples", "seed", "batch")}}


def _figures(model, graph, by_mode, x, y, samples, seed, watched, masks="per-example"):
    """Returns the figures of every mode and the `moments.Watch` of each; `seed` shuffles the examples."""
    sizes = [len(part) if np.ndim(part) else 0 for part in keras.tree.flatten(x)]
    if not sizes or len(set(sizes)) > 1:
        raise BadInput(f"x must be an array of examples, got {shown(x)}")
    scores, count = scores_of(graph), sizes[0]
    y = _checked(y, count, scores, samples, seed)
    order = np.random.default_rng(seed).permutation(count)
    batches = np.array_split(order, -(-count // BATCH))  # of nearly equal size
    labels = None if y is None else y[order]
    modes, watches = dict.fromkeys(COMPARED), {}
    passes = min(10, -(-DRAWN // count)) if by_mode["inference"].draws else 1
    for name, caller in by_mode.items():
        watches[name] = watch = moments.Watch(model, graph, caller, watched)
        rows = []
        for i in range(passes if name in DRAWING else 1):
            shared = name == "mc" and masks == "shared"
            seeds = [of_pass(seed, i, 0 if shared else b) for b in range(len(batches))]
            parts = [watch(_part(x, indices), seeds[b]) for b, indices in enumerate(batches)]
            outputs = np.concatenate(parts)
            if name == "inference":  # the first mode
                scores = scores.settled(outputs)
            rows.append(_measured(scores.logits(outputs), labels))
        modes[name] = _averaged(rows)[0]
    if "mc" in by_mode:
        modes |= _sampled(Sampler(model, masks), x, batches, labels, scores, samples, seed, masks == "shared")
    about = {"examples": count, "batch": max(map(len, batches)), "passes": passes}
    about |= {"samples": samples, "masks": masks, "seed": seed}
    return {"model": model.name, **about, "assumed": scores.assumed, "modes": modes, "watches": watches}


def _part(x, indices):
    return keras.tree.map_structure(lambda array: np.asarray(array)[indices], x)


def _sampled(sampler, x, batches, labels, scores, samples, seed, shared):
    parts = [
        sampler.samples(_part(x, indices), [of_sample(seed, s, 0 if shared else b) for s in range(samples)])
        for b, indices in enumerate(batches)
    ]
    drawn = [scores.logits(outputs) for outputs in np.concatenate(parts, axis=1)]
    mean = np.mean([np.exp(metrics.log_softmax(logits)) for logits in drawn], axis=0)
    single, spread = _averaged([_measured(logits, labels) for logits in drawn])
    return {
        "mc": _measured(np.log(np.maximum(mean, np.finfo(np.float64).tiny)), labels),
        "mc_single": {**single, "sd": spread},
    }


def _measured(logits, labels):
    """Returns the figures of logits `(examples, classes)`. Raises `BadInput` if some are not finite."""
    if not np.isfinite(logits).all():
        raise BadInput("model must have finite outputs on these examples, got NaN or infinity; train it again")
    figures = {} if labels is None else metrics.summary(logits, labels)
    return {**figures, "entropy": float(metrics.entropy(logits).mean())}


def _averaged(rows):
    """Returns the mean and the standard deviation (None for a single row) of each figure."""
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    spread = {key: float(np.std(values, ddof=1)) if len(rows) > 1 else None for key, values in columns.items()}
    return {key: float(np.mean(values)) for key, values in columns.items()}, spread


def _checked(y, count, scores, samples, seed):
    """Returns the classes as an array, or None. Raises `BadInput` for arguments that cannot be compared."""
    integer("number of examples", count)
    integer("samples", samples, 1, MOST["samples"])
    integer("seed", seed, 0, MOST["seed"])
    if y is None:
        return None
    y = np.asarray(y)
    if y.shape != (count,) or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= scores.classes:
        bounds = f" from {y.min()} to {y.max()}" if y.size and y.dtype.kind in "iuf" else ""
        raise BadInput(
            f"y must hold the classes of the {count} examples, integers from 0 to {scores.classes - 1}, "
            f"got {y.dtype} of shape {y.shape}{bounds}; the model has {scores.classes} classes"
        )
    return y


def _layer(step, modes):
    """Returns a layer's row: its name, its figures by mode, their ratios to inference. None if some are not finite."""
    if not np.isfinite([value for figures in modes.values() for value in figures.values()]).all():
        return None
    base = modes["inference"]
    others = [name for name in modes if name != "inference"]
    has_mean = abs(base["mean"]) > _NEAR_ZERO * base["variance"] ** 0.5
    return {
        "name": _name(step),
        "type": type(step.operation).__name__,
        "rate": _rate(step.operation),
        "modes": modes,
        "mean_ratio": {name: modes[name]["mean"] / base["mean"] if has_mean else None for name in others},
        "variance_ratio": {
            name: modes[name]["variance"] / base["variance"] if base["variance"] else None for name in others
        },
    }


def _norm_shift(step, off, on):
    """Compares the variance that a BatchNorm has stored with that of its input, averaged over channels.

    `variance_shift` is max(real / moving, moving / real) of Li et al. 2019 (arXiv
    1801.05134, section 4): `real` is the variance of its input in inference on these
    examples, `moving` the stored one. 1 means no shift; without dropout it is slightly
    above 1, because both are estimates. The layer's epsilon is added to both, as the
    layer does before it divides, so that a channel without variance counts as 1.
    `masks_on_over_off` is the variance of its input in mc over that in inference, the
    effect of the masks alone. None if the model has no mc.
    """
    layer = step.operation
    real, moving = off + layer.epsilon, np.asarray(layer.moving_variance, np.float64) + layer.epsilon
    return {
        "name": _name(step),
        "channels": len(real),
        "variance_shift": float(np.maximum(real / moving, moving / real).mean()),
        "masks_on_over_off": None if on is None else float(((on + layer.epsilon) / real).mean()),
    }


def _rate(operation):
    return strength(operation) if is_mask(operation) else None


def _name(step):
    return step.name if step.call == 1 else f"{step.name} (call {step.call})"
