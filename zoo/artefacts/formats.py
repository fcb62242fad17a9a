"""A model in the forms that runtimes need: on images, token ids or text, with a function for each mode.

Masks come from the counter hash with an explicit `seed` input, so a seed gives the same
masks in every runtime.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from zoo import startup
from zoo.data import text
from zoo.errors import CannotWrite, RunFailed
from zoo.files import refused

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


def from_text(model: "keras.Model", vocabulary: Sequence[str]) -> "keras.Model":
    """Returns a model on strings `(batch,)`: a `TextVectorization` named `tokens`, then `model` on token ids."""
    import keras

    from zoo import keras_graph

    layer = text.vectorizer(vocabulary, model.input_shape[1], name="tokens")
    strings = keras.Input((), dtype="string", name="text")
    graph = keras_graph.Graph(model)
    values = {graph.inputs[0]: layer(strings)}
    keras_graph.run(graph.steps, values, lambda step, *args, **kwargs: step.operation(*args, **kwargs))
    return keras.Model(strings, graph.result(values), name=model.name)


def input_of(model: "keras.Model") -> "tf.TensorSpec":
    """Returns the input of an exported `model`: a batch of uint8 `image`, int32 `tokens` or string `text`."""
    import tensorflow as tf

    (x,) = model.inputs
    dtype = tf.uint8 if x.name == "image" else tf.as_dtype(x.dtype)
    return tf.TensorSpec((None, *x.shape[1:]), dtype, name=x.name)


def endpoint(model: "keras.Model", mode: str) -> tuple[Callable, list["tf.TensorSpec"]]:
    """Returns a function to logits, of `(x)` in inference and `(x, seed)` otherwise, and its signature."""
    import tensorflow as tf

    from zoo.modes.modes import in_mode

    run = in_mode(model, mode)
    if mode == "inference":
        return (lambda x: run(x, 0)), [input_of(model)]
    return run, [input_of(model), tf.TensorSpec((), tf.int32, name="seed")]


def named_endpoint(model: "keras.Model", mode: str) -> tuple[Callable, list["tf.TensorSpec"]]:
    """Returns the endpoint as a compiled function with an output named `logits`, and its signature."""
    import tensorflow as tf

    run, signature = endpoint(model, mode)
    function = tf.function(lambda *inputs: {"logits": run(*inputs)}, input_signature=signature, autograph=False)
    return function, signature


def tensors(model: "keras.Model") -> list["tf.Variable"]:
    """Returns the TensorFlow variables behind those of Keras, as a SavedModel stores them."""
    return [variable.value for variable in model.variables]


@contextlib.contextmanager
def converting(title: str, mode: str, *loggers: str) -> Iterator[None]:
    """A context for a converter that silences its `loggers` and turns its exceptions into `RunFailed`."""
    try:
        with silence(*loggers):
            yield
    except Exception as error:  # converters raise exceptions of any type
        if why := refused(error):
            raise CannotWrite(f"cannot write the {title} file of mode {mode}: {why}") from error
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunFailed(
            f"cannot convert the model to {title} in mode {mode}: {first}; omit this format with --formats"
        ) from error


@contextlib.contextmanager
def silence(*names: str) -> Iterator[None]:
    """A context that silences TensorFlow and the loggers `names`, which report their own progress."""
    loggers = [logging.getLogger(name) for name in (*names, "tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with startup.held_stderr():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
