"""Checks of single values: integers, numbers in a range, names from a list."""

import difflib
import math
import operator
import os
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zoo.errors import BadInput

# The largest value of each number that a user can choose: more is a slip, and would fill the memory or never end.
MOST: Mapping[str, int] = MappingProxyType(
    {
        "batch_size": 2**20,
        "classes": 2**20,
        "depth": 200,  # layers of one kind
        "early_stopping": 10**6,
        "epochs": 10**6,
        "examples": 10**9,
        "executions": 1000,
        "image_size": 8192,
        "length": 2**16,
        "port": 2**16 - 1,
        "resamples": 10**5,
        "samples": 10_000,
        "seed": 2**63 - 1,
        "seeds": 10_000,
        "threads": 1024,
        "trials": 10**6,
        "vocabulary": 2**24,
        "weights": 2**29,  # of a network; 2 GB
        "width": 2**16,
        "workers": 1024,
        "devices": 1024,
    }
)


def integer(name: str, value: Any, minimum: int = 1, maximum: int | None = None) -> int:
    """Checks that a value is an integer, of Python or NumPy, in a range.

    Args:
        name: what messages call the value.
        value: the value.
        minimum: smallest value allowed.
        maximum: largest value allowed; None for no limit.

    Returns:
        `value` as an int.

    Raises:
        BadInput: any other value, a bool included.

    Examples:
        >>> integer("epochs", 20)
        20
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except Exception:  # the conversion of an object may raise anything
        number = None
    if number is None or number < minimum or (maximum is not None and number > maximum):
        too_small = minimum >= 0 and (number is None or number < minimum)
        bounds = f">= {minimum:,}" if too_small or maximum is None else f"from {minimum:,} to {maximum:,}"
        raise BadInput(f"{name} must be an integer {bounds}, got {shown(value)}")
    return number


def integers(minimums: Mapping[str, int], values: Mapping[str, Any]) -> None:
    """Checks several integers, as `integer` does. Missing values and None pass.

    Args:
        minimums: smallest value allowed, by name.
        values: values by name. The largest value allowed is that of `MOST`; `tuning_seeds` and `retrain` have
            that of `seeds`, `max_trials` that of `trials`.

    Raises:
        BadInput: a value that is not an integer, too small, or too large.
    """
    for name, minimum in minimums.items():
        if values.get(name) is not None:
            integer(name, values[name], minimum, MOST.get(_COUNTED.get(name, name)))


_COUNTED = {"tuning_seeds": "seeds", "retrain": "seeds", "max_trials": "trials"}


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, closed: str = "left") -> float:
    """Checks that a value is a finite number in an interval.

    Args:
        name: what messages call the value.
        value: the value.
        low: lower bound.
        high: upper bound.
        closed: which bounds are allowed themselves: `left`, `right`, `both` or `neither`.

    Returns:
        `value`, unchanged.

    Raises:
        BadInput: any other value, NaN and bools included.

    Examples:
        >>> number("rate", 0.5, 0, 1)
        0.5
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    try:
        inside = real and math.isfinite(value) and low <= float(value) <= high
    except OverflowError:  # an integer that no float can hold
        inside = False
    left, right = closed in ("left", "both"), closed in ("right", "both")
    if not inside or (value == low and not left) or (value == high and not right):
        if math.isinf(high):
            bounds = "a finite number" if math.isinf(low) else f"a finite number {'>=' if left else '>'} {low:g}"
        else:
            bounds = f"in {'[' if left else '('}{low:g}, {high:g}{']' if right else ')'}"
        raise BadInput(f"{name} must be {bounds}, got {shown(value)}")
    return value


def one_of(name: str, value: Any, allowed: Iterable[str], way: str = "") -> str:
    """Checks that a value is one of several names.

    Args:
        name: what messages call the value.
        value: the value.
        allowed: the names.
        way: what the message ends with if no name is near.

    Returns:
        `value`, unchanged.

    Raises:
        BadInput: any other value. The message suggests the nearest name.

    Examples:
        >>> one_of("kind", "spatial", ("dropout", "spatial"))
        'spatial'
    """
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        close = difflib.get_close_matches(value[:200], allowed, n=1) if isinstance(value, str) else []
        hint = f"; did you mean {close[0]!r}?" if close else way
        raise BadInput(f"{name} must be one of {listed(allowed)}, got {shown(value)}{hint}")
    return value


def flag(name: str, value: Any) -> bool:
    """Checks that a value is true or false.

    Examples:
        >>> flag("augment", True)
        True
    """
    if not isinstance(value, bool):
        raise BadInput(f"{name} must be true or false, got {shown(value)}")
    return value


def texts(name: str, value: Any) -> list[str]:
    """Checks that a value is a text, or a list of texts, and returns the list.

    Examples:
        >>> texts("drop", "hidden=0.5")
        ['hidden=0.5']
    """
    try:
        items = [value] if isinstance(value, str) else [None] if isinstance(value, bytes | Mapping) else list(value)
    except Exception:  # no iterable, or one that fails
        items = [None]
    if not all(isinstance(item, str) for item in items):
        raise BadInput(f"{name} must be a text or a list of texts, got {shown(value)}")
    return items


def mapping(name: str, value: Any) -> Mapping:
    """Checks that a value is a mapping whose keys are texts.

    Examples:
        >>> mapping("settings", {"hidden": 64})
        {'hidden': 64}
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise BadInput(f"{name} must be a dictionary with texts as keys, got {shown(value)}")
    return value


def path(name: str, value: Any) -> Path:
    """Checks that a value can be the path of a file or folder, which need not exist.

    Args:
        name: what messages call the value.
        value: the value.

    Returns:
        The path, with `~` replaced by the user's home folder.

    Raises:
        BadInput: another type, a path that the system refuses or that is not UTF-8 (no file could record it), or
            the home folder of an unknown user.

    Examples:
        >>> path("--out", "runs/first").name
        'first'
    """
    try:
        if not isinstance(value, str | os.PathLike) or not str(value):
            raise TypeError("a path is a text that is not empty")
        expanded = Path(value).expanduser()
        str(expanded).encode("utf-8")
        expanded.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return expanded
    except (TypeError, ValueError, OSError, RuntimeError) as error:  # a NUL, too long, an unknown user
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
        raise BadInput(f"{name} must be a path, got {shown(value)} ({reason}); choose another") from None
    return expanded


def shown(value: Any) -> str:
    """Returns a value as messages show it, at most 200 characters of it.

    Examples:
        >>> shown("x"), len(shown("x" * 1000))
        ("'x'", 203)
    """
    try:
        text = repr(value[:300] if isinstance(value, str | bytes | list | tuple) else value)
    except Exception:  # an integer of very many digits, or an object whose repr fails
        text = f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def way_to_rates(name: object) -> str:
    """Returns what to do instead if rates were given where a placement is named; empty for other names.

    Examples:
        >>> way_to_rates("hidden=0.5")
        '; use --drop hidden=0.5, or a dictionary in Python'
        >>> way_to_rates("defualt")
        ''
    """
    rates = isinstance(name, str) and "=" in name and name.isprintable() and len(name) <= 100
    return f"; use --drop {name}, or a dictionary in Python" if rates else ""


def shortest(value: float) -> str:
    """Returns the shortest text that is read as the same number, without a final `.0`.

    Examples:
        >>> shortest(0.5), shortest(1.0), shortest(0.1 + 0.2)
        ('0.5', '1', '0.30000000000000004')
    """
    return repr(float(value)).removesuffix(".0")


def listed(names: Iterable) -> str:
    """Returns names joined by commas."""
    return ", ".join(str(name) for name in names)
