"""One model in four formats, each with the modes that it can have.

Masks come from the counter hash with an explicit `seed` input, so that a seed means the
same in every format. Only operators that ONNX and LiteRT have built in are used.
"""

import contextlib
import logging
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from zoo import graph, startup, text
from zoo.errors import RunFailed
from zoo.modes import in_mode

OPSET = 18  # of the ONNX files
SEED = tf.TensorSpec((), tf.int32, name="seed")

# Which file holds a mode, by format. Batch statistics are for TensorFlow alone.
FILES = {
    "keras": {"inference": "model.keras", "mc": "model.keras", "training": "model.keras"},
    "savedmodel": {"inference": "savedmodel", "mc": "savedmodel", "training": "savedmodel"},
    "onnx": {"inference": "model.onnx", "mc": "mc.onnx"},
    "litert": {"inference": "model.tflite", "mc": "mc.tflite"},
}


def write(model, formats, folder, dropping, vocabulary=None):
    """Write `model` into `folder` in `formats`; the modes that each file holds, as in `FILES`.

    `model` takes images, or token ids with a `vocabulary`: then the Keras and SavedModel
    files take strings, and the others, whose operators cannot split text, token ids.
    `dropping` says whether anything is dropped at all; if not, there is no `mc` form,
    which would be inference again.

    Raises `RunFailed` if a converter cannot express the model.
    """
    folder, whole = Path(folder), model if vocabulary is None else from_text(model, vocabulary)
    made = {name: {m: f for m, f in FILES[name].items() if m != "mc" or dropping} for name in formats}
    if "keras" in formats:
        whole.save(folder / "model.keras")
    if "savedmodel" in formats:
        _savedmodel(whole, folder / "savedmodel", dropping)
    for name, convert in (("onnx", _onnx), ("litert", _litert)):
        for mode, file in made.get(name, {}).items():
            with _explained(name, mode), _silence():
                (folder / file).write_bytes(convert(model, mode))
    return made


def from_text(model, vocabulary):
    """`model` over token ids as one over strings `(batch,)`: a `TextVectorization` called `tokens` before it."""
    layer = text.vectorizer(vocabulary, model.input_shape[1], name="tokens")
    strings = keras.Input((), dtype="string", name="text")
    whole = graph.Graph(model)
    values = {whole.inputs[0]: layer(strings)}
    graph.run(whole.steps, values, lambda step, *args, **kwargs: step.operation(*args, **kwargs))
    return keras.Model(strings, whole.result(values), name=model.name)


def input_of(model):
    """What an exported form of `model` takes: uint8 `image`, int32 `tokens` or string `text`, any number of them."""
    (x,) = model.inputs
    dtype = tf.uint8 if x.name == "image" else tf.as_dtype(x.dtype)
    return tf.TensorSpec((None, *x.shape[1:]), dtype, name=x.name)


def endpoint(model, mode):
    """`(x)` in inference, `(x, seed)` otherwise, to logits; with the signature of either."""
    run = in_mode(model, mode)
    if mode == "inference":
        return (lambda x: run(x, 0)), [input_of(model)]
    return run, [input_of(model), SEED]


def _savedmodel(model, folder, dropping):
    archive = keras.export.ExportArchive()
    # Tracking the model itself would write every weight twice.
    archive.add_variable_collection("weights", _tensors(model))
    for layer in model.layers:
        if isinstance(layer, keras.layers.TextVectorization):
            archive.track(layer)
    names = {"inference": "serve", "mc": "mc", "training": "training"}
    for mode, name in names.items():
        if mode != "mc" or dropping:
            archive.add_endpoint(name, *endpoint(model, mode))
    with _silence():
        archive.write_out(str(folder), verbose=False)


def _named(model, mode):
    """The endpoint as a function whose output is called `logits`."""
    run, signature = endpoint(model, mode)
    function = tf.function(lambda *inputs: {"logits": run(*inputs)}, input_signature=signature, autograph=False)
    return function, signature


def _onnx(model, mode):
    import onnx
    import tf2onnx

    function, signature = _named(model, mode)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def _litert(model, mode):
    module = tf.Module()
    module.weights, (module.run, _) = _tensors(model), _named(model, mode)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={mode: module.run})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[mode])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return converter.convert()


def _tensors(model):
    """TensorFlow's variables behind Keras': what a SavedModel stores."""
    return [variable.value for variable in model.variables]


@contextlib.contextmanager
def _explained(name, mode):
    try:
        yield
    except Exception as error:  # converters raise whatever they meet
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunFailed(
            f"could not convert the model to {name} in mode {mode}: {first}; leave that format out with --formats"
        ) from error


@contextlib.contextmanager
def _silence():
    """Keep the converters' progress lines, which are about themselves, from the terminal."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with startup.held_stderr():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
