"""The time of an epoch beside the arithmetic of its steps: order, batches, sums, and reading from disk.

The arithmetic is the same compiled step on one fixed batch, repeated as often as an epoch
has steps. `memory`: batches are gathered from arrays; `disk`: `tf.data` reads, decodes and
shuffles them, as it does for data sets that do not fit in memory.
"""

import statistics

from zoo import startup

startup.tensorflow()

import keras  # noqa: E402 - behind the quiet start
import tensorflow as tf  # noqa: E402

import zoo  # noqa: E402
from benchmarks.price import BATCH, PLACEMENTS, seconds_of  # noqa: E402
from trainers.recipe import Recipe  # noqa: E402
from trainers.training import feed  # noqa: E402
from trainers.training.loop import Engine  # noqa: E402
from zoo import data  # noqa: E402

EXAMPLES = {"mlp": 20000, "cnn": 1280, "transformer": 1280}
ROUNDS = 7


def loop(rounds: int = ROUNDS) -> dict:
    """Returns rows by model and place of the data: the time of an epoch over that of its arithmetic."""
    rows = []
    for model, examples in EXAMPLES.items():
        for where, budget in (("memory", 2**31), ("disk", 1)):
            dataset = data.load("fashion_mnist", train_size=examples, memory_budget=budget)
            epoch, arithmetic = _epoch(model, dataset), _arithmetic(model, dataset)
            epoch(), arithmetic()
            ratios = []
            for round_ in range(rounds):
                seconds = {}
                for run in (epoch, arithmetic) if round_ % 2 else (arithmetic, epoch):
                    seconds[run] = seconds_of(run)
                ratios.append(seconds[epoch] / seconds[arithmetic])
            low, ratio, high = statistics.quantiles(ratios, n=4)
            rows.append({"model": model, "data": where, "examples": examples, "ratio": ratio, "low": low, "high": high})
            keras.backend.clear_session()
    return {"what": f"an epoch of Fashion-MNIST against its steps' arithmetic, batch {BATCH}", "rows": rows}


def _engine(model, dataset):
    network = zoo.build(model, dataset.input_shape, dataset.classes, PLACEMENTS[model], seed=1)
    return Engine(network, Recipe(epochs=1000, schedule="constant", warmup=0.0), dataset, seed=1)


def _epoch(model, dataset):
    engine, numbers = _engine(model, dataset), iter(range(1, 1000))
    return lambda: engine.train_epoch(next(numbers))


def _arithmetic(model, dataset):
    engine = _engine(model, dataset)
    part = dataset.train.head(BATCH)
    x, y = tf.constant(part.x), tf.constant(part.y)

    @tf.function(autograph=False)
    def steps():
        return feed.summed(engine.train_step, lambda _: (x, y), tf.constant(0), engine.steps)[0]

    steps()
    return lambda: float(steps())
