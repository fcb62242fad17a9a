"""`rate.png`: validation error against the rate at every tuned site, each run a dot."""

import itertools
import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats

from trainers.figures import COLOURS, DPI
from trainers.statistics import LEVEL
from tuning.trial import CONTROL
from zoo.files import replacing

_COLUMNS = 3
_DOT, _MEAN, _CONTROL, _WINNER = COLOURS[5], COLOURS[1], COLOURS[0], COLOURS[2]


def draw(path, trials, space, title):
    """Draw the finished full runs of `trials` (best first) into the PNG file `path`; nothing if there are none.

    A panel a site: dots are runs, the diamond is the mean over all runs at that rate,
    whatever the other sites had, with its 95 % t interval where there are three or more.
    """
    if not trials:
        return
    sites = list(space.rates)
    columns = min(_COLUMNS, len(sites))
    rows = math.ceil(len(sites) / columns)
    figure = Figure(figsize=(1.2 + 3.6 * columns if columns > 1 else 6.2, 1.5 + 3.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    control = next((trial for trial in trials if trial.id == CONTROL), None)
    for ax, site in zip(axes, sites, strict=False):
        _panel(ax, site, trials, space.rates[site], control)
    for ax in axes[len(sites) :]:
        ax.set_visible(False)
    for row in range(rows):
        axes[row * columns].set_ylabel("validation error (per cent)")
    figure.suptitle(title, fontsize=11, fontweight="bold", parse_math=False)
    figure.legend(handles=_legend(control), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def _panel(ax, site, trials, rates, control):
    ax.grid(axis="y", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    runs = [(trial.values[f"rate_{site}"], row["val_error"]) for trial in trials for row in trial.executions.values()]
    x, y = np.array(runs).T
    ax.scatter(x + _apart(x, y, _step(rates)), y, s=16, color=_DOT, alpha=0.9, linewidths=0, zorder=2)
    tried = np.unique(x)
    ax.plot(tried, [y[x == rate].mean() for rate in tried], color=_MEAN, linewidth=1, alpha=0.5, zorder=2)
    for rate in tried:
        errors = y[x == rate]
        ax.plot(rate, errors.mean(), "D", color=_MEAN, markersize=5, zorder=4)
        if len(errors) > 2 and np.ptp(errors) > 0:  # that of two runs would fill the panel
            half = stats.sem(errors) * stats.t.ppf((1 + LEVEL) / 2, len(errors) - 1)
            ax.plot([rate] * 2, [errors.mean() - half, errors.mean() + half], color=_MEAN, linewidth=2, zorder=3)
    if control:
        ax.axhline(control.mean("val_error"), color=_CONTROL, linestyle="--", linewidth=1.4, zorder=1)
    best = trials[0]
    ax.plot(
        best.values[f"rate_{site}"],
        best.mean("val_error"),
        "o",
        markersize=11,
        fillstyle="none",
        color=_WINNER,
        markeredgewidth=1.8,
        zorder=5,
    )
    # An interval of two runs may span the axis; what was measured sets the scale.
    low, high = y.min(), y.max()
    margin = 0.12 * (high - low) or 0.5
    bottom, top = ax.get_ylim() if ax.get_autoscaley_on() is False else (math.inf, -math.inf)
    ax.set_ylim(min(bottom, max(0, low - margin)), max(top, high + margin))
    ax.set_xticks(rates if len(rates) < 12 else rates[:: math.ceil(len(rates) / 10)])
    ax.set_title(site, loc="left", fontsize=10, parse_math=False)
    ax.set_xlabel("rate (fraction dropped)")


def _step(rates):
    return min(b - a for a, b in itertools.pairwise(rates))


def _apart(x, y, step):
    """Small shifts that keep runs of equal rate and error from hiding each other."""
    shift = np.zeros(len(x))
    for rate in np.unique(x):
        at = np.flatnonzero(x == rate)
        order = at[np.argsort(y[at], kind="stable")]
        # Neighbours in error stand left, in the middle and right in turn.
        shift[order] = (np.arange(len(order)) % 3 - 1) * 0.1 * step if len(order) > 1 else 0
    return shift


def _legend(control):
    def mark(shape, colour, label, **more):
        return Line2D([], [], color=colour, marker=shape, linestyle="", label=label, **more)

    found = [
        mark("o", _DOT, "a run", markersize=5),
        mark("D", _MEAN, "mean at this rate, 95 % interval", markersize=5),
        mark("o", _WINNER, "lowest (chosen: too good)", markersize=10, fillstyle="none", markeredgewidth=1.8),
    ]
    if control:
        found.append(Line2D([], [], color=_CONTROL, linestyle="--", label="no dropout"))
    return found
