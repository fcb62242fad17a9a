"""Dataclass fields with a help text and a check.

Commands generate their options from such dataclasses (`zoo.cli.add_options`). The dataclasses check
themselves with `check`.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any

from zoo.checks import integer, number, one_of, shown
from zoo.errors import BadInput


def field(default: Any, about: str, check: Callable | None = None, **metadata: Any) -> Any:
    """Returns a dataclass field.

    Args:
        default: default value.
        about: help text.
        check: a function `(name, value)` that returns the value or raises `BadInput`.
        **metadata: further entries of the field's metadata.
    """
    return dataclasses.field(default=default, metadata={"about": about, "check": check, **metadata})


def whole(default: int | None, about: str, minimum: int = 1, maximum: int | None = None, **metadata: Any) -> Any:
    """Returns a field for an integer from `minimum` to `maximum`, see `field`."""
    return field(default, about, functools.partial(integer, minimum=minimum, maximum=maximum), **metadata)


def real(default: float | None, about: str, low: float, high: float, closed: str = "left") -> Any:
    """Returns a field for a number from `low` to `high`, see `field` and `zoo.checks.number`."""
    return field(default, about, functools.partial(number, low=low, high=high, closed=closed))


def text(name: str, value: Any) -> str:
    """Checks that a value is a text that is not empty, for the field that `field` makes."""
    if not isinstance(value, str) or not value:
        raise BadInput(f"{name} must be a text that is not empty, got {shown(value)}")
    return value


def choice(default: str, about: str, allowed: tuple[str, ...]) -> Any:
    """Returns a field for one of the names `allowed`, see `field`."""
    return field(default, about, functools.partial(one_of, allowed=allowed), allowed=allowed)


def check(instance: Any) -> None:
    """Checks every field of a dataclass instance. None passes if it is the default.

    Raises:
        BadInput: a value that the check of its field refuses.
    """
    for f in dataclasses.fields(instance):
        value = getattr(instance, f.name)
        if f.metadata.get("check") and not (value is None and f.default is None):
            object.__setattr__(instance, f.name, f.metadata["check"](f.name, value))


def integers(kind: type) -> tuple[str, ...]:
    """Returns the names of the fields that hold integers."""
    return tuple(name for name, hint in typing.get_type_hints(kind).items() if hint in (int, int | None))
