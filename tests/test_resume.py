"""Contract 10: a run killed at any moment and resumed ends with the same weights, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from trainers.training import checkpoint, session
from trainers.training.train import run, train
from zoo.errors import BadInput, RunFailed
from zoo.reading import read_csv

ROOT = Path(__file__).parent.parent

# A run in which everything has a state: masks, augmentation, batch statistics, momentum, early stopping.
OPTIONS = {
    "model": "resnet",
    "dataset": "digits",
    "placement": "everywhere",
    "settings": {"filters": "4/6", "blocks": "1/1"},
    "train_size": 500,
    "epochs": 6,
    "augment": True,
    "early_stopping": 5,
    "seed": 3,
    "threads": 2,
}
_CHILD = f"""
import sys
import trainers
from trainers.training import session
session.CHECKPOINT_SECONDS = 0
trainers.train(out=sys.argv[1], resume=True, **{OPTIONS!r})
"""


def weights(folder):
    return keras.models.load_model(Path(folder) / "model.keras").get_weights()


def start(folder):
    return subprocess.Popen([sys.executable, "-c", _CHILD, str(folder)], cwd=ROOT, stderr=subprocess.DEVNULL)


def wait_for(happened, child, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened():
        assert child.poll() is None, "the child ended before it could be killed"
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.002)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The run that was never killed, in a process of its own as the others are."""
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    assert start(folder).wait() == 0
    return folder


def test_10_a_run_killed_at_several_moments_ends_with_the_same_bits(unbroken, tmp_path):
    folder = tmp_path / "killed"
    rows = lambda: len(read_csv(folder / "history.csv")) if (folder / "history.csv").exists() else 0  # noqa: E731
    moments = [
        lambda: (folder / "config.json").exists(),  # before any epoch has ended
        lambda: rows() >= 2,  # just after a row, while its checkpoint is written
        lambda: rows() >= 4 and any(folder.glob(".checkpoint.*")),  # while a checkpoint is half-written
    ]
    for moment in moments:
        child = start(folder)
        wait_for(moment, child)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert not (folder / "metrics.json").exists()
    assert start(folder).wait() == 0
    for a, b in zip(weights(folder), weights(unbroken), strict=True):
        np.testing.assert_array_equal(a, b)
    killed, whole = read_csv(folder / "history.csv"), read_csv(unbroken / "history.csv")
    timeless = [{k: v for k, v in row.items() if "seconds" not in k} for row in killed]
    assert timeless == [{k: v for k, v in row.items() if "seconds" not in k} for row in whole]


def test_a_finished_run_is_not_trained_again(unbroken, capsys):
    before = (unbroken / "model.keras").read_bytes()
    train(out=unbroken, resume=True, **OPTIONS)
    assert "already finished" in capsys.readouterr().err
    assert (unbroken / "model.keras").read_bytes() == before


def test_other_options_are_refused_with_what_differs(unbroken):
    with pytest.raises(BadInput, match=r"recipe\.epochs: 7, not 6"):
        train(out=unbroken, resume=True, epochs=7)


def test_resume_of_nothing_starts_from_the_beginning_and_says_so(tmp_path, capsys):
    train(out=tmp_path / "new", resume=True, epochs=1, train_size=100)
    assert "starting from the beginning" in capsys.readouterr().err
    assert (tmp_path / "new" / "metrics.json").exists()


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "checkpoint.npz"
    np.savez(path, meta=np.zeros(3, np.uint8))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BadInput, match=r"cannot read .*checkpoint\.npz"):
        checkpoint.load(path)


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    calls = []

    def full(file, **arrays):
        calls.append(file)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        real(file, **arrays)

    real = np.savez
    monkeypatch.setattr(checkpoint.np, "savez", full)
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0)
    with pytest.raises(RunFailed, match=r"checkpoint\.npz.*No space left.*--resume"):
        train(out=tmp_path / "run", epochs=5, train_size=100, quiet=True)
    assert checkpoint.load(tmp_path / "run" / "checkpoint.npz").epoch == 2
    assert not list((tmp_path / "run").glob(".checkpoint*")), "no half-written file stays"


def test_numbers_and_lists_of_arrays_of_a_callback_are_kept(tmp_path):
    stopping = keras.callbacks.EarlyStopping("val_error", mode="min", restore_best_weights=True)
    stopping.wait, stopping.best, stopping.best_weights = 3, np.float64(1.5), [np.ones(2), np.zeros((2, 2))]
    simple, listed = checkpoint._callback_state(stopping)
    assert (simple["wait"], simple["best"]) == (3, 1.5)
    assert [a.shape for a in listed["best_weights"]] == [(2,), (2, 2)]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_that_was_paused_twice_ends_as_one_that_never_was(tmp_path, compiled):
    from trainers.plan import Plan

    options = {key: value for key, value in OPTIONS.items() if key not in ("threads", "early_stopping")}
    if compiled:
        options |= {"model": "mlp", "settings": {"hidden": "16"}, "jit_compile": True}
    plan = Plan.make(**options)
    straight = train(out=tmp_path / "straight", quiet=True, threads=2, **options)
    (tmp_path / "paused").mkdir()
    for until in (2, 3):
        paused = run(plan, tmp_path / "paused", quiet=True, threads=2, until=until)
        assert (paused["epochs"], paused["epoch"]) == (until, until)
        assert not (tmp_path / "paused" / "metrics.json").exists()
    ended = run(plan, tmp_path / "paused", quiet=True, threads=2, until=plan.recipe.epochs)
    assert ended["test_loss"] == straight["test_loss"]
    for a, b in zip(weights(tmp_path / "straight"), weights(tmp_path / "paused"), strict=True):
        np.testing.assert_array_equal(a, b)
