"""The result of `zoo.compare_modes` as one picture, drawn without pyplot and its global state."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from zoo import files
from zoo.errors import CannotWrite
from zoo.modes.report import MOVED, WORDS, moved, moved_norms, rest

# Okabe & Ito: colour-blind readers can tell them apart. The pictures of trainers use the same colours.
# A ring around a dot: training and mc coincide in a network without BatchNorm.
LOOKS = {
    "uncompensated_training": {"marker": "D", "s": 11, "color": "#CC79A7"},
    "uncompensated_inference": {"marker": "s", "s": 11, "color": "#009E73"},
    "training": {"marker": "o", "s": 36, "edgecolors": "#D55E00", "facecolors": "none"},
    "mc": {"marker": "o", "s": 12, "color": "#0072B2"},
}
COLOURS = {"inference": "#222222", "training": "#D55E00", "mc": "#0072B2", "mc_single": "#56B4E9"}
COLOURS |= {name: LOOKS[name]["color"] for name in ("uncompensated_training", "uncompensated_inference")}
GREY, MASK = "#555555", "#ececec"
DPI = 160
ROW, FRAME = 0.19, 1.4  # inches: a line of text; the title, axis and legend of a panel
_LONGEST = 44
_SMALLEST = 0.01  # a smaller ratio is a mean of almost 0, as of a BatchNorm in training; it would stretch the axis


def write(result: Mapping, folder: str | Path) -> tuple[Path, Path]:
    """Writes `modes.json` and `modes.png` into `folder`, replacing older ones.

    Args:
        result: what `compare_modes` returned.
        folder: where to write; it is created if needed.

    Returns:
        The paths of both files.

    Raises:
        CannotWrite: the files cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot create {folder}: {files.reason(error)}") from error
    files.write_json(folder / "modes.json", result)
    with files.replacing(folder / "modes.png") as path:
        draw(result).savefig(path, format="png", dpi=DPI)
    return folder / "modes.json", folder / "modes.png"


def draw(result: Mapping) -> Figure:
    """Draws error and loss by mode, the layers whose mean or variance moves, and the BatchNorms that shift.

    Args:
        result: what `compare_modes` returned; its key `dataset`, if present, is named in the title.

    Returns:
        A figure of one to three panels. Layers and BatchNorms at which nothing moves are counted, not drawn.
    """
    modes = [name for name in WORDS if result["modes"].get(name)]
    layers, norms = moved(result["layers"]), moved_norms(result["batch_norms"])
    heights = [FRAME + 0.22 * len(modes)]
    heights += [FRAME + ROW * max(2, len(rows)) for rows in (layers, norms) if rows]
    figure = Figure(figsize=(10.0, sum(heights) + 0.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08, hspace=0.0)
    panels = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    _draw_modes(panels.pop(0), result, modes, moving=bool(layers))
    if layers:
        _draw_layers(panels.pop(0), layers, rest("layers", layers, result["layers"]))
    if norms:
        _draw_norms(panels.pop(0), norms, rest("BatchNorms", norms, result["batch_norms"]))
    where = f" on the test part of {_short(result['dataset'], 30)}" if "dataset" in result else ""
    title = f"Modes of {_short(result['model'], 40)}{where}, {result['examples']:,} examples"
    figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    return figure


def _draw_modes(panel, result, modes, moving):
    """Draws error and loss of each mode, or the entropy if there are no labels. Axes start at 0."""
    measures = [("error", "error (%)"), ("loss", "loss (nats)")]
    measures = [m for m in measures if m[0] in result["modes"]["inference"]] or [("entropy", "entropy (nats)")]
    axes = panel.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for ax, (key, label) in zip(axes, measures, strict=True):
        largest = 0.0
        for y, name in enumerate(modes):
            value, spread = result["modes"][name][key], (result["modes"][name].get("sd") or {}).get(key)
            ax.errorbar(value, y, xerr=spread, fmt="o", color=COLOURS[name], markersize=6, capsize=3, linewidth=1.4)
            largest = max(largest, value + (spread or 0.0))
        ax.axvline(result["modes"]["inference"][key], color="#999999", linewidth=0.8, linestyle=":", zorder=0)
        _plain(ax)
        ax.set_xlim(0, 1.08 * largest or 1)
        ax.set_xlabel(label)
        ax.set_ylim(len(modes) - 0.5, -0.5)
    axes[0].set_yticks(range(len(modes)), [WORDS[name][0] for name in modes])
    notes = ["dotted: inference"]
    if "mc_single" in modes:
        notes.insert(0, f"mc: {result['samples']} samples, bar: standard deviation over samples")
    if result["layers"] and not moving:
        notes.append(f"layer outputs: every mean and variance is within {100 * (MOVED - 1):.0f} % of inference")
    panel.supxlabel("; ".join(notes), fontsize=8.5, color=GREY)


def _draw_layers(panel, layers, left_out):
    """Draws mean and variance of each layer's output divided by those of inference, in the order of the network."""
    axes = panel.subplots(1, 2, sharey=True)
    modes = [name for name in LOOKS if any(name in row["variance_ratio"] for row in layers)]
    masks = [bool(row["rate"]) for row in layers]
    for ax, key, label in zip(axes, ("mean_ratio", "variance_ratio"), ("Mean", "Variance"), strict=True):
        for y in (y for y, mask in enumerate(masks) if mask):
            ax.axhspan(y - 0.5, y + 0.5, color=MASK, linewidth=0, zorder=0)
        rows = {name: [_drawable(row[key].get(name)) for row in layers] for name in modes}
        _dots(ax, [row["name"] for row in layers], masks, rows, LOOKS)
        ax.set_title(f"{label} of each layer's output, first layer on top", loc="left", fontsize=10)
        ax.set_xlabel("ratio to inference (log scale)")
    notes = [left_out] if left_out else []
    if _has_gaps(layers):
        notes.append("no dot: a mean is near 0, or its sign changes")
    modes = [name for name in WORDS if name in modes]  # in the order of the panel above
    titles = {name: "mc" if name == "mc" else WORDS[name][0] for name in modes}
    _legend(panel, modes, titles, LOOKS, masks, "; ".join(notes))


def _draw_norms(panel, norms, left_out):
    """Draws the variance shift at each BatchNorm, and how much of it the masks cause."""
    ax = panel.subplots()
    titles = {
        "variance_shift": "inference against stored, the larger over the smaller",
        "masks_on_over_off": "with masks (mc) over without (inference)",
    }
    looks = {"variance_shift": {"marker": "o", "s": 26, "color": "#222222"}}
    looks["masks_on_over_off"] = {"marker": "o", "s": 50, "edgecolors": "#0072B2", "facecolors": "none"}
    rows = {key: [row[key] for row in norms] for key in titles}
    _dots(ax, [row["name"] for row in norms], [False] * len(norms), rows, looks)
    ax.set_title("Variance of the input of each BatchNorm", loc="left", fontsize=10)
    ax.set_xlabel("ratio, mean over channels (log scale); 1: no shift")
    _legend(panel, [key for key, values in rows.items() if any(values)], titles, looks, note=left_out)


def _dots(ax, names, bold, rows, looks):
    """Draws the ratios of each layer; None has no dot."""
    drawn = []
    for order, (key, values) in enumerate(rows.items()):
        points = [(value, y) for y, value in enumerate(values) if value is not None]
        drawn += [value for value, _ in points]
        if points:
            ax.scatter(*zip(*points, strict=True), zorder=3 + order, **looks[key])
    _ratio_axis(ax, drawn)
    ax.set_ylim(len(names) - 0.4, -0.6)
    if ax.get_subplotspec().is_first_col():
        _label_layers(ax, names, bold)


def _legend(panel, keys, titles, looks, masks=(), note=""):
    """Draws the legend below the panel, where no dot can be."""
    handles = []
    for key in keys:
        look = looks[key]
        edge, face = look.get("edgecolors", look.get("color")), look.get("facecolors", look.get("color"))
        size = look["s"] ** 0.5
        handles.append(Line2D([], [], ls="", marker=look["marker"], ms=size, mec=edge, mfc=face))
    titles = [titles[key] for key in keys]
    if any(masks):
        handles.append(Patch(color=MASK))
        titles.append("mask layer")
    style = {"loc": "outside lower center", "frameon": False, "fontsize": 8.5, "title_fontsize": 8.5}
    if handles:
        panel.legend(handles, titles, ncols=len(titles), title=note, **style).get_title().set_color(GREY)


def _has_gaps(layers):
    return any(_drawable(value) is None for row in layers for value in row["mean_ratio"].values())


def _drawable(value):
    return None if value is None or value < _SMALLEST else value


def _label_layers(ax, names, bold):
    ax.set_yticks(range(len(names)), [_short(name, _LONGEST) for name in names], fontsize=7.5)
    for label, strong in zip(ax.get_yticklabels(), bold, strict=True):
        label.set_parse_math(False)
        label.set_fontweight("bold" if strong else "normal")


def _ratio_axis(ax, values):
    """Sets a logarithmic axis around 1 that covers at least a fifth either way, so that it never magnifies noise."""
    ax.set_xscale("log")
    low, high = min([0.8, *values]), max([1.25, *values])
    ax.set_xlim(low / 1.08, high * 1.08)
    ax.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.axvline(1.0, color="#666666", linewidth=1, zorder=1)
    _plain(ax)


def _ticks(low, high):
    """Returns round ratios, closer to each other on a short axis."""
    if high / low > 100:
        return [10.0**power for power in range(-12, 13)]
    if high / low > 4:
        return [step * 10.0**power for power in range(-3, 3) for step in (1, 2, 5)]
    return [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 2, 2.5, 3, 4]


def _plain(ax):
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)


def _short(text, length):
    return text if len(text) <= length else "…" + text[1 - length :]
