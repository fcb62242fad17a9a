"""The pictures of a comparison. They are drawn without pyplot, so that no global state changes."""

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from trainers.comparison.wording import too_few
from zoo.placement.schedule import Schedule

# Okabe & Ito: distinguishable for colour-blind readers. Black comes last, because it looks like an axis.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DPI = 160
_NUMBERED = 20  # the most classes whose names and numbers fit into a picture
DASHES = ("-", "--", ":")
PANELS = (("test_error", "test error (per cent)"), ("test_loss", "test loss (nats)"))


def pngs(
    summary: dict,
    arms: dict,
    curves: list[dict],
    dataset: str = "",
    moving: dict | None = None,
    placements: Mapping[str, str] | None = None,
    matrices: Mapping[str, list[list[int]]] | None = None,
    labels: Sequence[str] = (),
) -> dict[str, bytes]:
    """Returns the pictures of a comparison as PNG files.

    They are `wide` and `narrow` bands, `differences`, `schedules` and `confusions`. There are no bands without
    curves of finished runs, no differences without two paired seeds, no schedules unless rates move, and no
    confusions without matrices.

    Args:
        summary: What `paired.summarise` returns.
        arms: What `paired.by_arm` returns.
        curves: The rows of curves.csv.
        dataset: The name of the data set, for the title.
        moving: The schedule as text, by arm.
        placements: The placement as text, by arm, for the legends.
        matrices: The confusion matrix by arm, a row per true class.
        labels: The names of the classes.

    Examples:
        >>> pngs({"arms": {}, "pairs": []}, {}, [])
        {}
    """
    # Runs that did not finish are not part of the comparison. The arms keep its order.
    places = {
        (model, row["arm"], seed): place
        for place, (model, runs) in enumerate(arms.values())
        for seed, row in runs.items()
    }
    finished = [row for row in curves if (row["model"], row["arm"], row["seed"]) in places]
    finished.sort(key=lambda row: places[row["model"], row["arm"], row["seed"]])
    drawn = {}
    if finished:
        by_arm = _by_arm(placements, arms)
        drawn = {
            "wide": bands(finished, dataset, placements=by_arm),
            "narrow": bands(finished, dataset, narrow=True, placements=by_arm),
        }
    values = {(p["a"], p["b"]): paired_values(arms[p["a"]][1], arms[p["b"]][1]) for p in summary["pairs"]}
    if any(len(pairs) > 1 for pairs in values.values()):
        drawn["differences"] = differences(summary, values, placements)
    if moving:
        drawn["schedules"] = schedules(moving, list(dict.fromkeys(row["arm"] for row in finished)))
    if matrices and labels:
        drawn["confusions"] = confusions(matrices, labels)
    return {name: _png(figure) for name, figure in drawn.items()}


def bands(
    curves: list[dict], dataset: str = "", narrow: bool = False, placements: Mapping[str, str] | None = None
) -> Figure:
    """Draws test error (per cent) and test loss (nats) per epoch: a band for each arm, a faint line for each run.

    There is a row of panels for each model. The band is the range over the seeds, the thick line
    their mean. Both end where the first run of the arm ends, because longer runs are a biased sample.

    Args:
        curves: The rows of curves.csv, numbers parsed.
        dataset: The name of the data set, for the title.
        narrow: Puts the panels below each other, for a phone.
        placements: The placement as text, by arm, for the legend.

    Examples:
        >>> rows = [{"model": "mlp", "arm": "none", "seed": 1, "epoch": 1, "test_error": 5.0, "test_loss": 0.2}]
        >>> len(bands(rows).axes)
        2
    """
    models = list(dict.fromkeys(row["model"] for row in curves))
    arms = list(dict.fromkeys(row["arm"] for row in curves))
    rows, columns = (2 * len(models), 1) if narrow else (len(models), 2)
    size = (5.0, 0.9 + 3.1 * rows) if narrow else (10.0, 0.775 + 3.6 * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(len(models), 2)
    for model, row in zip(models, axes, strict=True):
        for (key, label), ax in zip(PANELS, row, strict=True):
            runs = _runs([r for r in curves if r["model"] == model], key)
            _plain(ax, "y")
            _panel(ax, runs, arms)
            ax.set_ylabel(label)
            ax.set_xlabel("epoch")
            name = f"{_short(model)}: " if len(models) > 1 else ""
            title = f"{name}{label.split(' (')[0]}{_cut(ax, runs)}"
            ax.set_title(title, loc="left", fontsize=10, parse_math=False)
    _frame(figure, curves, arms, models, dataset, narrow, placements or {})
    return figure


def differences(summary: dict, values: dict, placements: Mapping[str, str] | None = None) -> Figure:
    """Draws every paired difference in test error as a dot, with the mean and its t interval.

    With fewer than five seeds there is no interval. Pairs without a value are left out.

    Args:
        summary: What `paired.summarise` returns.
        values: `{(a, b): [(seed, value of a, value of b), ...]}`, in per cent.
        placements: The placement as text, by arm, for the labels.

    Examples:
        >>> pair = {"a": "none", "b": "default", "difference": -1.0, "low": None, "high": None}
        >>> len(differences({"pairs": [pair]}, {("none", "default"): [(1, 3.0, 2.0)]}).axes)
        1
    """
    pairs = [pair for pair in summary["pairs"] if values.get((pair["a"], pair["b"]))]
    figure = Figure(figsize=(7.5, 1.5 + 0.9 * len(pairs)), layout="constrained")
    ax = figure.subplots()
    _plain(ax, "x")
    for y, pair in enumerate(pairs):
        points = np.array([b - a for _, a, b in values[pair["a"], pair["b"]]], float)
        # Equal differences (test errors come in steps) are stacked, so that each is visible.
        rank = _rank(points)
        heights = y - 0.12 - min(0.09, 0.5 / max(1, rank.max())) * rank
        ax.scatter(points, heights, s=22, color=COLOURS[1], alpha=0.8, linewidths=0)
        if pair["low"] is not None and not too_few({"n": len(points)}):
            ax.plot([pair["low"], pair["high"]], [y + 0.14] * 2, color="#222222", linewidth=2.5)
        ax.plot(pair["difference"], y + 0.14, "D", color="#222222", markersize=6)
    ax.axvline(0, color="#666666", linewidth=1)
    low, high = ax.get_xlim()
    reach = 1.08 * max(1e-6, -low, high)
    ax.set_xlim(min(low, -0.45 * reach), max(high, 0.45 * reach))  # both sides of zero have room for their words
    labels = [f"{_labelled(pair['b'], placements)}\nminus {_labelled(pair['a'], placements)}" for pair in pairs]
    ax.set_yticks(range(len(pairs)), labels)
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
    ax.set_ylim(len(pairs) - 0.5, -0.75)
    ax.set_xlabel("paired difference in test error (points)")
    for x, side, words in ((0.0, "left", "\u2190 arm lower (better)"), (1.0, "right", "higher (worse) \u2192")):
        ax.text(x, 1.0, words, ha=side, va="bottom", transform=ax.transAxes, fontsize=10, color="#444444")
    return figure


def schedules(moving: dict, arms: list) -> Figure:
    """Draws the factor on the rates of each arm over a run; `arms` are in the order of the other pictures.

    Examples:
        >>> len(schedules({"fading": "early:0.5"}, ["none", "fading"]).axes)
        1
    """
    figure = Figure(figsize=(5.6, 2.4 + 0.22 * len(moving)), layout="constrained")
    ax = figure.subplots()
    _plain(ax, "y")
    progress = np.linspace(0, 1, 601)
    for arm, text in moving.items():
        colour, dash = _look(arms.index(arm) if arm in arms else 0)
        factor = np.asarray(Schedule.parse(text).factor(progress))
        ax.plot(progress, factor, color=colour, linestyle=dash, linewidth=2.4, label=f"{_short(arm)} ({text})")
    ax.set_xlabel("fraction of the run")
    ax.set_ylabel("factor on the rates")
    ax.set_ylim(-0.04, 1.08)
    ax.set_xlim(0, 1)
    for text in figure.legend(loc="outside lower center", frameon=False, fontsize=9).get_texts():
        text.set_parse_math(False)
    return figure


def confusions(matrices: Mapping[str, list[list[int]]], labels: Sequence[str]) -> Figure:
    """Draws the confusion matrix of each arm: for each true class (row), the per cent that got each class (column).

    Args:
        matrices: The counts by arm, a row per true class.
        labels: The names of the classes.

    Examples:
        >>> len(confusions({"none": [[9, 1], [2, 8]], "default": [[10, 0], [2, 8]]}, ["cat", "dog"]).axes)
        2
    """
    classes = len(labels)
    columns = 1 if len(matrices) == 1 or classes > _NUMBERED else 2
    rows = math.ceil(len(matrices) / columns)
    side = 1.6 + min(0.36 * classes, 6.0)
    figure = Figure(figsize=(columns * side + 0.6, rows * side), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    counts = np.asarray(list(matrices.values()), float)  # (arms, true classes, predicted classes)
    shares = 100 * counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    # Right answers are the rule; the colours are for the mistakes, on one scale.
    mistakes = np.where(np.eye(classes, dtype=bool), np.nan, shares)
    peak = max(1e-9, np.nanmax(mistakes))
    for ax, arm, values, colours in zip(panels, matrices, shares, mistakes, strict=False):
        ax.imshow(colours, cmap="Oranges", vmin=0, vmax=peak)
        ax.set_title(_short(arm), loc="left", fontsize=10, parse_math=False)
        ax.set_xlabel("predicted class")
        ax.set_ylabel("true class")
        if classes <= _NUMBERED:
            _numbered(ax, values, peak, [_short(label, 12) for label in labels])
    for ax in panels[len(matrices) :]:
        ax.set_axis_off()
    return figure


def _numbered(ax, shares: np.ndarray, peak: float, labels: list[str]) -> None:
    """Writes the classes on the axes and each share, in per cent, into its cell."""
    places = range(len(labels))
    ax.set_xticks(places, labels, rotation=90 if max(map(len, labels)) > 2 else 0, fontsize=8)
    ax.set_yticks(places, labels, fontsize=8)
    for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        text.set_parse_math(False)
    for i in places:
        for j in places:
            if shares[i, j] > 0:
                colour = "#ffffff" if i != j and shares[i, j] > 0.6 * peak else "#222222"
                ax.text(j, i, f"{shares[i, j]:.0f}" if shares[i, j] >= 1 else "<1", ha="center", va="center",
                        fontsize=7, color=colour, fontweight="bold" if i == j else None)  # fmt: skip


def _runs(rows: list[dict], key: str) -> dict:
    """`{arm: [(epochs, values) of each run]}`; a value that is not finite becomes a gap in the line."""
    runs = {}
    for row in rows:
        value = row[key]
        value = value if isinstance(value, int | float) and math.isfinite(value) else math.nan
        # A dictionary by epoch: an epoch that a resumed run wrote twice counts once.
        runs.setdefault(row["arm"], {}).setdefault(row["seed"], {})[row["epoch"]] = value
    return {arm: [_line(run) for run in seeds.values()] for arm, seeds in runs.items()}


def _line(run: dict) -> tuple:
    epochs = sorted(run)
    return np.array(epochs), np.array([run[epoch] for epoch in epochs], float)


def _plain(ax, grid: str) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)


def _cut(ax, runs: dict) -> str:
    """A remark for the title if values lie above the panel."""
    values = np.concatenate([values for lines in runs.values() for _, values in lines])
    peak = np.max(values[np.isfinite(values)], initial=0.0)
    return f" (axis cut; values up to {peak:.3g})" if peak > ax.get_ylim()[1] else ""


def _panel(ax, runs: dict, arms: list) -> None:
    faint = min(1.0, 3 / len(arms))  # many arms overlap; their means must stay visible
    for arm, lines in runs.items():
        colour, dash = _look(arms.index(arm))
        for epochs, values in lines:
            ax.plot(epochs, values, color=colour, linewidth=0.5, alpha=faint * min(0.35, 1.5 / len(lines)), zorder=1)
        shared = sorted(set.intersection(*(set(epochs.tolist()) for epochs, _ in lines)))
        if not shared:
            continue
        inside = np.array([values[np.isin(epochs, shared)] for epochs, values in lines])
        ax.fill_between(shared, inside.min(0), inside.max(0), color=colour, alpha=0.24 * faint, linewidth=0)
        marker = "o" if len(shared) == 1 else None
        ax.plot(shared, inside.mean(0), color=colour, linewidth=2.4, linestyle=dash, marker=marker)
    last = max(epochs[-1] for lines in runs.values() for epochs, _ in lines)
    ax.set_xlim((0.5, 1.5) if last == 1 else (1, last + 0.01 * (last - 1)))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set_ylim(*_limits([line for lines in runs.values() for line in lines]))


def _limits(lines: list) -> tuple:
    """Axis limits that show where the runs end, not where they begin.

    They come from the second half of each run. They always include the last value of each run.
    """
    late = np.concatenate([values[len(values) // 2 :] for _, values in lines])
    ends = np.array([values[-1] for _, values in lines])
    late, ends = late[np.isfinite(late)], ends[np.isfinite(ends)]
    if not late.size:
        return 0.0, 1.0
    low = min(late.min(), *ends) if ends.size else late.min()
    high = max(np.quantile(late, 0.98), *ends) if ends.size else np.quantile(late, 0.98)
    spread = (high - low) or abs(high) * 0.1 or 1.0
    # More room above than below, so that part of the descent is visible.
    return max(0.0, low - 0.12 * spread) if low >= 0 else low - 0.12 * spread, high + 0.3 * spread


def _frame(figure, curves, arms, models, dataset, narrow, placements) -> None:
    """Adds the title, and the legend below the panels, where it covers no line."""
    seeds = [len({r["seed"] for r in curves if (r["model"], r["arm"]) == key}) for key in _keys(curves)]
    count = f"{min(seeds)}" if min(seeds) == max(seeds) else f"{min(seeds)} to {max(seeds)}"
    plural = "" if max(seeds) == 1 else "s"
    joint = ",\n" if narrow else ", "
    where = f" on {_short(dataset, 30)}" if dataset else ""
    title = f"Test error and loss: {_short(', '.join(models), 40)}{where}{joint}{count} seed{plural} per arm"
    figure.suptitle(title, fontsize=12, fontweight="bold", parse_math=False)
    looks = [_look(i) for i in range(len(arms))]
    handles = [Line2D([], [], color=colour, linestyle=dash, linewidth=2.4) for colour, dash in looks]
    labels = [_short(f"{_short(arm)}: {placements[arm]}" if placements.get(arm) else arm, 60) for arm in arms]
    longest = max(map(len, labels))
    columns = max(1, min(len(arms), (45 if narrow else 110) // (longest + 7)))
    legend = figure.legend(
        handles,
        [str(i) for i in range(len(arms))],
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title="band: lowest to highest run; thick line: mean; faint lines: runs",
        title_fontsize=9,
    )
    # Set afterwards: matplotlib skips labels that begin with "_", and reads "$" as mathematics.
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)


def _by_arm(placements, arms):
    """Placements by the arm's own name, without the model; empty where the models' placements differ."""
    texts = {}
    for name, (model, _) in arms.items():
        texts.setdefault(name.removeprefix(f"{model}/"), set()).add((placements or {}).get(name))
    return {arm: values.pop() for arm, values in texts.items() if len(values) == 1}


def paired_values(a: dict, b: dict) -> list[tuple]:
    """Returns (seed, test error in `a`, test error in `b`) for each seed of both; `a` and `b` are rows by seed."""
    pairs = [(seed, a[seed]["test_error"], b[seed]["test_error"]) for seed in sorted(a.keys() & b.keys())]
    return [pair for pair in pairs if all(x is not None and math.isfinite(x) for x in pair[1:])]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _keys(curves: list[dict]) -> list:
    return list(dict.fromkeys((row["model"], row["arm"]) for row in curves))


def _look(index: int) -> tuple:
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]


def _rank(values: np.ndarray) -> np.ndarray:
    """For each value, the number of equal values before it."""
    rounded = np.round(values, 6)
    return np.array([int((rounded[:i] == v).sum()) for i, v in enumerate(rounded)])


def _labelled(arm: str, placements: Mapping[str, str] | None) -> str:
    text = (placements or {}).get(arm)
    return f"{_short(arm, 24)} ({_short(text, 30)})" if text else _short(arm, 24)


def _short(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
