"""Whether an artefact still is and does what its card says, in every runtime it has files for."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.artefacts import card, contract, probe, sums
from zoo.artefacts.load import load
from zoo.errors import BadInput

CALLS = 100  # of mc, between two looks at inference


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it held, and what was found."""

    name: str
    ok: bool
    found: str


def verify(folder):
    """Yield a `Check` after the other for the artefact in `folder`.

    Checksums; the card against the model read back; the probe in every runtime and
    mode; what each mode promises. After a failed checksum nothing more is opened.

    Raises `BadInput` if `folder` is no artefact at all.

    >>> all(check.ok for check in verify("saved_models/mlp-digits-default"))
    True
    """
    folder = Path(folder)
    if not folder.is_dir() or not (folder / contract.NAME).exists():
        raise BadInput(f"received {folder}, which is no artefact (it has no {contract.NAME}); give an exported folder")
    found = _tried("checksums", lambda: sums.check(folder) or "every file as listed, none more")
    yield found
    if not found.ok:
        return
    found = _tried("card", lambda: _card(folder))
    yield found
    if not found.ok:
        return
    stated = contract.read(folder)
    for name in (name for name in contract.RUNTIMES if name in stated["formats"]):
        yield from _runtime(folder, name)


def _tried(name, look):
    try:
        return Check(name, True, look())
    except BadInput as error:
        return Check(name, False, str(error))


def _card(folder):
    """The card's computed entries, computed again; where the model is there as a Keras file, from it."""
    stated = contract.read(folder)
    hashes = card.finished({}, folder, {})["files"]
    _same("files", stated.get("files"), hashes)
    if "keras" not in stated["formats"]:
        return "files as the card says"
    from zoo.artefacts.programs import read_keras

    model = read_keras(folder / stated["formats"]["keras"]["inference"])
    _same("realised", stated.get("realised"), card.realised(model))
    _same("parameters", stated.get("architecture", {}).get("parameters"), model.count_params())
    return f"{len(stated['files'])} files, {len(stated['realised'])} masks, {model.count_params():,} weights as it says"


def _same(what, stated, computed):
    if json.loads(json.dumps(computed)) != stated:
        raise BadInput(f"the card's {what} are not those of the files; export the artefact again")


def _runtime(folder, name):
    try:
        artefact = load(folder, runtime=name)
        arrays = probe.read(folder)
        far = probe.differences(artefact, arrays)
    except BadInput as error:
        yield Check(f"{name}: probe", False, str(error))
        return
    for mode, (difference, small) in far.items():
        allowed = f"{probe.TOLERANCE[mode]:.0e} x (1 + |logit| / 10)"
        told = f"logits within {difference:.1e} of the stored ones, allowed {allowed}"
        yield Check(f"{name}: probe in {mode}", small, told)
    yield from _promises(artefact, arrays["x"])


def _promises(artefact, x):
    """One seed, one result; another seed, another; and no call changes what inference computes."""
    before = artefact.logits(x)
    for mode in artefact.modes:
        if mode == "inference":
            continue
        first, again, other = (artefact.logits(x, mode, seed) for seed in (5, 5, 6))
        drawn = mode == "mc" or "mc" in artefact.card["modes"]
        held = np.array_equal(first, again) and (not drawn or not np.array_equal(first, other))
        told = (
            "one seed gives one result, another seed another" if drawn else "the same at every call: nothing is dropped"
        )
        yield Check(f"{artefact.runtime}: seeds in {mode}", held, told if held else "seeds do not decide what is drawn")
        for seed in range(CALLS):
            artefact.logits(x, mode, seed)
        held = np.array_equal(before, artefact.logits(x))
        told = "bit for bit as before" if held else "changed"
        yield Check(f"{artefact.runtime}: inference after {CALLS} calls of {mode}", held, told)
