"""SavedModels, ONNX and LiteRT files that could reach beyond the model are refused, and no run goes on for ever."""

import shutil
import time
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper
from tensorflow.core.protobuf import saved_model_pb2

import zoo
from zoo.artefacts import sums
from zoo.artefacts.runtimes import bounds, litert
from zoo.artefacts.runtimes import onnx as onnx_runtime
from zoo.artefacts.runtimes.savedmodel import SavedModel, check_savedmodel
from zoo.errors import BadInput

ROOT = Path(__file__).parent.parent
IMAGES = tf.TensorSpec((None, 8, 8, 1), tf.uint8)


# === SavedModels ===


class Served(tf.Module):
    """A model of ten classes whose function `serve` does `act` first."""

    def __init__(self, act, folder):
        self.weight = tf.Variable(np.ones((64, 10), "float32"))
        self.path = str(folder / "victim")  # a Python string, so a constant of the graph

        @tf.function(input_signature=[IMAGES], autograph=False)
        def serve(x):
            result = act(self, x)
            with tf.control_dependencies([] if result is None else [result]):
                logits = tf.reshape(tf.cast(x, tf.float32), (-1, 64)) @ self.weight
                return logits + result if getattr(result, "dtype", None) == tf.float32 else logits

        @tf.function(input_signature=[IMAGES, tf.TensorSpec((), tf.int32)], autograph=False)
        def seeded(x, seed):
            return serve(x)

        self.serve, self.mc, self.training = serve, seeded, seeded


def _nested(depth, act):
    return act if depth == 0 else tf.function(_nested(depth - 1, act), autograph=False)


def _in_a_branch(module, x):
    return tf.cond(
        tf.reduce_sum(tf.cast(x, tf.int32)) >= 0,
        lambda: tf.raw_ops.ReadFile(filename=module.path),
        lambda: tf.constant(""),
    )


def _in_a_loop(module, x):
    def body(i):
        with tf.control_dependencies([tf.raw_ops.WriteFile(filename=module.path, contents="x")]):
            return (i + 1,)

    return tf.while_loop(lambda i: i < 1, body, (tf.size(x) * 0,))[0]


def _table_of_a_file(module, x):
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    return tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=module.path, key_index=-2, value_index=-1
    )


def _records(dataset):
    return lambda module, x: dataset(module.path).reduce(0, lambda count, row: count + 1)


def _python(module, x):
    return tf.py_function(lambda: open(module.path, "w").close() or 0, [], tf.int32)


def _python_of_numpy(module, x):
    return tf.numpy_function(lambda: np.int32(0), [], tf.int32)


ACTS = {
    "WriteFile": lambda m, x: tf.raw_ops.WriteFile(filename=m.path, contents="x"),
    "ReadFile": lambda m, x: tf.raw_ops.ReadFile(filename=m.path),
    "MatchingFiles": lambda m, x: tf.raw_ops.MatchingFiles(pattern="/etc/*"),
    "SaveV2": lambda m, x: tf.raw_ops.SaveV2(
        prefix=m.path, tensor_names=["x"], shape_and_slices=[""], tensors=[tf.cast(x, tf.float32)]
    ),
    "Save": lambda m, x: tf.raw_ops.Save(filename=m.path, tensor_names=["x"], data=[tf.cast(x, tf.float32)]),
    "RestoreV2": lambda m, x: tf.raw_ops.RestoreV2(
        prefix=m.path, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
    )[0],
    "Restore": lambda m, x: tf.raw_ops.Restore(file_pattern=m.path, tensor_name="x", dt=tf.float32),
    "MergeV2Checkpoints": lambda m, x: tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[m.path], destination_prefix=m.path + "2", delete_old_dirs=True
    ),
    "DebugIdentityV3": lambda m, x: tf.raw_ops.DebugIdentityV3(
        input=x, device_name="", tensor_name="t:0", io_index=0, debug_urls=["file://" + m.path]
    ),
    "DebugIdentityV2": lambda m, x: tf.raw_ops.DebugIdentityV2(
        input=x, tfdbg_context_id="", op_name="", output_slot=0, tensor_debug_mode=2, debug_urls=["file://" + m.path]
    ),
    "PrintV2": lambda m, x: tf.print("x", output_stream="file://" + m.path),
    "TextLineDataset": _records(tf.data.TextLineDataset),
    "TFRecordDataset": _records(tf.data.TFRecordDataset),
    "FixedLengthRecordDataset": _records(lambda path: tf.data.FixedLengthRecordDataset(path, 1)),
    "SnapshotDataset": lambda m, x: tf.data.Dataset.range(3).snapshot(m.path).reduce(np.int64(0), lambda a, b: a + b),
    "CacheDataset": lambda m, x: tf.data.Dataset.range(3).cache(m.path).reduce(np.int64(0), lambda a, b: a + b),
    "SaveDataset": lambda m, x: tf.raw_ops.SaveDatasetV2(
        input_dataset=tf.data.Dataset.range(3)._variant_tensor,
        path=m.path,
        shard_func_other_args=[],
        shard_func=tf.function(lambda i: tf.constant(0, tf.int64)).get_concrete_function(tf.TensorSpec((), tf.int64)),
        output_types=[tf.int64],
        output_shapes=[tf.TensorShape([])],
    ),
    "WholeFileReader": lambda m, x: tf.raw_ops.WholeFileReaderV2(),
    "InitializeTableFromTextFile": _table_of_a_file,
    "EagerPyFunc": _python,
    "PyFunc": _python_of_numpy,
    "SummaryWriter": lambda m, x: tf.raw_ops.CreateSummaryFileWriter(
        writer=tf.raw_ops.SummaryWriter(), logdir=m.path, max_queue=1, flush_millis=1, filename_suffix=""
    ),
    "MutableHashTable": lambda m, x: tf.raw_ops.LookupTableSizeV2(
        table_handle=tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="everybody's")
    ),
    "Abort": lambda m, x: tf.raw_ops.Abort(error_msg="end"),
    "a nested function": lambda m, x: _nested(4, lambda: tf.raw_ops.ReadFile(filename=m.path))(),
    "a branch": _in_a_branch,
    "a loop": _in_a_loop,
}


def forged(tmp_path):
    """An artefact without its SavedModel, and a function that predicts with the one put there, as users do."""
    folder = shutil.copytree(ROOT / "saved_models" / "mlp-digits-default", tmp_path / "mlp")
    shutil.rmtree(folder / "savedmodel")

    def predict():
        sums.write(folder)
        return zoo.load(folder, runtime="savedmodel").predict(np.zeros((1, 8, 8, 1), "uint8"))

    return folder, predict


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("name", ACTS)
def test_a_savedmodel_that_could_act_is_refused_and_touches_nothing(name, tmp_path):
    folder, predict = forged(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("left alone\n")
    tf.saved_model.save(Served(ACTS[name], outside), str(folder / "savedmodel"))
    before = contents(outside)
    with pytest.raises(BadInput, match="must hold only what Keras exports") as refusal:
        predict()
    assert "\n" not in str(refusal.value)
    assert contents(outside) == before


def test_a_savedmodel_that_only_computes_predicts(tmp_path):
    """The models above are refused for what they do, not for how they were written."""
    folder, predict = forged(tmp_path)
    tf.saved_model.save(Served(lambda module, x: None, tmp_path), str(folder / "savedmodel"))
    assert predict().probabilities.shape == (1, 10)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "savedmodel"
    tf.saved_model.save(Served(lambda module, x: None, folder), str(folder))
    return folder


def changed(plain, tmp_path, change):
    """A copy of a SavedModel whose only graph went through `change`."""
    folder = shutil.copytree(plain, tmp_path / "changed")
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def saver_of(graph, kind):
    node = graph.saver_def.restore_op_name if kind == "restore" else graph.saver_def.save_tensor_name.split(":")[0]
    (call,) = (each for each in graph.graph_def.node if each.name == node)
    (function,) = (f for f in graph.graph_def.library.function if f.signature.name == call.attr["f"].func.name)
    return call, function


def _save_at_the_start(graph):
    node = graph.graph_def.node.add(name="end", op="SaveV2")
    graph.collection_def["saved_model_main_op"].node_list.value[:] = [node.name]


def _saver_at_the_start(graph):
    call, _ = saver_of(graph, "save")
    (start,) = (node for node in graph.graph_def.node if node.op == "NoOp")
    start.input.append(f"^{call.name}")


def _saver_in_a_prediction(graph):
    _, saver = saver_of(graph, "save")
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.op == "StatefulPartitionedCall":
                node.attr["f"].func.name = saver.signature.name


def _saver_as_an_endpoint(graph):
    _, saver = saver_of(graph, "restore")
    graph.object_graph_def.concrete_functions[saver.signature.name].SetInParent()


def _restore_from_elsewhere(graph):
    _, saver = saver_of(graph, "restore")
    path = saver.node_def.add(name="path", op="Const")
    path.attr["value"].tensor.dtype = tf.string.as_datatype_enum
    path.attr["value"].tensor.string_val.append(b"/etc/other")
    (restore,) = (node for node in saver.node_def if node.op == "RestoreV2")
    restore.input[0] = "path:output:0"


def _saver_put_in_place_of_another(graph):
    _, saver = saver_of(graph, "save")
    saver.attr["api_implements"].s = b"serve"


def _registered_object(graph):
    graph.object_graph_def.nodes[0].registered_name = "package.Anything"


def _revived_object(graph):
    (node, *_) = (each for each in graph.object_graph_def.nodes if each.WhichOneof("kind") == "user_object")
    node.user_object.identifier = "optimizer"


def _asset_outside(graph):
    graph.asset_file_def.add(filename="../../../../etc/passwd").tensor_info.name = "x:0"


def _another_machine(graph):
    next(f for f in graph.graph_def.library.function if f.node_def).node_def[0].device = "/job:worker/task:0/CPU:0"


def _immense_constant(graph):
    node = graph.graph_def.node.add(name="immense", op="Const")
    node.attr["value"].tensor.dtype = tf.float32.as_datatype_enum
    node.attr["value"].tensor.tensor_shape.dim.add(size=2**40)
    node.attr["value"].tensor.float_val.append(0.0)


def _calls_itself(graph):
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.op == "StatefulPartitionedCall":
                node.attr["f"].func.name = function.signature.name


def _calls_without_end(graph):
    """Forty functions, each of which calls the next one twice: a billion nodes when they are put in one another."""
    for number in range(40):
        function = graph.graph_def.library.function.add()
        function.signature.name = f"step_{number}"
        for name in ("a", "b"):
            node = function.node_def.add(name=name, op="PartitionedCall" if number < 39 else "NoOp")
            if number < 39:
                node.attr["f"].func.name = f"step_{number + 1}"


def _two_of_one_name(graph):
    graph.graph_def.library.function.add().CopyFrom(graph.graph_def.library.function[0])


@pytest.mark.parametrize(
    "change",
    [
        _save_at_the_start,
        _saver_at_the_start,
        _saver_in_a_prediction,
        _saver_as_an_endpoint,
        _restore_from_elsewhere,
        _saver_put_in_place_of_another,
        _registered_object,
        _revived_object,
        _asset_outside,
        _another_machine,
        _immense_constant,
        _calls_itself,
        _calls_without_end,
    ],
)
def test_what_keras_would_not_write_is_refused(plain, tmp_path, change):
    check_savedmodel(plain)
    with pytest.raises(BadInput, match="must hold only what Keras exports"):
        check_savedmodel(changed(plain, tmp_path, change))


def test_damaged_references_are_refused(plain, tmp_path):
    with pytest.raises(BadInput, match="not a complete SavedModel"):
        check_savedmodel(changed(plain, tmp_path, _two_of_one_name))
    saved = saved_model_pb2.SavedModel.FromString((plain / "saved_model.pb").read_bytes())
    saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])  # which TensorFlow would read in another way
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(BadInput, match="not a complete SavedModel"):
        check_savedmodel(tmp_path / "two")


@pytest.mark.parametrize("name", ["saved_model.pbtxt", "saved_model.cpb", "debug/saved_model_debug_info.pb", "more.py"])
def test_a_file_that_is_not_checked_is_refused(plain, tmp_path, name):
    folder = shutil.copytree(plain, tmp_path / "more")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(BadInput, match="got the file"):
        check_savedmodel(folder)


def test_words_from_an_asset_are_read_and_words_from_another_file_are_not(tmp_path):
    (tmp_path / "words.txt").write_text("good\nbad\n")
    x = keras.Input((1,), dtype="string")
    model = keras.Model(x, keras.layers.StringLookup(vocabulary=str(tmp_path / "words.txt"))(x))
    model.export(tmp_path / "savedmodel", verbose=False)
    check_savedmodel(tmp_path / "savedmodel")

    def from_elsewhere(graph):
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "InitializeTableFromTextFileV2":
                    path = function.node_def.add(name="path", op="Const")
                    path.attr["value"].tensor.string_val.append(b"/etc/passwd")
                    node.input[1] = "path:output:0"

    with pytest.raises(BadInput, match="a table from a file"):
        check_savedmodel(changed(tmp_path / "savedmodel", tmp_path, from_elsewhere))


def test_a_savedmodel_that_never_ends_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "SECONDS", 0.5)
    folder, predict = forged(tmp_path)

    def endless(module, x):
        return tf.while_loop(lambda i: tf.cast(x[0, 0, 0, 0], tf.int32) + i * 0 < 1, lambda i: (i + 1,), (0,))[0]

    tf.saved_model.save(Served(endless, tmp_path), str(folder / "savedmodel"))
    with pytest.raises(BadInput, match=r"at most 0\.5 s"):
        predict()


def test_an_export_that_could_not_be_opened_again_is_not_written(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Reading(keras.layers.Layer):
        def call(self, x):
            return x + tf.cast(tf.size(tf.io.matching_files("/etc/*")), x.dtype)

    x = keras.Input((4,), name="image")
    model = keras.Model(x, keras.layers.Dense(3)(Reading()(x)))
    with pytest.raises(zoo.errors.RunFailed, match="MatchingFiles"):
        SavedModel.write(model, tmp_path, {"inference": "savedmodel"})


# === ONNX ===


def onnx_model(*nodes, weights=(), domains=("",)):
    """An ONNX model from `image` to `logits` with some nodes more before the last one."""
    x = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 8, 8, 1])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])
    shape = numpy_helper.from_array(np.array([-1, 64]), "shape")
    weight = numpy_helper.from_array(np.ones((64, 10), "float32"), "weight")
    first = [helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT)]
    last = [
        helper.make_node("Reshape", ["floats", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    graph = helper.make_graph([*first, *nodes, *last], "graph", [x], [y], [shape, weight, *weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(d, 18) for d in domains], ir_version=8)


def loop(rounds, inner=None):
    """A `Loop` of so many rounds, with the initialiser that states them; without, if None."""
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    out = helper.make_tensor_value_info("out", TensorProto.BOOL, [])
    body = helper.make_graph(
        [*([inner] if inner else []), helper.make_node("Identity", ["go"], ["out"])], "body", [count, go], [out]
    )
    stated = [] if rounds is None else [numpy_helper.from_array(np.array(rounds), "rounds")]
    start = numpy_helper.from_array(np.array(True), "start")
    return helper.make_node("Loop", ["rounds" if stated else "", "start"], [], body=body), [*stated, start]


def refuse(model, tmp_path, message):
    data = model.SerializeToString()
    with pytest.raises(BadInput, match=message) as refusal:
        onnx_runtime.check(tmp_path / "model.onnx", data)
    assert "\n" not in str(refusal.value)


def test_a_loop_of_few_stated_rounds_is_allowed(tmp_path):
    node, weights = loop(1000)
    onnx_runtime.check(tmp_path / "model.onnx", onnx_model(node, weights=weights).SerializeToString())


@pytest.mark.parametrize("rounds", [2**62, 2**40, None])
def test_a_loop_without_a_small_number_of_rounds_is_refused(rounds, tmp_path):
    node, weights = loop(rounds)
    refuse(onnx_model(node, weights=weights), tmp_path, "Loop")


def test_the_rounds_of_loops_in_loops_multiply(tmp_path):
    node, weights = loop(100_000)
    inner = helper.make_node("Loop", ["rounds", "start"], [], body=node.attribute[0].g)
    outer, _ = loop(100_000, inner)
    refuse(onnx_model(outer, weights=weights), tmp_path, "Loop")


def test_the_rounds_of_a_loop_must_not_be_computed(tmp_path):
    node, weights = loop(10)
    node.input[0] = "computed"
    made = helper.make_node("Mul", ["rounds", "rounds"], ["computed"])
    refuse(onnx_model(made, node, weights=weights), tmp_path, "Loop")


@pytest.mark.parametrize(
    ("operator", "domain"),
    [
        ("Scan", ""),
        ("SequenceMap", ""),
        ("ImageDecoder", ""),
        ("Inverse", "com.microsoft"),
        ("PyOp", "ai.onnx.contrib"),
        ("SVMClassifier", "ai.onnx.ml"),
        ("Adam", "ai.onnx.preview.training"),
    ],
)
def test_operators_that_no_layer_becomes_are_refused(operator, domain, tmp_path):
    node = helper.make_node(operator, ["floats"], ["unused"], domain=domain)
    refuse(onnx_model(node, domains=("", *([domain] if domain else []))), tmp_path, operator)


def test_an_operator_inside_a_loop_is_refused_too(tmp_path):
    node, weights = loop(3, helper.make_node("ImageDecoder", ["floats"], ["unused"]))
    refuse(onnx_model(node, weights=weights), tmp_path, "ImageDecoder")


@pytest.mark.parametrize(
    ("inner", "message"),
    [(helper.make_node("ImageDecoder", ["floats"], ["unused"]), "ImageDecoder"), (loop(2**62)[0], "Loop")],
)
def test_what_stands_in_a_branch_is_checked_too(inner, message, tmp_path):
    _, weights = loop(2**62)
    out = helper.make_tensor_value_info("out", TensorProto.BOOL, [])
    branch = helper.make_graph([inner, helper.make_node("Identity", ["start"], ["out"])], "branch", [], [out])
    node = helper.make_node("If", ["start"], ["either"], then_branch=branch, else_branch=branch)
    refuse(onnx_model(node, weights=weights), tmp_path, message)


def test_functions_of_the_file_are_refused(tmp_path):
    model = onnx_model()
    model.functions.add(name="f", domain="own")
    refuse(model, tmp_path, "operators of its own")


def test_data_in_another_file_is_refused(tmp_path):
    model = onnx_model()
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "weight")
    onnx.external_data_helper.set_external_data(weight, "/etc/passwd")
    refuse(model, tmp_path, "keep all data inside")


# === LiteRT ===


def test_a_litert_file_with_other_operators_is_refused(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec((1,), tf.float32)], autograph=False)
    def endless(x):
        return tf.while_loop(lambda y: y[0] < 1e30, lambda y: (y * 1.0,), (x,))[0]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([endless.get_concrete_function()])
    with pytest.raises(BadInput, match="got WHILE"):
        litert.check(tmp_path / "model.tflite", converter.convert())


# === Bounds ===


def test_a_run_may_not_take_more_memory_than_there_is(tmp_path):
    folder = shutil.copytree(ROOT / "saved_models" / "mlp-digits-default", tmp_path / "mlp")
    nodes = [
        helper.make_node("ReduceSum", ["floats"], ["sum"], keepdims=0),
        helper.make_node("Expand", ["sum", "immense"], ["much"]),
        helper.make_node("ReduceMax", ["much"], ["most"], keepdims=0),
        helper.make_node("Add", ["floats", "most"], ["more"]),
    ]
    model = onnx_model(*nodes, weights=[numpy_helper.from_array(np.array([2**20, 2**16]), "immense")])
    next(node for node in model.graph.node if node.op_type == "Reshape").input[0] = "more"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    sums.write(folder)
    with pytest.raises(BadInput, match=r"cannot run .* Expand"):
        zoo.load(folder, runtime="onnx").predict(np.zeros((1, 8, 8, 1), "uint8"))


def test_the_limit_of_memory_ends_with_the_run(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with bounds.bounded(tmp_path):
        inside = resource.getrlimit(resource.RLIMIT_DATA)
        with bounds.bounded(tmp_path):
            assert resource.getrlimit(resource.RLIMIT_DATA) == inside
        assert resource.getrlimit(resource.RLIMIT_DATA) == inside
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert inside[0] != before[0]


def test_a_run_that_takes_too_long_is_stopped_and_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "SECONDS", 0.2)
    stopped = []
    with bounds.bounded(tmp_path, lambda: stopped.append("ended in time")):
        pass

    def run():
        with bounds.bounded(tmp_path, lambda: stopped.append("too long")):
            until = time.monotonic() + 20
            while not stopped and time.monotonic() < until:
                time.sleep(0.01)
            raise RuntimeError("the runtime was told to stop")

    with pytest.raises(BadInput, match=r"at most 0\.2 s"):
        run()
    assert stopped == ["too long"]
