"""A set larger than the memory budget streams through the same loop; text trains as images do."""

import functools

import numpy as np
import pytest
import tensorflow_datasets as tfds

import trainers
from trainers.plan import Plan
from trainers.recipe import Recipe
from trainers.training import loop
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
    streamed = functools.partial(data.load, memory_budget=1)
    for label, options in (("memory", {}), ("streamed", {"load": streamed})):
        result = trained(tmp_path / label, sets, name, **options)
        assert result["test_error"] < 10, label
    assert (tmp_path / "memory" / "vocabulary.txt").exists() == (name == "moods")


def test_streamed_and_in_memory_evaluation_are_equal(sets):
    import zoo

    whole, streamed = (data.load("bright", data_dir=sets, memory_budget=budget) for budget in (2**30, 1))
    model = zoo.build("mlp", (8, 8, 1), 2, seed=1, hidden=(8,))
    engines = [loop.Engine(model, Recipe(epochs=1), dataset, seed=1) for dataset in (whole, streamed)]
    assert hasattr(streamed.train, "batches")
    for part in ("val", "test"):
        a, b = (engine.evaluate(getattr(engine.dataset, part)) for engine in engines)
        assert a == pytest.approx(b, rel=1e-5)


def test_a_streamed_run_repeats_bit_for_bit(sets, tmp_path):
    import keras

    streamed, kept = functools.partial(data.load, memory_budget=1), []
    for label in ("a", "b"):
        trained(tmp_path / label, sets, "bright", load=streamed)
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
