"""A run in progress: its engine and callbacks, its history, its checkpoints and its result."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import tensorflow as tf

from trainers.plan import Plan
from trainers.recipe import Recipe
from trainers.training import checkpoint, loop
from trainers.training.devices import Devices, computing_in
from trainers.training.engines import Engines
from trainers.training.prediction import Predictor
from trainers.training.progress import RunProgress
from trainers.training.tensorboard import TensorBoard
from zoo import interrupts, keras_graph, metrics, runs
from zoo.checks import shown
from zoo.data.dataset import Dataset
from zoo.errors import BadInput, CannotWrite, RunFailed
from zoo.files import Table, refused, replacing, write_json
from zoo.models import catalogue, rows
from zoo.reading import refuse

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
HISTORY_SECONDS = 0.5  # between two writes of the history; an epoch of a small data set takes less


class Session:
    """A run in progress in a folder.

    Args:
        plan: What is run.
        dataset: Its data.
        out: The run folder.
        callbacks: Keras callbacks.
        progress: The live line.
        track_test: Whether the history also has the test error of each epoch.
        engines: Where a compiled engine may be taken from, and is kept.
    """

    def __init__(
        self,
        plan: Plan,
        dataset: Dataset,
        out: Path,
        callbacks: Iterable[keras.callbacks.Callback],
        progress: RunProgress,
        track_test: bool = False,
        engines: Engines | None = None,
    ):
        self._plan, self._dataset, self._out, self._progress = plan, dataset, out, progress
        extra = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
        if not all(isinstance(callback, keras.callbacks.Callback) for callback in extra):
            raise BadInput(f"callbacks must be a list of keras.callbacks.Callback, got {shown(callbacks)}")
        engine = loop.Engine if engines is None else engines.engine
        with Devices(plan.recipe.devices).scope(), computing_in(plan.recipe.dtype):
            model = build(plan, dataset)
        if plan.recipe.dtype not in {"float32", *_types(model)}:
            raise BadInput(
                f"dtype must be float32 for {plan.label}, whose layers have data types of their own, got "
                f"{plan.recipe.dtype}; omit --dtype, or change the types in its own code"
            )
        self._engine = engine(model, plan.recipe, dataset, plan.seed)
        self._curves = TensorBoard(out / runs.LOGS, self._engine.learning_rate)
        self._callbacks = [self._curves, *_early_stopping(plan.recipe), *extra]
        self._track = track_test
        self._history = Table(out / runs.HISTORY, TRACKED if track_test else HISTORY, HISTORY_SECONDS)
        self._rows = []

    @property
    def compiled(self) -> bool:
        """Whether XLA compiles the training step."""
        return self._engine.compiled

    def train(self, until: int | None = None) -> dict | None:
        """Trains to the end, or pauses after the epoch `until`.

        Returns:
            The last row if the run is paused, with `epochs` and the total `seconds`; None at its end.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed. The last finished epoch is in the checkpoint.
        """
        path, epochs = self._out / runs.CHECKPOINT, self._plan.recipe.epochs
        state = checkpoint.load(path) if path.exists() else None
        before, seconds = (state.epoch, state.seconds) if state else (0, 0.0)
        # Epochs after the checkpoint are trained again.
        rows = state.rows if state else []
        if rows is None:  # version 0.1 kept them in the history alone, with nine digits
            rows = self._earlier(before)
        self._rows = rows
        self._history.start(self._rows)
        if state:
            self._progress.say(f"resuming {self._out} after epoch {before} of {epochs}")
        self._progress.begin(epochs, len(self._dataset.train), before)
        saved, saved_epoch, epoch = time.monotonic(), before, before
        with (
            contextlib.closing(self._curves),
            contextlib.closing(self._history),
            interrupts.Delayed() as interrupt,
        ):

            def within(epoch, fraction, seconds):
                if interrupt.pending and saved_epoch == epoch - 1:
                    raise KeyboardInterrupt
                self._progress.within(epoch, fraction, seconds)

            for row in loop.fit(self._engine, self._callbacks, state, within, self._track, until=until):
                self._rows.append(row)
                self._history.append(row)
                seconds, epoch = seconds + row["seconds"], row["epoch"]
                self._progress.row(row)
                if interrupt.pending or time.monotonic() - saved >= CHECKPOINT_SECONDS:
                    checkpoint.save(path, self._engine, self._callbacks, self._rows, seconds)
                    saved, saved_epoch = time.monotonic(), epoch
                if interrupt.pending:
                    raise KeyboardInterrupt
        ended = state is not None and state.ended
        paused = epoch < epochs and not self._engine.model.stop_training
        # Early stopping has restored the best weights by now: the checkpoint holds the result of the run.
        self._engine.model.stop_training = not paused
        if not ended:
            checkpoint.save(path, self._engine, self._callbacks, self._rows, seconds, ended=not paused)
        if interrupt.pending:
            raise KeyboardInterrupt
        self._seconds = seconds
        return {**self._rows[-1], "epochs": epoch, "seconds": seconds} if paused else None

    def _earlier(self, epochs):
        """Returns the rows of a run of version 0.1 up to an epoch."""
        rows = [row for row in runs.read_history(self._out) if row["epoch"] <= epochs]
        if [row["epoch"] for row in rows] != list(range(1, epochs + 1)):
            refuse(self._history.path, f"it must have the epochs 1 to {epochs} of the checkpoint", "train it again")
        return rows

    def finish(self) -> dict:
        """Writes `model.keras` and `metrics.json`, which marks the run as finished; returns the metrics."""
        engine, network = self._engine, self._plan.network
        self._progress.phase("saving")
        model, predicted = engine.model, engine.logits
        if self._plan.recipe.dtype != "float32":  # what is kept is a network of float32, with the same weights
            model = build(self._plan, self._dataset)
            model.set_weights(engine.model.get_weights())
            predicted = Predictor(model, self._dataset, Devices(1)).logits
        with interrupts.whole():  # HDF5 takes an exception in its writes for a failure of the disk
            save_model(model if network is None else network.ended(model), self._out / runs.MODEL)
        self._progress.phase("evaluating on the test set")
        logits = predicted(self._dataset.test)
        test = metrics.summary(logits, self._dataset.test.y)
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
            **metrics.by_class(logits, self._dataset.test.y),
        }
        write_json(self._out / runs.METRICS, result)
        self._progress.phase("")
        return result


def save_model(model: keras.Model, path: Path) -> None:
    """Writes `model` to `path` as a `.keras` file of stock layers, without optimiser or loss."""
    from zoo.models.sites import stock

    model = stock(model)
    with replacing(path) as temporary:
        # A new model of the same layers leaves out the state of `compile`, which prediction does not need.
        keras.Model(model.inputs[0], model.outputs[0], name=model.name).save(temporary)


def _types(model):
    """The names of the data types in which the layers with weights of a model compute."""
    layers = [layer for layer in keras_graph.inside(model) if layer.weights and not isinstance(layer, keras.Model)]
    return {layer.dtype_policy.name for layer in layers}


def _early_stopping(recipe: Recipe) -> list[keras.callbacks.Callback]:
    if not recipe.early_stopping:
        return []
    patience = recipe.early_stopping
    return [keras.callbacks.EarlyStopping("val_error", patience=patience, mode="min", restore_best_weights=True)]


@contextlib.contextmanager
def explained(plan: Plan, out: str | Path) -> Iterator[None]:
    """A context that turns TensorFlow's errors into a `RunFailed` that says how to continue."""

    def kept():
        exists = (Path(out) / runs.CHECKPOINT).exists()
        return "the last checkpoint is intact" if exists else "there is no checkpoint yet"

    try:
        yield
    except (BadInput, RunFailed):
        raise
    except Exception as error:
        if why := refused(error):  # before memory, which TensorFlow does not distinguish from it
            raise CannotWrite(f"cannot write into {out}: {why}, then resume with --resume; {kept()}") from error
        if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
            raise RunFailed(
                f"out of memory with --batch-size {plan.recipe.batch_size}; {kept()}; use a smaller batch size "
                "or a smaller model (--set)"
            ) from error
        if isinstance(error, tf.errors.OpError):
            raise RunFailed(f"TensorFlow failed: {str(error.message).splitlines()[0]}; {kept()}") from error
        raise


def build(plan: Plan, dataset: Dataset) -> keras.Model:
    """Returns the model of `plan` for `dataset`. Raises `BadInput` if they do not fit."""
    if plan.recipe.augment and dataset.kind != "image":
        raise BadInput(f"augment must be False for {plan.data.dataset}, which holds no images; omit --augment")
    if plan.network:
        return plan.network.build(dataset, plan.placement, plan.seed)
    if dataset.kind == "text" and plan.model != "transformer":
        raise BadInput(
            f"model must be transformer for the text data set {plan.data.dataset}, got {plan.model}; "
            "use --model transformer"
        )
    if dataset.kind == "table" and plan.model != "mlp":
        raise BadInput(
            f"model must be mlp for rows of numbers, as in {plan.data.dataset}, got {plan.model}; use --model mlp"
        )
    vocabulary = {"vocabulary": len(dataset.vocabulary)} if dataset.kind == "text" else {}
    model = catalogue.build(
        plan.model,
        dataset.input_shape,
        dataset.classes,
        plan.placement,
        plan.seed,
        **vocabulary,
        **plan.settings,
    )
    return rows.standardise(model, dataset.train.x) if dataset.kind == "table" else model
