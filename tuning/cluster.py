"""A search over several processes or machines, on keras-tuner's own chief-worker service.

The chief asks the tuner and keeps the journal; workers take trials from it over gRPC and
train them. The service knows no passwords: it listens on loopback unless an address is
given, and belongs on a private network.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path

from trainers import pool
from zoo.errors import BadInput, RunFailed

LOOPBACK = "127.0.0.1"
FIRST_SECONDS = 60.0  # how long a worker waits for a chief that it has never heard
PATIENCE_SECONDS = 600.0  # how long for one that has been there: it may be restarted
FAREWELL_SECONDS = 10.0  # how long a chief answers "stopped" after the end
LAUNCHES = 10  # how often a worker that ends badly is replaced

os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def check_address(text, option):
    """`HOST:PORT` as (host, port), or `BadInput`."""
    host, colon, port = str(text).rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise BadInput(f"received {option} {text!r}; it is HOST:PORT, as in {LOOPBACK}:8470")
    return host, int(port)


# === The chief ===


@contextlib.contextmanager
def serving(study, address):
    """Answer workers at `address` while the block runs; gives the port, chosen by the system if it is 0."""
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=[("grpc.so_reuseport", 0)])
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(study), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise BadInput(f"cannot listen at {address}: it is in use, or not an address of this machine") from None
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=1).wait()


def serve(study, address, say):
    """Let workers on other machines carry the search out; returns when it is over."""
    host, _ = check_address(address, "--chief")
    with serving(study, address) as port:
        say(f"waiting for workers at {host}:{port}: python -m tuning cluster --worker {host}:{port}")
        while not study.over:
            time.sleep(0.5)
        time.sleep(FAREWELL_SECONDS)  # every worker asks once more, and hears that it is over


# === Workers ===


def work(address, name=None, out=None, threads=None, data_dir=None, download=False, parent=None):
    """Take trials from the chief at `address` until its search is over, as `cluster --worker` does.

    Raises `RunFailed` when no chief answers, `BadInput` when it runs other versions.
    """
    import socket

    from tuning.request import versions
    from tuning.worker import Worker
    from zoo import startup

    host, port = check_address(address, "--worker")
    if parent:
        pool.end_with(parent)
    startup.tensorflow(threads)
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    study = _Client(host, port, name)
    about = json.loads(study.get_space().get("about"))
    ours = versions()
    other = [
        f"{key} {ours.get(key)}, not {value}" for key, value in about["versions"].items() if ours.get(key) != value
    ]
    if other:
        raise BadInput(
            f"this worker differs from the chief at {address}: {'; '.join(other)}; install the same versions"
        )
    out = Path(out or Path("runs") / f"worker-{name}")
    Worker(name, study, json.dumps(about), out, threads, data_dir=data_dir, download=download).work()


class _Client:
    """keras-tuner's client of the service, which waits for a chief that is being restarted."""

    def __init__(self, host, port, name):
        import grpc
        from keras_tuner.src.distribute import oracle_client

        self._address, self._grpc = f"{host}:{port}", grpc
        try:
            with grpc.insecure_channel(self._address) as channel:
                grpc.channel_ready_future(channel).result(timeout=FIRST_SECONDS)
        except grpc.FutureTimeoutError:
            raise RunFailed(
                f"no chief answers at {self._address}; start it with python -m tuning cluster --chief {self._address}"
            ) from None
        oracle_client.TIMEOUT = PATIENCE_SECONDS
        where = {"KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": str(port), "KERASTUNER_TUNER_ID": name}
        with _environment(where):
            self._client = oracle_client.OracleClient(None)

    def __getattr__(self, name):
        call = getattr(self._client, name)

        def patient(*args, **kwargs):
            until = time.monotonic() + PATIENCE_SECONDS
            while True:
                try:
                    return call(*args, **kwargs)
                except self._grpc.RpcError as error:
                    away = error.code() in (self._grpc.StatusCode.UNAVAILABLE, self._grpc.StatusCode.CANCELLED)
                    if not away or time.monotonic() > until:
                        raise RunFailed(
                            f"the chief at {self._address} does not answer any more ({error.code().name.lower()}); "
                            "restart it with --resume, then this worker"
                        ) from error
                    time.sleep(1)

        return patient


@contextlib.contextmanager
def _environment(values):
    """Environment variables for the time of a block: left behind, they would send every later tuner to this chief."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


# === Several workers on this machine ===


def spread(study, out, workers, threads, where):
    """Carry the search out in `workers` processes; one that is killed is replaced, and its trial run again."""
    workers, threads = pool.share(workers, workers, threads)
    with serving(study, f"{LOOPBACK}:0") as port:
        command = [sys.executable, "-m", "tuning", "cluster", "--worker", f"{LOOPBACK}:{port}", "--out", str(out)]
        command += ["--threads", str(threads), "--parent", str(os.getpid())]
        command += ["--data-dir", str(where["data_dir"])] if where["data_dir"] else []
        command += ["--download"] if where["download"] else []
        running, launches = {}, 0
        try:
            for name in map(str, range(workers)):
                running[name] = subprocess.Popen([*command, "--name", name])
            while running:
                time.sleep(0.1)
                for name, process in list(running.items()):
                    code = process.poll()
                    if code == 0:
                        del running[name]
                    elif code is not None:
                        launches += 1
                        if launches > LAUNCHES:
                            raise RunFailed(f"worker processes ended {launches} times, the last with code {code}")
                        running[name] = subprocess.Popen([*command, "--name", name])
        finally:
            for process in running.values():
                process.kill()
            for process in running.values():
                process.wait()
