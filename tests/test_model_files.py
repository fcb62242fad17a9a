"""Model files whose sums are right and that are still refused: damaged, unlike their card, or able to act."""

import fake_artefacts as fake
import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

import zoo
from zoo.artefacts import sums
from zoo.errors import BadInput

LITERT_ALONE = {"litert": {"inference": "model.tflite"}}


def predict(folder, runtime, mode="inference"):
    return zoo.load(folder, runtime).predict(np.zeros(fake.SHAPE, "uint8"), mode, seed=1 if mode == "mc" else None)


WRONG_ONNX = {
    r"image uint8 \[-1, 5, 4, 1\]": {"shape": (5, 4, 1)},
    r"image float32 \[-1, 4, 4, 1\]": {"kind": TensorProto.FLOAT},
    "got picture": {"name": "picture"},
    r"image uint8 \[1, 4, 4, 1\]": {"batch": 1},
    r"logits float32 \[-1, 4\]": {"outputs": 4},
}


@pytest.mark.parametrize("message", WRONG_ONNX)
@pytest.mark.parametrize("mode", ["inference", "mc"])
def test_an_onnx_file_that_is_not_as_the_card_says_is_refused(tmp_path, message, mode):
    data = fake.graph(mode == "mc", **WRONG_ONNX[message]).SerializeToString()
    folder = fake.write(tmp_path / "a", {fake.FORMATS["onnx"][mode]: data})
    with pytest.raises(BadInput, match=message):
        predict(folder, "onnx", mode)


def test_an_mc_file_without_a_seed_is_refused(tmp_path):
    folder = fake.write(tmp_path / "a", {"mc.onnx": fake.graph().SerializeToString(), "mc.tflite": fake.litert()})
    for runtime in ("onnx", "litert"):
        with pytest.raises(BadInput, match="seed int32"):
            predict(folder, runtime, "mc")


@pytest.mark.parametrize("runtime", ["onnx", "litert"])
def test_a_model_file_cut_off_or_of_noise_is_refused(tmp_path, runtime):
    name = fake.FORMATS[runtime]["inference"]
    whole = {"onnx": fake.graph().SerializeToString(), "litert": fake.litert()}[runtime]
    noise = np.random.default_rng(0).bytes(5000)
    for i, data in enumerate([whole[: len(whole) * k // 8] for k in range(8)] + [noise, whole[:8] + noise]):
        folder = fake.write(tmp_path / str(i), {name: data})
        with pytest.raises(BadInput, match="again"):
            predict(folder, runtime)


def external(proto):
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return proto


def foreign(proto, domain="com.microsoft"):
    proto.graph.node.append(helper.make_node("Gelu", ["product"], ["unused"], domain=domain))
    proto.opset_import.append(helper.make_opsetid(domain, 1))
    return proto


def hidden(proto):
    inner = helper.make_graph([helper.make_node("Gelu", ["product"], ["y"], domain="evil")], "inner", [], [])
    proto.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
    return proto


def defining(proto):
    body = [helper.make_node("Relu", ["a"], ["b"])]
    proto.functions.append(helper.make_function("", "Mine", ["a"], ["b"], body, [helper.make_opsetid("", 18)]))
    return proto


ACTING = {
    "domain 'com.microsoft'": foreign,
    "domain 'evil'": hidden,
    "in another file": external,
    "of its own": defining,
}


@pytest.mark.parametrize("message", ACTING)
def test_an_onnx_file_that_reaches_outside_onnx_is_refused(tmp_path, message, monkeypatch):
    data = ACTING[message](fake.graph()).SerializeToString()
    folder = fake.write(tmp_path / "a", {"model.onnx": data, "weights.bin": b"\0" * 16})
    monkeypatch.chdir(folder)
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *args, **kwargs: pytest.fail("opened"))
    with pytest.raises(BadInput, match=message):
        predict(folder, "onnx")


WRONG_LITERT = {
    r"image uint8 \[-1, 5, 4, 1\]": {"shape": (5, 4, 1)},
    r"image float32 \[-1, 4, 4, 1\]": {"dtype": "float32"},
    r"logits float32 \[-1, 4\]": {"outputs": 4},
}


@pytest.mark.parametrize("message", WRONG_LITERT)
def test_a_litert_file_that_is_not_as_the_card_says_is_refused(tmp_path, message):
    folder = fake.write(tmp_path / "a", {"model.tflite": fake.litert(**WRONG_LITERT[message])}, formats=LITERT_ALONE)
    with pytest.raises(BadInput, match=message):
        predict(folder, "litert")


@pytest.mark.parametrize("code", ["FlexErf", "Mine"])
def test_a_litert_file_with_custom_operators_is_refused(tmp_path, code, monkeypatch):
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(fake.litert(), 0))
    operator = model.operatorCodes[0]
    operator.builtinCode = operator.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    operator.customCode = code
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    folder = fake.write(tmp_path / "a", {"model.tflite": bytes(builder.Output())})
    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", lambda *args, **kwargs: pytest.fail("opened"))
    with pytest.raises(BadInput, match=f"custom operator '{code}'"):
        predict(folder, "litert")


def test_a_file_too_large_is_refused_unread(tmp_path, monkeypatch):
    folder = fake.write(tmp_path / "a")
    monkeypatch.setattr("zoo.artefacts.runtimes.base.LARGEST", 100)
    with pytest.raises(BadInput, match="more than 100 bytes"):
        predict(folder, "onnx")


def test_logits_that_are_not_finite_are_refused(tmp_path):
    nodes = [helper.make_node("Log", ["minus"], ["nan"]), *fake.graph().graph.node[:3]]
    nodes += [helper.make_node("Add", ["product", "nan"], ["logits"])]
    weights = {"minus": np.float32([-1, -1, -1]), "to": np.array([-1, 16]), "w": fake.WEIGHTS["w"]}
    inputs = list(fake.graph().graph.input)
    data = fake.model(nodes, inputs, weights, ["batch", 3]).SerializeToString()
    with pytest.raises(BadInput, match="must be finite"):
        predict(fake.write(tmp_path / "a", {"model.onnx": data}), "onnx")


@pytest.mark.parametrize("vocabulary", [b"", b"good\nfilm\n"])
def test_a_wrong_vocabulary_is_refused(tmp_path, vocabulary):
    formats = {"onnx": {"inference": "model.onnx"}}
    folder = fake.write(tmp_path / "a", fake.text_files(), vocabulary=True, formats=formats)
    (folder / "vocabulary.txt").write_bytes(vocabulary)
    sums.write(folder)
    with pytest.raises(BadInput, match=r"vocabulary\.txt must begin with"):
        zoo.load(folder).predict("good")
