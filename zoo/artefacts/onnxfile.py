"""An ONNX file before it is run: what it would read and call.

ONNX Runtime opens other files that a model names, and has operators that are not ONNX's own.
"""

from zoo.errors import BadInput

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


def check(path, data):
    """Refuse a model of other operators than ONNX's own, or with data in other files.

    Raises `BadInput`, also for bytes that are no ONNX file.
    """
    import onnx

    try:
        model = onnx.load_from_string(data)  # opens no other file
    except Exception as error:  # protobuf's own errors differ from version to version
        raise _broken(path) from error
    if not model.graph.output:
        raise _broken(path)
    if model.functions:
        raise BadInput(f"{path} defines operators of its own; allowed are those of ONNX: export the model again")
    nodes, tensors = _contents(model.graph)
    for domain in sorted({node.domain for node in nodes} - set(DOMAINS)):
        raise BadInput(
            f"{path} has an operator of the domain {domain!r}; allowed are those of ONNX itself "
            f"({', '.join(DOMAINS[1:])}): export the model again"
        )
    if any(tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT for tensor in tensors):
        raise BadInput(f"{path} keeps data in another file; allowed is one file: export the model again")


def _contents(graph):
    """All nodes and tensors of a graph, those of the graphs within its nodes included."""
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


def _broken(path):
    return BadInput(f"{path} is no whole ONNX file; copy or export the artefact again")
