"""The standard streams of a command: closed, full, or read by a program that has ended."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

from zoo.errors import CannotWrite


class Lossy:
    """A stream for messages. What cannot be written is lost: a full disk or a closed terminal ends no work.

    Args:
        stream: the stream to write to.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes `text` if that is possible."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream if that is possible."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def close(self) -> None:
        """Closes the stream, whether or not what it holds can be written."""
        with contextlib.suppress(OSError):
            self._stream.close()


class ReaderGone(Exception):
    """The program that reads stdout has ended, as `head` does when it has enough."""


class _Results:
    """A stream for results. Raises `CannotWrite` if they cannot be written, `ReaderGone` if nobody reads them."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._explained():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._explained():
            self._stream.flush()

    @contextlib.contextmanager
    def _explained(self):
        try:
            yield
        except OSError as error:
            _discard(self._stream)
            if isinstance(error, BrokenPipeError):
                raise ReaderGone from None
            why = "it is closed" if error.errno == errno.EBADF else error.strerror or error
            raise CannotWrite(f"cannot write the result to stdout: {why}; send it elsewhere") from error


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """A context for a command, in which `sys.stdout` and `sys.stderr` can be written whatever they are.

    A stream that was closed gets its descriptor back: otherwise the next file that is opened would have
    it, and native code would write its messages into that file.

    Raises:
        CannotWrite: at a write to stdout that fails.
        ReaderGone: at a write to stdout whose reader has ended.
    """
    before = sys.stdout, sys.stderr
    # Writing to a descriptor that is open for reading fails: results must not be lost in silence.
    for descriptor, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        _reopen(descriptor, flags)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - it lives as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _Results(sys.stdout), Lossy(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _reopen(descriptor, flags):
    """Opens the null device as `descriptor` if that is closed."""
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, flags)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)


def _discard(stream):
    """Sends what a stream still holds nowhere, so that it is not written again when the process ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
