"""The ONNX runtime: writes, checks and runs `.onnx` files with ONNX Runtime.

ONNX Runtime opens other files that a model names, and has operators beyond the ONNX
standard. Therefore each file is checked before it is opened.
"""

import functools
import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.artefacts import formats
from zoo.artefacts.runtimes import operators
from zoo.artefacts.runtimes.base import OverTokens, broken, compare, failed, quietly, read_bytes
from zoo.artefacts.runtimes.bounds import bounded
from zoo.artefacts.runtimes.onnx_split import Split
from zoo.errors import BadInput

if TYPE_CHECKING:
    import keras

OPSET = 18
DOMAINS = ("", "ai.onnx")  # both name the standard one
MOST_ROUNDS = 2**20  # of a loop, with those around it
MOST_NODES = 2**18


class Onnx(OverTokens):
    """Runs ONNX Runtime on the CPU. In mode mc, everything that does not depend on the seed runs once."""

    @staticmethod
    def random_operators(path: str | Path) -> list[str]:
        return random_operators(path)

    name, title = "onnx", "ONNX"
    packages = ("onnxruntime", "onnx")
    distributions = ("onnx", "onnxruntime", "tf2onnx")
    files: ClassVar = {"inference": "model.onnx", "mc": "mc.onnx"}

    def __init__(self, folder: str | Path, card: Mapping[str, Any], threads: int | None = None) -> None:
        super().__init__(folder, card, threads)
        self._output = [card["output"]["name"]]
        self._session: Any = None
        self._sampler: Any = None
        self._shared: Any = None

    @classmethod
    def write(cls, model: "keras.Model", folder: Path, modes: Mapping[str, str]) -> None:
        import onnx
        import tf2onnx

        for mode, file in modes.items():
            with formats.converting(cls.title, mode, "tf2onnx"):
                function, signature = formats.named_endpoint(model, mode)
                proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
                _embed(proto, function.get_concrete_function())
                onnx.checker.check_model(proto, full_check=True)
                data = proto.SerializeToString()
                check(folder / file, data)  # what could not be opened again is not written
                (folder / file).write_bytes(data)

    @staticmethod
    def snippets(modes: Mapping[str, str], takes: str) -> list[str]:
        run = 'onnxruntime.InferenceSession("{file}").run(None, {{"{takes}": x{seed}}})'
        lines = [run.format(file=modes["inference"], takes=takes, seed="")]
        seed = ', "seed": numpy.array(7, "int32")'
        return lines + ([run.format(file=modes["mc"], takes=takes, seed=seed)] if "mc" in modes else [])

    def logits(self, x: Any, mode: str, seed: int | None = None) -> np.ndarray:
        if mode == "mc":
            return self.samples(x, [seed])[0]
        with self._opening:
            if self._session is None:
                self._session = self._opened(mode)
        x = self._array(x)
        try:
            return self._run(self._session, self._output, {self._input: x})[0]
        except BadInput:
            raise
        except Exception as error:  # the runtime raises exceptions of any type
            raise failed(self.paths[mode], "ONNX Runtime", error) from error

    def samples(self, x: Any, seeds: Sequence[int]) -> np.ndarray:
        x = self._array(x)
        try:
            with self._opening:
                if self._sampler is None:
                    self._sampler = self._cut(x)
            return np.stack(self._sampler({self._input: x}, [np.array(seed, np.int32) for seed in seeds]))
        except BadInput:
            raise
        except Exception as error:  # as above
            raise failed(self.paths["mc"], "ONNX Runtime", error) from error

    def shared_samples(self, x: Any, seeds: Sequence[int]) -> np.ndarray:
        if self._shared is None:
            try:
                self._shared = self._cut_at_masks(self._array(x))
            except BadInput:
                raise
            except Exception:  # a graph that cannot be split runs for one example at a time
                self._shared = False
        if not self._shared:
            return super().shared_samples(x, seeds)
        try:
            return np.stack(self._shared(self._array(x), [np.array(seed, np.int32) for seed in seeds]))
        except BadInput:
            raise
        except Exception as error:  # as above
            raise failed(self.paths["mc"], "ONNX Runtime", error) from error

    def _opened(self, mode):
        """Returns the session of a mode's file, checked against the card."""
        data = read_bytes(self.paths[mode])
        check(self.paths[mode], data)
        try:
            with bounded(self.paths[mode]):
                session = self._start(data)
        except Exception as error:  # as above
            raise failed(self.paths[mode], "ONNX Runtime", error) from error
        compare(self.paths[mode], "inputs", _declared(session.get_inputs()), self._expected(mode))
        output = {self._output[0]: ("float32", (-1, self._classes))}
        compare(self.paths[mode], "outputs", _declared(session.get_outputs()), output)
        return session

    def _start(self, data):
        onnxruntime = quietly(lambda: importlib.import_module("onnxruntime"))  # it warns about missing GPUs
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised as exceptions anyway
        options.intra_op_num_threads = self.threads or 0
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)

    def _cut(self, x):
        """Returns a function `(inputs, seeds)` to a list of logits, split in two parts if that saves work."""
        session = self._opened("mc")
        try:
            return self._in_two(x) or functools.partial(self._repeat, session)
        except BadInput:
            raise
        except Exception:  # a graph that cannot be split runs as a whole, which is slower but correct
            return functools.partial(self._repeat, session)

    def _in_two(self, x):
        split = Split(read_bytes(self.paths["mc"]), "seed")
        if not split.saves:
            return None
        once = self._start(split.once())
        values = self._run(once, split.between, {self._input: x})
        repeated = self._start(split.repeated(values, [output.shape for output in once.get_outputs()]))

        def sample(given, seeds):
            between = dict(zip(split.between, self._run(once, split.between, given), strict=True))
            return self._repeat(repeated, between | {name: given[name] for name in split.passed}, seeds)

        return sample

    def _cut_at_masks(self, x):
        """Returns a function `(x, seeds)` to a list of logits with shared masks, drawn for one example; or False."""
        self._opened("mc")  # checks the file
        split = Split(read_bytes(self.paths["mc"]), "seed")
        drawing_graph = split.masks()
        if drawing_graph is None:
            return False
        graph, names = drawing_graph
        drawing = self._start(graph)
        once = self._start(split.once()) if split.between else None

        def between(x):
            if once is None:
                return {}
            return dict(zip(split.between, self._run(once, split.between, {self._input: x}), strict=True))

        def masks(x, seed):
            return dict(zip(names, self._run(drawing, names, {self._input: x[:1], "seed": seed}), strict=True))

        applying = self._start(split.applied(between(x[:1]), masks(x, np.array(0, np.int32))))
        taken = {given.name for given in applying.get_inputs()}

        def sample(x, seeds):
            fixed = {name: value for name, value in {self._input: x, **between(x)}.items() if name in taken}
            return [self._run(applying, self._output, fixed | masks(x, seed))[0] for seed in seeds]

        return sample

    def _repeat(self, session, given, seeds):
        return [self._run(session, self._output, given | {"seed": seed})[0] for seed in seeds]

    def _run(self, session, outputs, given):
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        with bounded(self.paths["mc" if "seed" in given else "inference"], lambda: setattr(options, "terminate", True)):
            return session.run(outputs, given, options)


def _embed(proto, function):
    """Makes constants of a model's graph, such as a mean that `Normalization` derived, constants of the file.

    The converter embeds variables, and declares other tensors from outside the function as inputs.
    """
    from onnx import numpy_helper

    outside = {inner.name: tensor for tensor, inner in function.graph.captures if tensor.dtype.name != "resource"}
    for declared in [x for x in proto.graph.input if x.name in outside]:
        proto.graph.input.remove(declared)
        proto.graph.initializer.append(numpy_helper.from_array(outside[declared.name].numpy(), declared.name))


def _declared(values):
    """Returns the inputs or outputs that ONNX Runtime declares: name -> (type, shape with -1 for any size)."""
    return {
        x.name: (
            {"tensor(float)": "float32"}.get(x.type, x.type.removeprefix("tensor(").removesuffix(")")),
            tuple(size if isinstance(size, int) else -1 for size in x.shape),
        )
        for x in values
    }


# === A file that is read, not run ===

_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def random_operators(path: str | Path) -> list[str]:
    """Returns the random operators of an ONNX file, and those of dropout in training mode; none with an input `seed`.

    Args:
        path: a file, also one that is not opened because it has other operators than exports have.

    Returns:
        Sorted `NAME (OPERATOR)`.

    Raises:
        BadInput: it is no ONNX file.
    """
    from onnx import numpy_helper

    model = _parsed(Path(path), read_bytes(Path(path)))
    if "seed" in {given.name for given in model.graph.input}:
        return []
    nodes, tensors = _contents(model.graph)
    nodes += [node for function in model.functions for node in function.node]
    constants = {tensor.name: tensor for tensor in tensors}
    for node in nodes:
        if node.op_type == "Constant":
            constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")

    def training(node):
        if len(node.input) > 2 and node.input[2]:
            stated = constants.get(node.input[2])
            return stated is None or bool(numpy_helper.to_array(stated).any())  # an input may switch it on
        # Before opset 7, an attribute says so, and its default is training.
        versions = [opset.version for opset in model.opset_import if opset.domain in DOMAINS]
        inference = next((a.i for a in node.attribute if a.name == "is_test"), 0)
        return bool(versions) and max(versions) < 7 and not inference

    return sorted(
        {
            f"{node.name or node.output[0]} ({node.op_type})"
            for node in nodes
            if node.op_type in _RANDOM or (node.op_type == "Dropout" and training(node))
        }
    )


# === A file before it is run ===


def check(path: Path, data: bytes) -> None:
    """Checks that an ONNX file has only standard operators and keeps all data inside.

    Args:
        path: the file, for messages.
        data: its contents.

    Raises:
        BadInput: it has others, or is not an ONNX file.
    """
    import onnx

    model = _parsed(path, data)
    if model.functions:
        raise _refused(path, "operators of its own")
    nodes, tensors = _contents(model.graph)
    for node in nodes:
        if node.domain not in DOMAINS:
            raise _refused(path, f"the operator {node.op_type} of the domain {node.domain!r}")
        if node.op_type not in operators.ONNX:
            raise _refused(path, f"the operator {node.op_type}")
    if any(tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT for tensor in tensors):
        raise BadInput(f"{path} must keep all data inside, got data in another file; export the model again")
    rounds = _rounds(model.graph, {})
    if rounds > MOST_ROUNDS:
        raise _refused(path, "a Loop that does not state its number of rounds, or one of too many rounds")
    if len(nodes) > MOST_NODES:
        raise _refused(path, f"more than {MOST_NODES:,} operators")


def _parsed(path, data):
    import onnx

    try:
        model = onnx.load_from_string(data)  # opens no other file
    except Exception as error:  # the exceptions of protobuf differ between versions
        raise broken(path, "ONNX") from error
    if not model.graph.output:
        raise broken(path, "ONNX")
    return model


def _refused(path, what):
    return BadInput(
        f"{path} must have only operators that layers of Keras are exported to, got {what}; load only files that you "
        "trust, or export the model again"
    )


def _rounds(graph, known):
    """Returns how often the innermost loop of a graph runs at most; infinity if a loop does not state it."""
    from onnx import numpy_helper

    known = dict(known)
    known.update((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        constant = next((a.t for a in node.attribute if a.name == "value" and a.HasField("t")), None)
        if node.op_type == "Constant" and constant is not None:
            known[node.output[0]] = constant
    most = 1
    for node in graph.node:
        for inner in (inner for attribute in node.attribute for inner in (attribute.g, *attribute.graphs)):
            if not inner.node:
                continue
            rounds = 1
            if node.op_type == "Loop":
                stated = known.get(node.input[0])
                if stated is None or math.prod(stated.dims) != 1:
                    return math.inf
                rounds = max(1, int(numpy_helper.to_array(stated).reshape(())))
            most = max(most, rounds * _rounds(inner, known))
    return most


def _contents(graph):
    """Returns all nodes and tensors of a graph, including those of the graphs inside its nodes."""
    nodes, tensors, graphs = [], [], [graph]
    while graphs:
        graph = graphs.pop()
        nodes += graph.node
        sparse = list(graph.sparse_initializer)
        tensors += graph.initializer
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            graphs += [attribute.g] if attribute.HasField("g") else []
            graphs += attribute.graphs
            tensors += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
            sparse += [*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])]
            sparse += attribute.sparse_tensors
        tensors += [part for tensor in sparse for part in (tensor.values, tensor.indices)]
    return nodes, tensors
