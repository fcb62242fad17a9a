"""The pictures of a claim: what was measured, a dot per seed, and what each part of the rule came to."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from trainers.claims.claim import Claim
from trainers.claims.rules import ENOUGH, REFUTED, REPRODUCED, UNDECIDED, Contrast, Results, members
from trainers.claims.wording import short
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
for _kind, _words in (("mc", "Monte-Carlo masks"), ("thinned", "thinned networks")):
    NAMES |= {f"{_kind}_error_{k}": f"test error of {k} {_words}, %" for k in (1, 5, 20, 50)}
    NAMES[f"{_kind}_error_single"] = f"test error of single {_words}, %"
for _share in (25, 50):
    NAMES[f"removed_{_share}_error"] = f"test error, {_share} % of units removed"


def draw(claim: Claim, state: Mapping[str, Any], results: Results, curves: Sequence[Mapping], folder: Path) -> None:
    """Writes `figure.png` and `small.png` of a claim into `folder`."""
    for name, figure in (("figure", _figure(claim, state, results, curves)), ("small", _small(claim, state, results))):
        with replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)


def _figure(claim, state, results, curves):
    findings = state["findings"]
    height = max(3.4, 0.5 + 0.72 * len(findings))
    exact = claim.experiment is None
    figure = Figure(figsize=(6.4 if exact else 11.0, height), layout="constrained")
    if exact:
        _forest(figure, findings)
        return figure
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    ax = left.subplots()
    if claim.experiment.curves and curves:
        _bands(ax, curves)
    else:
        _dots(ax, claim, results)
    _forest(right, findings)
    return figure


def _small(claim, state, results):
    figure = Figure(figsize=(3.0, 1.7), layout="constrained")
    if claim.experiment is None:
        _forest(figure, state["findings"][:1], labels=False)
    else:
        _dots(figure.subplots(), claim, results, small=True)
    return figure


def _dots(ax, claim, results, small=False):
    """Every run as a dot, the mean of each arm as a bar with its interval; a colour for each measure."""
    arms, measures = _shown(claim, small)
    arms = [arm for arm in arms if results.rows.get(arm)]
    legend = []
    for i, measure in enumerate(measures):
        colour, any_value = COLOURS[(1 + i) % len(COLOURS)], False
        shift = (i - (len(measures) - 1) / 2) * 0.24
        for x, arm in enumerate(arms):
            values = [row.get(measure) for _, row in sorted(results.rows[arm].items())]
            values = np.array([v for v in values if v is not None], float)
            if not len(values):
                continue
            any_value = True
            jitter = np.linspace(-0.09, 0.09, len(values)) if len(values) > 1 else 0
            ax.scatter(x + shift + jitter, values, s=7 if small else 15, color=colour, alpha=0.55, linewidths=0)
            mean = values.mean()
            ax.plot([x + shift - 0.11, x + shift + 0.11], [mean] * 2, color=colour, linewidth=2.2)
            low, high = paired.t_interval(np.zeros(len(values)), values)
            if low is not None and len(values) >= ENOUGH and not small:
                ax.plot([x + shift] * 2, [low, high], color=colour, linewidth=1.4)
        if any_value:
            legend.append(Line2D([], [], color=colour, linewidth=2.2, label=NAMES.get(measure, measure)))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlim(-0.5, max(0.5, len(arms) - 0.5))
    size = 7 if small else 9
    crowded = sum(map(len, arms)) > (26 if small else 62)
    ax.set_xticks(
        range(len(arms)), arms, fontsize=size, rotation=35 if crowded else 0, ha="right" if crowded else "center"
    )
    ax.tick_params(axis="y", labelsize=size)
    ax.yaxis.set_major_locator(MaxNLocator(4 if small else 6))
    if len(legend) == 1 or small:
        ax.set_title(NAMES.get(measures[0], measures[0]), fontsize=size + (0 if small else 1), loc="left")
    if len(legend) > 1 and not small:
        ax.figure.legend(handles=legend, loc="outside upper left", frameon=False, fontsize=9)


def _shown(claim, small):
    """The arms and the measures that a picture of dots shows: those of the parts in one unit, test errors first."""
    parts = [part for part in members(claim.rule) if hasattr(part, "measure") or hasattr(part, "a")]
    keys = [(arm, measure) for part in parts for arm, measure in _read(part)]
    main = "test_error" if any(measure == "test_error" for _, measure in keys) else keys[0][1]
    same = [measure for _, measure in keys if _unit(measure) == _unit(main)]
    measures = list(dict.fromkeys([main, *same]))[: 1 if small else 4]
    if small:
        named = list(dict.fromkeys(arm for arm, measure in keys if measure == main))
        arms = [arm for arm in claim.experiment.arms if arm in named]
        return arms[:8], measures
    return list(claim.experiment.arms), measures


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


def _bands(ax, curves):
    """Test error by epoch: the range and the mean of the runs of each arm, and each run as a faint line."""
    arms = list(dict.fromkeys(row["arm"] for row in curves))
    late = []
    for i, arm in enumerate(arms):
        colour, runs = COLOURS[i % len(COLOURS)], {}
        for row in curves:
            if row["arm"] == arm:
                runs.setdefault(row["seed"], {})[row["epoch"]] = row["test_error"]
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
    ax.set_xlabel("epoch")
    ax.set_ylabel("test error, %")
    ax.legend(frameon=False, fontsize=9, loc="upper right")


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
            for side in (-1, 1):
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
        if labels:
            unit = finding["unit"].strip()
            text = f"{finding['label']}: {short(finding['value'])}{' ' + unit if unit else ''}, {finding['verdict']}"
            ax.set_title(text, fontsize=8, loc="left", color=colour, pad=3, wrap=False)
