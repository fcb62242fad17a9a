"""Progress on stderr: one live line in a terminal or a notebook, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

from zoo.streams import Lossy

PLAIN_SECONDS = 10.0  # between two plain lines of a run
REFRESHES = 4  # of the live line, per second


def duration(seconds: float) -> str:
    """Returns seconds as text.

    Examples:
        >>> duration(75)
        '1 min 15 s'
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def say(quiet: bool, text: str) -> None:
    """Prints a line to stderr unless `quiet`."""
    if not quiet and sys.stderr is not None:
        print(text, file=Lossy(sys.stderr), flush=True)


class Live:
    """A status line that shows `text()`, refreshed several times a second by a thread of its own.

    Without a terminal or a notebook, and with `quiet`, it shows nothing. Use it as a context
    manager.

    Args:
        text: Returns the current status. It is called from another thread.
        quiet: Shows nothing.
        stream: Where to write; stderr unless given.
        keep: Leaves the last status on the screen if the block ends well.
    """

    def __init__(self, text: Callable[[], str], quiet: bool = False, stream: TextIO | None = None, keep: bool = False):
        self._text, self._stream, self._keep = text, stream or sys.stderr, keep
        self._quiet = quiet or self._stream is None
        self._display = None

    @property
    def shown(self) -> bool:
        """Whether there is a live line."""
        return self._display is not None

    def __enter__(self):
        if not self._quiet:
            if self._stream.isatty():
                self._display = _Terminal(self._stream, self._text)
            elif _in_notebook():
                self._display = _Notebook(self._text)
        return self

    def __exit__(self, kind, error, traceback):
        if self._display:
            self._display.stop(keep=self._keep and kind is None)
            self._display = None

    def update(self, done: float, total: float | None, refresh: bool = False) -> None:
        """Moves the bar to `done` of `total`; shows the status at once with `refresh`."""
        if self._display:
            self._display.update(done, total, refresh)


class Phases:
    """A live line that shows what is being done, and for how long. Use it as a context manager.

    Args:
        name: The first phase.
        quiet: Shows nothing.
    """

    def __init__(self, name: str, quiet: bool = False):
        self._name, self._begun = name, time.monotonic()
        self._live = Live(self.text, quiet)

    def __enter__(self):
        self._live.__enter__()
        return self

    def __exit__(self, *error):
        self._live.__exit__(*error)

    def begin(self, name: str) -> None:
        """Sets what is being done now."""
        self._name, self._begun = name, time.monotonic()
        self._live.update(0, None, refresh=True)

    def text(self) -> str:
        """Returns the current status."""
        return f"{self._name} ({duration(time.monotonic() - self._begun)})"


class _Terminal:
    """A live line of rich."""

    def __init__(self, stream, text):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn
        from rich.text import Text

        class Status(ProgressColumn):
            max_refresh = None

            def render(self, task):
                return Text(text(), overflow="ellipsis", no_wrap=True)

        # A descriptor of its own: descriptor 2 is redirected while TensorFlow is imported.
        self._copy = Lossy(os.fdopen(os.dup(stream.fileno()), "w", encoding="utf-8", errors="replace"))
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=8),
            Status(),
            console=Console(file=self._copy, force_terminal=True),
            refresh_per_second=REFRESHES,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def update(self, done, total, refresh):
        self._progress.update(self._task, completed=done, total=total, refresh=refresh)

    def stop(self, keep):
        self._progress.live.transient = not keep
        self._progress.stop()
        self._copy.close()


class _Notebook:
    """A line of output that is rewritten in place; needs no widgets."""

    def __init__(self, text):
        from IPython.display import display

        self._text, self._written = text, time.monotonic()
        self._handle = display({"text/plain": text()}, raw=True, display_id=True)

    def update(self, done, total, refresh):
        if refresh or time.monotonic() - self._written > 1 / REFRESHES:
            self._handle.update({"text/plain": self._text()}, raw=True)
            self._written = time.monotonic()

    def stop(self, keep):
        self._handle.update({"text/plain": self._text() if keep else ""}, raw=True)


def _in_notebook():
    """Whether this process is the kernel of a Jupyter notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class RunProgress:
    """The progress of one run: the phase, then epoch, speed, time left and the last errors.

    Use it as a context manager. In a terminal and in a notebook it is a live line. Elsewhere it
    prints a plain line per `PLAIN_SECONDS` of training.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None):
        self._stream = stream or sys.stderr
        self._quiet = quiet or self._stream is None
        self._live = Live(self.text, quiet, self._stream, keep=True)
        self._phase, self._phase_begun = "starting", time.monotonic()
        self._epochs = self._examples = self._epoch = self._done = 0
        self._speed, self._errors, self._first, self._latest = "", "", None, None
        self._written, self._last = float("-inf"), None

    def __enter__(self):
        self._live.__enter__()
        return self

    def __exit__(self, *error):
        if error[0] is None and self._last:
            self._plain(self._last)
        self._live.__exit__(*error)

    def say(self, text: str) -> None:
        """Prints a line above the live line."""
        say(self._quiet, text)

    def status(self, text: str) -> None:
        """Shows what the run does now: in the live line, or as a line where there is none."""
        self.phase(text) if self._live.shown else self.say(text)

    def phase(self, name: str) -> None:
        """Sets what the run does now, such as `loading` or `compiling`; empty while an epoch is trained."""
        if name != self._phase:
            self._phase, self._phase_begun = name, time.monotonic()
        # The phases of an epoch may last milliseconds: showing each would slow down training.
        self._live.update(self._done, self._epochs or None, refresh=name not in ("", "evaluating"))

    def begin(self, epochs: int, examples: int, start: int = 0) -> None:
        """Says that training begins after epoch `start` of `epochs`, with `examples` per epoch."""
        self._epochs, self._examples, self._epoch, self._done = epochs, examples, start, start
        self.phase("compiling")

    def within(self, epoch: int, fraction: float, seconds: float) -> None:
        """Says that `fraction` of an epoch was trained in `seconds`; called about once a second."""
        self._trained(epoch, epoch - 1 + fraction, self._examples * fraction / max(seconds, 1e-9))
        self.phase("" if fraction < 1 else "evaluating")
        if fraction < 1:  # otherwise the row follows at once
            self._line()

    def row(self, row: dict) -> None:
        """Takes the row of a finished epoch."""
        self._errors = f"error {row['train_error']:.2f} % train, {row['val_error']:.2f} % validation"
        self._trained(row["epoch"], row["epoch"], self._examples / max(row["train_seconds"], 1e-9))
        self.phase("")
        self._line()

    def text(self) -> str:
        """Returns the current status."""
        epoch = f"epoch {self._epoch}/{self._epochs}" if self._done else ""
        waited = time.monotonic() - self._phase_begun
        phase = f"{self._phase} ({duration(waited)})" if self._phase and waited >= 1 else self._phase
        return "  ".join(part for part in (epoch, phase, self._speed, self._left(), self._errors) if part)

    def _trained(self, epoch, done, rate):
        self._epoch, self._done, self._speed = epoch, done, f"{rate:,.0f} examples/s"
        # Compiling ends with the first call: what it took says nothing about the rest.
        self._latest = time.monotonic(), done
        self._first = self._first or self._latest

    def _left(self):
        if not self._first or self._latest[1] <= self._first[1]:
            return ""
        (begun, first), (now, done) = self._first, self._latest
        seconds = (now - begun) / (done - first) * (self._epochs - done) - (time.monotonic() - now)
        return f"{duration(max(seconds, 0))} left"

    def _line(self):
        self._last = self.text()
        if time.monotonic() - self._written >= PLAIN_SECONDS:
            self._plain(self._last)

    def _plain(self, line):
        if not self._quiet and not self._live.shown:
            print(line, file=Lossy(self._stream), flush=True)
            self._written, self._last = time.monotonic(), None
