"""What a sweep costs beside its epochs: runs that share an engine, and the demonstration as a whole."""

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainers.parallel.jobs import loaded
from trainers.plan import Plan
from trainers.training.train import run
from zoo import startup
from zoo.reading import read_json

ARMS = ("none", "default")


def shared(seeds: int = 5) -> dict:
    """Returns the time of a run in an engine of its own over that in a shared one, in turns, for MLP and CNN on digits.

    `over_epochs` is the time of the shared runs over that of their epochs, and `beside` the median difference, in
    seconds. The first run of each arm, which traces, is not counted.
    """
    startup.tensorflow(threads=2)
    from trainers.training.engines import Engines

    rows = []
    for model, settings, epochs in (("mlp", {}, 50), ("cnn", {"filters": "8/16", "hidden": "32"}, 10)):
        engines, seconds, trained = {"shared": Engines(), "own": None}, {"shared": [], "own": []}, []
        with tempfile.TemporaryDirectory() as folder:
            for seed, arm in itertools.product(range(seeds + 1), ARMS):
                plan = Plan.make(model=model, placement=arm, seed=seed, epochs=epochs, settings=settings)
                for way in ("shared", "own") if seed % 2 else ("own", "shared"):
                    out = Path(folder) / way / arm / str(seed)
                    out.mkdir(parents=True)
                    begun = time.perf_counter()
                    metrics = run(plan, out, quiet=True, track_test=True, load=loaded, engines=engines[way])
                    if seed:
                        seconds[way].append(time.perf_counter() - begun)
                        trained += [metrics["seconds"]] if way == "shared" else []
        ratios = [own / other for own, other in zip(seconds["own"], seconds["shared"], strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        beside = statistics.median(a - b for a, b in zip(seconds["shared"], trained, strict=True))
        over = sum(seconds["shared"]) / sum(trained)
        rows.append({"model": model, "ratio": ratio, "low": low, "high": high, "over_epochs": over, "beside": beside})
    return {
        "what": f"a run in an engine of its own over one in a shared one, {2 * seeds} runs on digits",
        "rows": rows,
    }


def demo(rounds: int = 3) -> dict:
    """Returns the time of `python -m trainers compare`, with start and exit, over the epochs of its busiest worker."""
    ratios = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            command = [sys.executable, "-m", "trainers", "compare", "--workers", "2", "--out", f"{folder}/out"]
            subprocess.run(command, check=True, capture_output=True)
            seconds = time.perf_counter() - begun
            folders = [Path(folder) / "out/runs/mlp" / arm / f"seed-{seed}" for seed in range(10) for arm in ARMS]
            ratios.append(seconds / busiest([read_json(run / "metrics.json")["seconds"] for run in folders]))
    return {
        "what": "python -m trainers compare (20 runs of digits, 2 workers) over the epochs of its busiest worker",
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }


def busiest(seconds: list[float], workers: int = 2) -> float:
    """Returns the most seconds that one worker has to do; each run goes to the worker that is free first.

    Examples:
        >>> busiest([3.0, 1.0, 1.0, 2.0])
        4.0
    """
    totals = [0.0] * workers
    for each in seconds:
        totals[totals.index(min(totals))] += each
    return max(totals)
