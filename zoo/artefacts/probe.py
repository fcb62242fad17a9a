"""The probe: a few inputs and their logits in each mode, stored with the artefact.

With it, any machine and any runtime can check that the model still gives the logits that
it gave when it was exported.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.artefacts.examples import texts
from zoo.reading import read_npz, refuse

if TYPE_CHECKING:
    from zoo.artefacts.load import Artefact

NAME = "probe.npz"
EXAMPLES = 8
SEEDS = (1, 2)
_AGAIN = "copy or export the artefact again"
# Largest difference to a logit of Keras that counts as equal, by mode. Float32 has seven digits, so the
# tolerance for a logit of size b is (1 + b / 10) times as large.
TOLERANCE = {"inference": 1e-5, "mc": 1e-4, "training": 1e-4}


def make(
    run: Callable, x: np.ndarray, modes: Sequence[str], vocabulary: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Returns the arrays of a probe: inputs, seeds, and logits by mode.

    Args:
        run: a function `(x, mode, seed)` that returns the logits of a batch in Keras.
        x: images, rows of numbers, or token ids `(n, length)`.
        modes: the modes to store.
        vocabulary: the tokens by id, for token ids; the probe then holds texts.
    """
    if vocabulary is not None:
        arrays = {"text": texts(x, vocabulary), "tokens": x}
    else:
        arrays = {"image" if x.ndim == 4 else "features": x}
    x = next(iter(arrays.values()))
    arrays |= {"seeds": np.array(SEEDS, np.int32), "inference": run(x, "inference", None)}
    for mode in set(modes) - {"inference"}:
        arrays[mode] = np.stack([run(x, mode, seed) for seed in SEEDS])
    return arrays


def read(folder: str | Path) -> dict[str, Any]:
    """Returns the arrays of the probe in an artefact's folder. Raises `BadInput` if it is missing or damaged."""
    path = Path(folder) / NAME
    arrays: dict[str, Any] = read_npz(path, way=_AGAIN)
    given = next((key for key in ("text", "features") if key in arrays), "image")
    for key, kinds in {given: "U" if given == "text" else "uif", "seeds": "i", "inference": "f"}.items():
        if key not in arrays or arrays[key].dtype.kind not in kinds or not arrays[key].ndim or not arrays[key].size:
            refuse(path, f"it lacks the array {key}, or it is of another kind", _AGAIN)
    arrays["x"] = arrays["text"].tolist() if given == "text" else arrays[given]
    return arrays


def differences(artefact: "Artefact", arrays: Mapping[str, Any]) -> dict[str, tuple[float, bool]]:
    """Compares an artefact's logits with the stored ones in each mode of its runtime.

    Returns:
        By mode, the largest absolute difference, and whether it is within `TOLERANCE`.
    """
    x, compared = arrays["x"], {}
    for mode in (mode for mode in artefact.modes if mode in arrays):
        if mode == "inference":
            compared[mode] = _compared(artefact.logits(x), arrays[mode], TOLERANCE[mode])
        else:
            got = np.stack([artefact.logits(x, mode, int(seed)) for seed in arrays["seeds"]])
            compared[mode] = _compared(got, arrays[mode], TOLERANCE[mode])
    return compared


def _compared(got, stored, tolerance):
    if got.shape != stored.shape:
        return float("inf"), False
    return float(np.max(np.abs(got - stored))), bool(np.allclose(got, stored, rtol=tolerance / 10, atol=tolerance))
