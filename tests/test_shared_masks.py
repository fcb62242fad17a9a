"""Shared masks: a sample is one thinned network, whose prediction for an example depends on it and the seed alone."""

import json

import fake_artefacts as fake
import keras
import numpy as np
import pytest
from conftest import SHELF_MODELS
from graphs import batch, built, every_graph, stack
from keras import layers

import zoo
from zoo.__main__ import main
from zoo.artefacts.runtimes import RUNTIMES, onnx_split
from zoo.errors import BadInput
from zoo.keras_graph import Graph
from zoo.modes.compare import compare_modes
from zoo.modes.modes import Caller, in_mode
from zoo.modes.montecarlo import Sampler

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
SEEDS = [3, -1, 2**31 - 1]


def rows(x, indices):
    return keras.tree.map_structure(lambda array: np.asarray(array)[indices], x)


def close(a, b, digits=1e-5):
    np.testing.assert_allclose(a, b, rtol=digits, atol=digits)


@every_graph
def test_an_example_gets_the_mask_that_it_gets_alone(name):
    model, x = built(name)
    if Caller(Graph(model).steps, "mc").opaque:
        with pytest.raises(BadInput, match=r"masks must be per-example .* in its own code"):
            Sampler(model, "shared")
        return
    digits = {"mixed_float16": 1e-2, "mixed_bfloat16": 5e-2}.get(name, 1e-5)
    shared, apart = Sampler(model, "shared"), Sampler(model)
    drawn = shared.samples(x, SEEDS)
    for i in range(2):
        close(drawn[:, i : i + 1], apart.samples(rows(x, [i]), SEEDS), digits)
    one = np.asarray(keras.ops.cast(in_mode(model, "mc", "shared")(x, SEEDS[0]), "float32"))
    close(drawn[0], one, digits)


def test_a_prediction_depends_on_the_example_and_the_seed_alone(small):
    sites = {site: 0.3 for site in small.sites() if site != "branch"}
    if "conv" in sites:
        sites["conv"] = zoo.Drop(0.3, "drop_block", block_size=2)
    model, x = small.build(sites), small.batch(9)
    sampler = Sampler(model, "shared")
    whole = sampler.samples(x, SEEDS)
    order = np.random.default_rng(0).permutation(9)
    close(sampler.samples(x[order], SEEDS), whole[:, order])
    close(sampler.samples(x[4:6], SEEDS), whole[:, 4:6])
    close(sampler.samples(np.repeat(x[:1], 3, 0), SEEDS), np.repeat(whole[:, :1], 3, 1))
    assert not np.allclose(whole[0], whole[1], atol=1e-3)
    assert np.array_equal(sampler.samples(x, SEEDS), whole)


@pytest.mark.parametrize("model", ["cnn", "transformer"])
def test_every_runtime_gives_the_same_samples_for_any_batch_size_and_order(artefacts, model):
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1)).astype("uint8")
    expected = None
    for runtime in RUNTIMES:
        artefact = zoo.load(artefacts[model], runtime)
        actual = artefact.predict(x, "mc", 3, seed=7, masks="shared").logits
        expected = actual if expected is None else expected
        close(actual, expected, 1e-4)
        again = artefact.predict(x[::-1], "mc", 3, seed=7, batch_size=2, masks="shared").logits
        close(again[:, ::-1], actual)
        per_example = artefact.predict(x, "mc", 3, seed=7).logits
        close(per_example[0, 0], actual[0, 0])  # the mask of the first example
        assert not np.allclose(per_example[0, 1:], actual[0, 1:], atol=1e-3)


@pytest.mark.parametrize("model", SHELF_MODELS)
def test_onnx_draws_the_masks_once_and_applies_them_to_all_examples(artefacts, model, monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1)).astype("uint8")
    artefact = zoo.load(artefacts[model], "onnx")
    actual = artefact.predict(x, "mc", 3, seed=-7, masks="shared").logits
    assert artefact._open["onnx"]._shared
    monkeypatch.setattr(onnx_split, "_REPEATING", ())  # as for an operator that cannot repeat a mask
    apart = zoo.load(artefacts[model], "onnx")
    close(apart.predict(x, "mc", 3, seed=-7, masks="shared").logits, actual)
    assert apart._open["onnx"]._shared is False


def test_an_artefact_of_any_version_predicts_with_shared_masks(tmp_path, capsys):
    folder = fake.write(tmp_path / "a")
    np.save(tmp_path / "x.npy", fake.IMAGES[:2])
    options = ["--mode", "mc", "--samples", "2", "--seed", "1", "--masks", "shared", "--json"]
    main(["predict", str(folder), str(tmp_path / "x.npy"), *options])
    row = json.loads(capsys.readouterr().out)["predictions"][1]
    alone = zoo.load(folder).predict(fake.IMAGES[1], "mc", 2, seed=1)
    np.testing.assert_allclose(row["probabilities"], alone.probabilities[0], rtol=1e-6)
    with pytest.raises(BadInput, match="masks must be per-example in mode inference"):
        zoo.load(folder).predict(fake.IMAGES, masks="shared")
    with pytest.raises(BadInput, match="masks must be one of per-example, shared"):
        zoo.load(folder).predict(fake.IMAGES, "mc", masks="same")


def test_modes_are_compared_with_shared_masks_over_batches():
    model = stack((6,), layers.Dense(8, "relu"), layers.Dropout(0.5), layers.Dense(3))
    x, y = batch(model, 300), np.arange(300) % 3
    per_example, shared = (compare_modes(model, x, y, 2, 0, masks) for masks in ("per-example", "shared"))
    assert per_example["modes"]["inference"] == shared["modes"]["inference"]
    assert per_example["modes"]["mc"] != shared["modes"]["mc"]
    again = compare_modes(model, x, y, 2, 0, "shared")
    assert again == shared
    assert shared["masks"] == "shared"
