"""Stopping trials that are clearly worse: how often it errs, and that a search remembers and repeats it."""

import csv
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuning import oracles, service, study, worker
from tuning.__main__ import main
from tuning.journal import Journal
from tuning.request import Request
from tuning.session import search
from tuning.stopping import p_worse
from tuning.study import CONTROL, Study
from zoo.errors import BadInput

RATE = 0.05


# === The test itself ===


def simulated(rng, shifts, executions, noise, step):
    """Runs a search in which trial i is `shifts[i]` points worse; returns which trials are stopped, and after what."""
    seeds, complete, stopped = rng.normal(0, 0.5, executions), [], []
    for shift in shifts:
        errors = 5 + shift + seeds + rng.normal(0, noise(rng), executions)
        errors = np.round(errors / step) * step if step else errors
        complete.sort(key=np.mean)
        at = next((k for k in range(2, executions) if (p_worse(errors[:k], complete, executions) or 1) <= RATE), None)
        stopped.append(at)
        if at is None:
            complete.append(errors)
    return stopped


NOISES = {
    "a fine scale": (lambda rng: 0.5, 0),
    "steps of a validation part of 360": (lambda rng: 0.3, 100 / 360),
    "steps larger than the noise": (lambda rng: 0.05, 100 / 360),
    "trials of unequal noise": (lambda rng: 0.5 * np.exp(rng.normal(0, 0.7)), 0),
}


@pytest.mark.parametrize("executions", [3, 5])
@pytest.mark.parametrize("noise", NOISES)
def test_equal_trials_are_stopped_no_more_often_than_stated(noise, executions):
    """Although each is compared with the luckiest of those before it, and more than once."""
    rng, searches, trials = np.random.default_rng(3), 40, 20
    actual = [simulated(rng, [0] * trials, executions, *NOISES[noise]) for _ in range(searches)]
    count = searches * (trials - 1)
    share = sum(at is not None for stopped in actual for at in stopped) / count
    assert share <= RATE + 3 * np.sqrt(RATE * (1 - RATE) / count)


@pytest.mark.parametrize("executions", [3, 5])
def test_much_worse_trials_are_stopped_nearly_always_and_early(executions):
    rng = np.random.default_rng(4)
    actual = [simulated(rng, [0] * 4 + [5] * 8, executions, *NOISES["a fine scale"])[4:] for _ in range(20)]
    at = np.array(actual, float)
    assert np.isfinite(at).mean() > 0.95
    assert np.nanmean(at) < 2.2


def test_against_a_single_trial_it_is_the_paired_t_test():
    from scipy import stats

    best, own = [4.0, 5.1, 4.5, 4.2, 5.0], [4.9, 5.8, 5.2, 5.5]
    expected = stats.ttest_rel(own, best[:4], alternative="greater").pvalue
    assert p_worse(own, [best], 5) == pytest.approx(3 * expected)  # three tests of a trial: after 2, 3 and 4


ROWS = st.integers(3, 6).flatmap(
    lambda n: st.lists(st.lists(st.floats(0, 20), min_size=n, max_size=n), min_size=1, max_size=5)
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, own=st.lists(st.floats(0, 20), min_size=6, max_size=6), more=st.floats(0, 50))
def test_it_is_a_probability_that_falls_with_the_difference_and_ignores_what_all_trials_share(rows, own, more):
    executions = len(rows[0])
    for count in range(2, executions):
        p = p_worse(own[:count], rows, executions)
        if p is None:
            continue
        assert 0 <= p <= 1
        assert p_worse([error + more for error in own[:count]], rows, executions) <= p + 1e-9
        seeds = np.arange(executions) * 3.0
        moved = p_worse(own[:count] + seeds[:count], rows + seeds, executions)
        assert moved == pytest.approx(p, abs=1e-4)


def test_without_anything_to_measure_noise_by_nothing_is_stopped():
    assert p_worse([90.0, 90.0], [[5.0, 5.0, 5.0]], 3) is None
    assert p_worse([5.3, 5.6], [[5.0, 5.3, 5.4]], 3) is None  # both differ by 0.3
    assert p_worse([9.0], [[5.0, 5.1, 5.4]], 3) is None
    assert p_worse([9.0, 9.2], [], 3) is None
    assert p_worse([9.0, 9.2, 9.1], [[5.0, 5.1, 5.4]], 3) is None  # nothing is left to skip


# === In a search ===

TUNE = ["conv=0:0.3:0.1", "hidden=0:0.8:0.2"]
EXECUTIONS = 4


def begun(folder, tuner="random", limit=12, stop_worse=RATE):
    request = Request.make(tune=TUNE, tuner=tuner, model="cnn", epochs=9, executions=EXECUTIONS, stop_worse=stop_worse)
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "journal.jsonl")
    oracle = oracles.make(tuner, request.space, 0, 9)
    return Study(oracle, request.space, journal, EXECUTIONS, limit, stop_worse=request.stop_worse)


def error(values, execution):
    """Far worse with much dropout; the same noise for the same values and execution."""
    tenths = [round(10 * value) for _, value in sorted(values.items())]
    noise = np.random.default_rng([execution, *tenths]).normal(0, 0.2)
    return 5 + 30 * values["rate_conv"] + 10 * abs(values["rate_hidden"] - 0.4) + 0.5 * execution + noise


def figures(val_error):
    return dict.fromkeys(study.FIGURES, 1.0) | {"val_error": val_error}


def work(actual, name="w"):
    """Carries out the search as a worker does."""
    while (trial := actual.create_trial(name)).status == "RUNNING":
        for execution in range(EXECUTIONS):
            values = dict(trial.hyperparameters.values)
            answer = actual.update_trial(trial.trial_id, figures(error(values, execution)), step=execution)
            if answer.status == "STOPPED":
                break
        else:
            trial.status = "COMPLETED"
            actual.end_trial(trial)
    return actual


def ended(actual):
    return {trial.id: (trial.status, trial.message, trial.values, trial.executions) for trial in actual.trials.values()}


@pytest.mark.parametrize("tuner", ["random", "grid", "bayesian", "optuna:tpe", "optuna:cmaes"])
def test_a_stopped_trial_is_told_to_the_tuner_and_is_never_the_best(tmp_path, tuner):
    actual = work(begun(tmp_path, tuner, limit=8 if tuner == "bayesian" else 12))  # its model takes a second
    stopped = [trial for trial in actual.trials.values() if trial.status == "STOPPED"]
    assert stopped
    best = actual.completed()[0]
    for trial in stopped:
        assert 2 <= len(trial.executions) < EXECUTIONS
        assert trial not in actual.completed()
        assert "points above" in trial.message
        messages = actual._oracle.trials[trial.asked[0]]
        assert (messages.status, messages.score) == ("COMPLETED", pytest.approx(trial.mean("val_error")))
        assert trial.mean("val_error") > np.mean(best.errors[: len(trial.errors)])
    assert all(len(trial.executions) == EXECUTIONS for trial in actual.completed())


@pytest.mark.parametrize("tuner", ["random", "optuna:tpe"])
def test_a_search_cut_off_after_any_event_ends_as_one_that_was_not(tmp_path, tuner):
    straight = work(begun(tmp_path / "straight", tuner))
    lines = (tmp_path / "straight" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert sum(b'"STOPPED"' in line for line in lines) >= 2
    for cut in range(0, len(lines), 2 if tuner == "random" else 9):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:cut]))
        again = begun(folder, tuner)
        again.release()
        assert ended(work(again, "another")) == ended(straight), cut


def test_a_trial_is_compared_with_those_alone_that_were_complete_when_it_was_drawn(tmp_path):
    """So that the pace of the other workers does not decide whether it is stopped."""

    def finish(trial, val_error):
        for execution in range(EXECUTIONS):
            noise = 0.1 * (-1) ** (execution + len(trial.trial_id))
            answer = actual.update_trial(trial.trial_id, figures(val_error + noise), step=execution)
        trial.status = "COMPLETED"
        actual.end_trial(trial)
        return answer.status

    actual = begun(tmp_path)
    finish(actual.create_trial("a"), 50.0)
    slow, fast = actual.create_trial("a"), actual.create_trial("b")
    finish(fast, 5.0)
    late = actual.create_trial("b")
    assert finish(slow, 49.0) == "RUNNING"  # far worse than `fast`, which was not complete when it was drawn
    assert finish(late, 49.5) == "STOPPED"
    assert actual.trials[slow.trial_id].status == "COMPLETED"
    assert actual.completed()[0].id == fast.trial_id
    rival, stopped = actual.trials[fast.trial_id], actual.trials[late.trial_id]
    difference = np.mean(stopped.errors) - np.mean(rival.errors[: len(stopped.errors)])
    assert stopped.message.startswith(f"{difference:.2f} points above {rival.label} ")


def test_a_worker_elsewhere_hears_that_its_trial_is_stopped(tmp_path):
    actual = begun(tmp_path)
    with service.serving(actual, "127.0.0.1:0", "a token") as port:
        work(service._Client("127.0.0.1", port, "w", True, "a token"))
    alone = work(begun(tmp_path / "alone"))
    assert [(t.id, t.status) for t in actual.trials.values()] == [(t.id, t.status) for t in alone.trials.values()]
    assert "STOPPED" in {trial.status for trial in actual.trials.values()}


# === As users see it ===


def test_a_search_skips_executions_and_says_so_everywhere(tmp_path, monkeypatch, capsys):
    runs = []

    def trained(self, trial, execution, seed):
        runs.append((trial.trial_id, seed))
        rate = trial.hyperparameters.values["rate_hidden"]
        return figures(5 + 50 * rate + (0.1, -0.2, 0.15)[execution % 3] * (1 if rate else -1)), None

    monkeypatch.setattr(worker.Worker, "_run", trained)
    out = tmp_path / "out"
    result = search(out=out, tune="hidden=0/0.4/0.8", tuner="grid", executions=4, stop_worse=0.1)
    assert [trial["trial"] for trial in result["stopped"]] == ["0001", "0002"]
    assert {arm: sum(name == arm for name, _ in runs) for arm, _ in runs}["control"] == 4
    assert len(runs) < 12
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(runs)
    assert [key for key, _ in itertools.groupby(row["status"] for row in rows)] == ["completed", "stopped"]
    events = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert [event["status"] for event in events if event["event"] == "end"] == ["COMPLETED", "STOPPED", "STOPPED"]
    assert "stopped: " in capsys.readouterr().err
    legend = [text.get_text() for text in result.figure().legends[0].get_texts()]
    assert any("stopped as clearly worse" in text for text in legend)
    assert result["winner"]["trial"] == "control"
    runs.clear()
    assert main(["search", "--out", str(out), "--resume"]) is None
    assert not runs
    assert "2 of 3 trials were stopped" in capsys.readouterr().out
    with pytest.raises(BadInput, match=r"stop_worse: 0\.05, not 0\.1"):
        main(["search", "--out", str(out), "--resume", "--stop-worse"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stop-worse"], "executions must be an integer >= 3 with stop_worse, got 1"),
        (["--stop-worse", "0.1", "--executions", "2"], "got 2"),
        (["--stop-worse", "0", "--executions", "5"], r"stop_worse must be in \(0, 1\), got 0"),
        (["--stop-worse", "nan", "--executions", "5"], "stop_worse must be in"),
        (["--stop-worse", "--executions", "5", "--tuner", "hyperband"], "hyperband, which stops trials itself"),
    ],
)
def test_what_cannot_be_stopped_is_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=message):
        main(["search", *options])
    assert not list(tmp_path.iterdir())


def test_a_request_without_it_is_written_as_before():
    plain = Request.make(tune=["hidden=0/0.5"], executions=5)
    assert "stop_worse" not in plain.to_json()
    stopping = Request.make(plain, stop_worse=0.2)
    assert Request.from_json(stopping.to_json()) == stopping
    assert Request.make(stopping).stop_worse == 0.2


def test_without_it_nothing_is_stopped_and_with_it_the_control_never_is(tmp_path):
    assert {trial.status for trial in work(begun(tmp_path / "off", stop_worse=None)).trials.values()} == {"COMPLETED"}
    assert work(begun(tmp_path / "on")).trials[CONTROL].status == "COMPLETED"
