"""Loads an artefact: checks it, and runs it in a chosen runtime or the fastest one available.

    import zoo
    artefact = zoo.load("saved_models/cnn-digits-default")
    artefact.predict(images).classes
    artefact.predict(images, mode="mc", samples=50).mutual_information

ONNX and LiteRT need neither TensorFlow nor Keras.
"""

import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.artefacts import contract, locate, sums
from zoo.artefacts.inputs import read
from zoo.artefacts.predictions import Predictions
from zoo.artefacts.runtimes import FASTEST_FIRST, runtime
from zoo.checks import MOST, integer, number, one_of, shown
from zoo.errors import BadInput
from zoo.modes import MASKS, MODES, PREDICTING
from zoo.seeds import of_sample

if TYPE_CHECKING:
    from zoo.artefacts.runtimes.base import Runtime

BATCH = 256


def load(folder: str | Path, runtime: str = "auto", threads: int | None = None) -> "Artefact":
    """Loads the artefact in `folder`, or the shipped one of that name in `saved_models/`.

    Args:
        folder: a folder that `python -m zoo export` wrote.
        runtime: `onnx`, `litert`, `savedmodel` or `keras`. `auto` chooses the fastest one
            that the artefact has, that is installed, and that supports the mode.
        threads: number of threads of the runtime; all cores if None.

    Returns:
        The artefact. Its runtime opens at the first prediction.

    Raises:
        BadInput (a ValueError): files differ from those that were exported, the card is
            invalid, or the runtime is not available. No model has been opened then.

    Examples:
        >>> load("mlp-digits-default", runtime="onnx")
        Artefact('mlp-digits-default': mlp, modes inference, mc; onnx)
    """
    one_of("runtime", runtime, ("auto", *FASTEST_FIRST))
    if threads is not None:
        integer("threads", threads, 1, MOST["threads"])
    folder = locate.artefact(folder)
    sums.check(folder)
    card = contract.read(folder)
    return Artefact(folder, card, _choice(folder, card, runtime), threads)


def _choice(folder, card, name):
    """Returns the runtimes to use, the first choice first."""
    has = [other for other in FASTEST_FIRST if other in card["formats"]]
    if name == "auto":
        ready = [other for other in has if not runtime(other).missing()]
        if ready:
            return ready
        packages = sorted({package for other in has for package in runtime(other).missing()})
        raise BadInput(
            f"cannot run {folder}: none of its runtimes ({', '.join(has)}) is installed; install one of the packages "
            f"{', '.join(packages)}"
        )
    if name not in has:
        raise BadInput(f"runtime must be one of the formats of {folder}, {', '.join(has)}, got {shown(name)}")
    if runtime(name).missing():
        raise BadInput(
            f"cannot use runtime {name!r}: the package {runtime(name).missing()[0]} is missing; install it, or use "
            f"another runtime of {', '.join(has)}"
        )
    return [name]


class Artefact:
    """An exported model, as `zoo.load` returns it.

    Attributes:
        folder: its folder.
        card: the contents of its `card.json`.
        name: its name.
        labels: the names of the classes.
        runtime: the runtime of mode inference.
        modes: the modes that `logits` supports.
    """

    def __init__(
        self, folder: str | Path, card: dict[str, Any], runtimes: Sequence[str], threads: int | None = None
    ) -> None:
        self.folder, self.card, self.name = Path(folder), card, card["name"]
        self.labels, self.runtime = tuple(card["output"]["labels"]), runtimes[0]
        self._runtimes, self._threads = runtimes, threads
        self._open: dict[str, Runtime] = {}
        self._opening = threading.Lock()
        self.modes = tuple(mode for mode in MODES if any(mode in card["formats"][name] for name in runtimes))

    def __repr__(self) -> str:
        model = (self.card.get("architecture") or {}).get("model")
        parts = [*([model] if model else []), f"modes {', '.join(self.modes)}"]
        return f"Artefact({self.name!r}: {', '.join(parts)}; {', '.join(self._runtimes)})"

    def predict(
        self,
        x: Any,
        mode: str = "inference",
        samples: int = 1,
        seed: int | None = None,
        batch_size: int = BATCH,
        value_range: str | tuple[float, float] | None = None,
        masks: str = "per-example",
        calibrated: bool = False,
        coverage: float | None = None,
    ) -> Predictions:
        """Predicts the classes of images, texts or rows of numbers.

        Args:
            x: images `(n, height, width, channels)` with pixels from 0 to 255, or one image
                without the first axis; for a text model, a str or a list of str; for a model over a
                table, numbers `(n, features)`.
            mode: `inference`, or `mc`: dropout stays on, and `samples` passes are averaged.
            samples: number of passes in mc.
            seed: seed of the masks in mc, a signed 32-bit integer. Without one, each call
                draws its own and reports it.
            batch_size: examples per pass. In mc, results depend on `x`, `samples`, `seed`
                and `batch_size` alone; with shared masks, the result for an example depends on it,
                `samples` and `seed` alone.
            value_range: range of the values of images, `(LOW, HIGH)`; that of the training data if
                None, which is 0 to 255 unless the card says otherwise.
            masks: in mc, `per-example`: each example of a pass has masks of its own; or `shared`: a sample
                is one thinned network for all examples, which takes longer in `litert` and `savedmodel`.
            calibrated: whether probabilities are scaled by the temperature of the card. No class changes.
            coverage: share of prediction sets (`.sets`) that should hold the true class. If the card has no
                threshold for it, that of the next larger coverage is used.

        Returns:
            Probabilities, classes and measures of uncertainty, see `Predictions`.

        Raises:
            BadInput (a ValueError): an argument is invalid, or the artefact lacks the mode.
        """
        name, runtime = self._for(mode, PREDICTING)
        samples, seed = _checked(mode, samples, seed)
        one_of("masks", masks, MASKS)
        if masks == "shared" and mode != "mc":
            raise BadInput(f"masks must be per-example in mode {mode}, which has none, got 'shared'; use mode mc")
        integer("batch_size", batch_size, 1, 2**31)
        fitted = {
            "temperature": self._temperature(mode) if calibrated else None,
            "threshold": None if coverage is None else self._threshold(mode, coverage),
        }
        x, parts = read.batch(x, self.card, value_range), []
        for start in range(0, len(x), batch_size):
            chunk = x[start : start + batch_size]
            if mode == "mc":
                if masks == "shared":
                    logits = runtime.shared_samples(chunk, sample_seeds(seed, samples, 0))
                else:
                    logits = runtime.samples(chunk, sample_seeds(seed, samples, start // batch_size))
                parts.append(self._sound(name, logits, (samples, len(chunk))))
            else:
                parts.append(self._sound(name, runtime.logits(chunk, mode), (len(chunk),)))
        logits = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)
        return Predictions(self.labels, mode, name, seed, logits, **fitted)

    def _fitted(self, mode, what):
        fitted = (self.card.get("calibration") or {}).get("modes", {}).get(mode)
        if fitted is None:
            raise BadInput(
                f"{what} needs an artefact with a temperature and thresholds for mode {mode}, got {self.folder}, which "
                "was exported without a validation part or by an earlier version; export the run again, or the "
                "artefact itself, with `python -m zoo export`"
            )
        return fitted

    def _temperature(self, mode):
        fitted = self._fitted(mode, "calibrated")
        if fitted["temperature"] is None:
            reason = fitted.get("reason", "none was found")
            raise BadInput(f"calibrated needs a temperature, got none for {self.folder}: {reason}; omit it")
        return fitted["temperature"]

    def _threshold(self, mode, coverage):
        number("coverage", coverage, 0, 1, closed="neither")
        fitted, known = self._fitted(mode, "coverage"), self.card["calibration"]["coverages"]
        place = int(np.searchsorted(known, coverage - 1e-9))
        if place == len(known):
            largest = f"at most {known[-1]:g}, " if known else "given to an artefact with more validation examples, "
            raise BadInput(f"coverage must be {largest}as far as the validation part reaches, got {coverage:g}")
        return fitted["thresholds"][place]

    def open(self, mode: str = "inference") -> str:
        """Opens the runtime of `mode` now instead of at the first prediction, and returns its name.

        Raises:
            BadInput (a ValueError): the artefact lacks the mode.
        """
        return self._for(mode, MODES)[0]

    def logits(self, x: Any, mode: str = "inference", seed: int | None = None) -> np.ndarray:
        """Returns float32 logits `(n, classes)` of one pass over all of `x`.

        Args:
            x: as for `predict`.
            mode: `inference`, `mc`, or `training` where the runtime supports it.
            seed: seed of the masks in mc and training; drawn if None.

        Raises:
            BadInput (a ValueError): an argument is invalid, or the artefact lacks the mode.
        """
        name, runtime = self._for(mode, MODES)
        seed = None if mode == "inference" else _checked("mc", 1, seed)[1]
        x = read.batch(x, self.card)
        return self._sound(name, runtime.logits(x, mode, seed), (len(x),))

    def _for(self, mode, allowed):
        """Returns the name of the runtime for a mode, and the runtime, which is opened once."""
        if mode == "training" and mode not in allowed:
            raise BadInput(f"mode must be one of {', '.join(allowed)}, got 'training'; use .logits for it")
        one_of("mode", mode, allowed)
        formats = self.card["formats"]
        name = next((name for name in self._runtimes if mode in formats[name]), None)
        if name is None:
            raise BadInput(self._why_not(mode, [other for other in formats if mode in formats[other]]))
        with self._opening:  # threads that ask at the same time share what the first one opens
            if name not in self._open:
                self._open[name] = runtime(name)(self.folder, self.card, self._threads)
            return name, self._open[name]

    def _why_not(self, mode, others):
        if others:
            runtimes = ", ".join(self._runtimes)
            return (
                f"mode must be one of {', '.join(self.modes)} with runtime {runtimes}, got {shown(mode)}; load the "
                f"artefact with runtime {' or '.join(others)}"
            )
        if mode == "mc":
            return "mode must be inference for this model, got 'mc'; nothing is dropped in it, so mc equals inference"
        return f"mode must be one that {self.folder} has a file for, {', '.join(self.modes)}, got {shown(mode)}"

    def _sound(self, name, logits, leading):
        """Returns `logits` if they are finite float32 values, one for each label."""
        expected = (*leading, len(self.labels))
        if logits.shape != expected or logits.dtype != np.float32:
            raise BadInput(
                f"logits of {self.folder} in {name} must be float32 {expected}, one per label, got {logits.dtype} "
                f"{logits.shape}; export the artefact again"
            )
        if not np.isfinite(logits).all():
            raise BadInput(
                f"logits of {self.folder} in {name} must be finite, got NaN or infinity; train or export it again"
            )
        return logits


def sample_seeds(seed: int, samples: int, chunk: int) -> list[int]:
    """Returns one seed for each sample of a chunk.

    Sample 0 of chunk 0 has `seed` itself, so one pass with that seed is among the samples.
    Every other sample has its own stream, `sample/NUMBER/CHUNK`.

    Examples:
        >>> sample_seeds(7, 3, 0)
        [7, 136978261, 351108210]
    """
    return [seed if s == chunk == 0 else of_sample(seed, s, chunk) for s in range(samples)]


def _checked(mode, samples, seed):
    """Returns `samples` and `seed` as they are used; in mc a seed is drawn if it is None."""
    integer("samples", samples, 1, MOST["samples"])
    if mode != "mc":
        if samples > 1:
            raise BadInput(f"samples must be 1 in mode inference, got {samples}; use mode mc")
        return 1, None
    if seed is None:
        return int(samples), secrets.randbits(32) - 2**31
    integer("seed", seed, -(2**31), 2**31 - 1)
    return int(samples), int(seed)
