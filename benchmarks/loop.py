"""The time of an epoch beside the arithmetic of its steps, and of one from the cache beside one in memory.

The arithmetic is the same compiled step on one fixed batch, repeated as often as an epoch has steps.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from unittest import mock

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
from zoo.data import cache  # noqa: E402

EXAMPLES = {"mlp": 20000, "cnn": 1280, "transformer": 1280}
TEXTS = "glue/sst2"
ROUNDS, BUILDS = 7, 3


def loop(rounds: int = ROUNDS) -> dict:
    """Returns rows by model: the time of an epoch with data in memory over that of its arithmetic."""
    rows = []
    for model, examples in EXAMPLES.items():
        dataset = data.load("fashion_mnist", train_size=examples)
        runs = {"epoch": _epoch(model, dataset), "arithmetic": _arithmetic(model, dataset)}
        rows.append({"model": model, "data": "memory", "examples": examples, **_ratio(runs, rounds)})
        keras.backend.clear_session()
    return {"what": f"an epoch of Fashion-MNIST against its steps' arithmetic, batch {BATCH}", "rows": rows}


def disk(rounds: int = ROUNDS) -> dict:
    """Returns rows by model: the time of an epoch from the cache over that in memory, and by set: of filling the cache.

    The memory budget is one byte, and the cache a temporary folder.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {cache.VARIABLE: folder}):
        for model, examples in EXAMPLES.items():
            name = TEXTS if model == "transformer" else "fashion_mnist"
            runs = {}
            for where, budget in (("mapped", 1), ("memory", 2**31)):
                runs[where] = _epoch(model, data.load(name, train_size=examples, memory_budget=budget))
            rows.append({"model": model, "data": name, "examples": examples, **_ratio(runs, rounds)})
            runs.clear()
            keras.backend.clear_session()
        rows += [{"build": name, **_build(name)} for name in ("fashion_mnist", TEXTS)]
    return {"what": f"from the cache against in memory: an epoch, batch {BATCH}; the first reading", "rows": rows}


def _build(name):
    """The time of reading a set into an empty cache over that of reading it into memory."""
    ratios = []
    for round_ in range(BUILDS):
        seconds = {}
        for budget in (1, 2**31) if round_ % 2 else (2**31, 1):
            cache.clear()
            started = time.perf_counter()
            data.load(name, train_size=EXAMPLES["cnn"], memory_budget=budget)
            seconds[budget] = time.perf_counter() - started
        ratios.append(seconds[1] / seconds[2**31])
    return {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def _ratio(runs: Mapping[str, Callable], rounds):
    """The quartiles of the time of the first run over that of the second, measured in turns."""
    for run in runs.values():
        run()
    first, second = runs
    ratios = []
    for round_ in range(rounds):
        seconds = {name: seconds_of(runs[name]) for name in ((first, second) if round_ % 2 else (second, first))}
        ratios.append(seconds[first] / seconds[second])
    low, ratio, high = statistics.quantiles(ratios, n=4)
    return {"ratio": ratio, "low": low, "high": high}


def _engine(model, dataset):
    tokens = {"vocabulary": len(dataset.vocabulary)} if dataset.vocabulary else {}
    network = zoo.build(model, dataset.input_shape, dataset.classes, PLACEMENTS[model], seed=1, **tokens)
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
