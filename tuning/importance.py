"""Which of the tuned hyperparameters mattered, in a search that has trained enough trials."""

import csv
import math
import warnings
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from trainers.comparison.figures import COLOURS, DPI
from tuning.request import SCHEMA, Request, missing
from zoo import checks
from zoo.errors import BadInput
from zoo.files import replacing
from zoo.reading import read_csv, read_json
from zoo.schema import require

FEWEST = 8  # trials, complete or stopped as clearly worse
QUANTILE = 0.25  # the share of trials that count as good
_FILE, _BARS, _LINES = "importance.csv", "importance.png", "parallel.png"


def importance(folder: str | Path) -> dict[str, float]:
    """Computes how much each tuned hyperparameter decided whether a trial was among the best quarter.

    The measure is PED-ANOVA (Watanabe et al. 2023, IJCAI, "PED-ANOVA"), as Optuna computes it: how far the values of
    the best quarter of the trials are from those of all trials. The importances add up to 1. They describe these
    trials: with few of them, small differences mean nothing.

    Args:
        folder: the folder of a search.

    Returns:
        Hyperparameter -> importance, the largest first. It also writes `importance.csv` (`name,importance`),
        `importance.png` and `parallel.png` into the folder.

    Raises:
        BadInput: `folder` holds no search, too few trials have results, or Optuna is not installed.
    """
    out = checks.path("SEARCH_DIR", folder)
    path, way = out / "search.json", "give a folder of `python -m tuning search`"
    stated = read_json(path, way)
    if stated is None:
        raise BadInput(f"SEARCH_DIR must be the folder of a search, got {out}, which has no search.json; {way}")
    request = Request.from_json(require(path, stated, SCHEMA, way))
    trials = _trials(out, request)
    if len(trials) < FEWEST:
        raise BadInput(
            f"SEARCH_DIR must hold at least {FEWEST} full trials that did not fail, got {len(trials)} in {out}; resume "
            "the search with a larger --max-trials"
        )
    if missing("optuna"):
        raise BadInput("optuna, which computes importances, must be installed, got none; pip install optuna")
    shares = _ped_anova(trials, request.space.candidates)
    with replacing(out / _FILE) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("name", "importance"), *shares.items()])
    for name, figure in ((_BARS, bars(shares)), (_LINES, lines(trials, request.space.candidates))):
        with replacing(out / name) as unfinished:
            figure.savefig(unfinished, format="png", dpi=DPI)
    return shares


def _trials(out: Path, request: Request) -> list[dict[str, Any]]:
    """Returns the values of each full trial that was not a failure, and its mean `val_error`."""
    table, rows = read_csv(out / "results.csv"), {}
    # Earlier versions called a paused trial completed.
    earlier = request.tuner == "hyperband" and not any(row["status"] == "paused" for row in table)
    for row in table:
        paused = earlier and row["epochs"] != request.base.recipe.epochs
        if row["status"] in ("completed", "stopped") and not paused:
            rows.setdefault(str(row["trial"]), []).append(row)
    names = list(request.space.candidates)
    return [
        {**{name: runs[0][name] for name in names}, "val_error": fmean(row["val_error"] for row in runs)}
        for runs in rows.values()
    ]


def _ped_anova(trials: list[dict[str, Any]], candidates: dict[str, tuple]) -> dict[str, float]:
    import optuna

    from tuning.distributions import distributions

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    places = distributions(candidates)
    study = optuna.create_study(direction="minimize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: _place(candidates[name], trial[name]) for name in places},
                distributions=places,
                value=trial["val_error"],
            )
            for trial in trials
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the evaluator is new in Optuna; equal trials get equal shares
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=QUANTILE)
        shares = optuna.importance.get_param_importances(
            study, evaluator=evaluator, params=list(places), normalize=False
        )
    total = sum(shares.values())
    return {name: float(share / total) if total else 0.0 for name, share in shares.items()}


def _place(values: tuple, value: Any) -> int:
    """The place of a value among the candidates; a CSV file holds numbers as text."""
    if isinstance(value, str):
        return list(map(str, values)).index(value)
    return min(range(len(values)), key=lambda place: abs(values[place] - value))


# === Pictures ===


def bars(shares: dict[str, float]) -> Figure:
    """Draws the importance of each hyperparameter, the largest on top.

    Examples:
        >>> len(bars({"rate_hidden": 0.9, "rate_input": 0.1}).axes)
        1
    """
    figure = Figure(figsize=(6.4, 1.3 + 0.42 * len(shares)), layout="constrained")
    ax = figure.subplots()
    ax.barh(range(len(shares)), list(shares.values()), color=COLOURS[1])
    for y, share in enumerate(shares.values()):
        ax.text(share + 0.01, y, f"{share:.2f}", va="center", fontsize=9)
    ax.set_yticks(range(len(shares)), list(shares))
    ax.invert_yaxis()
    ax.set_xlim(0, 1.1)
    ax.set_xlabel("importance (PED-ANOVA, share)")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def lines(trials: list[dict[str, Any]], candidates: dict[str, tuple]) -> Figure:
    """Draws each trial as a line through its values, coloured by its validation error; the best one is thick.

    Args:
        trials: values by name, and `val_error` in per cent.
        candidates: the values that could be chosen, by name.

    Examples:
        >>> trial = {"rate_hidden": 0.5, "val_error": 3.0}
        >>> lines([trial], {"rate_hidden": (0.0, 0.5)}).axes[0].get_xlabel()
        ''
    """
    names, errors = list(candidates), np.array([trial["val_error"] for trial in trials])
    low, high = errors.min(), max(errors.max(), errors.min() + 1e-9)
    figure = Figure(figsize=(2.2 + 1.7 * (len(names) + 1), 4.2), layout="constrained")
    ax = figure.subplots()
    scale = matplotlib.colors.Normalize(low, high)
    colours = matplotlib.colormaps["viridis"]
    best = int(errors.argmin())
    rng = np.random.default_rng(0)  # lines through one value are spread a little, so that each is visible
    for place in sorted(range(len(trials)), key=lambda i: (i == best, -errors[i])):
        trial = trials[place]
        heights = [_height(candidates[name], trial[name]) + rng.uniform(-0.012, 0.012) for name in names]
        heights.append((errors[place] - low) / (high - low))
        width = 3.0 if place == best else 1.1
        ax.plot(heights, color=colours(scale(errors[place])), linewidth=width, alpha=1 if place == best else 0.65)
    for x, name in enumerate(names):
        ax.axvline(x, color="#888888", linewidth=0.8, zorder=0)
        for value in candidates[name]:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
            height = _height(candidates[name], value)
            ax.text(x - 0.04, height, _said(value), ha="right", va="center", fontsize=8, bbox=box)
    ax.axvline(len(names), color="#888888", linewidth=0.8, zorder=0)
    for value in np.linspace(low, high, 5):
        ax.text(len(names) + 0.04, (value - low) / (high - low), f"{value:.2f}", va="center", fontsize=8)
    ax.set_xticks(range(len(names) + 1), [*names, "validation error, %"])
    ax.set_yticks([])
    ax.set_xlim(-0.45, len(names) + 0.45)
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)
    ax.tick_params(length=0)
    figure.suptitle(f"{len(trials)} trials; the thick line is the best", fontsize=11, fontweight="bold")
    return figure


def _height(values: tuple, value: Any) -> float:
    return 0.5 if len(values) == 1 else _place(values, value) / (len(values) - 1)


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) and math.isfinite(value) else str(value)
