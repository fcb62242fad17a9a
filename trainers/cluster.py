"""Many runs on a Dask cluster, through joblib's `dask` backend.

This side is a client and listens to nobody. What the workers are is found out before
any run begins: to a job that a worker cannot even unpack, Dask says nothing for long.
"""

import asyncio
import contextlib
import importlib.metadata
import logging
import os
import platform
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import distributed
import joblib
from joblib._dask import DaskDistributedBackend

from trainers import pool
from zoo import data, startup
from zoo.errors import BadInput, RunFailed
from zoo.files import write_text

REACHED, ANSWERED = 5, 60  # seconds for the scheduler and a first worker; for all workers' answers
ROUNDS = 2  # a job is given to Dask so often, which itself tries it 4 times (allowed-failures)


@contextlib.contextmanager
def connected(scheduler, threads=None):
    """The `Cluster` whose scheduler is at an address; at the end, what still waits there is cancelled."""
    # What goes wrong is said in one message of ours; Dask's own lines would stand around it.
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)
    with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has its event loop running already
        thread.submit(asyncio.run, _reach(scheduler)).result()
    with distributed.Client(scheduler, timeout=REACHED, set_as_default=False) as client:
        try:
            client.wait_for_workers(1, timeout=REACHED)
        except TimeoutError:
            raise _refused(scheduler, "has no workers; start some with `dask worker ADDRESS --nthreads 1`") from None
        yield Cluster(client, scheduler, threads)


async def _reach(address):
    """Refuse an address where no scheduler is. `Client` itself would wait there for ever for some strangers."""
    try:
        async with asyncio.timeout(REACHED), distributed.rpc(address) as there:
            kind = (await there.identity())["type"]
        why = None if kind == "Scheduler" else f"a {kind} does"
    except Exception as error:  # a wrong address, nobody there, or somebody who speaks otherwise
        why = str(error) or type(error).__name__
    if why:
        raise BadInput(
            f"received --scheduler {address}, where no Dask scheduler answers within {REACHED} s ({why}); it is "
            "written tcp://HOST:PORT: name the one that runs, or start one with `dask scheduler --host 127.0.0.1`"
        )


def _refused(scheduler, what):
    return BadInput(f"received --scheduler {scheduler}, which {what}")


class Cluster:
    """All workers of a Dask cluster; does what `pool.Processes` does."""

    def __init__(self, client, scheduler, threads):
        self._client, self._scheduler, self._threads = client, scheduler, threads

    def check_data(self, dataset, where):
        """Refuse workers that are not like this process, or could not load the data set."""
        self._ask(hindrance, versions(), self._threads, dataset, where)

    def shared(self, folder):
        """`folder` as all workers can find it; refuses workers that cannot."""
        sign, word = Path(folder).absolute() / ".seen-by-workers", uuid.uuid4().hex
        write_text(sign, word)
        try:
            self._ask(blindness, str(sign), word)
        finally:
            sign.unlink(missing_ok=True)
        return sign.parent

    def carry_out(self, jobs, **options):
        """Run all `jobs`, yielding each `Outcome` as it comes; `options` go to `trainers.train.run`.

        A killed worker's jobs are run again, from their checkpoints. Dask counts its death
        against every job that was waiting there, and gives a job up after some; those get
        another round, among themselves, since most are not to blame.
        """
        for _ in range(ROUNDS):
            parallel = joblib.Parallel(
                backend=_Backend(client=self._client),
                return_as="generator_unordered",
                batch_size=1,
                pre_dispatch="all",  # workers that join later get their share
            )
            given_up = []
            for outcome in parallel(joblib.delayed(attempt)(job, self._threads, options) for job in jobs):
                if outcome.metrics or outcome.message:
                    yield outcome
                else:
                    given_up.append(outcome.job)
            jobs = given_up
            if not jobs:
                return
        message = "the worker processes it was given to were killed, again and again; give them more memory"
        yield from (pool.Outcome(job, message=message) for job in jobs)

    def _ask(self, question, *details):
        """Put a question to every worker; its answer is what keeps it from taking part, or None."""
        try:
            # `run` hands the timeout on to `Client.sync`, all other arguments to the question.
            answers = self._client.run(question, *details, on_error="return", callback_timeout=ANSWERED)
        except TimeoutError:
            raise _refused(
                self._scheduler, f"has workers that did not answer within {ANSWERED} s; restart them"
            ) from None
        bad = {worker: answer for worker, answer in sorted(answers.items()) if answer is not None}
        if bad:
            worker, answer = next(iter(bad.items()))
            # A module that is missing is missed while the question is unpacked, and comes back as text.
            if isinstance(answer, ImportError) or "ModuleNotFoundError" in str(answer):
                answer = (
                    f"cannot import what the runs need ({answer}); start it where it can, "
                    "as with PYTHONPATH=FOLDER, the one that holds trainers/ and zoo/"
                )
            elif isinstance(answer, Exception):
                answer = f"could not answer ({type(answer).__name__}: {answer}); restart it"
            raise _refused(self._scheduler, f"has workers, {len(bad)} of {len(answers)} unfit: {worker} {answer}")


class _Backend(DaskDistributedBackend):
    """joblib's own, but for what it leaves to others."""

    def effective_n_jobs(self, n_jobs):
        """The cluster's threads; with one alone, joblib would train in this process."""
        return max(2, super().effective_n_jobs(n_jobs))

    def submit(self, func, callback=None):
        """Hand a job to Dask; when Dask gives it up, which joblib never hears of, it has an outcome too."""
        [(_, (job, *_), _)] = func.items

        def settle(future):
            error = future.exception()
            if isinstance(error, distributed.KilledWorker):
                callback([pool.Outcome(job)])
            elif error is not None:
                callback([pool.Outcome(job, message=f"its worker could not take it: {type(error).__name__}: {error}")])

        future = super().submit(func, callback)
        future.add_done_callback(settle)
        return future

    def retrieve_result_callback(self, out):
        if isinstance(out, BaseException):  # not a result: why there is none
            raise RunFailed(f"the Dask cluster was lost or restarted ({out}); go on with --resume")
        return super().retrieve_result_callback(out)


# === On a worker ===

_alone = threading.Lock()


def attempt(job, threads, options):
    """One job; one at a time, since TensorFlow's threads and Keras' state are the whole process's."""
    with _alone:
        return pool.attempt(job, None, threads or distributed.get_worker().state.nthreads, options)


def versions():
    """What has to be equal for a worker's run to be this process's."""
    found = {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}
    return {"python": ".".join(platform.python_version_tuple()[:2]), **found}


def hindrance(wanted, threads, dataset, where, dask_worker):
    """Why this worker's runs would not be those of the client, whose versions are `wanted`."""
    found, threads = versions(), threads or dask_worker.state.nthreads
    if found != wanted:
        ours, theirs = (", ".join(f"{k} {v}" for k, v in each.items()) for each in (wanted, found))
        return f"has {theirs}, here it is {ours}; install there what is here"
    try:
        data.check_ready(dataset, **where)
    except BadInput as error:
        return f"cannot load the data: {error}"
    # TensorFlow's threads are set once in a process: an earlier job may have settled them.
    if "tensorflow" in sys.modules and (settled := startup.tensorflow(threads)) != threads:
        return f"computes with {settled} threads since its first run; add --threads {settled}, or restart it"
    return None


def blindness(sign, word):
    """Why this worker could not write its runs beside the file `sign`, which holds `word`."""
    folder = Path(sign).parent
    try:
        if Path(sign).read_text(encoding="utf-8") == word and os.access(folder, os.W_OK):
            return None
        why = "it is another folder there, or cannot be written"
    except OSError as error:
        why = error.strerror or str(error)
    return f"does not share {folder} ({why}); name an --out that is the same folder on all machines"
