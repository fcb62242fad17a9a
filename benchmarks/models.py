"""Models that are not one of the four: the loop against stock `fit`; audits and placements."""

import statistics
import tempfile
import time
from pathlib import Path

import keras
import psutil

import zoo
from benchmarks.training import epochs_in_turns
from zoo import data
from zoo.surgery import network
from zoo.surgery.opening import open_model

PLACEMENTS = 50


def own_models(rounds: int = 5) -> dict:
    """Returns the seconds of an epoch on digits with validation, after the first, in alternating rounds.

    Args:
        rounds: number of measurements of each model.
    """
    dataset = data.load("digits")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sequential.keras")
        _sequential().save(path)
        models = {"sequential file": str(path), "applications/MobileNetV3Small": "applications/MobileNetV3Small"}
        rows = [{"model": name, **_epochs(model, dataset, rounds)} for name, model in models.items()]
    return {
        "what": "seconds of an epoch in stock fit over those in the loop; digits, batch 128, median of rounds",
        "ratio": min(row["ratio"] for row in rows),
        "rows": rows,
    }


def surgery() -> dict:
    """Returns the seconds of an audit and of a placement of EfficientNetB0, and the memory that placements take."""
    model = open_model("applications/EfficientNetB0", (224, 224, 3), 1000)
    started = time.perf_counter()
    findings = zoo.audit(model)
    audited = time.perf_counter() - started
    seconds, memory = [], []
    for number in range(PLACEMENTS):
        started = time.perf_counter()
        zoo.place(model, {"branch": zoo.Drop(0.2, "drop_path", "linear"), "features": 0.2}, seed=number)
        seconds.append(time.perf_counter() - started)
        memory.append(psutil.Process().memory_info().rss / 2**20)
    half = PLACEMENTS // 2
    return {
        "what": f"EfficientNetB0: an audit, and {PLACEMENTS} placements in a row",
        "findings": len(findings),
        "audit_seconds": audited,
        "place_seconds": statistics.median(seconds),
        "mebibytes_of_the_second_half": memory[-1] - memory[half],
    }


def _sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 16),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10),
        ]
    )


def _epochs(model, dataset, rounds):
    surveyed = network.survey(model, dataset)
    ours, stock = (surveyed.build(dataset, surveyed.own, seed=1) for _ in range(2))
    pairs = epochs_in_turns(ours, stock, dataset, rounds)
    return {"ratio": statistics.median(pair["stock"] / pair["ours"] for pair in pairs), "pairs": pairs}
