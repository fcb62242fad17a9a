"""A search over several processes or machines, on keras-tuner's own chief-worker service.

The chief asks the tuner and keeps the journal; workers take trials from it over gRPC and
train them. It listens at the address that it is given and nowhere else, and answers only
those who hold its token (`tuning.token`). What passes is not encrypted.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

from trainers.parallel.jobs import end_with
from trainers.parallel.processes import share
from trainers.training.progress import Phases, duration, say
from tuning import token
from zoo.checks import MOST, shown
from zoo.errors import BadInput, CannotWrite, RunFailed
from zoo.versions import versions

LOOPBACK = "127.0.0.1"
FIRST_SECONDS = 60.0  # how long a worker waits for a chief that has never answered
PATIENCE_SECONDS = 600.0  # how long it waits for a chief that has answered before: it may be restarted
WAITING_SECONDS = 2.0  # between two lines about a chief that does not answer
FAREWELL_SECONDS = 10.0  # how long a chief answers "stopped" after the end
_NONCE, _PROOF = "dropout-zoo-nonce", "dropout-zoo-proof"  # keys of gRPC metadata
LAUNCHES = 10  # how often a worker process that crashes is replaced

os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def check_address(text: str, option: str) -> tuple[str, int]:
    """Returns `HOST:PORT` as (host, port).

    Args:
        text: the address.
        option: the option that it was given for, for the message.

    Raises:
        BadInput: the text is not an address.

    Examples:
        >>> check_address("10.0.0.5:8470", "--chief")
        ('10.0.0.5', 8470)
    """
    host, colon, port = str(text).rpartition(":")
    number = int(port) if port.isascii() and port.isdecimal() and len(port) < 6 else -1
    if not colon or not host or not host.isprintable() or len(host) > 255 or not 0 <= number <= MOST["port"]:
        raise BadInput(f"{option} must be HOST:PORT, as in {LOOPBACK}:8470, got {shown(text)}")
    return host, number


# === The chief ===


@contextlib.contextmanager
def serving(study: Any, address: str, token: str) -> Iterator[int]:
    """A context in which `study` answers workers at `address`; gives the port, which the system chooses if it is 0.

    Args:
        study: the `Study`.
        address: `HOST:PORT` of this machine.
        token: what workers must hold.

    Raises:
        BadInput: the address is in use, or is not an address of this machine.
    """
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=4), interceptors=[_guard(token)], options=[("grpc.so_reuseport", 0)]
    )
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(study), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise BadInput(
            f"cannot listen at {address}: it is in use, or is not an address of this machine; choose another port"
        ) from None
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=1).wait()


def _guard(secret):
    """Returns what answers only calls with a proof of the token; of other calls, nothing is read."""
    import grpc

    class Guard(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            given = {key: value for key, value in details.invocation_metadata if key in (_NONCE, _PROOF)}
            expected = token.proof(secret, "worker", details.method, str(given.get(_NONCE)))
            if not token.same(given.get(_PROOF, ""), expected):
                return grpc.unary_unary_rpc_method_handler(stranger)
            handler = continuation(details)
            if handler is None or handler.unary_unary is None:
                return handler

            def answer(request, context):
                context.send_initial_metadata(((_PROOF, token.proof(secret, "chief", given[_NONCE])),))
                try:
                    return handler.unary_unary(request, context)
                except BadInput as error:
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

            return grpc.unary_unary_rpc_method_handler(
                answer, handler.request_deserializer, handler.response_serializer
            )

    def stranger(request, context):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token of this chief is needed")

    return Guard()


def serve(study: Any, address: str, tell: Callable[[str], None], secret: str, file: Path | None = None) -> None:
    """Lets workers on other machines carry out the search; returns when it is over.

    Args:
        study: the `Study`.
        address: `HOST:PORT` of this machine.
        tell: prints a line.
        secret: the token of the workers.
        file: the file that holds it, or None if the environment does.
    """
    host, _ = check_address(address, "--chief")
    with serving(study, address, secret) as port:
        command = ["python", "-m", "tuning", "cluster", "--worker", f"{host}:{port}"]
        command += ["--token-file", str(file.absolute())] if file else []
        tell(f"waiting for workers at {host}:{port}; start them with")
        tell(f"  {shlex.join(command)}")
        if file is None:
            tell(f"where {token.VARIABLE} has the same value as here")
        else:
            tell(f"on another machine, with a copy of {file} that only you can read")
        while not study.over:
            time.sleep(0.5)
        tell("the search is over; telling the workers")
        time.sleep(FAREWELL_SECONDS)  # each worker asks once more and learns that the search is over


# === Workers ===


def work(
    address: str,
    name: str | None = None,
    out: str | Path | None = None,
    threads: int | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    parent: int | None = None,
    token_file: str | Path | None = None,
) -> None:
    """Takes trials from the chief at `address` until its search is over, as `cluster --worker` does.

    Args:
        address: `HOST:PORT` of the chief.
        name: name of this worker (default: host and process id); a worker that is restarted
            under its name gets its trial back.
        out: the folder for its runs (default: `runs/worker-NAME`).
        threads: threads of an operation (default: all cores).
        data_dir: the folder in which TFDS keeps its data (default `TFDS_DATA_DIR`).
        download: allows TFDS to download the data set.
        parent: id of the process with which this worker ends, and which prints the progress.
        token_file: a copy of the chief's token (default: the variable `DROPOUT_ZOO_TOKEN`).

    Raises:
        RunFailed: no chief answers.
        BadInput: the chief has another token, or other versions of the packages.
        KeyboardInterrupt: Ctrl-C was pressed. The message holds the command that restarts this worker.
    """
    import socket

    from tuning.request import PACKAGES
    from zoo import startup

    host, port = check_address(address, "--worker")
    secret = token.of_worker(token_file)
    if parent:
        end_with(parent)
    name, quiet = name or f"{socket.gethostname()}-{os.getpid()}", parent is not None
    with Phases("starting TensorFlow", quiet) as phases:
        say(quiet, f"worker {name}: starting TensorFlow")
        startup.tensorflow(threads)
        from tuning.study import label
        from tuning.worker import Worker, versions_of

        phases.begin(f"waiting for the chief at {address}")
        study = _Client(host, port, name, quiet, secret)
        about = study.get_space().get("about")
        theirs, ours = versions_of(about), versions(PACKAGES)
        other = [f"{key} {ours.get(key)}, not {value}" for key, value in theirs.items() if ours.get(key) != value]
        if other:
            raise BadInput(
                f"versions must be those of the chief at {address}, got {'; '.join(other)}; install the same versions"
            )
        say(quiet, f"joined {address}")
        phases.begin("waiting for a trial")

        def ended(trial_id, error, message):
            outcome = f"FAILED: {message}" if error is None else f"{error:.2f} %"
            say(quiet, f"finished {label(trial_id)}: {outcome}")
            phases.begin("waiting for a trial")

        def started(trial_id):
            say(quiet, f"training {label(trial_id)}")
            phases.begin(f"training {label(trial_id)}")

        out = Path(out or Path("runs") / f"worker-{name}")
        where = {"data_dir": data_dir, "download": download}
        try:
            Worker(name, study, about, out, threads, started, ended, **where).work()
        except KeyboardInterrupt:
            command = ["python", "-m", "tuning", "cluster", "--worker", address, "--name", name, "--out", str(out)]
            command += ["--token-file", str(token_file)] if token_file else []
            command += ["--data-dir", str(data_dir)] if data_dir else []
            command += ["--threads", str(threads)] if threads else []
            raise KeyboardInterrupt(f"interrupted: restart this worker with\n  {shlex.join(command)}") from None
    say(quiet, f"the search at {address} is over; the runs are in {out}")


class _Client:
    """keras-tuner's client of the service, with proofs of the token; it waits for a chief that is restarted."""

    def __init__(self, host, port, name, quiet, secret):
        import grpc
        from keras_tuner.src import protos
        from keras_tuner.src.distribute import oracle_client

        self._address, self._grpc, self._quiet = f"{host}:{port}", grpc, quiet
        self._wait_for_chief()
        oracle_client.TIMEOUT = PATIENCE_SECONDS
        where = {"KERASTUNER_ORACLE_IP": host, "KERASTUNER_ORACLE_PORT": str(port), "KERASTUNER_TUNER_ID": name}
        with _environment(where):
            self._client = oracle_client.OracleClient(None)
        channel = grpc.intercept_channel(grpc.insecure_channel(self._address), _prover(secret, self._address))
        self._client.stub = protos.get_service_grpc().OracleStub(channel)

    def _wait_for_chief(self):
        """Returns when the chief answers; a line every few seconds says how long it still waits."""
        until = time.monotonic() + FIRST_SECONDS
        with self._grpc.insecure_channel(self._address) as channel:
            ready = self._grpc.channel_ready_future(channel)
            while (left := until - time.monotonic()) > 0:
                try:
                    return ready.result(timeout=min(WAITING_SECONDS, left))
                except self._grpc.FutureTimeoutError:
                    self._say_waiting(until)
        raise RunFailed(
            f"no chief answers at {self._address}; start it with python -m tuning cluster --chief {self._address}"
        )

    def _say_waiting(self, until):
        left = max(0, until - time.monotonic())
        say(self._quiet, f"waiting for the chief at {self._address}, for up to {duration(left)} more")

    def _refuse(self, error):
        """Raises what a chief answers that does not accept the token, or what it was told."""
        if error.code() is self._grpc.StatusCode.UNAUTHENTICATED:
            raise BadInput(
                f"--token-file must be a copy of the file of the chief at {self._address}, got another token; copy "
                "it again"
            ) from None
        if error.code() is self._grpc.StatusCode.INVALID_ARGUMENT:
            raise RunFailed(
                f"the chief at {self._address} refuses the report of this worker: {error.details()}"
            ) from None

    def __getattr__(self, name):
        call = getattr(self._client, name)

        def patient(*args, **kwargs):
            until, last_line = time.monotonic() + PATIENCE_SECONDS, -WAITING_SECONDS
            while True:
                try:
                    return call(*args, **kwargs)
                except self._grpc.RpcError as error:
                    self._refuse(error)
                    away = error.code() in (self._grpc.StatusCode.UNAVAILABLE, self._grpc.StatusCode.CANCELLED)
                    if not away or time.monotonic() > until:
                        raise RunFailed(
                            f"the chief at {self._address} no longer answers ({error.code().name.lower()}); "
                            "restart it with --resume, then this worker"
                        ) from error
                    if time.monotonic() - last_line >= WAITING_SECONDS:
                        self._say_waiting(until)
                        last_line = time.monotonic()
                    time.sleep(1)

        return patient


def _prover(secret, address):
    """Returns what adds proofs of the token to the calls of a worker, and checks those of the answers."""
    import grpc

    class Details(grpc.ClientCallDetails):
        def __init__(self, details, metadata):
            self.method, self.timeout, self.credentials = details.method, details.timeout, details.credentials
            self.wait_for_ready, self.compression = details.wait_for_ready, details.compression
            self.metadata = metadata

    class Prover(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, details, request):
            nonce = token.made()
            metadata = ((_NONCE, nonce), (_PROOF, token.proof(secret, "worker", details.method, nonce)))
            call = continuation(Details(details, metadata), request)
            if call.code() is grpc.StatusCode.OK:
                given = dict(call.initial_metadata()).get(_PROOF, "")
                if not token.same(given, token.proof(secret, "chief", nonce)):
                    raise BadInput(
                        f"--worker must be the address of a chief with the same token, got {address}, where another "
                        "service answers"
                    )
            return call

    return Prover()


@contextlib.contextmanager
def _environment(values):
    """Sets environment variables inside a block; left behind, they would send every later tuner to this chief."""
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


def spread(study: Any, out: str | Path, workers: int, threads: int | None, where: dict) -> None:
    """Carries out the search in `workers` processes; a killed one is replaced and its trial repeated.

    Args:
        study: the `Study`.
        out: the folder of the search.
        workers: number of processes.
        threads: threads of each process (default: the cores, divided).
        where: `data_dir` and `download` of the data set.

    Raises:
        RunFailed: the processes crashed too often.
        CannotWrite: a process could not write its files; it has said why.
    """
    workers, threads = share(workers, workers, threads)
    secret = token.made()  # every user of this machine can reach its loopback
    with serving(study, f"{LOOPBACK}:0", secret) as port:
        command = [sys.executable, "-m", "tuning", "cluster", "--worker", f"{LOOPBACK}:{port}", "--out", str(out)]
        command += ["--threads", str(threads), "--parent", str(os.getpid())]
        command += ["--data-dir", str(where["data_dir"])] if where["data_dir"] else []
        command += ["--download"] if where["download"] else []
        running, launches = {}, 0
        try:
            for name in map(str, range(workers)):
                running[name] = _launched([*command, "--name", name], secret)
            while running:
                time.sleep(0.1)
                for name, process in list(running.items()):
                    code = process.poll()
                    if code == 0:
                        del running[name]
                    elif code == 2:
                        raise CannotWrite(f"worker {name} ended with the message above; resume with --resume")
                    elif code is not None:
                        launches += 1
                        if launches > LAUNCHES:
                            raise RunFailed(
                                f"worker processes crashed {launches} times, the last with exit code {code}; "
                                "fewer --workers need less memory"
                            )
                        running[name] = _launched([*command, "--name", name], secret)
        finally:
            for process in running.values():
                process.kill()
            for process in running.values():
                process.wait()


def _launched(command, secret):
    """Starts a process in a session of its own: Ctrl-C reaches the chief alone, which ends its workers."""
    return subprocess.Popen(command, start_new_session=True, env={**os.environ, token.VARIABLE: secret})
