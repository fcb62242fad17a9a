"""The results of a comparison as files: summary.json, bands.png and report.html."""

import base64
import dataclasses
import math
from pathlib import Path

from jinja2 import Environment

from trainers.comparison import figures, paired
from trainers.comparison.wording import (
    WORDS,
    evidence_grid,
    headline,
    mean_sd,
    notes,
    number,
    pair_grid,
    sentence,
    sentences,
    too_few,
)
from trainers.recipe import Recipe
from zoo.files import replacing, write_json, write_text
from zoo.reading import read_csv


def write(out_dir: str | Path, meta: dict | None = None) -> dict:
    """Reads results.csv and curves.csv in `out_dir`; writes summary.json, bands.png and report.html.

    Each file is written under a temporary name and then renamed. Without curves.csv there is no
    bands.png.

    Args:
        out_dir: The folder of the comparison.
        meta: How the runs were made. Every key may be missing: `dataset`; `about` (text); `sizes`
            (examples of each part; `test` gives the binomial standard error); `data` (kept in
            summary.json); `placements` (text by "model/arm" or "arm", in the order of the arms, the
            control first); `labels` (of the classes), `class_errors` and `confusions` (by "model/arm");
            `recipe` (a dictionary) or `recipes` (one for each "model/arm");
            `schedules` (text by arm, where rates move); `command`; `versions`; `machine`;
            `threads`; `seconds`; `failed` (dictionaries of `arm`, `seed`, `message` and `model`);
            `note` (about the test set).

    Returns:
        The summary, as in summary.json.

    Raises:
        BadInput: results.csv is missing or lacks a column.
        RunFailed: `out_dir` cannot be written.

    Examples:
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
    summary = paired.summarise(rows, order)
    arms = paired.by_arm(rows, order)
    if meta.get("data"):
        summary["data"] = meta["data"]
    write_json(out / "summary.json", summary)
    pictures = _pictures(out, summary, arms, meta)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    )
    write_text(out / "report.html", template.render(_context(summary, arms, meta, pictures)))
    return summary


def _pictures(out: Path, summary: dict, arms: dict, meta: dict) -> dict:
    """Writes bands.png; returns the page's pictures as data URIs, by name."""
    curves = read_csv(out / "curves.csv") if (out / "curves.csv").exists() else []
    dataset, placements = str(meta.get("dataset") or ""), _placements(arms, meta)
    matrices = {arm: counts for arm, counts in (meta.get("confusions") or {}).items() if counts}
    labels = meta.get("labels") or ()
    pngs = figures.pngs(summary, arms, curves, dataset, meta.get("schedules"), placements, matrices, labels)
    if "wide" in pngs:
        with replacing(out / "bands.png") as temporary:
            temporary.write_bytes(pngs["wide"])
    else:
        (out / "bands.png").unlink(missing_ok=True)  # an older one would contradict the page
    return {name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in pngs.items()}


def _context(summary: dict, arms: dict, meta: dict, pictures: dict) -> dict:
    """What the template reads: the statistics, the functions that word them, and what was run."""
    recipes = meta.get("recipes") or {"": meta.get("recipe") or {}}
    fields = dict.fromkeys(key for recipe in recipes.values() for key in recipe)
    shared, own = {}, {}
    for key in fields:
        values = {name: recipe.get(key) for name, recipe in recipes.items()}
        same = all(value == next(iter(values.values())) for value in values.values())
        (shared if same else own)[key] = next(iter(values.values())) if same else values
    placements = _placements(arms, meta)
    about = {f.name: f.metadata["about"] for f in dataclasses.fields(Recipe)}
    control = next(iter(summary["arms"].values()), None)
    return {
        "summary": summary,
        "meta": meta,
        "pictures": pictures,
        "headline": headline(summary, placements),
        "notes": notes(summary),
        "placements": placements,
        "recipe": [[key, _readable(value), about.get(key, "")] for key, value in shared.items()],
        "recipe_differs": [[key, *map(_readable, values.values())] for key, values in own.items()],
        "recipe_arms": list(recipes),
        "intervals": not all(map(too_few, summary["pairs"])),
        "models": list(dict.fromkeys(model for model, _ in arms.values())),
        "standard_error": _standard_error(control, (meta.get("sizes") or {}).get("test")),
        "words": WORDS,
        **{f.__name__: f for f in (evidence_grid, mean_sd, number, pair_grid, sentence, sentences, too_few)},
    }


def _placements(arms: dict, meta: dict) -> dict[str, str]:
    """The placement of each arm as text, by the arm's name in the summary."""
    given, texts = meta.get("placements") or {}, {}
    for name, (model, runs) in arms.items():
        row = next(iter(runs.values()))
        text = given.get(f"{model}/{row['arm']}") or given.get(row["arm"]) or row.get("placement")
        texts[name] = str(text or "no dropout")
    return texts


def _readable(value: object) -> object:
    """A value of a recipe without Python's words for none, true and false."""
    if value is None:
        return "not set"
    return ("yes" if value else "no") if isinstance(value, bool) else value


def _standard_error(arm: dict | None, examples: int | None) -> float | None:
    """The binomial standard error of one test error (per cent), from the number of test examples."""
    if not arm or arm["mean"] is None or not examples:
        return None
    return math.sqrt(arm["mean"] * (100 - arm["mean"]) / examples)
