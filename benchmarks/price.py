"""What dropout costs: steps with it against steps of the same network without, in alternating pairs.

The price is a ratio of step times, the forward and backward pass and the optimiser's step
counted, at batch 128 on images of 28x28 pixels. `ours` are the project's mask layers,
`stock` Keras' own in the same loop; `xla` means that the whole step is compiled by XLA.
"""

import statistics
import time

from zoo import startup

startup.tensorflow()

import keras  # noqa: E402 - behind the quiet start
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import zoo  # noqa: E402
from trainers.loop import Engine  # noqa: E402
from trainers.recipe import Recipe  # noqa: E402
from zoo import Drop  # noqa: E402
from zoo.data import Dataset, Part  # noqa: E402

PLACEMENTS = {
    "mlp": {"hidden": 0.5},
    "cnn": {"hidden": 0.5, "conv": Drop(0.1, "spatial")},
    "resnet": {"conv": 0.2},
    "transformer": dict.fromkeys(("embedding", "attention", "attention_out", "ffn_hidden", "ffn_out"), 0.1),
}
BATCH, PAIRS, SECONDS = 128, 51, 0.15  # about that long a measurement, but at least two steps


def price(models=tuple(PLACEMENTS), pairs=PAIRS):
    """Rows of model, layers, xla: median ratio of step times, and the quartiles of the pairs."""
    rows = []
    for model in models:
        for xla in (False, True):
            for layers in ("ours", "stock"):
                with_, without = (stepper(model, placement, layers, xla) for placement in (PLACEMENTS[model], {}))
                rows.append({"model": model, "layers": layers, "xla": xla, **_compared(with_, without, pairs)})
                keras.backend.clear_session()
    return {"what": "step time with dropout against without, batch 128, 28x28 images", "rows": rows}


def widths(pairs=PAIRS):
    """The price in an MLP over its width and over the batch size."""
    rows = []
    for width, batch in [(128, 128), (512, 128), (2048, 128), (512, 32), (512, 512)]:
        for layers in ("ours", "stock"):
            settings = {"batch": batch, "hidden": (width, width)}
            with_, without = (stepper("mlp", p, layers, False, **settings) for p in (PLACEMENTS["mlp"], {}))
            rows.append({"width": width, "batch": batch, "layers": layers, **_compared(with_, without, pairs)})
    return {"what": "price of dropout 0.5 in an MLP with two hidden layers", "rows": rows}


def stepper(model, placement, layers, xla, batch=BATCH, **settings):
    """A function of a number of steps that takes so many and returns when they are done."""
    network = zoo.build(model, (28, 28, 1), 10, placement, seed=1, **settings)
    if layers == "stock":
        network = stock(network)
    engine = Engine(network, Recipe(epochs=1, batch_size=batch, jit_compile=xla), noise(8 * batch), seed=1)
    x, y = (tf.constant(part) for part in (engine.dataset.train.x, engine.dataset.train.y))

    def steps(count):
        order = tf.range(8 * batch)
        for i in tf.range(count):
            index = order[i % 8 * batch : (i % 8 + 1) * batch]  # as in an epoch: of a size that tracing does not know
            engine.train_step(tf.gather(x, index), tf.gather(y, index))
        return engine.optimizer.iterations.value + 0

    # Traced here and now: TensorFlow would take several of these for one that is traced again and again, and warn.
    traced = tf.function(steps).get_concrete_function(tf.TensorSpec((), tf.int32))
    return lambda count: int(traced(tf.constant(count)))


def stock(network):
    """The same network of Keras' own mask layers, as it comes back from any file."""
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    again.set_weights(network.get_weights())
    return again


def noise(examples):
    """Images and labels of Fashion-MNIST's shape that nobody could learn; arithmetic takes as long on them."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (examples, 28, 28, 1), dtype=np.uint8)
    part = Part(x, rng.integers(0, 10, examples).astype(np.int32))
    return Dataset("noise", "image", x.shape[1:], 10, tuple("0123456789"), part, part, part, None, False, {})


def _compared(a, b, pairs):
    """The ratios of seconds of `a` to seconds of `b`, in turns, the first of a pair changing."""
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


def seconds_of(run, *steps):
    """The seconds that a call takes."""
    begun = time.perf_counter()
    run(*steps)
    return time.perf_counter() - begun


def warm_seconds_of(run, steps):
    """The seconds that so many steps take, behind one that finds the caches as another network left them."""
    run(1)
    return seconds_of(run, steps)
