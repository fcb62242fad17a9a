"""Versions of Python and of packages, for the files of runs, searches and artefacts."""

import importlib.metadata
import platform
from collections.abc import Iterable


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns versions by name: that of Python, then those of the installed distributions in `packages`.

    Examples:
        >>> list(versions(["keras"]))
        ['python', 'keras']
    """
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}
