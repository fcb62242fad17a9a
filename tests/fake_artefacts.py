"""Artefacts made by hand for the tests: a linear model on 16 pixels, with a seed-dependent twin for mode mc."""

import functools
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.artefacts import sums
from zoo.data import text

SHAPE = (4, 4, 1)
LENGTH = 5
PERIOD = 97  # of the seeds: sines of huge numbers differ between runtimes
LABELS = ["ant", "bee", "cat"]
VOCABULARY = ("", "[UNK]", "good", "bad", "film")
FORMATS = {
    "onnx": {"inference": "model.onnx", "mc": "mc.onnx"},
    "litert": {"inference": "model.tflite", "mc": "mc.tflite"},
}
_RANDOM = np.random.default_rng(0)
WEIGHTS = {"w": _RANDOM.normal(0, 0.01, (16, 3)).astype("float32"), "b": np.float32([0.1, 0.0, -0.1])}
WEIGHTS["ramp"] = np.linspace(0.5, 3, 16, dtype="float32")
IMAGES = _RANDOM.integers(0, 256, (7, *SHAPE)).astype("uint8")


def expected(x, seed=None):
    """The model's logits in NumPy; with a seed, those of mode mc."""
    flat = x.reshape(len(x), -1).astype("float32")
    if seed is not None:
        flat = flat * (1 + np.sin(np.float32(seed % PERIOD) * WEIGHTS["ramp"]))
    return flat @ WEIGHTS["w"] + WEIGHTS["b"]


def graph(mc=False, shape=SHAPE, kind=TensorProto.UINT8, outputs=3, batch="batch", name="image"):
    """The ONNX model; the arguments make it wrong."""
    node, size = helper.make_node, int(np.prod(shape))
    nodes = [node("Cast", [name], ["float"], to=1), node("Reshape", ["float", "to"], ["flat"])]
    weights = {"to": np.array([-1, size]), **WEIGHTS}
    weights["w"], weights["b"] = np.resize(WEIGHTS["w"], (size, outputs)), np.resize(WEIGHTS["b"], outputs)
    inputs = [helper.make_tensor_value_info(name, kind, [batch, *shape])]
    if mc:
        weights["ramp"] = np.resize(WEIGHTS["ramp"], size)
        weights["one"], weights["period"] = np.float32(1), np.int32(PERIOD)
        nodes += [
            node("Mod", ["seed", "period"], ["rest"]),
            node("Cast", ["rest"], ["s"], to=1),
            node("Mul", ["s", "ramp"], ["angle"]),
        ]
        nodes += [node("Sin", ["angle"], ["sin"]), node("Add", ["sin", "one"], ["mask"])]
        nodes += [node("Mul", ["flat", "mask"], ["masked"])]
        inputs.append(helper.make_tensor_value_info("seed", TensorProto.INT32, []))
    nodes += [node("MatMul", ["masked" if mc else "flat", "w"], ["product"]), node("Add", ["product", "b"], ["logits"])]
    return model(nodes, inputs, weights, ["batch", outputs])


def model(nodes, inputs, weights, output, output_kind=TensorProto.FLOAT):
    """An ONNX model whose one output is called `logits`."""
    logits = helper.make_tensor_value_info("logits", output_kind, output)
    read = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in weights.items() if key in read]
    made = helper.make_graph(nodes, "made by hand", inputs, [logits], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@functools.cache
def litert(mc=False, shape=SHAPE, dtype="uint8", outputs=3):
    """The LiteRT model."""
    import tensorflow as tf

    w = tf.constant(np.resize(WEIGHTS["w"], (int(np.prod(shape)), outputs)))

    def run(x, seed=None):
        flat = tf.reshape(tf.cast(x, tf.float32), (-1, w.shape[0]))
        if seed is not None:
            flat *= 1 + tf.sin(tf.cast(tf.math.floormod(seed, PERIOD), tf.float32) * WEIGHTS["ramp"])
        return tf.matmul(flat, w) + np.resize(WEIGHTS["b"], outputs)

    signature = [tf.TensorSpec((None, *shape), dtype, name="image")]
    signature += [tf.TensorSpec((), tf.int32, name="seed")] if mc else []
    function = tf.function(run, input_signature=signature).get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([function], function).convert()


def write(folder, files=None, vocabulary=False, **changes):
    """An artefact in `folder`, with `files` (name -> bytes) put in and `changes` made to its card."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model.onnx": graph().SerializeToString(), "mc.onnx": graph(mc=True).SerializeToString()}
    content |= {"model.tflite": litert(), "mc.tflite": litert(mc=True), **(files or {})}
    given = {"kind": "image", "name": "image", "shape": list(SHAPE), "dtype": "uint8"}
    if vocabulary:
        given = {"kind": "text", "name": "tokens", "shape": [LENGTH], "dtype": "int32", "vocabulary": "vocabulary.txt"}
        text.save_vocabulary(folder / "vocabulary.txt", VOCABULARY)
    card = {"format": 1, "name": "made-by-hand", "input": given, "modes": ["inference", "mc"], "formats": FORMATS}
    card["output"] = {"name": "logits", "dtype": "float32", "labels": LABELS}
    content.setdefault("card.json", json.dumps({**card, **changes}).encode())
    for name, data in content.items():
        (folder / name).write_bytes(data)
    sums.write(folder)
    return folder


def text_files():
    """ONNX files over token ids: the inference one counts the tokens 2, 3 and 4 of a text."""
    node = helper.make_node
    nodes = [node("Equal", ["ids", "which"], ["same"]), node("Cast", ["same"], ["ones"], to=1)]
    nodes = [node("Unsqueeze", ["tokens", "axis"], ["ids"]), *nodes]
    nodes += [node("ReduceSum", ["ones", "over"], ["logits"], keepdims=0)]
    weights = {"axis": np.array([2]), "which": np.int32([[[2, 3, 4]]]), "over": np.array([1])}
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT32, ["batch", LENGTH])]
    return {"model.onnx": model(nodes, inputs, weights, ["batch", 3]).SerializeToString()}


def checked(proto):
    """The bytes of a model that ONNX itself finds sound."""
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()
