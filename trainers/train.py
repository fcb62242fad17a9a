"""One run: a plan carried out in one run folder, resumable at any moment."""

import contextlib
import importlib.metadata
import platform
import time
from pathlib import Path

from trainers import callable_as
from trainers import folder as folders
from trainers.plan import Plan
from trainers.progress import EpochLine, duration
from zoo import startup
from zoo.errors import BadInput, RunFailed
from zoo.files import replacing, write_json

HISTORY = (
    "epoch",
    "train_loss",
    "train_error",
    "train_loss_inference",
    "train_error_inference",
    "val_loss",
    "val_error",
    "seconds",
    "train_seconds",
)
TRACKED = (*HISTORY, "test_loss", "test_error")
CHECKPOINT_SECONDS = 5.0


def train(out=None, resume=False, data_dir=None, download=False, threads=None, callbacks=(), quiet=False, **options):
    """Train one model, as `python -m trainers train` does, into a run folder.

    Args:
        out: the run folder; `runs/<model>-<dataset>-<placement>` (or its first free
            successor) unless given.
        resume: go on with the run in `out`; what it left is used for options not given.
        data_dir: where TFDS keeps its data; `download` allows it to fetch a set.
        threads: threads of an operation; all cores unless given. Bits depend on it.
        callbacks: Keras callbacks, driven once an epoch.
        quiet: no progress on stderr.
        **options: the other options of the command: `model`, `dataset`, `drop`,
            `placement`, `scaling`, `settings`, `seed`, the fields of `Recipe`, ...

    Returns:
        A dictionary with the contents of `metrics.json`, and `folder`.

    Raises:
        BadInput (a ValueError): the options cannot be carried out; nothing was begun.
        RunFailed: it began and could not be finished; the last checkpoint is intact.

    >>> result = train(out="/tmp/first-run", dataset="digits", epochs=1, quiet=True)
    """
    if resume and out is None:
        raise BadInput("received --resume without --out; name the folder of the run to go on with")
    base = None
    if resume and folders.is_empty(out):
        _say(quiet, f"nothing to resume in {out}: starting from the beginning")
    elif resume:
        base = Plan.read(out)
    plan = Plan.make(base, **options)
    if base is not None and plan != base:
        raise BadInput(
            f"received --resume with options that differ from those of {out}: "
            f"{'; '.join(plan.differences(base))}; leave them out, or name another --out"
        )
    out = Path(out) if out else folders.free_name(Path("runs") / default_name(plan, options.get("placement")))
    with folders.claimed(out, resume):
        return run(plan, out, data_dir=data_dir, download=download, threads=threads, callbacks=callbacks, quiet=quiet)


def default_name(plan, placement=None):
    """`<model>-<dataset>-<placement>`, where the placement has a name or is called `custom`."""
    named = placement if isinstance(placement, str) and not placement.endswith(".json") else None
    if named is None:
        from zoo.catalogue import DEFAULTS

        named = "default" if plan.placement.sites == _drops(DEFAULTS[plan.model]) else "custom"
        named = "none" if not plan.placement.sites else named
    dataset = plan.data.dataset.replace("folder:", "").strip("/").replace(".npz", "").split("/")
    return f"{plan.model}-{'-'.join(dataset[-2:])}-{named}"


def run(
    plan,
    out,
    *,
    data_dir=None,
    download=False,
    threads=None,
    callbacks=(),
    quiet=False,
    track_test=False,
    keep_checkpoint=True,
    load=None,
):
    """Carry out `plan` in the folder `out`, which the caller has claimed; see `train`.

    `track_test` adds the test part's error of every epoch to the history, for plots.
    `load` replaces `zoo.data.load`, for callers that keep a data set between runs.
    """
    out = Path(out)
    done = folders.read_json(out / "metrics.json")
    if done is not None:
        _say(quiet, f"{out} is finished already: nothing to do")
        return {**done, "folder": str(out)}
    threads = startup.tensorflow(threads or (folders.read_json(out / "config.json") or {}).get("threads"))
    dataset = _load(plan, data_dir, download, load)
    with _explained(plan, out):
        # What cannot be built is refused before anything is written.
        session = _Session(plan, dataset, out, callbacks, quiet, track_test)
        write_json(out / "config.json", describe(plan, dataset, threads))
        if dataset.vocabulary is not None:
            from zoo.text import save_vocabulary

            save_vocabulary(out / "vocabulary.txt", dataset.vocabulary)
        session.train()
        result = session.finish()
    if not keep_checkpoint:
        (out / "checkpoint.npz").unlink(missing_ok=True)
    return {**result, "folder": str(out)}


def describe(plan, dataset, threads):
    """The contents of `config.json`: everything needed to run `plan` again."""
    config = plan.to_json()
    config["data"] |= {"about": dataset.about, "input_shape": list(dataset.input_shape)}
    config["data"] |= {"classes": dataset.classes, "labels": list(dataset.labels)}
    config["data"] |= {"sizes": {name: len(getattr(dataset, name)) for name in ("train", "val", "test")}}
    packages = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {**config, "threads": threads, "versions": {"python": platform.python_version(), **versions}}


def build(plan, dataset):
    """The model of `plan` for `dataset`. Raises `BadInput` if they do not go together."""
    from zoo import catalogue

    if dataset.kind == "text" and plan.model != "transformer":
        raise BadInput(
            f"received model {plan.model} with {plan.data.dataset}, which is text; {plan.model} takes images: "
            "use --model transformer"
        )
    vocabulary = {"vocabulary": len(dataset.vocabulary)} if dataset.kind == "text" else {}
    return catalogue.build(
        plan.model,
        dataset.input_shape,
        dataset.classes,
        plan.placement,
        plan.seed,
        **vocabulary,
        **plan.settings,
    )


class _Session:
    """A run under way: the engine, its callbacks, its history and its checkpoints."""

    def __init__(self, plan, dataset, out, callbacks, quiet, track_test):
        from trainers.loop import Engine

        self._plan, self._dataset, self._out, self._quiet = plan, dataset, out, quiet
        self._engine = Engine(build(plan, dataset), plan.recipe, dataset, plan.seed)
        self._callbacks = [*_own_callbacks(plan.recipe, out), *callbacks]
        self._track = track_test
        self._history = folders.Table(out / "history.csv", TRACKED if track_test else HISTORY)
        self._rows = []

    def train(self):
        from trainers import checkpoint, loop

        path = self._out / "checkpoint.npz"
        state = checkpoint.load(path) if path.exists() else None
        before, seconds = (state.epoch, state.seconds) if state else (0, 0.0)
        # Rows beyond the checkpoint are those of epochs that will be trained again.
        self._rows = [_numbers(row) for row in self._history.read() if int(row["epoch"]) <= before]
        self._history.start(self._rows)
        if state:
            _say(self._quiet, f"resuming {self._out} after epoch {before} of {self._plan.recipe.epochs}")
        line = None if self._quiet else EpochLine(self._plan.recipe.epochs, len(self._dataset.train), before)
        saved, epoch = time.monotonic(), before
        for row in loop.fit(
            self._engine, self._callbacks, state, line.within if line else None, track_test=self._track
        ):
            self._rows.append(row)
            self._history.append(row)
            seconds, epoch = seconds + row["seconds"], row["epoch"]
            if line:
                line.row(row)
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                checkpoint.save(path, self._engine, self._callbacks, epoch, seconds)
                saved = time.monotonic()
        # Early stopping has put the best weights back by now: they are the run's result.
        self._engine.model.stop_training = True
        checkpoint.save(path, self._engine, self._callbacks, epoch, seconds)
        self._seconds = seconds
        if line:
            line.end()

    def finish(self):
        """Write `model.keras` and `metrics.json`, which marks the run as finished."""
        engine = self._engine
        save_model(engine.model, self._out / "model.keras")
        test = engine.evaluate(self._dataset.test)
        best = min(self._rows, key=lambda row: row["val_error"])
        kept = best if self._plan.recipe.early_stopping else self._rows[-1]
        trained = sum(row["train_seconds"] for row in self._rows)
        result = {
            "test_error": test["error"],
            "test_loss": test["loss"],
            "test_ece": test["ece"],
            "best_epoch": best["epoch"],
            "epochs": len(self._rows),
            "val_error": kept["val_error"],
            "val_loss": kept["val_loss"],
            "seconds": self._seconds,
            "images_per_second": len(self._dataset.train) * len(self._rows) / trained,
            "parameters": engine.model.count_params(),
        }
        write_json(self._out / "metrics.json", result)
        return result


def save_model(model, path):
    """Write `model` as a `.keras` file of stock layers, without optimiser or loss."""
    import keras

    with replacing(path) as temporary:
        # The same layers without what `compile` added, which a file to predict from does not need.
        keras.Model(model.inputs, model.outputs, name=model.name).save(temporary)


def _own_callbacks(recipe, out):
    import keras

    callbacks = [keras.callbacks.TensorBoard(str(out / "logs"), write_graph=False)]
    if recipe.early_stopping:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                "val_error", patience=recipe.early_stopping, mode="min", restore_best_weights=True
            )
        )
    return callbacks


@contextlib.contextmanager
def _explained(plan, out):
    """Turn what goes wrong while training into one message that says how to go on."""
    import tensorflow as tf

    def kept():
        there = (Path(out) / "checkpoint.npz").exists()
        return "the last checkpoint is intact" if there else "no checkpoint was due yet"

    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise RunFailed(
            f"out of memory with --batch-size {plan.recipe.batch_size}; {kept()}; try a smaller one, "
            "or a smaller model (--set)"
        ) from error
    except tf.errors.OpError as error:
        raise RunFailed(f"TensorFlow could not go on: {str(error.message).splitlines()[0]}; {kept()}") from error


def _load(plan, data_dir, download, load):
    import dataclasses

    from zoo import data

    options = dataclasses.asdict(plan.data)
    return (load or data.load)(options.pop("dataset"), data_dir=data_dir, download=download, **options)


def _drops(sites):
    from zoo.placement import Placement

    return Placement(sites).sites


def _numbers(row):
    return {k: int(v) if k == "epoch" else float(v) for k, v in row.items()}


def _say(quiet, text):
    if not quiet:
        import sys

        print(text, file=sys.stderr)


def report(result):
    """The lines that the command prints of a finished run."""
    return (
        f"test error {result['test_error']:.2f} %, loss {result['test_loss']:.4f}, "
        f"calibration error {result['test_ece']:.2f} %\n"
        f"best epoch on validation {result['best_epoch']} of {result['epochs']}; "
        f"{result['parameters']:,} weights; {result['images_per_second']:,.0f} training examples/s; "
        f"{duration(result['seconds'])}\n"
        f"run folder {result['folder']}"
    )


callable_as(__name__, "train")
