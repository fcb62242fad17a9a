"""Public functions with one wrong argument each."""

import dataclasses
import functools
import random
from pathlib import Path

import numpy as np


class Hostile:
    """An object whose every conversion fails."""

    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __len__ = __iter__ = __index__ = __float__ = __bool__ = __array__ = __fspath__ = __repr__


def _values():
    endless: list = []
    endless.append(endless)
    return {
        **{repr(value): value for value in (None, True, -1, 0, 1.5, "", "x", [], {}, [[]], {"x": 1}, {1: 2}, ("x", 1))},
        **{
            repr(value): value
            for value in (float("nan"), float("-inf"), 2**63, 1j, b"\xff", {1}, range(3), "/dev/zero")
        },
        **{"10**400": 10**400, "NUL": "a\x00b", "surrogate": "\udcff", "long": "x" * 100_000, "endless": endless},
        **{"object": object(), "type": int, "function": len, "hostile": Hostile(), "folder": Path("folder")},
        **{"empty array": np.zeros((0, 8, 8, 1)), "nan array": np.full((1, 8, 8, 1), np.nan), "0-d": np.array(3)},
        **{"object array": np.array([None, "x"]), "text array": np.array(["x"]), "generator": iter([1, 2])},
    }


NAMES = tuple(_values())
_SMALL = {"set": {"hidden": 4}, "epochs": 1, "train_size": 50, "threads": 1, "quiet": True}
_RUN = (
    *("model", "dataset", "placement", "drop", "scaling", "drop_schedule", "set", "seed", "epochs"),
    *("batch_size", "optimizer", "learning_rate", "momentum", "schedule", "warmup", "warmup_start"),
    *("weight_decay", "max_norm", "label_smoothing", "augment", "early_stopping", "train_size"),
    *("split_seed", "image_size", "resize", "value_range", "vocabulary", "length", "text_column"),
    *("label_column", "out", "data_dir", "threads"),
)
_COLUMNS = ("text_column", "label_column")
X = np.zeros((2, 8, 8, 1), "uint8")


def _model():
    import zoo

    return zoo.build("mlp", (8, 8, 1), 10, {"hidden": 0.5}, hidden=(4,))


@functools.cache
def _digits():
    from zoo import data

    return data.load("digits")


def _targets():
    """Name -> (function, good arguments by name, the arguments that are made wrong)."""
    import trainers
    import tuning
    import zoo

    build = {"model": "mlp", "input_shape": (8, 8, 1), "classes": 10}
    card = {"input": {"kind": "image", "shape": [8, 8, 1]}}
    return {
        "zoo.build": (zoo.build, build, [*build, "placement", "seed", "vocabulary", "hidden"]),
        "zoo.load": (zoo.load, {"folder": "artefact"}, ["folder", "runtime", "threads"]),
        "predict": (
            lambda **k: zoo.load("artefact", "onnx").predict(**k),
            {"x": X, "mode": "mc", "samples": 2},
            ["x", "mode", "samples", "seed", "batch_size", "value_range"],
        ),
        "logits": (lambda **k: zoo.load("artefact", "onnx").logits(**k), {"x": X}, ["x", "mode", "seed"]),
        "zoo.read_inputs": (zoo.read_inputs, {"given": ["inputs/x.png"], "card": card}, ["given", "value_range"]),
        "zoo.list_models": (zoo.list_models, {"pattern": "*"}, ["pattern"]),
        "zoo.compile": (zoo.compile, {"model": _model}, ["model", "optimizer", "loss", "metrics"]),
        "zoo.in_mode": (zoo.in_mode, {"model": _model, "mode": "mc"}, ["model", "mode"]),
        "in_mode(...)": (lambda x, seed: zoo.in_mode(_model(), "mc")(x, seed=seed), {"x": X, "seed": 1}, ["x", "seed"]),
        "zoo.Sampler": (zoo.Sampler, {"model": _model}, ["model"]),
        "zoo.compare_modes": (
            zoo.compare_modes,
            {"model": _model, "x": X, "y": np.array([0, 1]), "samples": 2},
            ["model", "x", "y", "samples", "seed"],
        ),
        "zoo.uncertainty": (
            zoo.uncertainty,
            {"model": _model, "dataset": _digits, "samples": 2, "resamples": 10},
            ["model", "dataset", "ood", "samples", "coverage", "seed", "resamples"],
        ),
        "zoo.sites": (zoo.sites, {"model": _model}, ["model"]),
        "zoo.audit": (zoo.audit, {"model": _model}, ["model"]),
        "zoo.place": (zoo.place, {"model": _model, "placement": {"hidden": 0.3}}, ["model", "placement", "seed"]),
        "zoo.Drop": (zoo.Drop, {"rate": 0.5}, ["rate", "kind", "ramp", "block_size"]),
        "zoo.Placement": (zoo.Placement, {"sites": {"hidden": 0.5}}, ["sites", "scaling", "schedule"]),
        "Placement.parse": (zoo.Placement.parse, {"items": "hidden=0.5"}, ["items", "scaling", "schedule"]),
        "Placement.from_json": (zoo.Placement.from_json, {"data": "{}"}, ["data"]),
        "Schedule.parse": (zoo.Schedule.parse, {"text": "early:0.3"}, ["text"]),
        "data.load": (
            zoo.data.load,
            {"name": "digits"},
            [
                "name",
                "data_dir",
                "train_size",
                "split_seed",
                "image_size",
                "resize",
                "value_range",
                "vocabulary",
                "length",
                "memory_budget",
            ],
        ),
        "data.load of a table": (zoo.data.load, {"name": "data/texts.csv"}, [*["vocabulary", "length"], *_COLUMNS]),
        "data.read_image": (
            zoo.data.read_image,
            {"path": "inputs/x.png", "shape": (8, 8, 1)},
            ["path", "shape", "resize", "value_range"],
        ),
        "dropout.Dropout": (zoo.dropout.Dropout, {"rate": 0.5}, ["rate", "seed"]),
        "dropout.DropBlock2D": (zoo.dropout.DropBlock2D, {"rate": 0.5}, ["rate", "block_size", "seed"]),
        "trainers.train": (trainers.train, {**_SMALL, "out": "new"}, [*_RUN, "from_", "resume", "callbacks"]),
        "trainers.compare": (
            trainers.compare,
            {**_SMALL, "epochs": 0, "out": "new"},
            [name for name in _RUN if name not in ("placement", "drop", "seed", "epochs")]
            + ["arm", "each_site", "seeds", "tune", "tuning_seeds", "workers", "backend"],
        ),
        "trainers.Recipe": (trainers.Recipe, {}, [f.name for f in dataclasses.fields(trainers.Recipe)]),
        "tuning.search": (
            tuning.search,
            {**_SMALL, "tune": "hidden=0/0.5", "max_trials": 1, "out": "new"},
            [*_RUN, "tune", "tuner", "max_trials", "executions", "workers"],
        ),
        "tuning.Space.parse": (tuning.Space.parse, {"items": ["hidden=0/0.5"]}, ["items"]),
        "tuning.Space.from_json": (tuning.Space.from_json, {"data": {}}, ["data"]),
    }


def draw(rng: random.Random, number: int):
    """Returns a call with one wrong argument."""
    from cases import Case

    targets = _targets()
    target = list(targets)[number // 5 % len(targets)]
    name = rng.choice(targets[target][2])
    value = rng.choice(NAMES)
    if target.startswith("dropout.") and value == "endless":
        value = "hostile"  # Keras flattens the arguments before the layer sees them

    def call(folder):
        function, good, _ = _targets()[target]
        arguments = {key: made() if callable(made) else made for key, made in good.items()}
        return function(**{**arguments, name: _values()[value]})

    return Case(f"{number}: {target}({name}={value})", "call", call=call)
