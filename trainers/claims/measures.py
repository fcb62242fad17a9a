"""What claims measure on a trained network, besides its error and loss: each a function of network, data and seed.

Each returns numbers by name. Errors are per cent, losses in nats. The test part is read once, after training.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from zoo import metrics
from zoo.errors import BadInput

if TYPE_CHECKING:
    import keras

    from zoo.data.dataset import Dataset

BATCH = 500
SAMPLES = (1, 5, 20, 50)  # masks that are averaged
REMOVED = (0.25, 0.5)  # shares of hidden units that are removed
DRAWS = 5  # random choices of the removed units


def test_logits(model: "keras.Model", dataset: "Dataset") -> np.ndarray:
    """Returns the logits of the test part in inference mode, `(examples, classes)`."""
    return _logits(model, dataset.test.x)


def ensemble(model: "keras.Model", dataset: "Dataset", seed: int, masks: str) -> dict[str, float]:
    """Error and loss of the mean prediction of K masks, each of one thinned network or of its own for each example.

    Also of single masks: `..._error_single`, the mean error of one mask.
    """
    import zoo

    sampler, name = zoo.Sampler(model, masks=masks), "thinned" if masks == "shared" else "mc"
    y, most = dataset.test.y, max(SAMPLES)
    sums = {k: np.zeros((len(y), dataset.classes)) for k in SAMPLES}
    predicted = np.zeros((most, len(y)), np.int64)
    for start in range(0, len(y), BATCH):
        part = slice(start, start + BATCH)
        probabilities = metrics.softmax(sampler.samples(dataset.test.x[part], range(most)))
        predicted[:, part] = probabilities.argmax(-1)
        for k in SAMPLES:
            sums[k][part] = probabilities[:k].mean(axis=0)
    figures = {}
    for k in SAMPLES:
        log_p = np.log(np.maximum(sums[k], 1e-12))
        figures |= {f"{name}_error_{k}": metrics.error(log_p, y), f"{name}_loss_{k}": metrics.loss(log_p, y)}
    errors = 100.0 * (predicted != y).mean(axis=1)
    return {**figures, f"{name}_error_single": float(errors.mean())}


def mc(model: "keras.Model", dataset: "Dataset", seed: int) -> dict[str, float]:
    """The ensemble with a mask for each example (Monte-Carlo dropout)."""
    return ensemble(model, dataset, seed, "per-example")


def thinned(model: "keras.Model", dataset: "Dataset", seed: int) -> dict[str, float]:
    """The ensemble of thinned networks."""
    return ensemble(model, dataset, seed, "shared")


def calibration(model: "keras.Model", dataset: "Dataset", seed: int) -> dict[str, float]:
    """Calibration error and loss after temperature scaling, fitted on the validation part."""
    from zoo.reliability.calibration import scaled, temperature

    val, test = (metrics.log_softmax(_logits(model, part.x)) for part in (dataset.val, dataset.test))
    try:
        factor = temperature(val, dataset.val.y)
    except BadInput:
        return {}
    log_p = scaled(test, factor)
    ece, loss = metrics.calibration_error(log_p, dataset.test.y), metrics.loss(log_p, dataset.test.y)
    return {"temperature": factor, "scaled_ece": ece, "scaled_loss": loss}


def foreign(model: "keras.Model", dataset: "Dataset", seed: int) -> dict[str, float]:
    """How well entropy tells test images from the same images turned by 90 degrees: AUROC, in inference and in mc."""
    import zoo
    from zoo.reliability.shift import Detection

    x = dataset.test.x[:2000]
    turned = np.rot90(x, axes=(1, 2))
    ones = np.ones((1, len(x)))

    def auroc(entropy):
        known, other = entropy(x), entropy(turned)
        return float(Detection(known, other).measures(ones, ones)["auroc"][0])

    figures = {"auroc_inference": auroc(lambda images: metrics.entropy(_logits(model, images)))}
    try:
        sampler = zoo.Sampler(model)
    except BadInput:  # no dropout
        return figures

    def of_samples(images):
        drawn = (sampler.samples(images[i : i + BATCH], range(20)) for i in range(0, len(images), BATCH))
        return np.concatenate([metrics.predictive_entropy(metrics.softmax(z).mean(axis=0)) for z in drawn])

    return {**figures, "auroc_mc": auroc(of_samples)}


def activity(model: "keras.Model", dataset: "Dataset", seed: int) -> dict[str, float]:
    """Of the hidden units of an MLP, in inference mode: mean activation, share that is not 0, and their correlation.

    `correlation` is the mean absolute correlation of two units of a layer over the test part, a measure of
    co-adaptation (Cogswell et al. 2016 use the covariance, which also depends on the scale).
    """
    hidden, means, shares, correlations = _hidden(model), [], [], []
    x = _pixels(dataset)
    for kernel, bias in hidden[:-1]:
        x = np.maximum(x @ kernel + bias, 0)
        means.append(float(x.mean()))
        shares.append(100.0 * float((x > 0).mean()))
        live = x[:, x.std(axis=0) > 0]
        matrix = np.abs(np.corrcoef(live, rowvar=False))
        correlations.append(float(matrix[~np.eye(len(matrix), dtype=bool)].mean()))
    return {
        "activation": float(np.mean(means)),
        "active": float(np.mean(shares)),
        "correlation": float(np.mean(correlations)),
    }


def ablation(model: "keras.Model", dataset: "Dataset", seed: int) -> dict[str, float]:
    """Test error of an MLP with a share of its hidden units removed, the others as they are; a mean over draws."""
    hidden, x, y = _hidden(model), _pixels(dataset), dataset.test.y
    rng, figures = np.random.default_rng(seed), {}
    for share in REMOVED:
        errors = []
        for _ in range(DRAWS):
            h = x
            for kernel, bias in hidden[:-1]:
                kept = rng.permutation(kernel.shape[1]) >= round(share * kernel.shape[1])
                h = np.maximum(h @ kernel + bias, 0) * kept
            errors.append(metrics.error(h @ hidden[-1][0] + hidden[-1][1], y))
        figures[f"removed_{round(100 * share)}_error"] = float(np.mean(errors))
    return figures


def unscaled(model: "keras.Model", dataset: "Dataset", seed: int) -> dict[str, float]:
    """What inference gives without the factor that dropout needs.

    `unscaled_error` and `unscaled_loss` are those of activations too large by 1 / (1 - rate) after each mask, as
    if the network had been trained without rescaling and were used as it is. `unscaled_ratio` is how many times
    larger the mean absolute logit then is.
    """
    from zoo import keras_graph
    from zoo.modes.uncompensated import callers

    graph = keras_graph.Graph(model)
    caller = callers(graph.steps)[0].get("uncompensated_inference")
    if caller is None:
        return {}
    import tensorflow as tf

    outputs = []
    for start in range(0, len(dataset.test.y), BATCH):
        values, seeds = graph.place_inputs(dataset.test.x[start : start + BATCH]), tf.constant([0], tf.int32)
        with caller.scope(seeds):
            keras_graph.run(graph.steps, values, caller.with_seeds(seeds))
        outputs.append(np.asarray(graph.result(values)))
    logits, plain = np.concatenate(outputs), test_logits(model, dataset)
    return {
        "unscaled_error": metrics.error(logits, dataset.test.y),
        "unscaled_loss": metrics.loss(logits, dataset.test.y),
        "unscaled_ratio": float(np.abs(logits).mean() / np.abs(plain).mean()),
    }


def batchnorm(model: "keras.Model", dataset: "Dataset", seed: int) -> dict[str, float]:
    """What dropout does to stored BatchNorm statistics.

    `shift` is the largest ratio over the layers of the stored variance and that of inference, either way, a mean
    over channels. `reestimated_error` is the test error with means and variances measured again with dropout off
    on 2,000 training images, `train_eval_error` the error on those in inference mode before that.
    """
    import keras

    x, y = dataset.train.x[:2000], dataset.train.y[:2000]
    before = metrics.error(_logits(model, x), y)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    ratios, stored = [], [layer.get_weights() for layer in norms]
    for layer in norms:  # in the order of the network, so that each sees inputs that are corrected already
        inputs = keras.Model(model.inputs, layer.input).predict(x.astype("float32"), batch_size=BATCH, verbose=0)
        axes = tuple(range(inputs.ndim - 1))
        mean, variance = inputs.mean(axis=axes), inputs.var(axis=axes)
        gamma, beta, _, old = layer.get_weights()
        ratio = np.maximum(variance, 1e-8) / np.maximum(old, 1e-8)
        ratios.append(float(np.maximum(ratio, 1 / ratio).mean()))
        layer.set_weights([gamma, beta, mean, variance])
    error = metrics.error(test_logits(model, dataset), dataset.test.y)
    for layer, weights in zip(norms, stored, strict=True):
        layer.set_weights(weights)
    return {"shift": max(ratios, default=1.0), "reestimated_error": error, "train_eval_error": before}


MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    function.__name__: function
    for function in (mc, thinned, calibration, foreign, activity, ablation, unscaled, batchnorm)
}
COLUMNS: dict[str, tuple[str, ...]] = {
    "mc": (*(f"mc_{what}_{k}" for k in SAMPLES for what in ("error", "loss")), "mc_error_single"),
    "thinned": (*(f"thinned_{what}_{k}" for k in SAMPLES for what in ("error", "loss")), "thinned_error_single"),
    "calibration": ("temperature", "scaled_ece", "scaled_loss"),
    "foreign": ("auroc_inference", "auroc_mc"),
    "activity": ("activation", "active", "correlation"),
    "ablation": tuple(f"removed_{round(100 * share)}_error" for share in REMOVED),
    "unscaled": ("unscaled_error", "unscaled_loss", "unscaled_ratio"),
    "batchnorm": ("shift", "reestimated_error", "train_eval_error"),
}


def _logits(model, x):
    import keras

    parts = (np.asarray(model(x[i : i + BATCH].astype("float32"), training=False)) for i in range(0, len(x), BATCH))
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])


def _hidden(model):
    """Kernel and bias of each dense layer of an MLP, in order."""
    import keras

    return [layer.get_weights() for layer in model.layers if isinstance(layer, keras.layers.Dense)]


def _pixels(dataset):
    return dataset.test.x.reshape(len(dataset.test.x), -1).astype("float32") / 255
