"""What is wrong with the regularisation of exported files: random operators left in, a card that the files contradict.

A `.keras` file is opened and audited as a model (`zoo.surgery.audit`). Other files are read, not run.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import runs, startup
from zoo.artefacts import contract, locate, sums
from zoo.artefacts.runtimes import runtime
from zoo.artefacts.runtimes.keras import model_file, read_keras
from zoo.checks import shown
from zoo.errors import BadInput
from zoo.placement.placement import Placement
from zoo.surgery.opening import FORMS, form_of, open_model

if TYPE_CHECKING:
    import keras

    from zoo.surgery.audit import Finding

_GRAPHS = ("savedmodel", "onnx")  # formats whose operators can be read
_RANDOM = "Gal & Ghahramani 2016, ICML"
_CARD = "Mitchell et al. 2019, FAT*, Model Cards for Model Reporting"
_NEAR = 1e-6  # between two rates, which files hold as decimal numbers


def audit(model: "keras.Model | str | Path", name: str | None = None) -> "list[Finding]":
    """Looks for what is wrong with the regularisation of a model, an artefact or an exported file.

    Args:
        model: a Functional or built Sequential model; or the path of a `.keras` file, of an artefact (or the name of
            a shipped one), of a run folder, of an `.onnx` file or of the folder of a SavedModel.
        name: what the commands of the findings call the model; its path unless given, `MODEL` for a model.

    Returns:
        Findings, errors first: rule, level, layer, reason, reference, remedy and command. Empty if nothing is wrong.

    Raises:
        BadInput: `model` is something else, is damaged, or its calls cannot be known without running its code.
            `BadInput` is a `ValueError`.

    Examples:
        >>> import keras
        >>> x = keras.Input((8,))
        >>> y = keras.layers.Dropout(0.5, name="late")(keras.layers.Dense(3)(x))
        >>> [(finding.rule, finding.level, finding.layer) for finding in audit(keras.Model(x, y))]
        [('dropout-at-output', 'error', 'late')]
    """
    from zoo.surgery import audit as rules

    if not isinstance(model, str | Path):
        return rules.audit(model, name or "MODEL")
    findings = of_files(model)
    return rules.audit(open_model(model), name or str(model)) if findings is None else findings


def of_files(given: str | Path) -> "list[Finding] | None":
    """Returns the findings about an artefact, a run folder, an `.onnx` file or the folder of a SavedModel.

    Returns:
        Findings, errors first; None for a MODEL, such as a `.keras` file.

    Raises:
        BadInput: the files are damaged, of a format whose operators cannot be read, or nothing of that kind.
    """
    path = locate.resolved(given)
    if path.suffix == ".tflite":
        raise BadInput(
            f"cannot audit {path}: LiteRT files do not keep what their operators came from; audit the artefact or the "
            ".keras file that it was made from"
        )
    if (path / contract.NAME).is_file():
        read = _artefact(path)
    elif (path / "saved_model.pb").is_file():
        read = _graph("savedmodel", path, str(path))
    elif path.suffix == ".onnx":
        read = _graph("onnx", path, str(path))
    elif (path / runs.CONFIG).is_file():
        runs.check_finished(path)
        read = _model(path / runs.MODEL)
    elif form_of(str(given)):
        return None
    else:
        raise BadInput(
            f"model must be {FORMS}; or an artefact, a run folder, FILE.onnx or the folder of a SavedModel; "
            f"got {shown(str(given))}"
        )
    startup.tensorflow()
    from zoo.surgery.audit import LEVELS

    return sorted(read, key=lambda finding: LEVELS.index(finding.level))


def _artefact(folder: Path) -> "Iterator[Finding]":
    """Yields what is wrong with the model, with the card, and with the exported graphs."""
    from zoo.surgery import audit as rules

    sums.check(folder)
    card = contract.read(folder)
    formats = card["formats"]
    if "keras" in formats:
        path = model_file(folder, card)
        model = locate.from_tokens(read_keras(path))
        yield from rules.audit(model, str(path))
        yield from _card(folder, card, model)
    for name in _GRAPHS:
        if name in formats:
            file = formats[name]["inference"]
            yield from _graph(name, folder / file, file)


def _model(path: Path) -> "Iterator[Finding]":
    """Yields what is wrong with the model in a `.keras` file."""
    from zoo.surgery import audit as rules

    yield from rules.audit(read_keras(path), str(path))


def _graph(name: str, path: Path, shown: str) -> "Iterator[Finding]":
    """Yields a finding if what a file computes at inference draws random numbers."""
    from zoo.surgery.audit import Finding

    random = runtime(name).random_operators(path)
    if random:
        listed = ", ".join(random[:3]) + (f" and {len(random) - 3} more" if len(random) > 3 else "")
        yield Finding(
            "random-at-inference",
            "error",
            shown,
            f"what it computes at inference draws random numbers ({listed}): dropout, noise or augmentation is still "
            "on",
            _RANDOM,
            "export the model with training=False, for example with model.export(), or with `python -m zoo export`",
        )


def _card(folder: Path, card: dict[str, Any], model: "keras.Model") -> "Iterator[Finding]":
    """Yields a finding for each site at which the model has other rates than the placement on the card."""
    from zoo.surgery.audit import Finding
    from zoo.surgery.recognise import sites

    stated = Placement.from_json(card["placement"]) if card.get("placement") else Placement()
    rows, absent = sites(model), {site for site, drop in stated.sites.items() if drop.kind == "drop_block"}
    blocks = rows.blocks()
    for site in dict.fromkeys([*stated.sites, *blocks]):
        if site in absent:  # no file of stock layers can hold it, which the card says
            continue
        masks = [row.mask for row in rows if row.site == site]
        actual = [mask["rate"] if mask else 0.0 for mask in masks]
        drop = stated.sites.get(site)
        if drop is None:
            expected = [0.0] * len(actual)
        else:
            expected = list(drop.rates(blocks[site])) if site in blocks else [drop.rate]
        kinds = {mask["kind"] for mask in masks if mask}
        same = len(actual) == len(expected) and all(map(_near, actual, expected))
        if same and not (drop is not None and kinds - {drop.kind}):
            continue
        has = ", ".join(f"{rate:g}" for rate in actual) or "no such site"
        of_kind = f" of kind {', '.join(sorted(kinds))}" if kinds else ""
        yield Finding(
            "placement-not-realised",
            "error",
            site,
            f"the card of {folder.name} says {f'{site}={drop}' if drop else f'no dropout at {site}'}, but model.keras "
            f"has {has}{of_kind}",
            _CARD,
            "export the run again; do not use figures of this card for this file",
        )


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, abs_tol=_NEAR)
