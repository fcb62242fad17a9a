"""Checks of nested values, such as the contents of a JSON file. A message names the path of the field.

A check is a function `(name, value)` that raises `BadInput`, as those of `zoo.checks` are. Unknown keys
pass, because later versions may write them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

from zoo import checks
from zoo.errors import BadInput
from zoo.reading import AGAIN, refuse

Check = Callable[[str, Any], Any]
flag: Check = checks.flag


def require(path: str | Path, value: Any, check: Check, way: str = AGAIN) -> Any:
    """Returns the contents of a file if a check accepts them.

    Args:
        path: the file.
        value: its contents.
        check: the check.
        way: the way out, the end of the message.

    Raises:
        BadInput: the message names the file and the field.

    Examples:
        >>> require("config.json", {"recipe": {"epochs": 3}}, record({"recipe": record({"epochs": whole(1)})}))
        {'recipe': {'epochs': 3}}
    """
    try:
        check("", value)
    except BadInput as error:
        refuse(path, str(error), way)
    return value


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Returns a check of a dictionary with these keys; other keys pass."""
    optional = optional or {}

    def check(name, value):
        if not isinstance(value, dict):
            raise BadInput(f"{name or 'the content'} must be a JSON object, got {checks.shown(value)}")
        for key, inner in {**required, **optional}.items():
            if key in value:
                inner(_within(name, key), value[key])
            elif key in required:
                raise BadInput(f"{_within(name, key)} is missing")
        return value

    return check


def each(check: Check, least: int = 0, most: int | None = None) -> Check:
    """Returns a check of a list of `least` to `most` items."""

    def checked(name, value):
        if not isinstance(value, list) or len(value) < least or (most is not None and len(value) > most):
            count = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
            raise BadInput(f"{name or 'the content'} must be a list of {count} items, got {checks.shown(value)}")
        for number, item in enumerate(value):
            check(f"{name}[{number}]", item)
        return value

    return checked


def all_of(*checks_: Check) -> Check:
    """Returns a check of a value that passes all of several checks."""

    def checked(name, value):
        for check in checks_:
            check(name, value)
        return value

    return checked


def by_name(check: Check) -> Check:
    """Returns a check of a dictionary whose values all pass `check`."""

    def checked(name, value):
        record({})(name, value)
        for key, item in value.items():
            check(_within(name, key), item)
        return value

    return checked


def nullable(check: Check) -> Check:
    """Returns a check that None passes too."""
    return lambda name, value: value if value is None else check(name, value)


def whole(minimum: int = 0, maximum: int | None = 2**63 - 1) -> Check:
    """Returns a check of an integer, see `zoo.checks.integer`."""
    return functools.partial(checks.integer, minimum=minimum, maximum=maximum)


def real(low: float = -inf, high: float = inf, closed: str = "both") -> Check:
    """Returns a check of a finite number, see `zoo.checks.number`."""
    return functools.partial(checks.number, low=low, high=high, closed=closed)


def choice(*allowed: str) -> Check:
    """Returns a check of one of several names."""
    return functools.partial(checks.one_of, allowed=allowed)


def text(name: str, value: Any) -> str:
    """Checks that a value is a text."""
    if not isinstance(value, str):
        raise BadInput(f"{name} must be a text, got {checks.shown(value)}")
    return value


def numeric(name: str, value: Any) -> float:
    """Checks that a value is a number, NaN and infinity included, which CSV files can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"{name} must be a number, got {checks.shown(value)}")
    return value


def fields_of(kind: type, **others: Check) -> Check:
    """Returns a check of a dictionary by the fields of a dataclass (`zoo.fields`), none of them required.

    Args:
        kind: the dataclass.
        **others: checks of fields that have none of their own.
    """
    known = {}
    for f in dataclasses.fields(kind):
        check = others.get(f.name) or f.metadata.get("check")
        if check:
            known[f.name] = nullable(check) if f.default is None else check
    return record({}, known)


def _within(name, key):
    return f"{name}.{key}" if name else str(key)[:80]
