"""Searches as users run them: real ones, small, on digits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainers
import tuning
from trainers.parallel.jobs import Outcome, attempt
from tuning import worker
from tuning.__main__ import main
from tuning.request import Request
from tuning.retrain import retrain, verdict
from tuning.session import search
from zoo.errors import BadInput, RunFailed
from zoo.reading import read_csv

ROOT = Path(__file__).parent.parent
SMALL = {"settings": {"hidden": "16"}, "train_size": 200, "epochs": 2, "threads": 1}
GRID = {"tune": ["hidden=0:0.8:0.4"], "tuner": "grid", **SMALL}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A grid of three rates, two executions each, the winner retrained."""
    out = tmp_path_factory.mktemp("search") / "out"
    return out, tuning.search(out=out, executions=2, quiet=True, **GRID)


def column(out, name):
    return [row[name] for row in read_csv(out / "results.csv")]


def test_a_grid_runs_every_combination_once_and_leaves_the_promised_files(searched):
    out, actual = searched
    assert {"results.csv", "rate.png", "best.json", "summary.json", "journal.jsonl"} <= {p.name for p in out.iterdir()}
    promised = ["trial", "execution", "seed", "rate_hidden", "val_error_best", "val_error_last", "status"]
    rows = read_csv(out / "results.csv")
    assert list(rows[0])[: len(promised)] == promised
    assert [(row["rate_hidden"], row["execution"]) for row in rows] == [(r, e) for r in (0, 0.4, 0.8) for e in (0, 1)]
    assert {row["seed"] for row in rows} == {1000, 1001}
    assert (actual["trials"], actual["combinations"]) == (3, 3)
    shown = {path.parent.name for path in out.glob("logs/**/*tfevents*")}
    assert shown == {"logs", *(path.name for path in (out / "trials").iterdir())}


def test_a_tuned_recipe_field_reaches_the_run_and_its_retraining(tmp_path):
    out = tmp_path / "out"
    tune = ["hidden=0/0.4", "weight_decay=0.01/0.3", "label_smoothing=0.1/0.2"]
    options = {**SMALL, "train_size": 60, "epochs": 1, "tuner": "grid", "tune": tune, "max_trials": 4}
    tuning.search(out=out, retrain=2, quiet=True, **options)
    best = json.loads((out / "best.json").read_text())["recipe"]
    seen = set()
    for path in out.rglob("config.json"):
        if "trials" in path.parts:
            recipe = json.loads(path.read_text())["recipe"]
            seen.add((recipe["weight_decay"], recipe["label_smoothing"]))
        elif path.parent.parent != out:
            recipe = json.loads(path.read_text())["recipe"]
            assert {key: recipe[key] for key in best} == best, path
    rows = read_csv(out / "results.csv")
    assert {(row["weight_decay"], row["label_smoothing"]) for row in rows} == seen
    assert len(seen) > 1


def test_the_figures_are_those_of_the_runs(searched):
    out, actual = searched
    for row in read_csv(out / "results.csv"):
        trial = row["trial"] if row["trial"] == "control" else f"{row['trial']:04d}"
        history = read_csv(out / "trials" / trial / f"execution-{row['execution']}" / "history.csv")
        assert row["val_error_last"] == pytest.approx(history[-1]["val_error"], rel=1e-6)
        assert row["val_error_best"] == pytest.approx(min(r["val_error"] for r in history), rel=1e-6)
    means = {}
    for row in read_csv(out / "results.csv"):
        means.setdefault(row["rate_hidden"], []).append(row["val_error"])
    assert actual["winner"]["val_error"] == pytest.approx(min(np.mean(v) for v in means.values()))
    assert actual["winner"]["val_error"] <= np.median([np.mean(v) for v in means.values()])


def test_the_winner_trains_and_exports_as_it_is(searched, tmp_path):
    from zoo.artefacts.export import export

    out, actual = searched
    result = trainers.train(placement=str(out / "best.json"), out=tmp_path / "run", quiet=True, **SMALL)
    config = json.loads((Path(result["folder"]) / "config.json").read_text())
    assert config["placement"] == json.loads((out / "best.json").read_text())
    assert (export(actual["winner"]["run"], out=tmp_path, formats="keras", name="winner") / "model.keras").exists()


def test_the_picture_has_a_size_that_people_can_read(searched):
    with Image.open(searched[0] / "rate.png") as picture:
        assert picture.width > 800
        assert len(picture.convert("RGB").getcolors(10**6)) > 10


def test_a_finished_search_says_so_and_can_be_retrained(searched, capsys):
    out, before = searched
    (out / "best.json").unlink()
    runs = {p: p.stat().st_mtime_ns for p in out.rglob("model.keras")}
    actual = search(out=out, resume=True, retrain=2, workers=1)
    assert "the search is finished already" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in out.glob("trials/**/model.keras")} == runs
    assert actual["winner"] == before["winner"]
    other = "best_rate" if actual["winner"]["trial"] == "control" else "winner"
    assert {row["arm"] for row in read_csv(out / "retrain.csv")} == {"none", other}
    assert "dropout" in actual["retrain"]["verdict"]


def test_a_winner_is_compared_with_none_on_the_test_part_paired_by_seed(tmp_path):
    request = Request.make(**{k: v for k, v in GRID.items() if k != "threads"})
    winner = {"trial": "0001", "values": {"rate_hidden": 0.4}}
    control = {"trial": "control", "values": {"rate_hidden": 0}}
    actual = retrain(tmp_path, request.space, request.base, winner, control, winner, 2, workers=1, quiet=True)
    rows = read_csv(tmp_path / "retrain.csv")
    assert [(row["arm"], row["seed"]) for row in rows] == [("none", 0), ("winner", 0), ("none", 1), ("winner", 1)]
    assert {row["placement"] for row in rows} == {"", "hidden=0.4"}
    errors = {(row["arm"], row["seed"]): row["test_error"] for row in rows}
    differences = [errors["winner", seed] - errors["none", seed] for seed in (0, 1)]
    assert actual["pairs"][0]["difference"] == pytest.approx(np.mean(differences), abs=1e-4)
    assert "winner" in actual["verdict"]
    # Where the control has won, the best that drops something is its rival.
    actual = retrain(
        tmp_path / "again", request.space, request.base, control, control, winner, 2, workers=1, quiet=True
    )
    assert actual["pairs"][0]["b"] == "best_rate"
    assert actual["verdict"].endswith("no rate was better than no dropout")
    actual = retrain(tmp_path, request.space, request.base, control, control, None, 2)
    assert actual["verdict"].startswith("leave dropout out here")


# === The control and the recipe ===


RECIPES = {**GRID, "tune": ["hidden=0/0.4", "learning_rate=0.001/0.01"], "epochs": 3}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A search of a rate and a learning rate, whose winner drops something at the second learning rate."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    errors = {(0.0, 0.001): 9.0, (0.0, 0.01): 6.0, (0.4, 0.001): 8.0, (0.4, 0.01): 5.0}

    def attempted(job, *arguments):
        outcome = attempt(job, *arguments)
        rate = job.plan["placement"]["sites"]["hidden"]
        rate = rate["rate"] if isinstance(rate, dict) else rate
        error = errors[rate, job.plan["recipe"]["learning_rate"]]
        return Outcome(job, outcome.metrics | {"val_error": error})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "attempt", attempted)
        return out, search(out=out, quiet=True, **RECIPES)


def test_the_control_is_the_best_trial_without_dropout_under_any_recipe(tuned):
    out, result = tuned
    assert result["winner"]["values"] == {"rate_hidden": 0.4, "learning_rate": 0.01}
    assert result["control"]["values"] == {"rate_hidden": 0.0, "learning_rate": 0.01}
    assert result["control"]["trial"] != "control"
    assert json.loads((out / "summary.json").read_text())["control"] == result["control"]
    assert column(out, "trial")[0] == "control"  # the first trial stays the untuned control
    assert "6.00 %" in result.headline


def test_the_winner_keeps_its_recipe(tuned):
    best = json.loads((tuned[0] / "best.json").read_text())
    assert best == {"scaling": "inverted", "sites": {"hidden": 0.4}, "recipe": {"learning_rate": 0.01}}


def test_winner_and_control_are_retrained_each_with_its_own_recipe(tuned):
    out, result = tuned
    request = Request.from_json(json.loads((out / "search.json").read_text()))
    slow = {"trial": "0009", "values": {"rate_hidden": 0.0, "learning_rate": 0.001}}
    actual = retrain(
        out, request.space, request.base, result["winner"], slow, result["winner"], 2, workers=1, quiet=True
    )
    plans = json.loads(next(out.glob("retrain-*/compare.json")).read_text())["plans"]
    assert {name: plan["recipe"]["learning_rate"] for name, plan in plans.items()} == {
        "mlp/none": 0.001,
        "mlp/winner": 0.01,
    }
    assert plans["mlp/none"]["placement"]["sites"] == {}
    assert actual["verdict"].endswith("each arm has the recipe of its own best trial")


def test_a_width_that_was_tuned_is_kept_too(tmp_path):
    options = {**GRID, "tune": ["hidden=0/0.4", "width=0.5/2"], "epochs": 1}
    result = search(out=tmp_path / "out", quiet=True, **options)
    best = json.loads((tmp_path / "out" / "best.json").read_text())
    assert best["settings"] == {"hidden": [int(16 * result["winner"]["values"]["width"])]}


# === The result ===


def test_a_result_has_what_a_notebook_needs(searched):
    out, result = searched
    assert isinstance(result, tuning.SearchResult)
    assert result.folder == out
    assert "\n" not in repr(result)
    assert result.model.output_shape == (None, 10)
    assert result.model is result.model
    titles = {ax.get_title(loc="left") for ax in result.figure().axes}
    assert "hidden" in titles
    assert json.loads(result.to_json())["trials"] == 3


def test_the_tables_of_a_result_are_data_frames(searched):
    result = searched[1]
    assert list(result.table()["rate_hidden"]) == [0, 0, 0.4, 0.4, 0.8, 0.8]
    assert list(result.history["epoch"]) == [1, 2]
    assert "<table" in result._repr_html_()


def test_every_option_of_the_command_is_an_argument_with_a_type():
    import argparse
    import inspect

    from tuning.__main__ import _add_search_options

    parser = argparse.ArgumentParser()
    _add_search_options(parser)
    options = {action.dest for action in parser._actions} - {"help", "json"}
    parameters = inspect.signature(tuning.search).parameters
    assert options | {"settings", "quiet", "chief", "token_file"} == set(parameters)
    assert all(parameter.annotation is not parameter.empty for parameter in parameters.values())


def test_set_and_settings_are_one_option(tmp_path):
    with pytest.raises(BadInput, match="set"):
        search(set={"hidden": 16}, settings={"hidden": 16}, out=tmp_path / "out")
    result = search(set="hidden=16", tune="hidden=0/0.5", epochs=1, out=tmp_path / "out", quiet=True)
    assert json.loads((tmp_path / "out" / "search.json").read_text())["plan"]["settings"] == {"hidden": [16]}
    assert result["trials"] == 2


def test_ctrl_c_says_which_command_resumes(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "attempt", interrupted)
    with pytest.raises(KeyboardInterrupt) as interruption:
        search(out=tmp_path / "out", quiet=True, **GRID)
    command = f"python -m tuning search --out {tmp_path / 'out'} --resume --threads 1"
    assert str(interruption.value).splitlines()[-1].strip() == command
    monkeypatch.undo()
    assert main([*command.split()[3:], "--json"]) is None
    assert json.loads(capsys.readouterr().out)["trials"] == 3


@pytest.mark.parametrize(
    ("pair", "begins"),
    [
        ({"difference": -0.5, "low": -0.9, "high": -0.1}, "keep dropout here:"),
        ({"difference": 0.5, "low": 0.1, "high": 0.9}, "leave dropout out here:"),
        ({"difference": 0.1, "low": -0.1, "high": 0.3}, "leave dropout out here, or use more seeds:"),
        (
            {
                "difference": 0.1,
                "low": -0.1,
                "high": 0.3,
                "test_loss": {"difference": -1, "low": -2, "high": -0.5, "n": 9},
            },
            "keep dropout here for its loss, not for its error:",
        ),
    ],
)
def test_the_verdict_claims_no_more_than_the_interval(pair, begins):
    assert verdict({"a": "none", "b": "winner", "n": 9, **pair}).startswith(begins)


# === Failing ===


def attempts(monkeypatch, wrong):
    """Let the trials go wrong in a way of their own; those that `wrong` does not name are run."""
    seen = []

    def attempted(job, *arguments):
        seen.append(job.arm)
        outcome = attempt(job, *arguments)
        change = wrong.get(len(set(seen)) - 1)
        return outcome if change is None else Outcome(job, **change(outcome.metrics))

    monkeypatch.setattr(worker, "attempt", attempted)


def test_trials_without_a_finite_figure_fail_and_the_search_goes_on(tmp_path, monkeypatch):
    nan, inf = ({"metrics": {"val_error": value}} for value in (float("nan"), float("inf")))
    attempts(monkeypatch, {0: lambda m: {"metrics": m | nan["metrics"]}, 1: lambda m: {"metrics": m | inf["metrics"]}})
    actual = search(out=tmp_path / "out", quiet=True, **GRID)
    assert column(tmp_path / "out", "status") == ["failed", "failed", "completed"]
    assert [failure["message"] for failure in actual["failed"]] == ["val_error became nan", "val_error became inf"]
    assert actual["winner"]["values"] == {"rate_hidden": 0.8}
    assert actual["control"] is None


def test_three_failures_of_one_cause_stop_the_search_and_what_was_found_is_kept(tmp_path, monkeypatch):
    attempts(monkeypatch, {i: lambda m: {"message": "out of memory in step 16"} for i in (1, 2, 3)})
    options = {**GRID, "tune": ["hidden=0:0.8:0.2"]}
    with pytest.raises(RunFailed, match="same cause: out of memory in step 16"):
        search(out=tmp_path / "out", quiet=True, **options)
    assert column(tmp_path / "out", "status") == ["completed", "failed", "failed", "failed"]
    monkeypatch.undo()
    actual = search(out=tmp_path / "out", resume=True, quiet=True)
    assert (actual["trials"], len(actual["failed"])) == (5, 3)


def test_a_run_that_diverges_is_a_failed_trial(tmp_path):
    tune = ["hidden=0/0.5", "learning_rate=0.001/1e30"]
    actual = search(out=tmp_path / "out", quiet=True, **{**GRID, "tune": tune, "optimizer": "sgd"})
    assert 1 <= len(actual["failed"]) <= 2
    assert all("loss became" in failure["message"] for failure in actual["failed"])
    assert actual["winner"]["values"]["learning_rate"] == 0.001


# === Resuming ===


def start(out, *arguments):
    command = [sys.executable, "-m", "tuning", "search", "--out", str(out), "--resume", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def wait_for(happened, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.005)


def test_a_killed_search_goes_on_and_every_combination_is_run_once(searched, tmp_path):
    out = tmp_path / "out"
    arguments = ["--tune", "hidden=0:0.8:0.4", "--tuner", "grid", "--executions", "2", "--set", "hidden=16"]
    arguments += ["--train-size", "200", "--epochs", "2", "--threads", "1"]
    for trial, execution in (("control", 1), ("0002", 0)):
        process = start(out, *arguments)
        wait_for((out / "trials" / trial / f"execution-{execution}" / "config.json").exists, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    actual = search(out=out, resume=True, quiet=True, threads=1)
    rows, straight = read_csv(out / "results.csv"), read_csv(searched[0] / "results.csv")
    assert [(r["trial"], r["execution"], r["seed"]) for r in rows] == [
        (r["trial"], r["execution"], r["seed"]) for r in straight
    ]
    assert actual["trials"] == 3


def test_another_search_in_the_same_folder_is_refused_with_what_differs(searched):
    out, _ = searched
    for options, difference in [
        ({"tune": ["hidden=0:0.6:0.3"]}, "space.rates.hidden"),
        ({"epochs": 3}, "plan.recipe.epochs: 3, not 2"),
        ({"train_size": 300}, "plan.data.train_size: 300, not 200"),
        ({"executions": 3}, "executions: 3, not 2"),
        ({"tuner": "random"}, "tuner: random, not grid"),
        ({"seed": 5}, "seed: 5, not 0"),
    ]:
        with pytest.raises(BadInput, match=difference):
            search(out=out, resume=True, quiet=True, **options)
    with pytest.raises(BadInput, match="not empty"):
        search(out=out, quiet=True, **GRID)


def test_a_search_of_another_version_is_refused(searched, tmp_path):
    request = json.loads((searched[0] / "search.json").read_text())
    request["versions"]["keras"] = "3.0.0"
    (tmp_path / "search.json").write_text(json.dumps(request))
    with pytest.raises(BadInput, match=r"versions.keras: .*, not 3\.0\.0"):
        search(out=tmp_path, resume=True, quiet=True)


def test_more_trials_may_be_asked_for_and_none_beyond_the_combinations(tmp_path):
    options = {"tune": ["hidden=0:0.6:0.2"], "tuner": "random", **SMALL}
    assert search(out=tmp_path / "out", max_trials=2, quiet=True, **options)["trials"] == 2
    assert search(out=tmp_path / "out", max_trials=50, resume=True, quiet=True)["trials"] == 4
    assert sorted(column(tmp_path / "out", "rate_hidden")) == [0, 0.2, 0.4, 0.6]


def test_hyperband_goes_on_with_the_runs_that_it_paused(tmp_path):
    options = {**SMALL, "tune": ["hidden=0:0.8:0.1"], "epochs": 4}
    actual = search(out=tmp_path / "out", tuner="hyperband", max_trials=9, quiet=True, **options)
    events = [json.loads(line) for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines()]
    after = {e["trial"]: e["values"]["tuner/trial_id"] for e in events if e.get("values", {}).get("tuner/trial_id")}
    assert after
    trial, before = next(iter(after.items()))
    rows = [read_csv(tmp_path / "out" / "trials" / t / "execution-0" / "history.csv") for t in (before, trial)]
    assert rows[1][: len(rows[0])] == rows[0]
    assert len(rows[1]) > len(rows[0])
    assert actual["winner"]["trial"] in {e["trial"] for e in events if e["event"] == "end"}


# === The command ===


def test_memory_does_not_grow_with_the_trials(tmp_path):
    child = (
        "import resource, sys, tuning as s, tuning.study as t\n"
        "sizes, end = [], t.Study._note\n"
        "def note(self, event):\n"
        "    sizes.extend([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss] * (event['event'] == 'end'))\n"
        "    return end(self, event)\n"
        "t.Study._note = note\n"
        f"s.search(tune=['hidden=0:0.95:0.05'], tuner='grid', out=sys.argv[1], quiet=True, **{SMALL!r})\n"
        "print(len(sizes), sizes[19] / sizes[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    trials, ratio = done.stdout.split()
    assert (trials, float(ratio) < 1.2) == ("20", True), done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "--tune", "conv=0:0.5:0.1"], "site must be one of input, hidden for mlp"),
        (["search", "--tuner", "annealing"], "must be one of random, grid, bayesian, hyperband"),
        (["search", "--resume"], "--out"),
        (["search", "--dataset", "no_such_set"], "no_such_set"),
        (["cluster", "--chief", "here"], "HOST:PORT"),
        (["cluster", "--worker", "127.0.0.1:8470", "--tuner", "grid"], "--tuner .* got grid"),
        (["cluster", "--chief", "127.0.0.1:0", "--workers", "2"], "--workers .* got 2"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=message):
        main(arguments)
    assert not list(tmp_path.iterdir())
