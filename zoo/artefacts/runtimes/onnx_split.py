"""Splits an ONNX graph in two parts, so that Monte-Carlo samples cost little more than one pass.

Everything that does not depend on the seed gives the same values in every sample and runs
once. Only the rest is repeated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Operators that draw random values of their own.
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
RANDOM += ("Dropout",)
_REPEATING = ("Add", "And", "Div", "Mul", "Or", "Sub", "Where")  # operators that repeat an input along an axis of 1


class Split:
    """An ONNX graph in two parts: one that does not depend on the input `seed`, and one repeated for each seed.

    Weights, and what is computed from weights alone, go to every part that reads them.

    Args:
        data: the bytes of an ONNX file.
        seed: name of the input for the seed.

    Attributes:
        between: names of the tensors that the first part passes to the second.
        passed: names of the other inputs that the second part reads.
        saves: whether splitting saves work.
    """

    def __init__(self, data: bytes, seed: str) -> None:
        import onnx

        self._model = onnx.load_from_string(data)
        graph = self._model.graph
        inputs = [x.name for x in graph.input if x.name not in {weight.name for weight in graph.initializer}]
        parts = _sorted(graph, seed, set(inputs) - {seed})
        self._repeated = parts["repeated"]
        made = {name for node in parts["once"] for name in node.output}
        read = {name for node in self._repeated for name in _reads(node)}
        self.between, self.passed = sorted(made & read), sorted(read & set(inputs) - {seed})
        produced = {name for node in self._repeated for name in node.output}
        self.saves = bool(self.between) and all(x.name in produced for x in graph.output)
        self._constant, self._once = parts["constant"], parts["once"]
        self._applying, self._masks = self._separate(seed)

    def once(self) -> bytes:
        """Returns the first part as the bytes of an ONNX file."""
        graph = self._model.graph
        read = {name for node in self._once for name in _reads(node)}
        outputs = [_untyped(name) for name in self.between]
        return self._part(self._once, [x for x in graph.input if x.name in read], outputs)

    def repeated(self, values: Sequence[np.ndarray], shapes: Sequence[Sequence[Any]]) -> bytes:
        """Returns the second part as the bytes of an ONNX file.

        Args:
            values: the values of `between` that the first part computed for some input.
            shapes: the shapes that the first part declares for them.
        """
        from onnx import helper

        typed = []
        for name, value, shape in zip(self.between, values, shapes, strict=True):
            shape = shape if len(shape) == value.ndim else [None] * value.ndim
            typed.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), shape))
        read = {name for node in self._repeated for name in _reads(node)}
        given = [x for x in self._model.graph.input if x.name in read]
        return self._part(self._repeated, given + typed, self._model.graph.output)

    def masks(self) -> tuple[bytes, list[str]] | None:
        """Returns the whole graph with the masks as its outputs, as the bytes of an ONNX file, and their names.

        Masks depend on the seed and on the shapes of tensors. Those that are drawn for one example have a first
        axis of 1, and so can be applied to any number of examples by `applied`.

        Returns:
            None if an operator takes a mask that cannot repeat it for all examples.
        """
        if not self._masks or any(node.op_type not in _REPEATING for node in self._applying if self._takes_mask(node)):
            return None
        graph = type(self._model)()
        graph.CopyFrom(self._model)
        del graph.graph.output[:]
        graph.graph.output.extend(_untyped(name) for name in self._masks)
        return graph.SerializeToString(), self._masks

    def applied(self, between: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray]) -> bytes:
        """Returns what is repeated for each seed once its masks are drawn, as the bytes of an ONNX file.

        Args:
            between: values of `between` for some input.
            masks: values of the masks for one example.
        """
        from onnx import helper

        read = {name for node in self._applying for name in _reads(node)}
        given = [x for x in self._model.graph.input if x.name in read]
        for name, value in {**between, **masks}.items():
            if name in read:
                kind, shape = helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
                given.append(helper.make_tensor_value_info(name, kind, shape))
        return self._part(self._applying, given, self._model.graph.output)

    def _takes_mask(self, node):
        return not _reads(node).isdisjoint(self._masks)

    def _separate(self, seed):
        """Returns the nodes that apply masks, and the names of the masks, empty if masks cannot be told apart."""
        graph = self._model.graph
        constant = {name for node in self._constant for name in node.output}
        constant |= {weight.name for weight in graph.initializer}
        shapes: set[str] = set()
        for node in graph.node:
            read = _reads(node)
            if node.op_type in ("Shape", "Size") or (read & shapes and read <= shapes | constant):
                shapes |= set(node.output)
        drawn, applying = {seed}, []
        for node in self._repeated:
            read = _reads(node)
            if node.op_type not in RANDOM and read & drawn and read <= shapes | constant | drawn:
                drawn |= set(node.output)
            else:
                applying.append(node)
        read = {name for node in applying for name in _reads(node)}
        apart = seed not in read and not any(output.name in drawn for output in graph.output)
        return applying, sorted(read & drawn) if apart else []

    def _part(self, nodes, inputs, outputs):
        import onnx

        needed = {name for node in nodes for name in _reads(node)}
        constants = []
        for node in reversed(self._constant):
            if needed & set(node.output):
                constants.insert(0, node)
                needed |= _reads(node)
        graph = self._model.graph
        part = onnx.ModelProto(ir_version=self._model.ir_version, opset_import=self._model.opset_import)
        part.graph.name = graph.name or "part"
        part.graph.node.extend([*constants, *nodes])
        part.graph.input.extend(x for x in inputs)
        part.graph.output.extend(outputs)
        part.graph.initializer.extend(x for x in graph.initializer if x.name in needed)
        part.graph.sparse_initializer.extend(x for x in graph.sparse_initializer if x.values.name in needed)
        return part.SerializeToString()


def _sorted(graph, seed, given):
    """Returns the nodes that depend on the seed, that depend on other inputs alone, and that depend on no input."""
    seeded, fed = {seed}, set(given)
    parts = {"repeated": [], "once": [], "constant": []}
    for node in graph.node:
        read = _reads(node)
        part = "repeated" if node.op_type in RANDOM or read & seeded else "once" if read & fed else "constant"
        parts[part].append(node)
        if part != "constant":
            (seeded if part == "repeated" else fed).update(name for name in node.output if name)
    return parts


def _reads(node):
    """Returns the names that a node reads, including those that the graphs inside it read."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            names |= {x.name for x in graph.output}
            for inner in graph.node:
                names |= _reads(inner)
    return names - {""}


def _untyped(name):
    import onnx

    return onnx.ValueInfoProto(name=name)
