"""What a comparison found, said three times: summary.json, a picture, a page that anyone can read."""

import base64
import csv
import math
from pathlib import Path

import numpy as np
from jinja2 import Environment

from trainers import figures, statistics
from trainers.statistics import MEASURES
from zoo.errors import BadInput
from zoo.files import replacing, write_json, write_text

# measure: (what it is called, unit of a difference, heading in tables, decimals)
WORDS = {
    "test_error": ("test error", "points", "error, %", 2),
    "test_loss": ("test loss", "nats", "loss, nats", 3),
    "test_ece": ("calibration error", "points", "ECE, %", 2),
}
_WORDS_NOT_NUMBERS = {"model", "arm", "placement", "status"}
DASH = "-"


def read_csv(path) -> list[dict]:
    """The rows of a CSV file with a header; numbers parsed, an empty cell is None.

    A last row with too few cells is left out: the process was killed while writing it.

    Raises BadInput when there is no such file, or a row does not fit the header.

    >>> import pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "results.csv")
    >>> _ = file.write_text("arm,seed,test_error\\nnone,1,2.5\\nnone,2")
    >>> read_csv(file)
    [{'arm': 'none', 'seed': 1, 'test_error': 2.5}]
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = [line for line in csv.reader(file) if line]
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; it is written by `python -m trainers compare`.") from None
    if not lines:
        return []
    header, *rows = lines
    if rows and len(rows[-1]) < len(header):
        rows.pop()
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise BadInput(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}.")
    return [{key: _parse(key, cell) for key, cell in zip(header, row, strict=True)} for row in rows]


def sentence(pair: dict, measure: str = "test_error") -> str:
    """A plain sentence about the difference of two arms, which claims no more than the interval does.

    `pair` is one of `summarise(...)["pairs"]`; `measure` is test_error, test_loss or test_ece.

    >>> pair = {"a": "none", "b": "default", "n": 10, "difference": -0.61, "low": -1.01, "high": -0.21}
    >>> sentence(pair)
    'default lowered the test error by 0.61 points against none (95 % interval 0.21 to 1.01, 10 paired seeds)'
    """
    name, unit, _, decimals = WORDS[measure]
    found = _of(pair, measure)
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
    name, found = WORDS[measure][0], _of(pair, measure)
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
        if excluded := max(_of(arm, key)["excluded"] for key in MEASURES):
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
        [name, str(arm["n"]), *(mean_sd(_of(arm, key), key) for key in MEASURES)]
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
        found, decimals = _of(pair, key), WORDS[key][3]
        ends = (("low", "high"), ("bootstrap_low", "bootstrap_high"))
        t, bootstrap = (_interval(found[low], found[high], decimals) for low, high in ends)
        p = DASH if found["variance_p"] is None else p_value(found["variance_p"])[2:].removeprefix("= ")
        ratio = number(found["variance_ratio"])
        rows.append([WORDS[key][2], number(found["difference"], decimals), t, bootstrap, ratio, p])
    return rows


def number(value: float | None, decimals: int = 2) -> str:
    """Rounded, but never to a zero that it is not; a dash for None.

    >>> number(1.234), number(-0.0004), number(0.0), number(None)
    ('1.23', '-0.0004', '0.00', '-')
    """
    if value is None:
        return DASH
    text = f"{value:.{decimals}f}"
    if value and not float(text):
        return np.format_float_positional(value, precision=1, fractional=False)
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


def write(out_dir, meta: dict | None = None) -> dict:
    """Read results.csv and curves.csv in `out_dir`; write summary.json, bands.png, report.html.

    Each file is written under another name and then renamed. bands.png needs curves.csv;
    without it, the page has no picture. Returns the summary, as in summary.json.

    `meta` says how the figures came to be; every key may be missing: `dataset`, `about`
    (text), `sizes` (examples of each part, by name; `test` gives the binomial standard
    error), `placements` (text by "model/arm" or "arm", in the order of the arms, the
    control first), `recipe` (a dictionary) or `recipes` (one for each "model/arm"),
    `command`, `versions`, `machine`, `threads`, `seconds`, `failed` (dictionaries of `arm`,
    `seed`, `message`, and `model`), `note` (about the test part).

    Raises BadInput when results.csv is missing or lacks a column, RunFailed when
    `out_dir` cannot be written.

    >>> import pathlib, tempfile
    >>> out = pathlib.Path(tempfile.mkdtemp())
    >>> rows = "model,arm,seed,test_error,test_loss,test_ece\\nmlp,none,0,2.5,0.1,1.0\\n"
    >>> _ = (out / "results.csv").write_text(rows)
    >>> write(out)["arms"]["none"]["mean"], sorted(path.name for path in out.iterdir())
    (2.5, ['report.html', 'results.csv', 'summary.json'])
    """
    out, meta = Path(out_dir), meta or {}
    rows = read_csv(out / "results.csv")
    order = list(meta.get("placements") or {})
    summary = statistics.summarise(rows, order)
    arms = statistics.by_arm(rows, order)
    write_json(out / "summary.json", summary)
    pictures = _pictures(out, summary, arms, str(meta.get("dataset") or ""))
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    )
    write_text(out / "report.html", template.render(_context(summary, arms, meta, pictures)))
    return summary


def _pictures(out: Path, summary: dict, arms: dict, dataset: str) -> dict:
    """Write bands.png; return the page's pictures as data URIs, by name."""
    curves = read_csv(out / "curves.csv") if (out / "curves.csv").exists() else []
    pngs = figures.pngs(summary, arms, curves, dataset)
    if "wide" in pngs:
        with replacing(out / "bands.png") as temporary:
            temporary.write_bytes(pngs["wide"])
    else:
        (out / "bands.png").unlink(missing_ok=True)  # that of an earlier time would belie the page
    return {name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in pngs.items()}


def _context(summary: dict, arms: dict, meta: dict, pictures: dict) -> dict:
    """What the template reads: the figures, the functions that word them, and what was run."""
    recipes = meta.get("recipes") or {"": meta.get("recipe") or {}}
    fields = dict.fromkeys(key for recipe in recipes.values() for key in recipe)
    shared, own = {}, {}
    for key in fields:
        values = {name: recipe.get(key) for name, recipe in recipes.items()}
        same = all(value == next(iter(values.values())) for value in values.values())
        (shared if same else own)[key] = next(iter(values.values())) if same else values
    written = {name: next(iter(runs.values())).get("placement") for name, (_, runs) in arms.items()}
    control = next(iter(summary["arms"].values()), None)
    return {
        "summary": summary,
        "meta": meta,
        "pictures": pictures,
        "headline": headline(summary),
        "notes": notes(summary),
        "placements": meta.get("placements") or {k: v or "no dropout" for k, v in written.items()},
        "recipe": shared,
        "recipe_differs": own,
        "models": list(dict.fromkeys(model for model, _ in arms.values())),
        "standard_error": _standard_error(control, (meta.get("sizes") or {}).get("test")),
        "words": WORDS,
        **{f.__name__: f for f in (mean_sd, number, pair_rows, sentence, sentences, variance_sentence)},
    }


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


def _standard_error(arm: dict | None, examples: int | None) -> float | None:
    """Of one error figure (per cent), from the number of test examples: binomial."""
    if not arm or arm["mean"] is None or not examples:
        return None
    return math.sqrt(arm["mean"] * (100 - arm["mean"]) / examples)


def _of(entry: dict, measure: str) -> dict:
    """The part of an arm or a pair that speaks of `measure`; the error's is not nested."""
    return entry if measure == "test_error" else entry[measure]


def _grid(headings: list[str], rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for first, *rest in (headings, *rows):
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def _parse(column: str, cell: str):
    if column in _WORDS_NOT_NUMBERS:
        return cell
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            pass
    return cell or None
