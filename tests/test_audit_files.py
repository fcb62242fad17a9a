"""`zoo audit` of artefacts, run folders, ONNX files and SavedModels: a planted fault each, and none in what ships."""

import json
import shutil

import keras
import onnx
import pytest
from keras import layers
from onnx import TensorProto, helper

import zoo
from zoo import cli
from zoo.__main__ import main
from zoo.artefacts import contract, locate, sums
from zoo.errors import BadInput


def rules(given):
    return [(finding.rule, finding.level) for finding in zoo.audit(given)]


def noisy(inner):
    """A classifier whose inner layer is called in training mode."""
    x = keras.Input((8,))
    return keras.Model(x, layers.Dense(3)(inner(layers.Dense(8, "relu")(x), training=True)))


# === SavedModels ===


@pytest.mark.parametrize("inner", [layers.Dropout(0.5), layers.GaussianNoise(0.5), layers.SpatialDropout1D(0.5)])
def test_randomness_in_an_exported_savedmodel_is_an_error(inner, tmp_path):
    if isinstance(inner, layers.SpatialDropout1D):
        x = keras.Input((4, 8))
        model = keras.Model(x, layers.Dense(3)(layers.Flatten()(inner(x, training=True))))
    else:
        model = noisy(inner)
    model.export(tmp_path / "m", verbose=False)
    (finding,) = zoo.audit(tmp_path / "m")
    assert (finding.rule, finding.level, finding.layer) == ("random-at-inference", "error", str(tmp_path / "m"))
    assert "Random" in finding.reason
    assert finding.command is None


def test_a_savedmodel_exported_for_inference_has_none_of_it(tmp_path):
    x = keras.Input((8,))
    model = keras.Model(x, layers.Dense(3)(layers.Dropout(0.5)(layers.GaussianNoise(0.1)(x))))
    model.export(tmp_path / "m", verbose=False)
    assert zoo.audit(tmp_path / "m") == []


def test_a_savedmodel_that_would_not_be_opened_is_read(tmp_path):
    """Reading runs nothing, so operators that are refused elsewhere do not matter."""
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32)])
        def __call__(self, x):
            tf.io.write_file(str(tmp_path / "written"), "x")
            return x + tf.random.normal(tf.shape(x))

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.__call__)
    assert rules(tmp_path / "m") == [("random-at-inference", "error")]
    assert not (tmp_path / "written").exists()


# === ONNX ===


def onnx_file(path, nodes, initializers=(), opset=18, inputs=("x",)):
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in inputs]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])
    graph = helper.make_graph(nodes, "g", given, [result], list(initializers))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
    return path


def _true(name, value=True):
    return helper.make_tensor(name, TensorProto.BOOL, [], [value])


def _branches():
    """An `If` with a random operator in one of its graphs."""
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    graphs = [
        helper.make_graph([helper.make_node(op, ["x"], ["b"])], op, [], [out]) for op in ("RandomNormalLike", "Relu")
    ]
    return helper.make_node("If", ["c"], ["y"], then_branch=graphs[0], else_branch=graphs[1])


@pytest.mark.parametrize(
    ("nodes", "initializers", "opset"),
    [
        ([helper.make_node("RandomUniformLike", ["x"], ["y"], name="noise")], [], 18),
        ([helper.make_node("Bernoulli", ["x"], ["y"])], [], 18),
        ([helper.make_node("Dropout", ["x", "", "on"], ["y"])], [_true("on")], 18),
        ([helper.make_node("Dropout", ["x"], ["y"], is_test=0)], [], 6),
        ([_branches()], [_true("c")], 18),
        (
            [
                helper.make_node("Constant", [], ["on"], value=_true("v")),
                helper.make_node("Dropout", ["x", "", "on"], ["y"]),
            ],
            [],
            18,
        ),
    ],
)
def test_randomness_in_an_onnx_file_is_an_error(nodes, initializers, opset, tmp_path):
    assert rules(onnx_file(tmp_path / "m.onnx", nodes, initializers, opset)) == [("random-at-inference", "error")]


@pytest.mark.parametrize(
    ("node", "initializers", "opset"),
    [
        (helper.make_node("Dropout", ["x"], ["y"]), [], 18),
        (helper.make_node("Dropout", ["x", "", "on"], ["y"]), [_true("on", False)], 18),
        (helper.make_node("Dropout", ["x"], ["y"], is_test=1), [], 6),
        (helper.make_node("Relu", ["x"], ["y"]), [], 18),
    ],
)
def test_dropout_that_is_off_in_an_onnx_file_is_fine(node, initializers, opset, tmp_path):
    assert rules(onnx_file(tmp_path / "m.onnx", [node], initializers, opset)) == []


def test_a_monte_carlo_file_draws_from_its_seed_and_is_fine(tmp_path):
    nodes = [helper.make_node("RandomUniformLike", ["x"], ["y"])]
    assert rules(onnx_file(tmp_path / "m.onnx", nodes, inputs=("x", "seed"))) == []


@pytest.mark.parametrize("name", ["m.onnx", "m.tflite", "m/saved_model.pb"])
def test_a_damaged_or_unreadable_file_is_refused(name, tmp_path, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / name).write_bytes(b"\x0a\xff\xff damaged")
    given = str(tmp_path / name.removesuffix("/saved_model.pb"))
    with pytest.raises(BadInput, match="cannot"):
        zoo.audit(given)
    with pytest.raises(SystemExit, match="2"):
        cli.run(lambda: main(["audit", given]))
    assert str(tmp_path) in capsys.readouterr().err


# === Artefacts and runs ===


@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet", "transformer"])
def test_an_artefact_has_no_error_and_its_card_fits(model, artefacts, runs):
    for given in (artefacts[model], runs[model]):
        assert "error" not in [level for _, level in rules(given)]
        assert "placement-not-realised" not in [rule for rule, _ in rules(given)]


@pytest.mark.parametrize(
    ("model", "site", "stated"),
    [
        ("mlp", "hidden", {"hidden": {"rate": 0.3}}),
        ("mlp", "hidden", {}),
        ("mlp", "input", {"hidden": 0.5, "input": 0.2}),
        ("cnn", "conv", {"conv": {"rate": 0.1}, "hidden": 0.5, "features": {"rate": 0.2, "kind": "gaussian"}}),
    ],
)
def test_a_card_whose_placement_the_file_does_not_realise_is_an_error(model, site, stated, artefacts, tmp_path):
    folder = shutil.copytree(artefacts[model], tmp_path / "a")
    card = json.loads((folder / contract.NAME).read_text())
    card["placement"] = {**card["placement"], "sites": stated}
    (folder / contract.NAME).write_text(json.dumps(card))
    sums.write(folder)
    wrong = [finding for finding in zoo.audit(folder) if finding.rule == "placement-not-realised"]
    assert [(finding.level, finding.layer) for finding in wrong] == [("error", site)]


def test_a_graph_of_an_artefact_that_draws_at_inference_is_an_error(artefacts, tmp_path, capsys):
    folder = shutil.copytree(artefacts["mlp"], tmp_path / "a")
    graph = onnx.load(folder / "model.onnx")
    last = graph.graph.node[-1]
    name, last.output[0] = last.output[0], "before"
    graph.graph.node.append(helper.make_node("Dropout", ["before", "", "on"], [name]))
    graph.graph.initializer.append(_true("on"))
    onnx.save(graph, folder / "model.onnx")
    sums.write(folder)
    assert main(["audit", str(folder), "--strict", "--json"]) == 1
    (finding,) = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["level"] == "error"]
    assert (finding["rule"], finding["layer"]) == ("random-at-inference", "model.onnx")


def test_an_artefact_that_was_changed_is_refused(artefacts, tmp_path):
    folder = shutil.copytree(artefacts["mlp"], tmp_path / "a")
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(BadInput):
        zoo.audit(folder)


def test_nothing_that_ships_has_an_error():
    for folder in sorted(locate.SHELF.glob(f"*/{contract.NAME}")):
        assert "error" not in [level for _, level in rules(folder.parent.name)], folder


def test_a_keras_file_is_audited_by_its_path(tmp_path):
    noisy(layers.Dropout(0.5)).save(tmp_path / "m.keras")
    findings = zoo.audit(tmp_path / "m.keras")
    assert "training-baked-in" in [finding.rule for finding in findings]
    assert all(str(tmp_path / "m.keras") in finding.command for finding in findings if finding.command)


def test_a_path_in_python_is_opened_as_on_the_command_line(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        zoo.audit(tmp_path / "none.keras")
    with pytest.raises(BadInput, match="input_shape and classes must be given for mlp"):
        zoo.audit("mlp")
