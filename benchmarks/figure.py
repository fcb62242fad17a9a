"""`price.png`: the cost of dropout, with the project's layers and with Keras', over networks, widths and batches."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from trainers.comparison.figures import COLOURS, DPI
from zoo.files import replacing

_LOOKS = {"ours": COLOURS[1], "stock": COLOURS[0]}
_TICKS = (1, 1.2, 1.5, 2, 3, 5, 8, 12, 20)


def draw(results: dict, path: str | Path | None = None) -> None:
    """Draws the results of `price` and `widths`; nothing if there are none.

    Args:
        results: the contents of `results.json`.
        path: the PNG file to write (default: `price.png` in this folder).
    """
    path = path or Path(__file__).with_name("price.png")
    panels = [(name, rows) for name, rows in _panels(results) if rows]
    if not panels:
        return
    figure = Figure(figsize=(max(5.5, 3.7 * len(panels)), 4.0), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (name, rows) in zip(axes, panels, strict=True):
        _panel(ax, name, rows)
    # Logarithmic: the stock layers under XLA cost several times as much as all others.
    axes[0].set_yscale("log")
    highest = max(max(row["high"], row["ratio"]) for _, rows in panels for _, row in rows)
    axes[0].set_ylim(min(0.95, *(row["low"] for _, rows in panels for _, row in rows)), 1.15 * highest)
    axes[0].set_yticks([tick for tick in _TICKS if tick <= 1.15 * highest], minor=False)
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel("step time with / without dropout\n(logarithmic)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def _panels(results):
    price = results.get("price", {}).get("rows", ())
    widths = results.get("widths", {}).get("rows", ())
    yield "batch 128", [(row["model"], row) for row in price if not row["xla"]]
    yield "batch 128, XLA", [(row["model"], row) for row in price if row["xla"]]
    yield "MLP, rate 0.5", [(f"{row['width']}\nx{row['batch']}", row) for row in widths]


def _panel(ax, title, rows):
    names = list(dict.fromkeys(name for name, _ in rows))
    for side, layers in ((-0.2, "ours"), (0.2, "stock")):
        for name, row in rows:
            if row["layers"] != layers:
                continue
            x, label = names.index(name) + side, "this project's layers" if layers == "ours" else "Keras' layers"
            first = name == names[0]
            ax.bar(x, row["ratio"] - 1, 0.38, bottom=1, color=_LOOKS[layers], label=label if first else None)
            ax.plot([x, x], [row["low"], row["high"]], color="#222222", linewidth=1)
            top = 1.015 * max(1, row["ratio"], row["high"])
            ax.text(x, top, f"{row['ratio']:.2f}", ha="center", va="bottom", fontsize=7.5)
    ax.set_xticks(range(len(names)), names, fontsize=8.5)
    ax.axhline(1, color="#666666", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(title, loc="left", fontsize=10)
    if title.startswith("MLP"):
        ax.set_xlabel("width x batch size")
