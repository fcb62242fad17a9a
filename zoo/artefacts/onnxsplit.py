"""An ONNX graph in two parts, so that Monte-Carlo samples cost little more than one pass.

What the seed does not reach gives the same values in every sample. It runs once; only the
rest is repeated.
"""

# Operators whose values differ from run to run, whatever they read.
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
RANDOM += ("Dropout",)


class Split:
    """A graph cut in two: `once`, which its input `seed` does not reach, and the rest, repeated for each seed.

    `between` names the tensors that the first hands to the second; `passed` the other
    inputs that the second reads. Weights, and what is computed from weights alone, go to
    whichever part reads them.
    """

    def __init__(self, data, seed):
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

    def once(self):
        """The first part, as the bytes of an ONNX file."""
        graph = self._model.graph
        made = {name for node in self._once for name in _reads(node)}
        outputs = [_untyped(name) for name in self.between]
        return self._part(self._once, [x for x in graph.input if x.name in made], outputs)

    def repeated(self, values, shapes):
        """The second part; `values` and `shapes` are what the first gave for `between`, and what it declares."""
        from onnx import helper

        typed = []
        for name, value, shape in zip(self.between, values, shapes, strict=True):
            shape = shape if len(shape) == value.ndim else [None] * value.ndim
            typed.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), shape))
        read = {name for node in self._repeated for name in _reads(node)}
        given = [x for x in self._model.graph.input if x.name in read]
        return self._part(self._repeated, given + typed, self._model.graph.output)

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
    """The nodes of a graph that the seed reaches, that the other inputs alone reach, and that no input reaches."""
    sown, grown = {seed}, set(given)
    parts = {"repeated": [], "once": [], "constant": []}
    for node in graph.node:
        read = _reads(node)
        part = "repeated" if node.op_type in RANDOM or read & sown else "once" if read & grown else "constant"
        parts[part].append(node)
        if part != "constant":
            (sown if part == "repeated" else grown).update(name for name in node.output if name)
    return parts


def _reads(node):
    """The names that a node reads, those that the graphs within it read included."""
    found = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            found |= {x.name for x in graph.output}
            for inner in graph.node:
                found |= _reads(inner)
    return found - {""}


def _untyped(name):
    import onnx

    return onnx.ValueInfoProto(name=name)
