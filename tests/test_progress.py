"""What is shown while a command runs on a terminal, and what Ctrl-C leaves."""

import io
import itertools
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import keras
import numpy as np
import pytest

import trainers
from trainers.training import progress
from trainers.training.progress import RunProgress
from zoo.reading import read_csv

ROOT = Path(__file__).parent.parent
SMALL = "--set hidden=24 --train-size 200 --threads 1"


def on_a_terminal(words, cwd, interrupt_when=None):
    """Runs a command on a terminal of its own; returns its exit code, what it wrote, and when, in seconds."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(cwd)
        os.environ.update(PYTHONPATH=str(ROOT), TERM="xterm", COLUMNS="150")
        os.execv(sys.executable, [sys.executable, "-m", *words])
    output, times = b"", []
    while True:
        select.select([terminal], [], [], 120)
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the child has closed its side
            break
        if not chunk:
            break
        output, times = output + chunk, [*times, time.monotonic()]
        if interrupt_when and interrupt_when in output:
            os.write(terminal, b"\x03")
            interrupt_when = None
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output.decode(), times


def silence(words, folder, expected):
    """The longest silence of a command between its first output and its end, in seconds.

    Two attempts: the machine may be busy with something else.
    """
    silences = []
    for attempt in range(2):
        folder.joinpath(str(attempt)).mkdir()
        code, output, times = on_a_terminal(words.split(), folder / str(attempt))
        assert code == 0, output
        for text in expected:
            assert text in output, text
        silences.append(max(later - earlier for earlier, later in itertools.pairwise(times)))
        if silences[-1] < 2.0:
            break
    return min(silences), output


def last_screen(output):
    """What stays on the screen after the last line was erased."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", re.split(r"\x1b\[2K", output)[-1])


@pytest.mark.xdist_group("terminal")
def test_a_terminal_shows_every_phase_of_a_run_without_a_silence_of_two_seconds(tmp_path):
    phases = ("loading TensorFlow", "loading digits", "compiling", "epoch 40/40", " left", "saving")
    phases += ("evaluating on the test set",)
    seconds, output = silence(f"trainers train {SMALL} --epochs 40 --out run", tmp_path, phases)
    assert seconds < 2.0
    assert "test error" in last_screen(output)


@pytest.mark.xdist_group("terminal")
def test_a_terminal_shows_what_a_comparison_runs_from_the_beginning(tmp_path):
    texts = ("0/6 runs", "seed 0 (starting)", "running: ", " left", "writing the report")
    seconds, _ = silence(f"trainers compare {SMALL} --epochs 30 --seeds 3 --workers 1 --out out", tmp_path, texts)
    assert seconds < 2.0


@pytest.mark.xdist_group("terminal")
def test_a_terminal_shows_what_a_search_does_from_the_beginning(tmp_path):
    texts = ("starting TensorFlow (", "training trial 1", "drawing the results")
    seconds, output = silence(f"tuning search {SMALL} --epochs 20 --tune hidden=0:0.2:0.2 --out out", tmp_path, texts)
    assert seconds < 2.0
    assert "best" in last_screen(output)


@pytest.mark.xdist_group("terminal")
def test_a_terminal_shows_what_an_export_does(tmp_path):
    run = tmp_path / "run"
    trainers.train(set={"hidden": 8}, train_size=50, epochs=1, threads=1, out=run, quiet=True)
    texts = ("exporting", "writing keras, onnx", "checking every runtime")
    seconds, _ = silence(f"zoo export {run} --formats keras,onnx --out shelf", tmp_path, texts)
    assert seconds < 2.0


def test_every_phase_is_in_the_status_and_the_first_epoch_is_no_estimate(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    line = RunProgress(quiet=True)
    for phase in ("loading TensorFlow", "loading digits", "saving"):
        line.phase(phase)
        assert line.text() == phase
    line.begin(10, 1000)
    assert line.text() == "compiling"
    row = {"train_error": 9.0, "val_error": 8.0, "train_seconds": 1.0}
    clock[0] = 60.0  # the first epoch is traced
    line.within(1, 1.0, 60.0)
    assert "evaluating" in line.text()
    line.row({**row, "epoch": 1})
    assert " left" not in line.text()
    clock[0] = 62.0
    line.row({**row, "epoch": 2})
    assert line.text() == "epoch 2/10  1,000 examples/s  16 s left  error 9.00 % train, 8.00 % validation"


def test_without_a_terminal_there_are_plain_lines_of_epochs():
    stream = io.StringIO()
    with RunProgress(stream=stream) as line:
        line.phase("loading TensorFlow")
        line.begin(2, 100)
        for epoch in (1, 2):
            line.row({"epoch": epoch, "train_error": 9.0, "val_error": 8.0, "train_seconds": 1.0})
    lines = stream.getvalue().splitlines()
    assert [text.split("  ")[0] for text in lines] == ["epoch 1/2", "epoch 2/2"]


def test_a_notebook_rewrites_one_line_of_output(monkeypatch):
    written = []

    class ZMQInteractiveShell:
        pass

    def display(data, **options):
        written.append(data["text/plain"])
        return types.SimpleNamespace(update=lambda data, **options: written.append(data["text/plain"]))

    module = types.SimpleNamespace(get_ipython=ZMQInteractiveShell, display=types.SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", module.display)
    stream = io.StringIO()
    with RunProgress(stream=stream) as line:
        line.phase("loading TensorFlow")
        line.begin(1, 100)
        line.row({"epoch": 1, "train_error": 9.0, "val_error": 8.0, "train_seconds": 1.0})
    assert written[0] == "starting"
    assert written[-1].startswith("epoch 1/1")
    assert stream.getvalue() == "", "not twice"


# === Ctrl-C ===


def weights(folder):
    return keras.models.load_model(folder / "model.keras").get_weights()


@pytest.mark.xdist_group("terminal")
def test_ctrl_c_saves_the_last_epoch_and_the_printed_command_ends_with_the_same_bits(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = f"-m trainers train {SMALL} --epochs 300 --out"
    unbroken = [sys.executable, *run.split(), "unbroken"]
    subprocess.run(unbroken, cwd=tmp_path, env=environment, check=True, capture_output=True)

    words = [sys.executable, *run.split(), "stopped"]
    child = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    history, deadline = tmp_path / "stopped" / "history.csv", time.monotonic() + 120
    while not (history.exists() and len(read_csv(history)) > 5):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    errors = child.communicate(timeout=60)[1]
    assert child.returncode == 130, errors
    epoch = int(re.search(r"interrupted after epoch (\d+) of 300, which is saved", errors)[1])
    assert epoch == len(read_csv(history)), "no finished epoch is lost"
    assert "Traceback" not in errors

    command = shlex.split(errors.splitlines()[-1])
    assert command == ["python", "-m", "trainers", "train", "--resume", "--out", "stopped"]
    again = subprocess.run(
        [sys.executable, *command[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert f"resuming stopped after epoch {epoch} of 300" in again.stderr
    for a, b in zip(weights(tmp_path / "stopped"), weights(tmp_path / "unbroken"), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.xdist_group("terminal")
def test_ctrl_c_in_a_comparison_says_how_to_resume_it_and_leaves_no_bar(tmp_path):
    # Runs of 200 epochs: otherwise the last one has ended before the interrupt comes.
    words = f"trainers compare {SMALL} --epochs 200 --seeds 4 --workers 1 --out out"
    code, output, _ = on_a_terminal(words.split(), tmp_path, interrupt_when=b"1/8 runs")
    assert code == 130, output
    assert "Traceback" not in output
    finished = int(re.search(r"interrupted: (\d) of 8 runs are finished", output)[1])
    assert finished == len(list((tmp_path / "out").glob("runs/*/*/*/metrics.json")))
    assert "python -m trainers compare --resume --out out --workers 1 --threads 1" in last_screen(output)
    assert "━" not in last_screen(output)
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["seeds"] == 4
