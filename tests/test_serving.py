"""The scripts of docs/examples/serving: what clients send and get, and what 8-bit weights change."""

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import ROOT

import zoo

SCRIPTS = ROOT / "docs" / "examples" / "serving"
SHELF = ROOT / "saved_models"
CNN = SHELF / "cnn-digits-default"
X = zoo.data.load("digits").test.x[:4]
tf_serving_group = pytest.mark.xdist_group("tf serving")  # they share a version folder


def script(name):
    spec = importlib.util.spec_from_file_location(f"serving_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# === TensorFlow Serving ===


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a model as the server sees it, with one version."""
    return script("tf_serving").layout(CNN, tmp_path_factory.mktemp("models")).parent


@tf_serving_group
def test_each_layout_is_a_new_version_with_the_labels_and_nothing_half_copied(tmp_path):
    serving = script("tf_serving")
    first, second = (serving.layout(CNN, tmp_path) for _ in range(2))
    assert (first, second) == (tmp_path / CNN.name / "1", tmp_path / CNN.name / "2")
    assert sorted(path.name for path in first.parent.iterdir()) == ["1", "2"]
    assert (second / "assets.extra" / "labels.txt").read_text().splitlines() == [str(i) for i in range(10)]
    assert (second / "saved_model.pb").read_bytes() == (CNN / "savedmodel" / "saved_model.pb").read_bytes()
    with pytest.raises(SystemExit, match="has no SavedModel"):
        serving.layout(SHELF / "cnn-fashion_mnist-default", tmp_path)
    assert not (tmp_path / "cnn-fashion_mnist-default").exists()


@tf_serving_group
def test_rows_are_answered_in_inference(model):
    request = json.loads(json.dumps({"instances": X.tolist()}))
    answer = json.loads(json.dumps(script("tf_serving").answer(model, request)))
    assert list(answer) == ["predictions"]
    np.testing.assert_allclose(answer["predictions"], zoo.load(CNN, "onnx").logits(X), atol=1e-5)
    named = script("tf_serving").answer(model, {"instances": [{"image": x} for x in X.tolist()]})
    np.testing.assert_array_equal(named["predictions"], answer["predictions"])


@tf_serving_group
def test_columns_take_the_seed_and_give_the_masks_of_every_runtime(model):
    request = {"signature_name": "mc", "inputs": {"image": X.tolist(), "seed": 7}}
    answer = script("tf_serving").answer(model, request)
    assert list(answer) == ["outputs"]
    np.testing.assert_allclose(answer["outputs"], zoo.load(CNN, "onnx").logits(X, "mc", 7), atol=1e-4)


@tf_serving_group
@pytest.mark.parametrize(
    "request_",
    [
        {"signature_name": "mc", "instances": [{"image": x, "seed": 7} for x in X.tolist()]},  # a seed has no rows
        {"signature_name": "mc", "inputs": X.tolist()},
        {"signature_name": "other", "inputs": X.tolist()},
        {"instances": [[1, 2]]},
        {"instances": X.tolist(), "inputs": X.tolist()},
        {},
    ],
)
def test_what_the_server_refuses_is_an_error(model, request_):
    answer = script("tf_serving").answer(model, request_)
    assert list(answer) == ["error"]
    assert answer["error"]


# === ONNX Runtime over HTTP ===


@contextlib.contextmanager
def served(artefact):
    """The address of the endpoint, in a process of its own."""
    command = [sys.executable, str(SCRIPTS / "onnx_http.py"), str(artefact), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        begun = time.monotonic()
        for line in process.stderr:
            if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
            assert time.monotonic() - begun < 60
        yield address[0]
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def client(artefacts):
    with served(artefacts["cnn"]) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def test_a_client_gets_what_predict_gives(client, artefacts):
    artefact = zoo.load(artefacts["cnn"], "onnx")
    assert client.get("/labels").text.splitlines() == list(artefact.labels)
    assert client.get("/model").json()["input"]["shape"] == [8, 8, 1]
    given = {"calibrated": True, "coverage": 0.9}
    for extra in ({"mode": "inference"}, {"mode": "mc", "samples": 5, "seed": 3, "masks": "shared"}):
        answer = client.post("/predict", json={"inputs": X.tolist(), **extra, **given})
        assert answer.status_code == 200, answer.text
        expected = artefact.predict(X, **extra, **given)
        rows = answer.json()["predictions"]
        assert [row["index"] for row in rows] == expected.classes.tolist()
        assert [row["class"] for row in rows] == [artefact.labels[k] for k in expected.classes]
        np.testing.assert_allclose([row["probabilities"] for row in rows], expected.probabilities, atol=1e-6)
        assert [row["set"] for row in rows] == [[artefact.labels[k] for k in np.flatnonzero(s)] for s in expected.sets]
    assert answer.json()["seed"] == 3
    np.testing.assert_allclose([row["mutual_information"] for row in rows], expected.mutual_information, atol=1e-6)


def test_an_answer_depends_on_neither_its_neighbours_nor_other_clients(client):
    question = {"mode": "mc", "samples": 5, "seed": 3}

    def ask(x):
        return client.post("/predict", json={"inputs": x, **question}).json()["predictions"]

    together = ask(X.tolist())
    with ThreadPoolExecutor(4) as pool:
        alone = [rows[0] for rows in pool.map(ask, ([x] for x in X.tolist()))]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a["probabilities"], b["probabilities"], atol=1e-5)
    drawn = client.post("/predict", json={"inputs": X.tolist(), "mode": "mc"}).json()["seed"]
    assert isinstance(drawn, int)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": []},
        {"inputs": [[1, 2], [3]]},
        {"inputs": ["text"]},
        {"inputs": np.zeros((257, 8, 8, 1), int).tolist()},
        {"inputs": X.tolist(), "mode": "training"},
        {"inputs": X.tolist(), "samples": 3},
        {"inputs": X.tolist(), "mode": "mc", "samples": 100_000},
        {"inputs": X.tolist(), "mode": "mc", "seed": 2**40},
        {"inputs": X.tolist(), "coverage": 2},
        {"inputs": X.tolist(), "sampels": 3},
        [],
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_and_the_next_one_answered(client, body):
    refused = client.post("/predict", json=body)
    assert refused.status_code == 422
    assert refused.json()["detail"]
    assert client.post("/predict", json={"inputs": X.tolist()}).status_code == 200


# === LiteRT ===


def run(data, mode, **inputs):
    return Interpreter(model_content=data).get_signature_runner(mode)(**inputs)["logits"]


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    out = tmp_path_factory.mktemp("litert") / "device"
    loss = script("litert").quantise(CNN, out)
    assert json.loads((out / "loss.json").read_text()) == loss
    return out


def test_the_loss_is_that_of_the_files(device):
    loss, test = json.loads((device / "loss.json").read_text()), zoo.data.load("digits").test
    small = run((device / "model.int8.tflite").read_bytes(), "inference", image=test.x)
    plain = zoo.load(CNN, "litert").logits(test.x)
    wrong, wrong_small = ((values.argmax(1) != test.y).mean() * 100 for values in (plain, small))
    stated = loss["inference"]
    assert stated["error_int8"] == pytest.approx(wrong_small, abs=0.3)  # kernels round differently over batch sizes
    assert stated["error"] == pytest.approx(wrong, abs=0.3)
    assert stated["difference"]["low"] <= stated["difference"]["value"] <= stated["difference"]["high"]
    assert stated["difference"]["value"] == pytest.approx(stated["error_int8"] - stated["error"])
    assert stated["bytes_int8"] == (device / "model.int8.tflite").stat().st_size < 0.5 * stated["bytes"]
    assert (device / "labels.txt").read_text().splitlines() == [str(i) for i in range(10)]


def test_eight_bit_weights_keep_the_masks(device):
    small = run((device / "mc.int8.tflite").read_bytes(), "mc", image=X, seed=np.array(7, np.int32))
    same, other = (zoo.load(CNN, "litert").logits(X, "mc", seed) for seed in (7, 8))
    assert np.abs(small - same).max() < 0.5
    assert np.abs(other - same).max() > 2


def test_a_model_that_cannot_be_converted_leaves_no_folder(tmp_path):
    with pytest.raises(SystemExit, match="must be a model over images or tables"):
        script("litert").quantise(SHELF / "transformer-glue-sst2-custom", tmp_path / "device")
    assert not (tmp_path / "device").exists()
