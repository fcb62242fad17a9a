"""A search under way: what was asked of the oracle, who works on it, and what came back.

The oracle proposes combinations; the study gives each different one out once, as a trial,
and tells the oracle what came of it. It answers the calls of keras-tuner's chief service
(`create_trial`, `update_trial`, `end_trial`, `get_space`), so that a worker in this process
and one on another machine are served alike. Every event goes into a journal first, and the
same events, replayed, bring a study back to where it was.
"""

import math
import threading
import time

import keras_tuner
from keras_tuner.engine.trial import Trial as Answer

from tuning.trial import CONTROL, FIGURES, Trial, rounded
from zoo.errors import BadInput

ATTEMPTS = 3  # how often a trial is begun before it counts as failed
SAME_FAILURES = 3  # failures of one cause that end a search
LEASE_SECONDS = 90.0  # how long a worker may be silent before its trial is given to another


class Study:
    """The trials of one search. `limit` bounds their number, the control counted.

    `on_end` is called with each trial that has ended. Calls from several threads are
    taken one at a time.
    """

    def __init__(self, oracle, space, journal, executions, limit, about=None, on_end=lambda trial: None):
        self.trials, self.cause = {}, None
        self._oracle, self._space, self._journal = oracle, space, journal
        self._executions, self._limit, self._about, self._on_end = executions, limit, about, on_end
        self._by_key, self._by_answer, self._failures = {}, {}, {}
        self._asked, self._waiting, self._over = 0, False, False
        self._lock = threading.RLock()
        # The first trial is the control: without it no rate can be said to help.
        values = space.control()
        self._add(Trial(CONTROL, values, (space.key(values), None)))
        for event in list(journal.events):
            self._replay(event)
        self._failures, self.cause = {}, None  # whoever resumes has seen why it stopped

    # === What keras-tuner's service asks ===

    def create_trial(self, worker):
        """The next trial for `worker`; of status IDLE when there is none yet, STOPPED when there will be none."""
        with self._lock:
            self._expire()
            for trial in self._running():
                if trial.worker == worker:  # it was killed, and has come back
                    return self._give(trial, worker)
            for trial in self._running():
                if trial.worker is None:
                    return self._give(trial, worker)
            status = self._ask()
            return self._give(status, worker) if isinstance(status, Trial) else Answer(self._space_of({}), "", status)

    def update_trial(self, trial_id, metrics, step=0):
        """A sign of life from the trial's worker, and the figures of execution `step` if there are any."""
        with self._lock:
            trial = self.trials[trial_id]
            trial.seen = time.monotonic()
            if trial.status == "RUNNING" and set(FIGURES) <= set(metrics) and step not in trial.executions:
                row = {name: rounded(metrics[name]) for name in FIGURES}
                wrong = next((name for name in FIGURES if not math.isfinite(row[name])), None)
                if wrong:
                    self._end(trial, "FAILED", f"{wrong} became {row[wrong]}")
                else:
                    self._note({"event": "execution", "trial": trial_id, "execution": int(step), **row})
            return self._answer(trial)

    def end_trial(self, answer):
        """The end of a trial: COMPLETED, or FAILED with `message` among its values."""
        with self._lock:
            trial = self.trials[answer.trial_id]
            if trial.status != "RUNNING":
                return  # another worker was faster
            message = answer.hyperparameters.values.get("message", "")
            self._end(trial, answer.status, answer.message or message)

    def get_space(self):
        """The hyperparameters, and as `about` what a worker has to know of the search, in JSON."""
        space = self._space_of({})
        space.Fixed("about", self._about or "")
        return space

    def get_trial(self, trial_id):
        """One trial, in keras-tuner's form."""
        return self._answer(self.trials[trial_id])

    # === For the search ===

    @property
    def over(self):
        """Whether nothing is running and nothing more will be asked, as far as is known."""
        with self._lock:
            return not self._running() and bool(self.cause or self._over or len(self.trials) >= self._limit)

    def release(self):
        """Let anybody have what was running: who worked on it has gone."""
        for trial in self._running():
            trial.worker = None

    def hold(self):
        """Leave what was running to its workers, which may be at it still, until they have been silent for long."""
        for trial in self._running():
            trial.seen = time.monotonic()

    def completed(self):
        """The finished trials that trained to the end, best first."""
        full = [trial for trial in self.trials.values() if trial.status == "COMPLETED" and trial.until is None]
        return sorted(full, key=lambda trial: trial.score)

    # === Asking ===

    def _ask(self):
        """A new trial, or the status IDLE or STOPPED."""
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
        """Take in an answer of the oracle; returns the trial that it makes, or None if it is no new one."""
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
            status, message = "FAILED", f"{len(trial.executions)} of {self._executions} executions came back"
        self._note({"event": "end", "trial": trial.id, "status": status, "message": message})
        self._on_end(trial)

    def _ended(self, event):
        trial = self.trials[event["trial"]]
        trial.status, trial.message, trial.worker = event["status"], event["message"], None
        self._waiting = False
        for asked in trial.asked:
            self._tell(trial, asked)
        if trial.status == "FAILED":
            self._failures[trial.cause] = self._failures.get(trial.cause, 0) + 1
            if self._failures[trial.cause] >= SAME_FAILURES:
                self.cause = trial.message

    def _tell(self, trial, asked):
        """Tell the oracle; a failed trial gives it no number, which it would take for a result."""
        answer = self._oracle.trials[asked]
        answer.status = trial.status
        if trial.status == "COMPLETED":
            self._oracle.update_trial(asked, {"val_error": trial.score[0]})
        self._oracle.end_trial(answer)

    # === Who works on what ===

    def _running(self):
        return [trial for trial in self.trials.values() if trial.status == "RUNNING"]

    def _give(self, trial, worker):
        trial.attempts += 1
        if trial.attempts > ATTEMPTS:
            self._end(trial, "FAILED", f"its process was killed {ATTEMPTS} times; it may need more memory")
            return self.create_trial(worker)
        self._note({"event": "give", "trial": trial.id, "worker": worker})
        return self._answer(trial)

    def _expire(self):
        for trial in self._running():
            if trial.worker is not None and time.monotonic() - trial.seen > LEASE_SECONDS:
                trial.worker = None

    # === Memory ===

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
        """One event of an earlier process; the oracle is asked again, and has to answer the same."""
        if event["event"] == "ask":
            self._oracle.recalled = event["values"] or None
            answer = self._oracle.create_trial(f"ask {self._asked}")
            self._oracle.recalled = None
            if (answer.status, answer.hyperparameters.values) != (event["status"], event["values"]):
                raise BadInput(
                    f"cannot resume {self._journal.path.parent}: the tuner now answers {answer.hyperparameters.values} "
                    f"where it answered {event['values']}; resume with the version that began it, or name another --out"
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
