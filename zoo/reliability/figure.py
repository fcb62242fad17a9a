"""The result of `zoo.uncertainty` as one picture, drawn without pyplot and its global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from zoo.data.images import displayed

DPI = 150
SHOWN = 12  # images of each kind
TITLES = {"inference": "inference (no dropout)", "mc": "Monte-Carlo dropout"}
COLOURS = {"inference": "#222222", "mc": "#0072B2"}
# Okabe & Ito, as in the project's other pictures.
SCORES = {
    "probability": ("1 - probability", "#0072B2", "o"),
    "entropy": ("entropy", "#D55E00", "s"),
    "mutual_information": ("mutual information", "#009E73", "^"),
    "variance": ("variance", "#CC79A7", "D"),
}
GREY = "#555555"


def draw(result: Mapping[str, Any], examples: Sequence[Mapping[str, Any]], images: np.ndarray | None) -> Figure:
    """Draws the result on one page.

    Args:
        result: what `zoo.uncertainty` returned.
        examples: its rows of examples.
        images: the test images, uint8 `(examples, height, width, channels)`, or None.

    Returns:
        A figure: calibration of each mode, error against coverage, figures against the number of samples,
        detection of foreign data, prediction sets by class, and the most and least certain test images.
        Panels without data are left out.
    """
    modes = {name: row for name, row in result["modes"].items() if row}
    rows = [_calibration, _selection]
    if next(iter(modes.values()))["ood"]:
        rows.append(_detection)
    if result["corruptions"]:
        rows.append(_corruptions)
    if any("by_class" in row["sets"]["thr"] for row in modes.values()):
        rows.append(_sets)
    heights = [3.1] * len(rows)
    if images is not None:
        rows.append(lambda panel, result, modes: _images(panel, result, modes, examples, images))
        heights.append(2.9)
    figure = Figure(figsize=(10.0, sum(heights) + 0.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    panels = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, row in zip(panels, rows, strict=True):
        row(panel, result, modes)
    figure.suptitle(_title(result), fontsize=12, fontweight="bold", parse_math=False)
    return figure


def _title(result):
    drawn = f", {result['drawn']} samples" if result["modes"]["mc"] else ""
    return f"How far to trust {result['model']} on {result['dataset']}: {result['examples']:,} test examples{drawn}"


def _calibration(panel, result, modes):
    """Draws the accuracy at each confidence with its interval, and the number of examples, per mode."""
    axes = panel.subplots(1, 2, sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, TITLES, strict=True):
        if name not in modes:
            ax.axis("off")
            ax.text(0.5, 0.5, "the model has no dropout", ha="center", color=GREY)
            continue
        figures = modes[name]
        x = [row["confidence"] for row in figures["diagram"]]
        y = np.array([row["accuracy"] for row in figures["diagram"]])
        spread = [y - [row["low"] for row in figures["diagram"]], [row["high"] for row in figures["diagram"]] - y]
        most = max(row["count"] for row in figures["diagram"])
        for row in figures["diagram"]:
            middle, height = (row["from"] + row["to"]) / 2, 0.2 * np.log1p(row["count"]) / np.log1p(most)
            ax.bar(middle, height, width=0.9 * (row["to"] - row["from"]), color="#dddddd", zorder=0)
            ax.text(middle, 0.01, f"{row['count']:,}", ha="center", va="bottom", fontsize=6, color=GREY)
        ax.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
        ax.errorbar(x, y, yerr=np.clip(spread, 0, None), fmt="o", color=COLOURS[name], markersize=5, capsize=2)
        after = figures["ece_scaled"]["value"]
        scaled = "" if after is None else f"; {after:.1f} % at temperature {figures['temperature']['value']:.2f}"
        title = f"Calibration, {TITLES[name]}\nECE {figures['ece']['value']:.1f} %{scaled}"
        ax.set_title(title, loc="left", fontsize=10)
        ax.set_xlabel("confidence (probability of the predicted class)")
        ax.set_xlim(0, 1.02)
        ax.set_ylim(0, 1.02)
        _plain(ax)
    axes[0].set_ylabel("accuracy")
    panel.supxlabel(
        "dotted: perfectly calibrated; grey: number of examples, on a logarithmic scale", fontsize=8.5, color=GREY
    )


def _selection(panel, result, modes):
    """Draws the error on the most certain examples, and the loss against the number of samples."""
    left, right = panel.subplots(1, 2)
    for name, figures in modes.items():
        for score, (title, colour, _) in SCORES.items():
            curve = figures["selective"].get(score, {}).get("curve")
            if curve and (name == "mc" or score == "probability"):
                look = {"color": colour} if name == "mc" else {"color": COLOURS[name], "linestyle": "--"}
                label = f"{'mc' if name == 'mc' else name}, {title}"
                left.plot(curve["coverage"], curve["error"], linewidth=1.4, label=label, **look)
    left.set_title("Error if only the most certain examples are answered", loc="left", fontsize=10)
    left.set_xlabel("examples answered (%)")
    left.set_ylabel("error (%)")
    left.set_xlim(0, 101)
    left.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8)
    _plain(left)
    counts = sorted(map(int, result["samples"]))
    if not counts:
        right.axis("off")
        return
    base = modes["inference"]["loss"]
    right.axhline(base["value"], color=COLOURS["inference"], linestyle="--", linewidth=1.2, label="inference")
    right.axhspan(base["low"], base["high"], color="#eeeeee", zorder=0)
    rows = [result["samples"][str(n)]["loss"] for n in counts]
    values = np.array([row["value"] for row in rows])
    spread = [values - [row["low"] for row in rows], [row["high"] for row in rows] - values]
    right.errorbar(counts, values, yerr=np.clip(spread, 0, None), fmt="o-", color=COLOURS["mc"], capsize=2, label="mc")
    right.set_xscale("log")
    right.xaxis.set_major_locator(FixedLocator(counts))
    right.xaxis.set_minor_locator(NullLocator())
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.set_title("Are the samples enough?", loc="left", fontsize=10)
    right.set_xlabel("Monte-Carlo samples")
    right.set_ylabel("test loss (nats)")
    right.legend(frameon=False, fontsize=8)
    _plain(right)


def _detection(panel, result, modes):
    """Draws how well each score tells each foreign data set from the test part."""
    names = list(modes["inference"]["ood"])
    ax = panel.subplots()
    rows = []
    for name in names:
        for mode, figures in modes.items():
            for score in SCORES:
                if figures["ood"][name].get(score, {"auroc": {"value": None}})["auroc"]["value"] is not None:
                    rows.append(
                        (f"{_short(name)}: {mode}, {SCORES[score][0]}", mode, score, figures["ood"][name][score])
                    )
    for y, (_, mode, score, figure) in enumerate(rows):
        row = figure["auroc"]
        spread = [[max(0, row["value"] - row["low"])], [max(0, row["high"] - row["value"])]]
        face = SCORES[score][1] if mode == "mc" else "white"
        ax.errorbar(row["value"], y, xerr=spread, fmt=SCORES[score][2], color=SCORES[score][1], mfc=face, capsize=3)
    ax.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=8, parse_math=False)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.axvline(0.5, color="#999999", linewidth=0.8, linestyle=":")
    ax.set_xlim(min(0.45, *(row[3]["auroc"]["low"] for row in rows)) - 0.02, 1.01)
    ax.set_title("Is foreign data noticed?", loc="left", fontsize=10)
    ax.set_xlabel("AUROC (0.5: no better than chance, dotted; 1: always)")
    _plain(ax, "x")


def _corruptions(panel, result, modes):
    """Draws the error and the calibration error of corrupted test images against the strength of the corruption."""
    from zoo.reliability.corruptions import KINDS

    axes = panel.subplots(1, 2 * len(modes), sharex=True, squeeze=False)[0]
    for i, key in enumerate(("error", "ece")):
        row = axes[i * len(modes) : (i + 1) * len(modes)]
        top = 0.0
        for ax, (mode, figures) in zip(row, modes.items(), strict=True):
            for k, kind in enumerate(KINDS):
                values = [figures[key], *(each[mode][key] for each in result["corruptions"][kind])]
                y = [value["value"] for value in values]
                top = max(top, *y)
                look = {"color": _CORRUPTION_COLOURS[k], "marker": _MARKERS[k], "markersize": 3.5, "linewidth": 1.2}
                ax.plot(range(len(y)), y, label=kind, **look)
            ax.set_title(f"{'Error' if key == 'error' else 'ECE'}, {mode}", loc="left", fontsize=10)
            ax.set_xticks(range(len(y)))
            _plain(ax)
        for ax in row:
            ax.set_ylim(0, 1.05 * top or 1.0)
    axes[0].set_ylabel("error (%)")
    axes[len(modes)].set_ylabel("calibration error (%)")
    panel.supxlabel("strength of the corruption of the test images; 0: as they are", fontsize=9)
    panel.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=7, frameon=False, fontsize=8)


# Okabe & Ito.
_CORRUPTION_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def _sets(panel, result, modes):
    """Draws the coverage of the prediction sets of each class, and their mean size."""
    left, right = panel.subplots(1, 2, sharey=True)
    labels = [_short(label) for label in result["classes"]][:30]
    for name, figures in modes.items():
        thr = figures["sets"]["thr"]
        if "by_class" not in thr:
            continue
        for ax, key, factor in ((left, "coverage", 100), (right, "set_size", 1)):
            y = [i for i, label in enumerate(result["classes"][:30]) if label in thr["by_class"]]
            x = [factor * thr["by_class"][result["classes"][i]][key] for i in y]
            face = COLOURS[name] if name == "mc" else "white"
            shift = 0.0 if len(modes) == 1 else 0.15 if name == "mc" else -0.15  # equal values stay visible
            ax.plot(x, np.add(y, shift), "o", color=COLOURS[name], mfc=face, markersize=5, label=TITLES[name])
    left.set_yticks(range(len(labels)), labels, fontsize=8, parse_math=False)
    left.set_ylim(len(labels) - 0.5, -0.5)
    left.axvline(100 * result["level"], color="#999999", linewidth=0.8, linestyle=":")
    left.set_title(f"Prediction sets for {100 * result['level']:g} % coverage, by class", loc="left", fontsize=10)
    left.set_xlabel("sets that hold the true class (%); dotted: asked")
    right.set_xlabel("mean number of classes in a set")
    left.legend(frameon=False, fontsize=8)
    for ax in (left, right):
        _plain(ax, "x")


def _images(panel, result, modes, examples, images):
    """Draws the test images of which the model is most and least certain, with the truth and the prediction."""
    mode = "mc" if "mc" in modes else "inference"
    rows = [row for row in examples if row["mode"] == mode]
    order = sorted(range(len(rows)), key=lambda i: -rows[i]["probability"])
    chosen = [("most certain", order[:SHOWN]), ("least certain", order[::-1][:SHOWN])]
    axes = panel.subplots(2, SHOWN, squeeze=False)
    for line, (title, indices) in zip(axes, chosen, strict=True):
        for k, ax in enumerate(line):
            ax.axis("off")
            if k >= len(indices):
                continue
            row = rows[indices[k]]
            image = images[row["index"]]
            ax.imshow(displayed(image), cmap="gray", vmin=0, vmax=255)
            truth, predicted = (_short(result["classes"][row[key]], 11) for key in ("label", "predicted"))
            right = row["label"] == row["predicted"]
            text = f"{truth}\n{100 * row['probability']:.0f} %" if right else f"{truth}\nnot {predicted}"
            ax.set_title(text, fontsize=7, color="black" if right else "#D55E00", parse_math=False)
            if k == 0:
                ax.text(-0.25, 0.5, title, rotation=90, va="center", ha="right", fontsize=9, transform=ax.transAxes)
    panel.supxlabel("truth and probability; orange: truth and the wrong prediction", fontsize=8.5, color=GREY)


def _plain(ax, grid="both"):
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="#e5e5e5", linewidth=0.6)
    ax.set_axisbelow(True)


def _short(text, length=24):
    return text if len(text) <= length else text[: length - 1] + "…"
