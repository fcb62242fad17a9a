"""One run: carries out a plan in one run folder and can be resumed at any time."""

import dataclasses
import functools
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainers import networks
from trainers.plan import Plan, alias, recipe_note, settings_of
from trainers.training.folder import check_kind, claimed, free_name, given, is_empty
from trainers.training.progress import RunProgress, duration, say
from trainers.training.result import TrainResult
from zoo import data, runs, startup
from zoo.data import announce, fingerprint
from zoo.errors import BadInput
from zoo.files import write_json
from zoo.placement.drop import Drop
from zoo.placement.placement import Placement
from zoo.reading import present
from zoo.versions import versions

if TYPE_CHECKING:
    import keras

    from trainers.training.engines import Engines
    from zoo.data.dataset import Dataset


def train(
    *,
    model: str | Path | None = None,
    dataset: str | Path | None = None,
    placement: str | Path | Placement | Mapping[str, float | Drop] | None = None,
    drop: str | Iterable[str] | Mapping[str, float | Drop] | None = None,
    scaling: str | None = None,
    drop_schedule: str | None = None,
    weights: str | None = None,
    replace_head: bool | None = None,
    input_range: str | None = None,
    imports: Sequence[str] | str | None = None,
    set: str | Iterable[str] | Mapping[str, object] | None = None,
    seed: int | None = None,
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
    from_: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    data_dir: str | Path | None = None,
    download: bool = False,
    threads: int | None = None,
    callbacks: "Iterable[keras.callbacks.Callback]" = (),
    quiet: bool = False,
    settings: Mapping[str, object] | None = None,
) -> TrainResult:
    """Trains one model into a run folder, as `python -m trainers train` does.

    An option that is None is not given: the default applies, or with `resume` the value of the run.

    Args:
        model: `mlp` (default), `cnn`, `resnet` or `transformer`; or a model of your own: the path of a `.keras`
            file, `applications/NAME`, or `MODULE:FUNCTION`, whose code is run.
        dataset: `digits` (default), a TFDS name, `folder:DIR`, or `FILE.npz`; or the path of a file or folder.
        placement: Where dropout goes: a name (`none`, `default`, `paper2014`, `everywhere`), the path of
            a placement file, a `Placement`, or a dictionary of site to rate or `Drop`. The model's
            `default` unless given; `{}` is no dropout.
        drop: Sites and rates, as in `"hidden=0.5"` or `["conv=0.1:spatial", "hidden=0.5"]`. Alone it means
            exactly these sites; with `placement` they replace that placement's sites.
        scaling: `inverted` (default) or `original`.
        drop_schedule: How the rates change during training, as in `early:0.3`. Constant unless given.
        weights: For a model that is not one of the four: `fresh` (default), `keep` those of the file, or
            `imagenet` for `applications/NAME`, with `download`.
        replace_head: For such a model: puts a new output layer for the classes of the data in place of the last.
        input_range: For such a model: what it expects of its pixels, `raw`, `0:1`, `-1:1`, `caffe` or `torch`.
        imports: For such a model: packages that register custom layers; their code is run.
        set: Fields of the model's configuration: a dictionary, `"KEY=VALUE"`, or a list of those.
        seed: Seed of the weights, the masks and the order of the data (0).
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
        from_: A search's `best.json`: its placement and its recipe. Other options win over it.
        out: The run folder. `runs/<model>-<dataset>-<placement>`, or the next free name, unless given.
        resume: Continues the run in `out`.
        data_dir: The folder of prepared TFDS data sets; the variable `TFDS_DATA_DIR` unless given.
        download: Lets TFDS download the data set.
        threads: Threads per operation; all cores unless given. The last digits depend on it.
        callbacks: Keras callbacks. Batch hooks are called once per epoch.
        quiet: Shows no progress on stderr.
        settings: An alias of `set`.

    Returns:
        The contents of `metrics.json` and `folder`, with `.model`, `.history`, `.table()` and `.figure()`.

    Raises:
        BadInput: The options are wrong; nothing was started. `BadInput` is a `ValueError`.
        RunFailed: The run started and failed; the last checkpoint is intact.
        KeyboardInterrupt: Ctrl-C was pressed. The last finished epoch is saved, and the message holds
            the command that resumes the run.

    Examples:
        >>> result = train(out="runs/first", dataset="digits", epochs=1, quiet=True)
    """
    options = dict(locals())
    for name in ("out", "resume", "data_dir", "download", "threads", "callbacks", "quiet", "set"):
        del options[name]
    out = given(out)
    options["settings"] = settings_of(alias("set", set, "settings", settings))
    own = {name: options.pop(name) for name in networks.OPTIONS}
    if resume and out is None:
        raise BadInput("--out must be the folder of the run to resume, got none; add --out DIR")
    base = None
    if resume and is_empty(out):
        say(quiet, f"nothing to resume in {out}: starting from the beginning")
    elif resume:
        check_kind(out, "run")
        base = Plan.read(out)
    where = {"data_dir": data_dir, "download": download}
    options["model"] = networks.whose(model, options, own, where, functools.partial(say, quiet))
    plan = Plan.make(base, **options)
    if note := recipe_note(placement):
        say(quiet, note)
    if base is not None and plan != base:
        raise BadInput(
            f"options must be those of the run in {out} to resume it, got {'; '.join(plan.differences(base))}; "
            "leave them out, or choose another --out"
        )
    out = out or free_name(Path("runs") / plan.name)
    with claimed(out, resume, kind="run"):
        try:
            return TrainResult(run(plan, out, threads=threads, callbacks=callbacks, quiet=quiet, **where))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_how_to_continue(plan, out, threads, data_dir, download)) from None


def run(
    plan: Plan,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    threads: int | None = None,
    callbacks: "Iterable[keras.callbacks.Callback]" = (),
    quiet: bool = False,
    track_test: bool = False,
    keep_checkpoint: bool = True,
    load: "Callable[..., Dataset] | None" = None,
    until: int | None = None,
    expected: Mapping | None = None,
    engines: "Engines | None" = None,
) -> dict:
    """Carries out `plan` in the folder `out`, which the caller has claimed; see `train`.

    Args:
        plan: What is run.
        out: The run folder.
        data_dir: As in `train`, and so are `download`, `threads`, `callbacks` and `quiet`.
        track_test: Adds the test error of each epoch to the history, for plots.
        keep_checkpoint: Keeps the checkpoint of a finished run.
        load: Replaces `zoo.data.load`, for callers that keep a data set between runs.
        until: Pauses the run after this epoch. A later call continues it.
        expected: The entry `data` in the `config.json` of a run that had the same data, as in a comparison.
        engines: Compiled engines of earlier runs, for callers that carry out many runs in one process.

    Returns:
        The contents of `metrics.json`, or of the last row if the run is paused, and `folder`.
    """
    out = Path(out)
    if (finished := runs.read_metrics(out)) is not None:
        say(quiet, f"{out} is already finished: nothing to do")
        if not keep_checkpoint:
            (out / runs.CHECKPOINT).unlink(missing_ok=True)
        return {**finished, "folder": str(out)}
    before = runs.read_config(out) if present(out / runs.CONFIG) else {}
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or before.get("data_dir")
    data.check_ready(plan.data.dataset, data_dir=data_dir, download=download)
    with RunProgress(quiet) as progress:
        progress.phase("loading TensorFlow")
        startup.keep_memory()
        threads = startup.tensorflow(threads or before.get("threads"))
        startup.use_devices(plan.recipe.devices)
        options = dataclasses.asdict(plan.data)
        progress.phase(f"loading {plan.data.dataset}")
        with announce.heard(progress.say, progress.status):
            dataset = (load or data.load)(options.pop("dataset"), data_dir=data_dir, download=download, **options)
        if before:
            fingerprint.check(before.get("data") or {}, dataset, str(out))
        if expected:
            fingerprint.check(expected, dataset, f"the other runs beside {out}")
        plan = plan.over(dataset.kind)
        from trainers.training.session import Session, explained

        with explained(plan, out), startup.gradients_forgotten():
            progress.phase("compiling")
            # A model that cannot be built is refused before anything is written.
            session = Session(plan, dataset, out, callbacks, progress, track_test, engines)
            config = {**describe(plan, dataset, threads), "compiled": session.compiled}
            for line in data.summary(config["data"]):
                progress.say(line)
            if data_dir:
                config["data_dir"] = os.path.abspath(os.path.expanduser(data_dir))
            write_json(out / runs.CONFIG, config)
            if dataset.vocabulary is not None:
                from zoo.data.text import save_vocabulary

                save_vocabulary(out / runs.VOCABULARY, dataset.vocabulary)
            paused = session.train(until)
            result = paused or session.finish()
    if not keep_checkpoint and not paused:
        (out / runs.CHECKPOINT).unlink(missing_ok=True)
    return {**result, "folder": str(out)}


def describe(plan: Plan, dataset: "Dataset", threads: int) -> dict:
    """Returns the contents of `config.json`: everything needed to run `plan` again."""
    config = plan.to_json()
    config["data"] |= {"about": dataset.about, "input_shape": list(dataset.input_shape)}
    config["data"] |= {"classes": dataset.classes, "labels": list(dataset.labels)}
    config["data"] |= {"sizes": {name: len(getattr(dataset, name)) for name in ("train", "val", "test")}}
    config["data"] |= {"fingerprint": fingerprint.of(dataset)}
    config |= {"command": f"{plan.command()} --threads {threads}", "threads": threads}
    absent = plan.placement.not_in_files()
    if absent:
        config["not_in_file"] = f"model.keras lacks {absent}: no Keras layer does it; inference is the same"
    return {**config, "versions": versions(("tensorflow", "keras", "numpy", "tensorflow-datasets"))}


def _how_to_continue(plan, out, threads, data_dir, download):
    """The message for a run that Ctrl-C ended."""
    if not (out / runs.CONFIG).exists():
        words = ["--out", str(out)]
        words += ["--threads", str(threads)] if threads else []
        words += ["--data-dir", str(data_dir)] if data_dir else []
        words += ["--download"] if download else []
        return f"interrupted before training; start again with\n  {plan.command()} {shlex.join(words)}"
    from trainers.training import checkpoint

    path = out / runs.CHECKPOINT
    epoch = checkpoint.load(path).epoch if path.exists() else 0
    saved = f"after epoch {epoch} of {plan.recipe.epochs}, which is saved" if epoch else "in the first epoch"
    command = shlex.join(["python", "-m", "trainers", "train", "--resume", "--out", str(out)])
    return f"interrupted {saved}; resume with\n  {command}"


def report(result: dict) -> str:
    """Returns the lines that the command prints for a finished run."""
    return (
        f"test error {result['test_error']:.2f} %, loss {result['test_loss']:.4f}, "
        f"calibration error {result['test_ece']:.2f} %\n"
        f"best epoch on validation {result['best_epoch']} of {result['epochs']}; "
        f"{result['parameters']:,} weights; {result['images_per_second']:,.0f} training examples/s; "
        f"{duration(result['seconds'])}\n"
        f"run folder {result['folder']}"
    )
