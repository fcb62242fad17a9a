"""What is shown on stderr while something runs: one living line on a terminal, plain lines elsewhere."""

import sys
import time

PLAIN_SECONDS = 10.0  # how often a plain line is written without a terminal


def duration(seconds):
    """Seconds as people read them.

    >>> duration(75)
    '1 min 15 s'
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class EpochLine:
    """The progress of one run: epoch, rate, time left, and the last errors."""

    def __init__(self, epochs, examples, start=0, stream=None):
        self._epochs, self._examples, self._start = epochs, examples, start
        self._stream = stream or sys.stderr
        self._begun, self._written, self._errors = time.monotonic(), float("-inf"), ""
        self._last = self._shown = None
        self._bar = _bar(self._stream, epochs) if self._stream.isatty() else None

    def within(self, epoch, fraction, seconds):
        """Called about once a second while an epoch is trained."""
        if fraction < 1:  # the row follows at once
            self._show(epoch - 1 + fraction, epoch, self._examples * fraction / max(seconds, 1e-9))

    def row(self, row):
        """Called with each finished epoch's row."""
        self._errors = f"error {row['train_error']:.2f} % train, {row['val_error']:.2f} % validation"
        self._show(row["epoch"], row["epoch"], self._examples / max(row["train_seconds"], 1e-9))

    def end(self):
        """Leave the last line standing."""
        if self._bar:
            self._bar.stop()
        elif self._last != self._shown:
            print(self._last, file=self._stream, flush=True)

    def _show(self, done, epoch, rate):
        share = max((done - self._start) / (self._epochs - self._start), 1e-9)
        left = duration((time.monotonic() - self._begun) * (1 - share) / share)
        text = f"epoch {epoch}/{self._epochs}  {rate:,.0f} examples/s  {left} left  {self._errors}".rstrip()
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=done, description=text)
        elif time.monotonic() - self._written >= PLAIN_SECONDS:
            print(text, file=self._stream, flush=True)
            self._written, self._shown = time.monotonic(), text
        self._last = text


def _bar(stream, total):
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=8), TextColumn("{task.description}"))
    progress = Progress(*columns, console=Console(file=stream), auto_refresh=False)
    progress.add_task("starting", total=total)
    progress.start()
    return progress


def say(quiet, text):
    """A line about the run on stderr, unless it is to be quiet."""
    if not quiet:
        print(text, file=sys.stderr)
