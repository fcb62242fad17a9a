"""A search of dropout rates: a tuner of keras-tuner proposes, the project's loop trains; resumable at any moment."""

import json
import time
from pathlib import Path

from trainers import callable_as
from trainers import folder as folders
from trainers.plan import check_counts
from trainers.progress import duration, say
from tuning.request import Request, check_same
from zoo import data, startup
from zoo.errors import BadInput, RunFailed
from zoo.files import write_json

DRAW_SECONDS = 60.0  # at least, between two drawings while the search runs


def search(
    workers=None,
    retrain=None,
    out=None,
    resume=False,
    data_dir=None,
    download=False,
    threads=None,
    quiet=False,
    chief=None,
    **options,
):
    """Search for the rates with the lowest validation error, as `python -m tuning search` does.

    Args:
        workers: processes on this machine (1); the threads are divided.
        retrain: seeds over which the winner is compared with no dropout on the test part.
        out, resume, data_dir, download, threads, quiet: as for `trainers.train`.
        chief: `HOST:PORT` at which to serve workers of other machines; none work here then.
        **options: `tune` (`--tune` texts or a `Space`; the model's default space unless
            given), `tuner` (`random`, `grid`, `bayesian`, `hyperband`), `max_trials` (the
            control counted; 20, for a grid and hyperband all), `executions` (runs of each
            trial; 1), `seed` (of the sequence of trials and of their runs; 0), and those of
            `trainers.train`; the placement is that of sites that are not tuned (none).

    Returns:
        The contents of `summary.json`, `folder`, and as `retrain` what that found.

    Raises:
        BadInput (a ValueError): the options cannot be carried out; nothing was begun.
        RunFailed: three trials failed for one cause; what was found before is kept.

    >>> found = search(tune=["hidden=0/0.5"], settings={"hidden": 16}, epochs=1, out="runs/s", quiet=True)
    >>> found["trials"]
    2
    """
    if resume and out is None:
        raise BadInput("received --resume without --out; name the folder of the search to go on with")
    counts = {key: (options.get(key), 1) for key in ("max_trials", "executions")}
    check_counts(
        workers=(workers, 1), retrain=(retrain, 2), threads=(threads, 1), seed=(options.get("seed"), 0), **counts
    )
    before = folders.read_json(Path(out) / "search.json") if resume else None
    if resume and before is None:
        say(quiet, f"nothing to resume in {out}: starting from the beginning")
    request = Request.make(Request.from_json(before) if before else None, **options)
    if before:
        check_same(out, before, request.to_json())
    dataset = request.base.data.dataset
    data.check_ready(dataset, data_dir=data_dir, download=download)
    out = (
        Path(out) if out else folders.free_name(Path("runs") / f"search-{request.base.model}-{dataset.split('/')[-1]}")
    )
    where = {"data_dir": data_dir, "download": download}
    with folders.claimed(out, resume):
        write_json(out / "search.json", request.to_json())
        found = _Search(out, request, quiet).run(workers or 1, threads, chief, where)
        if retrain:
            found["retrain"] = _retrained(
                out, request, found, retrain, workers=workers, threads=threads, quiet=quiet, **where
            )
        return {**found, "folder": str(out)}


def _retrained(out, request, found, seeds, **options):
    from tuning.retrain import retrain

    if found["winner"] is None:
        raise RunFailed(f"no trial of {out} was finished, so that there is no winner to train anew")
    return retrain(out, request.space, request.base, found["winner"], found["rival"], seeds, **options)


class _Search:
    """One search in its folder: the study, its results and its lines."""

    def __init__(self, out, request, quiet):
        with startup.held_stderr():
            startup.tensorflow()
            from tuning import oracles
            from tuning.journal import Journal
            from tuning.results import Results
            from tuning.study import Study
        self._out, self._request, self._quiet = out, request, quiet
        space, base = request.space, request.base
        oracle = oracles.make(request.tuner, space, request.seed, base.recipe.epochs)
        self._rounds = oracles.rounds(base.recipe.epochs) if request.tuner == "hyperband" else None
        about = {
            "space": space.to_json(),
            "plan": base.to_json(),
            "seeds": request.seeds,
            "versions": request.to_json()["versions"],
        }
        self.about = json.dumps({**about, "keep_checkpoints": self._rounds is not None})
        journal = Journal(out / "journal.jsonl")
        self.study = Study(oracle, space, journal, request.executions, request.limit, self.about, self._ended)
        self._results = Results(out, self.study, space, base, request.seeds)
        self._begun, self._drawn, self._ended_before = time.monotonic(), time.monotonic(), self._count()

    def run(self, workers, threads, chief, where):
        """Carry the search out, or what is left of it; returns the contents of `summary.json`."""
        self._announce(chief)
        self.study.hold() if chief else self.study.release()
        try:
            if chief:
                from tuning.cluster import serve

                serve(self.study, chief, lambda text: say(self._quiet, text))
            elif workers > 1:
                from tuning.cluster import spread

                spread(self.study, self._out, workers, threads, where)
            else:
                from tuning.worker import Worker

                Worker("0", self.study, self.about, self._out, threads, **where).work()
        finally:
            summary = self._results.write()
            self._draw()
        if self.study.cause:
            raise RunFailed(
                f"three trials failed for the same cause: {self.study.cause}; mend it, or try the others with "
                f"--out {self._out} --resume"
            )
        return summary

    def _announce(self, chief):
        request, space = self._request, self._request.space
        if self._ended_before:
            done = "the search is finished already" if self.study.over else "going on"
            say(self._quiet, f"{self._out}: {self._ended_before} trials were finished before; {done}")
        if self._rounds:
            say(
                self._quiet,
                "hyperband: " + "; ".join(" > ".join(f"{n} x {e} epochs" for n, e in r) for r in self._rounds),
            )
        count = "" if self._rounds else f"{request.limit} of "
        say(self._quiet, f"{request.tuner} search, {count}{space.size} combinations of {', '.join(space.names)}")

    def _ended(self, trial):
        """A line on stderr, and the table anew."""
        self._results.write()
        if time.monotonic() - self._drawn > DRAW_SECONDS:
            self._draw()
        best = next(iter(self.study.completed()), None)
        count, total = self._count(), self._total()
        seconds = (time.monotonic() - self._begun) / max(1, count - self._ended_before)
        line = [f"{count}/{total}", f"trial {trial.id}", self._results.name(trial)]
        if trial.status == "FAILED":
            line.append(f"FAILED: {trial.message}")
        else:
            line.append(
                f"validation {trial.mean('val_error'):.2f} %" + (f" after {trial.until} epochs" if trial.until else "")
            )
        if best:
            line.append(f"best {best.mean('val_error'):.2f} % ({self._results.name(best)})")
        line += [
            duration(sum(row["seconds"] for row in trial.executions.values())),
            f"{duration(seconds * (total - count))} left",
        ]
        say(self._quiet, "  ".join(line))

    def _count(self):
        return sum(trial.status != "RUNNING" for trial in self.study.trials.values())

    def _total(self):
        if self._rounds and not self._request.max_trials:
            return max(self._count(), 1 + sum(trials for bracket in self._rounds for trials, _ in bracket))
        return self._request.limit

    def _draw(self):
        from tuning import figure

        self._drawn, base = time.monotonic(), self._request.base
        found = self.study.completed()
        runs = sum(len(trial.executions) for trial in found)
        title = f"{base.model} on {base.data.dataset}: {runs} runs of {base.recipe.epochs} epochs"
        figure.draw(self._out / "rate.png", found, self._request.space, title)


callable_as(__name__, "search")
