"""What a comparison found, said three times: summary.json, a picture, a page that anyone can read."""

import base64
import math
from pathlib import Path

from jinja2 import Environment

from trainers import figures, statistics
from trainers.folder import read_csv
from trainers.wording import WORDS, headline, mean_sd, notes, number, pair_rows, sentence, sentences, variance_sentence
from zoo.files import replacing, write_json, write_text


def write(out_dir, meta: dict | None = None) -> dict:
    """Read results.csv and curves.csv in `out_dir`; write summary.json, bands.png, report.html.

    Each file is written under another name and then renamed. bands.png needs curves.csv;
    without it, the page has no picture. Returns the summary, as in summary.json.

    `meta` says how the figures came to be; every key may be missing: `dataset`, `about`
    (text), `sizes` (examples of each part, by name; `test` gives the binomial standard
    error), `placements` (text by "model/arm" or "arm", in the order of the arms, the
    control first), `recipe` (a dictionary) or `recipes` (one for each "model/arm"),
    `schedules` (text by arm, of those whose rates move), `command`, `versions`, `machine`,
    `threads`, `seconds`, `failed` (dictionaries of `arm`, `seed`, `message`, and `model`),
    `note` (about the test part).

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
    pictures = _pictures(out, summary, arms, meta)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    )
    write_text(out / "report.html", template.render(_context(summary, arms, meta, pictures)))
    return summary


def _pictures(out: Path, summary: dict, arms: dict, meta: dict) -> dict:
    """Write bands.png; return the page's pictures as data URIs, by name."""
    curves = read_csv(out / "curves.csv") if (out / "curves.csv").exists() else []
    pngs = figures.pngs(summary, arms, curves, str(meta.get("dataset") or ""), meta.get("schedules"))
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


def _standard_error(arm: dict | None, examples: int | None) -> float | None:
    """Of one error figure (per cent), from the number of test examples: binomial."""
    if not arm or arm["mean"] is None or not examples:
        return None
    return math.sqrt(arm["mean"] * (100 - arm["mean"]) / examples)
