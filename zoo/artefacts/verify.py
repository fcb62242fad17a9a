"""Checks that an artefact is what its card says and behaves so in each of its runtimes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.artefacts import card, contract, locate, probe, sums
from zoo.artefacts.load import load
from zoo.artefacts.runtimes import FASTEST_FIRST
from zoo.errors import BadInput

CALLS = 100  # calls of mc between two comparisons of inference


@dataclass(frozen=True)
class Check:
    """One check of an artefact.

    Attributes:
        name: what was checked.
        ok: whether it passed.
        found: the result, or the reason of the failure.
    """

    name: str
    ok: bool
    found: str


def verify(folder: str | Path) -> Iterator[Check]:
    """Checks the artefact in `folder`, or the shipped one of that name.

    Compares the checksums, the card with the model read back, and the probe in every
    runtime and mode, then tests that seeds work and that no mode changes inference. After
    a failed checksum nothing more is opened.

    Args:
        folder: the folder of an artefact, or the name of a shipped one.

    Yields:
        A `Check` as soon as it is known.

    Raises:
        BadInput: `folder` is not an artefact.

    Examples:
        >>> all(check.ok for check in verify("mlp-digits-default"))
        True
    """
    folder = locate.artefact(folder)
    check = _tried("checksums", lambda: sums.check(folder) or "all files match, no other files")
    yield check
    if not check.ok:
        return
    check = _tried("card", lambda: _card(folder))
    yield check
    if not check.ok:
        return
    formats = contract.read(folder)["formats"]
    for name in (name for name in FASTEST_FIRST if name in formats):
        yield from _runtime(folder, name)


def _tried(name, check):
    try:
        return Check(name, True, check())
    except BadInput as error:
        return Check(name, False, str(error))


def _card(folder):
    """Computes the entries of the card again, from the Keras file if there is one, and compares them."""
    stated = contract.read(folder)
    # Cards of version 0.1 also hold the hashes of SHA256SUMS.
    _same("files", _without_hashes(stated.get("files")), card.sizes(folder))
    if "keras" not in stated["formats"]:
        return "the files match the card"
    from zoo.artefacts.runtimes.keras import model_file, read_keras

    model = read_keras(model_file(folder, stated))
    _same("realised", stated.get("realised"), card.masks(model))
    _same("parameters", stated.get("architecture", {}).get("parameters"), model.count_params())
    return (
        f"{len(stated['files'])} files, {len(stated['realised'])} mask layers and {model.count_params():,} weights "
        "match the model"
    )


def _without_hashes(files):
    if not isinstance(files, dict) or not all(isinstance(file, dict) for file in files.values()):
        return files
    return {name: {key: file[key] for key in file if key != "sha256"} for name, file in files.items()}


def _same(what, stated, computed):
    if json.loads(json.dumps(computed)) != stated:
        raise BadInput(f"'{what}' in the card does not match the files; export the artefact again")


def _runtime(folder, name):
    try:
        artefact = load(folder, runtime=name)
        arrays = probe.read(folder)
        differences = probe.differences(artefact, arrays)
    except BadInput as error:
        yield Check(f"{name}: probe", False, str(error))
        return
    for mode, (difference, small) in differences.items():
        result = (
            f"largest difference of logits {difference:.1e}, tolerance {probe.TOLERANCE[mode]:.0e} x (1 + |logit|/10)"
        )
        yield Check(f"{name}: probe in {mode}", small, result)
    yield from _promises(artefact, arrays["x"])


def _promises(artefact, x):
    """Checks that the seed determines the masks, and that no call changes what inference computes."""
    before = artefact.logits(x)
    for mode in artefact.modes:
        if mode == "inference":
            continue
        first, again, other = (artefact.logits(x, mode, seed) for seed in (5, 5, 6))
        drawn = mode == "mc" or "mc" in artefact.card["modes"]
        ok = np.array_equal(first, again) and (not drawn or not np.array_equal(first, other))
        result = "the same seed gives the same logits, another seed gives others"
        if not drawn:
            result = "every call gives the same logits: nothing is dropped"
        result = result if ok else "the seed does not determine the masks"
        yield Check(f"{artefact.runtime}: seeds in {mode}", ok, result)
        for seed in range(CALLS):
            artefact.logits(x, mode, seed)
        ok = np.array_equal(before, artefact.logits(x))
        result = "logits unchanged, bit for bit" if ok else "logits changed"
        yield Check(f"{artefact.runtime}: inference after {CALLS} calls of {mode}", ok, result)
