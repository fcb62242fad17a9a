"""The lists of operators hold what every stock layer of Keras is exported to, and nothing that could act."""

import keras
import pytest
import stock_layers
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tensorflow.python.framework import op_def_registry

import zoo
from zoo.artefacts import formats
from zoo.artefacts.runtimes import litert, onnx, operators
from zoo.artefacts.runtimes.savedmodel import SavedModel, check_savedmodel
from zoo.errors import RunFailed
from zoo.placement.drop import KINDS

# What no list may have, apart from what the saver needs: parts of the names of operators that touch files, networks,
# Python, devices, or what outlives a call.
ACTING = """
Abort Audio Barrier Cache Checkpoint Collective Copy Dataset Debug Device File Host Iterator Mutable Mutex Print Py
Queue Read Record Recv Restore Rpc Save Send Server Session Shard Socket StackP Stage Summary Tpu Worker Write Xla
"""
# Stateful for TensorFlow, because they call functions, read the weights and tables of the model, or may raise.
STATEFUL = {"Assert", "If", "LookupTableFindV2", "PlaceholderWithDefault", "ReadVariableOp", "While"}
STATEFUL |= {"StatefulPartitionedCall"}


# Layers that a converter cannot express in one of their variants.
UNCONVERTED = """
Activation Bidirectional CategoryEncoding CenterCrop Conv1D Conv2DTranspose Discretization GRU GRUCell LSTM LSTMCell RNN
Resizing SimpleRNN SimpleRNNCell StackedRNNCells TimeDistributed UpSampling2D operations
""".split()  # noqa: SIM905


def names(graph):
    """The operators of a function, with those of the functions it calls."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for f in definition.library.function for node in f.node_def)]
    return {node.op for node in nodes}


def test_there_is_a_model_of_every_stock_layer():
    stock = {layer for layer in vars(keras.layers).values() if isinstance(layer, type)}
    stock = {layer.__name__ for layer in stock if issubclass(layer, keras.Layer)}
    modelled = {name for name, _ in stock_layers.models()} - {"operations"}
    aliases = {"GroupQueryAttention": "GroupedQueryAttention"}
    assert stock == {aliases.get(n, n) for n in modelled} | stock_layers.NOT_MODELS | stock_layers.OF_DATA


def test_every_stock_layer_is_on_the_list_of_savedmodels():
    missing = {}
    for name, make in stock_layers.models():
        model = make()
        # Layers with masks differ between the modes; the others have the same operators, or fewer, in inference.
        for mode in ("mc", "training") if "ropout" in name or "Noise" in name else ("inference",):
            function, signature = formats.endpoint(model, mode)
            traced = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
            for operator in names(traced.graph) - operators.SAVEDMODEL:
                missing.setdefault(operator, []).append(name)
    assert missing == {}


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_masks_are_on_the_list_of_savedmodels(small, kind):
    sites = [site for site in KINDS[kind] if site in small.sites()]
    if not sites:
        pytest.skip(f"no site of {small.name} takes {kind}")
    model = small.build({site: zoo.Drop(0.3, kind) for site in sites})
    for mode in ("mc", "training"):
        function, signature = formats.endpoint(model, mode)
        traced = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
        assert names(traced.graph) <= operators.SAVEDMODEL


@pytest.mark.parametrize("layer", ["TextVectorization", "LSTM", "TimeDistributed", "Bidirectional", "Resizing"])
def test_a_written_savedmodel_passes_its_check(layer, tmp_path):
    make = next(make for name, make in stock_layers.models() if name == layer)
    SavedModel.write(make(), tmp_path, {mode: "savedmodel" for mode in ("inference", "mc", "training")})
    check_savedmodel(tmp_path / "savedmodel")


def grouped(shape):
    """A model of all layers on one input of this shape, so that one conversion shows them all."""
    x, values = keras.Input(shape), []
    for name, make in stock_layers.models():
        if name not in UNCONVERTED:
            model = make()
            if model.input.shape[1:] == shape and model.input.dtype == "float32":
                values.append(keras.ops.sum(keras.ops.cast(model(x), "float32")))
    assert len(values) > 4
    return keras.Model(x, keras.ops.stack(values))


@pytest.mark.parametrize("runtime", [onnx.Onnx, litert.LiteRT])
@pytest.mark.parametrize("shape", [stock_layers.VECTOR, stock_layers.SEQUENCE, stock_layers.IMAGE])
def test_stock_layers_convert_to_operators_on_the_list(runtime, shape, tmp_path):
    runtime.write(grouped(shape), tmp_path, {"inference": "file"})  # which checks what it writes
    assert (tmp_path / "file").stat().st_size


def test_a_recurrent_layer_becomes_a_loop_of_as_many_rounds_as_it_has_steps(tmp_path):
    x = keras.Input((7, 3))
    onnx.Onnx.write(keras.Model(x, keras.layers.GRU(2)(x)), tmp_path, {"inference": "model.onnx"})
    assert (tmp_path / "model.onnx").exists()
    x = keras.Input((None, 3))
    with pytest.raises(RunFailed, match="Loop"):  # the length of the input decides, and a file could state any
        onnx.Onnx.write(keras.Model(x, keras.layers.GRU(2)(x)), tmp_path, {"inference": "endless.onnx"})
    assert not (tmp_path / "endless.onnx").exists()


def test_no_list_has_an_operator_that_could_act():
    for name in operators.SAVEDMODEL:
        assert name == "ReadVariableOp" or not [part for part in ACTING.split() if part in name], name
        definition = op_def_registry.get(name)
        assert definition is not None
        assert not definition.is_stateful or name in STATEFUL, name
    assert not operators.SAVEDMODEL & {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "InitializeTableFromTextFileV2"}
    assert not operators.ONNX & {"Scan", "SequenceMap", "ImageDecoder", "Optional"}
    builtin = {name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    assert builtin >= operators.LITERT
    control = {"WHILE", "IF", "CALL", "CALL_ONCE", "CUSTOM", "DELEGATE", "VAR_HANDLE", "ASSIGN_VARIABLE", "HASHTABLE"}
    assert not operators.LITERT & control
