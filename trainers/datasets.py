"""What `python -m trainers data` answers."""

from zoo import data
from zoo.errors import BadInput


def listing(data_dir=None):
    """The data sets that are known, ready ones first, as `{"datasets": [...]}`."""
    rows = [{**row._asdict(), "where": str(row.where or "")} for row in data.available(data_dir)]
    return {"datasets": sorted(rows, key=lambda row: (not row["prepared"], row["name"]))}


def information(name, data_dir=None, download=False):
    """What `zoo.data.describe` says of a set, once it is loaded."""
    from zoo import startup

    data.check_ready(name, data_dir=data_dir, download=download)
    startup.tensorflow()
    return data.describe(data.load(name, data_dir=data_dir, download=download))


def imported(name, folder, data_dir=None):
    """Turn IDX files into a TFDS folder; where it stands. Raises `BadInput` without a data folder."""
    if data_dir is None:
        raise BadInput("received import-idx without --data-dir; name the folder that TFDS_DATA_DIR will point to")
    from zoo import idx, startup

    startup.tensorflow()
    return {"name": name, "where": str(idx.import_idx(name, folder, data_dir))}


def text(result):
    """A result as people read it."""
    if "datasets" in result:
        rows = result["datasets"]
        ready = [f"{row['name']:<24}{row['kind']:<8}{row['where']}" for row in rows if row["prepared"]]
        others = sum(not row["prepared"] for row in rows)
        more = f"{others} more can be fetched by name with --download; own data: folder:DIR, FILE.npz"
        return "\n".join([f"{'ready':<24}{'kind':<8}where", *ready, "", more])
    return "\n".join(f"{key:<14}{_value(value)}" for key, value in result.items())


def _value(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value)
