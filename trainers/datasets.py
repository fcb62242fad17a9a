"""The results of `python -m trainers data`, and their text."""

import datetime
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


def cached(clear: bool = False, limit: float | None = None) -> dict[str, Any]:
    """Returns what the cache holds, see `zoo.data.cache`.

    Args:
        clear: removes all entries that are not in use.
        limit: gigabytes that the cache may have from now on.

    Returns:
        `{"folder", "limit_gb", "bytes", "freed", "entries": [{"set", "bytes", "last_used", "in_use", "folder"}]}`,
        the entry that was used last first; `set` is None if the entry is damaged, `last_used` is local time.

    Raises:
        BadInput: a limit below 0, or a folder that cannot be written.
    """
    from zoo.data import cache

    try:
        root, freed = cache.folder(), 0
        if limit is not None:
            freed += cache.set_limit(limit)
        if clear:
            freed += cache.clear()
        rows = [
            {
                "set": entry.name,
                "bytes": entry.bytes,
                "last_used": datetime.datetime.fromtimestamp(entry.used).isoformat(sep=" ", timespec="seconds"),
                "in_use": entry.in_use,
                "folder": str(root / entry.key),
            }
            for entry in cache.entries()
        ]
        total = sum(row["bytes"] for row in rows)
        return {"folder": str(root), "limit_gb": cache.limit(), "bytes": total, "freed": freed, "entries": rows}
    except cache.Unavailable as error:
        raise BadInput(str(error)) from error


def cache_text(result: dict[str, Any]) -> str:
    """Returns the result of `cached` as lines of text."""
    rows = [
        f"{row['set'] or '(damaged)':<32}{_megabytes(row['bytes']):>12}  {row['last_used']}{'  in use' * row['in_use']}"
        for row in result["entries"]
    ]
    lines = [f"freed {_megabytes(result['freed'])}"] if result["freed"] else []
    lines += [f"{'set':<32}{'size':>12}  last use", *rows] if rows else ["the cache is empty"]
    used = f"{_megabytes(result['bytes'])} of at most {result['limit_gb']:g} GB"
    return "\n".join([*lines, "", f"{used} in {result['folder']}"])


def _megabytes(count):
    return f"{count / 10**6:,.1f} MB"


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
