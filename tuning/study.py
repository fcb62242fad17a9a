"""A search in progress: what the oracle was asked, which worker has which trial, and the results.

The oracle proposes combinations. The study hands out each different combination once, as a
trial, and reports its result to the oracle. It answers the calls of keras-tuner's chief
service (`create_trial`, `update_trial`, `end_trial`, `get_space`), so that a worker in this
process and one on another machine are served alike. Every event goes into the journal first;
replaying the events restores the study.
"""

import itertools
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

import keras_tuner
from keras_tuner.engine.trial import Trial as Answer

from tuning.journal import Journal
from tuning.space import Space
from tuning.stopping import p_worse
from zoo.errors import BadInput

CONTROL = "control"
FIGURES = ("val_error", "val_loss", "val_error_best", "val_error_last", "epochs", "seconds")
ATTEMPTS = 3  # how often a trial is started before it counts as failed
SAME_FAILURES = 3  # failures for one cause that end a search
# What a figure can be: errors in per cent; a worker elsewhere could report anything.
_RANGES = {name: (0, 100) for name in ("val_error", "val_error_best", "val_error_last")}
_RANGES |= {"val_loss": (0, 1e30), "epochs": (1, 1e9), "seconds": (0, 1e9)}
_LONGEST = 2000  # characters of a message
LEASE_SECONDS = 90.0  # how long a worker may be silent before another worker gets its trial


def label(trial_id: str) -> str:
    """Returns a trial's id as people read it.

    Examples:
        >>> label("0003"), label("control")
        ('trial 3', 'control')
    """
    return CONTROL if trial_id == CONTROL else f"trial {trial_id.lstrip('0') or '0'}"


@dataclass
class Trial:
    """One combination of values and the results of its runs.

    Attributes:
        id: `control`, or the number that the oracle gave it.
        values: hyperparameter -> value.
        key: identifies the combination; trials of equal keys train the same network.
        until: the epoch at which it pauses; None for a full run.
        after: the trial whose runs it continues, or None.
        status: `RUNNING`, `COMPLETED`, `STOPPED` (clearly worse than the best) or `FAILED`.
        message: why it failed or was stopped.
        worker: the worker that has it, or None.
        attempts: how often it was started.
        seen: when its worker was last heard, on the clock `time.monotonic`.
        asked: the oracle's trials that it answers.
        executions: number -> figures of that run.
        drawn: how many trials had ended when it was drawn.
        ended: its place in the order in which trials ended; None while it runs.
    """

    id: str
    values: dict
    key: tuple
    until: int | None = None
    after: str | None = None
    status: str = "RUNNING"
    message: str = ""
    worker: str | None = None
    attempts: int = 0
    seen: float = 0.0
    asked: list = field(default_factory=list)
    executions: dict = field(default_factory=dict)
    drawn: int = 0
    ended: int | None = None

    @property
    def label(self) -> str:
        """Its id as people read it."""
        return label(self.id)

    def mean(self, figure: str) -> float:
        """Returns the mean of a figure over the executions."""
        return fmean(row[figure] for row in self.executions.values())

    @property
    def score(self) -> tuple[float, float]:
        """What trials are ranked by: validation error (per cent), then validation loss (nats)."""
        return self.mean("val_error"), self.mean("val_loss")

    @property
    def ranked(self) -> bool:
        """Whether it can be the best: all its executions are complete, for all epochs."""
        return self.status == "COMPLETED" and self.until is None

    @property
    def errors(self) -> list[float]:
        """The validation errors of its first executions, up to the first that is missing, in per cent."""
        numbers = itertools.takewhile(self.executions.__contains__, itertools.count())
        return [self.executions[number]["val_error"] for number in numbers]

    @property
    def cause(self) -> str:
        """The message of a failure without its numbers, so that failures for one cause are equal."""
        return re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?|\b(nan|inf)\b", "#", self.message)


def _need(condition, name, allowed, value):
    if not condition:
        raise BadInput(f"{name} must be {allowed}, got {str(value)[:100]!r}; nothing was noted")


def rounded(value: float) -> float:
    """Returns a figure with the seven digits that keras-tuner's service keeps: the same from every kind of worker."""
    return float(f"{float(value):.7g}")


class Study:
    """The trials of one search. Calls from several threads are taken one at a time.

    Args:
        oracle: an oracle of `tuning.oracles`.
        space: what is tuned.
        journal: the events so far; they are replayed.
        executions: runs of each trial.
        limit: the largest number of trials, with the control.
        about: what a worker needs to know about the search, in JSON.
        on_end: called with each trial that has ended.
        on_start: called with each trial that is handed out; its `worker` is set.
        stop_worse: error rate of stopping a trial that is clearly worse than the best one that was complete when it
            was drawn; None stops none.

    Raises:
        BadInput: the oracle does not repeat the answers in the journal.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        space: Space,
        journal: Journal,
        executions: int,
        limit: int,
        about: str | None = None,
        on_end: Callable[[Trial], None] = lambda trial: None,
        on_start: Callable[[Trial], None] = lambda trial: None,
        stop_worse: float | None = None,
    ):
        self.trials: dict[str, Trial] = {}
        self.cause: str | None = None  # the message of the failures that ended the search
        self._oracle, self._space, self._journal = oracle, space, journal
        self._executions, self._limit, self._about = executions, limit, about
        self._on_end, self._on_start, self._stop_worse = on_end, on_start, stop_worse
        self._by_key: dict[tuple, Trial] = {}
        self._by_answer: dict[str, Trial] = {}
        self._failures: dict[str, int] = {}
        self._asked, self._ends, self._waiting, self._over = 0, 0, False, False
        self._lock = threading.RLock()
        # The first trial is the control: without it, no rate can be shown to help.
        values = space.control()
        self._add(Trial(CONTROL, values, (space.key(values), None)))
        for event in list(journal.events):
            try:
                self._replay(event)
            except (LookupError, TypeError, AttributeError) as error:
                raise BadInput(
                    f"cannot resume {journal.path.parent}: its journal does not fit ({type(error).__name__}: {error}); "
                    "name another --out"
                ) from error
        self._failures, self.cause = {}, None  # whoever resumes has read why it stopped

    # === The calls of keras-tuner's service ===

    def create_trial(self, worker: str) -> Answer:
        """Returns the next trial for `worker`, of status IDLE if there is none yet, STOPPED if the search is over."""
        _need(
            0 < len(worker) <= 200 and worker.isprintable(),
            "the name of a worker",
            "up to 200 printable characters",
            worker,
        )
        with self._lock:
            self._expire()
            for trial in self._running():
                if trial.worker == worker:  # it was killed and restarted
                    return self._give(trial, worker)
            for trial in self._running():
                if trial.worker is None:
                    return self._give(trial, worker)
            status = self._ask()
            return self._give(status, worker) if isinstance(status, Trial) else Answer(self._space_of({}), "", status)

    def update_trial(self, trial_id: str, metrics: dict, step: int = 0) -> Answer:
        """Notes that the trial's worker is alive, and the figures of execution `step` if `metrics` has them.

        The status of the answer is STOPPED if the rest of its executions are not needed.

        Raises:
            BadInput: there is no such trial or execution, or a figure is impossible.
        """
        with self._lock:
            trial = self._trial(trial_id)
            if set(FIGURES) <= set(metrics):
                _need(0 <= step < self._executions, "step", f"an execution below {self._executions}", step)
                for name in FIGURES:
                    least, most = _RANGES[name]
                    value = metrics[name]
                    _need(not math.isfinite(value) or least <= value <= most, name, f"in [{least}, {most:g}]", value)
            trial.seen = time.monotonic()
            if trial.status == "RUNNING" and set(FIGURES) <= set(metrics) and step not in trial.executions:
                row = {name: rounded(metrics[name]) for name in FIGURES}
                wrong = next((name for name in FIGURES if not math.isfinite(row[name])), None)
                if wrong:
                    self._end(trial, "FAILED", f"{wrong} became {row[wrong]}")
                else:
                    self._note({"event": "execution", "trial": trial_id, "execution": int(step), **row})
            if set(FIGURES) <= set(metrics):  # known ones too: a kill may have come before the end was noted
                self._stop_if_worse(trial)
            return self._answer(trial)

    def end_trial(self, answer: Answer) -> None:
        """Ends a trial: COMPLETED, or FAILED with `message` among its values.

        Raises:
            BadInput: there is no such trial, or it cannot end so.
        """
        with self._lock:
            trial = self._trial(answer.trial_id)
            _need(answer.status in ("COMPLETED", "FAILED"), "status", "COMPLETED or FAILED", answer.status)
            if trial.status != "RUNNING":
                return  # another worker was faster
            message = answer.hyperparameters.values.get("message", "")
            self._end(trial, answer.status, str(answer.message or message)[:_LONGEST])

    def get_space(self) -> keras_tuner.HyperParameters:
        """Returns the hyperparameters with what a worker needs to know about the search as `about`, in JSON."""
        space = self._space_of({})
        space.Fixed("about", self._about or "")
        return space

    def get_trial(self, trial_id: str) -> Answer:
        """Returns one trial in keras-tuner's form. Raises `BadInput` if there is no such trial."""
        return self._answer(self._trial(trial_id))

    def _trial(self, trial_id):
        _need(trial_id in self.trials, "trial", f"one of the {len(self.trials)} of this search", trial_id)
        return self.trials[trial_id]

    # === For the search ===

    @property
    def over(self) -> bool:
        """Whether nothing is running and, as far as is known, nothing more will be asked."""
        with self._lock:
            return not self._running() and bool(self.cause or self._over or len(self.trials) >= self._limit)

    def release(self) -> None:
        """Takes running trials from their workers, which are gone."""
        for trial in self._running():
            trial.worker = None

    def hold(self) -> None:
        """Leaves running trials to their workers, which may still train them, until their lease ends."""
        for trial in self._running():
            trial.seen = time.monotonic()

    def completed(self) -> list[Trial]:
        """Returns the completed full runs, best first."""
        full = [trial for trial in self.trials.values() if trial.ranked]
        return sorted(full, key=lambda trial: trial.score)

    # === Asking the oracle ===

    def _ask(self):
        """Returns a new trial, or the status IDLE or STOPPED."""
        while True:
            if self.cause or self._over or len(self.trials) >= self._limit:
                return "IDLE" if self._running() else "STOPPED"
            if self._waiting:
                return "IDLE"  # nothing has ended since the oracle said so
            answer = self._oracle.create_trial(f"ask {self._asked}")
            values = answer.hyperparameters.values if answer.status == "RUNNING" else {}
            event = {"event": "ask", "status": answer.status, "trial": answer.trial_id, "values": dict(values)}
            trial = self._note(event)
            if trial is not None:
                return trial

    def _heard(self, event):
        """Takes an answer of the oracle; returns the new trial, or None if the combination is known."""
        self._asked += 1
        self._waiting, self._over = event["status"] == "IDLE", event["status"] == "STOPPED"
        if event["status"] != "RUNNING":
            return None
        values = self._space.snapped(event["values"])
        until = event["values"].get("tuner/epochs", math.inf)
        until = until if until < getattr(self._oracle, "max_epochs", math.inf) else None
        key = (self._space.key(values), until)
        known = self._by_key.get(key)
        if known is None:
            before = self._by_answer.get(event["values"].get("tuner/trial_id"))
            self._by_answer[event["trial"]] = trial = Trial(event["trial"], values, key, until, before and before.id)
            trial.drawn = self._ends
            trial.asked.append(event["trial"])
            return self._add(trial)
        self._by_answer[event["trial"]] = known
        known.asked.append(event["trial"])
        if known.status != "RUNNING":
            self._tell(known, event["trial"])
        return None

    def _add(self, trial):
        self.trials[trial.id] = self._by_key[trial.key] = trial
        return trial

    # === Ending ===

    def _end(self, trial, status, message):
        if status == "COMPLETED" and len(trial.executions) < self._executions:
            status, message = "FAILED", f"{len(trial.executions)} of {self._executions} executions were reported"
        self._note({"event": "end", "trial": trial.id, "status": status, "message": message})
        self._on_end(trial)

    def _stop_if_worse(self, trial):
        """Stops a running trial that is clearly worse than the best one that was complete when it was drawn.

        So the decision depends on the order of draws and ends in the journal, and not on the pace of other workers.
        """
        if self._stop_worse is None or trial.status != "RUNNING":
            return
        rivals = [other for other in self.completed() if other.ended <= trial.drawn]
        p = p_worse(trial.errors, [other.errors for other in rivals], self._executions)
        if p is not None and p <= self._stop_worse:
            count = len(trial.errors)
            difference = fmean(trial.errors) - fmean(rivals[0].errors[:count])
            about = f"{difference:.2f} points above {rivals[0].label} with the same seeds, adjusted p {p:.2g}"
            self._end(trial, "STOPPED", f"{about}, after {count} of {self._executions} executions")

    def _ended(self, event):
        trial = self.trials[event["trial"]]
        self._ends += 1
        trial.ended = self._ends
        trial.status, trial.message, trial.worker = event["status"], event["message"], None
        self._waiting = False
        for asked in trial.asked:
            self._tell(trial, asked)
        if trial.status == "FAILED":
            self._failures[trial.cause] = self._failures.get(trial.cause, 0) + 1
            if self._failures[trial.cause] >= SAME_FAILURES:
                self.cause = trial.message

    def _tell(self, trial, asked):
        """Reports to the oracle; a failed trial has no number, because the oracle would take it for a result."""
        answer = self._oracle.trials[asked]
        scored = trial.status in ("COMPLETED", "STOPPED")
        answer.status = "COMPLETED" if scored else trial.status
        if scored:
            self._oracle.update_trial(asked, {"val_error": trial.score[0]})
        self._oracle.end_trial(answer)

    # === Workers ===

    def _running(self):
        return [trial for trial in self.trials.values() if trial.status == "RUNNING"]

    def _give(self, trial, worker):
        trial.attempts += 1
        if trial.attempts > ATTEMPTS:
            self._end(trial, "FAILED", f"its process was killed {ATTEMPTS} times; it may need more memory")
            return self.create_trial(worker)
        self._note({"event": "give", "trial": trial.id, "worker": worker})
        self._on_start(trial)
        return self._answer(trial)

    def _expire(self):
        for trial in self._running():
            if trial.worker is not None and time.monotonic() - trial.seen > LEASE_SECONDS:
                trial.worker = None

    # === The journal ===

    def _note(self, event):
        self._journal.write(event)
        return self._apply(event)

    def _apply(self, event):
        if event["event"] == "ask":
            return self._heard(event)
        if event["event"] == "execution":
            row = {name: event[name] for name in FIGURES}
            self.trials[event["trial"]].executions[event["execution"]] = row
            return None
        if event["event"] == "give":
            trial = self.trials[event["trial"]]
            trial.worker, trial.seen = event["worker"], time.monotonic()
            return None
        return self._ended(event)

    def _replay(self, event):
        """Replays one event of an earlier process; the oracle is asked again and must give the same answer."""
        if event["event"] == "ask":
            self._oracle.recalled = event["values"] or None
            answer = self._oracle.create_trial(f"ask {self._asked}")
            self._oracle.recalled = None
            if (answer.status, answer.hyperparameters.values) != (event["status"], event["values"]):
                raise BadInput(
                    f"cannot resume {self._journal.path.parent}: the tuner now answers {answer.hyperparameters.values} "
                    f"where it answered {event['values']}; resume with the version of then, or name another --out"
                )
        self._apply(event)

    # === keras-tuner's forms ===

    def _answer(self, trial):
        values = trial.values
        if trial.until is not None or trial.after is not None:
            values = values | {"tuner/epochs": trial.until or 0, "tuner/trial_id": trial.after or ""}
        return Answer(self._space_of(values), trial.id, trial.status)

    def _space_of(self, values):
        space = keras_tuner.HyperParameters()
        space.values = dict(values)
        return space
