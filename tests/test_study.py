"""A study with figures that cost nothing: what is asked, told, remembered, given up."""

import importlib.util
import math

import keras_tuner
import optuna
import pytest

from tuning import oracles, study
from tuning.__main__ import main
from tuning.journal import Journal
from tuning.request import OPTUNA, TUNERS, Request, check_tuner
from tuning.study import CONTROL, Study
from zoo.cli import run
from zoo.errors import BadInput

TUNERS = [tuner for tuner in TUNERS if all(map(importlib.util.find_spec, OPTUNA.get(tuner, ())))]  # gp needs torch
TUNE = ["conv=0:0.3:0.1:dropout/spatial", "hidden=0:0.8:0.1"]


def begun(folder, tuner="random", limit=12, seed=0, tune=TUNE, executions=1):
    request = Request.make(tune=tune, tuner=tuner, seed=seed, model="cnn", epochs=9)
    oracle = oracles.make(tuner, request.space, seed, 9)
    folder.mkdir(exist_ok=True)
    return Study(oracle, request.space, Journal(folder / "journal.jsonl"), executions, limit)


def error(values):
    """A valley with its floor at conv 0.1, hidden 0.5: what a search should find."""
    return 5 + 40 * (values["rate_conv"] - 0.1) ** 2 + 10 * (values["rate_hidden"] - 0.5) ** 2


def figures(val_error):
    return dict.fromkeys(study.FIGURES, 1.0) | {"val_error": val_error}


def work(actual, times=math.inf, worker="w", score=error):
    """Take and finish up to `times` trials; returns the values in the order in which they came."""
    taken = []
    while len(taken) < times and (trial := actual.create_trial(worker)).status == "RUNNING":
        values = dict(trial.hyperparameters.values)
        taken.append((trial.trial_id, values))
        finish(actual, trial, score(values))
    return taken


def finish(actual, trial, val_error, status="COMPLETED", message=None):
    if status == "COMPLETED":
        actual.update_trial(trial.trial_id, figures(val_error))
    trial.status, trial.message = status, message
    actual.end_trial(trial)


@pytest.mark.parametrize("tuner", TUNERS)
def test_each_tuner_has_the_oracle_of_its_name(tmp_path, tuner):
    oracle = begun(tmp_path, tuner)._oracle
    kinds = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "grid": keras_tuner.oracles.GridSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        "hyperband": keras_tuner.oracles.HyperbandOracle,
        "optuna:tpe": optuna.samplers.TPESampler,
        "optuna:gp": optuna.samplers.GPSampler,
        "optuna:cmaes": optuna.samplers.CmaEsSampler,
    }
    assert isinstance(oracle._study.sampler if ":" in tuner else oracle, kinds[tuner])


@pytest.mark.parametrize("tuner", TUNERS)
@pytest.mark.parametrize("seed", [0, 7])
def test_one_seed_gives_one_sequence_of_trials(tmp_path, tuner, seed):
    first = work(begun(tmp_path / "a", tuner, seed=seed))
    assert first == work(begun(tmp_path / "b", tuner, seed=seed))
    assert first[0] == (CONTROL, {"rate_conv": 0.0, "rate_hidden": 0.0, "kind_conv": "dropout"})


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband", "optuna:tpe", "optuna:cmaes"])
def test_another_seed_gives_another_sequence(tmp_path, tuner):
    assert work(begun(tmp_path / "a", tuner)) != work(begun(tmp_path / "b", tuner, seed=1))


@pytest.mark.parametrize("tuner", TUNERS)
@pytest.mark.parametrize("ended", [0, 1, 4, 11])
def test_a_study_from_its_journal_goes_on_as_if_it_had_never_stopped(tmp_path, tuner, ended):
    straight = work(begun(tmp_path / "a", tuner))
    first = begun(tmp_path / "b", tuner)
    before = work(first, ended)
    lost = first.create_trial("w")  # taken, and never finished
    again = begun(tmp_path / "b", tuner)
    again.release()
    after = work(again, worker="another")
    assert before + after == straight
    assert lost.status == "STOPPED" or after[0][0] == lost.trial_id


@pytest.mark.parametrize("tuner", TUNERS)
def test_no_combination_is_trained_twice_and_all_of_a_small_space_are(tmp_path, tuner):
    tune = ["conv=0:0.2:0.1", "hidden=0/0.5"]
    actual = begun(tmp_path, tuner, limit=6 if tuner != "hyperband" else 10**9, tune=tune)
    keys = [trial.key for trial in actual.trials.values()] if work(actual) else []
    assert len(keys) == len(set(keys))
    assert {key for key, until in keys if until is None} <= {key for key, _ in keys}
    if tuner != "hyperband":
        assert len(keys) == 6


@pytest.mark.parametrize("tuner", TUNERS)
def test_the_best_found_is_not_above_the_median(tmp_path, tuner):
    actual = begun(tmp_path, tuner, limit=20)
    work(actual)
    scores = sorted(trial.score[0] for trial in actual.completed())
    assert scores[0] < scores[len(scores) // 2]
    assert actual.completed()[0].score[0] == scores[0]


@pytest.mark.parametrize("tuner", TUNERS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_a_failure_and_never_a_score(tmp_path, tuner, wrong):
    actual = begun(tmp_path, tuner)
    trials = [trial for trial, _ in work(actual, 2, score=lambda values: wrong)]
    work(actual)
    assert [actual.trials[trial].status for trial in trials] == ["FAILED", "FAILED"]
    assert "val_error became" in actual.trials[trials[0]].message
    assert all(math.isfinite(trial.score[0]) for trial in actual.completed())
    scores = [trial.score for trial in actual._oracle.trials.values() if trial.status == "COMPLETED"]
    assert scores
    assert all(math.isfinite(score) for score in scores)


def test_a_tuner_whose_packages_are_missing_is_refused_by_their_names(monkeypatch):
    assert Request.make(tune=TUNE, tuner="optuna", model="cnn").tuner == "optuna:tpe"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install optuna cmaes"):
        check_tuner("optuna:cmaes")
    check_tuner("random")


def test_gp_without_torch_ends_with_one_message_that_says_what_to_install(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        run(lambda: main(["search", "--tuner", "optuna:gp"]))
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert "optuna:gp, which needs torch; pip install torch" in printed.err
    assert (printed.err.count("\n"), printed.out, list(tmp_path.iterdir())) == (1, "", [])


def test_three_failures_of_one_cause_end_the_search_and_resuming_tries_the_others(tmp_path):
    actual = begun(tmp_path)
    for step in (16, 32):
        finish(actual, actual.create_trial("w"), 0, "FAILED", f"the loss became nan in step {step}")
    finish(actual, actual.create_trial("w"), 0, "FAILED", "out of memory")
    assert actual.create_trial("w").status == "RUNNING"
    finish(actual, actual.create_trial("w"), 0, "FAILED", "the loss became inf in step 3")
    assert actual.create_trial("w").status == "STOPPED"
    assert actual.cause == "the loss became inf in step 3"
    again = begun(tmp_path)
    assert again.cause is None
    assert len(work(again)) == 8


def test_the_mean_over_executions_counts_and_a_missing_one_is_a_failure(tmp_path):
    actual = begun(tmp_path, executions=2)
    trial = actual.create_trial("w")
    for execution, val_error in enumerate((2.0, 4.0)):
        actual.update_trial(trial.trial_id, figures(val_error), step=execution)
        actual.update_trial(trial.trial_id, figures(99.0), step=execution)  # a report that came twice
    trial.status = "COMPLETED"
    actual.end_trial(trial)
    assert actual.trials[CONTROL].score[0] == 3
    trial = actual.create_trial("w")
    finish(actual, trial, 1.0)
    assert actual.trials[trial.trial_id].status == "FAILED"


def test_a_worker_that_comes_back_gets_its_trial_and_one_that_is_silent_loses_it(tmp_path, monkeypatch):
    actual = begun(tmp_path)
    first, second = actual.create_trial("a"), actual.create_trial("b")
    assert first.trial_id != second.trial_id
    assert actual.create_trial("a").trial_id == first.trial_id
    monkeypatch.setattr(study, "LEASE_SECONDS", -1.0)
    assert actual.create_trial("c").trial_id == first.trial_id


def test_a_chief_that_was_restarted_leaves_trials_to_their_workers(tmp_path):
    first = begun(tmp_path)
    a, b = first.create_trial("a"), first.create_trial("b")
    again = begun(tmp_path)
    again.hold()
    assert again.create_trial("c").trial_id not in (a.trial_id, b.trial_id)
    assert again.create_trial("b").trial_id == b.trial_id
    finish(again, a, 2.0)
    assert again.trials[a.trial_id].status == "COMPLETED"


def test_a_trial_that_kills_its_process_again_and_again_has_failed(tmp_path):
    actual = begun(tmp_path)
    ids = [actual.create_trial("a").trial_id for _ in range(study.ATTEMPTS + 1)]
    assert ids[:-1] == [CONTROL] * study.ATTEMPTS
    assert actual.trials[CONTROL].status == "FAILED"
    assert "was killed" in actual.trials[CONTROL].message


def test_an_event_that_was_cut_off_by_a_kill_has_not_happened(tmp_path):
    straight = work(begun(tmp_path / "a"))
    work(begun(tmp_path / "b"), 5)
    path = tmp_path / "b" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    after = work(begun(tmp_path / "b"))
    assert after == straight[-len(after) :]
    assert len(after) == len(straight) - 4


def test_a_journal_of_other_answers_is_refused(tmp_path):
    work(begun(tmp_path), 5)
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text().replace('"rate_hidden": 0.', '"rate_hidden": 0.9', 1))
    with pytest.raises(BadInput, match="the tuner now answers"):
        begun(tmp_path)


def test_the_brackets_of_hyperband_are_those_of_the_paper():
    """Li et al. 2018, table 1, for R = 81 and a factor of 3; keras-tuner rounds the sizes of later brackets up."""
    brackets = oracles.rounds(81)
    assert brackets[0] == [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]
    assert [bracket[0][1] for bracket in brackets] == [1, 3, 9, 27, 81]
    assert all(bracket[-1][1] == 81 for bracket in brackets)
    assert [bracket[0][0] for bracket in brackets] == [81, 34, 15, 8, 5]
    assert oracles.rounds(1) == [[(1, 1)]]


def test_workers_that_waited_for_others_go_on_when_those_have_finished(tmp_path):
    actual, taken = begun(tmp_path, "hyperband", limit=10**9), []
    while (trial := actual.create_trial(f"w{len(taken)}")).status == "RUNNING":
        taken.append(trial)
    assert trial.status == "IDLE"
    for trial in taken:
        finish(actual, trial, error(trial.hyperparameters.values))
    assert actual.create_trial("w0").status == "RUNNING"


def test_hyperband_goes_on_with_the_better_half(tmp_path):
    actual = begun(tmp_path, "hyperband", limit=10**9)
    work(actual)
    continued = [trial for trial in actual.trials.values() if trial.after]
    assert continued
    for trial in continued:
        before = actual.trials[trial.after]
        assert before.values == trial.values
        assert before.until < (trial.until or 9)
