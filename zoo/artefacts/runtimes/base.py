"""The interface of the runtimes, and how they read and check their files."""

import abc
import importlib.util
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from zoo import reading, startup
from zoo.artefacts.inputs.tokens import Tokens
from zoo.data.text import load_vocabulary
from zoo.errors import BadInput

if TYPE_CHECKING:
    import keras

LARGEST = 2**31 - 1  # bytes; ONNX and LiteRT files cannot be larger


class Runtime(abc.ABC):
    """One way to run an exported model.

    Its results do not depend on earlier calls. Several threads can call it: what it opens, traces or splits at a
    first call, it does under `self._opening`, once.

    Attributes:
        name: its key in the `formats` of a card.
        title: the name of its file format.
        packages: modules that must be installed to run it.
        distributions: packages whose versions a card records.
        takes: the input of a text model in this format, `text` or `tokens`.
        files: the file of each mode inside an artefact.

    Args:
        folder: the folder of the artefact.
        card: its card.
        threads: number of threads; all cores if None.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    distributions: tuple[str, ...] = ()
    takes: str = "text"
    files: ClassVar[dict[str, str]]

    def __init__(self, folder: str | Path, card: Mapping[str, Any], threads: int | None = None) -> None:
        self.card, self.threads = card, threads
        self.paths = {mode: Path(folder) / file for mode, file in card["formats"][self.name].items()}
        self.modes = tuple(self.paths)
        self._classes = len(card["output"]["labels"])
        self._opening = threading.Lock()

    @classmethod
    def missing(cls) -> list[str]:
        """Returns the packages that must be installed to run it and are not."""
        return [package for package in cls.packages if importlib.util.find_spec(package) is None]

    @classmethod
    @abc.abstractmethod
    def write(cls, model: "keras.Model", folder: Path, modes: Mapping[str, str]) -> None:
        """Writes `model` into `folder`, each mode into the file that `modes` names.

        Raises:
            RunFailed: the format cannot express the model.
        """

    @staticmethod
    @abc.abstractmethod
    def snippets(modes: Mapping[str, str], takes: str) -> list[str]:
        """Returns lines of Python that run the files without this project; `takes` is the name of the input."""

    @abc.abstractmethod
    def logits(self, x: Any, mode: str, seed: int | None = None) -> np.ndarray:
        """Returns float32 logits `(n, classes)` of one chunk: uint8 pixels, or a list of texts."""

    def samples(self, x: Any, seeds: Sequence[int]) -> np.ndarray:
        """Returns logits `(len(seeds), n, classes)` in mode mc, one sample for each seed."""
        return np.stack([self.logits(x, "mc", seed) for seed in seeds])

    def shared_samples(self, x: Any, seeds: Sequence[int]) -> np.ndarray:
        """Returns `samples` with one mask for all examples of a sample.

        A mask is a function of the seed and of the place in the tensor, so the masks of the first example are those
        that every example gets if it comes alone. Files of earlier versions can do this, too.
        """
        return np.concatenate([self.samples(x[i : i + 1], seeds) for i in range(len(x))], axis=1)


class OverTokens(Runtime):
    """A runtime whose text models take token ids, because it has no operators for text."""

    takes = "tokens"

    def __init__(self, folder: str | Path, card: Mapping[str, Any], threads: int | None = None) -> None:
        super().__init__(folder, card, threads)
        given = card["input"]
        self._input, self._shape, self._tokens = given["name"], tuple(given["shape"]), None
        if given["kind"] == "text":
            self._tokens = Tokens(load_vocabulary(Path(folder) / given["vocabulary"]), *self._shape)

    def _array(self, x):
        return x if self._tokens is None else self._tokens(x)

    def _expected(self, mode):
        """Returns the inputs of a mode's file: name -> (type, shape)."""
        x = {self._input: (self.card["input"]["dtype"], (-1, *self._shape))}
        return x | {"seed": ("int32", ())} if mode == "mc" else x


class InTensorFlow(Runtime):
    """A runtime inside TensorFlow."""

    packages = ("tensorflow", "keras")

    def __init__(self, folder: str | Path, card: Mapping[str, Any], threads: int | None = None) -> None:
        super().__init__(folder, card, threads)
        startup.tensorflow(threads)
        self._text = card["input"]["kind"] == "text"

    @abc.abstractmethod
    def _function(self, mode):
        """Returns the function of a mode: of `x` in inference, of `x` and `seed` otherwise."""

    def logits(self, x: Any, mode: str, seed: int | None = None) -> np.ndarray:
        import tensorflow as tf

        x, function = self._tensor(x), self._function(mode)
        return (function(x) if mode == "inference" else function(x, tf.constant(seed, tf.int32))).numpy()

    def _tensor(self, x):
        import tensorflow as tf

        return tf.constant(list(x), tf.string) if self._text else tf.convert_to_tensor(x)


def compare(path: Path, what: str, declared: Mapping[str, tuple], expected: Mapping[str, tuple]) -> None:
    """Checks the inputs or outputs of a file.

    Args:
        path: the file, for the message.
        what: `inputs` or `outputs`.
        declared: name -> (type, shape with -1 for any size), as the file declares them.
        expected: the same, as the card states them.

    Raises:
        BadInput: they differ.
    """
    fits = declared.keys() == expected.keys() and all(
        declared[name][0] == dtype and _fits(declared[name][1], shape) for name, (dtype, shape) in expected.items()
    )
    if not fits:
        raise BadInput(
            f"{what} of {path} must be {_listed(expected)}, as its card.json says, got {_listed(declared)}; "
            "export the model again"
        )


def _fits(declared, shape):
    """Returns whether a declared shape allows `shape`. A file may leave sizes open, but not fix an open one."""
    return len(declared) == len(shape) and all(a in (-1, b) for a, b in zip(declared, shape, strict=True))


def _listed(tensors):
    return ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in tensors.items()) or "none"


def read_bytes(path: Path) -> bytes:
    """Returns the contents of a file. Raises `BadInput` if it is too large or cannot be read."""
    return reading.read_bytes(path, LARGEST, "copy or export the artefact again")


def first_line(error: Exception) -> str:
    """Returns the first line of an exception's message that says why, or the name of the exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # TensorFlow begins with lines such as "Graph execution error:" and "<stack traces unavailable>".
    telling = [line for line in lines if not line.endswith(":") and not line.startswith("<")]
    return (telling or lines or [type(error).__name__])[0][:200]


def failed(path: Path, runtime: str, error: Exception) -> BadInput:
    """Returns the exception for a file that a runtime cannot run."""
    return BadInput(f"{runtime} cannot run {path}: {first_line(error)}; copy or export the artefact again")


def broken(path: Path, title: str) -> BadInput:
    """Returns the exception for bytes that are not a complete file of their format."""
    return BadInput(f"cannot read {path}: it is not a complete {title} file; copy or export the artefact again")


def quietly(call: Callable[[], Any]) -> Any:
    """Returns the result of `call`, without what native code prints on stderr."""
    with startup.held_stderr():
        try:
            return call()
        except Exception as error:
            failure = error
    raise failure
