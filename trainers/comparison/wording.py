"""The results of a comparison in words. A sentence claims no more than its interval does."""

from collections.abc import Mapping

import numpy as np

from trainers.comparison import paired
from trainers.comparison.paired import MEASURES

# measure: (name, unit of a difference, heading in tables, decimals)
WORDS = {
    "test_error": ("test error", "points", "error, %", 2),
    "test_loss": ("test loss", "nats", "loss, nats", 3),
    "test_ece": ("calibration error", "points", "ECE, %", 2),
}
DASH = "-"
ENOUGH_SEEDS = 5  # paired seeds from which intervals and tests are reported


def too_few(pair: dict) -> bool:
    """Returns whether a pair has too few seeds for an interval.

    Examples:
        >>> too_few({"n": 2}), too_few({"n": 10})
        (True, False)
    """
    return pair["n"] < ENOUGH_SEEDS


def headline(summary: dict, placements: Mapping[str, str] | None = None) -> str:
    """Returns the result in one sentence: that of the only pair, or a count over the pairs.

    `placements` is the placement of each arm as text, which then follows the arm's name.

    Examples:
        >>> headline({"arms": {}, "pairs": []})
        'No run has finished'
    """
    pairs = summary["pairs"]
    if len(pairs) == 1:
        text = sentence(pairs[0], placements=placements)
        return f"Placement {text}" if text.startswith(pairs[0]["b"]) else text[0].upper() + text[1:]
    if not pairs:
        return "Only one arm: there is nothing to compare it with" if summary["arms"] else "No run has finished"
    known = [pair for pair in pairs if not too_few(pair)]
    lower = [pair for pair in known if pair["high"] is not None and pair["high"] < 0]
    higher = [pair for pair in known if pair["low"] is not None and pair["low"] > 0]
    rest = [pair for pair in known if pair not in lower and pair not in higher]
    parts = [
        f"{len(group)} {what} ({', '.join(_named(pair['b'], placements) for pair in group)})"
        for group, what in ((lower, "lowered the test error"), (higher, "raised the test error"))
        if group
    ]
    parts += [f"{len(rest)} cannot be told from chance"] if rest else []
    few = len(pairs) - len(known)
    parts += [f"{few} {'has' if few == 1 else 'have'} too few seeds for an interval"] if few else []
    control = pairs[0]["a"]
    against = _named(control, placements) if all(pair["a"] == control for pair in pairs) else "their control"
    return f"Of {len(pairs)} placements compared with {against}, {', '.join(parts)}"


def _named(arm, placements):
    """An arm's name, followed by its placement if that is known."""
    text = (placements or {}).get(arm)
    return f"{arm} ({text})" if text else arm


def sentence(pair: dict, measure: str = "test_error", placements: Mapping[str, str] | None = None) -> str:
    """Returns a sentence about the difference of two arms, which claims no more than the interval does.

    Args:
        pair: One of `summarise(...)["pairs"]`.
        measure: `test_error`, `test_loss` or `test_ece`.
        placements: The placement of each arm as text, which then follows the arm's name.

    Examples:
        >>> pair = {"a": "none", "b": "default", "n": 10, "difference": -0.61, "low": -1.01, "high": -0.21}
        >>> sentence(pair)
        'default lowered the test error by 0.61 points against none (95 % interval 0.21 to 1.01, 10 paired seeds)'
    """
    name, unit, _, decimals = WORDS[measure]
    values = measured(pair, measure)
    a, b, n, difference = (
        _named(pair["a"], placements),
        _named(pair["b"], placements),
        values["n"],
        values["difference"],
    )
    low, high = values["low"], values["high"]
    seeds = f"{n} paired seed{'' if n == 1 else 's'}"

    def show(value):
        return number(value, decimals)

    if n == 0:
        return f"no seed has a {name} for both {b} and {a}"
    if low is None and difference == 0 and n > 1:
        return f"{b} and {a} have the same {name} at each of {seeds}"
    change = f"{b} minus {a} is {show(difference)} {unit}"
    if too_few(values):
        return f"{change} of {name}; {n} seed{'' if n == 1 else 's'}: too few for an interval"
    chance = f"no difference in {name} can be told from chance"
    if low is None:
        return f"{chance}: {change} ({seeds}; all differences are equal, so their spread is unknown)"
    level = f"{100 * values.get('level', paired.LEVEL):g} % interval"
    if low <= 0 <= high:
        return f"{chance}: {change} ({level} {show(low)} to {show(high)}, {seeds})"
    verb, ends = ("lowered", (-high, -low)) if difference < 0 else ("raised", (low, high))
    interval = f"({level} {show(ends[0])} to {show(ends[1])}, {seeds})"
    return f"{b} {verb} the {name} by {show(abs(difference))} {unit} against {a} {interval}"


def variance_sentence(pair: dict, measure: str = "test_error") -> str:
    """Returns a sentence about the variance over seeds in the two arms.

    Examples:
        >>> variance_sentence({"a": "none", "b": "default", "n": 10, "variance_ratio": 0.25, "variance_p": 0.04})
        'the test error of default varies less over seeds than that of none: 0.25 times the variance (p = 0.040)'
    """
    name, values = WORDS[measure][0], measured(pair, measure)
    a, b, ratio, p = pair["a"], pair["b"], values["variance_ratio"], values["variance_p"]
    if ratio is None:
        return f"the variance of the {name} of {b} and {a} over seeds cannot be compared"
    if p is None or p >= 1 - values.get("level", paired.LEVEL):
        why = p_value(p) if p is not None else "too few different values to test"
        chance = f"no difference in the variance of the {name} over seeds can be told from chance"
        return f"{chance}: {b} has {number(ratio)} times the variance of {a} ({why})"
    word = "less" if ratio < 1 else "more"
    times = f"{number(ratio)} times the variance ({p_value(p)})"
    return f"the {name} of {b} varies {word} over seeds than that of {a}: {times}"


def sentences(pair: dict) -> list[str]:
    """Returns the sentences of a pair: error, loss, calibration error, and the variance of the error."""
    differences = [sentence(pair, key) for key in MEASURES]
    return differences if too_few(pair) else [*differences, variance_sentence(pair)]


def notes(summary: dict) -> list[str]:
    """Returns what a reader must know besides the figures: multiple comparisons, and runs that are left out."""
    texts = []
    if (count := sum(not too_few(pair) for pair in summary["pairs"])) > 1:
        chance = min(1.0, count * (1 - paired.LEVEL))
        texts.append(
            f"There are {count} comparisons, each with its own interval. If dropout had no effect at all, "
            f"at least one interval would still exclude zero with a probability of up to {100 * chance:.0f} %. "
            "The p values are corrected for that (Holm)."
        )
    for name, arm in summary["arms"].items():
        if excluded := max(measured(arm, key)["excluded"] for key in MEASURES):
            runs = "1 run" if excluded == 1 else f"{excluded} runs"
            texts.append(
                f"{name}: {runs} ended without a finite value and {'is' if excluded == 1 else 'are'} left out."
            )
    for pair in summary["pairs"]:
        for name in (pair["a"], pair["b"]):
            count, paired_seeds = summary["arms"].get(name, pair)["n"], pair["n"]
            if count != paired_seeds:
                texts.append(
                    f"{name}: its mean is over {count} seeds, the difference of {pair['b']} and {pair['a']} "
                    f"over the {paired_seeds} seeds that both have."
                )
    return list(dict.fromkeys(texts))


def table(summary: dict) -> str:
    """Returns the summary as text for a terminal: the arms, each pair with its sentences, then notes.

    Examples:
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
    for pair in summary["pairs"]:
        # With several pairs only the first sentence is printed; the page has all of them.
        lines = sentences(pair) if len(summary["pairs"]) == 1 else [sentence(pair)]
        grids = [_grid(*grid) for grid in (pair_grid(pair), evidence_grid(pair)) if grid[1]]
        parts.append("\n".join([f"{pair['b']} minus {pair['a']}", *grids, *(f"- {text}" for text in lines)]))
    return "\n\n".join([*parts, *notes(summary)])


def pair_grid(pair: dict) -> tuple[list[str], list[list[str]]]:
    """Returns the headings and rows of a pair's table, a row per measure.

    With fewer than five seeds there are no columns for intervals, variance ratios and p values.
    """
    if too_few(pair):
        rows = [[WORDS[key][2], number(measured(pair, key)["difference"], WORDS[key][3])] for key in MEASURES]
        return ["", "difference"], rows
    rows = []
    for key in MEASURES:
        values, decimals = measured(pair, key), WORDS[key][3]
        ends = (("low", "high"), ("bootstrap_low", "bootstrap_high"))
        t, bootstrap = (_interval(values[low], values[high], decimals) for low, high in ends)
        p = DASH if values["variance_p"] is None else p_value(values["variance_p"])[2:].removeprefix("= ")
        rows.append(
            [WORDS[key][2], number(values["difference"], decimals), t, bootstrap, number(values["variance_ratio"]), p]
        )
    return ["", "difference", "95 % interval", "bootstrap", "var. ratio", "p"], rows


def evidence_grid(pair: dict) -> tuple[list[str], list[list[str]]]:
    """Returns the headings and rows of a pair's second table: how sure its differences are.

    The columns are the p value of the paired t test with Holm's correction for the number of pairs, the
    probability that a run of the arm is better than that of the control, and the smallest difference that so
    many seeds detect. There are no rows with fewer than five seeds.
    """
    rows = []
    for key in () if too_few(pair) else MEASURES:
        values, decimals = measured(pair, key), WORDS[key][3]
        holm = values.get("p_holm")
        rows.append(
            [
                WORDS[key][2],
                DASH if holm is None else p_value(holm)[2:].removeprefix("= "),
                number(values.get("better")),
                _interval(values.get("better_low"), values.get("better_high"), 2),
                number(values.get("detectable"), decimals),
            ]
        )
    return ["", "p (t, Holm)", "P(better)", "95 % interval", "detectable"], rows


def number(value: float | None, decimals: int = 2) -> str:
    """Returns a rounded number; a dash for None. A small value keeps one digit, unless it is a rounding error.

    Examples:
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
    """Returns a p value as text, as in `p = 0.040`."""
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def mean_sd(statistic: dict, measure: str) -> str:
    """Returns mean ± standard deviation over seeds as text; the mean alone for one seed."""
    decimals = WORDS[measure][3]
    sd = f" ± {number(statistic['sd'], decimals)}" if statistic["sd"] is not None else ""
    return number(statistic["mean"], decimals) + sd


def measured(entry: dict, measure: str) -> dict:
    """Returns the part of an arm or a pair for `measure`; that of the error is not nested."""
    return entry if measure == "test_error" else entry[measure]


def _grid(headings: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for first, *rest in (headings, *rows):
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)
