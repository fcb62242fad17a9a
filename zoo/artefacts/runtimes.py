"""The runtimes that need no TensorFlow, ONNX Runtime and LiteRT, behind one interface.

A runtime takes one chunk at a time and keeps no state that an answer depends on. Each
file is checked and opened when its mode is first asked for.
"""

import functools
import importlib
import os
import threading
from pathlib import Path

import numpy as np

from zoo import startup
from zoo.artefacts import litertfile, onnxfile, onnxsplit
from zoo.artefacts.modelfile import compare, failed, read_bytes
from zoo.artefacts.tokens import Tokens
from zoo.errors import BadInput
from zoo.text import load_vocabulary


class Runtime:
    """One way to run an artefact.

    `name` is its key in the card's formats, `modes` what it can do for this artefact.
    `threads` is how many it may use, all cores if None.
    """

    name = ""

    def __init__(self, folder, card, threads=None):
        self.card, self.threads = card, threads
        self.paths = {mode: Path(folder) / file for mode, file in card["formats"][self.name].items()}
        self.modes = tuple(self.paths)
        self._classes = len(card["output"]["labels"])

    def logits(self, x, mode, seed=None):
        """float32 `(n, classes)` of one chunk: uint8 pixels, or a list of texts."""
        raise NotImplementedError

    def samples(self, x, seeds):
        """Logits in mode mc, `(len(seeds), n, classes)`, one sample for each seed."""
        return np.stack([self.logits(x, "mc", seed) for seed in seeds])


class _OverTokens(Runtime):
    """A runtime whose text models take token ids."""

    def __init__(self, folder, card, threads=None):
        super().__init__(folder, card, threads)
        given = card["input"]
        self._input, self._shape, self._tokens = given["name"], tuple(given["shape"]), None
        if given["kind"] == "text":
            self._tokens = Tokens(load_vocabulary(Path(folder) / given["vocabulary"]), *self._shape)

    def _array(self, x):
        return x if self._tokens is None else self._tokens(x)

    def _expected(self, mode):
        """The inputs of a mode's file: name -> (type, shape)."""
        x = {self._input: (self.card["input"]["dtype"], (-1, *self._shape))}
        return x | {"seed": ("int32", ())} if mode == "mc" else x


class Onnx(_OverTokens):
    """ONNX Runtime on the CPU. In mode mc, what no seed reaches runs once for all samples."""

    name = "onnx"

    def __init__(self, folder, card, threads=None):
        super().__init__(folder, card, threads)
        self._output, self._session, self._sampler = [card["output"]["name"]], None, None

    def logits(self, x, mode, seed=None):
        if mode == "mc":
            return self.samples(x, [seed])[0]
        if self._session is None:
            self._session = self._opened(mode)
        x = self._array(x)
        try:
            return self._session.run(self._output, {self._input: x})[0]
        except Exception as error:  # runtimes raise what they like
            raise failed(self.paths[mode], "ONNX Runtime", error) from error

    def samples(self, x, seeds):
        x = self._array(x)
        try:
            if self._sampler is None:
                self._sampler = self._cut(x)
            return np.stack(self._sampler({self._input: x}, [np.array(seed, np.int32) for seed in seeds]))
        except BadInput:
            raise
        except Exception as error:  # as above
            raise failed(self.paths["mc"], "ONNX Runtime", error) from error

    def _opened(self, mode):
        """The session of a mode's file, which is what the card says."""
        data = read_bytes(self.paths[mode])
        onnxfile.check(self.paths[mode], data)
        try:
            session = self._start(data)
        except Exception as error:  # as above
            raise failed(self.paths[mode], "ONNX Runtime", error) from error
        compare(self.paths[mode], "inputs", _declared(session.get_inputs()), self._expected(mode))
        output = {self._output[0]: ("float32", (-1, self._classes))}
        compare(self.paths[mode], "outputs", _declared(session.get_outputs()), output)
        return session

    def _start(self, data):
        onnxruntime = _quietly(lambda: importlib.import_module("onnxruntime"))  # it tells of GPUs that it misses
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what matters is raised as well
        options.intra_op_num_threads = self.threads or 0
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)

    def _cut(self, x):
        """A function `(inputs, seeds)` to a list of logits, in two parts where that saves anything."""
        whole = self._opened("mc")
        try:
            return self._in_two(x) or functools.partial(self._repeat, whole)
        except Exception:  # a graph that cannot be cut: slower, not wrong
            return functools.partial(self._repeat, whole)

    def _in_two(self, x):
        split = onnxsplit.Split(read_bytes(self.paths["mc"]), "seed")
        if not split.saves:
            return None
        once = self._start(split.once())
        values = once.run(split.between, {self._input: x})
        repeated = self._start(split.repeated(values, [output.shape for output in once.get_outputs()]))

        def sample(given, seeds):
            between = dict(zip(split.between, once.run(split.between, given), strict=True))
            return self._repeat(repeated, between | {name: given[name] for name in split.passed}, seeds)

        return sample

    def _repeat(self, session, given, seeds):
        return [session.run(self._output, given | {"seed": seed})[0] for seed in seeds]


class LiteRT(_OverTokens):
    """LiteRT with XNNPACK. An interpreter serves one call at a time, so calls from several threads queue."""

    name = "litert"

    def __init__(self, folder, card, threads=None):
        super().__init__(folder, card, threads)
        self._open, self._lock = {}, threading.Lock()

    def logits(self, x, mode, seed=None):
        x = self._array(x)
        given = {self._input: x, "seed": np.array(seed, np.int32)} if mode == "mc" else {self._input: x}
        with self._lock:
            try:
                if mode not in self._open:
                    self._open[mode] = self._opened(mode)
                return self._run(*self._open[mode], given)
            except BadInput:
                raise
            except Exception as error:  # as above
                raise failed(self.paths[mode], "LiteRT", error) from error

    def _run(self, interpreter, inputs, output, given):
        x, tensor = given[self._input], inputs[self._input]
        if x.shape != tuple(tensor["shape"]):
            interpreter.resize_tensor_input(tensor["index"], x.shape)
            interpreter.allocate_tensors()
            tensor["shape"] = x.shape
        for name, value in given.items():
            interpreter.set_tensor(inputs[name]["index"], value)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    def _opened(self, mode):
        """The interpreter of a mode's file, which is what the card says, its inputs by name, and its output."""
        data = read_bytes(self.paths[mode])
        litertfile.check(self.paths[mode], data)
        interpreter = _quietly(lambda: self._start(data))  # it announces XNNPACK
        expected = self._expected(mode)
        inputs = _named(interpreter.get_input_details(), expected)
        compare(self.paths[mode], "inputs", {name: _described(x) for name, x in inputs.items()}, expected)
        outputs = interpreter.get_output_details()
        found = {"logits" if len(outputs) == 1 else x["name"]: _described(x) for x in outputs}
        compare(self.paths[mode], "outputs", found, {"logits": ("float32", (-1, self._classes))})
        return interpreter, inputs, outputs[0]

    def _start(self, data):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=data, num_threads=self.threads or os.cpu_count())
        interpreter.allocate_tensors()
        return interpreter


def _quietly(call):
    """What `call` gives, or its exception, without what native code has to say on stderr."""
    with startup.held_stderr():
        try:
            return call()
        except Exception as error:
            failure = error
    raise failure


def _declared(values):
    """ONNX Runtime's words for inputs and outputs, name -> (type, shape with -1 for any size)."""
    return {
        x.name: (
            {"tensor(float)": "float32"}.get(x.type, x.type.removeprefix("tensor(").removesuffix(")")),
            tuple(size if isinstance(size, int) else -1 for size in x.shape),
        )
        for x in values
    }


def _described(tensor):
    """LiteRT's words for an input or output, as (type, shape with -1 for any size)."""
    return np.dtype(tensor["dtype"]).name, tuple(int(size) for size in tensor["shape_signature"])


def _named(tensors, expected):
    """Tensors by the names that are expected; converters add to names, so type and rank decide where none fits."""
    found = {}
    for tensor in tensors:
        dtype, shape = _described(tensor)
        fitting = [name for name in expected if name in tensor["name"]]
        fitting += [name for name, (kind, form) in expected.items() if (kind, len(form)) == (dtype, len(shape))]
        found[next((name for name in fitting if name not in found), tensor["name"])] = tensor
    return found
