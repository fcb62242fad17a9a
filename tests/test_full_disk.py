"""A full disk and a place that cannot be written: one message that says so, exit code 2, and nothing is lost."""

import contextlib
import errno
import json
import os
import resource
import signal
import sys
import tempfile

import pytest
import tensorflow as tf
from conftest import ROOT
from kills import contents

import trainers
import trainers.__main__
import tuning.__main__
import tuning.request
import zoo.__main__
from trainers.plan import Plan
from trainers.training.session import explained
from zoo import cli, files
from zoo.artefacts import formats
from zoo.errors import CannotWrite, RunFailed

EVERY = os.environ.get("DROPOUT_ZOO_KILLS") == "all"  # `make kills`: at every event; otherwise at some of them
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SMALL = "--set hidden=8 --train-size 60 --threads 1"
TRAIN = f"train {SMALL} --epochs 2"
SEARCH = f"search {SMALL} --epochs 1 --tune hidden=0/0.5 --tuner grid"


class _Disk:
    """An audit hook. From the event number `full` on, nothing below `root` can be created or written."""

    def __init__(self):
        self.root, self.full, self.count = None, None, 0

    def __call__(self, event, args):
        if self.root is None or event not in ("open", "os.mkdir", "os.rename"):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITES):
            return
        if isinstance(args[0], str | os.PathLike) and os.fspath(args[0]).startswith(self.root):
            self.count += 1
            if self.full is not None and self.count >= self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))


_disk = _Disk()
sys.addaudithook(_disk)


@contextlib.contextmanager
def filling(root, full=None):
    """A context in which the disk below `root` is full from the event number `full` on; yields the disk."""
    _disk.__init__()
    _disk.root, _disk.full = str(root), full
    try:
        yield _disk
    finally:
        _disk.root = None


def carried_out(main, words, capsys):
    """The exit code and the last line on stderr of a command line that runs in this process."""
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: main([str(word) for word in words]))
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return end.value.code, err.strip().splitlines()[-1]


@pytest.mark.parametrize(("main", "words"), [(trainers.__main__.main, TRAIN), (tuning.__main__.main, SEARCH)])
def test_a_disk_that_is_full_at_any_write_is_said_to_be_full_and_what_is_there_resumes(tmp_path, capsys, main, words):
    with filling(tmp_path / "whole") as disk:
        assert carried_out(main, [*words.split(), "--out", tmp_path / "whole"], capsys)[0] == 0
    expected, events = contents(tmp_path / "whole"), disk.count
    assert events > 10
    for full in {1, 2, events, *range(4, events, 1 if EVERY else 7 if main is trainers.__main__.main else 40)}:
        out = tmp_path / str(full)
        with filling(out, full):
            code, line = carried_out(main, [*words.split(), "--out", out], capsys)
        assert code == 2, f"{full} of {events}: {line}"
        assert "No space left on device; free disk space or choose another --out" in line
        assert "memory" not in line
        begun = (out / "config.json").exists() or (out / "search.json").exists()
        again = [words.split()[0], "--resume"] if begun else [*words.split(), "--resume"]
        again += ["--threads", "1"] if begun and main is tuning.__main__.main else []
        assert carried_out(main, [*again, "--out", out], capsys)[0] == 0
        assert contents(out) == expected, f"full at event {full} of {events}"


def test_a_trial_that_met_a_full_disk_is_not_a_failed_trial(tmp_path, capsys):
    out = tmp_path / "search"
    with filling(out / "trials" / "control", 6):
        code, line = carried_out(tuning.__main__.main, [*SEARCH.split(), "--out", out], capsys)
    assert code == 2
    assert "No space left" in line
    words = ["search", "--resume", "--threads", "1", "--out", out, "--json"]
    assert carried_out(tuning.__main__.main, words, capsys)[0] == 0
    with open(out / "results.csv", encoding="utf-8") as table:
        assert "FAILED" not in table.read()


def test_workers_that_meet_a_full_disk_end_the_search_with_their_own_message(tmp_path, capfd):
    out = tmp_path / "search"
    (out / "trials").mkdir(parents=True)
    (out / "trials" / "control").write_text("in the way of a folder")
    request = tuning.request.Request.make(None, tune="hidden=0/0.5", tuner="grid", epochs=1, train_size=60)
    (out / "search.json").write_text(json.dumps(request.to_json()))
    with pytest.raises(CannotWrite, match="message above"):
        tuning.search(out=out, resume=True, workers=1 + 1, threads=1)
    err = capfd.readouterr().err
    assert "trials/control" in err
    assert "memory" not in err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trainers.train(set={"hidden": 8}, train_size=60, epochs=1, drop="hidden=0.2", out=folder, quiet=True)
    return folder


def test_an_export_to_a_full_disk_does_not_advise_to_omit_a_format_and_leaves_nothing(tmp_path, capsys, finished):
    words = ["export", finished, "--formats", "keras,savedmodel,onnx", "--name", "mine", "--out"]
    with filling(tmp_path / "whole") as disk:
        assert carried_out(zoo.__main__.main, [*words, tmp_path / "whole"], capsys)[0] == 0
    assert disk.count > 10
    for full in {1, 2, 3, disk.count, *range(4, disk.count, 1 if EVERY else 9)}:
        out = tmp_path / str(full)
        with filling(out, full):
            code, line = carried_out(zoo.__main__.main, [*words, out], capsys)
        assert code == 2, line
        assert "No space left on device" in line
        assert "--formats" not in line
        assert not list(out.iterdir()) if out.exists() else full == 1


@contextlib.contextmanager
def small_files(size):
    """A context in which the system itself refuses files of more than `size` bytes, also to native code."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN  # of Python; otherwise the process would end
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [300, 1000, 4000, 16000])
def test_what_the_system_refuses_to_native_code_is_named_too(tmp_path, capsys, size):
    """At 300 bytes TensorBoard's files are refused, at 4,000 the checkpoint, at 16,000 the model."""
    out = tmp_path / "run"
    with small_files(size):
        code, line = carried_out(trainers.__main__.main, [*TRAIN.split(), "--out", out], capsys)
    assert code == 2
    assert "cannot write" in line
    assert "File too large" in line
    assert "memory" not in line


@pytest.mark.parametrize("formatted", ["keras", "savedmodel", "onnx", "litert"])
def test_no_format_blames_the_model_for_the_disk(tmp_path, capsys, finished, formatted):
    with small_files(1000):
        words = ["export", finished, "--formats", formatted, "--out", tmp_path]
        code, line = carried_out(zoo.__main__.main, words, capsys)
    assert code == 2
    assert "File too large" in line
    assert "--formats" not in line
    assert not list(tmp_path.iterdir())


def test_memory_is_still_called_memory(tmp_path):
    plan = Plan.make(model="mlp")
    error = tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory")
    with pytest.raises(RunFailed, match="out of memory with --batch-size 128") as raised, explained(plan, tmp_path):
        raise error
    assert not isinstance(raised.value, CannotWrite)
    full = tf.errors.ResourceExhaustedError(None, None, "/disk/events; No space left on device")
    with pytest.raises(CannotWrite, match="No space left"), explained(plan, tmp_path):
        raise full


def test_a_format_that_cannot_express_a_model_is_still_one_to_omit():
    with pytest.raises(RunFailed, match="omit this format") as raised, formats.converting("ONNX", "mc"):
        raise ValueError("no such operator")
    assert not isinstance(raised.value, CannotWrite)
    with pytest.raises(CannotWrite, match="TMPDIR"), formats.converting("LiteRT", "mc"):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/nowhere']")


def test_the_cause_of_an_exception_counts_and_a_circle_of_causes_ends():
    error, cause = RuntimeError("converter failed"), OSError(errno.ENOSPC, "full")
    error.__cause__, cause.__context__ = cause, error
    assert files.refused(error).startswith("No space left on device")
    assert files.refused(OSError(errno.EACCES, "Permission denied")) is None


PLACES = {
    "train": (trainers.__main__.main, TRAIN.split()),
    "compare": (trainers.__main__.main, ["compare", "--seeds", "2", "--epochs", "1"]),
    "search": (tuning.__main__.main, SEARCH.split()),
    "export": (zoo.__main__.main, ["export", "RUN"]),
    "modes": (zoo.__main__.main, ["modes", "RUN"]),
    "place": (zoo.__main__.main, ["place", "RUN/model.keras", "--drop", "hidden=0.1"]),
}


@pytest.mark.parametrize("command", PLACES)
@pytest.mark.parametrize("place", ["file/below/it", "/proc/nowhere/out", "x" * 300])
def test_a_place_that_cannot_be_written_is_refused_by_name(tmp_path, monkeypatch, capsys, finished, command, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file, where a folder is needed")
    main, words = PLACES[command]
    words = [word.replace("RUN", str(finished)) for word in words]
    code, line = carried_out(main, [*words, "--out", place + (".keras" if command == "place" else "")], capsys)
    assert code == 2
    assert line.startswith("error: ")
    assert place[:20] in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert str(ROOT) not in line


@pytest.mark.parametrize("command", ["train", "compare", "search", "export"])
def test_a_missing_temporary_folder_is_noticed_before_the_work(tmp_path, monkeypatch, capsys, finished, command):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    main, words = PLACES[command]
    words = [word.replace("RUN", str(finished)) for word in words]
    code, line = carried_out(main, [*words, "--out", tmp_path / "out"], capsys)
    assert code == 2
    assert "there is no temporary folder; set TMPDIR to a folder that can be written" in line
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
