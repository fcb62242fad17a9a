"""The result of `zoo.uncertainty` as files, and as text for a terminal."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import files, interrupts
from zoo.errors import BadInput, CannotWrite
from zoo.reliability.selective import SHARES

if TYPE_CHECKING:
    from zoo.reliability.assess import UncertaintyResult

JSON, PICTURE, TABLE = "uncertainty.json", "uncertainty.png", "per_example.csv"
COLUMNS = (*("index", "label", "mode", "predicted", "probability", "entropy", "mutual_information", "variance", "set"),)
# figure: (title, digits, factor)
MEASURES = {
    "error": ("error, %", 2, 1),
    "loss": ("loss, nats", 4, 1),
    "brier": ("Brier score", 4, 1),
    "ece": ("ECE, %", 2, 1),
    "ece_mass": ("ECE of bins of equal mass, %", 2, 1),
    "temperature": ("temperature", 3, 1),
    "ece_scaled": ("ECE at that temperature, %", 2, 1),
    "aurc": ("area under risk-coverage, %", 3, 1),
    **{f"error_at_{n}": (f"error without the {n} % least certain, %", 2, 1) for n in SHARES},
    "coverage": ("coverage of the prediction sets, %", 1, 100),
    "set_size": ("mean size of the prediction sets", 2, 1),
}
SCORES = {
    "probability": "1 - probability",
    "entropy": "entropy",
    "mutual_information": "mutual information",
    "variance": "variance",
}


def check_new(folder: str | Path) -> Path:
    """Returns the path of `folder`. Raises `BadInput` unless it is missing or empty."""
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise BadInput(f"--out must be a new folder, got {folder}, which is not empty; choose another")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out must be a folder, got {folder}, which is a file; choose another")
    return folder


def write(result: "UncertaintyResult", folder: str | Path) -> tuple[Path, ...]:
    """Writes `uncertainty.json`, `uncertainty.png` and `per_example.csv` into a new folder, and returns their paths.

    All of them are there at the end, or none.

    Raises:
        BadInput: the folder is not empty.
        CannotWrite: a file cannot be written.
    """
    from zoo.reliability.figure import DPI

    folder = check_new(folder)
    place = folder.absolute()
    unfinished = place.with_name(f".{place.name}.{os.getpid()}")
    names = (TABLE, PICTURE, JSON)  # the last one makes a folder complete
    try:
        unfinished.mkdir(parents=True)
        files.Table(unfinished / TABLE, COLUMNS).start(result.examples)
        result.figure().savefig(unfinished / PICTURE, format="png", dpi=DPI)
        files.write_json(unfinished / JSON, result)
        with interrupts.whole():
            place.mkdir(exist_ok=True)
            for name in names:
                os.replace(unfinished / name, place / name)
    except (OSError, CannotWrite) as error:
        why = files.refused(error) or f"{getattr(error, 'strerror', None) or error}; choose another --out"
        raise CannotWrite(f"cannot write {folder}: {why}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder / JSON, folder / PICTURE, folder / TABLE


def text(result: Mapping[str, Any]) -> str:
    """Returns the result as tables: the figures of each mode, and how well foreign and corrupted data are noticed.

    Examples:
        >>> figure = {"value": None, "low": None, "high": None, "reason": "nothing to measure"}
        >>> figures = {**dict.fromkeys(MEASURES, figure), "ood": {}}
        >>> shown = text({"model": "m", "dataset": "d", "examples": 1, "validation_examples": 1, "drawn": 1,
        ...     "masks": "shared", "level": 0.9, "modes": {"inference": figures, "mc": None}, "difference": None,
        ...     "corruptions": None, "notes": []})
        >>> "nothing to measure" in shown
        True
    """
    parts = [_head(result), _figures(result), _foreign(result), _corruptions(result), _notes(result)]
    return "\n\n".join(part for part in parts if part)


def _head(result):
    mc = f", {result['drawn']} mc samples ({result['masks']} masks)" if result["modes"]["mc"] else ""
    fitted = f"temperature and {100 * result['level']:g} % prediction sets from {result['validation_examples']:,}"
    head = f"{result['model']} on {result['dataset']}: {result['examples']:,} test examples{mc}"
    return f"{head}; {fitted} validation examples"


def _figures(result):
    modes = {name: row for name, row in result["modes"].items() if row}
    columns = {**modes, **({"mc - inference": result["difference"]} if result["difference"] else {})}
    rows = [
        [title, *(_interval(figures.get(key), digits, factor) for figures in columns.values())]
        for key, (title, digits, factor) in MEASURES.items()
    ]
    return _grid(["with 95 % intervals over the test examples", *columns], rows)


def _interval(figure, digits, factor=1):
    if figure is None or figure["value"] is None:
        return "-"
    value, low, high = (None if figure[k] is None else factor * figure[k] for k in ("value", "low", "high"))
    return f"{value:.{digits}f}" + ("" if low is None else f" ({low:.{digits}f} to {high:.{digits}f})")


def _foreign(result):
    rows = [
        [f"{name}: {mode}, {SCORES[score]}", *(_interval(figures[key], 3) for key in ("auroc", "aupr", "fpr95"))]
        for name in next(iter(result["modes"].values()))["ood"]
        for mode, measured in result["modes"].items()
        if measured
        for score, figures in measured["ood"][name].items()
    ]
    return _grid(["foreign data told by", "AUROC", "AUPR", "FPR at 95 % TPR"], rows) if rows else ""


def _corruptions(result):
    kinds, rows = result["corruptions"] or {}, []
    for kind, by_strength in kinds.items():
        for mode in ("inference", "mc"):
            measured = [row[mode] for row in by_strength]
            if all(measured):
                cells = [f"{row['error']['value']:.1f} / {row['ece']['value']:.1f}" for row in measured]
                rows.append([f"{kind}: {mode}", *cells])
    if not rows:
        return ""
    return _grid(["error / ECE, %, at strength", *(str(k + 1) for k in range(len(rows[0]) - 1))], rows)


def _notes(result):
    reasons = {
        figure["reason"]
        for measured in result["modes"].values()
        for figure in (measured or {}).values()
        if isinstance(figure, Mapping) and figure.get("value", 0) is None and "reason" in figure
    }
    return "\n".join(f"note: {note}" for note in [*result["notes"], *sorted(reasons)])


def _grid(headings, rows):
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        cells = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
