"""Data sets: where they come from, and how they are cut. All sets are made here, in temporary folders."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from zoo import data
from zoo.errors import BadInput
from zoo.sources import CHUNK
from zoo.split import stratified_order

TINY = 1  # a memory budget that nothing fits into


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


def arrays(**changes):
    """Arrays of a valid `.npz` file, some of them replaced."""
    rng = np.random.default_rng(0)
    values = {
        "x_train": rng.integers(0, 256, (60, 4, 4), np.uint8),
        "y_train": np.arange(60) % 3,
        "x_test": rng.integers(0, 256, (12, 4, 4), np.uint8),
        "y_test": np.arange(12) % 3,
    }
    return {key: value for key, value in {**values, **changes}.items() if value is not None}


def save_npz(path, **changes):
    np.savez(path, **arrays(**changes))
    return str(path)


def image_folder(root, sizes=((6, 5),), splits=("train", "test"), per_class=12, mode="RGB"):
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in splits:
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for i in range(per_class):
                height, width = sizes[i % len(sizes)]
                shape = (height, width, 3) if mode == "RGB" else (height, width)
                pixels = rng.integers(0, 256, shape, np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{i}.png")
    return f"folder:{root}"


def all_batches(part, **options):
    batches = [(x.numpy(), y.numpy()) for x, y in part.batches(32, **options)]
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def assert_same_part(streamed, part):
    assert isinstance(streamed, data.StreamedPart)
    x, y = all_batches(streamed)
    np.testing.assert_array_equal(streamed.y, part.y)
    np.testing.assert_array_equal(y, part.y)
    np.testing.assert_array_equal(x, part.x)


# --- digits, and what is promised of every cut


def test_digits_are_the_stated_sizes_and_type():
    digits = data.load("digits")
    assert [len(part) for part in (digits.train, digits.val, digits.test)] == [1077, 360, 360]
    assert digits.input_shape == digits.train.x.shape[1:] == (8, 8, 1)
    assert digits.train.x.dtype == np.uint8
    assert digits.train.x.max() == 255
    assert digits.train.y.dtype == np.int32


def test_digits_parts_hold_every_example_once():
    from sklearn.datasets import load_digits

    digits = data.load("digits")
    cut = np.concatenate([part.x.reshape(-1, 64) for part in (digits.train, digits.val, digits.test)])
    whole = np.round(load_digits().images.reshape(-1, 64) * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, cut)) == sorted(map(bytes, whole))


def test_parts_are_stratified():
    digits = data.load("digits")
    counts = data.describe(digits)["class_counts"]
    share = np.array(counts["train"]) / 1077
    assert np.abs(np.array(counts["val"]) / 360 - share).max() < 0.006


def test_the_split_seed_decides_the_parts():
    one, same, other = (data.load("digits", split_seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.val.x, same.val.x)
    assert not np.array_equal(one.val.x, other.val.x)


def test_a_smaller_training_part_lies_within_a_larger_one():
    small, large = (data.load("digits", train_size=size) for size in (50, 500))
    rows = {bytes(x) for x in large.train.x}
    assert len(small.train) == 50
    assert all(bytes(x) in rows for x in small.train.x)


def test_train_size_leaves_the_other_parts_alone():
    small, whole = data.load("digits", train_size=50), data.load("digits")
    np.testing.assert_array_equal(small.val.x, whole.val.x)
    np.testing.assert_array_equal(small.test.x, whole.test.x)


def test_the_smallest_training_part_has_one_example_of_each_class():
    assert sorted(data.load("digits", train_size=10).train.y) == list(range(10))


@pytest.mark.parametrize("size", [9, 1078, 0, -3, 2.5, True])
def test_an_impossible_train_size_is_refused(size):
    with pytest.raises(BadInput, match="train_size"):
        data.load("digits", train_size=size)


def test_a_class_of_one_example_stays_in_training():
    y = np.array([0] * 50 + [1] * 50 + [2])
    assert 2 in y[stratified_order(y, 0)[:3]]


def test_image_size_resizes_digits():
    assert data.load("digits", image_size=12).train.x.shape == (1077, 12, 12, 1)


def test_digits_do_not_import_tensorflow():
    code = "import sys, zoo.data; zoo.data.load('digits'); assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_room_imports_nothing_heavy():
    code = (
        "import sys, zoo.data, zoo.sources, zoo.text, zoo.idx, zoo.arrays, zoo.folders; "
        "assert not {'tensorflow', 'keras', 'tensorflow_datasets', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_description_is_fit_for_json():
    described = json.loads(json.dumps(data.describe(data.load("digits"))))
    assert described["sizes"] == {"train": 1077, "val": 360, "test": 360}
    assert described["labels"] == [str(n) for n in range(10)]


# --- sets of TFDS


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


# --- folders of images


def test_a_folder_of_images_is_a_set(tmp_path):
    loaded = data.load(image_folder(tmp_path))
    assert (loaded.labels, loaded.input_shape, loaded.about["test_part"]) == (
        ("cat", "dog"),
        (6, 5, 3),
        "test",
    )
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [21, 3, 24]


def test_pixels_of_a_folder_belong_to_their_class(tmp_path):
    from PIL import Image

    loaded = data.load(image_folder(tmp_path))
    cats = {np.asarray(Image.open(path)).tobytes() for path in (tmp_path / "test" / "cat").iterdir()}
    assert [bytes(x) in cats for x in loaded.test.x] == [y == 0 for y in loaded.test.y]


def test_a_folder_without_test_images_holds_some_out(tmp_path):
    loaded = data.load(image_folder(tmp_path, splits=["train"]))
    assert "held out of train" in loaded.about["test_part"]
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [18, 3, 3]


def test_grey_images_have_one_channel(tmp_path):
    assert data.load(image_folder(tmp_path, mode="L")).input_shape == (6, 5, 1)


def test_a_folder_streams_the_same_parts(tmp_path):
    name = image_folder(tmp_path)
    streamed, whole = data.load(name, memory_budget=TINY), data.load(name)
    for key in ("train", "val", "test"):
        assert_same_part(getattr(streamed, key), getattr(whole, key))


def test_a_folder_of_differing_sizes_is_refused_with_the_way_out(tmp_path):
    name = image_folder(tmp_path, sizes=((6, 5), (7, 5)))
    with pytest.raises(BadInput, match="--image-size"):
        data.load(name)
    assert data.load(name, image_size=4).input_shape == (4, 4, 3)


def test_an_unreadable_image_is_named(tmp_path):
    name = image_folder(tmp_path)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"cat.0\.png"):
        data.load(name)


def test_a_truncated_image_is_refused(tmp_path):
    name = image_folder(tmp_path)
    file = tmp_path / "train" / "cat" / "0.png"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(BadInput, match="damaged"):
        data.load(name)


@pytest.mark.parametrize("make", ["", "train", "train/cat"])
def test_a_folder_without_two_classes_is_refused(tmp_path, make):
    (tmp_path / make).mkdir(parents=True, exist_ok=True)
    with pytest.raises(BadInput, match="train/CLASS"):
        data.check_name(f"folder:{tmp_path}")


def test_a_class_that_training_lacks_is_refused(tmp_path):
    name = image_folder(tmp_path)
    (tmp_path / "test" / "cow").mkdir()
    with pytest.raises(BadInput, match="cow"):
        data.load(name)


# --- .npz files


def test_arrays_are_read_from_a_file(tmp_path):
    loaded = data.load(save_npz(tmp_path / "a.npz"))
    assert loaded.input_shape == (4, 4, 1)
    assert loaded.labels == ("0", "1", "2")
    np.testing.assert_array_equal(loaded.test.x[..., 0], arrays()["x_test"])


def test_float_pixels_up_to_255_are_taken(tmp_path):
    x = arrays()["x_train"].astype(np.float32)
    loaded = data.load(save_npz(tmp_path / "a.npz", x_train=x))
    np.testing.assert_array_equal(loaded.train.x, data.load(save_npz(tmp_path / "b.npz")).train.x)


BAD_ARRAYS = {
    "lacks y_test": {"y_test": None},
    "multiply by 255": {"x_train": np.full((60, 4, 4), 0.5)},
    "NaN": {"x_train": np.full((60, 4, 4), np.nan)},
    "goes from 0 to 256": {"x_train": np.full((60, 4, 4), 256) * (np.arange(60) > 5)[:, None, None]},
    "59 labels for 60 images": {"y_train": np.arange(59) % 3},
    r"has shape \(60, 16\)": {"x_train": np.zeros((60, 16), np.uint8)},
    "1 to 4 channels": {"x_train": np.zeros((60, 3, 8, 8), np.uint8)},
    "give both the same shape": {"x_test": np.zeros((12, 5, 5), np.uint8)},
    "lacks class 1": {"y_train": np.arange(60) % 2 * 2},
    "holds -1": {"y_train": np.arange(60) % 3 - 1},
    "float64": {"y_train": (np.arange(60) % 3).astype(float)},
    "argmax": {"y_train": np.eye(3, dtype=int)[np.arange(60) % 3]},
    "has class 3": {"y_test": np.arange(12) % 4},
    "pickled": {"y_train": np.array([{}] * 60, object)},
    "one class": {"y_train": np.zeros(60, int), "y_test": np.zeros(12, int)},
    "type bool": {"x_train": np.zeros((60, 4, 4), bool)},
}


@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_unfit_arrays_are_refused(tmp_path, message):
    with pytest.raises(BadInput, match=message):
        data.load(save_npz(tmp_path / "a.npz", **BAD_ARRAYS[message]))


@pytest.mark.parametrize("keep", [0, 10, 400, -10])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "a.npz"
    save_npz(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match="cannot be read"):
        data.load(str(path))


def test_a_file_over_the_memory_budget_is_refused(tmp_path):
    with pytest.raises(BadInput, match="memory budget"):
        data.load(save_npz(tmp_path / "a.npz"), memory_budget=100)


# --- names and options


@pytest.mark.parametrize("name", ["", None, 3, "My Set", "../data", "set.csv", "missing.npz", "a/b/c", "folder:"])
def test_an_impossible_name_is_refused(name):
    with pytest.raises(BadInput):
        data.check_name(name)


@pytest.mark.parametrize("name", ["digits", "fashion_mnist", "glue/sst2", "mnist:3.0.1"])
def test_a_possible_name_is_accepted(name):
    data.check_name(name)


@pytest.mark.parametrize(
    "option", [{"image_size": 0}, {"split_seed": -1}, {"vocabulary": 2}, {"length": 0}, {"memory_budget": 0}]
)
def test_an_option_out_of_range_is_refused(option):
    with pytest.raises(BadInput, match=next(iter(option))):
        data.load("digits", **option)
