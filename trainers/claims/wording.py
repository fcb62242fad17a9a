"""Claims, rules and verdicts as text."""

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from trainers.comparison.wording import number, p_value

WIDTH = 100
# Of a part of a rule; the claim itself is reproduced, refuted or undecided.
PARTS = {"reproduced": "holds", "refuted": "fails", "undecided": "open"}


def listed(claims: Iterable[Mapping[str, Any]]) -> str:
    """Returns the claims for a terminal: number and id, sentence, source, and each sentence of the rule."""
    blocks = []
    for claim in claims:
        time = f"{max(1, round(claim['seconds'] / 60))} min" if claim["runs_here"] else "not here yet"
        lines = [f"{claim['number']:>4}  {claim['id']}  ({time}, rule {claim['hash'][:8]})"]
        for name in ("sentence", "source"):
            lines += textwrap.wrap(claim[name], WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
        for text in claim["rule"]:
            lines += textwrap.wrap(text, WIDTH, initial_indent=" " * 6 + "- ", subsequent_indent=" " * 8)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def verdicts(states: Iterable[Mapping[str, Any]]) -> str:
    """Returns the verdicts for a terminal, with what each part came to."""
    blocks = []
    for state in states:
        quick = " (--quick: says nothing)" if state["quick"] else ""
        lines = [
            f"{state['number']:>4}  {state['id']}: {state['verdict'].upper()}{quick}",
            f"      {state['sentence']}",
        ]
        lines += [f"      - {result(finding)}" for finding in state["findings"]]
        lines += textwrap.wrap(state["why"], WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def result(finding: Mapping[str, Any]) -> str:
    """Returns a finding in a line.

    Examples:
        >>> result({"label": "b minus a", "verdict": "reproduced", "value": -1.0, "low": -1.5, "high": -0.5, "n": 10,
        ...         "unit": " points", "p_holm": 0.002, "crossed": False, "why": ""})
        'b minus a: -1.00 points (95 % interval -1.50 to -0.50, 10 seeds, p = 0.002): holds'
    """
    verdict = PARTS[finding["verdict"]]
    if finding["value"] is None:
        return f"{finding['label']}: {verdict} ({finding['why'] or 'nothing was measured'})"
    value = f"{finding['label']}: {measured(finding)}"
    if finding["low"] is None:
        return f"{value} ({finding['why']})"
    if finding["n"] == 1:
        return f"{value}: {verdict}"
    over = "seeds and test examples" if finding["crossed"] else "seeds"
    p = "" if finding["p_holm"] is None else f", {p_value(finding['p_holm'])}"
    span = f"{short(finding['low'])} to {short(finding['high'])}"
    return f"{value} (95 % interval {span}, {finding['n']} {over}{p}): {verdict}"


def measured(finding: Mapping[str, Any]) -> str:
    """Returns the value of a finding with its unit; of a logarithm of a ratio also the ratio.

    Examples:
        >>> measured({"value": -0.61, "unit": " log ratio"})
        '-0.61 log ratio (0.54 times)'
    """
    ratio = f" ({short(math.exp(finding['value']))} times)" if finding["unit"] == " log ratio" else ""
    return f"{short(finding['value'])}{finding['unit']}{ratio}"


def short(value: float | None) -> str:
    """Returns a number with two decimals, or three digits if it is small.

    Examples:
        >>> short(1.234), short(0.0123), short(1e-15), short(None)
        ('1.23', '0.0123', '1e-15', '-')
    """
    if value is None:
        return "-"
    return number(value) if abs(value) >= 0.1 or not value else f"{value:.3g}"


def summary(written: Mapping[str, Any]) -> str:
    """Returns how many claims have each verdict, and where the pages are."""
    counts, names = written["counts"], ("reproduced", "refuted", "undecided")
    parts = ", ".join(f"{counts[name]} {name}" for name in names)
    total = sum(counts[name] for name in names)
    return f"{total} claims: {parts}; {counts['full']} ran in full\npages {written['folder']}/index.md"
