"""Ctrl-C, SIGTERM and SIGHUP. The first one ends the work in order, a second Ctrl-C ends the process at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
SAME = 0.3  # seconds in which signals count as one: `timeout` and the end of a terminal send several
HINT_SECONDS = 1.0  # after which the terminal shows that a second Ctrl-C is possible
_SHOW_CURSOR = "\x1b[?25h"

_command = False  # whether this process is inside of `handled`
_first: tuple[int, float] | None = None  # the first signal that the command got, and when


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """A context for the process of a command, in which SIGTERM and SIGHUP raise `KeyboardInterrupt`, as Ctrl-C does.

    A signal that is ignored, as SIGHUP under `nohup`, stays ignored. A thread watches for the second
    Ctrl-C, because Python calls no handler while native code compiles or trains.
    """
    global _command, _first
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _interrupt)
    _command, _first = True, None
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    earlier = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reading,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        _command = False
        signal.set_wakeup_fd(earlier)
        for number, handler in before.items():
            signal.signal(number, handler)
        writing.close()
        watcher.join()
        reading.close()


def exit_code() -> int:
    """Returns the exit code of a command that was interrupted: 128 and the number of the signal, 130 for Ctrl-C."""
    return 128 + (_first[0] if _first else signal.SIGINT)


class Delayed:
    """A context in which the first interrupt only sets `pending`; a second Ctrl-C interrupts at once.

    It delays nothing outside the main thread, or if the program handles SIGINT itself.

    Attributes:
        pending: whether there was an interrupt.
    """

    def __init__(self) -> None:
        self.pending = False
        self._before: dict = {}

    def __enter__(self) -> "Delayed":
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in ENDING}
            ours = (_interrupt, signal.default_int_handler)
            self._before = {number: handler for number, handler in handlers.items() if handler in ours}
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not _counts(number):
            return
        if self.pending:
            raise KeyboardInterrupt
        self.pending = True


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """A context that an interrupt does not cut in two: `KeyboardInterrupt` is raised at its end.

    Examples:
        >>> with whole():
        ...     pass
    """
    with Delayed() as delayed:
        yield
    if delayed.pending:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _counts(number):
        raise KeyboardInterrupt


def _counts(number):
    """Notes a signal. Returns whether it is the first one of a command, or another Ctrl-C some time after it."""
    global _first
    if not _command:
        return True
    if _first is None:
        _first = number, time.monotonic()
        return True
    return number == signal.SIGINT and time.monotonic() - _first[1] > SAME


def _watch(reading):
    """Ends the process at a second Ctrl-C. Gets each signal as a byte, also while native code runs."""
    first, hinted = None, False
    while True:
        reading.settimeout(HINT_SECONDS if first and not hinted else None)
        try:
            numbers = reading.recv(1)
        except TimeoutError:
            hinted = True
            if sys.stderr.isatty():
                print("\ninterrupted: ending in order; press Ctrl-C again to end at once", file=sys.stderr, flush=True)
            continue
        if not numbers:
            return
        if numbers[0] not in ENDING:
            continue
        now = time.monotonic()
        if first is None:
            first = now
        elif numbers[0] == signal.SIGINT and now - first > SAME:
            if sys.stderr.isatty():  # a live line has hidden it
                print(_SHOW_CURSOR, file=sys.stderr, flush=True)
            os._exit(exit_code())
