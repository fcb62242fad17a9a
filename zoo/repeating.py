"""Something that is done again and again while something else takes its time."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def every(seconds: float, call: Callable[[], object]) -> Iterator[None]:
    """A context that makes a call in a thread every so many seconds, the first one after that time.

    Examples:
        >>> with every(60.0, lambda: print("a minute has passed")):
        ...     pass
    """
    ended = threading.Event()

    def repeat():
        while not ended.wait(seconds):
            call()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
