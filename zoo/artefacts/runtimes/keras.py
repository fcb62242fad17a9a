"""The Keras runtime: checks a `.keras` file, opens it in safe mode, and runs it.

Keras' safe mode refuses pickled code. It still allows layers that read other files or name
Python modules, and weights that point outside their file; `check_keras` refuses such files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zoo import keras_file, startup
from zoo.artefacts.runtimes.base import InTensorFlow, first_line
from zoo.errors import BadInput

if TYPE_CHECKING:
    import keras
    import numpy as np

_ACTING = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "NNXLayer")


class Keras(InTensorFlow):
    """Runs `model.keras`. Monte-Carlo samples repeat only what comes after the first dropout."""

    name, title = "keras", "Keras"
    distributions = ("tensorflow", "keras")
    files: ClassVar = {"inference": "model.keras", "mc": "model.keras", "training": "model.keras"}

    def __init__(self, folder: str | Path, card: Mapping[str, Any], threads: int | None = None) -> None:
        super().__init__(folder, card, threads)
        self._model = read_keras(self.paths["inference"])
        self._compiled: dict[str, Any] = {}
        self._samplers: dict[str, Any] = {}

    @classmethod
    def write(cls, model: "keras.Model", folder: Path, modes: Mapping[str, str]) -> None:
        model.save(folder / modes["inference"])

    @staticmethod
    def snippets(modes: Mapping[str, str], takes: str) -> list[str]:
        return [f'keras.saving.load_model("{modes["inference"]}")(x)  # training=True leaves dropout on']

    def samples(self, x: Any, seeds: Sequence[int]) -> "np.ndarray":
        return self._sampler("per-example").samples(self._tensor(x), seeds)

    def shared_samples(self, x: Any, seeds: Sequence[int]) -> "np.ndarray":
        try:
            sampler = self._sampler("shared")
        except BadInput:  # a layer draws for each example in its own code
            return super().shared_samples(x, seeds)
        return sampler.samples(self._tensor(x), seeds)

    def _sampler(self, masks):
        with self._opening:
            if masks not in self._samplers:
                from zoo.modes.montecarlo import Sampler

                self._samplers[masks] = Sampler(self._model, masks)
            return self._samplers[masks]

    def _function(self, mode):
        with self._opening:
            if mode not in self._compiled:
                import tensorflow as tf

                from zoo.artefacts.formats import endpoint

                function, signature = endpoint(self._model, mode)
                compiled = tf.function(function, input_signature=signature, autograph=False)
                self._compiled[mode] = compiled.get_concrete_function()
            return self._compiled[mode]


def model_file(folder: Path, card: dict) -> Path:
    """Returns the `.keras` file of an artefact. Raises `BadInput` if it has none."""
    if "keras" not in card["formats"]:
        raise BadInput(
            f"cannot find a .keras file in {folder}; export the run again with --formats keras, or give the run itself"
        )
    return folder / card["formats"]["keras"]["inference"]


def read_keras(path: str | Path) -> "keras.Model":
    """Returns the model in a `.keras` file, opened in safe mode after `check_keras`.

    Raises:
        BadInput: the file is missing, damaged, or holds more than layers of Keras.
    """
    check_keras(path)
    startup.tensorflow()
    try:
        return keras_file.load(path)
    except BadInput:
        raise
    except Exception as error:  # Keras raises whatever its layers raise
        raise BadInput(f"cannot open {path} in Keras: {first_line(error)}; export or train it again") from error


# === A file before it is opened ===


def check_keras(path: str | Path) -> None:
    """Checks that a `.keras` file holds only layers of Keras and their weights.

    Raises:
        BadInput: it holds anything else, or is damaged.
    """
    path = Path(path)
    config, _ = keras_file.contents(path)
    for entry in _entries(config):
        _check_entry(path, entry)


def _entries(value):
    """Yields every serialised object in a configuration."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for part in value.values():
            yield from _entries(part)
    elif isinstance(value, list):
        for part in value:
            yield from _entries(part)


def _check_entry(path, entry):
    module, name = entry.get("module"), entry["class_name"]
    ours = module is None or module == "builtins" or str(module).partition(".")[0] == "keras"
    config = entry.get("config")
    reads = isinstance(config, dict) and isinstance(config.get("vocabulary"), str)
    if not ours or name in _ACTING or ">" in str(entry.get("registered_name")) or reads:
        what = "a vocabulary in another file" if reads else f"the object {module}.{name}"
        raise BadInput(
            f"{path} must hold only layers of Keras to be exported or opened here, got {what}, which could run code or "
            "read files; open it in code of your own"
        )
