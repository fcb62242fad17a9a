"""What `zoo.behaviour.compare_modes` found, as text for a terminal."""

MEASURES = (("error", "error, %", 2), ("loss", "loss, nats", 4), ("ece", "ECE, %", 2), ("entropy", "entropy, nats", 3))
# mode: (what it is called, what it is)
WORDS = {
    "inference": ("inference", "no dropout, stored statistics"),
    "training": ("training", "dropout, batch statistics"),
    "mc": ("mc, mean of samples", "dropout, stored statistics"),
    "mc_single": ("mc, one sample", "mean ± sd over the samples"),
    "uncompensated_training": ("mc without 1/(1-rate)", "survivors not rescaled"),
    "uncompensated_inference": ("inference without (1-rate)", "1/(1-rate) too large at each mask"),
}
NOTABLE = 8  # layers, and BatchNorms, that are listed; the file has all
_VISIBLE = 1.01  # a ratio that rounds to more than 1


def text(found):
    """The result of `compare_modes` as a few tables: modes, the layers that shift most, BatchNorms.

    >>> figures = {"entropy": 0.5}
    >>> shown = text({"model": "m", "examples": 1, "samples": 1, "batch": 1, "passes": 1, "seed": 0, "assumed": "a",
    ...     "modes": {"inference": figures}, "layers": [], "batch_norms": [], "notes": ["nothing is dropped"]})
    >>> "inference" in shown, "loss" in shown
    (True, False)
    """
    head = f"{found['model']}{_where(found)}: {found['examples']:,} examples, {found['samples']} samples in mc, "
    head += f"batches of at most {found['batch']}, seed {found['seed']}"
    parts = [head, _modes(found["modes"]), _layers(found["layers"]), _norms(found["batch_norms"])]
    notes = [*found["notes"], *([] if "logits, a class each" in found["assumed"] else [found["assumed"]])]
    return "\n\n".join(part for part in [*parts, "\n".join(f"note: {note}" for note in notes)] if part)


def ratio(value):
    """A ratio in three digits; a dash for None.

    >>> ratio(0.50312), ratio(12.0), ratio(None)
    ('0.503', '12.0', '-')
    """
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:.1e}"


def shift(layer, mode="training"):
    """How far a layer's variance is from that of inference: the larger of the ratio and its inverse, or 0."""
    value = layer["variance_ratio"].get(mode)
    return max(value, 1 / value) if value else 0.0


def _where(found):
    return f" on the test part of {found['dataset']}" if "dataset" in found else ""


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
    """The layers whose variance shifts most in training or mc, in the order of the network."""
    far = sorted(layers, key=_furthest, reverse=True)[:NOTABLE]
    chosen = [row for row in layers if any(row is other for other in far) and _furthest(row) >= _VISIBLE]
    if not chosen:
        return f"the variance of no layer's output is in training or mc {100 * (_VISIBLE - 1):.0f} % off inference"
    rows = [
        [
            row["name"],
            *(ratio(row[key].get(mode)) for key in ("mean_ratio", "variance_ratio") for mode in ("training", "mc")),
            *(f"{100 * row['modes'][mode]['active']:.1f}" for mode in ("inference", "training")),
        ]
        for row in chosen
    ]
    headings = ["layer", "mean: training", "mc", "variance: training", "mc", "non-zero, %: inference", "training"]
    title = f"output of the {len(rows)} layers, of {len(layers)}, whose variance shifts most, as ratios to inference"
    return f"{title}\n{_grid(headings, rows)}"


def _furthest(layer):
    return max(shift(layer), shift(layer, "mc"))


def _norms(norms):
    if not norms:
        return ""
    shown = sorted(norms, key=lambda row: row["variance_shift"], reverse=True)[:NOTABLE]
    rows = [[row["name"], ratio(row["variance_shift"]), ratio(row["masks_on_over_off"])] for row in shown]
    more = f" (the {len(rows)} largest of {len(norms)})" if len(norms) > len(rows) else ""
    title = f"variance of what enters each BatchNorm{more}: real against stored (1: no shift), masks on over off"
    return f"{title}\n{_grid(['BatchNorm', 'shift', 'on / off'], rows)}"


def _grid(headings, rows, left=(0,)):
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        cells = [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
