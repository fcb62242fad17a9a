"""The quality of the tuners' picks, the overhead of a trial, and the gain of a second worker."""

import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tuning.request import TUNERS
from tuning.space import Space
from zoo.reading import read_csv, read_json

RUNS = Path("runs") / "benchmarks"  # kept, so that an interrupted measurement can be resumed
NETWORK = {"settings": {"hidden": "128/128"}, "epochs": 30}
TUNE = ("input=0:0.3:0.1", "hidden=0:0.8:0.1")
SEEDS = 10


def tuners(trials: int = 20) -> dict:
    """Returns how far each tuner's pick of 20 trials is from the best of the full grid.

    Both are measured with 10 seeds that selected nothing. The distance is that of the mean
    validation errors, in percentage points, and in standard errors of the paired difference.
    """
    space = Space.parse(TUNE)
    errors = _grid(space)
    best = min(errors, key=lambda key: errors[key].mean())
    rows = []
    for tuner in TUNERS:
        out = RUNS / f"search-{tuner}"
        result = _searched(out, tuner, trials if tuner != "hyperband" else None)
        pick = space.key(result["winner"]["values"])[0]
        apart = errors[pick] - errors[best]
        error = apart.std(ddof=1) / np.sqrt(SEEDS) if pick != best else 0.0
        rows.append(
            {
                "tuner": tuner,
                "trials": result["trials"],
                "pick": pick,
                "val_error": float(errors[pick].mean()),
                "above_best": float(apart.mean()),
                "standard_errors": float(apart.mean() / error) if error else 0.0,
                **_outside(out),
            }
        )
    what = f"the pick of {trials} trials on digits against the best of {len(errors)} combinations, {SEEDS} seeds"
    return {"what": what, "best": best, "best_val_error": float(errors[best].mean()), "rows": rows}


def trial(trials: int = 20) -> dict:
    """Returns the seconds of a trial beside its training, with tracing, without the first trial."""
    out = RUNS / "search-trial"
    _searched(out, "random", trials)
    return {
        "what": f"seconds of a trial beside its epochs at their steady pace, {trials} trials on digits",
        **_outside(out),
    }


def _grid(space):
    """Returns placement -> validation errors of all seeds, for every combination."""
    from trainers.comparison.compare import compare

    combinations = [dict(zip(space.candidates, v, strict=True)) for v in itertools.product(*space.candidates.values())]
    arms = {str(i): space.placement(values) for i, values in enumerate(combinations)}
    compare(arms=arms, seeds=SEEDS, out=RUNS / "grid", resume=True, threads=1, **NETWORK)
    return {
        str(placement): np.array(
            [
                read_json(RUNS / "grid/runs/mlp" / arm / f"seed-{seed}" / "metrics.json")["val_error"]
                for seed in range(SEEDS)
            ]
        )
        for arm, placement in arms.items()
    }


def _searched(out, tuner, trials):
    from tuning.session import search

    shutil.rmtree(out, ignore_errors=True)
    return search(tune=TUNE, tuner=tuner, max_trials=trials, out=out, threads=2, **NETWORK)


def _outside(out):
    """Seconds of a trial beside its epochs at their steady pace, so tracing counts; without the first trial."""
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    ends = [event for event in events if event["event"] == "end"]
    seconds = []
    for before, event in itertools.pairwise(ends):
        rows = read_csv(out / "trials" / event["trial"] / "execution-0" / "history.csv")
        steady = statistics.median(row["seconds"] for row in rows[1:] or rows)
        trained = len(rows) - _paused(events, event["trial"], out)
        seconds.append(event["time"] - before["time"] - trained * steady)
    return {"outside_median": statistics.median(seconds), "outside_worst": max(seconds)}


def _paused(events, trial, out):
    """The epochs that an earlier trial trained."""
    asked = next((e for e in events if e["event"] == "ask" and e["trial"] == trial), {"values": {}})
    return asked["values"].get("tuner/initial_epoch", 0)


def workers(rounds: int = 2) -> dict:
    """Returns the time of one worker with two threads over that of two workers with one, for CNN and transformer."""
    rows = []
    for model in ("cnn", "transformer"):
        ratios = []
        for round_ in range(rounds):
            seconds = {}
            for count in (1, 2) if round_ % 2 else (2, 1):
                seconds[count] = _search_seconds(model, count)
            ratios.append(seconds[1] / seconds[2])
        rows.append({"model": model, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)})
    return {
        "what": "4 trials of 4 epochs on digits enlarged to 28x28: one worker's time over that of two",
        "rows": rows,
    }


def _search_seconds(model, count):
    """From the start of the first trial to the end of the last, so that starting Python does not count."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "tuning", "search", "--model", model, "--image-size", "28"]
        command += ["--epochs", "4", "--max-trials", "4", "--workers", str(count)]
        subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
        events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    return events[-1]["time"] - next(event["time"] for event in events if event["event"] == "give")
