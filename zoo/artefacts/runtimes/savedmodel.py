"""The SavedModel runtime of TensorFlow: writes, checks and runs a SavedModel."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.artefacts.runtimes import operators
from zoo.artefacts.runtimes.base import InTensorFlow, failed, first_line, read_bytes
from zoo.artefacts.runtimes.bounds import bounded
from zoo.errors import BadInput

if TYPE_CHECKING:
    import keras
    import numpy as np

ENDPOINTS = {"inference": "serve", "mc": "mc", "training": "training"}
MOST_NODES = 2_000_000  # of a graph, with the functions it calls as often as it calls them
MOST_VALUES = 2**29  # of a constant; a file states its size and need not hold its values

# What Keras' export writes.
_FILES = re.compile(r"saved_model\.pb|fingerprint\.pb|variables/variables\.(index|data-\d{5}-of-\d{5})|assets/[^/]+")
_FOLDERS = ("variables", "assets")
_PLAIN = re.compile(r"[^/\\\0]*[^/\\\0.][^/\\\0]*")
_KINDS = ("user_object", "function", "bare_concrete_function", "variable", "constant", "resource", "asset")
_OBJECTS = ("_generic_user_object", "signature_map", "trackable_list_wrapper", "trackable_dict_wrapper")
_OBJECTS += ("trackable_tuple_wrapper",)
_REGISTERED = ("", "tf.TrackableConstant", "tf.StaticHashTable")
_PATHS = {"RestoreV2": (0,), "SaveV2": (0,), "MergeV2Checkpoints": (0, 1)}  # inputs that are paths
_SUFFIXES = (b"_temp/part", b".part")
_FROM_FILE = "InitializeTableFromTextFileV2"


class SavedModel(InTensorFlow):
    """Runs `savedmodel/` by its endpoints `serve(x)`, `mc(x, seed)` and `training(x, seed)`."""

    @staticmethod
    def random_operators(path: str | Path) -> list[str]:
        return random_operators(path)

    name, title = "savedmodel", "SavedModel"
    distributions = ("tensorflow", "keras")
    files: ClassVar = {"inference": "savedmodel", "mc": "savedmodel", "training": "savedmodel"}

    def __init__(self, folder: str | Path, card: Mapping[str, Any], threads: int | None = None) -> None:
        super().__init__(folder, card, threads)
        import tensorflow as tf

        path, self._one_by_one = self.paths["inference"], None
        check_savedmodel(path)
        try:
            with bounded(path):
                self._loaded = tf.saved_model.load(str(path))
            self._run = {mode: getattr(self._loaded, ENDPOINTS[mode]) for mode in self.modes}
        except Exception as error:  # TensorFlow raises many kinds for a damaged file
            raise BadInput(f"cannot open {path} in TensorFlow: {first_line(error)}; export it again") from error

    @classmethod
    def write(cls, model: "keras.Model", folder: Path, modes: Mapping[str, str]) -> None:
        import keras

        from zoo.artefacts import formats

        archive = keras.export.ExportArchive()
        # Tracking the model itself would write each weight twice.
        archive.add_variable_collection("weights", formats.tensors(model))
        for layer in model.layers:
            if isinstance(layer, keras.layers.TextVectorization):
                archive.track(layer)
        for mode, name in ENDPOINTS.items():
            if mode in modes:
                archive.add_endpoint(name, *formats.endpoint(model, mode))
        with formats.converting(cls.title, ", ".join(modes)):
            archive.write_out(str(folder / modes["inference"]), verbose=False)
            check_savedmodel(folder / modes["inference"])  # what could not be opened again is not kept

    @staticmethod
    def snippets(modes: Mapping[str, str], takes: str) -> list[str]:
        calls = {"inference": "serve(x)", "mc": "mc(x, 7)", "training": "training(x, 7)"}
        return [f'tf.saved_model.load("{file}").{calls[mode]}' for mode, file in modes.items()]

    def shared_samples(self, x: Any, seeds: Sequence[int]) -> "np.ndarray":
        import tensorflow as tf

        if self._one_by_one is None:
            try:
                self._one_by_one = self._looped()
            except Exception as error:  # as below
                raise failed(self.paths["mc"], "TensorFlow", error) from error
        return self._bounded("mc", self._one_by_one, self._tensor(x), tf.constant(seeds, tf.int32)).numpy()

    def _looped(self):
        """Returns a function of `x` and `seeds` that runs one example at a time, in one call of TensorFlow."""
        import tensorflow as tf

        (function,) = self._run["mc"].concrete_functions
        given = function.structured_input_signature[0][0]

        def sample(x, seed):
            return tf.map_fn(lambda one: function(one[tf.newaxis], seed)[0], x, fn_output_signature=tf.float32)

        def samples(x, seeds):
            return tf.map_fn(lambda seed: sample(x, seed), seeds, fn_output_signature=tf.float32)

        inputs = [tf.TensorSpec((None, *given.shape[1:]), given.dtype), tf.TensorSpec((None,), tf.int32)]
        return tf.function(samples, input_signature=inputs, autograph=False).get_concrete_function()

    def _function(self, mode):
        def run(*inputs):
            (function,) = self._run[mode].concrete_functions
            return self._bounded(mode, function, *inputs)

        return run

    def _bounded(self, mode, function, *inputs):
        from tensorflow.python.eager.cancellation import CancellationManager  # the one way to end a loop

        path, manager = self.paths[mode], CancellationManager()
        try:
            with bounded(path, manager.start_cancel):
                return manager.get_cancelable_function(function)(*inputs)
        except BadInput:
            raise
        except Exception as error:  # TensorFlow raises many kinds
            raise failed(path, "TensorFlow", error) from error


# === A file that is read, not run ===

_RANDOM = re.compile(
    r"(Stateless|Parameterized|StatelessParameterized)?(Random|Multinomial|TruncatedNormal|SampleDistorted)\w*"
    r"|Stateful(Random|Uniform|StandardNormal|TruncatedNormal)\w*"
)


def random_operators(folder: str | Path) -> list[str]:
    """Returns the random operators in what the signatures of a SavedModel compute, those with a `seed` left out.

    Args:
        folder: a SavedModel, also one that is not opened because it has other operators than exports have.

    Returns:
        Sorted `NAME (OPERATOR)`.

    Raises:
        BadInput: it is damaged.
    """
    graph = _graphs(Path(folder))[0]
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    waiting = [
        output.name.partition(":")[0]
        for signature in graph.signature_def.values()
        if "seed" not in signature.inputs
        for output in signature.outputs.values()
    ]
    needed = {}
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in needed:
            needed[name] = nodes[name]
            waiting += [given.removeprefix("^").partition(":")[0] for given in nodes[name].input]
    computed, called = list(needed.values()), set()
    for node in computed:  # grows while it is walked
        for attribute in node.attr.values():
            for inner in (attribute.func.name, *(func.name for func in attribute.list.func)):
                if inner in functions and inner not in called:
                    called.add(inner)
                    computed += functions[inner].node_def
    return sorted({f"{node.name} ({node.op})" for node in computed if _RANDOM.fullmatch(node.op)})


# === A file before it is opened ===


def check_savedmodel(folder: str | Path) -> None:
    """Checks that a SavedModel holds what Keras exports, and nothing that reaches beyond the model.

    Operators must be on the lists of `zoo.artefacts.runtimes.operators`. Those that save and
    restore weights may stand in the functions of the saver alone, which loading never runs;
    those that fill tables, in the initialisers of tables, from constants or from the assets of
    the SavedModel.

    Raises:
        BadInput: it holds anything else, or is damaged.
    """
    folder = Path(folder)
    _check_files(folder)
    try:
        _check_graph(folder, _only_graph(folder))
    except (LookupError, AttributeError) as error:  # a number or name that refers to nothing
        raise _damaged(folder, "it refers to parts that are missing") from error


def _check_graph(folder, graph):
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    if len(functions) < len(graph.graph_def.library.function):
        raise _damaged(folder, "two functions have one name")
    _check_objects(folder, graph, functions)
    callers = _callers(graph, functions)
    saver, tables = _functions_of_saver(graph, functions, callers), _functions_of_tables(graph)
    _check_nodes(folder, graph.graph_def.node, operators.SAVEDMODEL_GRAPH, "outside its functions")
    for name, function in functions.items():
        allowed = operators.SAVEDMODEL
        if name in saver:
            allowed = operators.SAVEDMODEL_SAVER
        elif name in tables and "/" not in callers[name]:
            allowed = operators.SAVEDMODEL_TABLES
        _check_nodes(folder, function.node_def, allowed, f"in {name}")
        for node in function.node_def:
            if node.op in _PATHS and not _given(function, node, _PATHS[node.op], _SUFFIXES):
                raise _refused(folder, f"a path of its own for {node.op}")
            if node.op == _FROM_FILE and not _from_asset(graph, name, function, node):
                raise _refused(folder, "a table from a file that is not one of its assets")
    _check_size(folder, functions)


def _refused(folder, what):
    return BadInput(
        f"{folder} must hold only what Keras exports, got {what}, which could access files, code or devices outside "
        "the model; load only files that you trust, or export the model again"
    )


def _damaged(folder, why):
    return BadInput(f"cannot read {folder}: it is not a complete SavedModel ({why}); export it again")


def _check_files(folder):
    """Refuses files that TensorFlow might open and that are not checked here."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not (path.is_dir() and name in _FOLDERS) and not _FILES.fullmatch(name):
            raise _refused(folder, f"the file {name!r}")


def _only_graph(folder):
    graphs = _graphs(folder)
    if len(graphs) != 1 or not graphs[0].HasField("object_graph_def"):
        raise _damaged(folder, f"it has {len(graphs)} graphs, or one without objects")
    return graphs[0]


def _graphs(folder):
    """Returns the graphs that a SavedModel holds, one or more."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    data = read_bytes(folder / "saved_model.pb")
    try:
        saved.ParseFromString(data)
    except Exception as error:  # protobuf's own errors differ from version to version
        raise _damaged(folder, type(error).__name__) from error
    if not saved.meta_graphs:
        raise _damaged(folder, "it has no graphs, or one without objects")
    return saved.meta_graphs


def _check_objects(folder, graph, functions):
    """Checks the objects that TensorFlow makes again when it loads the file."""
    for node in graph.object_graph_def.nodes:
        kind = node.WhichOneof("kind")
        if kind not in _KINDS or node.registered_name not in _REGISTERED or node.registered_saver:
            raise _refused(folder, f"an object of the kind {node.registered_name or kind}")
        if kind == "user_object" and node.user_object.identifier not in _OBJECTS:
            raise _refused(folder, f"an object of the kind {node.user_object.identifier}")
    for asset in graph.asset_file_def:
        if not _PLAIN.fullmatch(asset.filename) or not (folder / "assets" / asset.filename).is_file():
            raise _refused(folder, f"the asset {asset.filename!r}, which is not one of its files")
    if missing := set(graph.object_graph_def.concrete_functions) - set(functions):
        raise _damaged(folder, f"the function {min(missing)} is missing")


def _callers(graph, functions):
    """Returns what calls each function: name -> names of nodes outside functions, and `/` for other functions."""
    callers = {name: set() for name in functions}
    for node in graph.graph_def.node:
        for name in _called(node.attr):
            callers.setdefault(name, set()).add(node.name)
    for function in functions.values():
        # An attribute of a function can put it in the place of another.
        for name in (*_called(function.attr), *(name for node in function.node_def for name in _called(node.attr))):
            callers.setdefault(name, set()).add("/")
    for gradient in graph.graph_def.library.gradient:
        for name in (gradient.function_name, gradient.gradient_func):
            callers.setdefault(name, set()).add("/")
    return callers


def _called(attributes):
    """Returns the names of functions in the attributes of a node."""
    values = attributes.values()
    return [name for value in values for name in (value.func.name, *(each.name for each in value.list.func)) if name]


def _functions_of_saver(graph, functions, callers):
    """Returns the functions that the saver alone calls, so that neither loading nor predicting runs them."""
    ends = {graph.saver_def.save_tensor_name.partition(":")[0], graph.saver_def.restore_op_name}
    used = [source for node in graph.graph_def.node for source in node.input]
    used += [output.name for signature in graph.signature_def.values() for output in signature.outputs.values()]
    used += [name for collection in graph.collection_def.values() for name in collection.node_list.value]
    ends -= {name.lstrip("^").partition(":")[0] for name in used}
    objects = graph.object_graph_def.concrete_functions
    return {
        name
        for name, function in functions.items()
        if callers[name] and callers[name] <= ends and name not in objects and "api_implements" not in function.attr
    }


def _functions_of_tables(graph):
    """Returns the functions that create and fill the tables of words and categories."""
    nodes, names = graph.object_graph_def.nodes, set()
    for node in nodes:
        if node.WhichOneof("kind") == "resource":
            for child in node.children:
                if child.local_name in ("_create_resource", "_initialize", "_destroy_resource"):
                    names |= set(nodes[child.node_id].function.concrete_functions)
    return names


def _check_nodes(folder, nodes, allowed, where):
    for node in nodes:
        if node.op not in allowed:
            raise _refused(folder, f"the operation {node.op} {where}")
        if "/job:" in node.device and "/job:localhost" not in node.device:
            raise _refused(folder, f"the device {node.device}")
        if node.op == "Const":
            tensor = node.attr["value"].tensor
            if math.prod(size.size for size in tensor.tensor_shape.dim) > MOST_VALUES:
                raise _refused(folder, f"a constant of more than {MOST_VALUES:,} values")


def _given(function, node, inputs, suffixes=()):
    """Returns whether inputs of a node come from the function's arguments alone, apart from `suffixes`."""
    by_name = {each.name: each for each in function.node_def}
    arguments = {argument.name for argument in function.signature.input_arg}
    waiting, seen, given = [node.input[i] for i in inputs], set(), False
    while waiting:
        name = waiting.pop().partition(":")[0]
        if name in seen or name.startswith("^"):
            continue
        seen.add(name)
        if name in arguments:
            given = True
        elif name not in by_name:
            return False
        elif by_name[name].op == "Const":
            tensor = by_name[name].attr["value"].tensor
            if not set(tensor.string_val) <= set(suffixes):
                return False
        else:
            waiting += by_name[name].input
    return given


def _from_asset(graph, name, function, node):
    """Returns whether the file of a table is an argument of the initialiser that is bound to an asset."""
    captures = graph.object_graph_def.concrete_functions[name].bound_inputs
    arguments = [argument.name for argument in function.signature.input_arg]
    source = node.input[1].partition(":")[0]
    if source not in arguments or len(arguments) != len(captures):
        return False
    return graph.object_graph_def.nodes[captures[arguments.index(source)]].WhichOneof("kind") == "asset"


def _check_size(folder, functions):
    """Refuses functions that call themselves, and those that call others so often that a run would not end."""
    sizes = {}

    def size(name):
        if name not in functions:
            raise _damaged(folder, f"the function {name} is missing")
        if name not in sizes:
            sizes[name] = None  # until it is known
            nodes = functions[name].node_def
            sizes[name] = len(nodes) + sum(size(inner) for node in nodes for inner in _called(node.attr))
        if sizes[name] is None:
            raise _refused(folder, f"the function {name}, which calls itself")
        return sizes[name]

    try:
        total = sum(size(name) for name in functions)
    except RecursionError:
        raise _refused(folder, "functions that are nested too deeply") from None
    if total > MOST_NODES:
        raise _refused(folder, f"more than {MOST_NODES:,} operations")
