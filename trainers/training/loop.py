"""The training loop: whole epochs in one compiled call, with Keras' callbacks around them.

Stock `fit` returns to Python after every step, which costs more than the arithmetic of a small
model. Here shuffling is a permutation that is passed to one `tf.function`, which gathers batches,
takes steps and sums the losses until the epoch ends. A long epoch is cut into calls of about a
second, for progress and Ctrl-C. The cuts do not change the weights.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from trainers.recipe import Recipe
from trainers.training import checkpoint, feed, optimizer
from trainers.training.augmentation import augmentation
from trainers.training.values import Values, copied
from zoo import metrics
from zoo.data.dataset import Dataset
from zoo.dropout import kernels, scheduled
from zoo.errors import RunFailed

CALL_SECONDS = 1.0  # the intended duration of one compiled call
EVALUATION_BATCH = 256
SUBSET = 2000  # training examples that are also evaluated in inference mode


def total_steps(recipe: Recipe, dataset: Dataset) -> int:
    """Returns the number of optimiser steps of a run."""
    return recipe.epochs * math.ceil(len(dataset.train) / recipe.batch_size)


class Engine:
    """A model, its optimiser and its data, compiled. A checkpoint holds the state of an engine.

    The order of the data in an epoch is a function of `(seed, epoch)`. So two arms of a comparison
    see the same batches, and so do a resumed run and one that was never stopped.

    Args:
        model: What is trained.
        recipe: How.
        dataset: The data.
        seed: Seed of the run.
        shared: Whether `renew` may give it other runs of the same topology. The weights are the same, bit for bit.
    """

    def __init__(self, model: keras.Model, recipe: Recipe, dataset: Dataset, seed: int, shared: bool = False):
        self.model, self.recipe, self.dataset, self.seed = model, recipe, dataset, seed
        self.batch = recipe.batch_size
        self.steps = math.ceil(len(dataset.train) / self.batch)
        self._traced, self._total = model, total_steps(recipe, dataset)
        self.compiled = optimizer.compiles(recipe, model, self._total)
        self._values = Values(model, self.compiled) if shared else None
        optimizer.constrain(recipe, model)
        number = self._values.numbers if self._values else float
        self.optimizer = optimizer.make_optimizer(recipe, self._total, number)
        self._compile(model)
        self._moving = scheduled.of(model)
        self.optimizer.build(model.trainable_variables)
        if self._values:
            self._values.keep(self.optimizer)
        images = dataset.kind == "image"
        self.augmentation = augmentation(recipe, dataset.input_shape, dataset.flip, seed) if images else None
        # XLA compiles the step alone: it slows down shuffling, and cannot shift images.
        self._compiled_step = tf.function(self.step, jit_compile=True, autograph=False) if self.compiled else self.step
        self._source = feed.of(self)
        self._rate = None  # steps per second, once known
        self._predict = tf.function(
            lambda x: model(self._floats(x), training=False), reduce_retracing=True, autograph=False
        )
        kind = getattr(dataset.val, "x", np.empty(0, "uint8" if images else "int32")).dtype  # tables do not stream
        # A schedule is a dozen operations; they are traced once.
        self.learning_rate = tf.function(lambda: tf.identity(self.optimizer.learning_rate), autograph=False)
        # One trace for data of any size.
        self._predict_all = tf.function(
            self._predicted, input_signature=[tf.TensorSpec((None, *dataset.input_shape), kind)], autograph=False
        )

    def renew(self, model: keras.Model, recipe: Recipe, seed: int) -> None:
        """Prepares a `shared` engine for another run, as if it were new, without tracing anything again.

        Args:
            model: What is trained: a model of the same topology, which shares its memory with the traced one.
            recipe: How; only the learning rate may differ.
            seed: Seed of the run.
        """
        self.model, self.recipe, self.seed = model, recipe, seed
        self._values.take(model, recipe, self._total)
        self._compile(model)
        for rate in self._moving:
            rate.variable.assign(1.0)
        if self.augmentation is not None:
            new = augmentation(recipe, self.dataset.input_shape, self.dataset.flip, seed)
            copied(new.variables, self.augmentation.variables)

    def _compile(self, model):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=self.optimizer, loss=loss, jit_compile=False)

    def variables(self) -> list:
        """Returns all variables that training changes: weights, statistics, optimiser state, seed generators."""
        extra = self.augmentation.variables if self.augmentation else []
        return [*self.model.variables, *self.optimizer.variables, *extra, *(rate.variable for rate in self._moving)]

    def train_epoch(
        self, epoch: int, on_progress: Callable[[int, float, float], None] | None = None
    ) -> tuple[float, float]:
        """Trains for one epoch.

        Args:
            epoch: The number of the epoch, from 1.
            on_progress: Called about once a second with the epoch, the fraction that is trained, and
                the seconds since its start.

        Returns:
            The mean loss (nats) and the error (per cent) over the epoch, with dropout on.

        Raises:
            RunFailed: The loss is no longer finite.
        """
        call, begun = self._source.epoch(epoch), time.perf_counter()
        loss, wrong, done = 0.0, 0, 0
        while done < self.steps:
            # The first call is short: it traces, so its speed says nothing.
            size = max(1, round(self._rate * CALL_SECONDS)) if self._rate else min(self.steps, 16)
            until, start = min(self.steps, done + size), time.perf_counter()
            part_loss, part_wrong = call(done, until)
            loss, wrong = loss + float(part_loss), wrong + int(part_wrong)
            if not math.isfinite(loss):
                raise RunFailed(
                    f"the training loss became {loss} in epoch {epoch}, step {until} of {self.steps}; "
                    "use a lower --learning-rate or more --warmup"
                )
            if done or epoch > 1:
                self._rate = (until - done) / (time.perf_counter() - start)
            done = until
            if on_progress:
                on_progress(epoch, done / self.steps, time.perf_counter() - begun)
        n = len(self.dataset.train)
        return loss / n, 100.0 * wrong / n

    def logits(self, part: object) -> np.ndarray:
        """Returns the logits `(examples, classes)` of a part of the data, in inference mode."""
        if hasattr(part, "batches"):
            return np.concatenate([self._predict(x) for x, _ in part.batches(EVALUATION_BATCH)])
        return np.concatenate([self._predict_all(x) for x in feed.pieces(part, EVALUATION_BATCH)])

    def evaluate(self, part: object) -> dict[str, float]:
        """Returns `error` (per cent), `loss` (nats) and `ece` (per cent) of a part of the data, in inference mode."""
        return metrics.summary(self.logits(part), part.y)

    # === Compiled ===

    def train_step(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Augments a batch and takes one optimiser step; returns the sum of the losses and the number of errors."""
        if self.augmentation is not None:
            x = self.augmentation(self._floats(x), training=True)
        return self._compiled_step(x, y)

    def step(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes one optimiser step; returns the sum of the losses (nats) and the number of errors."""
        x, model = self._floats(x), self._traced
        for rate in self._moving:
            rate.move(tf.cast(self.optimizer.iterations, tf.float32) / self._total)
        most = min(self.batch, len(self.dataset.train))
        with kernels.within_step(tf.shape(y)[0], most), tf.GradientTape() as tape:
            logits = model(x, training=True)
            losses = self._losses(y, logits)
            objective = self.optimizer.scale_loss(tf.reduce_mean(losses) + sum(model.losses))
        gradients = tape.gradient(objective, model.trainable_variables)
        self.optimizer.apply(gradients, model.trainable_variables)
        wrong = tf.argmax(logits, axis=-1, output_type=y.dtype) != y
        return tf.cast(tf.reduce_sum(losses), tf.float64), tf.reduce_sum(tf.cast(wrong, tf.int64))

    def _losses(self, y, logits):
        if not self.recipe.label_smoothing:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        classes, smoothing = logits.shape[-1], self.recipe.label_smoothing
        target = tf.one_hot(y, classes) * (1 - smoothing) + smoothing / classes
        return tf.nn.softmax_cross_entropy_with_logits(target, logits)

    def _floats(self, x):
        return tf.cast(x, tf.float32) if self.dataset.kind == "image" else x

    def _predicted(self, x):
        count = (tf.shape(x)[0] + EVALUATION_BATCH - 1) // EVALUATION_BATCH
        classes = self._traced.output_shape[-1]
        chunks = tf.TensorArray(tf.float32, size=count, element_shape=(None, classes), infer_shape=False)

        def predict(i, chunks):
            rows = self._floats(x[i * EVALUATION_BATCH : (i + 1) * EVALUATION_BATCH])
            return i + 1, chunks.write(i, self._traced(rows, training=False))

        return tf.while_loop(lambda i, _: i < count, predict, (0, chunks))[1].concat()


def fit(
    engine: Engine,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    resume: checkpoint.State | None = None,
    on_progress: Callable[[int, float, float], None] | None = None,
    track_test: bool = False,
    subset: int = SUBSET,
    until: int | None = None,
) -> Iterator[dict]:
    """Trains `engine`, yielding a row per epoch: a dictionary with the columns of `history.csv`.

    When a row is yielded, the engine and the callbacks are in the state of the end of that epoch. This
    is the moment for a checkpoint.

    Args:
        engine: What is trained.
        callbacks: Keras callbacks. Their `logs` hold Keras' names (`loss`, `accuracy`, `val_loss`,
            `val_accuracy`) and ours (`val_error`, ...). Batch hooks are called once per epoch, as in
            stock `fit` with `steps_per_execution` set to an epoch.
        resume: The state to start from.
        on_progress: As in `Engine.train_epoch`.
        track_test: Adds the test figures to each row, for plots.
        subset: Number of training examples that are also evaluated in inference mode; 0 for none.
        until: Pauses after this epoch, without `on_train_end`.

    Raises:
        RunFailed: A loss is no longer finite.
    """
    model, recipe, data = engine.model, engine.recipe, engine.dataset
    listeners = keras.callbacks.CallbackList(
        list(callbacks), model=model, epochs=recipe.epochs, steps=engine.steps, verbose=0
    )
    train_subset = _subset(data.train, subset) if subset else None
    model.stop_training = False
    listeners.on_train_begin()
    epoch = resume.restore(engine, callbacks) if resume else 0
    while epoch < min(recipe.epochs, until or recipe.epochs) and not model.stop_training:
        epoch, begun = epoch + 1, time.perf_counter()
        listeners.on_epoch_begin(epoch - 1)
        listeners.on_train_batch_begin(0)
        loss, error = engine.train_epoch(epoch, on_progress)
        trained = time.perf_counter() - begun
        row = {"epoch": epoch, "train_loss": loss, "train_error": error}
        if train_subset is not None:
            scores = engine.evaluate(train_subset)
            row |= {"train_loss_inference": scores["loss"], "train_error_inference": scores["error"]}
        for name, part in [("val", data.val)] + ([("test", data.test)] if track_test else []):
            scores = engine.evaluate(part)
            row |= {f"{name}_loss": scores["loss"], f"{name}_error": scores["error"]}
        if not math.isfinite(row["val_loss"]):
            raise RunFailed(
                f"the validation loss became {row['val_loss']} in epoch {epoch}; use a lower --learning-rate"
            )
        row |= {"seconds": time.perf_counter() - begun, "train_seconds": trained}
        logs = _logs(row)
        listeners.on_train_batch_end(engine.steps - 1, {"loss": loss, "accuracy": logs["accuracy"]})
        listeners.on_epoch_end(epoch - 1, logs)
        yield row
    if epoch >= recipe.epochs or model.stop_training:
        listeners.on_train_end()


def _logs(row):
    """A row under the names of Keras' callbacks and under its own."""
    return {
        "loss": row["train_loss"],
        "accuracy": 1 - row["train_error"] / 100,
        "val_accuracy": 1 - row["val_error"] / 100,
        **{key: value for key, value in row.items() if key not in ("epoch", "seconds", "train_seconds")},
    }


def _subset(part, size):
    """The training examples that are also evaluated in inference mode; the same in every run."""
    if hasattr(part, "batches"):
        return part.head(min(size, len(part)))
    if len(part) <= size:
        return part
    index = np.sort(np.random.default_rng(0).choice(len(part), size, replace=False))
    return type(part)(part.x[index], part.y[index])
