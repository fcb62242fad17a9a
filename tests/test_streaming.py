"""A set larger than the memory budget trains from the cache as in memory, or streams; text trains as images do."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from streams import load_mapped, load_streamed

import trainers
import zoo
from trainers.plan import Plan
from trainers.recipe import Recipe
from trainers.training import feed, loop, prediction
from trainers.training.train import run
from zoo import data
from zoo.errors import BadInput

WORDS = ("good fine happy great", "bad awful sad poor")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two small TFDS sets: images whose class is their brightness, texts whose class is their words."""
    folder = tmp_path_factory.mktemp("tfds")
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, 240)
    images = [(rng.integers(0, 128, (8, 8, 1)) + 120 * c).astype("uint8") for c in classes]
    texts = [" ".join(rng.choice(WORDS[c].split(), 6)) for c in classes]
    for name, key, values, feature in (
        ("bright", "image", images, tfds.features.Image(shape=(8, 8, 1))),
        ("moods", "text", texts, tfds.features.Text()),
    ):
        rows = [{key: value, "label": int(c)} for value, c in zip(values, classes, strict=True)]
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict({key: feature, "label": tfds.features.ClassLabel(num_classes=2)}),
            split_datasets={"train": _dataset(rows[:200]), "test": _dataset(rows[200:])},
            data_dir=folder,
        )
    return folder


def _dataset(rows):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices({key: [row[key] for row in rows] for key in rows[0]})


MODELS = {
    "bright": {"model": "mlp", "settings": {"hidden": (32,)}, "placement": "none", "learning_rate": 2e-2},
    "moods": {
        "model": "transformer",
        "learning_rate": 5e-3,
        "settings": {"width": 16, "heads": 2, "depth": 1, "ffn": 16},
    },
}


def trained(folder, sets, name, **options):
    plan = Plan.make(dataset=name, epochs=8, batch_size=32, length=8, vocabulary=20, **MODELS[name])
    folder.mkdir()
    return run(plan, folder, data_dir=sets, quiet=True, **options)


@pytest.mark.parametrize("name", ["bright", "moods"])
def test_images_and_texts_are_learned_in_memory_and_streamed(sets, name, tmp_path):
    for label, options in (("memory", {}), ("streamed", {"load": load_streamed})):
        result = trained(tmp_path / label, sets, name, **options)
        assert result["test_error"] < 10, label
    assert (tmp_path / "memory" / "vocabulary.txt").exists() == (name == "moods")


@pytest.mark.parametrize("name", ["bright", "moods"])
def test_a_run_from_the_cache_is_that_in_memory_bit_for_bit(sets, name, tmp_path, monkeypatch):
    """Also if the calls of an epoch and the chunks of the file are cut into pieces."""
    import keras

    kept = []
    for label, load in (("memory", data.load), ("mapped", load_mapped)):
        if label == "mapped":
            monkeypatch.setattr(feed, "CHUNK", 3 * 32 * (64 if name == "bright" else 32))  # bytes of three batches
            monkeypatch.setattr(loop, "CALL_SECONDS", 0.001)
        result = trained(tmp_path / label, sets, name, load=load, track_test=True)
        history = [row.rsplit(",", 4) for row in (tmp_path / label / "history.csv").read_text().splitlines()]
        figures = {key: value for key, value in result.items() if "second" not in key and key != "folder"}
        columns = [(row[0], row[3:]) for row in history]
        kept.append((keras.models.load_model(tmp_path / label / "model.keras").get_weights(), figures, columns))
    for a, b in zip(kept[0][0], kept[1][0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert kept[0][1:] == kept[1][1:]


@pytest.mark.parametrize("name", ["bright", "moods"])
def test_evaluation_from_the_cache_is_that_in_memory_and_copies_little_at_a_time(sets, name, monkeypatch):
    monkeypatch.setattr(feed, "CHUNK", 1)
    monkeypatch.setattr(prediction, "BATCH", 32)
    whole, mapped = (load(name, data_dir=sets, length=8) for load in (data.load, load_mapped))
    pieces = list(feed.pieces(mapped.train, 32))
    assert [len(piece) for piece in pieces] == [32] * 5 + [len(whole.train) - 160]
    np.testing.assert_array_equal(np.concatenate(pieces), whole.train.x)
    options = {"vocabulary": len(whole.vocabulary)} if whole.vocabulary else {}
    plan = MODELS[name]
    model = zoo.build(plan["model"], whole.input_shape, 2, seed=1, **options, **plan["settings"])
    engines = [loop.Engine(model, Recipe(epochs=1), dataset, seed=1) for dataset in (whole, mapped)]
    for part in ("train", "val", "test"):
        a, b = (engine.logits(getattr(engine.dataset, part)) for engine in engines)
        np.testing.assert_array_equal(a, b)


def test_streamed_and_in_memory_evaluation_are_equal(sets):
    whole, streamed = (load("bright", data_dir=sets) for load in (data.load, load_streamed))
    model = zoo.build("mlp", (8, 8, 1), 2, seed=1, hidden=(8,))
    engines = [loop.Engine(model, Recipe(epochs=1), dataset, seed=1) for dataset in (whole, streamed)]
    assert hasattr(streamed.train, "batches")
    for part in ("val", "test"):
        a, b = (engine.evaluate(getattr(engine.dataset, part)) for engine in engines)
        assert a == pytest.approx(b, rel=1e-5)


def test_a_streamed_run_repeats_bit_for_bit(sets, tmp_path):
    import keras

    kept = []
    for label in ("a", "b"):
        trained(tmp_path / label, sets, "bright", load=load_streamed)
        kept.append(keras.models.load_model(tmp_path / label / "model.keras").get_weights())
    for a, b in zip(*kept, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_image_model_refuses_text_and_leaves_nothing(sets, tmp_path):
    with pytest.raises(BadInput, match=r"text data set moods, got mlp; use --model transformer"):
        trainers.train(out=tmp_path / "run", model="mlp", dataset="moods", data_dir=sets, quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_input_site_is_refused_for_tokens(sets, tmp_path):
    with pytest.raises(BadInput, match=r"site must be .* for transformer over tokens, got 'input'"):
        trainers.train(
            out=tmp_path / "run", model="transformer", dataset="moods", drop=["input=0.1"], data_dir=sets, quiet=True
        )
