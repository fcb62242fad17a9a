"""The runtimes that need TensorFlow: Keras itself, and SavedModels.

They have the interface of `zoo.artefacts.runtimes`: `logits(x, mode, seed)` for one
batch, `samples(x, seeds)` for several mc samples of it.
"""

from pathlib import Path

import numpy as np

from zoo import startup
from zoo.artefacts import trust
from zoo.errors import BadInput


def read_keras(path):
    """The model in a `.keras` file, opened in safe mode after `trust.check_keras`.

    Raises `BadInput` if the file is missing, damaged or holds more than layers of Keras.
    """
    trust.check_keras(path)
    startup.tensorflow()
    import keras

    try:
        return keras.models.load_model(path, safe_mode=True, compile=False)
    except Exception as error:  # Keras raises what its layers raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(f"Keras cannot open {path}: {first}; export or train it again") from error


class Keras:
    """`model.keras`. Many mc samples cost little more than what stands behind the first dropout."""

    def __init__(self, folder, card, threads=None):
        startup.tensorflow(threads)
        self.modes = tuple(card["formats"]["keras"])
        self._model = read_keras(Path(folder) / card["formats"]["keras"]["inference"])
        self._text = card["input"]["kind"] == "text"
        self._run, self._sampler = {}, None

    def logits(self, x, mode, seed=None):
        """Logits `(batch, classes)` of one batch."""
        if mode not in self._run:
            self._run[mode] = self._compiled(mode)
        x = _tensor(x, self._text)
        return (self._run[mode](x) if mode == "inference" else self._run[mode](x, _seed(seed))).numpy()

    def _compiled(self, mode):
        import tensorflow as tf

        from zoo.artefacts.formats import endpoint

        function, signature = endpoint(self._model, mode)
        return tf.function(function, input_signature=signature, autograph=False).get_concrete_function()

    def samples(self, x, seeds):
        """Logits `(samples, batch, classes)` in mode mc, a seed each."""
        if self._sampler is None:
            from zoo.montecarlo import Sampler

            self._sampler = Sampler(self._model)
        return self._sampler.samples(_tensor(x, self._text), seeds)


class SavedModel:
    """`savedmodel/`, by its endpoints `serve(x)`, `mc(x, seed)` and `training(x, seed)`."""

    def __init__(self, folder, card, threads=None):
        startup.tensorflow(threads)
        import tensorflow as tf

        self.modes = tuple(card["formats"]["savedmodel"])
        path = Path(folder) / card["formats"]["savedmodel"]["inference"]
        trust.check_savedmodel(path)
        try:
            self._loaded = tf.saved_model.load(str(path))
            names = {"inference": "serve", "mc": "mc", "training": "training"}
            self._run = {mode: getattr(self._loaded, names[mode]) for mode in self.modes}
        except Exception as error:  # TensorFlow raises many kinds for a damaged file
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadInput(f"TensorFlow cannot open {path}: {first}; export it again") from error
        self._text = card["input"]["kind"] == "text"

    def logits(self, x, mode, seed=None):
        """Logits `(batch, classes)` of one batch."""
        x = _tensor(x, self._text)
        return (self._run[mode](x) if mode == "inference" else self._run[mode](x, _seed(seed))).numpy()

    def samples(self, x, seeds):
        """Logits `(samples, batch, classes)` in mode mc, a seed each."""
        return np.stack([self.logits(x, "mc", seed) for seed in seeds])


def _seed(seed):
    import tensorflow as tf

    return tf.constant(seed, tf.int32)


def _tensor(x, text):
    import tensorflow as tf

    return tf.constant(list(x), tf.string) if text else tf.convert_to_tensor(x)
