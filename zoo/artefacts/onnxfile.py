"""An ONNX file before it is run: what it would call and read, told from its bytes.

ONNX Runtime itself would open other files that a model names, and has operators that are
not ONNX's own. Needs nothing but the bytes, so that it holds wherever ONNX Runtime is.
"""

from zoo.errors import BadInput

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
# Message of the format -> the number of each field that is a message with operators or data in it -> that message.
_WITHIN = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_NODE_DOMAIN, _EXTERNAL, _LOCATION = 7, 13, 14


def check(path, data):
    """Refuse a model of other operators than ONNX's own, or with data in other files.

    Raises `BadInput`, also for bytes that are no ONNX file.
    """
    todo = [("model", memoryview(data))]
    while todo:
        kind, message = todo.pop()
        if kind == "function":
            raise BadInput(f"{path} defines operators of its own; allowed are those of ONNX: export the model again")
        for number, value in _fields(path, message):
            if isinstance(value, int) and number != _LOCATION:
                continue  # no field that matters here is a number
            if number in _WITHIN[kind]:
                todo.append((_WITHIN[kind][number], value))
            elif kind == "node" and number == _NODE_DOMAIN:
                _check_domain(path, value)
            elif kind == "tensor" and (number == _EXTERNAL or (number == _LOCATION and value != 0)):
                raise BadInput(f"{path} keeps data in another file; allowed is one file: export the model again")


def _check_domain(path, value):
    domain = bytes(value).decode("utf-8", "replace")
    if domain not in DOMAINS:
        raise BadInput(
            f"{path} has an operator of the domain {domain!r}; allowed are those of ONNX itself "
            f"({', '.join(DOMAINS[1:])}): export the model again"
        )


def _fields(path, message):
    """The fields of a message in protobuf's wire format: (number, whole number or bytes)."""
    at = 0
    try:
        while at < len(message):
            key, at = _varint(message, at)
            if key >> 32:
                raise IndexError
            wire = key & 7
            if wire == 0:
                value, at = _varint(message, at)
            elif wire in (1, 2, 5):
                size, at = _varint(message, at) if wire == 2 else (8 if wire == 1 else 4, at)
                value, at = message[at : at + size], at + size
            else:
                raise IndexError
            if at > len(message):
                raise IndexError
            yield key >> 3, value
    except IndexError:
        raise BadInput(f"{path} is no whole ONNX file; copy or export the artefact again") from None


def _varint(message, at):
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise IndexError
