"""Names of data sets, and where the prepared ones lie. Reads folders; asks no server, needs no TensorFlow.

A set that TFDS has prepared is a folder `DATA_DIR/NAME[/CONFIG]/VERSION` with a `features.json`.
"""

import difflib
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from zoo.errors import BadInput

BUILT_IN = ("digits",)

# Shown by the listing even where they are not prepared yet; any other set of TFDS works too.
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
    """One line of the listing: `kind` is image, text or other; `where` a folder, or the way to get it."""

    name: str
    kind: str
    prepared: bool
    where: str


def root(data_dir=None):
    """The folder of prepared sets: `data_dir`, else the variable TFDS_DATA_DIR, else TFDS' own default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    path = Path(chosen).expanduser()
    if path.exists() and not path.is_dir():
        raise BadInput(f"the data folder {path} is a file; give the folder that holds prepared data sets")
    return path


def parse(name):
    """Split `base[/config][:version]` into its three parts, each None where it is not given.

    Raises `BadInput` for what cannot be the name of a data set.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise BadInput(
            f"{name!r} is not the name of a data set; give `digits`, a TFDS name such as fashion_mnist or "
            "glue/sst2, `folder:DIR` for a folder of images, or a file ending in .npz"
        )
    return match["base"], match["config"], match["version"]


def find(name, data_dir=None):
    """The folder in which TFDS has prepared `name`, the newest version unless one is asked for; or None."""
    base, config, version = parse(name)
    folder = root(data_dir) / base
    if config is None and not _newest(folder, version):
        config = _default_config(folder)
    return _newest(folder / config if config else folder, version)


def require(name, data_dir=None, download=False):
    """The folder of a prepared set; None if it is not there but may be fetched.

    Raises `BadInput`, within a second or two and without asking any server, if the
    set is neither prepared nor to be fetched, or is not known at all.
    """
    folder = find(name, data_dir)
    if folder:
        return folder
    base, config, _ = parse(name)
    where = root(data_dir)
    configs = _configs(where / base)
    if configs and config is None:
        names = ", ".join(f"{base}/{other}" for other in configs)
        raise BadInput(f"{name!r} is prepared in {where} in these variants: {names}; name one of them")
    _check_known(name, base, config, data_dir)
    if download:
        return None
    raise BadInput(
        f"the data set {name!r} is not prepared in {where}, and nothing is fetched unasked; add --download "
        "to fetch it, point --data-dir or TFDS_DATA_DIR at a folder that has it, make it from IDX files with "
        "`python -m trainers data import-idx NAME FOLDER --data-dir DIR`, or use the embedded `digits`"
    )


def listing(data_dir=None):
    """Every set at hand, and the suggested ones that are not: a list of `Row`."""
    where = root(data_dir)
    rows = [Row("digits", "image", True, "scikit-learn")]
    found = {}
    for base in sorted(where.iterdir()) if where.is_dir() else []:
        if not base.is_dir() or not _NAME.fullmatch(base.name):
            continue
        variants = [base.name] if _newest(base) else [f"{base.name}/{config}" for config in _configs(base)]
        found.update({name: find(name, data_dir) for name in variants})
    rows += [Row(name, _kind(folder), True, str(folder)) for name, folder in found.items()]
    rows += [Row(name, kind, False, "--download") for name, kind in SUGGESTED.items() if name not in found]
    return rows


def _newest(folder, version=None):
    """The folder of `version`, or of the newest one, among the complete ones in `folder`."""
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
    """The variant that the plain name means, as TFDS noted it beside the variants."""
    try:
        return json.loads((folder / ".config" / "metadata.json").read_text())["default_config_name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_known(name, base, config, data_dir):
    import tensorflow_datasets as tfds

    known = tfds.list_builders(with_community_datasets=False)
    if base not in known:
        at_hand = [row.name for row in listing(data_dir)]
        close = difflib.get_close_matches(name.lower(), sorted({*known, *at_hand}), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; see `python -m trainers data list`"
        raise BadInput(f"there is no data set {name!r}, neither in {root(data_dir)} nor among TFDS' sets{hint}")
    configs = [known_config.name for known_config in tfds.builder_cls(base).BUILDER_CONFIGS]
    if config and config not in configs:
        close = difflib.get_close_matches(config, configs, n=3) or configs[:5]
        allowed = f"it has {', '.join(f'{base}/{other}' for other in close)}" if close else "it has no variants"
        raise BadInput(f"the data set {base!r} has no variant {config!r}; {allowed}")


def _kind(folder):
    """A guess for the listing, from the class names in the features' description."""
    try:
        text = (folder / "features.json").read_text()
    except OSError:
        return "other"
    if "class_label" not in text:
        return "other"
    if "image_feature" in text:
        return "image"
    return "text" if "text_feature" in text else "other"
