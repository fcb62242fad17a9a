"""Sets of TFDS, images and text, in memory and streamed. All are made here, in a temporary folder."""

import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest
from streams import TINY, all_batches, assert_same_part

from zoo import data
from zoo.errors import BadInput
from zoo.sources import CHUNK


def write_set(folder, name, splits, features, **options):
    """A prepared TFDS set; `splits` maps a name to a list of examples."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={split: list(enumerate(examples)) for split, examples in splits.items()},
        data_dir=folder,
        **options,
    )


def write_shards(folder, name, examples, features, per_shard):
    """A prepared TFDS set with a `train` split in several files."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import dataset_info

    target = folder / name / "1.0.0"
    target.mkdir(parents=True)
    identity = dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(target), module_name="tests"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=tfds.features.FeaturesDict(features))
    writer = tfds.core.SequentialWriter(info, per_shard)
    writer.initialize_splits(["train"])
    writer.add_examples({"train": examples})
    writer.close_all()


def images(count, seed, shape=(6, 5, 3), classes=3):
    rng = np.random.default_rng(seed)
    return [
        {"image": rng.integers(0, 256, shape, np.uint8), "label": int(label)}
        for label in rng.permutation(np.arange(count) % classes)
    ]


def sentences(count, seed, hidden=False):
    rng = np.random.default_rng(seed)
    words = np.array(["a", "good", "bad", "film", "plot", "actor", "very", "not", "dull"])
    return [
        {"sentence": " ".join(rng.choice(words, rng.integers(1, 9))) + "!", "label": -1 if hidden else i % 2}
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with small TFDS sets of several kinds."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    label = tfds.features.ClassLabel(num_classes=3)
    image = {"image": tfds.features.Image(shape=(6, 5, 3)), "label": label}
    text = {"sentence": tfds.features.Text(), "label": tfds.features.ClassLabel(names=["no", "yes"])}
    write_shards(folder, "pictures", images(2 * CHUNK + 100, 0), image, per_shard=900)
    write_set(folder, "cifar10", {"train": images(60, 1), "test": images(30, 2)}, image)
    splits = {
        "train": sentences(300, 0),
        "validation": sentences(40, 1),
        "test": sentences(40, 2, hidden=True),
    }
    write_set(folder, "remarks", splits, text, config="short")
    free = {"image": tfds.features.Image(shape=(None, None, 3)), "label": label}
    mixed = images(30, 3) + images(30, 4, shape=(9, 4, 3))
    write_set(folder, "mixed_sizes", {"train": mixed, "test": images(9, 5)}, free)
    pair = {
        "left": tfds.features.Text(),
        "right": tfds.features.Text(),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    write_set(folder, "pairs", {"train": [{"left": "a", "right": "b", "label": 0}]}, pair)
    return folder


def test_a_prepared_set_is_read_with_its_own_test_split(prepared):
    loaded = data.load("cifar10", data_dir=prepared)
    assert (loaded.input_shape, loaded.classes, loaded.about["test_part"]) == ((6, 5, 3), 3, "test")
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [54, 6, 30]


def test_pixels_and_classes_are_those_that_tfds_reads(prepared):
    import tensorflow_datasets as tfds

    loaded = data.load("cifar10", data_dir=prepared)
    builder = tfds.builder_from_directory(str(prepared / "cifar10" / "1.0.0"))
    examples = list(builder.as_dataset(split="test").as_numpy_iterator())
    np.testing.assert_array_equal(loaded.test.x, [example["image"] for example in examples])
    np.testing.assert_array_equal(loaded.test.y, [example["label"] for example in examples])


def test_the_data_folder_may_come_from_the_environment(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert len(data.load("cifar10").test) == 30


def test_without_a_test_split_a_tenth_of_train_is_held_out(prepared):
    loaded = data.load("pictures", data_dir=prepared)
    assert "held out of train" in loaded.about["test_part"]
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [1718, 215, 215]
    rows = [bytes(x) for part in (loaded.train, loaded.val, loaded.test) for x in part.x]
    assert len(set(rows)) == len(rows)


def test_hidden_test_labels_make_validation_the_test_part(prepared):
    loaded = data.load("remarks/short", data_dir=prepared)
    assert loaded.about["test_part"] == "validation"
    assert len(loaded.test) == 40
    assert set(loaded.test.y) == {0, 1}


def test_the_variant_that_tfds_noted_is_the_default(prepared):
    assert data.load("remarks", data_dir=prepared).labels == ("no", "yes")


def test_flipping_is_for_sets_known_to_allow_it(prepared):
    assert data.load("cifar10", data_dir=prepared).flip
    assert not data.load("pictures", data_dir=prepared).flip
    assert not data.load("digits").flip


@pytest.mark.parametrize("image_size", [None, 8])
def test_streamed_images_are_those_in_memory(prepared, image_size):
    options = {"data_dir": prepared, "image_size": image_size}
    streamed = data.load("pictures", memory_budget=TINY, **options)
    whole = data.load("pictures", **options)
    for key in ("train", "val", "test"):
        assert_same_part(getattr(streamed, key), getattr(whole, key))


def test_streaming_respects_train_size(prepared):
    options = {"data_dir": prepared, "train_size": 50}
    streamed = data.load("pictures", memory_budget=TINY, **options)
    assert_same_part(streamed.train, data.load("pictures", **options).train)


def test_the_head_of_a_streamed_part_is_in_memory(prepared):
    head = data.load("pictures", data_dir=prepared, memory_budget=TINY).train.head(7)
    whole = data.load("pictures", data_dir=prepared).train
    np.testing.assert_array_equal(head.x, whole.x[:7])
    np.testing.assert_array_equal(head.y, whole.y[:7])


def test_the_last_batch_of_a_stream_is_kept_and_counted(prepared):
    part = data.load("cifar10", data_dir=prepared, memory_budget=TINY).train
    batches = part.batches(32, seed=0)
    assert [len(y) for _, y in batches] == [32, 22]
    assert len(batches) == 2


def test_a_stream_is_traced_once_and_not_in_every_epoch(prepared):
    part, traced = data.load("pictures", data_dir=prepared, memory_budget=TINY).train, []

    def encode(raw, y):
        traced.append(raw)
        return part.encode(raw, y)

    counted = dataclasses.replace(part, encode=encode)
    first, second = ([y for _, y in counted.batches(32, seed=1, epoch=epoch)] for epoch in (1, 2))
    assert len(traced) == 1
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_a_shuffled_stream_has_every_example_once(prepared):
    part = data.load("pictures", data_dir=prepared, memory_budget=TINY).train
    plain, shuffled = all_batches(part)[0], all_batches(part, seed=3)[0]
    assert not np.array_equal(plain, shuffled)
    assert sorted(map(bytes, plain)) == sorted(map(bytes, shuffled))


def test_epochs_are_shuffled_differently(prepared):
    part = data.load("pictures", data_dir=prepared, memory_budget=TINY).train
    assert not np.array_equal(all_batches(part, seed=3, epoch=0)[0], all_batches(part, seed=3, epoch=1)[0])


def test_the_order_depends_on_seed_and_epoch_alone(prepared):
    import tensorflow as tf

    part = data.load("pictures", data_dir=prepared, memory_budget=TINY).train
    first = all_batches(part, seed=3, epoch=1)[0]
    tf.random.set_seed(99)
    np.testing.assert_array_equal(first, all_batches(part, seed=3, epoch=1)[0])


def test_images_of_differing_size_are_refused_with_the_way_out(prepared):
    with pytest.raises(BadInput, match="--image-size"):
        data.load("mixed_sizes", data_dir=prepared)


def test_images_of_differing_size_can_be_resized(prepared):
    assert data.load("mixed_sizes", data_dir=prepared, image_size=8).train.x.shape == (54, 8, 8, 3)


def test_an_unprepared_set_is_refused_within_seconds(tmp_path):
    start = time.monotonic()
    with pytest.raises(BadInput) as refusal:
        data.load("mnist", data_dir=tmp_path)
    assert time.monotonic() - start < 5
    for way_out in ("--download", "--data-dir", "TFDS_DATA_DIR", "import-idx", "digits"):
        assert way_out in str(refusal.value)


def test_an_unknown_name_is_refused_with_close_ones(tmp_path):
    with pytest.raises(BadInput, match="fashion_mnist"):
        data.load("fashon_mnist", data_dir=tmp_path)


def test_an_unknown_variant_is_refused_with_close_ones(tmp_path):
    with pytest.raises(BadInput, match="glue/sst2"):
        data.load("glue/sst3", data_dir=tmp_path)


def test_readiness_is_checked_without_tensorflow(tmp_path):
    code = (
        "import sys, zoo.data\n"
        f"try: zoo.data.check_ready('mnist', data_dir={str(tmp_path)!r})\n"
        "except ValueError: assert 'tensorflow' not in sys.modules\n"
        "else: sys.exit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_set_that_is_no_classification_is_refused_with_its_features(prepared):
    with pytest.raises(BadInput, match="left: Text"):
        data.load("pairs", data_dir=prepared)


def test_a_damaged_set_is_refused(prepared, tmp_path):
    import shutil

    shutil.copytree(prepared / "cifar10", tmp_path / "cifar10")
    (file,) = (tmp_path / "cifar10" / "1.0.0").glob("*-train.*")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadInput, match="damaged"):
        data.load("cifar10", data_dir=tmp_path)


def test_a_set_that_lacks_a_file_is_refused(prepared, tmp_path):
    import shutil

    shutil.copytree(prepared / "cifar10", tmp_path / "cifar10")
    next((tmp_path / "cifar10" / "1.0.0").glob("*-test.*")).unlink()
    with pytest.raises(BadInput, match="cifar10"):
        data.load("cifar10", data_dir=tmp_path)


def test_the_listing_has_what_is_prepared_and_what_is_not(prepared):
    rows = {row.name: row for row in data.available(prepared)}
    assert rows["digits"].prepared
    assert rows["pictures"].prepared
    assert not rows["mnist"].prepared
    assert (rows["cifar10"].kind, rows["remarks/short"].kind) == ("image", "text")


# --- text


def test_text_becomes_padded_token_ids(prepared):
    loaded = data.load("remarks/short", data_dir=prepared, length=6)
    assert (loaded.kind, loaded.input_shape) == ("text", (6,))
    assert loaded.train.x.dtype == np.int32
    assert loaded.train.x.shape == (270, 6)
    assert 0 < loaded.train.x.max() < len(loaded.vocabulary)


def test_the_vocabulary_is_limited_and_learned_on_training_alone(prepared):
    assert len(data.load("remarks/short", data_dir=prepared, vocabulary=5).vocabulary) == 5
    few = data.load("remarks/short", data_dir=prepared, train_size=2)
    known = {few.vocabulary[i] for i in few.train.x.ravel() if i}
    assert known == set(few.vocabulary[2:])


def test_streamed_text_is_that_in_memory(prepared):
    streamed = data.load("remarks/short", data_dir=prepared, memory_budget=TINY)
    whole = data.load("remarks/short", data_dir=prepared)
    assert streamed.vocabulary == whole.vocabulary
    for key in ("train", "val", "test"):
        assert_same_part(getattr(streamed, key), getattr(whole, key))


def test_image_size_is_refused_for_text(prepared):
    with pytest.raises(BadInput, match="image_size"):
        data.load("remarks/short", data_dir=prepared, image_size=8)
