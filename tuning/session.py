"""A search for dropout rates: a tuner of keras-tuner proposes, the project's loop trains; resumable at any moment."""

import functools
import json
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers import networks
from trainers.training.folder import check_kind, claimed, free_name, given, is_empty
from trainers.training.progress import Phases, duration, say
from tuning import token
from tuning.request import SCHEMA, Request, check_same
from tuning.result import SearchResult
from tuning.space import Space
from zoo import cli, data, runs, startup
from zoo.checks import integers
from zoo.errors import BadInput, RunFailed
from zoo.files import write_json
from zoo.reading import read_json
from zoo.schema import require

if TYPE_CHECKING:
    from zoo.placement.drop import Drop
    from zoo.placement.placement import Placement
    from zoo.placement.schedule import Schedule

DRAW_SECONDS = 60.0  # the least time between two drawings while the search runs


def search(
    model: str | None = None,
    dataset: str | Path | None = None,
    *,
    tune: "str | Iterable[str] | Space | None" = None,
    tuner: str | None = None,
    max_trials: int | None = None,
    executions: int | None = None,
    stop_worse: float | None = None,
    workers: int | None = None,
    retrain: int | None = None,
    drop: "str | Iterable[str] | Mapping[str, float | Drop] | None" = None,
    placement: "str | Placement | Mapping[str, float | Drop] | None" = None,
    scaling: str | None = None,
    drop_schedule: "str | Schedule | None" = None,
    weights: str | None = None,
    replace_head: bool | None = None,
    input_range: str | None = None,
    imports: Sequence[str] | str | None = None,
    seed: int | None = None,
    set: str | Iterable[str] | Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    train_size: int | None = None,
    split_seed: int | None = None,
    image_size: int | None = None,
    resize: str | None = None,
    value_range: str | tuple[float, float] | None = None,
    vocabulary: int | None = None,
    length: int | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
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
    out: str | Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    quiet: bool = False,
    chief: str | None = None,
    token_file: str | Path | None = None,
) -> SearchResult:
    """Searches for the dropout rates with the lowest validation error, as `python -m tuning search` does.

    Every option has the name of the command's option; None means that it is not given. The
    first trial is the control: no dropout, with the first value of everything else that is tuned.

    Args:
        model: `mlp`, `cnn`, `resnet` or `transformer` (default `mlp`).
        dataset: `digits`, a TFDS name, `folder:DIR` or `FILE.npz` (default `digits`).
        tune: what to tune: `"hidden=0:0.8:0.1"`, a list of such texts, or a `Space`. The
            default depends on the model, see `python -m tuning search --help`.
        tuner: `random` (default), `grid`, `bayesian`, `hyperband`, or one of Optuna's: `optuna` (`optuna:tpe`),
            `optuna:gp`, `optuna:cmaes`.
        max_trials: the largest number of trials, with the control (default 20; all
            combinations for `grid`, all rounds for `hyperband`).
        executions: runs of each trial (default 1).
        stop_worse: skips the remaining executions of a trial that is clearly worse than the best complete one; the
            value is the probability of stopping a trial that is as good (default: none is stopped). It needs at
            least three executions, and a tuner other than `hyperband`.
        workers: processes on this machine, which share its threads (default 1).
        retrain: number of seeds, at least 2, over which the winner is compared with no
            dropout on the test part (default: no comparison).
        drop: dropout at sites that are not tuned, as for `trainers.train` (default: none).
        placement: placement of the sites that are not tuned (default: none).
        scaling: `inverted` (default) or `original`.
        drop_schedule: how rates change during training (default `constant`).
        weights: for a model that is not one of the four: `fresh` (default), `keep` those of the file, or
            `imagenet` for `applications/NAME`, with `download`.
        replace_head: for such a model: puts a new output layer for the classes of the data in place of the last.
        input_range: for such a model: what it expects of its pixels, `raw`, `0:1`, `-1:1`, `caffe` or `torch`.
        imports: for such a model: packages that register custom layers; their code is run.
        seed: seed of the sequence of trials and of their runs (default 0).
        set: fields of the model's configuration: a dictionary such as `{"hidden": "128/128"}`,
            `"KEY=VALUE"`, or a list of those.
        settings: an alias of `set`.
        data_dir: the folder in which TFDS keeps its data (default `TFDS_DATA_DIR`).
        download: allows TFDS to download the data set.
        train_size: number of training examples, stratified (default: all).
        split_seed: seed of the validation part (default 0).
        image_size: resizes images to `image_size` x `image_size` pixels.
        resize: how images of another shape are resized: `squash` (default), `pad` or `crop`.
        value_range: the values of images that become 0 and 255, `(LOW, HIGH)` or `LOW:HIGH`.
        vocabulary: number of token ids, for texts.
        length: number of tokens read from each text.
        text_column: the column of the texts in a CSV, TSV or JSONL file.
        label_column: the column of the classes in a CSV, TSV or JSONL file.
        epochs: passes over the training part (default 50).
        batch_size: examples in a step (default 128).
        optimizer: `adam` (default), `sgd`, `rmsprop`, `nadam` or `lion`.
        learning_rate: the highest learning rate (default 0.001).
        momentum: momentum of `sgd` and `rmsprop` (default 0.9).
        schedule: learning-rate schedule: `cosine` (default), `constant` or `linear`.
        warmup: fraction of the steps in which the learning rate rises to its peak (default 0.05).
        warmup_start: learning rate of the first step as a fraction of the peak (1/n for a rise over n steps).
        weight_decay: decoupled weight decay, not on biases and norms (default 0).
        max_norm: bound on the norm of a hidden unit's incoming weights (default: none).
        label_smoothing: share of the target that is spread over all classes (default 0).
        augment: shifts, cuts out and flips training images (default False).
        early_stopping: stops a run after this many epochs without a lower validation error.
        jit_compile: compiles the training step with XLA (default: what is faster).
        dtype: what layers compute in: `float32` (default), `mixed_bfloat16` or `mixed_float16`.
        devices: number of GPUs that share each batch, or `all`; parts of the CPU where there is no GPU (1).
        out: the folder to write (default: a new one under `runs/`).
        resume: resumes the search in `out`, with its options where none is given.
        threads: threads of an operation (default: all cores). The bits of a run depend on it.
        quiet: prints no progress on stderr.
        chief: `HOST:PORT` at which to serve workers on other machines; this machine then
            trains nothing.
        token_file: the file of the token that those workers must hold, which is written if it
            does not exist (default: `worker-token` in `out`, or the variable
            `DROPOUT_ZOO_TOKEN`).

    Returns:
        A `SearchResult`: the contents of `summary.json` by key, `folder` and, with `retrain`,
        the comparison as `retrain`; and `table()`, `figure()`, `model`, `history`.

    Raises:
        BadInput: an option is invalid (a ValueError). Nothing has been trained.
        RunFailed: three trials failed for the same cause. Finished trials are kept.
        KeyboardInterrupt: Ctrl-C was pressed. Finished trials are kept, and the message holds the
            command that resumes the search.

    Examples:
        >>> result = search(tune="hidden=0/0.5", set={"hidden": 16}, epochs=1, out="runs/s", quiet=True)
        >>> result["trials"]
        2
    """
    out = given(out)
    if set is not None and settings is not None:
        raise BadInput("set must be given once, got set and its alias settings; leave out settings")
    if token_file is not None and chief is None:
        raise BadInput(f"token_file must be left out without chief, got {token_file}; give chief as well")
    fields = settings if set is None else set
    if fields is not None and not isinstance(fields, Mapping):
        fields = cli.settings([fields] if isinstance(fields, str) else fields)
    options: dict[str, Any] = {
        "model": model,
        "dataset": dataset,
        "tune": tune,
        "tuner": tuner,
        "max_trials": max_trials,
        "executions": executions,
        "stop_worse": stop_worse,
        "drop": drop,
        "placement": placement,
        "scaling": scaling,
        "drop_schedule": drop_schedule,
        "seed": seed,
        "settings": fields,
        "train_size": train_size,
        "split_seed": split_seed,
        "image_size": image_size,
        "resize": resize,
        "value_range": value_range,
        "vocabulary": vocabulary,
        "length": length,
        "text_column": text_column,
        "label_column": label_column,
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "schedule": schedule,
        "warmup": warmup,
        "warmup_start": warmup_start,
        "weight_decay": weight_decay,
        "max_norm": max_norm,
        "label_smoothing": label_smoothing,
        "augment": augment,
        "early_stopping": early_stopping,
        "jit_compile": jit_compile,
        "dtype": dtype,
        "devices": devices,
    }
    options = {name: value for name, value in options.items() if value is not None}
    own = {"weights": weights, "replace_head": replace_head, "input_range": input_range, "imports": imports}
    if model is not None or any(own.values()):
        where = {"data_dir": data_dir, "download": download}
        options["model"] = networks.whose(model, options, own, where, functools.partial(say, quiet))
    minimums = {"workers": 1, "retrain": 2, "threads": 1, "seed": 0, "max_trials": 1, "executions": 1}
    integers(minimums, {**options, "workers": workers, "retrain": retrain, "threads": threads})
    before = _earlier(out, quiet) if resume else None
    request = Request.make(Request.from_json(before) if before else None, **options)
    if before:
        check_same(before, request.to_json(), out)
    name = request.base.data.dataset
    data.check_ready(name, data_dir=data_dir, download=download)
    out = out or free_name(Path("runs") / f"search-{request.base.label}-{name.split('/')[-1]}")
    where = {"data_dir": data_dir, "download": download}
    with claimed(out, resume, kind="search"):
        write_json(out / "search.json", request.to_json())
        try:
            shared = token.of_chief(token_file, out) if chief else None  # first, so that workers can start
            with Phases("starting TensorFlow", quiet) as phases:
                current = _Search(out, request, quiet, phases)
                summary = current.run(workers or 1, threads, chief, where, shared)
            if retrain:
                how = {"workers": workers, "threads": threads, "quiet": quiet, **where}
                summary["retrain"] = _retrained(out, request, summary, retrain, **how)
        except KeyboardInterrupt:
            counts = {"workers": workers, "retrain": retrain, "threads": threads}
            raise KeyboardInterrupt(_how_to_resume(out, chief, token_file, counts, where)) from None
        return SearchResult({**summary, "folder": str(out)}, current.trials, request.space, current.title)


def _earlier(out, quiet):
    """The request of the search in `out`, as JSON; None if the folder is empty."""
    if out is None:
        raise BadInput("out must be the folder of the search to resume, got none; add --out DIR")
    if is_empty(out):
        say(quiet, f"nothing to resume in {out}: starting from the beginning")
        return None
    check_kind(out, "search")
    path, way = out / "search.json", "name another --out"
    return require(path, read_json(path, way), SCHEMA, way)


def _how_to_resume(out, chief, token_file, counts, where):
    """The message for a search that Ctrl-C ended."""
    words = ["cluster", "--chief", chief] if chief else ["search"]
    words += ["--token-file", str(token_file)] if token_file else []
    words += ["--out", str(out), "--resume"]
    for name, value in counts.items():
        words += [f"--{name}", str(value)] if value is not None else []
    words += ["--data-dir", str(where["data_dir"])] if where["data_dir"] else []
    words += ["--download"] if where["download"] else []
    command = shlex.join(["python", "-m", "tuning", *words])
    return f"interrupted: finished trials are kept; resume with\n  {command}"


def _retrained(out, request, summary, seeds, **options):
    if summary["winner"] is None:
        raise RunFailed(f"cannot retrain the winner of {out}: no trial is complete; see {out}/results.csv")
    from tuning.retrain import retrain

    say(options["quiet"], f"comparing the winner with no dropout on the test part, {seeds} seeds each")
    trials = summary["winner"], summary["control"], summary["rival"]
    return retrain(out, request.space, request.base, *trials, seeds, **options)


class _Search:
    """One search in its folder: the study, its results and its progress lines."""

    def __init__(self, out, request, quiet, phases):
        say(quiet, f"searching in {out}: starting TensorFlow")
        self._phases = phases
        with startup.held_stderr():
            startup.tensorflow()
            from tuning import oracles
            from tuning.journal import Journal
            from tuning.results import Results
            from tuning.study import Study
        self._said = False
        self._out, self._request, self._quiet, self._several = out, request, quiet, False
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
        hooks = {"about": self.about, "on_end": self._ended, "on_start": self._begun, "stop_worse": request.stop_worse}
        self.study = Study(oracle, space, journal, request.executions, request.limit, **hooks)
        self._results = Results(out, self.study, space, base, request.seeds)
        self._started, self._drawn, self._ended_before = time.monotonic(), time.monotonic(), self._count()

    @property
    def trials(self) -> list:
        """The trials so far, in their order."""
        return list(self.study.trials.values())

    @property
    def title(self) -> str:
        """The title of the picture."""
        base = self._request.base
        runs = sum(len(trial.executions) for trial in self.trials if trial.status in ("COMPLETED", "STOPPED"))
        return f"{base.model} on {base.data.dataset}: {runs} runs of {base.recipe.epochs} epochs"

    def run(self, workers, threads, chief, where, shared=None):
        """Runs what is left of the search; returns the contents of `summary.json`.

        `shared` is the token of the workers of a chief, and its file.
        """
        self._announce()
        self._several = bool(chief) or workers > 1
        self.study.hold() if chief else self.study.release()
        try:
            if chief:
                from tuning.service import serve

                self._phases.begin("waiting for workers")
                serve(self.study, chief, lambda text: say(self._quiet, text), *shared)
            elif workers > 1:
                from tuning.service import spread

                say(self._quiet, f"starting {workers} worker processes")
                self._phases.begin("waiting for the first worker")
                spread(self.study, self._out, workers, threads, where)
            else:
                from tuning.worker import Worker

                Worker("0", self.study, self.about, self._out, threads, **where).work()
        finally:
            self._phases.begin("drawing the results")
            summary = self._results.write()
            self._draw()
        if self.study.cause:
            raise RunFailed(
                f"three trials failed for the same cause: {self.study.cause}; correct it, or try the other "
                f"combinations with --out {self._out} --resume"
            )
        return summary

    def _announce(self):
        request, space = self._request, self._request.space
        if self._ended_before:
            rest = "the search is finished already" if self.study.over else "resuming"
            say(self._quiet, f"{self._out}: {self._ended_before} trials were finished before; {rest}")
        if self._rounds:
            say(
                self._quiet,
                "hyperband: " + "; ".join(" > ".join(f"{n} x {e} epochs" for n, e in r) for r in self._rounds),
            )
        count = "" if self._rounds else f"{request.limit} of "
        say(self._quiet, f"{request.tuner} search, {count}{space.size} combinations of {', '.join(space.names)}")

    def _begun(self, trial):
        """Prints a line about a trial that a worker has taken."""
        worker = f" on worker {trial.worker}" if self._several else ""
        say(self._quiet, f"training {trial.label}{worker}: {self._results.name(trial)}")
        running = [other.label for other in self.trials if other.status == "RUNNING"]
        self._phases.begin(f"{self._count()}/{self._total()}  training {', '.join(running) or trial.label}")

    def _ended(self, trial):
        """Prints a line about a trial that has ended, and rewrites the table."""
        self._results.write()
        if time.monotonic() - self._drawn > DRAW_SECONDS:
            self._draw()
        self._say_sizes()
        best = next(iter(self.study.completed()), None)
        count, total = self._count(), self._total()
        seconds = (time.monotonic() - self._started) / max(1, count - self._ended_before)
        line = [f"{count}/{total}", trial.label, self._results.name(trial)]
        if trial.status == "FAILED":
            line.append(f"FAILED: {trial.message}")
        else:
            line.append(
                f"validation {trial.mean('val_error'):.2f} %" + (f" after {trial.until} epochs" if trial.until else "")
            )
        if trial.status == "STOPPED":
            line.append(f"stopped: {trial.message}")
        if best:
            line.append(f"best {best.mean('val_error'):.2f} % ({self._results.name(best)})")
        line += [
            duration(sum(row["seconds"] for row in trial.executions.values())),
            f"{duration(seconds * (total - count))} left",
        ]
        say(self._quiet, "  ".join(line))

    def _say_sizes(self):
        """Says once what the data set holds, as soon as a run on this machine has loaded it."""
        if not self._said and (held := runs.data_of(self._out, "trials")):
            self._said = True
            for line in data.summary(held):
                say(self._quiet, line)

    def _count(self):
        return sum(trial.status != "RUNNING" for trial in self.study.trials.values())

    def _total(self):
        if self._rounds and not self._request.max_trials:
            return max(self._count(), 1 + sum(trials for bracket in self._rounds for trials, _ in bracket))
        return self._request.limit

    def _draw(self):
        from tuning import figure

        self._drawn = time.monotonic()
        figure.draw(self._out / "rate.png", self.trials, self._request.space, self.title)
