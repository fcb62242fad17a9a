"""A chief and its workers answer only those who hold their token, and believe nothing that cannot be."""

import json
import os
import stat
import subprocess
import sys
from concurrent import futures

import grpc
import keras_tuner
import psutil
import pytest
from keras_tuner.engine.trial import Trial as Answer
from keras_tuner.src import protos

from tuning import oracles, service, token
from tuning.journal import Journal
from tuning.request import Request
from tuning.space import Space
from tuning.study import FIGURES, Study
from tuning.worker import Worker
from zoo.errors import BadInput, RunFailed

TOKEN = "a token for the tests"
GOOD = dict(zip(FIGURES, (12.5, 0.4, 12.0, 13.0, 3, 1.5), strict=True))


@pytest.fixture
def study(tmp_path):
    space = Space.parse(["hidden=0/0.5"])
    return Study(oracles.make("grid", space, 0, 3), space, Journal(tmp_path / "journal.jsonl"), 2, 3, about="{}")


def state(study):
    return study._journal.path.read_bytes() if study._journal.path.exists() else b"", {
        trial.id: (trial.status, dict(trial.executions)) for trial in study.trials.values()
    }


def stub(port):
    return protos.get_service_grpc().OracleStub(grpc.insecure_channel(f"127.0.0.1:{port}"))


def client(port, secret=TOKEN):
    return service._Client("127.0.0.1", port, "tester", True, secret)


# === The token ===


def calls():
    """Every call of the service, with a request."""
    messages = protos.get_service()
    space = keras_tuner.HyperParameters()
    trial = Answer(space, "control", "COMPLETED").to_proto()
    return {
        "GetSpace": messages.GetSpaceRequest(),
        "UpdateSpace": messages.UpdateSpaceRequest(hyperparameters=space.to_proto()),
        "CreateTrial": messages.CreateTrialRequest(tuner_id="stranger"),
        "UpdateTrial": messages.UpdateTrialRequest(trial_id="control", metrics=GOOD, step=0),
        "EndTrial": messages.EndTrialRequest(trial=trial),
        "GetTrial": messages.GetTrialRequest(trial_id="control"),
        "GetBestTrials": messages.GetBestTrialsRequest(num_trials=1),
    }


@pytest.mark.parametrize("name", calls())
@pytest.mark.parametrize("proof", [None, "wrong", "of another call"])
def test_no_call_is_answered_without_a_proof_of_the_token(name, proof, study):
    before = state(study)
    metadata = []
    if proof:
        made = token.proof(TOKEN, "worker", "/another/call", "1") if proof == "of another call" else "0" * 64
        metadata = [("dropout-zoo-nonce", "1"), ("dropout-zoo-proof", made)]
    with service.serving(study, "127.0.0.1:0", TOKEN) as port, pytest.raises(grpc.RpcError) as refusal:
        getattr(stub(port), name)(calls()[name], metadata=metadata, timeout=10)
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert state(study) == before


def test_nothing_of_a_call_without_the_token_is_parsed(study):
    """Bytes that are no message get the same refusal."""
    with service.serving(study, "127.0.0.1:0", TOKEN) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/keras_tuner.Oracle/UpdateTrial")
        with pytest.raises(grpc.RpcError) as refusal:
            call(b"\xff" * 100, timeout=10)
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_worker_with_another_token_is_refused_with_one_message(study):
    with service.serving(study, "127.0.0.1:0", TOKEN) as port, pytest.raises(BadInput, match="got another token"):
        client(port, "a token of somebody else").get_space()


def test_a_chief_without_the_token_is_not_believed():
    """A service that accepts everybody answers, but cannot prove that it holds the token; it has not seen it either."""
    seen = []

    class Everybody(grpc.ServerInterceptor):
        def intercept_service(self, continuation, details):
            seen.extend(details.invocation_metadata)
            return continuation(details)

    class Servicer(protos.get_service_grpc().OracleServicer):
        def GetSpace(self, request, context):  # noqa: N802 (gRPC's name)
            return protos.get_service().GetSpaceResponse(hyperparameters=keras_tuner.HyperParameters().to_proto())

    server = grpc.server(futures.ThreadPoolExecutor(1), interceptors=[Everybody()])
    protos.get_service_grpc().add_OracleServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(BadInput, match="another service answers"):
            client(port).get_space()
    finally:
        server.stop(None)
    assert not any(TOKEN in str(value) for _, value in seen)


def test_the_chief_writes_a_token_that_only_its_owner_can_read(tmp_path, monkeypatch):
    monkeypatch.delenv(token.VARIABLE, raising=False)
    previous = os.umask(0)
    try:
        made, path = token.of_chief(None, tmp_path)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token.of_worker(path) == made
    assert token.of_chief(None, tmp_path) == (made, path)  # so that a chief that is restarted keeps its workers
    assert token.of_chief(tmp_path / "other", tmp_path)[0] != made


def test_the_environment_can_hold_the_token(tmp_path, monkeypatch):
    monkeypatch.setenv(token.VARIABLE, TOKEN)
    assert token.of_chief(None, tmp_path) == (TOKEN, None)
    assert token.of_worker(None) == TOKEN
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "short", "x" * 5000, "not ASCII, é, though long enough"])
def test_a_token_that_is_none_is_refused(text, tmp_path):
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(BadInput, match="at least 16"):
        token.of_worker(path)


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_token_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        token.of_worker(path)


def test_a_worker_needs_a_token(monkeypatch):
    monkeypatch.delenv(token.VARIABLE, raising=False)
    with pytest.raises(BadInput, match="--token-file"):
        service.work("127.0.0.1:1")


# === What is said ===


@pytest.mark.parametrize(
    ("trial", "step", "figures"),
    [
        ("9999", 0, {}),
        ("../../x", 0, {}),
        ("control", 7, {}),
        ("control", -2, {}),
        ("control", 0, {"val_error": -1e9}),
        ("control", 0, {"val_error": 100.5}),
        ("control", 0, {"val_error_best": -1.0}),
        ("control", 0, {"val_error_last": 1e9}),
        ("control", 0, {"val_loss": -0.1}),
        ("control", 0, {"epochs": 0}),
        ("control", 0, {"seconds": -5.0}),
    ],
)
def test_reports_that_cannot_be_are_refused_and_leave_the_study_as_it_was(trial, step, figures, study):
    with service.serving(study, "127.0.0.1:0", TOKEN) as port:
        worker = client(port)
        worker.create_trial("tester")
        before = state(study)
        with pytest.raises(RunFailed, match="nothing was noted"):
            worker.update_trial(trial, GOOD | figures, step=step)
        assert state(study) == before
        worker.update_trial("control", GOOD, step=0)
        assert list(study.trials["control"].executions) == [0]


@pytest.mark.parametrize(
    ("trial", "status"), [("control", "RUNNING"), ("control", "STOPPED"), ("../../x", "COMPLETED")]
)
def test_ends_that_cannot_be_are_refused(trial, status, study):
    before = state(study)
    with pytest.raises(BadInput):
        study.end_trial(Answer(keras_tuner.HyperParameters(), trial, status))
    assert state(study) == before


@pytest.mark.parametrize("name", ["", "x" * 201, "two\nlines", "\x1b[2J"])
def test_a_name_that_would_spoil_the_journal_or_the_terminal_is_refused(name, study):
    with pytest.raises(BadInput, match="name of a worker"):
        study.create_trial(name)


def test_a_figure_that_is_not_finite_still_fails_the_trial(study):
    study.create_trial("tester")
    study.update_trial("control", GOOD | {"val_loss": float("nan")}, step=0)
    assert study.trials["control"].status == "FAILED"


def test_a_journal_that_a_stray_report_spoiled_is_refused_with_one_message(study, tmp_path):
    study._journal.write({"event": "execution", "trial": "nobody", "execution": 0, **GOOD})
    with pytest.raises(BadInput, match="name another --out"):
        Study(oracles.make("grid", study._space, 0, 3), study._space, Journal(tmp_path / "journal.jsonl"), 2, 3)


class Chief:
    """A chief that gives one trial, whatever it is called."""

    def __init__(self, trial_id, status="RUNNING", **values):
        self.space = keras_tuner.HyperParameters()
        self.space.values = values
        self.trial = Answer(self.space, trial_id, status)

    def create_trial(self, worker):
        return self.trial


@pytest.mark.parametrize(
    "chief",
    [
        Chief("../../x"),
        Chief("/x"),
        Chief(".."),
        Chief(""),
        Chief("0001", **{"tuner/trial_id": "../../x"}),
        Chief("0001", **{"tuner/epochs": -1}),
        Chief("0001", **{"tuner/epochs": "all"}),
        Chief("0001", "COMPLETED"),
    ],
)
def test_a_worker_writes_nothing_for_a_trial_that_cannot_be(chief, tmp_path):
    request = Request.make(tune="hidden=0/0.5")
    about = {"space": request.space.to_json(), "plan": request.base.to_json(), "seeds": [0], "keep_checkpoints": True}
    about["versions"] = {}
    worker = Worker("tester", chief, json.dumps(about), tmp_path / "a" / "b" / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadInput, match="from the chief"):
        worker.work()
    assert sorted(tmp_path.rglob("*")) == before


# === As processes ===


def test_the_printed_command_joins_and_the_chief_listens_where_it_was_told_to(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", token.VARIABLE)}
    options = ["--tune", "hidden=0/0.5", "--set", "hidden=8", "--train-size", "100", "--epochs", "1"]
    command = [sys.executable, "-m", "tuning", "cluster", "--chief", "127.0.0.1:0", "--out", str(tmp_path / "out")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path, "env": environment}
    chief = subprocess.Popen([*command, *options], **pipes)
    try:
        lines = []
        while not lines or "cluster --worker" not in lines[-1]:
            lines.append(chief.stderr.readline())
            assert lines[-1], "".join(lines)
        listening = [c.laddr.ip for c in psutil.Process(chief.pid).net_connections("inet") if c.status == "LISTEN"]
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
        words = lines[-1].split()
        assert stat.S_IMODE(os.stat(words[words.index("--token-file") + 1]).st_mode) == 0o600
        worker = subprocess.run([sys.executable, *words[1:]], timeout=180, check=False, **pipes)
        assert worker.returncode == 0, worker.stderr
        assert chief.wait(60) == 0
    finally:
        chief.kill()
        chief.communicate()
    assert (tmp_path / "out" / "best.json").exists()
