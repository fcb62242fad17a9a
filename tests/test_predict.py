"""Predictions of artefacts: what they say, in every mode and runtime, and what is refused."""

import json
import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fake_artefacts as fake
import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

import zoo
from zoo.__main__ import main
from zoo.artefacts.load import sample_seeds
from zoo.errors import BadInput
from zoo.seeds import seed_for

ROOT = Path(__file__).parent.parent
X = fake.IMAGES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("shelf") / "made-by-hand")


@pytest.fixture(params=["onnx", "litert"])
def artefact(request, folder):
    return zoo.load(folder, runtime=request.param)


def test_inference_is_the_model_and_its_softmax(artefact):
    actual = artefact.predict(X)
    np.testing.assert_allclose(actual.logits, fake.expected(X), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(actual.probabilities, softmax(actual.logits.astype(float), axis=1))
    np.testing.assert_allclose(actual.entropy, stats.entropy(actual.probabilities, axis=1))
    assert (actual.classes == actual.probabilities.argmax(axis=1)).all()
    assert not actual.std.any()
    assert not actual.mutual_information.any()
    assert (actual.labels, actual.mode, actual.runtime, actual.seed) == (
        tuple(fake.LABELS),
        "inference",
        artefact.runtime,
        None,
    )


def test_mc_averages_the_samples_that_its_seeds_draw(artefact):
    actual = artefact.predict(X, mode="mc", samples=4, seed=7)
    seeds = sample_seeds(7, 4, 0)
    np.testing.assert_allclose(actual.logits, [fake.expected(X, seed) for seed in seeds], rtol=1e-4, atol=1e-4)
    p = softmax(actual.logits.astype(float), axis=-1)
    np.testing.assert_allclose(actual.probabilities, p.mean(axis=0))
    np.testing.assert_allclose(actual.std, p.std(axis=0), atol=1e-12)
    np.testing.assert_allclose(actual.entropy, stats.entropy(p.mean(axis=0), axis=1))
    gap = actual.entropy - stats.entropy(p, axis=2).mean(axis=0)
    np.testing.assert_allclose(actual.mutual_information, gap, atol=1e-12)
    assert actual.seed == 7
    assert (actual.mutual_information > 0).all()


def test_the_first_sample_is_one_pass_with_the_seed(artefact):
    actual = artefact.predict(X, mode="mc", samples=3, seed=-5)
    np.testing.assert_array_equal(actual.logits[0], artefact.logits(X, mode="mc", seed=-5))


def test_seeds_differ_by_sample_and_chunk():
    seeds = [seed for chunk in range(3) for seed in sample_seeds(1, 50, chunk)]
    assert seeds[0] == 1
    assert seeds[1] == seed_for(1, "sample/1/0")
    assert len(set(seeds)) == len(seeds)
    assert all(-(2**31) <= seed < 2**31 for seed in seeds)


def test_chunks_change_nothing_in_inference_and_are_fixed_in_mc(artefact):
    whole = artefact.predict(X)
    np.testing.assert_allclose(artefact.predict(X, batch_size=3).logits, whole.logits, rtol=1e-5, atol=1e-6)
    actual = artefact.predict(X, mode="mc", samples=2, seed=1, batch_size=3)
    assert actual.logits.shape == (2, 7, 3)
    np.testing.assert_array_equal(actual.logits[1, 3:6], artefact.logits(X[3:6], "mc", sample_seeds(1, 2, 1)[1]))


def test_a_seed_gives_the_same_again_and_none_draws_anew(artefact):
    first, again, other = (artefact.predict(X, "mc", 2, seed) for seed in (3, 3, None))
    np.testing.assert_array_equal(first.logits, again.logits)
    assert other.seed not in (None, artefact.predict(X, "mc", 2).seed)
    np.testing.assert_array_equal(artefact.predict(X, "mc", 2, other.seed).logits, other.logits)


def test_strided_arrays_and_calls_from_several_threads_give_the_same(artefact):
    wanted = artefact.predict(X[::2].copy(), "mc", 2, 1).logits
    np.testing.assert_array_equal(artefact.predict(X[::2], "mc", 2, 1).logits, wanted)
    np.testing.assert_array_equal(artefact.predict(np.asfortranarray(X[::2]), "mc", 2, 1).logits, wanted)
    sizes = [1, 2, 4, 7] * 8
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda n: artefact.predict(X[:n]).logits, sizes))
    for n, logits in zip(sizes, actual, strict=True):
        np.testing.assert_allclose(logits, fake.expected(X[:n]), rtol=1e-5, atol=1e-5)


def test_mc_leaves_inference_as_it_was(artefact):
    before = artefact.predict(X).logits
    for _ in range(20):
        artefact.predict(X, "mc", 2)
    np.testing.assert_array_equal(artefact.predict(X).logits, before)


@pytest.mark.parametrize("seed", [-(2**31), 2**31 - 1, np.int64(4)])
def test_seeds_of_32_bits_are_taken(artefact, seed):
    assert artefact.predict(X, "mc", 2, seed).seed == seed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "dropout"}, "mode must be one of inference, mc, got 'dropout'"),
        ({"mode": "training"}, "use .logits"),
        ({"samples": 2}, "samples must be 1 .* use mode mc"),
        ({"mode": "mc", "samples": 0}, "samples must be .*, got 0"),
        ({"mode": "mc", "samples": True}, "samples must be .*, got True"),
        ({"mode": "mc", "seed": 2**31}, "seed must be .*, got 2147483648"),
        ({"mode": "mc", "seed": 1.0}, "seed must be .*, got 1.0"),
        ({"batch_size": 0}, "batch_size must be .*, got 0"),
    ],
)
def test_what_predict_cannot_do_is_refused(artefact, given, message):
    with pytest.raises(BadInput, match=message):
        artefact.predict(X, **given)


def test_training_needs_another_runtime(artefact):
    with pytest.raises(BadInput, match="has a file for, inference, mc, got 'training'"):
        artefact.logits(X, mode="training")


def test_what_drops_nothing_has_no_mc(tmp_path):
    formats = {"onnx": {"inference": "model.onnx"}}
    folder = fake.write(tmp_path / "a", modes=["inference"], formats=formats)
    artefact = zoo.load(folder)
    assert artefact.modes == ("inference",)
    with pytest.raises(BadInput, match="mc equals inference"):
        artefact.predict(X, mode="mc")


def test_auto_takes_the_fastest_that_does_the_mode(tmp_path, folder, monkeypatch):
    assert zoo.load(folder).runtime == "onnx"
    formats = {"onnx": {"inference": "model.onnx"}, "litert": fake.FORMATS["litert"]}
    mixed = zoo.load(fake.write(tmp_path / "a", formats=formats))
    assert (mixed.predict(X).runtime, mixed.predict(X, "mc", 2).runtime) == ("onnx", "litert")
    with pytest.raises(BadInput, match="load the artefact with runtime litert"):
        zoo.load(tmp_path / "a", "onnx").predict(X, "mc")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else name)
    assert zoo.load(folder).runtime == "litert"
    with pytest.raises(BadInput, match="the package onnxruntime is missing"):
        zoo.load(folder, "onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="install one of the packages ai_edge_litert, onnx, onnxruntime"):
        zoo.load(folder)


def test_a_runtime_or_an_artefact_that_is_not_there_is_refused(folder, tmp_path):
    with pytest.raises(BadInput, match=r"formats of .*, onnx, litert, got 'savedmodel'"):
        zoo.load(folder, "savedmodel")
    with pytest.raises(BadInput, match=r"runtime must be one of auto, onnx, .*, got 'torch'"):
        zoo.load(folder, "torch")
    with pytest.raises(BadInput, match=r"threads must be .*, got 0"):
        zoo.load(folder, threads=0)
    with pytest.raises(BadInput, match="there is no artefact"):
        zoo.load("no-such-artefact")
    for odd in (None, "~nobody-there/x", "a\0b"):
        with pytest.raises(BadInput):
            zoo.load(odd)
    with pytest.raises(BadInput, match=r"no card\.json"):
        zoo.load(tmp_path)


def test_a_bare_name_is_one_in_saved_models(folder, monkeypatch):
    monkeypatch.setattr("zoo.artefacts.locate.SHELF", folder.parent)
    assert zoo.load("made-by-hand").name == "made-by-hand"


def test_texts_are_predicted_from_their_words(tmp_path):
    formats = {"onnx": {"inference": "model.onnx"}}
    folder = fake.write(tmp_path / "a", fake.text_files(), vocabulary=True, formats=formats, modes=["inference"])
    artefact = zoo.load(folder)
    actual = artefact.predict(["Good, GOOD film!", "", "bad"])
    np.testing.assert_array_equal(actual.logits, [[2, 0, 1], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(artefact.predict("bad").logits, [[0, 1, 0]])


@pytest.mark.parametrize("runtime", ["onnx", "litert"])
def test_predicting_imports_neither_tensorflow_nor_keras_and_is_silent(folder, runtime):
    code = f"""import sys, numpy, zoo
artefact = zoo.load({str(folder)!r}, {runtime!r})
artefact.predict(numpy.zeros({fake.SHAPE}, "uint8"), "mc", 3)
artefact.predict(numpy.zeros((5, *{fake.SHAPE}), "uint8"))
print(sorted({{"tensorflow", "keras", "scipy", "sklearn", "tensorflow_datasets"}} & set(sys.modules)))"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (answer.stdout.strip(), answer.stderr) == ("[]", "")


def test_the_command_prints_json(folder, tmp_path, capsys):
    np.save(tmp_path / "x.npy", X[:2])
    main(["predict", str(folder), str(tmp_path / "x.npy"), "--json"])
    actual = json.loads(capsys.readouterr().out)
    assert set(actual) == {"predictions", "mode", "runtime"}
    row, wanted = actual["predictions"][1], zoo.load(folder).predict(X[:2])
    assert set(row) == {"input", "class", "label", "index", "probability", "probabilities", "std", "entropy"}
    assert row["input"].endswith("x.npy[1]")
    assert row["class"] == row["label"] == fake.LABELS[row["index"]]
    assert row["probability"] == max(row["probabilities"]) == wanted.probabilities[1].max()
    assert row["std"] == [0, 0, 0]


def test_the_command_draws_fifty_samples_unless_told(folder, tmp_path, capsys):
    np.save(tmp_path / "x.npy", X[:1])
    main(["predict", str(folder), str(tmp_path / "x.npy"), "--mode", "mc", "--seed", "-4", "--json"])
    actual = json.loads(capsys.readouterr().out)
    assert (actual["samples"], actual["seed"], actual["mode"]) == (50, -4, "mc")
    assert actual["predictions"][0]["mutual_information"] > 0
    main(["predict", str(folder), str(tmp_path / "x.npy"), "--mode", "mc", "--seed", "-4", "--samples", "2"])
    head, row, *_, last = capsys.readouterr().out.strip().split("\n")
    assert head.split() == ["input", "class", "probability", "spread", "entropy", "mutual", "information"]
    assert len(head) == len(row)
    assert last == "mode mc, 2 samples, seed -4; runtime onnx"


def test_the_command_refuses_in_one_message(folder):
    call = [sys.executable, "-m", "zoo", "predict", str(folder), "none.png"]
    answer = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "error: there is no file 'none.png'; give the path of an existing file\n"


def test_an_artefact_without_an_architecture_has_a_repr_too(folder):
    assert repr(zoo.load(folder)) == "Artefact('made-by-hand': modes inference, mc; onnx, litert)"


def test_a_runtime_can_be_opened_before_the_first_prediction(artefact):
    assert artefact.open("mc") == artefact.runtime
    with pytest.raises(BadInput, match="got 'training'"):
        artefact.open("training")


SLOW = """
import sys, time
from zoo.__main__ import _Phase
with _Phase("thinking"):
    time.sleep(2.5)
with _Phase("quick"):
    pass
print("done")
"""


def test_a_terminal_shows_what_takes_longer_than_a_second():
    main_end, process_end = pty.openpty()
    call = [sys.executable, "-c", SLOW]
    with subprocess.Popen(call, cwd=ROOT, stdout=subprocess.PIPE, stderr=process_end) as process:
        output = process.stdout.read()
        assert process.wait() == 0
    os.close(process_end)
    shown = os.read(main_end, 10_000).decode()
    os.close(main_end)
    assert output == b"done\n"
    assert "thinking, 1 s" in shown
    assert "thinking, 2 s" in shown
    assert "quick" not in shown
    assert shown.endswith("\x1b[K")  # the line is gone
