"""One network in its three modes, side by side: what dropout changes between training and prediction.

Beside the three modes of `zoo.modes` stand those of `zoo.uncompensated`.
"""

import keras
import numpy as np

from zoo import dropout, graph, metrics, moments
from zoo.errors import BadInput
from zoo.montecarlo import Sampler
from zoo.scores import scores_of
from zoo.seeds import seed_for
from zoo.uncompensated import DRAWING, PAIR, callers

BATCH = 128  # examples of a pass, at most; in `training` it decides the batch statistics
DRAWN = 1000  # examples that are seen under some mask: few of them are passed through several times
SAMPLES = 20
_NEAR_ZERO = 0.1  # standard deviations of a layer's output: a smaller mean has no ratio
MODES = ("inference", "training", "mc", "mc_single", *PAIR)


def compare_modes(model, x, y=None, samples=SAMPLES, seed=0):
    """What a Functional classifier computes in each mode, as a JSON-able dictionary.

    Args:
        model: any Functional model with one output `(batch, classes)`; logits, or
            probabilities if its last operation is softmax or sigmoid (key `assumed`).
        x: examples, in the form that the model takes; nested, if it has several inputs.
        y: their classes `(examples,)`; without them there is no error, loss and ece.
        samples: Monte-Carlo samples. `seed`: decides masks and the batches of `training`.

    Returns:
        `modes`: figures by mode. error and ece are per cent, loss and entropy (mean, of
            the predicted distribution) nats. `mc` averages probabilities over the
            samples; `mc_single` averages the figures of single samples, with their
            standard deviation in `sd`. All others that drop average over `passes`
            passes. A mode that there is not is None, `notes` says why.
        `layers`: in the order of the calls, what `moments.summed` says by mode, and
            `mean_ratio`, `variance_ratio`: of each mode to inference. None where there
            is nothing to divide by: a variance of 0, or a mean of less than a tenth of
            a standard deviation. A layer that holds infinity somewhere is left out.
        `batch_norms`: what `_norm_shift` says of each BatchNorm.

    Raises `BadInput` (a ValueError) for another kind of model, or `y` that does not fit.
    Nothing is stored in the model. Memory holds one batch, and the outputs.

    >>> import numpy as np, zoo
    >>> model = zoo.build("mlp", (8, 8, 1), 10, {"hidden": 0.5}, hidden=(16,))
    >>> list(compare_modes(model, np.zeros((4, 8, 8, 1), "uint8"))["modes"]["inference"])
    ['entropy']
    """
    whole = graph.Graph(model)
    ways, notes = callers(whole.steps)
    found = _figures(model, whole, ways, x, y, samples, seed, moments.worth_watching(whole))
    watches = found.pop("watches")
    layers = {name: watch.layers for name, watch in watches.items()}
    norms = {name: watch.norm_inputs for name, watch in watches.items()}
    if not ways["inference"].draws:  # mc is then inference, bit for bit
        layers["mc"], norms["mc"] = layers["inference"], norms["inference"]
    rows = [
        _layer(step, {name: values[i] for name, values in layers.items()})
        for i, step in enumerate(watches["inference"].steps)
    ]
    return {
        **found,
        "layers": [row for row in rows if row],
        "batch_norms": [
            _norm_shift(step, norms["inference"][step], norms["mc"][step] if "mc" in norms else None)
            for step in norms["inference"]
        ],
        "notes": notes,
    }


def gap(model, x, y, samples=SAMPLES, seed=0):
    """The figures of `compare_modes` for the three modes alone, as a table for a model's card.

    `modes` holds a row for each mode that there is: its name, what dropout and BatchNorm
    do in it, error, loss, ece and entropy.
    """
    whole = graph.Graph(model)
    ways = {name: way for name, way in callers(whole.steps)[0].items() if name not in PAIR}
    found = _figures(model, whole, ways, x, y, samples, seed, [])
    has_norm = any(moments.is_batch_norm(step) for step in whole.steps)
    drops = bool(ways["inference"].draws)
    rows = [
        {
            "name": name,
            "dropout": "on" if drops and name != "inference" else "off",
            "batch_norm": ("of the batch" if name == "training" else "stored") if has_norm else "none",
            **found["modes"][name],
        }
        for name in ways
    ]
    return {"modes": rows, **{key: found[key] for key in ("examples", "samples", "seed", "batch")}}


def _figures(model, whole, ways, x, y, samples, seed, watched):
    """Figures of every mode, and the `moments.Watch` of each; examples in an order that `seed` decides."""
    scores, count = scores_of(whole), len(keras.tree.flatten(x)[0])
    y = _checked(y, count, scores, samples, seed)
    order = np.random.default_rng(seed).permutation(count)
    batches = np.array_split(order, -(-count // BATCH))  # as equal as they can be
    labels = None if y is None else y[order]
    modes, watches = dict.fromkeys(MODES), {}
    passes = min(10, -(-DRAWN // count)) if ways["inference"].draws else 1
    for name, caller in ways.items():
        watches[name] = watch = moments.Watch(model, whole, caller, watched)
        rows = []
        for i in range(passes if name in DRAWING else 1):
            outputs = [watch(_part(x, some), seed_for(seed, f"pass/{i}/{b}")) for b, some in enumerate(batches)]
            rows.append(_measured(scores.logits(np.concatenate(outputs)), labels))
        modes[name] = _averaged(rows)[0]
    if "mc" in ways:
        modes |= _sampled(Sampler(model), x, batches, labels, scores, samples, seed)
    about = {"examples": count, "batch": max(map(len, batches)), "passes": passes, "samples": samples, "seed": seed}
    return {"model": model.name, **about, "assumed": scores.assumed, "modes": modes, "watches": watches}


def _part(x, some):
    return keras.tree.map_structure(lambda array: np.asarray(array)[some], x)


def _sampled(sampler, x, batches, labels, scores, samples, seed):
    parts = [
        sampler.samples(_part(x, some), [seed_for(seed, f"sample/{s}/{b}") for s in range(samples)])
        for b, some in enumerate(batches)
    ]
    drawn = [scores.logits(outputs) for outputs in np.concatenate(parts, axis=1)]
    mean = np.mean([np.exp(metrics.log_softmax(logits)) for logits in drawn], axis=0)
    single, spread = _averaged([_measured(logits, labels) for logits in drawn])
    return {
        "mc": _measured(np.log(np.maximum(mean, np.finfo(np.float64).tiny)), labels),
        "mc_single": {**single, "sd": spread},
    }


def _measured(logits, labels):
    """Figures of logits `(examples, classes)`. Raises `BadInput` if they are not finite."""
    if not np.isfinite(logits).all():
        raise BadInput("received a model whose outputs are not finite on these examples; train it again")
    found = {} if labels is None else metrics.summary(logits, labels)
    return {**found, "entropy": float(metrics.entropy(logits).mean())}


def _averaged(rows):
    """Mean and standard deviation (None of a single row) of each figure."""
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    spread = {key: float(np.std(values, ddof=1)) if len(rows) > 1 else None for key, values in columns.items()}
    return {key: float(np.mean(values)) for key, values in columns.items()}, spread


def _checked(y, count, scores, samples, seed):
    """The classes as an array, or None. Raises `BadInput` for what cannot be compared."""
    if not count or samples < 1 or seed < 0:
        raise BadInput(
            f"received {count} examples, {samples} samples and the seed {seed}; examples and samples are at least 1, "
            "a seed at least 0"
        )
    if y is None:
        return None
    y = np.asarray(y)
    if y.shape != (count,) or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= scores.classes:
        raise BadInput(
            f"received y of {y.dtype} {y.shape} from {y.min()} to {y.max()}; it holds the classes of the {count} "
            f"examples, whole numbers from 0 to {scores.classes - 1}, as the model has {scores.classes} classes"
        )
    return y


def _layer(step, modes):
    """A layer's row: what it is, its figures by mode, and their ratios to inference. None if they are not finite."""
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
    """How far the variance that a BatchNorm has stored is from the one that it meets, averaged over channels.

    `variance_shift`: max(real / moving, moving / real) of Li et al. 2019 (arXiv
    1801.05134, section 4): `real` is the variance of its input in mode inference on
    these examples, `moving` the stored one. 1 is no shift; also without dropout it is a
    little more, since both are estimates. Both have the layer's epsilon added, as the
    layer does before it divides, so that a channel without variance counts as 1.
    `masks_on_over_off`: variance of its input in mode mc over that in mode inference,
    what masks alone change. None if the model has no mc.
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
    return dropout.strength(operation) if dropout.is_mask(operation) else None


def _name(step):
    return step.name if step.call == 1 else f"{step.name} (call {step.call})"
