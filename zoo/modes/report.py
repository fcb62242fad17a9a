"""The result of `zoo.compare_modes` as text for a terminal, and which layers and BatchNorms are worth showing."""

from collections.abc import Iterable, Mapping, Sequence

MEASURES = (("error", "error, %", 2), ("loss", "loss, nats", 4), ("ece", "ECE, %", 2), ("entropy", "entropy, nats", 3))
# mode: (title, description)
WORDS = {
    "inference": ("inference", "no dropout, stored statistics"),
    "training": ("training", "dropout, batch statistics"),
    "mc": ("mc, mean of samples", "dropout, stored statistics"),
    "mc_single": ("mc, one sample", "mean ± sd over the samples"),
    "uncompensated_training": ("mc without 1/(1-rate)", "kept units are not rescaled"),
    "uncompensated_inference": ("inference without (1-rate)", "mask outputs too large by 1/(1-rate)"),
}
MOVED = 1.02  # a ratio to inference from here on, or its inverse, is shown; batch statistics alone change about 1 %
LISTED = 8  # layers and BatchNorms in the text; the file has all


def text(result: Mapping) -> str:
    """Returns the result of `compare_modes` as tables: the modes, the layers that move most, the BatchNorms.

    Examples:
        >>> figures = {"entropy": 0.5}
        >>> shown = text({"model": "m", "examples": 1, "samples": 1, "batch": 1, "passes": 1, "seed": 0, "assumed": "a",
        ...     "modes": {"inference": figures}, "layers": [], "batch_norms": [], "notes": ["nothing is dropped"]})
        >>> "inference" in shown, "loss" in shown
        (True, False)
    """
    head = f"{result['model']}{_where(result)}: {result['examples']:,} examples, {result['samples']} mc samples, "
    head += f"batch size up to {result['batch']}, seed {result['seed']}"
    parts = [head, _modes(result["modes"]), _layers(result["layers"]), _norms(result["batch_norms"])]
    notes = [*result["notes"], *([] if "logits, one per class" in result["assumed"] else [result["assumed"]])]
    return "\n\n".join(part for part in [*parts, "\n".join(f"note: {note}" for note in notes)] if part)


def ratio(value: float | None) -> str:
    """Returns a ratio with three digits, or a dash for None.

    Examples:
        >>> ratio(0.50312), ratio(12.0), ratio(None)
        ('0.503', '12.0', '-')
    """
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:.1e}"


def moved(layers: Iterable[Mapping]) -> list[Mapping]:
    """Returns the layers whose mean or variance differs from inference by `MOVED` or more in some mode."""
    ratios = [[*row["mean_ratio"].values(), *row["variance_ratio"].values()] for row in layers]
    return [row for row, values in zip(layers, ratios, strict=True) if _distance(values) >= MOVED]


def moved_norms(norms: Iterable[Mapping]) -> list[Mapping]:
    """Returns the BatchNorms whose input variance differs by `MOVED` or more from what they store, or by masks."""
    return [row for row in norms if _distance([row["variance_shift"], row["masks_on_over_off"]]) >= MOVED]


def rest(what: str, shown: Sequence, every: Sequence) -> str:
    """Returns a note on the rows that are left out because all their ratios are near 1; empty if there are none."""
    count = len(every) - len(shown)
    return f"not shown: {count} of {len(every)} {what}, within {100 * (MOVED - 1):.0f} % of 1" if count else ""


def _distance(ratios):
    """Returns the largest ratio, or inverse of a ratio, in a row; infinite where a sign changes."""
    return max((max(value, 1 / value) if value > 0 else float("inf") for value in ratios if value), default=1.0)


def _where(result):
    return f" on the test part of {result['dataset']}" if "dataset" in result else ""


def _modes(modes):
    measures = [m for m in MEASURES if m[0] in modes["inference"]]
    rows = []
    for name, (title, about) in WORDS.items():
        figures = modes.get(name)
        if figures:
            rows.append([title, *(_figure(figures, key, digits) for key, _, digits in measures), about])
        elif name == "mc":
            rows.append([title, *("-" for _ in measures), ""])
    return _grid(["mode", *(title for _, title, _ in measures), ""], rows, left=(0, len(measures) + 1))


def _figure(figures, key, digits):
    spread = (figures.get("sd") or {}).get(key)
    return f"{figures[key]:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _layers(layers):
    """Returns the layers whose variance moves most in training or mc, in the order of the network."""

    def distance(row):
        return _distance([row["variance_ratio"].get(mode) for mode in ("training", "mc")])

    most = sorted(layers, key=distance, reverse=True)[:LISTED]
    chosen = [row for row in layers if any(row is other for other in most) and distance(row) >= MOVED]
    percent = f"{100 * (MOVED - 1):.0f} %"
    if not chosen:
        return f"layer outputs: in training and mc every variance is within {percent} of inference" if layers else ""
    rows = [
        [
            row["name"],
            *(ratio(row[key].get(mode)) for key in ("mean_ratio", "variance_ratio") for mode in ("training", "mc")),
            *(f"{100 * row['modes'][mode]['active']:.1f}" for mode in ("inference", "training")),
        ]
        for row in chosen
    ]
    headings = ["layer", "mean: training", "mc", "variance: training", "mc", "non-zero, %: inference", "training"]
    moving = sum(distance(row) >= MOVED for row in layers)
    title = "layer outputs, mean and variance as ratios to inference"
    if moving > len(rows):
        title += f"; the {len(rows)} largest variance changes of {moving}"
    others = len(layers) - moving
    note = f"\nother layers within {percent} of inference in variance: {others}" if others else ""
    return f"{title}\n{_grid(headings, rows)}{note}"


def _norms(norms):
    if not norms:
        return ""
    moving = moved_norms(norms)
    percent = f"{100 * (MOVED - 1):.0f} %"
    if not moving:
        return f"BatchNorm inputs: every variance is within {percent} of the stored one"
    shown = sorted(moving, key=lambda row: row["variance_shift"], reverse=True)[:LISTED]
    rows = [[row["name"], ratio(row["variance_shift"]), ratio(row["masks_on_over_off"])] for row in shown]
    title = "BatchNorm inputs, variance: actual against stored (1: no shift), and with masks over without"
    if len(moving) > len(rows):
        title += f"; the {len(rows)} largest of {len(moving)}"
    others = len(norms) - len(moving)
    note = f"\nother BatchNorms within {percent} of 1: {others}" if others else ""
    return f"{title}\n{_grid(['BatchNorm', 'shift', 'on / off'], rows)}{note}"


def _grid(headings, rows, left=(0,)):
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
