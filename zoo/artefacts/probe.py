"""The probe: a few inputs, and what each mode makes of them, stored with the artefact.

Whoever holds the folder can tell, on any machine and in any runtime, whether the model
still does what it did when it was exported.
"""

from pathlib import Path

import numpy as np

from zoo.errors import BadInput

NAME = "probe.npz"
EXAMPLES = 8
SEEDS = (1, 2)
# Largest difference of a logit to Keras' that counts as equal, by mode. Float32 has seven digits, so that
# for a logit of size b it is (1 + b / 10) times as large.
TOLERANCE = {"inference": 1e-5, "mc": 1e-4, "training": 1e-4}


def make(run, x, modes, vocabulary=None):
    """The arrays of a probe: inputs, seeds, and logits by mode.

    `run(x, mode, seed)` gives the logits of a batch as Keras computes them; `x` are
    images, or token ids with a `vocabulary`, of which texts are made.
    """
    if vocabulary is None:
        arrays = {"image": x}
    else:
        arrays = {"text": np.array([" ".join(vocabulary[i] for i in ids if i) for ids in x]), "tokens": x}
    x = arrays.get("image", arrays.get("text"))
    arrays |= {"seeds": np.array(SEEDS, np.int32), "inference": run(x, "inference", None)}
    for mode in set(modes) - {"inference"}:
        arrays[mode] = np.stack([run(x, mode, seed) for seed in SEEDS])
    return arrays


def read(folder):
    """The arrays of the probe in an artefact's folder. Raises `BadInput` if it is missing or damaged."""
    path = Path(folder) / NAME
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        arrays["x"] = arrays["text"].tolist() if "text" in arrays else arrays["image"]
        arrays["seeds"], arrays["inference"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"cannot read {path} ({error}); copy or export the artefact again") from error
    return arrays


def differences(artefact, arrays):
    """By mode that the artefact's runtime has: largest absolute difference of logits to the stored, and if it is small.

    What is small says `TOLERANCE`.
    """
    x, found = arrays["x"], {}
    for mode in (mode for mode in artefact.modes if mode in arrays):
        if mode == "inference":
            found[mode] = _compared(artefact.logits(x), arrays[mode], TOLERANCE[mode])
        else:
            got = np.stack([artefact.logits(x, mode, int(seed)) for seed in arrays["seeds"]])
            found[mode] = _compared(got, arrays[mode], TOLERANCE[mode])
    return found


def _compared(got, stored, tolerance):
    if got.shape != stored.shape:
        return float("inf"), False
    return float(np.max(np.abs(got - stored))), bool(np.allclose(got, stored, rtol=tolerance / 10, atol=tolerance))
