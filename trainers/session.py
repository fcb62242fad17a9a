"""A run under way: its engine and callbacks, its history, its checkpoints, its result."""

import contextlib
import time
from pathlib import Path

import keras
import tensorflow as tf

from trainers import checkpoint, loop
from trainers import folder as folders
from trainers.progress import EpochLine, say
from trainers.tensorboard import TensorBoard
from zoo import catalogue
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


class Session:
    """A run under way: the engine, its callbacks, its history and its checkpoints."""

    def __init__(self, plan, dataset, out, callbacks, quiet, track_test):
        self._plan, self._dataset, self._out, self._quiet = plan, dataset, out, quiet
        self._engine = loop.Engine(build(plan, dataset), plan.recipe, dataset, plan.seed)
        self._curves = TensorBoard(out / "logs")
        self._callbacks = [self._curves, *_early_stopping(plan.recipe), *callbacks]
        self._track = track_test
        self._history = folders.Table(out / "history.csv", TRACKED if track_test else HISTORY)
        self._rows = []

    @property
    def compiled(self):
        """Whether XLA compiles the steps of this run."""
        return self._engine.compiled

    def train(self, until=None):
        """Train to the end, or to the epoch `until`; of a run that is not at its end, the last row comes back."""
        path = self._out / "checkpoint.npz"
        state = checkpoint.load(path) if path.exists() else None
        before, seconds = (state.epoch, state.seconds) if state else (0, 0.0)
        # Rows beyond the checkpoint are those of epochs that will be trained again.
        rows = folders.read_csv(self._history.path) if before else []
        self._rows = [row for row in rows if row["epoch"] <= before]
        self._history.start(self._rows)
        if state:
            say(self._quiet, f"resuming {self._out} after epoch {before} of {self._plan.recipe.epochs}")
        line = None if self._quiet else EpochLine(self._plan.recipe.epochs, len(self._dataset.train), before)
        saved, epoch = time.monotonic(), before
        with contextlib.closing(self._curves):
            for row in loop.fit(
                self._engine, self._callbacks, state, line.within if line else None, self._track, until=until
            ):
                self._rows.append(row)
                self._history.append(row)
                seconds, epoch = seconds + row["seconds"], row["epoch"]
                if line:
                    line.row(row)
                if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                    checkpoint.save(path, self._engine, self._callbacks, epoch, seconds)
                    saved = time.monotonic()
        paused = epoch < self._plan.recipe.epochs and not self._engine.model.stop_training
        # At the end early stopping has put the best weights back by now: they are the run's result.
        self._engine.model.stop_training = not paused
        checkpoint.save(path, self._engine, self._callbacks, epoch, seconds)
        self._seconds = seconds
        if line:
            line.end()
        return {**self._rows[-1], "epochs": epoch, "seconds": seconds} if paused else None

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
    from zoo.realise import stock

    model = stock(model)
    with replacing(path) as temporary:
        # The same layers without what `compile` added, which a file to predict from does not need.
        keras.Model(model.input, model.output, name=model.name).save(temporary)


def _early_stopping(recipe):
    if not recipe.early_stopping:
        return []
    patience = recipe.early_stopping
    return [keras.callbacks.EarlyStopping("val_error", patience=patience, mode="min", restore_best_weights=True)]


@contextlib.contextmanager
def explained(plan, out):
    """Turn what goes wrong while training into one message that says how to go on."""

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


def build(plan, dataset):
    """The model of `plan` for `dataset`. Raises `BadInput` if they do not go together."""
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
