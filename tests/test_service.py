"""A chief and its workers as real processes, on loopback; one of them is killed."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tuning import service
from tuning.service import check_address
from zoo.errors import BadInput, RunFailed
from zoo.reading import read_csv

ROOT = Path(__file__).parent.parent
SEARCH = ["--tune", "hidden=0:0.8:0.1", "--tuner", "grid", "--set", "hidden=16", "--train-size", "200", "--epochs", "3"]
ENDS = 9


TOKEN = "a token for the tests"


def start(*arguments, token=TOKEN):
    """Starts a chief or a worker outside any checkout and without PYTHONPATH: the project is installed."""
    command = [sys.executable, "-m", "tuning", *map(str, arguments)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"DROPOUT_ZOO_TOKEN": token} if token else {}
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=tempfile.gettempdir(), env=environment, **pipes)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def events(out, kind):
    path = out / "journal.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def wait_for(happened, *processes, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened():
        for process in processes:
            assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


def assert_complete(out):
    rows = read_csv(out / "results.csv")
    assert sorted(row["rate_hidden"] for row in rows) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert {row["status"] for row in rows} == {"completed"}


def test_a_killed_worker_a_killed_chief_and_a_late_worker_leave_nothing_out(tmp_path):
    out, address = tmp_path / "out", f"127.0.0.1:{free_port()}"
    chief = ["cluster", "--chief", address, "--out", out, *SEARCH]
    processes = [start(*chief), start("cluster", "--worker", address, "--name", "first", "--out", tmp_path / "first")]
    try:
        wait_for(lambda: len(events(out, "end")) >= 2, *processes)
        os.kill(processes[1].pid, signal.SIGKILL)
        # It comes back under its name, to the trial that it had, and finds its run where it left it.
        processes[1].wait()
        processes[1] = start("cluster", "--worker", address, "--name", "first", "--out", tmp_path / "first")
        wait_for(lambda: len(events(out, "end")) >= 4, *processes)
        os.kill(processes[0].pid, signal.SIGKILL)
        processes[0].wait()
        processes[0] = start(*chief, "--resume")
        processes.append(start("cluster", "--worker", address, "--out", tmp_path / "late"))
        lines = []
        for process in processes[1:]:
            lines.append(process.communicate(timeout=180)[1])
            assert process.returncode == 0, lines[-1]
            assert f"joined {address}\n" in lines[-1]
        assert re.search(r"^training trial \d$", lines[0], re.MULTILINE)
        assert re.search(r"^finished trial \d: \d+\.\d\d %$", lines[0], re.MULTILINE)
        assert processes[0].wait(timeout=60) == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert len(events(out, "end")) == ENDS
    assert_complete(out)


def test_two_workers_on_this_machine_do_it_all_and_a_killed_one_is_replaced(tmp_path):
    out = tmp_path / "out"
    search = start("search", "--workers", "2", "--out", out, *SEARCH)
    try:
        wait_for(lambda: len(events(out, "end")) >= 2, search)
        children = psutil.Process(search.pid).children()
        assert len(children) == 2
        children[0].kill()
        _, stderr = search.communicate(timeout=240)
        assert search.returncode == 0, stderr
        assert "joined" not in stderr  # the search itself prints the progress of its workers
    finally:
        search.kill()
    assert len(events(out, "end")) == ENDS
    assert_complete(out)


def test_workers_end_with_their_search(tmp_path):
    search = start("search", "--workers", "2", "--out", tmp_path / "out", *SEARCH)
    wait_for(lambda: events(tmp_path / "out", "end"), search)
    children = psutil.Process(search.pid).children()
    search.kill()
    search.communicate()
    assert not psutil.wait_procs(children, timeout=20)[1]


def test_a_worker_without_a_chief_says_so(monkeypatch, capsys):
    monkeypatch.setattr(service, "FIRST_SECONDS", 1.0)
    monkeypatch.setattr(service, "WAITING_SECONDS", 0.3)
    monkeypatch.setenv("DROPOUT_ZOO_TOKEN", TOKEN)
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(RunFailed, match=f"no chief answers at {address}"):
        service.work(address)
    assert capsys.readouterr().err.count(f"waiting for the chief at {address}") >= 3


def test_a_worker_of_other_versions_is_refused(monkeypatch):
    class Study:
        def get_space(self):
            import keras_tuner

            space = keras_tuner.HyperParameters()
            space.Fixed("about", json.dumps({"versions": {"keras": "3.0.0"}}))
            return space

    monkeypatch.setenv("DROPOUT_ZOO_TOKEN", TOKEN)
    before = dict(os.environ)
    with (
        service.serving(Study(), "127.0.0.1:0", TOKEN) as port,
        pytest.raises(BadInput, match=r"keras .*, not 3\.0\.0"),
    ):
        service.work(f"127.0.0.1:{port}")
    assert dict(os.environ) == before  # or every tuner made later in this process would ask that chief


def test_an_address_that_is_in_use_is_refused():
    with service.serving(object(), "127.0.0.1:0", TOKEN) as port:
        again = service.serving(object(), f"127.0.0.1:{port}", TOKEN)
        with pytest.raises(BadInput, match="cannot listen"):
            again.__enter__()


@pytest.mark.parametrize("text", ["8470", "host", "host:", ":80", "host:99999", "host:x"])
def test_an_address_is_host_and_port(text):
    with pytest.raises(BadInput, match="HOST:PORT"):
        check_address(text, "--chief")
