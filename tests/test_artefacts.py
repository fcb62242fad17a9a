"""Exported artefacts: four architectures, four runtimes, the modes of each. Each is exported once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT, SHELF_MODELS

import zoo
from trainers.plan import Plan
from zoo import data
from zoo.__main__ import main
from zoo.artefacts import card, contract, examples, export, locate, probe, runtimes, sums, verify
from zoo.data import images
from zoo.data.parts import Part
from zoo.data.text import save_vocabulary
from zoo.errors import BadInput, RunFailed
from zoo.runs import read as read_run

RUNTIMES = tuple(runtimes.RUNTIMES)
MATRIX = [(model, runtime) for model in SHELF_MODELS for runtime in RUNTIMES]
every_pair = pytest.mark.parametrize(("model", "runtime"), MATRIX, ids=lambda value: value)


@pytest.fixture(scope="module")
def loaded(artefacts):
    """Every artefact in every runtime."""
    return {(model, runtime): zoo.load(artefacts[model], runtime=runtime) for model, runtime in MATRIX}


@pytest.fixture(scope="module")
def probes(artefacts):
    return {model: probe.read(folder) for model, folder in artefacts.items()}


@every_pair
def test_inference_is_that_of_keras(loaded, probes, model, runtime):
    stored = probes[model]
    np.testing.assert_allclose(loaded[model, runtime].logits(stored["x"]), stored["inference"], atol=1e-5, rtol=0)


@every_pair
def test_a_seed_gives_the_masks_that_it_gives_in_keras(loaded, probes, model, runtime):
    stored = probes[model]
    for seed, expected in zip(stored["seeds"], stored["mc"], strict=True):
        got = loaded[model, runtime].logits(stored["x"], "mc", int(seed))
        np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("model", SHELF_MODELS)
@pytest.mark.parametrize("seed", [0, -1, 2**31 - 1, -(2**31)])
def test_extreme_seeds_mean_the_same_in_every_runtime(loaded, probes, model, seed):
    x = probes[model]["x"]
    expected = loaded[model, "keras"].logits(x, "mc", seed)
    for runtime in RUNTIMES[1:]:
        np.testing.assert_allclose(loaded[model, runtime].logits(x, "mc", seed), expected, atol=1e-4, rtol=0)


@every_pair
def test_another_seed_gives_another_sample_and_the_same_seed_the_same(loaded, probes, model, runtime):
    artefact, x = loaded[model, runtime], probes[model]["x"]
    first, again, other = (artefact.logits(x, "mc", seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@every_pair
def test_a_hundred_samples_leave_inference_bit_identical(loaded, probes, model, runtime):
    artefact, x = loaded[model, runtime], probes[model]["x"]
    before = artefact.logits(x)
    for seed in range(100):
        artefact.logits(x, "mc", seed)
    np.testing.assert_array_equal(artefact.logits(x), before)


@pytest.mark.parametrize("runtime", RUNTIMES[:2])
@pytest.mark.parametrize("model", SHELF_MODELS)
def test_training_uses_batch_statistics_and_stores_none(loaded, probes, model, runtime):
    artefact, stored = loaded[model, runtime], probes[model]
    before = artefact.logits(stored["x"])
    got = np.stack([artefact.logits(stored["x"], "training", int(seed)) for seed in stored["seeds"]])
    np.testing.assert_allclose(got, stored["training"], atol=1e-4, rtol=0)
    assert np.allclose(stored["training"], stored["mc"], atol=1e-4) == (model != "resnet"), "BatchNorm is the ResNet's"
    for seed in range(20):
        artefact.logits(stored["x"], "training", seed)
    np.testing.assert_array_equal(artefact.logits(stored["x"]), before)


@pytest.mark.parametrize("model", SHELF_MODELS)
def test_predictions_agree_over_runtimes_also_in_mc(loaded, probes, model):
    x = probes[model]["x"]
    expected = loaded[model, "keras"].predict(x, mode="mc", samples=3, seed=11)
    for runtime in RUNTIMES[1:]:
        got = loaded[model, runtime].predict(x, mode="mc", samples=3, seed=11)
        np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=1e-4)
        np.testing.assert_allclose(got.std, expected.std, atol=1e-4)
        np.testing.assert_allclose(got.mutual_information, expected.mutual_information, atol=1e-4)


_FRESH = """
import sys, numpy as np, zoo
from zoo.artefacts import probe
from zoo.artefacts.runtimes import RUNTIMES
for folder in sys.argv[1:]:
    x = probe.read(folder)["x"]
    for runtime in RUNTIMES:
        artefact = zoo.load(folder, runtime=runtime)
        print(artefact.logits(x).sum(dtype="float64").hex(), artefact.logits(x, "mc", 9).sum(dtype="float64").hex())
"""


def test_a_fresh_process_gives_the_same_numbers(loaded, probes, artefacts):
    command = [sys.executable, "-c", _FRESH, *map(str, artefacts.values())]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    here = []
    for model, runtime in MATRIX:
        for logits in (
            loaded[model, runtime].logits(probes[model]["x"]),
            loaded[model, runtime].logits(probes[model]["x"], "mc", 9),
        ):
            here.append(logits.sum(dtype="float64"))
    np.testing.assert_allclose([float.fromhex(text) for text in answer], here, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", SHELF_MODELS)
def test_onnx_files_pass_the_full_check_and_use_no_operators_of_their_own(artefacts, model):
    for name in ("model.onnx", "mc.onnx"):
        onnx.checker.check_model(artefacts[model] / name, full_check=True)
        read = onnx.load(artefacts[model] / name)
        assert {domain.domain for domain in read.opset_import} <= {"", "ai.onnx.ml"}
        assert [x.name for x in read.graph.input] == (["image"] if name == "model.onnx" else ["image", "seed"])
        assert [y.name for y in read.graph.output] == ["logits"]


@pytest.mark.parametrize("model", SHELF_MODELS)
def test_the_card_says_what_can_be_computed_again(artefacts, runs, model):
    folder, made_from = artefacts[model], read_run(runs[model])
    stated = contract.read(folder)
    from zoo.artefacts.runtimes.keras import read_keras

    network = read_keras(folder / "model.keras")
    again = card.make(
        folder.name, made_from, network, stated["formats"], stated["gap"], stated["examples"], stated["calibration"]
    )
    assert json.loads(json.dumps({**again, "export": stated["export"]})) == {
        key: value for key, value in stated.items() if key not in ("agreement", "files")
    }
    assert card.finished({}, folder, {})["files"] == stated["files"]
    assert set(stated["agreement"]) == set(RUNTIMES)
    assert all(value <= probe.TOLERANCE[mode] for far in stated["agreement"].values() for mode, value in far.items())


@pytest.mark.parametrize("model", SHELF_MODELS)
def test_the_card_shows_test_examples_with_the_answers_of_the_artefact(artefacts, runs, loaded, model):
    stated, made_from = contract.read(artefacts[model]), read_run(runs[model])
    dataset = data.load(made_from.dataset, **made_from.data_options.to_json())
    shown = dataset.test.sample(examples.SHOWN)
    outputs = loaded[model, "keras"].predict(shown.x)
    labels = stated["output"]["labels"]
    assert [row["label"] for row in stated["examples"]] == [labels[y] for y in shown.y]
    assert [row["predicted"] for row in stated["examples"]] == [labels[y] for y in outputs.classes]
    np.testing.assert_allclose(
        [row["probability"] for row in stated["examples"]], outputs.probabilities.max(axis=1), atol=1e-6
    )
    assert images.read_image(artefacts[model] / examples.PICTURE, (170, 400, 3)).std() > 20
    assert examples.PICTURE in (artefacts[model] / "README.md").read_text()


@pytest.mark.parametrize("files", [[], "x", None, {"model.onnx": 3}, {"model.onnx": {"bytes": -1}}])
def test_a_card_that_lists_other_files_does_not_hold(artefacts, tmp_path, files):
    folder = shutil.copytree(artefacts["mlp"], tmp_path / "mlp")
    card_file = folder / contract.NAME
    card_file.write_text(json.dumps({**json.loads(card_file.read_text()), "files": files}))
    sums.write(folder)
    failed = [check for check in verify.verify(folder) if not check.ok]
    assert [check.name for check in failed] == ["card"]
    assert "files" in failed[0].found


def test_hashes_in_a_card_of_version_0_1_do_no_harm(artefacts, tmp_path):
    folder = shutil.copytree(artefacts["mlp"], tmp_path / "mlp")
    card_file = folder / contract.NAME
    stated = json.loads(card_file.read_text())
    stated["files"] = {name: {**file, "sha256": "0" * 64} for name, file in stated["files"].items()}
    card_file.write_text(json.dumps(stated))
    sums.write(folder)
    assert next(check for check in verify.verify(folder) if check.name == "card").ok


def test_verify_holds_for_an_artefact_in_another_place(artefacts, tmp_path):
    moved = shutil.copytree(artefacts["resnet"], tmp_path / "elsewhere")
    checks = list(verify.verify(moved))
    assert all(check.ok for check in checks), [check for check in checks if not check.ok]
    assert len(checks) > 15


@pytest.mark.parametrize("name", ["model.onnx", "card.json", "savedmodel/saved_model.pb", "probe.npz"])
def test_verify_finds_a_changed_file_and_opens_nothing_more(artefacts, tmp_path, name):
    moved = shutil.copytree(artefacts["mlp"], tmp_path / "mlp")
    data = bytearray((moved / name).read_bytes())
    data[len(data) // 2] ^= 1
    (moved / name).write_bytes(data)
    checks = list(verify.verify(moved))
    assert [check.ok for check in checks] == [False]
    assert name in checks[0].found


def test_verify_finds_a_model_that_is_another_than_the_card_says(artefacts, tmp_path):
    moved = shutil.copytree(artefacts["mlp"], tmp_path / "mlp")
    zoo.build("mlp", (8, 8, 1), 10, {"hidden": 0.1}).save(moved / "model.keras")
    stated = contract.read(moved)
    (moved / "card.json").write_text(json.dumps(card.finished(stated, moved, stated["agreement"])))
    sums.write(moved)
    failed = [check for check in verify.verify(moved) if not check.ok]
    assert [check.name for check in failed] == ["card"]
    assert "realised" in failed[0].found


def test_an_export_that_fails_leaves_nothing_behind(runs, tmp_path, monkeypatch):
    changed = {"inference": np.zeros((8, 10), "float32")}
    monkeypatch.setattr(probe, "make", lambda run, x, modes, vocabulary: {"image": x, "seeds": [1]} | changed)
    with pytest.raises(RunFailed, match=r"cannot export to onnx: its logits differ from Keras by .* in mode inference"):
        export.export(runs["mlp"], formats="onnx", out=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": "onnx,torch"}, r"format must be one of keras, savedmodel, onnx, litert, got 'torch'"),
        ({"formats": []}, r"format must be one of .*, got None"),
        ({"name": "../up"}, r"name must be a plain folder name, got '../up'"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(runs, tmp_path, options, message):
    with pytest.raises(BadInput, match=message):
        export.export(runs["mlp"], out=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_artefact_is_not_overwritten(runs, artefacts):
    with pytest.raises(BadInput, match="already exists; choose another --name or --out"):
        export.export(runs["mlp"], name="mlp", out=artefacts["mlp"].parent)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[]", b""])
def test_a_run_whose_config_is_damaged_is_refused(runs, tmp_path, content):
    damaged = shutil.copytree(runs["mlp"], tmp_path / "run")
    (damaged / "config.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"cannot read .*config\.json|is not a run folder"):
        export.export(damaged, out=tmp_path / "out")
    with pytest.raises(BadInput, match=r"cannot read .*config\.json|is not a run folder"):
        locate.subject(damaged)


def test_a_sibling_without_a_config_is_no_peer(runs, tmp_path):
    for seed in (0, 1):
        shutil.copytree(runs["mlp"], tmp_path / f"seed-{seed}")
    assert len(read_run(tmp_path / "seed-0").peers) == 1
    (tmp_path / "seed-1" / "config.json").unlink()
    assert read_run(tmp_path / "seed-0").peers == ()


def test_an_unfinished_run_is_refused(runs, tmp_path):
    unfinished = shutil.copytree(runs["mlp"], tmp_path / "run")
    (unfinished / "metrics.json").unlink()
    with pytest.raises(BadInput, match="is not finished; finish it with"):
        export.export(unfinished, out=tmp_path / "out")
    with pytest.raises(BadInput, match="is not a run folder"):
        export.export(Path(tmp_path), out=tmp_path / "out")


def test_the_commands_export_and_verify(runs, tmp_path, capsys):
    arguments = ["export", str(runs["mlp"]), "--formats", "onnx", "--name", "small", "--out", str(tmp_path)]
    assert not main(arguments)
    said = capsys.readouterr()
    assert "small: onnx; modes inference, mc" in said.out
    assert "checking every runtime against Keras" in said.err
    assert main(["verify", str(tmp_path / "small"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    (tmp_path / "small" / "model.onnx").write_bytes(b"damaged")
    assert main(["verify", str(tmp_path / "small")]) == 1
    assert "FAILED  checksums" in capsys.readouterr().out


def test_text_is_tokenised_inside_where_it_can_be_and_by_the_loader_elsewhere(tmp_path, monkeypatch):
    vocabulary = ("", "[UNK]", "good", "bad", "film", "a", "not")
    folder = text_run(tmp_path / "run", vocabulary)
    part = Part(np.array([[5, 2, 4, 0], [3, 3, 1, 2]], np.int32), np.array([1, 0], np.int32))
    parts = dict.fromkeys(("train", "val", "test"), part)
    made = data.Dataset("texts", "text", (4,), 2, ("no", "yes"), **parts, vocabulary=vocabulary, flip=False, about={})
    monkeypatch.setattr(data, "load", lambda name, **options: made)
    monkeypatch.setattr(export.fingerprint, "check", lambda *arguments: None)  # the run is made up, too
    monkeypatch.setattr(data, "check_ready", lambda name, **options: None)
    once = export.export(folder, formats="keras", name="once", out=tmp_path)
    shutil.rmtree(folder)
    artefact = export.export(once, name="text", out=tmp_path)  # the formats that it lacks come from its Keras file
    texts = ["A good film!", "Not bad, not a bad film at all", "", "unseen words"]
    expected = zoo.load(artefact, runtime="keras").predict(texts, mode="mc", samples=2, seed=4)
    for runtime in RUNTIMES[1:]:
        got = zoo.load(artefact, runtime=runtime).predict(texts, mode="mc", samples=2, seed=4)
        np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=1e-4)
    stated = contract.read(artefact)
    assert stated["input"]["takes"]["onnx"] == "tokens"
    assert [(row["text"], row["label"]) for row in stated["examples"]] == [
        ("a good film", "good"),
        ("bad bad [UNK] good", "bad"),
    ]
    assert "| bad bad [UNK] good | bad |" in (artefact / "README.md").read_text()
    assert all(check.ok for check in verify.verify(artefact))


def text_run(folder, vocabulary):
    """A run folder of a transformer over tokens, as training leaves it, untrained."""
    folder.mkdir()
    settings = {"width": 8, "heads": 2, "depth": 1, "ffn": 8}
    model = zoo.build("transformer", (4,), 2, {"ffn_hidden": 0.3}, 0, len(vocabulary), **settings)
    model.save(folder / "model.keras")
    save_vocabulary(folder / "vocabulary.txt", vocabulary)
    plan = Plan.make(model="transformer", settings=settings, drop={"ffn_hidden": 0.3}, dataset="texts", length=4)
    config = plan.to_json() | {"command": "none", "threads": 1, "versions": {}}
    config["data"] |= {"about": {"source": "made up", "test_part": "test"}, "input_shape": [4], "classes": 2}
    config["data"] |= {"labels": ["bad", "good"], "sizes": {"train": 2, "val": 2, "test": 2}}
    measured = {"test_error": 50.0, "test_loss": 0.7, "test_ece": 1.0, "val_error": 50.0, "seconds": 1.0}
    measured |= {"epochs": 1, "best_epoch": 1, "images_per_second": 9.0, "parameters": model.count_params()}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text(json.dumps(measured))
    return folder


def test_an_artefact_is_exported_again_when_its_run_is_gone(artefacts, tmp_path, capsys):
    """Its files stay as they are, byte for byte; its card has the same, however little the earlier one had."""
    before = tmp_path / "before"
    shutil.copytree(artefacts["mlp"], before)
    newer = contract.read(before)
    earlier = {key: value for key, value in newer.items() if key not in ("calibration", "examples", "use")}
    (before / "card.json").write_text(json.dumps(earlier))
    (before / "examples.png").unlink()
    sums.write(before)
    formats = ["keras", "onnx"]
    assert not main(["export", str(before), "--formats", "keras,onnx", "--name", "mlp", "--out", str(tmp_path)])
    again = tmp_path / "mlp"
    kept = ["probe.npz", *{file for name in formats for file in newer["formats"][name].values()}]
    assert all((again / name).read_bytes() == (before / name).read_bytes() for name in kept)
    stated = contract.read(again)
    assert list(stated["formats"]) == list(stated["export"]["kept"]) == formats
    same = set(newer) - {"formats", "export", "files", "agreement", "modes", "limits"}
    assert {key: stated[key] for key in same} == {key: newer[key] for key in same}
    assert all(check.ok for check in verify.verify(again))
    third = export.export(again, formats="keras", name="third", out=tmp_path)
    assert contract.read(third)["export"]["kept"]["keras"] == stated["export"]["kept"]["keras"]
    capsys.readouterr()


def test_an_artefact_that_cannot_be_exported_again_says_why(artefacts, tmp_path):
    onnx_alone = export.export(artefacts["mlp"], formats="onnx", name="onnx-alone", out=tmp_path)
    with pytest.raises(BadInput, match=r"cannot find a \.keras file"):
        export.export(onnx_alone, name="again", out=tmp_path)
    damaged = tmp_path / "damaged"
    shutil.copytree(artefacts["mlp"], damaged)
    (damaged / "model.onnx").write_bytes(b"another file")
    with pytest.raises(BadInput, match="is damaged"):
        export.export(damaged, name="again", out=tmp_path)
    stated = contract.read(artefacts["mlp"])
    (damaged / "card.json").write_text(json.dumps({key: stated[key] for key in stated if key != "training"}))
    sums.write(damaged)
    with pytest.raises(BadInput, match="training is missing"):
        export.export(damaged, name="again", out=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["damaged", "onnx-alone"]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_examples_of_any_number_of_channels_are_drawn(channels, tmp_path):
    images = np.full((2, 6, 9, channels), 100, np.uint8)
    rows = [{"label": "a", "predicted": "a", "probability": 0.9}] * 2
    examples.draw(images, rows, tmp_path / "examples.png")
    assert (tmp_path / "examples.png").stat().st_size > 500


def test_without_a_name_an_export_takes_the_next_free_one(runs, tmp_path, capsys):
    first, second = (export.export(runs["mlp"], formats="keras", out=tmp_path) for _ in range(2))
    assert second.name == f"{first.name}-2"
    assert contract.read(second)["name"] == second.name
    assert not main(["export", str(runs["mlp"]), "--formats", "keras", "--out", str(tmp_path)])
    assert str(tmp_path / f"{first.name}-3") in capsys.readouterr().out


def test_an_export_reads_the_data_where_the_run_read_it(runs, tmp_path, monkeypatch):
    run, prepared = shutil.copytree(runs["mlp"], tmp_path / "run"), tmp_path / "prepared sets"
    prepared.mkdir()
    stated = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**stated, "data_dir": str(prepared)}))
    load, used = data.load, []
    monkeypatch.setattr(data, "load", lambda name, **options: used.append(options["data_dir"]) or load(name, **options))
    folder = export.export(run, formats="keras", out=tmp_path)
    export.export(run, formats="keras", out=tmp_path, data_dir=tmp_path)
    locate.opened(locate.subject(run))
    assert used == [prepared, tmp_path, prepared]
    assert not [path for path in folder.glob("*.*") if b"prepared sets" in path.read_bytes()]
    prepared.rmdir()  # a run from another machine
    assert read_run(run).data_dir is None


def test_an_artefact_has_a_repr_of_one_line(artefacts):
    assert repr(zoo.load(artefacts["mlp"])) == (
        "Artefact('mlp': mlp, modes inference, training, mc; onnx, litert, savedmodel, keras)"
    )
    assert repr(zoo.load(artefacts["mlp"], "onnx")) == "Artefact('mlp': mlp, modes inference, mc; onnx)"
