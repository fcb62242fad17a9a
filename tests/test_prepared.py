"""Sets of TFDS, images and text, in memory and streamed. All are made here, in a temporary folder."""

import subprocess
import sys
import time

import numpy as np
import pytest

from zoo import data
from zoo.errors import BadInput


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


def test_a_set_of_texts_is_shown_in_one_line(prepared):
    assert repr(data.load("remarks/short", data_dir=prepared, length=6)) == (
        "Dataset('remarks/short': 270 train, 30 val, 40 test; texts (6,), 2 classes)"
    )


def test_image_size_is_refused_for_text(prepared):
    with pytest.raises(BadInput, match="image_size"):
        data.load("remarks/short", data_dir=prepared, image_size=8)
