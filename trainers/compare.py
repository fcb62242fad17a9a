"""The main job: models x arms x seeds, paired by seed, and what the arms differ by.

An arm is a placement. Arm A and arm B of one seed share their initial weights and the
order of their data, so that their difference is the placement's doing, and chance's.
"""

import itertools
import sys
import time
from pathlib import Path
from statistics import fmean

from trainers import callable_as, pool
from trainers import folder as folders
from trainers.folder import Table
from trainers.plan import Plan, check_counts
from trainers.progress import duration
from trainers.recipe import Recipe
from zoo.errors import BadInput, RunFailed
from zoo.files import write_json
from zoo.placement import Placement

RESULTS = ("model", "arm", "placement", "seed", "test_error", "test_loss", "test_ece", "best_epoch", "seconds")
CURVES = ("model", "arm", "seed", "epoch", "train_error", "val_error", "test_error", "test_loss")
ARMS = ("none", "default")
TUNING_SEED = 1000  # the seeds that choose a recipe are not those that are compared


def compare(
    models=None,
    arms=None,
    seeds=None,
    workers=None,
    backend="loky",
    scheduler=None,
    out=None,
    resume=False,
    tune=None,
    tuning_seeds=None,
    data_dir=None,
    download=False,
    threads=None,
    quiet=False,
    **options,
):
    """Train every model under every arm with every seed, as `python -m trainers compare` does.

    Args:
        models: names (`mlp` unless given).
        arms: `NAME` (a named placement) or `NAME=SITE=RATE[:KIND],...`, the first being
            the control, or a dictionary of name to placement (`none` and `default`).
        seeds: how many (10); they are 0, 1, 2, ...
        workers: processes (one per core unless given); the threads are divided.
        backend: `loky`, processes on this machine, or `dask`, the workers of the cluster
            whose scheduler is at the address `scheduler`; they all need to see `out`.
        tune: dictionary of a recipe's field to its candidate values; for every arm the
            combination with the lowest validation error is chosen, on seeds that are
            not compared (`tuning_seeds` of them, 1 unless given).
        out, resume, **options: as for `trainers.train`; what is not given is taken from
            the comparison that is resumed.

    Returns:
        The contents of `summary.json`, and `folder`.

    Raises:
        BadInput (a ValueError): the options cannot be carried out; nothing was begun.

    >>> compare(seeds=2, epochs=1, out="runs/first-comparison", quiet=True)["arms"]["none"]["n"]
    2
    """
    if resume and out is None:
        raise BadInput("received --resume without --out; name the folder of the comparison to go on with")
    check_counts(seeds=(seeds, 1), tuning_seeds=(tuning_seeds, 1), workers=(workers, 1), threads=(threads, 1))
    before = (folders.read_json(Path(out) / "compare.json") or {}) if resume else {}
    seeds, tuning_seeds = seeds or before.get("seeds", 10), tuning_seeds or before.get("tuning_seeds", 1)
    tune = before.get("tune", {}) if tune is None else _candidates(tune)
    plans = _plans(models, arms, options, before)
    request = {
        "seeds": seeds,
        "tune": tune,
        "tuning_seeds": tuning_seeds,
        "plans": {f"{model}/{arm}": plan.to_json() for (model, arm), plan in plans.items()},
    }
    dataset = next(iter(plans.values())).data.dataset
    where = {"data_dir": data_dir, "download": download}
    with pool.opened(backend, scheduler, workers, threads) as crew:
        crew.check_data(dataset, where)
        out = Path(out) if out else folders.free_name(Path("runs") / f"compare-{'-'.join(dataset.split('/')[-2:])}")
        with folders.claimed(out, resume):
            _check_same(out, request, before)
            sweep = _Sweep(crew.shared(out), crew, where, quiet)
            write_json(out / "compare.json", request)
            if tune:
                plans = sweep.tuned(plans, tune, tuning_seeds)
            sweep.compare(plans, range(seeds))
            return sweep.report(plans)


def _plans(models, arms, options, before):
    """(model, arm) -> plan: those that are asked for, or those of the comparison that is resumed."""
    if before and not (models or arms or options):
        return {tuple(name.split("/", 1)): Plan.from_json(plan) for name, plan in before["plans"].items()}
    return {(m, name): p for m in models or ("mlp",) for name, p in _arms(m, arms or ARMS, options).items()}


def _arms(model, arms, options):
    """Name -> plan, for one model."""
    named = arms if isinstance(arms, dict) else dict(_parse_arm(arm) for arm in arms)
    if not isinstance(arms, dict) and len(named) != len(arms):
        raise BadInput(f"received an arm's name twice in {', '.join(arms)}; name each arm differently")
    return {name: Plan.make(model=model, placement=placement, **options) for name, placement in named.items()}


def _parse_arm(text):
    name, equals, drops = text.partition("=")
    if not name or (equals and not drops) or "/" in name:
        raise BadInput(f"received --arm {text!r}; it is written NAME, or NAME=SITE=RATE[:KIND],...")
    return name, Placement.parse(drops) if equals else name


def _moving(plans):
    """The text of the schedule of each arm whose rates move."""
    schedules = {arm: plan.placement.schedule for (_, arm), plan in plans.items()}
    return {arm: str(schedule) for arm, schedule in schedules.items() if schedule.moves}


def _candidates(tune):
    """The values to try of each field, checked one by one by the recipe itself."""
    fields = Recipe().to_json()
    for key, values in tune.items():
        if key not in fields or not values:
            raise BadInput(f"received --tune {key!r} with {list(values)}; it is KEY=V1/V2/... of {', '.join(fields)}")
        for value in values:
            Recipe(**{key: value})
    return {key: list(values) for key, values in tune.items()}


def _check_same(out, request, before):
    """A comparison goes on only as it began; more seeds may be asked for."""
    differing = [key for key in request if key != "seeds" and before and request[key] != before.get(key)]
    if differing or request["seeds"] < before.get("seeds", 0):
        what = ", ".join(differing) or f"seeds ({request['seeds']}, not {before['seeds']} or more)"
        raise BadInput(f"received --resume with other {what} than {out} was begun with; see its compare.json")


class _Sweep:
    """The runs of one comparison, in one folder."""

    def __init__(self, out, crew, where, quiet):
        self._out, self._crew, self._where, self._quiet = out, crew, where, quiet
        self._failed, self._begun = [], time.monotonic()

    def tuned(self, plans, tune, seeds):
        """Each arm's plan with the candidates that had the lowest validation error."""
        combinations = [dict(zip(tune, values, strict=True)) for values in itertools.product(*tune.values())]
        jobs, labels = [], {}
        for ((model, arm), plan), wish in itertools.product(plans.items(), combinations):
            label = "-".join(f"{key}={value}" for key, value in wish.items())
            for seed in range(TUNING_SEED, TUNING_SEED + seeds):
                job = self._job("tuning", plan, model, f"{arm}-{label}", seed, wish)
                jobs.append(job)
                labels[job.folder] = (model, arm, wish)
        table = Table(self._out / "tuning.csv", ("model", "arm", *tune, "seed", "val_error", "val_loss"))
        table.start()
        scores = {}
        for outcome in self._carry_out(jobs, "tuning"):
            model, arm, wish = labels[outcome.job.folder]
            if outcome.metrics:
                row = {"val_error": outcome.metrics["val_error"], "val_loss": outcome.metrics["val_loss"]}
                table.append({"model": model, "arm": arm, "seed": outcome.job.seed, **wish, **row})
                scores.setdefault((model, arm), {}).setdefault(tuple(wish.items()), []).append(tuple(row.values()))
        chosen = {}
        for key, plan in plans.items():
            if key not in scores:
                raise RunFailed(f"every tuning run of {'/'.join(key)} failed: {self._failed[-1]['message']}")
            best = min(scores[key].items(), key=lambda item: [fmean(column) for column in zip(*item[1], strict=True)])
            chosen[key] = Plan.make(plan, **dict(best[0]))
            self._say(f"{'/'.join(key)}: {', '.join(f'{k} {v:g}' for k, v in best[0])} chosen on validation")
        return chosen

    def compare(self, plans, seeds):
        """All runs that count; `results.csv` and `curves.csv` grow as they end."""
        jobs = [self._job("runs", plan, *key, seed) for seed in seeds for key, plan in plans.items()]
        placements = {key: str(plan.placement) for key, plan in plans.items()}
        self._results = Table(self._out / "results.csv", RESULTS)
        self._curves = Table(self._out / "curves.csv", CURVES)
        self._results.start()
        self._curves.start()
        for outcome in self._carry_out(jobs, "runs", track_test=True):
            if outcome.metrics:
                job = outcome.job
                key = {"model": job.model, "arm": job.arm, "seed": job.seed}
                self._results.append({**outcome.metrics, **key, "placement": placements[job.model, job.arm]})
                for row in folders.read_csv(Path(job.folder) / "history.csv"):
                    self._curves.append({**row, **key})

    def report(self, plans):
        """Write `summary.json`, the picture and the page; returns the summary."""
        from trainers import report

        rows = folders.read_csv(self._out / "results.csv")
        if not rows:
            return {"arms": {}, "pairs": [], "failed": self._failed, "folder": str(self._out)}
        return {**report.write(self._out, self._meta(plans)), "failed": self._failed, "folder": str(self._out)}

    def _meta(self, plans):
        """What the page says about how the figures came to be."""
        any_plan = next(iter(plans.values()))
        config = next(self._out.glob("runs/*/*/*/config.json"))
        config = folders.read_json(config)
        return {
            "dataset": any_plan.data.dataset,
            "sizes": config["data"]["sizes"],
            "about": config["data"]["about"],
            "placements": {"/".join(key): str(plan.placement) or "no dropout" for key, plan in plans.items()},
            "schedules": _moving(plans),
            "recipes": {"/".join(key): plan.recipe.to_json() for key, plan in plans.items()},
            "command": " ".join(["python -m trainers", *sys.argv[1:]]) if "trainers" in sys.argv[0] else None,
            "versions": config["versions"],
            "threads": config["threads"],
            "seconds": time.monotonic() - self._begun,
            "failed": self._failed,
        }

    def _job(self, kind, plan, model, arm, seed, wish=None):
        plan = Plan.make(plan, seed=seed, **(wish or {}))
        return pool.Job(model, arm, seed, plan.to_json(), str(self._out / kind / model / arm / f"seed-{seed}"))

    def _carry_out(self, jobs, what, **options):
        """Finished runs first, then the others as they end, with a line each."""
        done = [(job, folders.read_json(Path(job.folder) / "metrics.json")) for job in jobs]
        finished = [pool.Outcome(job, metrics) for job, metrics in done if metrics]
        waiting = [job for job, metrics in done if not metrics]
        if finished:
            self._say(f"{len(finished)} of {len(jobs)} {what} were finished before")
        yield from finished
        begun = time.monotonic()
        outcomes = self._crew.carry_out(waiting, keep_checkpoint=False, **self._where, **options)
        for i, outcome in enumerate(outcomes, start=1):
            left = (time.monotonic() - begun) / i * (len(waiting) - i)
            self._line(outcome, f"{len(finished) + i}/{len(jobs)} {what}", left)
            yield outcome

    def _line(self, outcome, count, left):
        job, name = outcome.job, f"{outcome.job.model}/{outcome.job.arm} seed {outcome.job.seed}"
        if outcome.message:
            self._failed.append({"model": job.model, "arm": job.arm, "seed": job.seed, "message": outcome.message})
            self._say(f"{count}  {name}  FAILED: {outcome.message}")
        else:
            errors = f"validation {outcome.metrics['val_error']:.2f} %"
            self._say(f"{count}  {name}  {errors}  {duration(outcome.metrics['seconds'])}  {duration(left)} left")

    def _say(self, text):
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


callable_as(__name__, "compare")
