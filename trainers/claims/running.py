"""Carries out the experiments of claims, run by run; what is finished is kept and never done again."""

import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trainers.claims import catalogue
from trainers.claims.claim import QUICK, Claim, Experiment
from trainers.claims.kept import ROWS, Kept
from trainers.comparison.compare import Progress, Sweep
from trainers.parallel.backends import opened
from trainers.parallel.jobs import loaded
from trainers.training.folder import claimed
from zoo import cli, runs
from zoo.checks import one_of
from zoo.errors import BadInput, RunFailed

THREADS = 1  # of each run, so that another machine can repeat it
OUT, QUICK_OUT = "runs/claims", "runs/claims-quick"


def run(
    ids: Iterable[str] = (),
    *,
    everything: bool = False,
    quick: bool = False,
    resume: bool = False,
    out: str | Path | None = None,
    seeds: int | None = None,
    workers: int | None = None,
    backend: str = "loky",
    scheduler: str | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Runs the experiments of claims, as `python -m trainers claims run` does; returns the verdict of each claim.

    Args:
        ids: Which claims.
        everything: All claims that can be run.
        quick: Two seeds of one epoch on 300 examples, to see that it runs.
        resume: Continues what `out` holds.
        out: The folder; it gets a folder for each experiment. `runs/claims` unless given.
        seeds: Stops after so many seeds of each arm; a later call continues. All unless given.
        workers: Processes, each with one thread. One per core unless given.
        backend: As in `trainers.compare`, and so are `scheduler`, `data_dir`, `download` and `quiet`.

    Raises:
        BadInput: There is no such claim, a result has another rule, or `out` holds results without `resume`.
        RunFailed: Runs failed; the others are kept.
    """
    out = Path(out or (QUICK_OUT if quick else OUT))
    chosen = chosen_claims(ids, everything)
    experiments = {claim.experiment.name: claim.experiment for claim in chosen if claim.experiment}
    for experiment in experiments.values():
        kept = Kept(out, experiment, quick)
        if not resume and (kept.folder / ROWS).exists():
            raise BadInput(
                f"--out must have no results of {experiment.name}, got {kept.folder}; add --resume to continue them, "
                "or choose another"
            )
        kept.check(catalogue.claims_of(experiment))
    out.mkdir(parents=True, exist_ok=True)  # exact claims, which leave no rows, are reported from it too
    failed = []
    for experiment in experiments.values():
        where = {"data_dir": data_dir, "download": download}
        again = {"--quick": quick, "--seeds": seeds, "--workers": workers, "--scheduler": scheduler}
        again |= {"--backend": None if backend == "loky" else backend, "--data-dir": data_dir, "--download": download}
        with Progress(quiet) as progress, opened(backend, scheduler, workers, THREADS) as crew:
            try:
                failed += _carry_out(Kept(out, experiment, quick), crew, where, progress, seeds)
            except KeyboardInterrupt:
                words = ["run", *(claim.id for claim in chosen), "--resume", "--out", str(out), *cli.words(again)]
                raise KeyboardInterrupt(
                    f"interrupted: finished runs are kept; resume with\n  python -m trainers claims {shlex.join(words)}"
                ) from None
    if failed:
        texts = "; ".join("{arm} seed {seed}: {message}".format(**failure) for failure in failed[:3])
        raise RunFailed(f"{len(failed)} runs failed: {texts}; the others are kept, continue with --resume")
    from trainers.claims.verdicts import verdict_of

    return [verdict_of(claim, out, quick) for claim in chosen]


def chosen_claims(ids: Iterable[str], everything: bool = False) -> list[Claim]:
    """Returns the claims by their ids or numbers; with `everything` all that can be run.

    Raises:
        BadInput: There is no such claim, one cannot be run, or none was named.
    """
    every = {claim.id: claim for claim in catalogue.CLAIMS}
    if everything:
        return [claim for claim in every.values() if claim.needs is None]
    numbers = {str(claim.number): claim for claim in catalogue.CLAIMS}
    names = [numbers[name].id if name in numbers else name for name in ids]
    if not names:
        raise BadInput(f"ID must name a claim, got none; choose from {', '.join(every)}, or add --all")
    for name in names:
        one_of("ID", name, every)
        if every[name].needs:
            raise BadInput(f"ID must name a claim that can be run here, got {name}, which needs {every[name].needs}")
    return [every[name] for name in dict.fromkeys(names)]


def _carry_out(kept: Kept, crew, where, progress, seeds) -> list[dict]:
    """Carries out what is missing of an experiment; returns what failed."""
    experiment = kept.experiment
    plans = experiment.plans(kept.quick, **where)
    dataset = next(iter(plans.values())).data.dataset
    crew.check_data(dataset, where)
    count = QUICK["seeds"] if kept.quick else min(seeds or experiment.seeds, experiment.seeds)
    with claimed(kept.folder, resume=True):
        finished = kept.begin(catalogue.claims_of(experiment), plans)
        sweep = Sweep(crew.shared(kept.folder), crew, where, progress)
        if experiment.tune and not kept.quick:
            plans = _tuned(kept, sweep, plans)
        # Seed by seed, so that a batch that ends early is paired.
        missing = [(*key, seed) for seed in range(count) for key in plans if (*key, seed) not in finished]
        if finished:
            progress.say(f"{experiment.name}: {len(finished)} runs are already finished")
        for keys in _same_data(missing, plans):
            for outcome in sweep.finish(plans, keys, track_test=experiment.curves):
                if outcome.metrics:
                    _keep(kept, outcome, plans, where)
        if not sweep.failed:
            for name in ("runs", "tuning"):
                shutil.rmtree(kept.folder / name, ignore_errors=True)
    return sweep.failed


def _tuned(kept, sweep, plans):
    """The plans with the recipe that was chosen for each arm, now or earlier; the choice is kept."""
    from trainers.plan import Plan

    chosen = kept.about.get("chosen")
    if chosen is None:
        tuned = sweep.tuned(plans, {key: list(values) for key, values in kept.experiment.tune.items()}, 1)
        fields = kept.experiment.tune
        chosen = {arm: {key: getattr(plan.recipe, key) for key in fields} for (_, arm), plan in tuned.items()}
        kept.note(chosen=chosen)
        (kept.folder / "chosen.json").unlink(missing_ok=True)
    return {key: Plan.make(plan, **chosen[key[1]]) for key, plan in plans.items()}


def _same_data(keys, plans):
    """The runs in groups that read the same data, so that each is loaded once."""
    groups = {}
    for key in keys:
        groups.setdefault(tuple(sorted(vars(plans[key[:2]].data).items())), []).append(key)
    return list(groups.values())


def _keep(kept, outcome, plans, where):
    """Measures a finished run, keeps its numbers, and removes its folder."""
    from trainers.claims import measures
    from zoo import startup
    from zoo.interrupts import whole

    startup.tensorflow(THREADS)  # before Keras, which would start it with its messages
    import keras

    job, folder = outcome.job, Path(outcome.job.folder)
    history, plan = runs.read_history(folder), plans[job.model, job.arm]
    kept.note_run(job.arm, runs.read_config(folder), plan.recipe.epochs)
    options = dict(vars(plan.data))
    dataset = loaded(options.pop("dataset"), **where, **options)
    model = keras.saving.load_model(folder / runs.MODEL)
    wrong = measures.test_logits(model, dataset).argmax(-1) != dataset.test.y
    row = {**outcome.metrics, **_training(history, outcome.metrics, plan.recipe.early_stopping)}
    row |= {"placement": str(plan.placement)}
    for name in kept.experiment.measures_of(job.arm):
        row |= measures.MEASURES[name](model, dataset, job.seed)
    with whole():
        kept.add((job.model, job.arm, job.seed), row, history, np.asarray(wrong))
        shutil.rmtree(folder, ignore_errors=True)
    keras.backend.clear_session(free_memory=False)


def _training(history, metrics, early_stopping=None):
    """Error and loss on training examples, in inference mode, and what training on did to the validation.

    The network is that of the last epoch, with early stopping that of the best one.
    """
    losses = [row["val_loss"] for row in history]
    last = history[metrics["best_epoch"] - 1 if early_stopping else -1]
    return {
        "train_error": last["train_error_inference"],
        "train_loss": last["train_loss_inference"],
        "gap": metrics["test_error"] - last["train_error_inference"],
        "val_loss_rise": losses[-1] - min(losses),
    }


def experiments_of(claims: Iterable[Claim]) -> dict[str, Experiment]:
    """Returns the experiments of some claims, by name."""
    return {claim.experiment.name: claim.experiment for claim in claims if claim.experiment}
