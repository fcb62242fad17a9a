"""The LiteRT runtime: writes, checks and runs `.tflite` files."""

import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo.artefacts import formats
from zoo.artefacts.runtimes import operators
from zoo.artefacts.runtimes.base import OverTokens, broken, compare, failed, quietly, read_bytes
from zoo.artefacts.runtimes.bounds import bounded
from zoo.errors import BadInput

if TYPE_CHECKING:
    import keras

MOST_NODES = 2**18


class LiteRT(OverTokens):
    """Runs LiteRT with XNNPACK. An interpreter serves one call at a time, so calls from several threads wait."""

    name, title = "litert", "LiteRT"
    packages = ("ai_edge_litert",)
    distributions = ("ai-edge-litert",)
    files: ClassVar = {"inference": "model.tflite", "mc": "mc.tflite"}

    def __init__(self, folder: str | Path, card: Mapping[str, Any], threads: int | None = None) -> None:
        super().__init__(folder, card, threads)
        self._open: dict[str, Any] = {}
        self._lock = threading.Lock()

    @classmethod
    def write(cls, model: "keras.Model", folder: Path, modes: Mapping[str, str]) -> None:
        import tensorflow as tf

        for mode, file in modes.items():
            with formats.converting(cls.title, mode), tempfile.TemporaryDirectory() as temporary:
                module = tf.Module()
                module.weights, (module.run, _) = formats.tensors(model), formats.named_endpoint(model, mode)
                tf.saved_model.save(module, temporary, signatures={mode: module.run})
                converter = tf.lite.TFLiteConverter.from_saved_model(temporary, signature_keys=[mode])
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
                data = converter.convert()
                check(folder / file, data)  # what could not be opened again is not written
                (folder / file).write_bytes(data)

    @staticmethod
    def snippets(modes: Mapping[str, str], takes: str) -> list[str]:
        return [f'ai_edge_litert.interpreter.Interpreter("{file}")' for file in modes.values()]

    def logits(self, x: Any, mode: str, seed: int | None = None) -> np.ndarray:
        x = self._array(x)
        given = {self._input: x, "seed": np.array(seed, np.int32)} if mode == "mc" else {self._input: x}
        with self._lock:
            try:
                with bounded(self.paths[mode]):  # no operator on the list repeats others, so every run ends
                    if mode not in self._open:
                        self._open[mode] = self._opened(mode)
                    return self._run(*self._open[mode], given)
            except BadInput:
                raise
            except Exception as error:  # the runtime raises exceptions of any type
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
        """Returns the interpreter of a mode's file, its inputs by name, and its output, checked against the card."""
        data = read_bytes(self.paths[mode])
        check(self.paths[mode], data)
        interpreter = quietly(lambda: self._start(data))  # it prints a line about XNNPACK
        expected = self._expected(mode)
        inputs = _named(interpreter.get_input_details(), expected)
        compare(self.paths[mode], "inputs", {name: _described(x) for name, x in inputs.items()}, expected)
        outputs = interpreter.get_output_details()
        declared = {"logits" if len(outputs) == 1 else x["name"]: _described(x) for x in outputs}
        compare(self.paths[mode], "outputs", declared, {"logits": ("float32", (-1, self._classes))})
        return interpreter, inputs, outputs[0]

    def _start(self, data):
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=data, num_threads=self.threads or os.cpu_count())
        interpreter.allocate_tensors()
        return interpreter


def _described(tensor):
    """Returns the (type, shape with -1 for any size) that LiteRT declares for an input or output."""
    return np.dtype(tensor["dtype"]).name, tuple(int(size) for size in tensor["shape_signature"])


def _named(tensors, expected):
    """Returns the tensors by expected name. Converters extend names, so type and rank decide if no name fits."""
    by_name = {}
    for tensor in tensors:
        dtype, shape = _described(tensor)
        fitting = [name for name in expected if name in tensor["name"]]
        fitting += [name for name, (kind, form) in expected.items() if (kind, len(form)) == (dtype, len(shape))]
        by_name[next((name for name in fitting if name not in by_name), tensor["name"])] = tensor
    return by_name


# === A file before it is run ===


def check(path: Path, data: bytes) -> None:
    """Checks that a LiteRT file has only operators of exported models and keeps all data inside.

    Custom operators, such as those that need TensorFlow (Flex), run foreign code.

    Args:
        path: the file, for messages.
        data: its contents.

    Raises:
        BadInput: it has others, or is not a LiteRT file.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        complete = schema.Model.ModelBufferHasIdentifier(data, 0)
        model = schema.Model.GetRootAs(data, 0)
        codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
        custom = [code.CustomCode() or b"" for code in codes if schema.BuiltinOperator.CUSTOM in _numbers(code)]
        builtin = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
        # Files of before 2020 have the number in the deprecated field, later ones in both or in the new one.
        used = [builtin.get(max(_numbers(code)), str(max(_numbers(code)))) for code in codes]
        graphs = [model.Subgraphs(i).OperatorsLength() for i in range(model.SubgraphsLength())]
        outside = model.ExternalBufferGroupsLength() or model.ExternalBuffersLength()
    except Exception as error:  # damaged tables raise exceptions of any type
        raise broken(path, "LiteRT") from error
    if not complete:
        raise broken(path, "LiteRT")
    if custom:
        raise BadInput(
            f"{path} must have only operators built into LiteRT, got the custom operator "
            f"{custom[0].decode('utf-8', 'replace')!r}; export the model again"
        )
    for name in used:
        if name not in operators.LITERT:
            raise BadInput(
                f"{path} must have only operators that layers of Keras are exported to, got {name}; load only files "
                "that you trust, or export the model again"
            )
    if sum(graphs) > MOST_NODES:
        raise BadInput(f"{path} must have at most {MOST_NODES:,} operators, got {sum(graphs):,}; use another model")
    if outside:
        raise BadInput(f"{path} must keep all data inside, got data in another file; export the model again")


def _numbers(code):
    return code.BuiltinCode(), code.DeprecatedBuiltinCode()
