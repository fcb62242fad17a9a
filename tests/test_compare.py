"""The main job: pairing, resuming, failing in part, and leaving nobody behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

import trainers
from trainers.comparison.compare import CURVES, RESULTS, TUNING_SEED, Progress, Sweep
from trainers.parallel.jobs import Job, Outcome
from trainers.parallel.processes import share
from trainers.plan import Plan
from zoo.errors import BadInput, OtherData
from zoo.reading import read_csv

ROOT = Path(__file__).parent.parent
SMALL = {"settings": {"hidden": "24"}, "train_size": 200, "epochs": 2}
ARMS = ("none", "wide=input=0.1,hidden=0.4")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A small comparison, tuned, in two worker processes."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    tune = {"learning_rate": [1e-3, 1e-7]}
    summary = trainers.compare(arms=ARMS, seeds=2, workers=2, tune=tune, out=out, quiet=True, **SMALL)
    return out, summary


def test_a_comparison_leaves_the_promised_files_and_columns(compared):
    out, summary = compared
    names = {path.name for path in out.iterdir()}
    assert {"results.csv", "curves.csv", "summary.json", "bands.png", "report.html"} <= names
    results, curves = read_csv(out / "results.csv"), read_csv(out / "curves.csv")
    assert tuple(results[0]) == RESULTS
    assert tuple(curves[0]) == CURVES
    assert {(row["arm"], row["seed"]) for row in results} == {(a, s) for a in ("none", "wide") for s in (0, 1)}
    assert {row["placement"] for row in results} == {"", "input=0.1,hidden=0.4"}
    assert len(curves) == 4 * SMALL["epochs"]
    assert json.loads((out / "summary.json").read_text())["pairs"] == summary["pairs"]
    assert (summary["pairs"][0]["a"], summary["pairs"][0]["b"]) == ("none", "wide")


def test_the_difference_is_that_of_the_runs_paired_by_seed(compared):
    out, summary = compared
    errors = {(row["arm"], row["seed"]): row["test_error"] for row in read_csv(out / "results.csv")}
    differences = [errors["wide", seed] - errors["none", seed] for seed in (0, 1)]
    assert summary["pairs"][0]["difference"] == pytest.approx(np.mean(differences), abs=1e-4)


class Copies:
    """Carries out runs by copying a finished one; `changed` changes its `config.json`, or returns why the run fails."""

    def __init__(self, folder, changed=lambda job, config: None):
        self._folder, self._changed = folder, changed

    def workers(self, jobs):
        return 1

    def carry_out(self, jobs, **options):
        for job in jobs:
            shutil.copytree(self._folder, job.folder)
            config = json.loads((Path(job.folder) / "config.json").read_text())
            message = self._changed(job, config)
            (Path(job.folder) / "config.json").write_text(json.dumps(config))
            metrics = None if message else json.loads((Path(job.folder) / "metrics.json").read_text())
            yield Outcome(job, metrics, message)


def sweep(out, crew):
    return Sweep(out, crew, {}, Progress(quiet=True))


PLANS = {("mlp", arm): Plan.make(model="mlp", placement=arm) for arm in ("none", "default")}


def test_runs_that_had_other_data_are_refused_though_they_began_together(compared, tmp_path):
    def changed(job, config):
        if job.arm == "default":
            config["data"]["fingerprint"]["test"] = "another"

    out, _ = compared
    with pytest.raises(OtherData, match="default/seed-0, which differ in fingerprint"):
        sweep(tmp_path, Copies(out / "runs/mlp/none/seed-0", changed)).compare(PLANS, range(1))
    (tmp_path / "same").mkdir()
    sweep(tmp_path / "same", Copies(out / "runs/mlp/none/seed-0")).compare(PLANS, range(2))


def test_a_candidate_that_fails_is_no_run_that_is_missing(compared, tmp_path):
    """The arm has another one; resumed, the comparison would not try it again either."""

    def changed(job, config):
        return "diverged" if job.plan["recipe"]["learning_rate"] == 0.1 else None

    out, _ = compared
    actual = sweep(tmp_path, Copies(out / "runs/mlp/none/seed-0", changed))
    chosen = actual.tuned(PLANS, {"learning_rate": [0.001, 0.1]}, 1)
    assert {plan.recipe.learning_rate for plan in chosen.values()} == {0.001}
    assert not actual.failed


def test_the_name_of_an_arm_is_no_pattern(compared, tmp_path):
    out, _ = compared
    for arm in ("a*", "ab", "x[1]"):
        shutil.copytree(out / "runs/mlp/none/seed-0", tmp_path / "runs/mlp" / arm / "seed-0")
    actual = sweep(tmp_path, None)
    assert [len(actual._metrics("mlp", arm)) for arm in ("a*", "ab", "x[1]")] == [1, 1, 1]


def test_a_run_of_a_comparison_is_the_run_that_train_makes(compared, tmp_path):
    out, _ = compared
    threads = json.loads((out / "runs/mlp/wide/seed-1/config.json").read_text())["threads"]
    child = (
        "import sys, trainers; trainers.train(out=sys.argv[1], quiet=True, seed=1, drop=['input=0.1', 'hidden=0.4'],"
    )
    child += f" threads={threads}, **{SMALL!r})"
    subprocess.run(
        [sys.executable, "-c", child, str(tmp_path / "run")], cwd=ROOT, check=True, stderr=subprocess.DEVNULL
    )
    alone, among = (
        json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", out / "runs/mlp/wide/seed-1")
    )
    assert alone["test_loss"] == among["test_loss"]


def test_the_page_has_the_confusions_of_all_runs(compared):
    out, _ = compared
    assert (out / "report.html").read_text().count("true class (row)") == 1


def test_tuning_chooses_on_validation_with_seeds_that_are_not_compared(compared):
    out, _ = compared
    rows = read_csv(out / "tuning.csv")
    assert {row["seed"] for row in rows} == {TUNING_SEED}
    assert "test_error" not in rows[0]
    config = json.loads((out / "runs/mlp/none/seed-0/config.json").read_text())
    assert config["recipe"]["learning_rate"] == 1e-3, "the other candidate does not learn at all"


def test_resume_keeps_finished_runs_and_takes_more_seeds(compared):
    out, _ = compared
    times = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/seed-[01]/metrics.json")}
    assert len(times) == 4
    tune = {"learning_rate": [1e-3, 1e-7]}
    left = next(iter(times)).parent / "checkpoint.npz"  # by a process that was killed right after the run's end
    left.write_bytes(b"")
    summary = trainers.compare(seeds=3, workers=2, out=out, resume=True, quiet=True)
    assert summary["arms"]["none"]["n"] == 3
    assert not left.exists()
    assert {path: path.stat().st_mtime_ns for path in times} == times
    with pytest.raises(BadInput, match="got other plans"):
        trainers.compare(arms=("none", "default"), seeds=3, tune=tune, out=out, resume=True, quiet=True, **SMALL)
    with pytest.raises(BadInput, match=r"got other seeds \(1, not 3 or more\)"):
        trainers.compare(arms=ARMS, seeds=1, tune=tune, out=out, resume=True, quiet=True, **SMALL)


def test_vary_split_gives_each_seed_its_own_split_which_its_arms_share(tmp_path):
    summary = trainers.compare(arms=ARMS, seeds=2, workers=1, vary="split", out=tmp_path, quiet=True, **SMALL)
    assert not summary["failed"]
    configs = {path: json.loads(path.read_text())["data"] for path in tmp_path.glob("runs/*/*/*/config.json")}
    assert len(configs) == 4
    trained = {}
    for path, data in configs.items():
        trained.setdefault(path.parent.name, set()).add(data["fingerprint"]["train"])
    assert {seed: len(hashes) for seed, hashes in trained.items()} == {"seed-0": 1, "seed-1": 1}
    assert trained["seed-0"] != trained["seed-1"]
    assert trainers.compare(out=tmp_path, resume=True, workers=1, quiet=True)["pairs"] == summary["pairs"]
    with pytest.raises(BadInput, match="got other vary"):
        trainers.compare(out=tmp_path, vary="seed", resume=True, quiet=True)
    with pytest.raises(BadInput, match="--vary must be one of seed, split"):
        trainers.compare(vary="all", quiet=True)


def test_one_failed_run_is_reported_and_the_others_go_on(compared, tmp_path):
    blocked = tmp_path / "out" / "runs" / "mlp" / "none"
    blocked.mkdir(parents=True)
    (blocked / "seed-1").write_text("a file where a folder has to be")
    request = json.loads((compared[0] / "compare.json").read_text())
    (tmp_path / "out" / "compare.json").write_text(json.dumps(request | {"seeds": 2, "tune": {}}))
    summary = trainers.compare(arms=ARMS, seeds=2, workers=2, out=tmp_path / "out", resume=True, quiet=True, **SMALL)
    assert [(f["arm"], f["seed"]) for f in summary["failed"]] == [("none", 1)]
    assert "is a file" in summary["failed"][0]["message"]
    assert (summary["arms"]["none"]["n"], summary["arms"]["wide"]["n"]) == (1, 2)
    assert "is a file" in (tmp_path / "out" / "report.html").read_text()


# === Real processes, really killed ===


def alive(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(happened, seconds=90):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.05)


def test_a_killed_worker_is_replaced_and_a_killed_parent_takes_its_children_along(tmp_path):
    out = tmp_path / "out"
    words = "compare --seeds 2 --workers 2 --set hidden=24 --train-size 200 --epochs 60 --resume --out"
    command = [sys.executable, "-m", "trainers", *words.split(), str(out)]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(out.glob("runs/*/*/*/history.csv"))) >= 2)
    family = psutil.Process(parent.pid).children(recursive=True)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(alive(process) for process in family), seconds=15)
    assert not (out / "summary.json").exists()

    again = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    before = len(list(out.glob("runs/*/*/*/metrics.json")))
    wait_for(lambda: len(list(out.glob("runs/*/*/*/metrics.json"))) > before)
    family = psutil.Process(again.pid).children(recursive=True)
    next(process for process in family if "popen_loky" in " ".join(process.cmdline())).kill()
    output, errors = again.communicate(timeout=180)
    assert again.returncode == 0, errors
    assert "default minus none" in output
    assert len(read_csv(out / "results.csv")) == 4


# === Small things ===


@pytest.mark.parametrize(
    ("workers", "jobs", "threads", "expected"),
    [(2, 10, None, (2, None)), (8, 3, None, (3, 1)), (1, 5, 3, (1, 3)), (None, 1, None, (1, None))],
)
def test_threads_are_divided_among_workers(workers, jobs, threads, expected):
    cores = len(os.sched_getaffinity(0))
    processes, each = share(workers, jobs, threads)
    assert processes == expected[0]
    assert each == (expected[1] or max(1, cores // processes))


REFUSED = [
    ({"arms": ["none", "none"]}, "name each arm once"),
    ({"arms": ["x="]}, "--arm must be NAME or .*got 'x='"),
    ({"arms": ["nonsense"]}, "got 'nonsense'"),
    ({"arms": ["x=conv=0.1"]}, "site must be one of input, hidden for mlp, got 'conv'"),
    ({"models": ["mlp", "rnn"]}, "got 'rnn'"),
    ({"tune": {"rate": [0.1]}}, "got 'rate'"),
    ({"tune": {"learning_rate": [-1.0]}}, "learning_rate must be a finite number > 0, got -1.0"),
    ({"seeds": 0}, "seeds must be an integer >= 1, got 0"),
    ({"resume": True}, "--out must be the folder of the comparison to resume"),
    ({"dataset": "no_such_set"}, "no_such_set"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_compared_is_refused_before_anything_is_begun(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=message):
        trainers.compare(**options)
    assert not list(tmp_path.iterdir())


def test_the_time_left_is_that_of_the_epochs_left_over_the_workers(tmp_path):
    jobs = [Job("mlp", "none", seed, {"recipe": {"epochs": 10}}, str(tmp_path / str(seed))) for seed in range(4)]
    progress = Progress(quiet=True)
    progress.begin("runs", jobs, 2, 0)
    assert progress._left([(jobs[0], [])]) is None
    assert progress._left([(jobs[0], [9.0])]) is None  # the first epoch also compiles
    assert progress._left([(jobs[0], [9.0, 1.0, 3.0]), (jobs[1], [9.0, 2.0])]) == 2.0 * (40 - 5) / 2
    progress.begin("runs", jobs[:1], 2, 0)
    assert progress._left([(jobs[0], [9.0, 2.0])]) == 2.0 * 8


def test_workers_follow_this_process_to_another_folder(tmp_path, monkeypatch):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        summary = trainers.compare(arms=ARMS, seeds=1, workers=2, out=name, quiet=True, **SMALL)
        assert not summary["failed"]
        assert [path.name for path in Path.cwd().iterdir()] == [name]
        assert len(list(Path(name).glob("runs/*/*/*/metrics.json"))) == len(ARMS)
