"""What `zoo.behaviour.compare_modes` found, as one picture, drawn without pyplot, so without global state."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from zoo import files
from zoo.behaviour_report import WORDS
from zoo.errors import RunFailed

# Okabe & Ito: told apart by colour-blind readers; as in the pictures of trainers.
# A ring around a dot: training and mc lie on each other where there is no BatchNorm.
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
ROW, FRAME = 0.165, 1.3  # inches: of a line of text; of a panel's title, axis and legend
_LONGEST = 44


def write(found, folder):
    """Write `modes.json` and `modes.png` into `folder`, in the place of older ones; the paths of both.

    Raises `RunFailed` if they cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFailed(f"cannot make {folder} ({error.strerror or error}); name another --out") from error
    files.write_json(folder / "modes.json", found)
    with files.replacing(folder / "modes.png") as path:
        draw(found).savefig(path, format="png", dpi=DPI)
    return folder / "modes.json", folder / "modes.png"


def draw(found):
    """A `Figure`: figures of the modes; ratios of every layer to inference, along depth; BatchNorm shifts.

    `found` is the result of `compare_modes`; its key `dataset`, if there is one, is named in the title.
    """
    modes = [name for name in WORDS if found["modes"].get(name)]
    heights = [FRAME + 0.22 * len(modes), FRAME + ROW * max(4, len(found["layers"]))]
    if found["batch_norms"]:
        heights.append(FRAME + ROW * max(3, len(found["batch_norms"])))
    figure = Figure(figsize=(10.0, sum(heights) + 0.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08, hspace=0.0)
    panels = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_modes(panels[0], found, modes)
    _draw_layers(panels[1], found["layers"])
    if found["batch_norms"]:
        _draw_norms(panels[2], found["batch_norms"])
    where = f" on the test part of {_short(found['dataset'], 30)}" if "dataset" in found else ""
    title = f"Modes of {_short(found['model'], 40)}{where}, {found['examples']:,} examples"
    figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    return figure


def _draw_modes(panel, found, modes):
    """A dot a mode for error and loss, or for the entropy alone where there are no labels."""
    measures = [("error", "error (per cent)"), ("loss", "loss (nats)")]
    measures = [m for m in measures if m[0] in found["modes"]["inference"]] or [("entropy", "entropy (nats)")]
    axes = panel.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for ax, (key, label) in zip(axes, measures, strict=True):
        for y, name in enumerate(modes):
            figures = found["modes"][name]
            spread = (figures.get("sd") or {}).get(key)
            ax.errorbar(
                figures[key], y, xerr=spread, fmt="o", color=COLOURS[name], markersize=6, capsize=3, linewidth=1.4
            )
        ax.axvline(found["modes"]["inference"][key], color="#999999", linewidth=0.8, linestyle=":", zorder=0)
        _plain(ax)
        ax.margins(x=0.08)
        ax.set_xlabel(label)
        ax.set_ylim(len(modes) - 0.5, -0.5)
    titles = [WORDS[name][0] for name in modes]
    axes[0].set_yticks(range(len(modes)), titles)
    if "mc_single" in modes:
        note = f"mc: {found['samples']} samples; line: a standard deviation over them; dotted: inference"
        panel.supxlabel(note, fontsize=8.5, color=GREY)


def _draw_layers(panel, layers):
    """Mean and variance of every layer's output over those of inference, in the order of the network."""
    axes = panel.subplots(1, 2, sharey=True)
    modes = [name for name in LOOKS if any(name in row["variance_ratio"] for row in layers)]
    masks = [bool(row["rate"]) for row in layers]
    for ax, key, label in zip(axes, ("mean_ratio", "variance_ratio"), ("Mean", "Variance"), strict=True):
        for y in (y for y, mask in enumerate(masks) if mask):
            ax.axhspan(y - 0.5, y + 0.5, color=MASK, linewidth=0, zorder=0)
        rows = {name: [row[key].get(name) for row in layers] for name in modes}
        _dots(ax, [row["name"] for row in layers], masks, rows, LOOKS)
        ax.set_title(f"{label} of each layer's output, first layer at the top", loc="left", fontsize=10)
        ax.set_xlabel("ratio to inference (logarithmic)")
    gaps = "no dot: the mean at inference is near 0, or the sign changes" if _has_gaps(layers) else ""
    modes = [name for name in WORDS if name in modes]  # in the order of the panel above
    _legend(panel, modes, {name: "mc" if name == "mc" else WORDS[name][0] for name in modes}, LOOKS, masks, gaps)


def _draw_norms(panel, norms):
    """The variance shift at every BatchNorm, and how much of it masks make."""
    ax = panel.subplots()
    titles = {
        "variance_shift": "shift: inference against stored variance, or its inverse",
        "masks_on_over_off": "masks on (mc) over masks off (inference)",
    }
    looks = {"variance_shift": {"marker": "o", "s": 26, "color": "#222222"}}
    looks["masks_on_over_off"] = {"marker": "o", "s": 50, "edgecolors": "#0072B2", "facecolors": "none"}
    rows = {key: [row[key] for row in norms] for key in titles}
    _dots(ax, [row["name"] for row in norms], [False] * len(norms), rows, looks)
    ax.set_title("Variance of what enters each BatchNorm", loc="left", fontsize=10)
    ax.set_xlabel("ratio, mean over channels (logarithmic); 1 is no shift")
    _legend(panel, [key for key, values in rows.items() if any(values)], titles, looks)


def _dots(ax, names, bold, rows, looks):
    """Ratios by name of a layer; those that are missing or not above 0 have no dot."""
    drawn = []
    for order, (key, values) in enumerate(rows.items()):
        points = [(value, y) for y, value in enumerate(values) if value is not None and value > 0]
        drawn += [value for value, _ in points]
        if points:
            ax.scatter(*zip(*points, strict=True), zorder=3 + order, **looks[key])
    _ratio_axis(ax, drawn)
    ax.set_ylim(len(names) - 0.4, -0.6)
    if ax.get_subplotspec().is_first_col():
        _label_layers(ax, names, bold)


def _legend(panel, keys, titles, looks, masks=(), note=""):
    """Below the panel, where no dot can be."""
    handles = []
    for key in keys:
        look = looks[key]
        edge, face = look.get("edgecolors", look.get("color")), look.get("facecolors", look.get("color"))
        size = look["s"] ** 0.5
        handles.append(Line2D([], [], ls="", marker=look["marker"], ms=size, mec=edge, mfc=face))
    titles = [titles[key] for key in keys]
    if any(masks):
        handles.append(Patch(color=MASK))
        titles.append("a mask stands here")
    style = {"loc": "outside lower center", "frameon": False, "fontsize": 8.5, "title_fontsize": 8.5}
    if handles:
        panel.legend(handles, titles, ncols=len(titles), title=note, **style).get_title().set_color(GREY)


def _has_gaps(layers):
    return any(value is None or value <= 0 for row in layers for value in row["mean_ratio"].values())


def _label_layers(ax, names, bold):
    ax.set_yticks(range(len(names)), [_short(name, _LONGEST) for name in names], fontsize=7.5)
    for label, strong in zip(ax.get_yticklabels(), bold, strict=True):
        label.set_parse_math(False)
        label.set_fontweight("bold" if strong else "normal")


def _ratio_axis(ax, values):
    """A logarithmic axis around 1 that never enlarges noise: it shows a fifth either way at least."""
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
    """Round ratios, close to each other where the axis is short."""
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
