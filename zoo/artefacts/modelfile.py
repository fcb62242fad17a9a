"""What the files of all runtimes have in common: how they are read, compared with the card, and refused."""

from zoo.errors import BadInput

LARGEST = 2**31 - 1  # bytes of a file; neither ONNX nor LiteRT can hold more in one


def compare(path, what, found, expected):
    """Refuse a model whose inputs or outputs, name -> (type, shape with -1 for any size), are not as expected."""
    fits = found.keys() == expected.keys() and all(
        found[name][0] == dtype and _fits(found[name][1], shape) for name, (dtype, shape) in expected.items()
    )
    if not fits:
        raise BadInput(
            f"{path} has the {what} {_listed(found)}; its card.json promises {_listed(expected)}: "
            "export the model again"
        )


def _fits(found, shape):
    """Whether a declared shape can be `shape`. Files may leave sizes open, but not fix one that is to be open."""
    return len(found) == len(shape) and all(a in (-1, b) for a, b in zip(found, shape, strict=True))


def _listed(tensors):
    return ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in tensors.items()) or "none"


def read_bytes(path):
    """The whole file."""
    try:
        if path.stat().st_size > LARGEST:
            raise BadInput(f"{path} has more than {LARGEST:,} bytes, which no file of its format has; export it again")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path} ({error.strerror}); give a whole artefact folder") from error


def failed(path, runtime, error):
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return BadInput(f"{path} cannot be run by {runtime} ({first[:200]}); copy or export the artefact again")
