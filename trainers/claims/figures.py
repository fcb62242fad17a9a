"""The pictures of a claim: what was measured, a dot per seed, and what each part of the rule came to."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from trainers.claims.claim import Claim
from trainers.claims.rules import ENOUGH, REFUTED, REPRODUCED, UNDECIDED, Contrast, Results, members
from trainers.claims.wording import PARTS, measured
from trainers.comparison import paired
from trainers.comparison.figures import COLOURS
from zoo.files import replacing

VERDICTS = {REPRODUCED: "#009E73", REFUTED: "#D55E00", UNDECIDED: "#777777"}
DPI = 150
NAMES = {
    "test_error": "test error, %",
    "train_error": "training error, %",
    "test_loss": "test loss, nats",
    "train_loss": "training loss, nats",
    "gap": "test minus training error, points",
    "val_loss_rise": "rise of validation loss, nats",
    "best_epoch": "best epoch on validation",
    "activation": "mean hidden activation",
    "active": "active hidden units, %",
    "shift": "ratio of variances",
    "unscaled_ratio": "logits: times too large",
    "scaled_loss": "loss after temperature scaling, nats",
    "auroc_mc": "AUROC of Monte-Carlo entropy",
    "reestimated_error": "test error, statistics measured again, %",
    "unscaled_error": "test error without the factor, %",
    "unscaled_loss": "test loss without the factor, nats",
}
# Beside other measures of the same network.
ALONE = {"test_error": "weight scaling", "unscaled_error": "without the factor"}
ALONE |= {f"{kind}_error_single": "single masks" for kind in ("mc", "thinned")}
ALONE |= {f"{kind}_error_{k}": f"{k} mask{'s' * (k > 1)}" for kind in ("mc", "thinned") for k in (1, 5, 20, 50)}
for _kind, _words in (("mc", "Monte-Carlo masks"), ("thinned", "thinned networks")):
    NAMES |= {f"{_kind}_error_{k}": f"test error of {k} {_words}, %" for k in (1, 5, 20, 50)}
    NAMES[f"{_kind}_error_single"] = f"test error of single {_words}, %"
for _share in (25, 50):
    NAMES[f"removed_{_share}_error"] = f"test error, {_share} % of units removed"


def draw(claim: Claim, state: Mapping[str, Any], results: Results, curves: Sequence[Mapping], folder: Path) -> None:
    """Writes `figure.png` and `small.png` of a claim into `folder`, and `bands.png` if there are curves."""
    drawn = {"figure": _figure(claim, state, results, curves), "small": _small(claim, state, results, curves)}
    if claim.experiment and claim.experiment.curves and curves:
        drawn["bands"] = Figure(figsize=(10.0, 3.6), layout="constrained")
        _both_bands(drawn["bands"], curves)
    for name, figure in drawn.items():
        with replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)


def _figure(claim, state, results, curves):
    findings = state["findings"]
    height = max(3.4, 0.5 + 0.72 * len(findings))
    if claim.experiment is None:
        figure = Figure(figsize=(6.4, height), layout="constrained")
        _forest(figure, findings)
        return figure
    banded = claim.experiment.curves and curves
    figure = Figure(figsize=(13.0 if banded else 11.0, height), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.9 if banded else 1.15, 1))
    if banded:
        _both_bands(left, curves)
    else:
        _dots(left.subplots(), claim, results)
    _forest(right, findings)
    return figure


def _small(claim, state, results, curves):
    figure = Figure(figsize=(3.0, 1.7), layout="constrained")
    if claim.experiment is None:
        _forest(figure, state["findings"][:1], labels=False)
    elif claim.experiment.curves and curves:
        _bands(figure.subplots(), curves, small=True)
    else:
        _dots(figure.subplots(), claim, results, small=True)
    return figure


def _dots(ax, claim, results, small=False):
    """Every run as a dot, the mean as a bar with its interval: arms beside each other, a colour for each measure.

    Several measures of one arm stand beside each other.
    """
    arms, measures = _shown(claim, small)
    arms = [arm for arm in arms if results.rows.get(arm)]
    alone = len(arms) == 1 and len(measures) > 1
    if alone:
        columns = [(x, 0, arms[0], measure) for x, measure in enumerate(measures)]
        labels = [textwrap.fill(ALONE.get(measure, _plain(NAMES.get(measure, measure))), 13) for measure in measures]
    else:
        columns = [(x, i, arm, measure) for i, measure in enumerate(measures) for x, arm in enumerate(arms)]
        labels = arms
    for x, i, arm, measure in columns:
        values = [row.get(measure) for _, row in sorted(results.rows[arm].items())]
        values = np.array([v for v in values if v is not None], float)
        shift = 0.0 if alone else (i - (len(measures) - 1) / 2) * 0.24
        if len(values):
            _column(ax, x + shift, values, COLOURS[(1 + i) % len(COLOURS)], small)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlim(-0.5, max(0.5, len(labels) - 0.5))
    size = 7 if small else 9
    crowded = sum(max(map(len, label.split("\n"))) for label in labels) > (26 if small else 62)
    ax.set_xticks(range(len(labels)), labels, fontsize=size)
    if crowded:
        ax.tick_params(axis="x", rotation=35)
        for text in ax.get_xticklabels():
            text.set_ha("right")
    ax.tick_params(axis="y", labelsize=size)
    ax.yaxis.set_major_locator(MaxNLocator(4 if small else 6))
    name = NAMES.get(measures[0], measures[0])
    if alone:
        ax.set_title(f"{arms[0]}: {name}", fontsize=size + (not small), loc="left")
    elif len(measures) == 1:
        ax.set_title(name, fontsize=size + (not small), loc="left")
    else:
        handles = [
            Line2D([], [], color=COLOURS[(1 + i) % len(COLOURS)], linewidth=2.2, label=NAMES.get(measure, measure))
            for i, measure in enumerate(measures)
        ]
        ax.figure.legend(handles=handles, loc="outside upper left", frameon=False, fontsize=9)


def _column(ax, x, values, colour, small):
    jitter = np.linspace(-0.09, 0.09, len(values)) if len(values) > 1 else 0
    ax.scatter(x + jitter, values, s=7 if small else 15, color=colour, alpha=0.55, linewidths=0)
    ax.plot([x - 0.11, x + 0.11], [values.mean()] * 2, color=colour, linewidth=2.2)
    low, high = paired.t_interval(np.zeros(len(values)), values)
    if low is not None and len(values) >= ENOUGH and not small:
        ax.plot([x] * 2, [low, high], color=colour, linewidth=1.4)


def _shown(claim, small):
    """The arms and the measures that a picture of dots shows: those of the parts in one unit, test errors first.

    The claim that an experiment was made for shows all of its arms.
    """
    keys = [key for part in members(claim.rule) for key in _read(part)]
    main = "test_error" if any(measure == "test_error" for _, measure in keys) else keys[0][1]
    same = [key for key in keys if _unit(key[1]) == _unit(main)]
    read = [arm for arm in claim.experiment.arms if arm in {arm for arm, _ in same}]
    measures = sorted({measure for _, measure in same}, key=lambda measure: (measure != main, _order(measure)))
    if len(read) > 1 and small:
        measures = measures[:1]
    if claim.id == claim.experiment.name and not small:
        read = list(claim.experiment.arms)
    return read, measures[:4]


def _order(measure):
    digits = "".join(filter(str.isdigit, measure))
    return int(digits or 0)


def _read(part):
    """(arm, measure) of everything that a part reads."""
    if isinstance(part, Contrast):
        for key in part.weights:
            names, _, measure = key.partition(":")
            yield from ((arm, measure or part.measure) for arm in names.split("|"))
    else:
        yield from ((arm, getattr(part, "measure", "test_error")) for arm in part.arms())


def _unit(measure):
    name = NAMES.get(measure, measure)
    return name.rpartition(", ")[2] if ", " in name else name


def _plain(name):
    """A name without its unit."""
    return name.rpartition(", ")[0] or name


def _both_bands(figure, curves):
    error, loss = figure.subplots(1, 2)
    _bands(error, curves)
    _bands(loss, curves, measure="test_loss")


def _bands(ax, curves, small=False, measure="test_error"):
    """A measure by epoch: the range and the mean of the runs of each arm, and each run as a faint line."""
    arms = list(dict.fromkeys(row["arm"] for row in curves))
    late = []
    for i, arm in enumerate(arms):
        colour, runs = COLOURS[i % len(COLOURS)], {}
        for row in curves:
            if row["arm"] == arm:
                runs.setdefault(row["seed"], {})[row["epoch"]] = row[measure]
        epochs = sorted(set.intersection(*(set(run) for run in runs.values())))
        values = np.array([[run[epoch] for epoch in epochs] for run in runs.values()], float)
        for line in values:
            ax.plot(epochs, line, color=colour, linewidth=0.4, alpha=0.3)
        ax.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0)
        ax.plot(epochs, values.mean(0), color=colour, linewidth=2.2, label=f"{arm} ({len(runs)} seeds)")
        late.append(values[:, len(epochs) // 4 :])
    low, high = min(v.min() for v in late), max(v.max() for v in late)
    ax.set_ylim(low - 0.08 * (high - low), high + 0.35 * (high - low))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    size = 7 if small else 9
    ax.tick_params(labelsize=size)
    ax.set_xlabel("epoch", fontsize=size)
    ax.set_ylabel(NAMES[measure], fontsize=size)
    if measure == "test_error":  # the panels beside each other share it
        ax.legend(frameon=False, fontsize=size, loc="upper right")


def _forest(figure, findings, labels=True):
    """A row for each part of a rule, on a scale of its own: the mean, its interval, and what would refute it."""
    rows = [finding for finding in findings if finding["value"] is not None]
    if not rows:
        ax = figure.subplots()
        ax.axis("off")
        ax.text(0.5, 0.5, "not run yet", ha="center", va="center", color="#777777")
        return
    axes = np.atleast_1d(figure.subplots(len(rows), 1))
    for ax, finding in zip(axes, rows, strict=True):
        colour = VERDICTS[finding["verdict"]]
        limit = finding.get("limit", 0.0)
        ends = [end for end in (finding["low"], finding["high"]) if end is not None]
        reach = max([abs(x - limit) for x in (*ends, finding["value"])] + [abs(finding["least"])]) or 1e-9
        ax.axvline(limit, color="#444444", linewidth=1)
        if finding["least"]:
            for side in {"below": (-1,), "above": (1,)}.get(finding["claimed"], (-1, 1)):
                ax.axvline(limit + side * finding["least"], color="#999999", linewidth=0.8, linestyle=":")
        if ends:
            ax.plot(ends, [0, 0], color=colour, linewidth=3, solid_capstyle="butt")
        ax.plot(finding["value"], 0, "D", color=colour, markersize=6)
        ax.set_xlim(limit - 1.25 * reach, limit + 1.25 * reach)
        ax.set_ylim(-1, 1)
        ax.set_yticks([])
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="x", labelsize=7)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.get_offset_text().set_fontsize(7)
        if labels:
            text = f"{finding['label']}: {measured(finding)}, {PARTS[finding['verdict']]}"
            ax.set_title(text, fontsize=8, loc="left", color=colour, pad=3, wrap=False)
