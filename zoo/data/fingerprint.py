"""Whether a data set is the one that a run was trained on: its labels, sizes and a hash of its content.

The file names of a data set may stay when its content changes, so the hash is of what the network
gets. It needs the loaded parts alone, not their source.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import OtherData

if TYPE_CHECKING:
    from zoo.data.dataset import Dataset

_PARTS = ("train", "val", "test")
_BYTES, _FEWEST = 2**24, 64  # of each part: about the bytes that are hashed, and the examples that are at least


def of(dataset: "Dataset") -> dict[str, str]:
    """Returns a hash of each part: its classes, and the same sample of its examples each time.

    Examples:
        >>> from zoo import data
        >>> digits = data.load("digits", train_size=100)
        >>> of(digits) == of(data.load("digits", train_size=100)), sorted(of(digits))
        (True, ['test', 'train', 'val'])
    """
    example = int(np.prod(dataset.input_shape)) * (1 if dataset.kind == "image" else 4)
    count = max(_FEWEST, _BYTES // max(1, example))
    return {name: _hash(getattr(dataset, name), count) for name in _PARTS}


def check(stated: Mapping[str, Any], dataset: "Dataset", whose: str) -> None:
    """Checks that `dataset` is what `whose` was trained on, as far as `stated` says.

    Args:
        stated: the entry `data` of a `config.json`. One of an earlier version has no `fingerprint`;
            then labels, shape and sizes are compared.
        dataset: the data set as it is now, read as it was then.
        whose: what states it, for the message.

    Raises:
        OtherData: something differs.
    """
    check_labels(stated, dataset, whose)
    now = {
        "input_shape": list(dataset.input_shape),
        "sizes": {name: len(getattr(dataset, name)) for name in _PARTS},
    }
    for key, what in (("input_shape", "the shape of its examples"), ("sizes", "the sizes of its parts")):
        if stated.get(key) not in (None, now[key]):
            _refuse(dataset, whose, what, stated[key], now[key])
    before = stated.get("fingerprint")
    if isinstance(before, Mapping):
        after = of(dataset)
        changed = [name for name in _PARTS if before.get(name) != after[name]]
        if changed:
            _refuse(dataset, whose, "its content", "another content", f"changes in {', '.join(changed)}", plain=True)


def check_same(stated: Mapping[str, Any], other: Mapping[str, Any], whose: str) -> None:
    """Checks that two runs had the same data, as far as both say.

    Args:
        stated: the entry `data` of the `config.json` of one run.
        other: that of the other run.
        whose: what the other run is, for the message.

    Raises:
        OtherData: something differs.

    Examples:
        >>> check_same({"sizes": {"test": 360}}, {"sizes": {"test": 360}, "fingerprint": {"test": "ab"}}, "runs/b")
    """
    for key in ("labels", "input_shape", "sizes", "fingerprint"):
        if stated.get(key) is not None and other.get(key) not in (None, stated[key]):
            raise OtherData(
                f"all runs must have the same data, got others in {whose}, which differ in {key.replace('_', ' ')}; "
                "give every run the same files, and start again with another --out"
            )


def check_labels(stated: Mapping[str, Any], dataset: "Dataset", whose: str) -> None:
    """Checks that the classes of `dataset` are those of `whose`, in their order.

    The classes of an `.npz` file are numbers without names, and fit any names of the same count.
    """
    before, now = stated.get("labels"), list(dataset.labels)
    if before is None or list(before) == now:
        return
    names = (stated.get("dataset"), dataset.name)
    unnamed = any(str(name).lower().endswith(".npz") for name in names) and names[0] != names[1]
    if unnamed and len(before) == len(now):
        return
    if names[0] != names[1]:
        raise OtherData(
            f"dataset must have the classes that {whose} was trained on, {_first(before)}, got {dataset.name} with "
            f"{_first(now)}; choose another, or show it as foreign data with `python -m zoo uncertainty --ood`"
        )
    _refuse(dataset, whose, "its classes", _first(before), _first(now))


def _refuse(dataset, whose, what, before, now, plain=False):
    got = now if plain else f"{now} instead of {before}"
    raise OtherData(
        f"{dataset.name} must be the data that {whose} was trained on, got other data: {what} differ, {got}; restore "
        "them, give the command in the folder where it was trained if the path is a relative one, or train again"
    )


def _first(labels):
    """The labels as text; of many, the first ones."""
    shown = ", ".join(map(str, labels[:10]))
    return f"{shown}, ... ({len(labels)})" if len(labels) > 10 else shown


def _hash(part, count):
    digest = hashlib.sha256()
    y = np.asarray(part.y)
    digest.update(np.ascontiguousarray(y, "<i4").tobytes())
    sample = part if len(y) <= count and hasattr(part, "x") else part.sample(count)
    x = np.ascontiguousarray(sample.x)
    digest.update(f"{x.shape} {x.dtype.kind}".encode())
    digest.update(np.ascontiguousarray(x, x.dtype.newbyteorder("<")).data if x.size else b"")
    return digest.hexdigest()
