"""`rate.png`: the best error so far, the effect of each rate, and of whatever else is tuned."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from trainers.comparison.figures import COLOURS, DPI
from tuning.effects import Effects, fit
from tuning.space import Space
from zoo.files import replacing

if TYPE_CHECKING:
    from tuning.study import Trial

_COLUMNS = 3
_RUN, _EFFECT, _CONTROL, _WINNER = COLOURS[5], COLOURS[1], COLOURS[0], COLOURS[2]
_FITTED = {"levels": "fitted mean", "quadratic": "fitted quadratic", "linear": "fitted line"}


def draw(path: str | Path, trials: "Sequence[Trial]", space: Space, title: str) -> None:
    """Writes `picture(trials, space, title)` into the PNG file `path`; nothing if no trial is complete."""
    figure = picture(trials, space, title)
    if figure is not None:
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", dpi=DPI)


def picture(trials: "Sequence[Trial]", space: Space, title: str = "") -> Figure | None:
    """Returns the picture of a search, None if no trial is complete.

    The first panel shows the validation error of each trial and the best so far. Each other
    panel shows the effect of one hyperparameter, separate from the others (`tuning.effects`):
    a dot is a run with the effects of the other hyperparameters removed, a diamond the fitted
    mean. With exactly two tuned sites, a heat map shows the mean error of each pair of rates.
    Runs that Hyperband stopped early are hollow, runs of trials that were stopped as clearly worse are crosses.

    Args:
        trials: the trials of the search, in their order.
        space: what is tuned.
        title: the title of the picture.
    """
    trials = [trial for trial in trials if trial.status in ("COMPLETED", "STOPPED")]
    if not trials:
        return None
    effects = fit(trials, space)
    shown = {name: effect for name, effect in effects.by_name.items() if effect.levels}
    heat = len(space.rates) == 2
    count = 1 + len(shown) + heat
    columns = 2 if count == 4 else min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(0.6 + 3.7 * columns, 1.5 + 3.1 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax in axes[count:]:
        ax.set_visible(False)
    winner = min((t for t in trials if t.ranked), key=lambda t: t.score, default=None)
    _prepare(axes[0], [trial.mean("val_error") for trial in trials])
    _progress(axes[0], trials, space, winner)
    errors = [error for effect in shown.values() for error in (*effect.errors, *effect.means)]
    for ax, (name, effect) in zip(axes[1:], shown.items(), strict=False):
        _prepare(ax, errors)
        _effect(ax, name, effect, winner)
    for row in range(rows):
        axes[row * columns].set_ylabel("validation error, %")
    if heat:
        _heat_map(axes[count - 1], trials, space, effects, winner)
    figure.suptitle(title, fontsize=11, fontweight="bold", parse_math=False)
    handles = _legend(trials, space, effects)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, 2), frameon=False, fontsize=9)
    return figure


def _prepare(ax, errors):
    """Styles a panel; its error axis spans the measured and fitted errors, not the intervals."""
    ax.grid(axis="y", color="#dddddd", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    low, high = min(errors), max(errors)
    margin = 0.08 * (high - low) or 0.5
    ax.set_ylim(low - margin if low < 0 else max(0, low - margin), high + margin)


def _progress(ax, trials, space, winner):
    """The error of each trial in their order, and the lowest so far among the full runs."""
    numbers = range(1, len(trials) + 1)
    errors = [trial.mean("val_error") for trial in trials]
    partial = np.array([trial.until is not None for trial in trials])
    stopped = np.array([trial.status == "STOPPED" for trial in trials])
    _dots(ax, np.array(numbers), np.array(errors), partial, stopped)
    lowest, best = [], math.nan
    for trial, error in zip(trials, errors, strict=True):
        best = np.fmin(best, error) if trial.ranked else best
        lowest.append(best)
    ax.step([*numbers, len(trials) + 0.5], [*lowest, best], where="post", color=_WINNER, linewidth=1.6, zorder=3)
    control = _control(trials, space)
    if control:
        ax.axhline(control.mean("val_error"), color=_CONTROL, linestyle="--", linewidth=1.4, zorder=1)
    if winner:
        place = numbers[trials.index(winner)], winner.mean("val_error")
        ax.plot(*place, "o", markersize=10, fillstyle="none", color=_WINNER, markeredgewidth=1.8, zorder=5)
    ax.set_xlim(0.5, len(trials) + 0.5)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_title("trials and the best so far", loc="left", fontsize=10)
    ax.set_xlabel("trial")


def _control(trials, space):
    """The best ranked trial without dropout at the tuned sites, None if there is none."""
    plain = (trial for trial in trials if trial.ranked and space.is_control(trial.values))
    return min(plain, key=lambda trial: trial.score, default=None)


def _effect(ax, name, effect, winner):
    """One hyperparameter: a rate on its scale, anything else as categories."""
    is_rate = name.startswith("rate_")
    at = np.array(effect.levels, float) if is_rate else np.arange(len(effect.levels), dtype=float)
    _dots(ax, at[effect.places], effect.errors, effect.partial, effect.stopped)
    ax.plot(at, effect.means, color=_EFFECT, linewidth=1, alpha=0.5 if is_rate else 0, zorder=2)
    ax.plot(at, effect.means, "D", color=_EFFECT, markersize=5, zorder=4)
    if effect.halves is not None:
        ax.errorbar(at, effect.means, effect.halves, fmt="none", color=_EFFECT, elinewidth=6, alpha=0.22, zorder=1.5)
    if winner and winner.values[name] in effect.levels:
        place = at[effect.levels.index(winner.values[name])]
        ax.plot(place, 0, "^", color=_WINNER, markersize=8, transform=ax.get_xaxis_transform(), clip_on=False, zorder=6)
    kind, _, site = name.partition("_")
    if is_rate:
        ax.set_xticks(at if len(at) < 10 else at[:: math.ceil(len(at) / 9)])
        ax.set_title(site, loc="left", fontsize=10, parse_math=False)
        ax.set_xlabel("rate (fraction dropped)")
    else:
        ax.set_xticks(at, [str(v) if isinstance(v, str) else f"{v:g}" for v in effect.levels])
        ax.set_xlim(-0.6, len(at) - 0.4)
        title = f"{site}: kind of dropout" if kind == "kind" else name.replace("_", " ")
        ax.set_title(title, loc="left", fontsize=10, parse_math=False)


def _dots(ax, x, y, partial, stopped):
    complete = ~(partial | stopped)
    ax.scatter(x[complete], y[complete], s=18, color=_RUN, alpha=0.8, linewidths=0, zorder=2)
    ax.scatter(x[partial], y[partial], s=16, facecolors="none", edgecolors=_RUN, linewidths=0.9, zorder=2)
    ax.scatter(x[stopped], y[stopped], s=18, marker="x", color=_RUN, linewidths=1.1, zorder=2)


def _heat_map(ax, trials, space, effects, winner):
    """The mean error of each pair of rates; with a star, where only runs that were stopped early tell it."""
    (first, across), (second, up) = space.rates.items()
    cells = np.full((len(up), len(across)), np.nan)
    stars = np.zeros_like(cells, dtype=bool)
    for i, j in np.ndindex(cells.shape):
        here = [t for t in trials if (t.values[f"rate_{first}"], t.values[f"rate_{second}"]) == (across[j], up[i])]
        full = [t for t in here if t.until is None]
        if here:
            cells[i, j] = np.mean([effects.full_length[trial.id] for trial in full or here])
            stars[i, j] = not full
    ax.set_facecolor("#f0f0f0")
    image = ax.imshow(np.ma.masked_invalid(cells), cmap="viridis", origin="lower", aspect="auto")
    decimals = 1 if np.nanmax(cells) >= 10 else 2
    for i, j in zip(*np.nonzero(np.isfinite(cells)), strict=True):
        dark = image.norm(cells[i, j]) < 0.6
        text = f"{cells[i, j]:.{decimals}f}" + ("*" if stars[i, j] else "")
        size = 8 if len(across) <= 6 else 6.5
        ax.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")
    if winner:
        x, y = across.index(winner.values[f"rate_{first}"]), up.index(winner.values[f"rate_{second}"])
        for colour, width in (("black", 4), ("white", 2)):
            ax.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor=colour, linewidth=width))
    ax.set_xticks(range(len(across)), [f"{rate:g}" for rate in across], fontsize=8)
    ax.set_yticks(range(len(up)), [f"{rate:g}" for rate in up], fontsize=8)
    ax.set_xlabel(f"{first} rate")
    ax.set_ylabel(f"{second} rate")
    title = "mean error, %" + (" (* from runs stopped early)" if stars.any() else "")
    ax.set_title(title, loc="left", fontsize=10)


def _legend(trials, space, effects: Effects):
    def mark(shape, colour, label, **more):
        return Line2D([], [], **{"color": colour, "marker": shape, "linestyle": "", "label": label, **more})

    removed, averaged = (", other effects removed", ", the others averaged") if effects.adjusted else ("", "")
    label = "mean (too few runs to fit effects)"
    if effects.form:
        label = f"{_FITTED[effects.form]}{averaged}, with its 95 % interval"
    handles = [mark("o", _RUN, f"one run{removed}", markersize=5)]
    if any(trial.until is not None for trial in trials):
        handles.append(mark("o", _RUN, "run stopped early by Hyperband", markersize=5, fillstyle="none"))
    if any(trial.status == "STOPPED" for trial in trials):
        handles.append(mark("x", _RUN, "run of a trial stopped as clearly worse than the best", markersize=5))
    handles.append(mark("D", _EFFECT, label, markersize=5))
    frame = ", frame" if len(space.rates) == 2 else ""
    handles.append(mark("", _WINNER, f"best so far (ring, triangle{frame}: the winner)", linestyle="-"))
    if _control(trials, space):
        handles.append(mark("", _CONTROL, "best without dropout", linestyle="--"))
    return handles
