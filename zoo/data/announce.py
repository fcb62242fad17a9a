"""What is said while a data set is read: single lines, and a status for as long as something takes.

Both go to stderr unless a command hears them: `with heard(progress.say): data.load(...)`.
"""

import contextlib
import contextvars
import sys
from collections.abc import Callable, Iterator

from zoo.repeating import every
from zoo.streams import Lossy

SECONDS = 1.5  # between two states of a status, and before the first one
Say = Callable[[str], None]


def printed(text: str) -> None:
    """Prints a line to stderr."""
    if sys.stderr is not None:
        print(text, file=Lossy(sys.stderr), flush=True)


_listener: contextvars.ContextVar[tuple[Say, Say]] = contextvars.ContextVar("listener", default=(printed, printed))


@contextlib.contextmanager
def heard(line: Say, status: Say | None = None) -> Iterator[None]:
    """A context in which lines are given to `line`, and states to `status`, also from another thread.

    Examples:
        >>> with heard(print):
        ...     say("faces has changed since it was decoded; decoding it again")
        faces has changed since it was decoded; decoding it again
    """
    token = _listener.set((line, status or line))
    try:
        yield
    finally:
        _listener.reset(token)


def say(text: str) -> None:
    """Says one line."""
    _listener.get()[0](text)


def status(text: Callable[[], str]) -> contextlib.AbstractContextManager[None]:
    """Returns a context that says `text()` every `SECONDS` until its end."""
    tell = _listener.get()[1]
    return every(SECONDS, lambda: tell(text()))
