"""The results of `python -m trainers data`, and their text."""

from pathlib import Path
from typing import Any

from zoo import data
from zoo.errors import BadInput


def listing(data_dir: str | Path | None = None) -> dict[str, Any]:
    """Returns the known data sets, prepared ones first, as `{"datasets": [...]}`."""
    rows = [{**row._asdict(), "where": str(row.where or "")} for row in data.available(data_dir)]
    return {"datasets": sorted(rows, key=lambda row: (not row["prepared"], row["name"]))}


def information(
    name: str, data_dir: str | Path | None = None, download: bool = False, **options: Any
) -> dict[str, Any]:
    """Loads a data set and returns its description, see `zoo.data.describe`.

    Args:
        name: as for `zoo.data.load`, like the rest.
        data_dir: folder of prepared TFDS sets.
        download: whether TFDS may download the set.
        **options: further options of `zoo.data.load`.

    Raises:
        BadInput: the set cannot be loaded, see `zoo.data.load`.
    """
    from zoo import startup

    data.check_ready(name, data_dir=data_dir, download=download)
    startup.tensorflow()
    return data.describe(data.load(name, data_dir=data_dir, download=download, **options))


def imported(name: str, folder: str | Path, data_dir: str | Path | None = None) -> dict[str, str]:
    """Writes IDX files as a TFDS set, see `zoo.data.idx.import_idx`.

    Returns:
        `{"name": name, "where": folder that was written}`.

    Raises:
        BadInput: `data_dir` is None, or the files cannot be imported.
    """
    if data_dir is None:
        raise BadInput("--data-dir must be a folder for prepared data sets, got none; later commands need it as well")
    from zoo import startup
    from zoo.data import idx

    startup.tensorflow()
    return {"name": name, "where": str(idx.import_idx(name, folder, data_dir))}


def text(result: dict[str, Any]) -> str:
    """Returns a result as lines of text."""
    if "datasets" in result:
        rows = result["datasets"]
        ready = [f"{row['name']:<24}{row['kind']:<8}{row['where']}" for row in rows if row["prepared"]]
        others = [f"{row['name']:<24}{row['kind']}" for row in rows if not row["prepared"]]
        table = [f"{'ready':<24}{'kind':<8}where", *ready]
        if others:
            table += ["", f"{'with --download':<24}kind", *others]
        return "\n".join(
            [*table, "", "also: any TFDS set of labelled images or texts by name, folder:DIR, FILE.npz, FILE.csv"]
        )
    return "\n".join(f"{key:<14}{_value(value)}" for key, value in result.items())


def _value(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)
