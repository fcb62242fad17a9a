"""How far the tuners are from the best combination after a number of trials, replayed on a recorded grid.

`grid.csv` is the `results.csv` of a search that trained every combination with five seeds:

    python -m tuning search --set hidden=64 --epochs 20 --tune input=0:0.3:0.1 --tune hidden=0:0.8:0.2 \\
        --tune learning_rate=0.001/0.003/0.01/0.03 --tuner grid --executions 5 --threads 1
"""

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tuning.request import OPTUNA, STOP_WORSE
from tuning.space import Space
from zoo.reading import read_csv

GRID = Path(__file__).with_name("grid.csv")
TUNE = ("input=0:0.3:0.1", "hidden=0:0.8:0.2", "learning_rate=0.001/0.003/0.01/0.03")
TUNERS = ("random", "bayesian", *OPTUNA)
AFTER = (10, 20)  # trials, with the control
SEEDS = 20


def regret(seeds: int = SEEDS, tuners: tuple[str, ...] = TUNERS) -> dict:
    """Returns the regret of each tuner after 10 and 20 trials, with 95 % intervals over the seeds of the tuner.

    A search of seed s sees the errors of one run seed of the grid. Its pick is judged by the mean error over the other
    run seeds, against the lowest such mean of all combinations, in percentage points.

    Args:
        seeds: searches of each tuner.
        tuners: names of tuners; those whose packages are missing are left out, and named in `left_out`.
    """
    space = Space.parse(TUNE)
    grid = recorded(space)
    absent = {name: [p for p in OPTUNA.get(name, ()) if importlib.util.find_spec(p) is None] for name in tuners}
    picks = {name: _regrets(name, grid, space, seeds) for name in tuners if not absent[name]}
    what = f"points above the best of {len(grid)} combinations on digits after {AFTER[0]} and {AFTER[1]} trials"
    result = {
        "what": f"{what}, {seeds} searches of each tuner",
        "untuned": float(np.mean([_judged(grid, seed)[space.key(space.control())] for seed in range(seeds)])),
        "rows": [{"tuner": name, **_described(regrets, picks.get("random"))} for name, regrets in picks.items()],
    }
    missing = [f"{name}, which needs {' and '.join(packages)}" for name, packages in absent.items() if packages]
    return {**result, "left_out": f"left out: {'; '.join(missing)}"} if missing else result


def recorded(space: Space) -> dict:
    """Returns combination -> its runs in `grid.csv`, one for each seed, in the order of the seeds."""
    runs: dict = {}
    for row in read_csv(GRID):
        runs.setdefault(space.key(space.snapped(row)), []).append(row)
    return runs


def _regrets(tuner, grid, space, seeds):
    """The regrets of a tuner, `(seeds, len(AFTER))`."""
    rows = []
    for seed in range(seeds):
        judged = _judged(grid, seed)
        trials = replayed(tuner, grid, space, seed)
        rows.append([judged[min(trials[:count], key=lambda trial: trial.score).key[0]] for count in AFTER])
    return np.array(rows)


def _judged(grid, seed):
    """The regret of each combination, by the run seeds that the search `seed` does not see."""
    seen = _seen(grid, seed)
    means = {key: np.mean([run["val_error"] for i, run in enumerate(runs) if i != seen]) for key, runs in grid.items()}
    lowest = min(means.values())
    return {key: mean - lowest for key, mean in means.items()}


def _seen(grid, seed):
    return seed % len(next(iter(grid.values())))


def stopping(seeds: int = SEEDS) -> dict:
    """Returns which share of the executions of random searches `--stop-worse` runs, and whether it changes the pick."""
    space = Space.parse(TUNE)
    grid = recorded(space)
    runs = range(len(next(iter(grid.values()))))
    shares, changed, stopped = [], 0, []
    for seed in range(seeds):
        full, short = (replayed("random", grid, space, seed, runs, rate) for rate in (None, STOP_WORSE))
        shares.append(sum(len(t.executions) for t in short) / sum(len(t.executions) for t in full))
        stopped.append(sum(trial.status == "STOPPED" for trial in short))
        best = [min((t for t in trials if t.ranked), key=lambda t: t.score).key for trials in (full, short)]
        changed += best[0] != best[1]
    return {
        "what": f"--stop-worse in {seeds} random searches of {max(AFTER)} trials with {len(runs)} executions on digits",
        "executions_run": float(np.mean(shares)),
        "executions_run_low": min(shares),
        "executions_run_high": max(shares),
        "trials_stopped": float(np.mean(stopped)),
        "other_picks": changed / seeds,
    }


def replayed(
    tuner: str, grid: dict, space: Space, seed: int, runs: Sequence[int] | None = None, stop_worse: float | None = None
) -> list:
    """Returns the trials of a search that reads its errors from the grid, in the order in which they were drawn.

    Args:
        tuner: the name of a tuner.
        grid: the runs of each combination.
        space: what is tuned.
        seed: seed of the tuner.
        runs: which runs of a combination are its executions (default: one, which the seed chooses).
        stop_worse: as for `tuning.search`.
    """
    from tuning import oracles
    from tuning.journal import Journal
    from tuning.study import FIGURES, Study

    runs = [_seen(grid, seed)] if runs is None else list(runs)
    with tempfile.TemporaryDirectory() as folder:
        oracle = oracles.make(tuner, space, seed, 1)
        journal = Journal(Path(folder) / "journal.jsonl")
        study = Study(oracle, space, journal, len(runs), max(AFTER), stop_worse=stop_worse)
        while (trial := study.create_trial("replay")).status == "RUNNING":
            recorded_runs = grid[space.key(space.snapped(trial.hyperparameters.values))]
            for step, run in enumerate(recorded_runs[i] for i in runs):
                answer = study.update_trial(trial.trial_id, {name: run[name] for name in FIGURES}, step)
                if answer.status == "STOPPED":
                    break
            else:
                trial.status = "COMPLETED"
                study.end_trial(trial)
    return list(study.trials.values())


def _described(regrets, of_random):
    """Mean regrets and their intervals, and the difference from random search, paired by seed."""
    from trainers.comparison.paired import t_interval

    figures = {}
    for place, count in enumerate(AFTER):
        column = regrets[:, place]
        low, high = t_interval(np.zeros_like(column), column)
        figures |= {f"after_{count}": float(column.mean()), f"after_{count}_low": low, f"after_{count}_high": high}
        if of_random is not None and of_random is not regrets:
            low, high = t_interval(of_random[:, place], column)
            difference = float((column - of_random[:, place]).mean())
            figures |= {f"minus_random_{count}": difference, f"minus_random_{count}_low": low}
            figures[f"minus_random_{count}_high"] = high
    return figures
