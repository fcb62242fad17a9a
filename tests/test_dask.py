"""A comparison on a real Dask cluster: a scheduler and two workers on loopback, one of which is killed."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import trainers
from trainers.__main__ import main
from trainers.folder import read_csv
from zoo.errors import BadInput

ROOT = Path(__file__).parent.parent
SMALL = {"settings": {"hidden": "16"}, "train_size": 200, "epochs": 2, "threads": 1, "quiet": True}
ARMS = ("none", "half=hidden=0.5")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(command, *arguments, path=ROOT):
    env = {**os.environ, "PYTHONPATH": str(path), "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    words = [sys.executable, "-m", f"distributed.cli.dask_{command}", *arguments, "--dashboard-address", "127.0.0.1:0"]
    return subprocess.Popen(words, cwd=path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a scheduler with two workers of one thread, each a process under a nanny."""
    address = f"tcp://127.0.0.1:{free_port()}"
    port, scratch = address.rpartition(":")[2], str(tmp_path_factory.mktemp("dask"))
    processes = [start("scheduler", "--host", "127.0.0.1", "--port", port)]
    worker = ("--nthreads", "1", "--nworkers", "2", "--host", "127.0.0.1", "--local-directory", scratch)
    processes.append(start("worker", address, *worker))
    try:
        wait_for_workers(address, 2)
        yield address
    finally:
        for process in reversed(processes):
            end(process)


def wait_for_workers(address, count, seconds=60):
    import distributed

    with distributed.Client(address, timeout=seconds, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=seconds)
        return client.run(os.getpid)


def rows(out):
    return sorted(
        (row["arm"], row["seed"], row["test_error"], row["test_loss"]) for row in read_csv(out / "results.csv")
    )


def test_the_cluster_finds_what_processes_here_find_and_a_killed_worker_costs_nothing(scheduler, tmp_path):
    trainers.compare(arms=ARMS, seeds=3, workers=1, out=tmp_path / "here", **SMALL)
    victim = next(iter(wait_for_workers(scheduler, 2).values()))
    there = tmp_path / "there"

    def kill():
        while not list(there.glob("runs/*/*/*/config.json")):
            time.sleep(0.02)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    summary = trainers.compare(arms=ARMS, seeds=3, backend="dask", scheduler=scheduler, out=there, **SMALL)
    killer.join(10)
    assert not killer.is_alive()
    assert summary["failed"] == []
    assert rows(there) == rows(tmp_path / "here")


def test_a_run_that_fails_is_said_and_the_others_are_run(scheduler, tmp_path):
    wait_for_workers(scheduler, 2)
    options = {**SMALL, "optimizer": "sgd", "learning_rate": 1e30}
    summary = trainers.compare(arms=ARMS, seeds=1, backend="dask", scheduler=scheduler, out=tmp_path / "out", **options)
    assert {failure["arm"] for failure in summary["failed"]} == {"none", "half"}
    assert all("loss became" in failure["message"] for failure in summary["failed"])


def test_workers_that_lack_the_project_are_refused_at_once(tmp_path):
    address = f"tcp://127.0.0.1:{free_port()}"
    processes = [start("scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2])]
    try:
        wait_for_scheduler(address)
        with pytest.raises(BadInput, match="has no workers; start some"):
            trainers.compare(arms=ARMS, backend="dask", scheduler=address, out=tmp_path / "out", **SMALL)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        processes.append(start("worker", address, "--nthreads", "1", "--host", "127.0.0.1", path=elsewhere))
        wait_for_workers(address, 1)
        with pytest.raises(BadInput, match="cannot import what the runs need"):
            trainers.compare(arms=ARMS, backend="dask", scheduler=address, out=tmp_path / "out", **SMALL)
    finally:
        for process in reversed(processes):
            end(process)
    assert not (tmp_path / "out").exists()


def wait_for_scheduler(address, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket() as found:
            if found.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                return
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "dask"], "without --scheduler"),
        (["--scheduler", "tcp://127.0.0.1:8786"], "without --backend dask"),
        (["--backend", "threads"], "one of loky, dask"),
        (["--backend", "dask", "--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
        (["--backend", "dask", "--scheduler", "nonsense"], "no Dask scheduler answers"),
        (["--backend", "dask", "--scheduler", "tcp://127.0.0.1:8786", "--workers", "2"], "leave it out"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=re.escape(message)):
        main(["compare", *options])
    assert not list(tmp_path.iterdir())
