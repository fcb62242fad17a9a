"""An artefact opened: checked, and run in the runtime of your choice or the fastest that is there.

    import zoo
    artefact = zoo.load("saved_models/cnn-digits-default")
    artefact.predict(images).classes
    artefact.predict(images, mode="mc", samples=50).mutual_information

Neither TensorFlow nor Keras is imported for ONNX and LiteRT.
"""

import importlib
import importlib.util
import secrets
from numbers import Integral
from pathlib import Path

import numpy as np

from zoo.artefacts import contract, inputs, sums
from zoo.artefacts.predictions import Predictions
from zoo.errors import BadInput
from zoo.seeds import seed_for

SHELF = Path(__file__).parent.parent.parent / "saved_models"
BATCH = 256
MOST_SAMPLES = 10_000
# Runtime -> where its class is, and the packages that it needs.
_RUNTIMES = {
    "onnx": ("zoo.artefacts.runtimes", "Onnx", ("onnxruntime", "onnx")),
    "litert": ("zoo.artefacts.runtimes", "LiteRT", ("ai_edge_litert",)),
    "savedmodel": ("zoo.artefacts.programs", "SavedModel", ("tensorflow", "keras")),
    "keras": ("zoo.artefacts.programs", "Keras", ("tensorflow", "keras")),
}


def load(folder, runtime="auto", threads=None):
    """Open the artefact in `folder`, or the one of that name in `saved_models/`.

    Args:
        folder: a folder that `python -m zoo export` made.
        runtime: `onnx`, `litert`, `savedmodel` or `keras`; `auto` is the first of these that
            the artefact has, that is installed here and that can do the mode asked for.
        threads: how many the runtime may use; all cores if None.

    Raises:
        BadInput (a ValueError): a folder whose files are not those that were exported, a card
            that is wrong, or a runtime that is not there. No model has been opened then.
    """
    if runtime != "auto" and runtime not in _RUNTIMES:
        raise BadInput(f"received runtime {runtime!r}; allowed: auto, {', '.join(_RUNTIMES)}")
    if threads is not None:
        _check_whole("threads", threads, 1, 1024)
    folder = _found(folder)
    sums.check(folder)
    card = contract.read(folder)
    return Artefact(folder, card, _choice(folder, card, runtime), threads)


def _found(folder):
    try:
        path = Path(folder).expanduser()
    except (TypeError, RuntimeError) as error:  # no path, or the home of nobody
        raise BadInput(f"received the artefact {folder!r} ({error}); give the path of a folder") from error
    shipped = SHELF / path if len(path.parts) == 1 else None
    if not path.exists() and shipped is not None and shipped.is_dir():
        path = shipped
    if not path.exists():
        names = sorted(card.parent.name for card in SHELF.glob(f"*/{contract.NAME}"))
        raise BadInput(
            f"there is no artefact {str(folder)!r}; give the folder of one, or the name of one in saved_models/: "
            f"{', '.join(names) or 'there are none, so export one with python -m zoo export'}"
        )
    if not (path / contract.NAME).exists():
        raise BadInput(
            f"received {path}, which is no artefact (it has no {contract.NAME}); give a folder that "
            "`python -m zoo export RUN_DIR` made"
        )
    return path


def _choice(folder, card, runtime):
    """The runtimes to use, the first choice first."""
    has = [name for name in _RUNTIMES if name in card["formats"]]
    if runtime == "auto":
        there = [name for name in has if not _lacking(name)]
        if there:
            return there
        packages = sorted({package for name in has for package in _lacking(name)})
        raise BadInput(
            f"no runtime of {folder} is installed ({', '.join(has)}); install one of the packages {', '.join(packages)}"
        )
    if runtime not in has:
        raise BadInput(f"received runtime {runtime!r}, for which {folder} has no file; it has {', '.join(has)}")
    if _lacking(runtime):
        raise BadInput(
            f"received runtime {runtime!r}, which needs the package {_lacking(runtime)[0]}; install it, or take "
            f"another of {', '.join(has)}"
        )
    return [runtime]


def _lacking(name):
    return [package for package in _RUNTIMES[name][2] if importlib.util.find_spec(package) is None]


class Artefact:
    """An exported model. `load` makes it.

    `card` is its card.json, `name` and `labels` are from there; `runtime` is the one that
    inference uses; `modes` is what can be asked of `logits`.
    """

    def __init__(self, folder, card, runtimes, threads=None):
        self.folder, self.card, self.name = Path(folder), card, card["name"]
        self.labels, self.runtime = tuple(card["output"]["labels"]), runtimes[0]
        self._runtimes, self._threads, self._open = runtimes, threads, {}
        self.modes = tuple(mode for mode in contract.MODES if any(mode in card["formats"][name] for name in runtimes))

    def predict(self, x, mode="inference", samples=1, seed=None, batch_size=BATCH):
        """`Predictions` for images, or texts.

        Args:
            x: pixels of 0 to 255, `(n, height, width, channels)`, or one image without the n; a
                text model takes a str or a list of them.
            mode: `inference`, or `mc`: dropout stays on, and `samples` passes are averaged.
            samples: how many, in mc.
            seed: decides what is dropped in mc, a whole number of 32 bits with sign; without
                one, each call draws its own and reports it.
            batch_size: examples of one pass. Masks differ from example to example of a pass,
                so results in mc are a function of `x`, `samples`, `seed` and `batch_size` alone.

        Raises `BadInput` (a ValueError) for anything else.
        """
        name, runtime = self._for(mode, ("inference", "mc"))
        samples, seed = _checked(mode, samples, seed)
        _check_whole("batch_size", batch_size, 1, 2**31)
        x, parts = inputs.batch(x, self.card), []
        for start in range(0, len(x), batch_size):
            chunk = x[start : start + batch_size]
            if mode == "mc":
                logits = runtime.samples(chunk, sample_seeds(seed, samples, start // batch_size))
                parts.append(self._sound(name, logits, (samples, len(chunk))))
            else:
                parts.append(self._sound(name, runtime.logits(chunk, mode), (len(chunk),)))
        logits = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)
        return Predictions(self.labels, mode, name, seed, logits)

    def logits(self, x, mode="inference", seed=None):
        """float32 `(n, classes)` of one pass over all of `x`, also in mode `training` where the runtime has it.

        In `training` and `mc`, `seed` decides what is dropped; without one it is drawn.
        """
        name, runtime = self._for(mode, contract.MODES)
        seed = None if mode == "inference" else _checked("mc", 1, seed)[1]
        x = inputs.batch(x, self.card)
        return self._sound(name, runtime.logits(x, mode, seed), (len(x),))

    def _for(self, mode, allowed):
        """The name of the runtime that does a mode, and the runtime, opened once."""
        if mode not in allowed:
            more = "; training, by .logits alone" if mode == "training" else ""
            raise BadInput(f"received mode {mode!r}; allowed: {', '.join(allowed)}{more}")
        formats = self.card["formats"]
        name = next((name for name in self._runtimes if mode in formats[name]), None)
        if name is None:
            raise BadInput(self._why_not(mode, [other for other in formats if mode in formats[other]]))
        if name not in self._open:
            module, kind, _ = _RUNTIMES[name]
            self._open[name] = getattr(importlib.import_module(module), kind)(self.folder, self.card, self._threads)
        return name, self._open[name]

    def _why_not(self, mode, others):
        if others:
            lacking = ", ".join(self._runtimes)
            return f"received mode {mode!r}, which {lacking} cannot do here; load with runtime {' or '.join(others)}"
        if mode == "mc":
            return (
                "received mode 'mc', and nothing is dropped in this model, so that mc equals inference; "
                "predict in mode inference"
            )
        return f"received mode {mode!r}, for which {self.folder} has no file; it has {', '.join(self.modes)}"

    def _sound(self, name, logits, leading):
        """`logits`, if there is one finite float32 for each label."""
        expected = (*leading, len(self.labels))
        if logits.shape != expected or logits.dtype != np.float32:
            raise BadInput(
                f"{self.folder} gave {logits.dtype} {logits.shape} in {name}; allowed is float32 {expected}, one for "
                "each label: export the artefact again"
            )
        if not np.isfinite(logits).all():
            raise BadInput(f"{self.folder} gave logits in {name} that are not finite; train or export it again")
        return logits


def sample_seeds(seed, samples, chunk):
    """The seeds of the samples of a chunk, one each.

    Sample 0 of chunk 0 has `seed` itself, so that one pass with that seed is found again
    among the samples. Any other has its own stream, `sample/NUMBER/CHUNK`.

    >>> sample_seeds(7, 3, 0)
    [7, 411427803, 1160187937]
    """
    return [seed if s == chunk == 0 else seed_for(seed, f"sample/{s}/{chunk}") for s in range(samples)]


def _checked(mode, samples, seed):
    """`samples` and `seed` as they are used; in mc a seed is drawn if none is given."""
    _check_whole("samples", samples, 1, MOST_SAMPLES)
    if mode != "mc":
        if samples > 1:
            raise BadInput(f"received samples={samples} in mode inference, where all are equal; use mode mc")
        return 1, None
    if seed is None:
        return int(samples), secrets.randbits(32) - 2**31
    _check_whole("seed", seed, -(2**31), 2**31 - 1)
    return int(samples), int(seed)


def _check_whole(what, value, least, most):
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= value <= most:
        raise BadInput(f"received {what}={value!r}; allowed are whole numbers from {least:,} to {most:,}")
