"""The price of dropout: steps with it against steps of the same network without it, in alternating pairs.

The price is a ratio of step times. A step is the forward and backward pass and the
optimizer's update, at batch 128 on images of 28x28 pixels. `ours` are the project's mask
layers, `stock` are Keras' own in the same loop; with `xla`, XLA compiles the whole step.
"""

import statistics
import time
from collections.abc import Callable, Sequence

from zoo import startup

startup.tensorflow()

import keras  # noqa: E402 - behind the quiet start
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import zoo  # noqa: E402
from trainers.recipe import Recipe  # noqa: E402
from trainers.training.loop import Engine  # noqa: E402
from zoo import Drop  # noqa: E402
from zoo.data import Dataset, Part  # noqa: E402

PLACEMENTS = {
    "mlp": {"hidden": 0.5},
    "cnn": {"hidden": 0.5, "conv": Drop(0.1, "spatial")},
    "resnet": {"conv": 0.2},
    "transformer": dict.fromkeys(("embedding", "attention", "attention_out", "ffn_hidden", "ffn_out"), 0.1),
}
BATCH, PAIRS, SECONDS = 128, 51, 0.15  # a measurement takes about SECONDS, but at least two steps


def price(models: Sequence[str] = tuple(PLACEMENTS), pairs: int = PAIRS) -> dict:
    """Returns rows by model, layers and xla: the median ratio of step times, and the quartiles of the pairs."""
    rows = []
    for model in models:
        for xla in (False, True):
            for layers in ("ours", "stock"):
                with_, without = (stepper(model, placement, layers, xla) for placement in (PLACEMENTS[model], {}))
                rows.append({"model": model, "layers": layers, "xla": xla, **_compared(with_, without, pairs)})
                keras.backend.clear_session()
    return {"what": "step time with dropout against without, batch 128, 28x28 images", "rows": rows}


def widths(pairs: int = PAIRS) -> dict:
    """Returns the price in an MLP over its width and over the batch size."""
    rows = []
    for width, batch in [(128, 128), (512, 128), (2048, 128), (512, 32), (512, 512)]:
        for layers in ("ours", "stock"):
            settings = {"batch": batch, "hidden": (width, width)}
            with_, without = (stepper("mlp", p, layers, False, **settings) for p in (PLACEMENTS["mlp"], {}))
            rows.append({"width": width, "batch": batch, "layers": layers, **_compared(with_, without, pairs)})
    return {"what": "price of dropout 0.5 in an MLP with two hidden layers", "rows": rows}


def stepper(
    model: str, placement: dict, layers: str, xla: bool, batch: int = BATCH, **settings: object
) -> Callable[[int], int]:
    """Returns a function that takes a number of training steps and returns when they are done.

    Args:
        model: the network's name.
        placement: its placement.
        layers: `ours` or `stock`.
        xla: whether XLA compiles the whole step.
        batch: the batch size.
        **settings: fields of the model's configuration.
    """
    network = zoo.build(model, (28, 28, 1), 10, placement, seed=1, **settings)
    if layers == "stock":
        network = stock(network)
    engine = Engine(network, Recipe(epochs=1, batch_size=batch, jit_compile=xla), noise(8 * batch), seed=1)
    x, y = (tf.constant(part) for part in (engine.dataset.train.x, engine.dataset.train.y))

    def steps(count):
        order = tf.range(8 * batch)
        for i in tf.range(count):
            index = order[i % 8 * batch : (i % 8 + 1) * batch]  # as in an epoch: tracing does not know its size
            engine.train_step(tf.gather(x, index), tf.gather(y, index))
        return engine.optimizer.iterations.value + 0

    # Traced now: TensorFlow would take several of these for one function that is retraced, and warn.
    traced = tf.function(steps).get_concrete_function(tf.TensorSpec((), tf.int32))
    return lambda count: int(traced(tf.constant(count)))


def stock(network: keras.Model) -> keras.Model:
    """Returns the same network with Keras' own mask layers, as a file restores it."""
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    again.set_weights(network.get_weights())
    return again


def noise(examples: int) -> Dataset:
    """Returns random images and labels of Fashion-MNIST's shape; the arithmetic takes as long on them."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (examples, 28, 28, 1), dtype=np.uint8)
    part = Part(x, rng.integers(0, 10, examples).astype(np.int32))
    return Dataset("noise", "image", x.shape[1:], 10, tuple("0123456789"), part, part, part, None, False, {})


def _compared(a, b, pairs):
    """The ratios of the seconds of `a` to those of `b`, measured in turns; the order in a pair alternates."""
    for run in (a, b):
        run(2)
    steps = max(2, round(SECONDS / (seconds_of(b, 4) / 4)))
    ratios, plain = [], []
    for pair in range(pairs):
        seconds = {}
        for run in (a, b) if pair % 2 else (b, a):
            seconds[run] = warm_seconds_of(run, steps)
        ratios.append(seconds[a] / seconds[b])
        plain.append(seconds[b] / steps)
    low, ratio, high = statistics.quantiles(ratios, n=4)
    return {"ratio": ratio, "low": low, "high": high, "pairs": pairs, "step_ms": 1000 * statistics.median(plain)}


def seconds_of(run: Callable, *steps: int) -> float:
    """Returns the seconds that a call takes."""
    started = time.perf_counter()
    run(*steps)
    return time.perf_counter() - started


def warm_seconds_of(run: Callable, steps: int) -> float:
    """Returns the seconds of `steps` steps, after one step that warms the caches."""
    run(1)
    return seconds_of(run, steps)
