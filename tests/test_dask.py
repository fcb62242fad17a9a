"""A comparison on a real Dask cluster: a scheduler and two workers on loopback, one of which is killed."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import trainers
from trainers.__main__ import main
from trainers.parallel import dask
from zoo.errors import BadInput
from zoo.reading import read_csv

ROOT = Path(__file__).parent.parent
SMALL = {"settings": {"hidden": "16"}, "train_size": 200, "epochs": 2, "threads": 1, "quiet": True}
ARMS = ("none", "half=hidden=0.5")
pytestmark = pytest.mark.xdist_group("dask")  # the guide's commands name a port

# What makes a worker one that lacks the project.
BLOCKER = """
import sys
class NoProject:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("zoo", "trainers", "tuning"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoProject())
"""


def free_port():
    with socket.socket() as actual:
        actual.bind(("127.0.0.1", 0))
        return actual.getsockname()[1]


def commands():
    """The commands for a cluster as the guide has them: scheduler, worker, comparison."""
    guide = (ROOT / "docs" / "guides" / "machines.md").read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"```bash\n(.*?)```", guide, re.DOTALL) if "dask scheduler" in block)
    return [shlex.split(line.removesuffix("&")) for line in block.replace("\\\n", " ").splitlines()]


def start(*command, folder, path=None):
    """A program of this environment, in `folder`; `path` is what PYTHONPATH is set to, if it is."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"}
    if path:
        environment["PYTHONPATH"] = str(path)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(list(map(str, command)), cwd=folder, env=environment, **quiet)


def end(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a scheduler with two workers, begun by the guide's commands in an empty folder; the processes."""
    folder = tmp_path_factory.mktemp("dask")
    serve, work, _ = commands()
    address = next(word for word in work if word.startswith("tcp://"))
    processes = [start(*serve, folder=folder), start(*work, folder=folder)]
    try:
        wait_for_workers(address, 2)
        yield address, processes
    finally:
        for process in reversed(processes):
            end(process)


@pytest.fixture
def scheduler(cluster):
    return cluster[0]


def wait_for_workers(address, count, seconds=60):
    import distributed

    with distributed.Client(address, timeout=seconds, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=seconds)
        return client.run(os.getpid)


def rows(out):
    return sorted(
        (row["arm"], row["seed"], row["test_error"], row["test_loss"]) for row in read_csv(out / "results.csv")
    )


def listening(process):
    """The addresses at which a process and its children listen."""
    family = [process, *process.children(recursive=True)]
    connections = [connection for each in family for connection in each.net_connections("inet")]
    return {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}


def test_the_cluster_of_the_guide_listens_on_loopback_alone(cluster, capfd):
    address, processes = cluster
    wait_for_workers(address, 2)
    for process in processes:
        assert listening(psutil.Process(process.pid)) == {"127.0.0.1"}
    with dask.connected(address):
        pass
    assert "warning" not in capfd.readouterr().err


def test_what_listens_beyond_loopback_is_named_in_one_line(tmp_path, capfd):
    """Everything of this cluster uses loopback, yet its worker and its dashboard listen on all interfaces."""
    port, dashboard = free_port(), free_port()
    address = f"tcp://127.0.0.1:{port}"
    serve = ("dask", "scheduler", "--host", "127.0.0.1", "--port", port, "--dashboard-address", f":{dashboard}")
    processes = [start(*serve, folder=tmp_path)]
    try:
        work = ("dask", "worker", address, "--nthreads", "1", "--no-nanny", "--dashboard-address", "127.0.0.1:0")
        processes.append(start(*work, folder=tmp_path))
        wait_for_workers(address, 1)
        with dask.connected(address):
            lines = capfd.readouterr().err.splitlines()
    finally:
        for process in reversed(processes):
            end(process)
    (line,) = [line for line in lines if "warning" in line]
    assert "without TLS" in line
    assert re.search(rf"(0\.0\.0\.0|\[::\]):{dashboard} \(scheduler\)", line)
    assert re.search(r":\d+ \(worker\)", line)
    assert f":{port} (" not in line


def sh_blocks():
    guide = (ROOT / "docs" / "guides" / "machines.md").read_text(encoding="utf-8")
    return [text.replace("\\\n", " ") for text in re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)]


@pytest.mark.skipif(not shutil.which("openssl"), reason="the guide makes the certificate with openssl")
def test_the_tls_of_the_guide_keeps_strangers_out(tmp_path, monkeypatch, capfd):
    make, run = sh_blocks()
    subprocess.run(shlex.split(make), cwd=tmp_path, check=True, capture_output=True)
    guide = (ROOT / "docs" / "guides" / "machines.md").read_text(encoding="utf-8")
    settings = re.search(r"```yaml\n(.*?)```", guide, re.DOTALL)[1].replace("/path/to", str(tmp_path))
    (tmp_path / "dask").mkdir()
    (tmp_path / "dask" / "distributed.yaml").write_text(settings)
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "dask"))  # in place of ~/.config/dask
    port = free_port()
    run = run.replace("10.0.0.5", "127.0.0.1").replace("8786", str(port)).replace("127.0.0.1:8787", "127.0.0.1:0")
    serve, work, compare = (shlex.split(line) for line in run.splitlines())
    processes = [start(*serve, "--port", port, folder=tmp_path), start(*work, folder=tmp_path)]
    address = f"tls://127.0.0.1:{port}"
    try:
        small = ("--seeds", "1", "--epochs", "1", "--train-size", "100", "--model", "mlp")
        until = time.monotonic() + 60
        while (ran := start(*compare, *small, folder=tmp_path)).wait(120) != 0:
            assert time.monotonic() < until
        assert ran.returncode == 0
        assert len(read_csv(tmp_path / "runs" / "swept" / "results.csv")) == 2
        for process in processes:
            assert listening(psutil.Process(process.pid)) == {"127.0.0.1"}
        # A client without the certificate, which is what this process is.
        for stranger in (address, address.replace("tls", "tcp")):
            with pytest.raises(BadInput, match="does not answer"):
                trainers.compare(arms=ARMS, backend="dask", scheduler=stranger, out=tmp_path / "out", **SMALL)
    finally:
        for process in reversed(processes):
            end(process)


@pytest.mark.parametrize(
    ("own", "sockets", "expected"),
    [
        ("tls://10.0.0.5:8786", [("10.0.0.5", 8786), ("127.0.0.1", 8787)], []),
        ("tls://10.0.0.5:8786", [("10.0.0.5", 8786), ("0.0.0.0", 8787)], ["0.0.0.0:8787 (scheduler)"]),
        ("tcp://10.0.0.5:8786", [("10.0.0.5", 8786)], ["10.0.0.5:8786 (scheduler)"]),
        ("tcp://127.0.0.1:8786", [("::", 8786), ("::1", 8787)], ["[::]:8786 (scheduler)"]),
        ("tcp://127.0.0.1:8786", [("::ffff:127.0.0.1", 8786)], []),
        ("tcp://10.0.0.5:8786", None, ["10.0.0.5:8786 (scheduler)"]),
        ("tls://10.0.0.5:8786", None, []),
    ],
)
def test_addresses_beyond_loopback_without_tls_are_found(own, sockets, expected):
    class Client:
        def scheduler_info(self, n_workers):
            return {"address": own, "workers": {}}

        def run_on_scheduler(self, question):
            if sockets is None:
                raise OSError("cannot be asked")
            return sockets

        def run(self, question, **options):
            return {}

    assert dask.exposed(Client()) == expected


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


def test_the_comparison_of_the_guide_runs_as_written(scheduler, tmp_path):
    wait_for_workers(scheduler, 2)
    *_, compare = commands()
    small = ("--seeds", "1", "--epochs", "1", "--train-size", "100")  # the same command, only shorter
    process = start(*compare, *small, folder=tmp_path)
    assert process.wait(120) == 0
    out = tmp_path / compare[compare.index("--out") + 1]
    assert len(read_csv(out / "results.csv")) == 2
    assert (out / "report.html").exists()


def test_a_run_that_fails_is_said_and_the_others_are_run(scheduler, tmp_path):
    wait_for_workers(scheduler, 2)
    options = {**SMALL, "optimizer": "sgd", "learning_rate": 1e30}
    summary = trainers.compare(arms=ARMS, seeds=1, backend="dask", scheduler=scheduler, out=tmp_path / "out", **options)
    assert {failure["arm"] for failure in summary["failed"]} == {"none", "half"}
    assert all("loss became" in failure["message"] for failure in summary["failed"])


def test_workers_that_lack_the_project_are_refused_at_once(tmp_path):
    address = f"tcp://127.0.0.1:{free_port()}"
    port = address.rpartition(":")[2]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "sitecustomize.py").write_text(BLOCKER)
    options = ("--dashboard-address", "127.0.0.1:0", "--host", "127.0.0.1")
    processes = [start("dask", "scheduler", "--port", port, *options, folder=tmp_path)]
    try:
        wait_for_scheduler(address)
        with pytest.raises(BadInput, match="has no workers; start some"):
            trainers.compare(arms=ARMS, backend="dask", scheduler=address, out=tmp_path / "out", **SMALL)
        worker = ("dask", "worker", address, "--nthreads", "1", "--no-nanny", *options)
        processes.append(start(*worker, folder=elsewhere, path=elsewhere))
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
        with socket.socket() as actual:
            if actual.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                return
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "dask"], "--scheduler must be the address"),
        (["--scheduler", "tcp://127.0.0.1:8786"], "without --backend dask"),
        (["--backend", "threads"], "one of loky, dask"),
        (["--backend", "dask", "--scheduler", "tcp://127.0.0.1:1"], "does not answer"),
        (["--backend", "dask", "--scheduler", "nonsense"], "does not answer"),
        (["--backend", "dask", "--scheduler", "tcp://127.0.0.1:8786", "--workers", "2"], "must be left out"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=re.escape(message)):
        main(["compare", *options])
    assert not list(tmp_path.iterdir())
