"""Compares placements: models x arms x seeds, paired by seed.

An arm is a placement. For each seed, all arms share their initial weights and the order of their
data, so that what differs between them is due to the placement and to chance.
"""

import functools
import importlib
import itertools
import math
import shlex
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from trainers import networks
from trainers.comparison.result import CompareResult
from trainers.parallel.backends import opened
from trainers.parallel.jobs import Job, Outcome
from trainers.plan import Plan, alias, recipe_note, settings_of
from trainers.recipe import Recipe
from trainers.training.folder import LOCK, check_kind, claimed, free_name, given, is_empty
from trainers.training.progress import Live, duration, say
from zoo import cli, data, fields, runs
from zoo.checks import MOST, integers, mapping, number, one_of, shortest, texts
from zoo.data import fingerprint
from zoo.data.options import DataOptions
from zoo.errors import BadInput, OtherData, RunFailed
from zoo.files import Table, write_json
from zoo.models import catalogue
from zoo.placement.drop import Drop
from zoo.placement.placement import Placement
from zoo.reading import read_csv, read_json
from zoo.schema import by_name, each, fields_of, real, record, require, text, whole
from zoo.surgery.network import Network

RESULTS = ("model", "arm", "placement", "seed", "test_error", "test_loss", "test_ece", "best_epoch", "seconds")
CURVES = ("model", "arm", "seed", "epoch", "train_error", "val_error", "test_error", "test_loss")
ARMS = ("none", "default")
CHOSEN = "chosen.json"  # of a comparison that tunes: what was chosen for each arm
_AGAIN = "name another --out"
VARIED = ("seed", "split")  # what seeds vary: weights, order and masks; these and the parts
TUNING_SEED = 1000  # a recipe is chosen on other seeds than those that are compared


def compare(
    *,
    model: str | Iterable[str] | None = None,
    dataset: str | Path | None = None,
    arm: str | Iterable[str] | Mapping[str, str | Path | Placement | Mapping[str, float | Drop]] | None = None,
    each_site: float | None = None,
    seeds: int | None = None,
    scaling: str | None = None,
    drop_schedule: str | None = None,
    weights: str | None = None,
    replace_head: bool | None = None,
    input_range: str | None = None,
    imports: Sequence[str] | str | None = None,
    set: str | Iterable[str] | Mapping[str, object] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    optimizer: str | None = None,
    learning_rate: float | None = None,
    momentum: float | None = None,
    schedule: str | None = None,
    warmup: float | None = None,
    warmup_start: float | None = None,
    weight_decay: float | None = None,
    max_norm: float | None = None,
    label_smoothing: float | None = None,
    augment: bool | None = None,
    early_stopping: int | None = None,
    jit_compile: bool | None = None,
    dtype: str | None = None,
    devices: int | str | None = None,
    train_size: int | None = None,
    split_seed: int | None = None,
    image_size: int | None = None,
    resize: str | None = None,
    value_range: str | tuple[float, float] | None = None,
    vocabulary: int | None = None,
    length: int | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    tune: str | Iterable[str] | Mapping[str, Iterable[float]] | None = None,
    tuning_seeds: int | None = None,
    vary: str | None = None,
    workers: int | None = None,
    backend: str = "loky",
    scheduler: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    data_dir: str | Path | None = None,
    download: bool = False,
    threads: int | None = None,
    quiet: bool = False,
    models: Iterable[str] | None = None,
    arms: Iterable[str] | Mapping | None = None,
    settings: Mapping[str, object] | None = None,
) -> CompareResult:
    """Trains every model under every arm with every seed, as `python -m trainers compare` does.

    An option that is None is not given: the default applies, or with `resume` the value of the
    comparison.

    Args:
        model: One model, or a list (`mlp`); each one of the four, or a model of your own as in `train`.
        dataset: `digits` (default), a TFDS name, `folder:DIR`, or `FILE.npz`.
        arm: The placements to compare; the first is the control. A named placement (`"none"`), a name
            with a placement of its own (`"wide=input=0.2,hidden=0.5"`), a list of those, or a dictionary
            of name to placement. `["none", "default"]` unless given.
        each_site: Compares each site of the model alone at this rate with `none`, in place of `arm`.
        seeds: Runs of each arm, with the seeds 0, 1, 2, ... (10).
        scaling: `inverted` (default) or `original`, for all arms.
        drop_schedule: How the rates of all arms change during training. Constant unless given.
        weights: For a model that is not one of the four: `fresh` (default), `keep` those of the file, or
            `imagenet` for `applications/NAME`, with `download`.
        replace_head: For such a model: puts a new output layer for the classes of the data in place of the last.
        input_range: For such a model: what it expects of its pixels, `raw`, `0:1`, `-1:1`, `caffe` or `torch`.
        imports: For such a model: packages that register custom layers; their code is run.
        set: Fields of the model's configuration: a dictionary, `"KEY=VALUE"`, or a list of those.
        epochs: Passes over the training set (50).
        batch_size: Examples per step (128).
        optimizer: `adam` (default), `sgd`, `rmsprop`, `nadam` or `lion`.
        learning_rate: The peak learning rate (0.001).
        momentum: Momentum of `sgd` and `rmsprop` (0.9).
        schedule: Learning-rate schedule: `cosine` (default), `linear` or `constant`.
        warmup: Fraction of the steps in which the learning rate rises to its peak (0.05).
        warmup_start: Learning rate of the first step as a fraction of the peak (1/n for a rise over n steps).
        weight_decay: Decoupled weight decay (0).
        max_norm: Upper bound on the norm of each hidden unit's incoming weights. None unless given.
        label_smoothing: Fraction of the target spread over all classes (0).
        augment: Shifts images, cuts out squares, and flips them if the data set allows it.
        early_stopping: Stops after this many epochs without a lower validation error and restores
            the best epoch. Off unless given.
        jit_compile: Compiles the training step with XLA. Chosen by the model and the length of the
            run unless given.
        dtype: What layers compute in: `float32` (default), `mixed_bfloat16` or `mixed_float16`.
        devices: Number of GPUs that share each batch, or `all`; parts of the CPU where there is no GPU (1).
        train_size: Number of training examples, stratified. All unless given.
        split_seed: Seed of the validation split (0).
        image_size: Resizes images to this many pixels in height and width.
        resize: How images of another shape are resized: `squash`, `pad` or `crop` (`squash`).
        value_range: The values of images that become 0 and 255, `(LOW, HIGH)` or `LOW:HIGH` (0 and 255).
        vocabulary: Number of token ids of a text data set (8000).
        length: Number of tokens that are read of each text (64).
        text_column: The column of the texts in a CSV, TSV or JSONL file.
        label_column: The column of the classes in a CSV, TSV or JSONL file.
        tune: Recipe fields and their candidate values, as in `{"learning_rate": [0.001, 0.003]}`. For
            each arm the combination with the lowest validation error is chosen, on seeds that are
            not compared.
        tuning_seeds: Seeds of each combination of `tune` (1).
        vary: `seed` (default): seeds vary the initial weights, the order of the data and the masks;
            `split`: each seed also cuts its own validation part, and its own test part and choice of
            `train_size` examples where they are cut too. All arms of a seed share them.
        workers: Processes; they share the threads. One per core unless given.
        backend: `loky` for processes of this machine, or `dask` for the workers of a Dask cluster.
        scheduler: The address of the Dask scheduler. Every worker must see the folder `out`.
        out: The folder to write. `runs/compare-<dataset>`, or the next free name, unless given.
        resume: Continues the comparison in `out`; `seeds` may be raised.
        data_dir: The folder of prepared TFDS data sets; the variable `TFDS_DATA_DIR` unless given.
        download: Lets TFDS download the data set.
        threads: Threads per operation in each run. The cores are shared among the workers unless given.
        quiet: Shows no progress on stderr.
        models: An alias of `model`.
        arms: An alias of `arm`.
        settings: An alias of `set`.

    Returns:
        The contents of `summary.json`, `failed` and `folder`, with `.table()`, `.figure()`, `.runs` (a row
        per run) and `.history` (a row per run and epoch).

    Raises:
        BadInput: The options are wrong; nothing was started. `BadInput` is a `ValueError`.
        KeyboardInterrupt: Ctrl-C was pressed. Finished runs are kept, and the message holds the
            command that resumes the comparison.

    Examples:
        >>> compare(seeds=2, epochs=1, out="runs/first-comparison", quiet=True)["arms"]["none"]["n"]
        2
    """
    options = {key: value for key, value in locals().items() if key in _OF_RUNS and value is not None}
    out = given(out)
    if (settings := settings_of(alias("set", set, "settings", settings))) is not None:
        options["settings"] = settings
    models, arms = _listed(alias("model", model, "models", models)), _listed(alias("arm", arm, "arms", arms))
    if resume and out is None:
        raise BadInput("--out must be the folder of the comparison to resume, got none; add --out DIR")
    counts = {"seeds": seeds, "tuning_seeds": tuning_seeds, "workers": workers, "threads": threads}
    integers(dict.fromkeys(counts, 1), counts)
    if resume and is_empty(out):
        say(quiet, f"nothing to resume in {out}: starting from the beginning")
    elif resume:
        check_kind(out, "comparison")
    before = _earlier(out) if resume else {}
    seeds, tuning_seeds = seeds or before.get("seeds", 10), tuning_seeds or before.get("tuning_seeds", 1)
    tune = before.get("tune", {}) if tune is None else _candidates(tune)
    vary = before.get("vary", "seed") if vary is None else one_of("--vary", vary, VARIED)
    _check_seeds(tune, seeds)
    where = {"data_dir": data_dir, "download": download}
    own = {"weights": weights, "replace_head": replace_head, "input_range": input_range, "imports": imports}
    if models or any(own.values()):
        notify = functools.partial(say, quiet)
        models = [networks.whose(model, options, own, where, notify) for model in models or [None]]
    plans = _plans(models, arms, options, before, each_site, where)
    for note in filter(None, map(recipe_note, arms.values() if isinstance(arms, dict) else arms or ())):
        say(quiet, note)
    request = {
        "seeds": seeds,
        "tune": tune,
        "tuning_seeds": tuning_seeds,
        "plans": {f"{model}/{arm}": plan.to_json() for (model, arm), plan in plans.items()},
        "vary": vary,
    }
    dataset = next(iter(plans.values())).data.dataset
    with Progress(quiet) as progress, opened(backend, scheduler, workers, threads) as crew:
        crew.check_data(dataset, where)
        out = out or free_name(Path("runs") / f"compare-{'-'.join(dataset.split('/')[-2:])}")
        with claimed(out, resume, kind="comparison"):
            _check_same(out, request, before)
            sweep = Sweep(crew.shared(out), crew, where, progress, vary)
            write_json(out / "compare.json", request)
            try:
                if tune:
                    plans = sweep.tuned(plans, tune, tuning_seeds)
                sweep.compare(plans, range(seeds))
                return CompareResult(sweep.report(plans))
            except KeyboardInterrupt:
                again = {"--workers": workers, "--scheduler": scheduler, "--data-dir": data_dir, "--threads": threads}
                if backend != "loky":
                    again["--backend"] = backend
                raise KeyboardInterrupt(_how_to_continue(out, len(plans) * seeds, again)) from None


_REQUEST = record(
    {
        "seeds": whole(1, MOST["seeds"]),
        "tune": by_name(each(real())),
        "tuning_seeds": whole(1, MOST["seeds"]),
        "plans": by_name(lambda name, value: Plan.from_json(value)),
    },
    {"vary": text},
)


def _earlier(out):
    """The request of the comparison in `out`, an empty dictionary if there is none."""
    before = read_json(out / "compare.json", _AGAIN)
    if before is None:
        return {}
    # Comparisons of version 0.1 do not say what their seeds varied.
    return {"vary": "seed", **require(out / "compare.json", before, _REQUEST, _AGAIN)}


def _class_errors(metrics):
    """The test error of each class, a mean over the runs of an arm; empty for runs of earlier versions."""
    rows = [values["class_errors"] for values in metrics if values.get("class_errors")]
    columns = ([value for value in column if value is not None] for column in zip(*rows, strict=True))
    return [fmean(values) if values else None for values in columns]


def _confusion(metrics):
    """The confusion matrix of an arm, summed over its runs; empty without one (see `zoo.metrics.by_class`)."""
    matrices = [values["confusion"] for values in metrics if values.get("confusion")]
    return [[sum(counts) for counts in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def _about(data):
    """Where the data comes from and what was skipped or changed, in a sentence."""
    about = data["about"]
    parts = [f"Data from {about['source']}", f"test part: {about['test_part']}"]
    parts += [f"version {about['version']}"] if about.get("version") else []
    parts += [
        f"{key.replace('_', ' ')} {data[key]}" for key in ("image_size", "resize", "value_range") if data.get(key)
    ]
    return "; ".join([*parts, *(about.get("notes") or ())]) + "."


def _check_seeds(tune, seeds):
    """Refuses to compare seeds on which the recipes are chosen."""
    if tune and seeds > TUNING_SEED:
        raise BadInput(
            f"--seeds must be <= {TUNING_SEED} with --tune, whose seeds begin there, got {seeds}; use fewer seeds"
        )


_REPORT = "trainers.comparison.report"  # with SciPy and matplotlib
_OF_RUNS = ("dataset", "scaling", "drop_schedule", *DataOptions().to_json(), *Recipe().to_json())


def _listed(given):
    """One name as a list of one; a list, a dictionary or None as it is."""
    if given is None or isinstance(given, Path):
        return given if given is None else [given]
    if isinstance(given, Mapping):
        return mapping("arm", given)
    if isinstance(given, list | tuple) and any(isinstance(item, Path) for item in given):
        given = [str(item) if isinstance(item, Path) else item for item in given]
    return texts("arm", given)


def _how_to_continue(out, total, again):
    """The message for a comparison that Ctrl-C ended."""
    finished = sum(1 for _ in out.glob(f"runs/*/*/*/{runs.METRICS}"))
    words = ["python", "-m", "trainers", "compare", "--resume", "--out", str(out)]
    words += cli.words(again)
    return f"interrupted: {finished} of {total} runs are finished and kept; resume with\n  {shlex.join(words)}"


def _plans(models, arms, options, before, each_site=None, where=None):
    """(model, arm) -> plan: as asked for, or those of the comparison that is resumed."""
    if before and not (models or arms or options or each_site is not None):
        return {tuple(name.split("/", 1)): Plan.from_json(plan) for name, plan in before["plans"].items()}
    if each_site is not None and arms:
        raise BadInput("--each-site must be given without --arm, got both; leave one of them out")
    plans = {}
    for model in models or ("mlp",):
        chosen = (
            _each_site(model, each_site, options, where or {})
            if each_site is not None
            else arms or _default_arms(model)
        )
        plans |= {(plan.label, name): plan for name, plan in _arms(model, chosen, options).items()}
    return plans


def _default_arms(model):
    """The arms without `--arm`: no dropout, and the model's default or own."""
    if not isinstance(model, Network):
        return ARMS
    if not model.own.sites and not model.own.keep:
        raise BadInput(
            f"--arm must be given for {model.label}, in which no dropout is recognised, got none; add an --arm such as "
            "mine=hidden=0.5, or --each-site"
        )
    return ("none", "own")


def _each_site(model, rate, options, where):
    """The arms `none` and each site of `model` alone at `rate`."""
    number("--each-site", rate, 0, 1, closed="neither")
    if isinstance(model, Network):
        return {"none": "none", **{site: Placement({site: rate}) for site in model.sites}}
    config = catalogue.configure(model, options.get("settings") or {})
    sites = config.sites()
    if config.sites(tokens=True) != sites:  # token ids have no site `input`
        sites = config.sites(networks.kind_of_data(options, where) == "text")
    return {"none": "none", **{site: Placement({site: rate}) for site in sites}}


def _arms(model, arms, options):
    """Name -> plan, for one model. An arm that is a plan has a recipe of its own."""
    named = arms if isinstance(arms, Mapping) else dict(_parse_arm(arm) for arm in arms)
    for name in named:
        _check_arm(name)
    if not isinstance(arms, Mapping) and len(named) != len(arms):
        raise BadInput(f"--arm must name each arm once, got {', '.join(arms)}; choose different names")
    return {
        name: arm if isinstance(arm, Plan) else Plan.make(model=model, placement=arm, **options)
        for name, arm in named.items()
    }


def _parse_arm(text):
    name, equals, drops = text.partition("=")
    if not name or (equals and not drops):
        raise BadInput(f"--arm must be NAME or NAME=SITE=RATE[:KIND],..., got {text!r}")
    return name, Placement.parse(drops) if equals else name


def _check_arm(name):
    """Refuses a name that is no name of a folder: it would lead to the runs of another arm."""
    if not isinstance(name, str) or not name or len(name) > 100 or name[0] == "." or set("/\\\0\n\r") & {*name}:
        raise BadInput(f"the name in --arm must be at most 100 characters without / and no leading dot, got {name!r}")


def _moving(plans):
    """The text of the schedule of each arm whose rates move."""
    schedules = {arm: plan.placement.schedule for (_, arm), plan in plans.items()}
    return {arm: str(schedule) for arm, schedule in schedules.items() if schedule.moves}


def _candidates(tune):
    """The values to try of each recipe field, from a mapping or from `KEY=V1/V2` texts; the recipe checks each."""
    if not isinstance(tune, Mapping):
        texts = cli.settings([tune] if isinstance(tune, str) else tune, "--tune")
        tune = {key: _numbers(key, text) for key, text in texts.items()}
    for key, values in tune.items():
        one_of("--tune", key, Recipe().to_json())
        if not values:
            raise BadInput(f"--tune {key} must have values, got none; write it as in learning_rate=0.001/0.003")
        for value in values:
            Recipe(**{key: value})
        if twice := [value for number, value in enumerate(values) if value in list(values)[:number]]:
            raise BadInput(f"--tune {key} must name each value once, got {twice[0]} twice; leave it out")
    return {key: list(values) for key, values in tune.items()}


def _numbers(key, text):
    try:
        values = [float(value) for value in text.split("/")]
    except ValueError:
        raise BadInput(f"--tune {key} must be numbers, as in 0.001/0.003, got {text!r}") from None
    # Another number than an integer stays one, for the recipe to refuse.
    integer = key in fields.integers(Recipe)
    return [int(value) if integer and value.is_integer() else value for value in values]


def _check_same(out, request, before):
    """Refuses to resume a comparison with another request; more seeds are allowed."""
    if "plans" in before:  # an earlier version did not know all options
        before = {**before, "plans": {name: Plan.from_json(p).to_json() for name, p in before["plans"].items()}}
    differing = [key for key in request if key != "seeds" and before and request[key] != before.get(key)]
    if differing or request["seeds"] < before.get("seeds", 0):
        what = ", ".join(differing) or f"seeds ({request['seeds']}, not {before['seeds']} or more)"
        raise BadInput(
            f"options must be those that {out} was started with to resume it, got other {what}; see its compare.json"
        )


class Progress:
    """The live line of a comparison: finished runs, what is running, and the time left.

    What is running is read from the run folders, so that it is known for any backend.
    """

    def __init__(self, quiet):
        self._quiet, self._live = quiet, Live(self.text, quiet)
        self._what, self._phase = "", "starting"
        self._jobs, self._workers, self._before, self._ends, self._looked = [], 1, 0, [], (float("-inf"), "")

    def __enter__(self):
        self._live.__enter__()
        return self

    def __exit__(self, *error):
        self._live.__exit__(*error)

    def say(self, text):
        """Prints a line above the live line."""
        say(self._quiet, text)

    def phase(self, name):
        """Sets what is done besides runs."""
        self._jobs, self._phase = [], name
        self._live.update(1, 1, refresh=True)

    def begin(self, what, jobs, workers, before):
        """Begins to follow `jobs` in `workers` processes, after `before` finished ones."""
        self._what, self._jobs, self._workers, self._before = what, list(jobs), workers, before
        self._ends, self._looked = [], (float("-inf"), "")
        self._live.update(before, before + len(jobs))

    def ended(self, job):
        """Notes the end of a job; returns `finished/total` and, if known, the time left."""
        self._jobs.remove(job)
        self._ends.append(time.monotonic())
        done, total = self._before + len(self._ends), self._before + len(self._ends) + len(self._jobs)
        self._live.update(done, total)
        left = self._left([])
        return f"{done}/{total} {self._what}", f"  {duration(left)} left" if left is not None else ""

    def text(self):
        """Returns the current status."""
        if not self._jobs:
            return self._phase
        looked, status = self._looked
        if time.monotonic() - looked > 1:
            status = self._status()
            self._looked = time.monotonic(), status
        return status

    def _status(self):
        done = self._before + len(self._ends)
        running = [(job, _epochs(job)) for job in self._jobs if (Path(job.folder) / LOCK).exists()]
        names = [
            f"{job.arm} seed {job.seed} (epoch {len(seconds)}/{job.plan['recipe']['epochs']})" if seconds
            else f"{job.arm} seed {job.seed} (starting)"
            for job, seconds in running
        ]  # fmt: skip
        names = names or [f"starting {self._workers} process{'' if self._workers == 1 else 'es'}"]
        left = self._left([(job, seconds) for job, seconds in running if seconds])
        time_left = "" if left is None else f"  {duration(left)} left"
        return f"{done}/{done + len(self._jobs)} {self._what}{time_left}  running: {', '.join(names)}"

    def _left(self, running):
        """Seconds left; None if unknown. The first run of each process also starts it, and says nothing."""
        if len(self._ends) > self._workers:
            counted = self._ends[self._workers - 1 :]
            pace = (counted[-1] - counted[0]) / (len(counted) - 1)
            return max(0.0, pace * len(self._jobs) - (time.monotonic() - counted[-1]))
        steady = [value for _, seconds in running for value in seconds[1:]]  # the first epoch also compiles
        if not steady:
            return None
        epochs = sum(job.plan["recipe"]["epochs"] for job in self._jobs) - sum(len(s) for _, s in running)
        return fmean(steady) * epochs / min(self._workers, len(self._jobs))


def _epochs(job):
    """The seconds of each epoch that a running job has finished."""
    try:
        return [row["seconds"] for row in runs.read_history(job.folder)]
    except (BadInput, OSError, KeyError):
        return []  # not written yet


def _tidy(folder):
    """Removes what a process that was killed after the end of its run left in the folder of the run."""
    if any((folder / name).exists() for name in (LOCK, runs.CHECKPOINT)):
        with claimed(folder, resume=True):
            (folder / runs.CHECKPOINT).unlink(missing_ok=True)


def _score(figures, seeds):
    """Mean validation error and loss of a candidate; infinite unless each of the seeds has finite values."""
    values = [value for row in figures for value in row]
    if len(figures) < seeds or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        return [math.inf, math.inf]
    return [fmean(column) for column in zip(*figures, strict=True)]


class Sweep:
    """The runs of one comparison, in one folder.

    Args:
        out: The folder.
        crew: What carries out the runs, of `trainers.parallel.backends.opened`.
        where: `data_dir` and `download`.
        progress: The live line.
        vary: What the seeds vary: one of `VARIED`.
    """

    def __init__(self, out, crew, where, progress, vary="seed"):
        self._splits = vary == "split"
        self._out, self._crew, self._where, self._progress = out, crew, where, progress
        self._id = uuid.uuid4().hex
        self._failed, self._begun, self._said = [], time.monotonic(), False
        self._first: dict | None = None  # the data of the first run

    def tuned(self, plans, tune, seeds):
        """Returns each arm's plan with the candidates that had the lowest validation error.

        The choice is kept: a run that failed and ends later must not change the recipe of half the runs. A
        candidate counts only if all its seeds have ended with finite values.
        """
        kept = read_json(self._out / CHOSEN, _AGAIN)
        if kept:
            of_arms = dict.fromkeys(map("/".join, plans), fields_of(Recipe))
            require(self._out / CHOSEN, kept, record(of_arms), _AGAIN)
            return {key: Plan.make(plan, **kept["/".join(key)]) for key, plan in plans.items()}
        combinations = [dict(zip(tune, values, strict=True)) for values in itertools.product(*tune.values())]
        jobs, labels = [], {}
        for ((model, arm), plan), values in itertools.product(plans.items(), combinations):
            label = "-".join(f"{key}={value}" for key, value in values.items())
            for seed in range(TUNING_SEED, TUNING_SEED + seeds):
                job = self._job("tuning", plan, model, f"{arm}-{label}", seed, values)
                jobs.append(job)
                labels[job.folder] = (model, arm, values)
        table = Table(self._out / "tuning.csv", ("model", "arm", *tune, "seed", "val_error", "val_loss"))
        table.start()
        scores = {}
        for outcome in self._carry_out(jobs, "tuning runs", expected=self._expected()):
            model, arm, values = labels[outcome.job.folder]
            if outcome.metrics:
                row = {"val_error": outcome.metrics["val_error"], "val_loss": outcome.metrics["val_loss"]}
                table.append({"model": model, "arm": arm, "seed": outcome.job.seed, **values, **row})
                scores.setdefault((model, arm), {}).setdefault(tuple(values.items()), []).append(tuple(row.values()))
        chosen, picks = {}, {}
        for key, plan in plans.items():
            if key not in scores:
                raise RunFailed(f"every tuning run of {'/'.join(key)} failed: {self._failed[-1]['message']}")
            best = min(scores[key].items(), key=lambda item: _score(item[1], seeds))
            if not math.isfinite(_score(best[1], seeds)[0]):
                raise RunFailed(
                    f"no candidate of {'/'.join(key)} ended with finite values for each of {seeds} tuning seeds; "
                    "choose other candidates, such as smaller learning rates"
                )
            chosen[key], picks[key] = Plan.make(plan, **dict(best[0])), best[0]
            values = ", ".join(f"{k} {shortest(v) if isinstance(v, float) else v}" for k, v in best[0])
            self._progress.say(f"{'/'.join(key)}: chose {values} by validation error")
        write_json(self._out / CHOSEN, {"/".join(key): dict(picked) for key, picked in picks.items()})
        self._failed.clear()  # each arm has its recipe; a candidate that failed is no run that is missing
        return chosen

    def compare(self, plans, seeds):
        """Carries out the runs that are compared; appends each to `results.csv` and `curves.csv` when it ends."""
        jobs = [self._job("runs", plan, *key, seed) for seed in seeds for key, plan in plans.items()]
        placements = {key: str(plan.placement) for key, plan in plans.items()}
        self._results = Table(self._out / "results.csv", RESULTS)
        self._curves = Table(self._out / "curves.csv", CURVES)
        self._results.start()
        self._curves.start()
        workers = self._crew.workers(len(jobs))
        outcomes = self._carry_out(jobs, "runs", track_test=True, expected=self._expected())
        for ended, outcome in enumerate(outcomes, 1):
            if len(jobs) - ended == workers - 1 > 0:  # from now on a core is idle: import what draws the report
                threading.Thread(target=importlib.import_module, args=(_REPORT,), daemon=True).start()
            if outcome.metrics:
                job = outcome.job
                key = {"model": job.model, "arm": job.arm, "seed": job.seed}
                self._results.append({**outcome.metrics, **key, "placement": placements[job.model, job.arm]})
                for row in runs.read_history(job.folder):
                    self._curves.append({**row, **key})

    def finish(self, plans, keys, **options):
        """Carries out the runs `keys`, each (model, arm, seed); yields their outcomes. `options` are those of `run`."""
        jobs = [self._job("runs", plans[model, arm], model, arm, seed) for model, arm, seed in keys]
        yield from self._carry_out(jobs, "runs", **options)

    @property
    def failed(self):
        """The runs that failed: dictionaries of `model`, `arm`, `seed` and `message`."""
        return list(self._failed)

    def report(self, plans):
        """Writes `summary.json`, the picture and the page; returns the summary."""
        self._progress.phase("writing the report")
        from trainers.comparison import report

        rows = read_csv(self._out / "results.csv")
        if not rows:
            return {"arms": {}, "pairs": [], "failed": self._failed, "folder": str(self._out)}
        return {**report.write(self._out, self._meta(plans)), "failed": self._failed, "folder": str(self._out)}

    def _meta(self, plans):
        """What the page says about how the runs were made."""
        any_plan = next(iter(plans.values()))
        measured = {"/".join(key): self._metrics(*key) for key in plans}
        config = runs.read_config(next(self._out.glob(f"runs/*/*/*/{runs.CONFIG}")).parent)
        return {
            "dataset": any_plan.data.dataset,
            "sizes": config["data"]["sizes"],
            "about": _about(config["data"]) + (" Each seed has its own split." if self._splits else ""),
            "data": {key: config["data"].get(key) for key in ("labels", "sizes", "fingerprint")},
            "labels": config["data"].get("labels") or [],
            "class_errors": {arm: _class_errors(metrics) for arm, metrics in measured.items()},
            "confusions": {arm: _confusion(metrics) for arm, metrics in measured.items()},
            "placements": {"/".join(key): str(plan.placement) or "no dropout" for key, plan in plans.items()},
            "schedules": _moving(plans),
            "recipes": {"/".join(key): plan.recipe.to_json() for key, plan in plans.items()},
            "command": " ".join(["python -m trainers", *sys.argv[1:]]) if "trainers" in sys.argv[0] else None,
            "versions": config["versions"],
            "threads": config["threads"],
            "seconds": time.monotonic() - self._begun,
            "failed": self._failed,
        }

    def _metrics(self, model, arm):
        """The metrics of the finished runs of an arm."""
        folder = self._out / "runs" / model / arm  # no pattern: an arm may be called a*
        metrics = (runs.read_metrics(path.parent) for path in folder.glob(f"*/{runs.METRICS}"))
        return [values for values in metrics if values]

    def _job(self, kind, plan, model, arm, seed, values=None):
        split = {"split_seed": seed} if self._splits else {}
        plan = Plan.make(plan, seed=seed, **split, **(values or {}))
        return Job(model, arm, seed, plan.to_json(), str(self._out / kind / model / arm / f"seed-{seed}"))

    def _carry_out(self, jobs, what, **options):
        """Yields the outcomes of finished runs, then carries out the others, with a line for each."""
        metrics_of = [(job, runs.read_metrics(job.folder)) for job in jobs]
        finished = [Outcome(job, metrics) for job, metrics in metrics_of if metrics]
        waiting = [job for job, metrics in metrics_of if not metrics]
        workers = self._crew.workers(len(waiting))
        for outcome in finished:
            _tidy(Path(outcome.job.folder))
        if finished:
            self._say_sizes()
            self._progress.say(f"{len(finished)} of {len(jobs)} {what} are already finished")
        if waiting:
            self._progress.say(f"{len(waiting)} {what} in {workers} process{'' if workers == 1 else 'es'}: {self._out}")
        yield from finished
        self._progress.begin(what, waiting, workers, len(finished))
        options |= {"keep_checkpoint": False, "sweep": self._id}
        for outcome in self._crew.carry_out(waiting, **self._where, **options):
            if isinstance(outcome.refused, OtherData):  # so would the other runs be
                raise outcome.refused
            if outcome.metrics and "expected" in options and not self._splits:
                # Runs that began together had nothing to be compared with when they began.
                held = runs.read_config(outcome.job.folder)["data"]
                self._first = self._first or self._data()
                fingerprint.check_same(self._first, held, outcome.job.folder)
            self._line(outcome, *self._progress.ended(outcome.job))
            yield outcome

    def _data(self):
        """The data of this comparison: the entry `data` of the first run that has loaded them, None before."""
        searched = runs.data_of(self._out.parent, "trials") if (self._out.parent / "search.json").exists() else None
        return searched or runs.data_of(self._out, "runs", "tuning")

    def _expected(self):
        """What the data of the next runs must be; None where each seed has its own."""
        return None if self._splits else self._data()

    def _say_sizes(self):
        """Says once what the data set holds, as soon as a run has loaded it."""
        if not self._said and (held := self._data()):
            self._said = True
            for line in data.summary(held):
                self._progress.say(line)

    def _line(self, outcome, count, left):
        self._say_sizes()
        job, name = outcome.job, f"{outcome.job.model}/{outcome.job.arm} seed {outcome.job.seed}"
        if outcome.message:
            self._failed.append({"model": job.model, "arm": job.arm, "seed": job.seed, "message": outcome.message})
            self._progress.say(f"{count}  {name}  FAILED: {outcome.message}")
        else:
            error, seconds = outcome.metrics["val_error"], outcome.metrics["seconds"]
            self._progress.say(f"{count}  {name}  validation {error:.2f} %  {duration(seconds)}{left}")
