"""The claims that need no training: they are computed, and tested by `make test`."""

import itertools
from collections.abc import Callable

import numpy as np

from zoo import metrics

RATE = 0.5


def weight_scaling(seed: int = 0) -> dict[str, float]:
    """Softmax regression: the geometric mean over all masks of 10 inputs against the network with scaled weights.

    Both are computed in float64 by enumeration (Goodfellow et al., "Deep Learning", section 7.12).

    Returns:
        `largest`, the largest difference of two probabilities.

    Examples:
        >>> weight_scaling()["largest"] < 1e-12
        True
    """
    rng = np.random.default_rng(seed)
    features, classes, examples = 10, 4, 50
    x, kernel, bias = rng.normal(size=(examples, features)), rng.normal(size=(features, classes)), rng.normal(size=4)
    masks = np.array(list(itertools.product((0.0, 1.0), repeat=features)))
    logits = np.einsum("mf,ef,fc->mec", masks, x, kernel) + bias
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    kept = masks.sum(axis=1)
    chance = (1 - RATE) ** kept * RATE ** (features - kept)
    geometric = np.exp(np.einsum("m,mec->ec", chance, log_p))
    geometric /= geometric.sum(axis=-1, keepdims=True)
    scaled = np.exp(x @ kernel * (1 - RATE) + bias)
    scaled /= scaled.sum(axis=-1, keepdims=True)
    return {"largest": float(np.abs(geometric - scaled).max())}


def inverted_scaling(seed: int = 0) -> dict[str, float]:
    """A linear layer after dropout: mean over 100,000 masks against inference, and inference against no dropout.

    Returns:
        `z`, the largest distance of a mean output from inference, in standard errors, and `bits`, the largest
        difference of inference between a network with dropout and one without, at equal weights.

    Examples:
        >>> inverted_scaling()["bits"]
        0.0
    """
    import zoo

    rng = np.random.default_rng(seed)
    x, kernel, rate, count = rng.normal(size=64), rng.normal(size=(64, 8)), 0.5, 100_000
    kept = rng.random((count, 64)) >= rate
    outputs = (kept * x / (1 - rate)) @ kernel
    errors = outputs.std(axis=0, ddof=1) / np.sqrt(count)
    z = float(np.abs((outputs.mean(axis=0) - x @ kernel) / errors).max())
    images = rng.integers(0, 256, (32, 8, 8, 1)).astype("uint8")
    with_dropout, without = (zoo.build("mlp", (8, 8, 1), 10, placement, seed=1) for placement in ({"hidden": rate}, {}))
    difference = np.abs(np.asarray(with_dropout(images)) - np.asarray(without(images)))
    return {"z": z, "bits": float(difference.max())}


def variance_shift(seed: int = 0) -> dict[str, float]:
    """ReLU of normal values under inverted dropout: the variance in training over that in inference.

    Li et al. 2019 (arXiv 1801.05134) derive ((v + c^2) / (1 - rate) - c^2) / v from mean c and variance v. The
    masks are those of this project.

    Returns:
        `ratio_0.1`, `ratio_0.3` and `ratio_0.5`.
    """
    import zoo

    values = np.maximum(np.random.default_rng(seed).normal(size=(1000, 2000)), 0).astype("float32")
    figures = {}
    for rate in (0.1, 0.3, 0.5):
        dropped = np.asarray(zoo.dropout.Dropout(rate, seed=seed)(values, training=True))
        figures[f"ratio_{rate}"] = float(dropped.var() / values.var())
    return figures


def thinned_networks(seed: int = 0) -> dict[str, float]:
    """A network with dropout on 8 hidden units: its 256 thinned networks, enumerated, against what is sampled.

    Returns:
        `member`, the largest distance of a sample with shared masks from the nearest of the 256 networks;
        `mean`, the largest difference between the mean logits of the 256 and the weight-scaled network (equal,
        since the last layer is linear); and `z`, the largest distance of the mean probability of 4,000 samples
        from that of the 256, in standard errors.

    Examples:
        >>> thinned_networks()["member"] < 1e-5
        True
    """
    import zoo

    rng, units, rate = np.random.default_rng(seed), 8, 0.5
    model = zoo.build("mlp", (3, 3, 1), 3, {"hidden": rate}, seed=seed, hidden=(units,))
    x = rng.integers(0, 256, (6, 3, 3, 1)).astype("uint8")
    (first, first_bias), (last, last_bias) = (model.get_layer(name).get_weights() for name in ("hidden_1", "logits"))
    hidden = np.maximum(x.reshape(6, -1) / 255 @ first + first_bias, 0)
    masks = np.array(list(itertools.product((0.0, 1.0), repeat=units))) / (1 - rate)
    logits = np.einsum("mu,eu,uc->mec", masks, hidden, last) + last_bias
    samples = zoo.Sampler(model, masks="shared").samples(x, range(4000))
    nearest = np.abs(samples[:500, None] - logits[None]).max(axis=(2, 3)).min(axis=1)
    truth, drawn = metrics.softmax(logits).mean(axis=0), metrics.softmax(samples)
    errors = np.maximum(drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn)), 1e-9)
    return {
        "member": float(nearest.max()),
        "mean": float(np.abs(logits.mean(axis=0) - np.asarray(model(x))).max()),
        "z": float(np.abs((drawn.mean(axis=0) - truth) / errors).max()),
    }


EXACT: dict[str, Callable[..., dict[str, float]]] = {
    function.__name__: function for function in (weight_scaling, inverted_scaling, variance_shift, thinned_networks)
}
