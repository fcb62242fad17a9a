"""`price.png`: what dropout costs, ours beside Keras' own layers; over networks, widths and batch sizes."""

from pathlib import Path

from matplotlib.figure import Figure

from trainers.figures import COLOURS, DPI
from zoo.files import replacing

_LOOKS = {"ours": COLOURS[1], "stock": COLOURS[0]}
_CUT = 2.0  # bars of stock layers under XLA would dwarf all others


def draw(results, path=None):
    """Draw what `results` holds of `price` and `widths` into `path` (`price.png` here); nothing if it holds neither."""
    path = path or Path(__file__).with_name("price.png")
    panels = [(name, rows) for name, rows in _panels(results) if rows]
    if not panels:
        return
    figure = Figure(figsize=(3.7 * len(panels), 3.6), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (name, rows) in zip(axes, panels, strict=True):
        _panel(ax, name, rows)
    axes[0].set_ylabel("step time with dropout / without")
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
            height = min(row["ratio"], _CUT)
            ax.bar(x, height - 1, 0.38, bottom=1, color=_LOOKS[layers], label=label if first else None)
            ax.plot([x, x], [min(row["low"], _CUT), min(row["high"], _CUT)], color="#222222", linewidth=1)
            ax.text(
                x,
                max(height, min(row["high"], _CUT)) + 0.015,
                f"{row['ratio']:.2f}",
                ha="center",
                va="bottom",
                fontsize=7.5,
            )
    ax.set_xticks(range(len(names)), names, fontsize=8.5)
    ax.set_ylim(0.9, _CUT + 0.12)
    ax.axhline(1, color="#666666", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    cut = any(row["ratio"] > _CUT for _, row in rows)
    ax.set_title(title + (f" (bars cut at {_CUT:g})" if cut else ""), loc="left", fontsize=10)
    if title.startswith("MLP"):
        ax.set_xlabel("width x batch size")
