"""The ONNX graph cut where the seed comes in: the same bits as the whole graph, for every shape of graph."""

import fake_artefacts as fake
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from zoo.artefacts import load
from zoo.artefacts.runtimes import onnx_split

NODE = helper.make_node
WEIGHTS = {
    "w": fake.WEIGHTS["w"],
    "v": np.eye(3, dtype="float32"),
    "to": np.array([-1, 16]),
    "axes": np.array([0]),
    "half": np.float32(0.5),
}
START = [
    NODE("Cast", ["image"], ["float"], to=1),
    NODE("Reshape", ["float", "to"], ["flat"]),
    NODE("Cast", ["seed"], ["s"], to=1),
]
BRANCH = helper.make_graph(
    [NODE("Mul", ["hidden", "s"], ["inner"])],
    "then",
    [],
    [helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["batch", 3])],
)
OTHER = helper.make_graph(
    [NODE("Identity", ["hidden"], ["same"])],
    "else",
    [],
    [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["batch", 3])],
)
HIDDEN = [*START, NODE("MatMul", ["flat", "w"], ["hidden"])]
GRAPHS = {
    "a mask at the end": [*HIDDEN, NODE("Sin", ["s"], ["mask"]), NODE("Mul", ["hidden", "mask"], ["logits"])],
    "branches that meet again": [
        *HIDDEN,
        NODE("Relu", ["hidden"], ["left"]),
        NODE("Mul", ["hidden", "s"], ["right"]),
        NODE("MatMul", ["right", "v"], ["product"]),
        NODE("Add", ["left", "product"], ["sum"]),
        NODE("Add", ["sum", "hidden"], ["logits"]),
    ],
    "shapes, computed weights and the image itself behind the mask": [
        *HIDDEN,
        NODE("Shape", ["hidden"], ["shape"]),
        NODE("Mul", ["v", "half"], ["scaled"]),
        NODE("MatMul", ["hidden", "scaled"], ["first"]),
        NODE("Expand", ["s", "shape"], ["mask"]),
        NODE("Mul", ["first", "mask"], ["dropped"]),
        NODE("MatMul", ["dropped", "scaled"], ["second"]),
        NODE("Cast", ["image"], ["again"], to=1),
        NODE("Reshape", ["again", "to"], ["pixels"]),
        NODE("Mul", ["pixels", "s"], ["noisy"]),
        NODE("MatMul", ["noisy", "w"], ["third"]),
        NODE("Add", ["second", "third"], ["logits"]),
    ],
    "a condition with graphs inside": [
        *HIDDEN,
        NODE("Greater", ["s", "half"], ["large"]),
        NODE("If", ["large"], ["logits"], then_branch=BRANCH, else_branch=OTHER),
    ],
    "several outputs of a node, one of them unused": [
        *HIDDEN,
        NODE("Split", ["hidden"], ["a", "b", "c"], axis=1, num_outputs=3),
        NODE("Mul", ["a", "s"], ["d"]),
        NODE("Concat", ["d", "b", "a"], ["logits"], axis=1),
    ],
}
NOTHING = {
    "the mask comes first": [
        NODE("Cast", ["seed"], ["small"], to=2),
        NODE("Add", ["image", "small"], ["moved"]),
        NODE("Cast", ["moved"], ["float"], to=1),
        NODE("Reshape", ["float", "to"], ["flat"]),
        NODE("MatMul", ["flat", "w"], ["logits"]),
    ],
    "the seed does not matter": [*START, NODE("MatMul", ["flat", "w"], ["logits"])],
}


def proto(nodes):
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *fake.SHAPE]),
        helper.make_tensor_value_info("seed", TensorProto.INT32, []),
    ]
    return fake.checked(fake.model(nodes, inputs, WEIGHTS, ["batch", 3]))


def plain(data, x, seeds):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.stack([session.run(["logits"], {"image": x, "seed": np.array(s, "int32")})[0] for s in seeds])


@pytest.mark.parametrize("name", [*GRAPHS, *NOTHING])
def test_samples_are_those_of_the_whole_graph_bit_for_bit(tmp_path, name):
    data = proto({**GRAPHS, **NOTHING}[name])
    artefact = load.load(fake.write(tmp_path / "a", {"mc.onnx": data}), "onnx")
    for x in (fake.IMAGES, fake.IMAGES[:2]):
        actual = artefact.predict(x, "mc", samples=4, seed=2).logits
        np.testing.assert_array_equal(actual, plain(data, x, load.sample_seeds(2, 4, 0)))


@pytest.mark.parametrize("name", GRAPHS)
def test_what_the_seed_does_not_reach_runs_once(name):
    split = onnx_split.Split(proto(GRAPHS[name]), "seed")
    assert split.saves
    once = onnxruntime.InferenceSession(split.once(), providers=["CPUExecutionProvider"])
    assert [x.name for x in once.get_inputs()] == ["image"]
    values = once.run(split.between, {"image": fake.IMAGES})
    rest = split.repeated(values, [x.shape for x in once.get_outputs()])
    repeated = onnxruntime.InferenceSession(rest, providers=["CPUExecutionProvider"])
    assert {x.name for x in repeated.get_inputs()} == {*split.between, *split.passed, "seed"}


@pytest.mark.parametrize("name", NOTHING)
def test_where_nothing_is_saved_nothing_is_cut(name):
    assert not onnx_split.Split(proto(NOTHING[name]), "seed").saves


def test_weights_go_where_they_are_read():
    split = onnx_split.Split(proto(GRAPHS["a mask at the end"]), "seed")
    shapes = [np.zeros((2, 3), "float32")]
    assert fake.WEIGHTS["w"].tobytes() in split.once()
    assert fake.WEIGHTS["w"].tobytes() not in split.repeated(shapes, [["batch", 3]])


def test_a_node_that_draws_for_itself_is_repeated():
    nodes = [*HIDDEN, NODE("RandomNormalLike", ["hidden"], ["noise"]), NODE("Mul", ["noise", "s"], ["logits"])]
    split = onnx_split.Split(proto(nodes), "seed")
    assert split.between == ["hidden"]
