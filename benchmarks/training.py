"""Training speed of the project's loop against stock `model.fit`, on the same arrays.

Machines differ, and the speed of one machine changes from minute to minute. So the figures
are ratios of alternating measurements.
"""

import os
import platform
import statistics
import time

from zoo import startup

startup.tensorflow()

import keras  # noqa: E402 - behind the quiet start

import zoo  # noqa: E402
from trainers.recipe import Recipe  # noqa: E402
from trainers.training.loop import Engine, fit  # noqa: E402
from zoo import data  # noqa: E402


def digits(seeds: int = 5, epochs: int = 50) -> dict:
    """Returns seconds and final accuracy of whole runs of an MLP 256-256 on digits, with tracing and validation."""
    dataset, rows = data.load("digits"), []
    for seed in range(seeds):
        # The order alternates, so that a machine that becomes slower or faster favours neither.
        pair = [_ours, _stock] if seed % 2 else [_stock, _ours]
        row = {"seed": seed}
        for run in pair:
            keras.backend.clear_session()
            model = zoo.build("mlp", dataset.input_shape, dataset.classes, {"hidden": 0.5}, seed, hidden=(256, 256))
            started = time.perf_counter()
            accuracy = run(model, dataset, epochs, seed)
            name = run.__name__.strip("_")
            row |= {f"{name}_seconds": time.perf_counter() - started, f"{name}_accuracy": accuracy}
        row["ratio"] = row["stock_seconds"] / row["ours_seconds"]
        rows.append(row)
    return {
        "what": f"MLP 256-256, dropout 0.5, digits, {epochs} epochs with validation, tracing counted",
        "ratio": statistics.median(row["ratio"] for row in rows),
        "accuracy_ours": statistics.fmean(row["ours_accuracy"] for row in rows),
        "accuracy_stock": statistics.fmean(row["stock_accuracy"] for row in rows),
        "runs": rows,
    }


def fashion(model: str, train_size: int | None, rounds: int = 5) -> dict:
    """Returns the seconds of an epoch on Fashion-MNIST with validation, after the first epoch, in alternating rounds.

    Args:
        model: the network's name.
        train_size: number of training images; None for all 54,000.
        rounds: number of measurements.
    """
    dataset = data.load("fashion_mnist", train_size=train_size)
    ours, stock = (zoo.build(model, dataset.input_shape, dataset.classes, seed=1) for _ in range(2))
    pairs = epochs_in_turns(ours, stock, dataset, rounds)
    ratios = sorted(pair["stock"] / pair["ours"] for pair in pairs)
    return {
        "what": f"{model}, default placement, fashion_mnist, {train_size or 54000} images, batch 128",
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
        "pairs": pairs,
    }


def epochs_in_turns(
    ours: keras.Model, stock: keras.Model, dataset: data.Dataset, rounds: int
) -> list[dict[str, float]]:
    """Returns the seconds of an epoch with validation in the loop (`ours`) and in `fit` (`stock`), after the first.

    The order alternates, so that a machine that becomes slower or faster favours neither.
    """
    recipe = Recipe(epochs=max(rounds + 1, Recipe().epochs), schedule="constant", warmup=0.0)
    epochs = fit(Engine(ours, recipe, dataset, 1), subset=0)
    _compile(stock)
    next(epochs)
    _fit_stock(stock, dataset, 1)
    pairs = []
    for number in range(rounds):
        seconds = {}
        for name in ("ours", "stock") if number % 2 else ("stock", "ours"):
            started = time.perf_counter()
            next(epochs) if name == "ours" else _fit_stock(stock, dataset, 1)
            seconds[name] = time.perf_counter() - started
        pairs.append(seconds)
    return pairs


def machine() -> dict:
    """Returns the processor, the number of cores, and whether there is AVX-512."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        lines = [line.partition(":")[::2] for line in file]
    about = {key.strip(): value.strip() for key, value in lines}
    # With AVX-512, TensorFlow uses oneDNN by default.
    avx512 = "avx512f" in about.get("flags", "").split()
    return {"processor": about.get("model name", platform.processor()), "cores": os.cpu_count(), "avx512": avx512}


def _ours(model, dataset, epochs, seed):
    recipe = Recipe(epochs=epochs, schedule="constant", warmup=0.0)
    return 1 - list(fit(Engine(model, recipe, dataset, seed), subset=0))[-1]["val_error"] / 100


def _stock(model, dataset, epochs, seed):
    keras.utils.set_random_seed(seed)
    _compile(model)
    return _fit_stock(model, dataset, epochs).history["val_accuracy"][-1]


def _compile(model):
    model.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def _fit_stock(model, dataset, epochs):
    return model.fit(
        dataset.train.x,
        dataset.train.y,
        batch_size=128,
        epochs=epochs,
        validation_data=(dataset.val.x, dataset.val.y),
        verbose=0,
    )
