"""Training with dropout: the project's loop and layers, stock Keras with `fit`, and eager PyTorch.

`ours` is what a run of 1,000 steps or more does, `ours_other` has the other setting of
`jit_compile`. Networks and placements are those of `benchmarks.price`; all train on the same
arrays at batch 128 with Adam and all threads, in turns within one run. Figures are images
per second. PyTorch is optional: without it, its columns are left out, and the result says so.
"""

import dataclasses
import importlib.util
import statistics
import time
from collections.abc import Sequence

from zoo import startup

startup.tensorflow()

import keras  # noqa: E402 - behind the quiet start

import zoo  # noqa: E402
from benchmarks.price import BATCH, PLACEMENTS, noise, stock  # noqa: E402
from trainers.recipe import Recipe  # noqa: E402
from trainers.training.loop import Engine  # noqa: E402
from trainers.training.optimizer import compiles  # noqa: E402

STEPS = {"mlp": 100, "cnn": 12, "resnet": 12, "transformer": 8}
ROUNDS = 9


def peers(models: Sequence[str] = tuple(STEPS), rounds: int = ROUNDS) -> dict:
    """Returns rows by model: images per second of each, and the ratios of ours to the others, medians over rounds."""
    rows = []
    for model in models:
        epochs = {"ours": _ours(model), "ours_other": _ours(model, other=True)}
        epochs |= {"stock": _stock(model), **_torch(model)}
        seconds = {name: [] for name in epochs}
        for run in epochs.values():
            run()
        for round_ in range(rounds):
            # Each of them starts a round in turn.
            names = list(epochs)[round_ % len(epochs) :] + list(epochs)[: round_ % len(epochs)]
            for name in names:
                started = time.perf_counter()
                epochs[name]()
                seconds[name].append(time.perf_counter() - started)
        rows.append(_row(model, seconds))
        keras.backend.clear_session()
    absent = {} if _has_torch() else {"left_out": "PyTorch is not installed: pip install torch==2.13.0"}
    return {"what": "training with dropout on, batch 128, images per second", "rows": rows, **absent}


def _row(model, seconds):
    images = BATCH * STEPS[model]
    row = {"model": model, **{name: images / statistics.median(times) for name, times in seconds.items()}}
    for name in ("stock", "torch"):
        if name not in seconds:
            continue
        ratios = [other / ours for other, ours in zip(seconds[name], seconds["ours"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        row |= {f"against_{name}": middle, f"against_{name}_low": low, f"against_{name}_high": high}
    return row


def _network(model):
    return zoo.build(model, (28, 28, 1), 10, PLACEMENTS[model], seed=1)


def _ours(model, other=False):
    network, recipe = _network(model), Recipe(epochs=1000, schedule="constant", warmup=0.0)
    if other:
        recipe = dataclasses.replace(recipe, jit_compile=not compiles(recipe, network, 10**6))
    engine = Engine(network, recipe, _data(model), seed=1)
    epochs = iter(range(1, 1000))
    return lambda: engine.train_epoch(next(epochs))


def _stock(model):
    network, data = stock(_network(model)), _data(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return lambda: network.fit(data.train.x, data.train.y, batch_size=BATCH, epochs=1, verbose=0)


def _torch(model):
    """PyTorch in the faster memory layout, or nothing if it is not installed."""
    if not _has_torch():
        return {}
    import torch

    from benchmarks import torch_networks

    torch.manual_seed(1)
    data, timed = _data(model).train, []
    for channels_last in (False, True) if model in ("cnn", "resnet") else (False,):
        network = getattr(torch_networks, model)()
        trainer = torch_networks.Trainer(network, data.x, data.y, BATCH, channels_last)
        trainer.epoch()
        started = time.perf_counter()
        trainer.epoch()
        timed.append((time.perf_counter() - started, channels_last, trainer.epoch))
    return {"torch": min(timed)[2]}


def _has_torch():
    return importlib.util.find_spec("torch") is not None


def _data(model):
    return noise(BATCH * STEPS[model])
