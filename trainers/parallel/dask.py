"""Runs on a Dask cluster, through joblib's `dask` backend.

This process is a client: it accepts no connections. The workers are checked before any run
begins, because Dask reports a job that a worker cannot unpack only after a long time. TLS is
set up in Dask's own configuration (`distributed.comm.tls`), which its processes read too.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import distributed
import joblib
from joblib._dask import DaskDistributedBackend

from trainers.parallel.jobs import Job, Outcome, attempt
from trainers.training.progress import say
from zoo import data, startup
from zoo.errors import BadInput, RunFailed
from zoo.files import write_text
from zoo.versions import versions

REACHED, ANSWERED = 5, 60  # seconds for the scheduler and a first worker; for the answers of all workers
ROUNDS = 2  # how often a job is given to Dask, which itself tries it 4 times (allowed-failures)


@contextlib.contextmanager
def connected(scheduler: str, threads: int | None = None) -> Iterator["Cluster"]:
    """A context with the `Cluster` whose scheduler is at an address; at its end, waiting jobs are cancelled."""
    # An error is reported in one message of ours, without Dask's own lines around it.
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
    with ThreadPoolExecutor(1) as thread:  # in a notebook, this thread already runs an event loop
        thread.submit(asyncio.run, _reach(scheduler)).result()
    with distributed.Client(scheduler, timeout=REACHED, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=REACHED)
        except TimeoutError:
            raise _refused(
                scheduler, "has no workers; start some with `dask worker ADDRESS --host 127.0.0.1 --nthreads 1`"
            ) from None
        if open_to := exposed(client):
            say(
                False,
                f"warning: the Dask cluster at {scheduler} listens beyond this machine without TLS, at "
                f"{', '.join(open_to)}: whoever reaches it can run code there; start each of its processes with --host "
                "127.0.0.1 and --dashboard-address 127.0.0.1:0, or with TLS (docs/guides/machines.md)",
            )
        yield Cluster(client, scheduler, threads)


async def _reach(address):
    """Refuses an address without a scheduler. `Client` itself would wait for ever for some other services."""
    try:
        options = distributed.Security().get_connection_args("client")
        async with asyncio.timeout(REACHED), distributed.rpc(address, connection_args=options) as there:
            kind = (await there.identity())["type"]
        why = None if kind == "Scheduler" else f"a {kind} does"
    except Exception as error:  # a wrong address, nothing there, or another protocol
        why = str(error) or type(error).__name__
    if why:
        raise BadInput(
            f"--scheduler must be the tcp://HOST:PORT (tls:// with TLS) of a Dask scheduler, got {address}, which does "
            f"not answer within {REACHED} s ({why}); start one with `dask scheduler --host 127.0.0.1 "
            "--dashboard-address 127.0.0.1:8787`"
        )


def _refused(scheduler, what):
    return BadInput(f"--scheduler {scheduler} {what}")


def exposed(client: distributed.Client) -> list[str]:
    """Returns the addresses beyond loopback at which a cluster listens without TLS, as `ADDRESS:PORT (WHO)`.

    Each process is asked for its sockets: the addresses that a scheduler gives to others do not
    show that it listens at more. A process that cannot be asked counts by its own address.
    """

    def listening():  # a local function goes to a process with its code: a scheduler may lack this project
        import psutil  # of which Dask itself consists

        connections = psutil.Process().net_connections("inet")
        return [tuple(each.laddr) for each in connections if each.status == psutil.CONN_LISTEN]

    info = client.scheduler_info(n_workers=-1)
    asked = [("scheduler", {info["address"]: _asked(client.run_on_scheduler, listening)})]
    for who, more in (("worker", {}), ("nanny", {"nanny": True})):
        sockets_by_worker = _asked(lambda more=more: client.run(listening, on_error="return", **more))
        known = {name: details.get("nanny") if more else name for name, details in info["workers"].items()}
        asked.append((who, {own: (sockets_by_worker or {}).get(name) for name, own in known.items() if own}))
    open_addresses = set()
    for who, sockets in asked:
        for own, addresses in sockets.items():
            scheme, host, port = _parts(own)
            if not isinstance(addresses, list | tuple):
                addresses = [(host, port)]
            for ip, number, *_ in addresses:
                if not _is_loopback(ip) and not (scheme == "tls" and number == port):
                    open_addresses.add(f"{f'[{ip}]' if ':' in ip else ip}:{number} ({who})")
    return sorted(open_addresses)


def _asked(ask, *details):
    """Returns the answer, or None if the process cannot answer, which is no reason to refuse it."""
    try:
        return ask(*details)
    except Exception:  # whatever happened there is raised here
        return None


def _parts(address):
    """Returns the scheme, host and port of an address of Dask."""
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.rpartition(":")
    return scheme, host.strip("[]"), int(port) if port.isdigit() else None


def _is_loopback(host):
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class Cluster:
    """All workers of a Dask cluster. It has the methods of `trainers.parallel.processes.Processes`."""

    def __init__(self, client: distributed.Client, scheduler: str, threads: int | None):
        self._client, self._scheduler, self._threads = client, scheduler, threads

    def check_data(self, dataset: str, where: dict) -> None:
        """Raises `BadInput` if a worker has other versions than this process, or cannot load the data set."""
        self._ask(hindrance, environment(), self._threads, dataset, where)

    def shared(self, folder: str | Path) -> Path:
        """Returns the path of `folder` for all workers. Raises `BadInput` if a worker does not share it."""
        sign, word = Path(folder).absolute() / ".seen-by-workers", uuid.uuid4().hex
        write_text(sign, word)
        try:
            self._ask(blindness, str(sign), word)
        finally:
            sign.unlink(missing_ok=True)
        return sign.parent

    def workers(self, jobs: int) -> int:
        """Returns the number of jobs that run at the same time, of `jobs`."""
        return max(1, min(jobs, len(self._client.nthreads())))

    def carry_out(self, jobs: list[Job], **options: object) -> Iterator[Outcome]:
        """Carries out all `jobs`, yielding each `Outcome` when it is known.

        The jobs of a killed worker are resumed from their checkpoints. Dask counts the death of a
        worker against every job that was waiting there, and gives up a job after several. Those
        jobs get another round, because most of them did not cause it. `options` are passed to
        `trainers.training.train.run`.
        """
        for _ in range(ROUNDS):
            parallel = joblib.Parallel(
                backend=_Backend(client=self._client),
                return_as="generator_unordered",
                batch_size=1,
                pre_dispatch="all",  # so that workers that join later get jobs too
            )
            given_up = []
            for outcome in parallel(joblib.delayed(attempt_alone)(job, self._threads, options) for job in jobs):
                if outcome.metrics or outcome.message:
                    yield outcome
                else:
                    given_up.append(outcome.job)
            jobs = given_up
            if not jobs:
                return
        message = "its worker processes were killed repeatedly; give them more memory"
        yield from (Outcome(job, message=message) for job in jobs)

    def _ask(self, question, *details):
        """Asks every worker a question; the answer is why the worker cannot take part, or None."""
        try:
            # `run` passes the timeout to `Client.sync` and all other arguments to the question.
            replies = self._client.run(question, *details, on_error="return", callback_timeout=ANSWERED)
        except TimeoutError:
            raise _refused(
                self._scheduler, f"has workers that did not answer within {ANSWERED} s; restart them"
            ) from None
        bad = {worker: answer for worker, answer in sorted(replies.items()) if answer is not None}
        if bad:
            worker, answer = next(iter(bad.items()))
            # A missing module is noticed while the question is unpacked, and is reported as text.
            if isinstance(answer, ImportError) or "ModuleNotFoundError" in str(answer):
                answer = (
                    f"cannot import what the runs need ({answer}); install this project there with "
                    "`pip install .` or, in a checkout, `pip install -r requirements.txt`"
                )
            elif isinstance(answer, Exception):
                answer = f"could not answer ({type(answer).__name__}: {answer}); restart it"
            raise _refused(
                self._scheduler, f"has {len(replies)} workers, of which {len(bad)} cannot take part: {worker} {answer}"
            )


class _Backend(DaskDistributedBackend):
    """joblib's Dask backend, with jobs that Dask gives up reported."""

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Returns the threads of the cluster, at least 2: with 1, joblib would train in this process."""
        return max(2, super().effective_n_jobs(n_jobs))

    def submit(self, func: object, callback: object = None) -> object:
        """Submits a job to Dask; if Dask gives it up, which joblib does not notice, it gets an outcome too."""
        [(_, (job, *_), _)] = func.items

        def settle(future):
            error = future.exception()
            if isinstance(error, distributed.KilledWorker):
                callback([Outcome(job)])
            elif error is not None:
                callback([Outcome(job, message=f"its worker could not start it: {type(error).__name__}: {error}")])

        future = super().submit(func, callback)
        future.add_done_callback(settle)
        return future

    def retrieve_result_callback(self, out):
        if isinstance(out, BaseException):  # the reason why there is no result
            raise RunFailed(f"the Dask cluster was lost or restarted: {out}; continue with --resume")
        return super().retrieve_result_callback(out)


# === On a worker ===

_alone = threading.Lock()


def attempt_alone(job: Job, threads: int | None, options: dict) -> Outcome:
    """Carries out one job at a time: TensorFlow's threads and Keras' state belong to the whole process."""
    with _alone:
        return attempt(job, None, threads or distributed.get_worker().state.nthreads, options)


def environment() -> dict[str, str]:
    """Returns the versions that must be equal on a worker and in this process."""
    installed = versions(("tensorflow", "keras"))
    return installed | {"python": installed["python"].rpartition(".")[0]}


def hindrance(wanted: dict, threads: int | None, dataset: str, where: dict, dask_worker: object) -> str | None:
    """Returns why this worker's runs would differ from those of the client, whose versions are `wanted`."""
    installed, threads = environment(), threads or dask_worker.state.nthreads
    if installed != wanted:
        ours, theirs = (", ".join(f"{k} {v}" for k, v in each.items()) for each in (wanted, installed))
        return f"has {theirs}, but this machine has {ours}; install the same versions there"
    try:
        data.check_ready(dataset, **where)
    except BadInput as error:
        return f"cannot load the data: {error}"
    # TensorFlow's threads are set once per process: an earlier job may have set them.
    if "tensorflow" in sys.modules and (settled := startup.tensorflow(threads)) != threads:
        return f"uses {settled} threads since its first run; add --threads {settled}, or restart it"
    return None


def blindness(sign: str, word: str) -> str | None:
    """Returns why this worker cannot write its runs beside the file `sign`, which holds `word`; None if it can."""
    folder = Path(sign).parent
    try:
        if Path(sign).read_text(encoding="utf-8") == word and os.access(folder, os.W_OK):
            return None
        why = "it is another folder there, or is not writable"
    except OSError as error:
        why = error.strerror or str(error)
    return f"does not share {folder} ({why}); choose an --out that is the same folder on all machines"
