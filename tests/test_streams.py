"""Closed and full standard streams, and a machine on which nothing can be written."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from zoo import cli, startup, streams
from zoo.errors import CannotWrite

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
LIST = f"{sys.executable} -m zoo list"


def shell(command, folder):
    done = subprocess.run(command, shell=True, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("redirected", "message"),
    [
        (f"{LIST} >/dev/full", "cannot write the result to stdout: No space left on device"),
        (f"{LIST} --json >/dev/full", "cannot write the result to stdout: No space left on device"),
        (f"{LIST} --help >/dev/full", "cannot write the result to stdout: No space left on device"),
        (f"{LIST} >&-", "cannot write the result to stdout: it is closed"),
    ],
)
def test_a_result_that_cannot_be_printed_is_an_error_in_one_line(tmp_path, redirected, message):
    done = shell(redirected, tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_a_command_works_without_a_place_for_its_messages(tmp_path, redirection):
    assert shell(f"{LIST} {redirection}", tmp_path).stdout == shell(LIST, tmp_path).stdout
    refused = shell(f"{LIST} nosuchmodel {redirection}", tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_a_reader_that_ends_early_is_no_error(tmp_path):
    done = shell(f"set -o pipefail; {LIST} | head -n 1".join(("bash -c '", "'")), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mlp")


def test_a_file_does_not_get_the_descriptor_of_a_closed_stream(tmp_path):
    """Native code writes its messages to descriptor 2, whatever file that is."""
    code = "from zoo.cli import run; run(lambda: print(open('kept', 'w').fileno() > 2))"
    assert shell(f'{sys.executable} -c "{code}" <&- 2>&-', tmp_path).stdout == "True\n"


def test_messages_that_cannot_be_written_end_no_work():
    with open("/dev/full", "w") as full:
        stream = streams.Lossy(full)
        print("a message", file=stream, flush=True)
        assert stream.fileno() == full.fileno()
        stream.close()


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_full_stdout_is_reported_at_a_flush_and_in_the_middle_of_a_long_result(monkeypatch, capsys, size):
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115 - closed by the interpreter
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: print("x" * size))
    assert end.value.code == 2
    assert "cannot write the result to stdout" in capsys.readouterr().err


def test_without_stderr_progress_is_lost_and_never_printed_among_the_results(monkeypatch, capsys):
    from trainers.training.progress import Phases, RunProgress, say

    monkeypatch.setattr(sys, "stderr", None)
    say(False, "a line")
    with RunProgress() as progress, Phases("a phase"):
        progress.begin(1, 10)
        progress.row({"epoch": 1, "train_error": 9.0, "val_error": 8.0, "train_seconds": 1.0})
    with startup.held_stderr():
        pass
    assert capsys.readouterr().out == ""


def test_a_file_that_the_system_refuses_is_named_in_one_line(capsys):
    def main():
        open("/proc/nowhere/file", "w").close()

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: cannot use /proc/nowhere/file: No such file or directory; ")


def test_a_refused_write_has_the_exit_code_of_a_bad_option(capsys):
    def main():
        raise CannotWrite("cannot write here")

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    assert (end.value.code, capsys.readouterr().err) == (2, "error: cannot write here\n")


# === What native code writes to stderr ===


def written_to_stderr(work):
    """What `work` lets through to descriptor 2."""
    reading, writing = os.pipe()
    saved = os.dup(2)
    os.dup2(writing, 2)
    try:
        work()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(writing)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def test_native_messages_are_held_until_a_block_fails():
    def works():
        with startup.held_stderr():
            os.write(2, b"noise")
        os.write(2, b"after")

    def fails():
        with contextlib.suppress(ZeroDivisionError), startup.held_stderr():
            os.write(2, b"the reason")
            raise ZeroDivisionError

    def fails_inside():
        with startup.held_stderr():
            fails()

    assert written_to_stderr(works) == "after"
    assert written_to_stderr(fails) == "the reason"
    assert written_to_stderr(fails_inside) == ""


def test_blocks_that_overlap_in_two_threads_give_stderr_back():
    def overlap():
        first, second = startup.held_stderr(), startup.held_stderr()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        os.write(2, b"noise")
        second.__exit__(None, None, None)
        os.write(2, b"back")

    assert written_to_stderr(overlap) == "back"


def test_without_a_temporary_folder_stderr_is_not_held_but_the_work_is_done(monkeypatch):
    def refused(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(startup, "_memory", refused)

    def works():
        with startup.held_stderr():
            os.write(2, b"noise")

    assert written_to_stderr(works) == "noise"


# === A container that is read-only and has no temporary folder ===

READ_ONLY = """
import errno, os, sys, tempfile

def refuse(event, args):
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    named = args and isinstance(args[0], str | os.PathLike) and str(args[0]) != os.devnull  # not a descriptor
    if named and (writes or event in ("os.mkdir", "os.rename")):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(args[0]))

sys.addaudithook(refuse)
from zoo import cli
from zoo.__main__ import main

for runtime in ("onnx", "litert", "keras", "savedmodel"):
    for mode in ("inference", "mc"):
        words = ["predict", "cnn-digits-default", sys.argv[1], "--runtime", runtime, "--mode", mode]
        assert main(words) is None
cli.run(lambda: main(["modes", "cnn-digits-default", "--out", sys.argv[2]]))
"""


def test_predict_writes_nothing_and_what_must_write_says_what_is_missing(tmp_path):
    Image.fromarray(np.full((8, 8), 99, "uint8")).save(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, "a.png", "out"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path / "nowhere"), "HOME": str(tmp_path / "nowhere")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.count("mode inference; runtime") == 4, done.stderr
    assert done.stdout.count("mode mc, 50 samples") == 4
    assert done.returncode == 2
    assert "TMPDIR" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "absl" not in done.stderr  # the messages of native code are held back here too
