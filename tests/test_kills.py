"""A kill at any write or rename loses nothing: what is resumed ends with the same files, apart from times."""

import os
import threading

import filelock
import pytest
from kills import contents, killing

import trainers
import tuning
from trainers.plan import Plan
from trainers.training.folder import claimed, is_empty
from trainers.training.train import run
from zoo import files
from zoo.artefacts import export
from zoo.artefacts.verify import verify
from zoo.errors import BadInput

SMALL = {"model": "mlp", "set": {"hidden": 8}, "train_size": 60, "epochs": 2}
QUIET = {"quiet": True, "threads": 1}
EVERY = os.environ.get("DROPOUT_ZOO_KILLS") == "all"  # `make kills`: at every event; otherwise at some of them


def killed_and_resumed(folder, job, step=1, first=1):
    """Asserts that `job`, killed at every `step`-th event and begun again, leaves the files of one never killed."""
    with killing(folder / "whole") as unharmed:
        job(folder / "whole")
    expected, events = contents(folder / "whole"), unharmed.count
    assert expected
    for at in range(first, events + 1, step):
        out = folder / str(at)
        with killing(out, at) as attempt:
            job(out)
        assert attempt.dead
        job(out)
        assert contents(out) == expected, f"killed at event {at} of {events}"


def test_a_run_killed_at_any_write_ends_with_the_same_files(tmp_path):
    def job(out):
        begun = (out / "config.json").exists()
        trainers.train(out=out, resume=True, **({} if begun else SMALL), **QUIET)

    killed_and_resumed(tmp_path, job)


def test_an_early_stopped_run_killed_at_any_write_keeps_its_best_epoch(tmp_path):
    plan = Plan.make(model="mlp", settings={"hidden": 8}, train_size=60, epochs=8, learning_rate=0.02, early_stopping=1)

    def job(out):
        with claimed(out, resume=True):
            run(plan, out, **QUIET)

    killed_and_resumed(tmp_path, job)


def test_a_comparison_killed_at_any_write_ends_with_the_same_files(tmp_path):
    def job(out):
        begun = (out / "compare.json").exists()
        options = {} if begun else {**SMALL, "epochs": 1, "seeds": 1, "arm": ["none", "default"]}
        trainers.compare(out=out, resume=True, workers=1, **options, **QUIET)

    killed_and_resumed(tmp_path, job, step=1 if EVERY else 7)


def test_a_search_killed_at_any_write_ends_with_the_same_files(tmp_path):
    def job(out):
        begun = (out / "search.json").exists()
        options = {} if begun else {**SMALL, "epochs": 1, "tune": "hidden=0/0.5", "tuner": "grid"}
        tuning.search(out=out, resume=True, workers=1, **options, **QUIET)

    killed_and_resumed(tmp_path, job, step=1 if EVERY else 9)


def test_an_export_killed_at_any_write_leaves_nothing_that_hinders_the_next(tmp_path):
    trainers.train(out=tmp_path / "run", **SMALL, **QUIET)

    def job(out):
        export.export(tmp_path / "run", name="mine", formats=("keras", "onnx"), out=out)

    with killing(tmp_path / "whole") as unharmed:
        job(tmp_path / "whole")
    events, written = unharmed.count, {path.name for path in (tmp_path / "whole" / "mine").iterdir()}
    for at in range(1, events, 1 if EVERY else 7):
        out = tmp_path / str(at)
        with killing(out, at) as attempt:
            job(out)
        assert attempt.dead
        assert not (out / "mine").exists()
    job(out)
    assert {path.name for path in out.iterdir()} == {"mine"}
    assert {path.name for path in (out / "mine").iterdir()} == written
    assert all(check.ok for check in verify(out / "mine"))


# === Locks and what a killed process leaves ===


def test_a_lock_that_was_removed_while_it_was_waited_for_is_not_a_lock(tmp_path, monkeypatch):
    """A holds the lock, and B has opened its file. A removes the file, and C locks a new one: B must wait for C."""
    path, order = tmp_path / ".lock", []
    opened, removed, lock_descriptor = threading.Event(), threading.Event(), filelock.lock_descriptor

    def slowly(descriptor, blocking=True):
        if threading.current_thread().name == "B" and not removed.is_set():
            opened.set()
            removed.wait(10)
        return lock_descriptor(descriptor, blocking=blocking)

    monkeypatch.setattr(filelock, "lock_descriptor", slowly)

    def b():
        with files.locked(path, patience=10):
            order.append("B")

    thread = threading.Thread(target=b, name="B")
    with files.locked(path):
        thread.start()
        assert opened.wait(10)
    with files.locked(path):  # C
        removed.set()
        thread.join(0.3)
        assert thread.is_alive()
        order.append("C")
    thread.join(10)
    assert order == ["C", "B"]
    assert not path.exists()


def test_a_lock_is_refused_while_it_is_held_and_free_afterwards(tmp_path):
    with claimed(tmp_path / "run", resume=True), pytest.raises(BadInput, match="another process is writing"):
        claimed(tmp_path / "run", resume=True).__enter__()
    with claimed(tmp_path / "run", resume=True) as folder:
        (folder / "kept").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["kept"]


def test_what_a_killed_process_left_unfinished_is_no_content_and_is_removed(tmp_path):
    for name in (".config.812.json", ".model.812.keras", ".lock"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".execution-0.812").mkdir()
    (tmp_path / ".execution-0.812" / "config.json").touch()
    assert is_empty(tmp_path)
    (tmp_path / ".gitignore").touch()
    assert not is_empty(tmp_path)
    with claimed(tmp_path, resume=True):
        assert {path.name for path in tmp_path.iterdir()} == {".gitignore", ".lock"}


def test_two_exports_to_one_name_do_not_meet(tmp_path):
    trainers.train(out=tmp_path / "run", **SMALL, **QUIET)
    with files.locked(tmp_path / ".mine.lock"), pytest.raises(BadInput, match="another process is exporting"):
        export.export(tmp_path / "run", name="mine", formats="keras", out=tmp_path)
