"""Names of data sets, and the folders of prepared ones. Contacts no server, imports no TensorFlow.

A set that TFDS has prepared is a folder `DATA_DIR/NAME[/CONFIG]/VERSION` with a `features.json`.
"""

import difflib
import os
import re
from pathlib import Path
from typing import NamedTuple

from zoo import checks
from zoo.errors import BadInput
from zoo.reading import read_json, read_text

BUILT_IN = ("digits",)

# `data list` names these even if they are not prepared. Other TFDS sets work as well.
SUGGESTED = {
    "fashion_mnist": "image",
    "mnist": "image",
    "kmnist": "image",
    "cifar10": "image",
    "cifar100": "image",
    "svhn_cropped": "image",
    "glue/sst2": "text",
    "imdb_reviews": "text",
    "ag_news_subset": "text",
}

_NAME = re.compile(r"(?P<base>[a-z]\w*)(/(?P<config>[\w.+-]+))?(:(?P<version>\d+\.\d+\.\d+))?", re.ASCII)
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class Row(NamedTuple):
    """One line of `data list`: `kind` is image, text or other; `where` is a folder, or how to get the set."""

    name: str
    kind: str
    prepared: bool
    where: str


def root(data_dir: str | Path | None = None) -> Path:
    """Returns the folder of prepared sets: `data_dir`, the variable TFDS_DATA_DIR, or TFDS' default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    path = checks.path("data_dir", chosen)
    if path.exists() and not path.is_dir():
        raise BadInput(f"data_dir must be a folder of prepared data sets, got the file {path}")
    return path


def parse(name: str) -> tuple[str, str | None, str | None]:
    """Splits `base[/config][:version]` into its parts, None for those that are missing.

    Raises:
        BadInput: a name of another form.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise BadInput(
            "dataset must be digits, a TFDS name such as fashion_mnist or glue/sst2, folder:DIR for a folder of "
            f"images, or an .npz file, got {name!r}"
        )
    return match["base"], match["config"], match["version"]


def find(name: str, data_dir: str | Path | None = None) -> Path | None:
    """Returns the folder of a prepared set, its newest version unless the name has one; None if there is none."""
    base, config, version = parse(name)
    folder = root(data_dir) / base
    if config is None and not _newest(folder, version):
        config = _default_config(folder)
    return _newest(folder / config if config else folder, version)


def require(name: str, data_dir: str | Path | None = None, download: bool = False) -> Path | None:
    """Returns the folder of a prepared set; None if it is not prepared but may be downloaded.

    Contacts no server.

    Args:
        name: a TFDS name.
        data_dir: folder of prepared sets, see `root`.
        download: whether the set may be downloaded.

    Raises:
        BadInput: the set is unknown, or is not prepared and may not be downloaded.
    """
    folder = find(name, data_dir)
    if folder:
        return folder
    base, config, _ = parse(name)
    where = root(data_dir)
    configs = _configs(where / base)
    if configs and config is None:
        names = ", ".join(f"{base}/{other}" for other in configs)
        raise BadInput(f"dataset must name a variant prepared in {where}, one of {names}, got {name!r}")
    _check_known(name, base, config, data_dir)
    if download:
        return None
    raise BadInput(
        f"cannot read {name!r}: it is not prepared in {where}; add --download to download it, set --data-dir or "
        "TFDS_DATA_DIR to a folder that has it, import IDX files with "
        "`python -m trainers data import-idx NAME FOLDER --data-dir DIR`, or use the built-in digits"
    )


def available(data_dir: str | Path | None = None) -> list[Row]:
    """Returns a row for each prepared set, and for each suggested set that is not prepared."""
    where = root(data_dir)
    rows = [Row("digits", "image", True, "scikit-learn")]
    folders = {}
    for base in sorted(where.iterdir()) if where.is_dir() else []:
        if not base.is_dir() or not _NAME.fullmatch(base.name):
            continue
        variants = [base.name] if _newest(base) else [f"{base.name}/{config}" for config in _configs(base)]
        folders.update({name: find(name, data_dir) for name in variants})
    rows += [Row(name, _kind(folder), True, str(folder)) for name, folder in folders.items()]
    rows += [Row(name, kind, False, "--download") for name, kind in SUGGESTED.items() if name not in folders]
    return rows


def _newest(folder, version=None):
    """Returns the folder of `version`, or of the newest version, among the complete ones in `folder`."""
    if not folder.is_dir():
        return None
    versions = [
        path
        for path in folder.iterdir()
        if _VERSION.fullmatch(path.name)
        and version in (None, path.name)
        and (path / "features.json").is_file()
        and (path / "dataset_info.json").is_file()
    ]
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _configs(folder):
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not _VERSION.fullmatch(path.name) and _newest(path))


def _default_config(folder):
    """Returns the variant that TFDS recorded as the default of the plain name."""
    try:
        stated = read_json(folder / ".config" / "metadata.json")
    except BadInput:
        return None
    name = stated.get("default_config_name") if isinstance(stated, dict) else None
    return name if isinstance(name, str) and _NAME.fullmatch(f"{folder.name}/{name}") else None


def _check_known(name, base, config, data_dir):
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if base not in known:
        listed = [row.name for row in available(data_dir)]
        close = difflib.get_close_matches(name.lower(), sorted({*known, *listed}), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; see `python -m trainers data list`"
        raise BadInput(f"dataset must be prepared in {root(data_dir)} or known to TFDS, got {name!r}{hint}")
    configs = [known_config.name for known_config in tfds.builder_cls(base).BUILDER_CONFIGS]
    if config and config not in configs:
        close = difflib.get_close_matches(config, configs, n=3) or configs[:5]
        allowed = f"such as {', '.join(f'{base}/{other}' for other in close)}" if close else f"which is {base} alone"
        raise BadInput(f"dataset must be a variant of {base}, {allowed}, got {name!r}")


def _kind(folder):
    """Guesses image, text or other from the class names in the description of the features."""
    try:
        text = read_text(folder / "features.json")
    except BadInput:
        return "other"
    if "class_label" not in text:
        return "other"
    if "image_feature" in text:
        return "image"
    return "text" if "text_feature" in text else "other"
