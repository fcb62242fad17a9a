"""What a comparison found, put into words: sentences that claim no more than their interval does."""

import numpy as np

from trainers import statistics
from trainers.statistics import MEASURES

# measure: (what it is called, unit of a difference, heading in tables, decimals)
WORDS = {
    "test_error": ("test error", "points", "error, %", 2),
    "test_loss": ("test loss", "nats", "loss, nats", 3),
    "test_ece": ("calibration error", "points", "ECE, %", 2),
}
DASH = "-"


def headline(summary: dict) -> str:
    """The answer in one sentence: the only pair's, or a count over the pairs.

    >>> headline({"arms": {}, "pairs": []})
    'No run has finished'
    """
    pairs = summary["pairs"]
    if len(pairs) == 1:
        text = sentence(pairs[0])
        return f"Placement {text}" if text.startswith(pairs[0]["b"]) else text[0].upper() + text[1:]
    if not pairs:
        return "One arm alone: nothing to compare it with" if summary["arms"] else "No run has finished"
    lower = sum(pair["high"] is not None and pair["high"] < 0 for pair in pairs)
    higher = sum(pair["low"] is not None and pair["low"] > 0 for pair in pairs)
    rest = len(pairs) - lower - higher
    counts = (
        (lower, "lowered the test error"),
        (higher, "raised the test error"),
        (rest, "cannot be told from chance"),
    )
    said = ", ".join(f"{count} {what}" for count, what in counts if count)
    return f"Of {len(pairs)} placements compared with their control, {said}"


def sentence(pair: dict, measure: str = "test_error") -> str:
    """A plain sentence about the difference of two arms, which claims no more than the interval does.

    `pair` is one of `summarise(...)["pairs"]`; `measure` is test_error, test_loss or test_ece.

    >>> pair = {"a": "none", "b": "default", "n": 10, "difference": -0.61, "low": -1.01, "high": -0.21}
    >>> sentence(pair)
    'default lowered the test error by 0.61 points against none (95 % interval 0.21 to 1.01, 10 paired seeds)'
    """
    name, unit, _, decimals = WORDS[measure]
    found = measured(pair, measure)
    a, b, n, difference = pair["a"], pair["b"], found["n"], found["difference"]
    low, high = found["low"], found["high"]
    seeds = f"{n} paired seed{'' if n == 1 else 's'}"

    def show(value):
        return number(value, decimals)

    if n == 0:
        return f"nothing can be said about the {name} of {b} and {a}: no seed has a figure for both"
    if low is None and difference == 0 and n > 1:
        return f"{b} and {a} have the same {name} at each of {seeds}"
    if low is None:
        why = "one seed shows no spread" if n == 1 else "all differences are equal, their spread unknown"
        change = f"{b} minus {a} is {show(difference)} {unit}"
        return f"no difference in {name} can be told from chance: {change} ({seeds}; {why})"
    level = f"{100 * found.get('level', statistics.LEVEL):g} % interval"
    if low <= 0 <= high:
        change = f"{b} minus {a} is {show(difference)} {unit}"
        interval = f"({level} {show(low)} to {show(high)}, {seeds})"
        return f"no difference in {name} can be told from chance: {change} {interval}"
    verb, ends = ("lowered", (-high, -low)) if difference < 0 else ("raised", (low, high))
    interval = f"({level} {show(ends[0])} to {show(ends[1])}, {seeds})"
    return f"{b} {verb} the {name} by {show(abs(difference))} {unit} against {a} {interval}"


def variance_sentence(pair: dict, measure: str = "test_error") -> str:
    """A plain sentence about how far the seeds scatter in the two arms.

    >>> variance_sentence({"a": "none", "b": "default", "n": 10, "variance_ratio": 0.25, "variance_p": 0.04})
    'default scatters less over seeds than none: its test error has 0.25 times the variance (p = 0.040)'
    """
    name, found = WORDS[measure][0], measured(pair, measure)
    a, b, ratio, p = pair["a"], pair["b"], found["variance_ratio"], found["variance_p"]
    if ratio is None:
        return f"nothing can be said about how far the {name} of {b} and {a} scatters over seeds"
    if p is None or p >= 1 - found.get("level", statistics.LEVEL):
        why = p_value(p) if p is not None else "too few different figures to test"
        what = f"no difference in how far the {name} scatters over seeds can be told from chance"
        return f"{what}: {b} has {number(ratio)} times the variance of {a} ({why})"
    word = "less" if ratio < 1 else "more"
    times = f"its {name} has {number(ratio)} times the variance"
    return f"{b} scatters {word} over seeds than {a}: {times} ({p_value(p)})"


def sentences(pair: dict) -> list[str]:
    """All that is said of a pair: error, loss, calibration error, and the scatter of the error."""
    return [*(sentence(pair, key) for key in MEASURES), variance_sentence(pair)]


def notes(summary: dict) -> list[str]:
    """What a reader must know beside the figures: luck among many pairs, runs left out."""
    found = []
    if (count := len(summary["pairs"])) > 1:
        chance = min(1.0, count * (1 - statistics.LEVEL))
        found.append(
            f"There are {count} comparisons, each with its own interval: if dropout did nothing at all, "
            f"one or more would still leave out zero with a chance of up to {100 * chance:.0f} %."
        )
    for name, arm in summary["arms"].items():
        if excluded := max(measured(arm, key)["excluded"] for key in MEASURES):
            found.append(f"{name}: {excluded} of its runs ended without a finite figure and are not counted.")
    return found


def table(summary: dict) -> str:
    """The summary as text for a terminal: arms, then each pair with its sentences, then notes.

    >>> arm = {"n": 1, "mean": 2.5, "sd": None, "excluded": 0}
    >>> table({"arms": {"none": {**arm, "test_loss": arm, "test_ece": arm}}, "pairs": []}).split()[-4:]
    ['1', '2.50', '2.500', '2.50']
    """
    headings = ["arm", "runs", *(WORDS[key][2] for key in MEASURES)]
    rows = [
        [name, str(arm["n"]), *(mean_sd(measured(arm, key), key) for key in MEASURES)]
        for name, arm in summary["arms"].items()
    ]
    parts = [_grid(headings, rows)]
    headings = ["", "difference", "95 % interval", "bootstrap", "var. ratio", "p"]
    for pair in summary["pairs"]:
        # Several pairs would fill the screen with prose; the page has all of it.
        said = sentences(pair) if len(summary["pairs"]) == 1 else [sentence(pair)]
        block = [f"{pair['b']} minus {pair['a']}", _grid(headings, pair_rows(pair))]
        parts.append("\n".join([*block, *(f"- {text}" for text in said)]))
    return "\n\n".join([*parts, *notes(summary)])


def pair_rows(pair: dict) -> list[list[str]]:
    """A row a measure: name, difference, t interval, bootstrap interval, variance ratio, p."""
    rows = []
    for key in MEASURES:
        found, decimals = measured(pair, key), WORDS[key][3]
        ends = (("low", "high"), ("bootstrap_low", "bootstrap_high"))
        t, bootstrap = (_interval(found[low], found[high], decimals) for low, high in ends)
        p = DASH if found["variance_p"] is None else p_value(found["variance_p"])[2:].removeprefix("= ")
        ratio = number(found["variance_ratio"])
        rows.append([WORDS[key][2], number(found["difference"], decimals), t, bootstrap, ratio, p])
    return rows


def number(value: float | None, decimals: int = 2) -> str:
    """Rounded; a dash for None. A small value keeps a digit, what only rounding left does not.

    >>> number(1.234), number(-0.0004), number(3e-7), number(None)
    ('1.23', '-0.0004', '0.00', '-')
    """
    if value is None:
        return DASH
    text = f"{value:.{decimals}f}"
    if not float(text):
        small = abs(value) >= 10.0 ** -(decimals + 2)
        text = np.format_float_positional(value, precision=1, fractional=False) if small else f"{0:.{decimals}f}"
    return text


def _interval(low: float | None, high: float | None, decimals: int) -> str:
    return DASH if low is None else f"{number(low, decimals)} to {number(high, decimals)}"


def p_value(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def mean_sd(statistic: dict, measure: str) -> str:
    """Mean and standard deviation over seeds; without the latter where one seed has none."""
    decimals = WORDS[measure][3]
    sd = f" ± {number(statistic['sd'], decimals)}" if statistic["sd"] is not None else ""
    return number(statistic["mean"], decimals) + sd


def measured(entry: dict, measure: str) -> dict:
    """The part of an arm or a pair that speaks of `measure`; the error's is not nested."""
    return entry if measure == "test_error" else entry[measure]


def _grid(headings: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for first, *rest in (headings, *rows):
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
