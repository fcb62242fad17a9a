"""Ctrl-C, SIGTERM and SIGHUP: in every phase of a run, a comparison and a search, and a second Ctrl-C."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import psutil
import pytest
from conftest import ROOT

import trainers.__main__
import tuning.__main__
from trainers.comparison import compare
from trainers.parallel import processes
from trainers.training.progress import Phases, RunProgress
from zoo import cli, interrupts

TRAIN = "train --set hidden=8 --epochs 3 --train-size 100 --threads 1"
COMPARE = "compare --set hidden=8 --epochs 1 --seeds 2 --train-size 100 --workers 1 --threads 1"
SEARCH = "search --tune hidden=0/0.5 --set hidden=8 --epochs 2 --train-size 100 --threads 1"
NUMBERS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
# Of a run, in their order; that without a name is the middle of an epoch.
PHASES = ("loading TensorFlow", "loading digits", "compiling", "", "evaluating", "saving", "evaluating on the test set")


def carried_out(main, words, capsys):
    """The exit code, stdout and stderr of a command line that runs in this process."""
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: main(words.split()))
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return end.value.code, out, err


def interrupted_at(monkeypatch, kind, method, name, number):
    """Sends this process a signal when `kind.method` is called with `name`, once."""
    original, sent = getattr(kind, method), []

    def called(self, given, *args):
        if given == name and not sent:
            sent.append(name)
            os.kill(os.getpid(), number)
        return original(self, given, *args)

    monkeypatch.setattr(kind, method, called)
    return sent


def result(folder):
    """What a run leaves that must not depend on an interrupt: its figures without times, and its weights."""
    metrics = json.loads((folder / "metrics.json").read_text())
    figures = {key: value for key, value in metrics.items() if "second" not in key}
    return figures, keras.models.load_model(folder / "model.keras").get_weights()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The run that no signal interrupts."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert trainers.__main__.main([*TRAIN.split(), "--out", str(folder)]) is None
    return result(folder)


@pytest.mark.parametrize(
    ("phase", "name"), [(phase, tuple(NUMBERS)[i % 3]) for i, phase in enumerate(PHASES)] + [("", "SIGTERM")]
)
def test_a_run_interrupted_in_any_phase_ends_as_one_that_was_not(tmp_path, monkeypatch, capsys, unbroken, phase, name):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        sent = interrupted_at(patch, RunProgress, "phase", phase, getattr(signal, name))
        code, _, err = carried_out(trainers.__main__.main, f"{TRAIN} --out {out}", capsys)
    assert sent
    assert code == NUMBERS[name]
    assert not (out / "metrics.json").exists()
    command = shlex.split(err.strip().splitlines()[-1])
    assert command[:4] == ["python", "-m", "trainers", "train"]
    assert ("--resume" in command) == (out / "config.json").exists()
    trainers.__main__.main(command[3:])
    figures, weights = result(out)
    assert figures == unbroken[0]
    for a, b in zip(weights, unbroken[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_search_interrupted_in_a_trial_or_in_its_picture_resumes(tmp_path, monkeypatch, capsys, name):
    out = tmp_path / "search"
    for kind, method, phase in ((RunProgress, "phase", "saving"), (Phases, "begin", "drawing the results")):
        with monkeypatch.context() as patch:
            assert not (out / "summary.json").exists()
            sent = interrupted_at(patch, kind, method, phase, getattr(signal, name))
            words = f"{SEARCH} --out {out}" + (" --resume" if out.exists() else "")
            code, _, err = carried_out(tuning.__main__.main, words, capsys)
        assert sent
        assert code == NUMBERS[name]
        (out / "summary.json").unlink(missing_ok=True)
    command = shlex.split(err.strip().splitlines()[-1])
    assert tuning.__main__.main(command[3:]) is None
    assert json.loads((out / "summary.json").read_text())["trials"] == 2


def test_a_comparison_interrupted_while_it_reports_keeps_its_runs(tmp_path, monkeypatch, capsys):
    out = tmp_path / "comparison"
    with monkeypatch.context() as patch:
        sent = interrupted_at(patch, compare.Progress, "phase", "writing the report", signal.SIGTERM)
        code, _, err = carried_out(trainers.__main__.main, f"{COMPARE} --out {out}", capsys)
    assert sent
    assert code == 143
    assert "4 of 4 runs are finished" in err
    assert trainers.__main__.main(shlex.split(err.strip().splitlines()[-1])[3:]) == 0
    assert (out / "report.html").exists()


@pytest.mark.parametrize(("name", "command"), [("SIGTERM", "trainers compare"), ("SIGHUP", "tuning search")])
def test_a_signal_to_a_sweep_ends_its_processes_too(tmp_path, name, command):
    out, options = tmp_path / "out", "--set hidden=8 --epochs 100000 --workers 2 --threads 1"
    child = subprocess.Popen(
        [sys.executable, "-m", *command.split(), *options.split(), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 120
    while len(list(out.rglob("history.csv"))) < 2:
        assert time.monotonic() < until
        assert child.poll() is None
        time.sleep(0.05)
    workers = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(getattr(signal, name))
    err = child.communicate(timeout=60)[1]
    assert child.returncode == NUMBERS[name], err
    assert len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert "--resume" in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_the_tracker_of_resources_does_not_warn_behind_the_last_message(monkeypatch):
    code = "import warnings; warnings.warn('resource_tracker: gone'); warnings.warn('something else')"
    for given in (None, "default"):
        monkeypatch.delenv("PYTHONWARNINGS", raising=False)
        if given:
            monkeypatch.setenv("PYTHONWARNINGS", given)
        with processes.quiet_tracker():
            answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "resource_tracker: gone" not in answer.stderr.replace(code, "")
        assert "UserWarning: something else" in answer.stderr
        assert os.environ.get("PYTHONWARNINGS") == given


# === The signals themselves ===

IN_NATIVE_CODE = """
import ctypes, sys
from zoo import cli, interrupts

def main():
    with interrupts.Delayed():
        print("begun", flush=True)
        for _ in range(60):
            ctypes.CDLL(None).sleep(1)

cli.run(main)
"""


@pytest.mark.parametrize(("gap", "ends"), [(0.7, True), (0.0, False)])
def test_a_second_ctrl_c_ends_the_process_even_in_native_code_and_one_that_arrives_twice_does_not(gap, ends):
    child = subprocess.Popen(
        [sys.executable, "-c", IN_NATIVE_CODE],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "begun\n"
        child.send_signal(signal.SIGINT)
        time.sleep(gap)
        child.send_signal(signal.SIGINT)
        if ends:
            assert child.wait(timeout=10) == 130
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(timeout=1)
    finally:
        child.kill()
        child.communicate()


def test_a_signal_that_the_caller_ignores_stays_ignored_and_handlers_are_restored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.handled():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_of_commands_only_ctrl_c_is_delayed():
    with interrupts.Delayed() as delayed:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGINT)
        assert delayed.pending
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_must_not_be_cut_off_is_finished_before_the_interrupt():
    done = []

    def saves():
        with interrupts.whole():
            os.kill(os.getpid(), signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        saves()
    assert done


def test_a_signal_that_a_closing_terminal_repeats_counts_once(capsys):
    def main():
        with interrupts.Delayed() as delayed:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert delayed.pending
        raise KeyboardInterrupt("resume with this")

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 129
    assert re.search("resume with this", capsys.readouterr().err)
