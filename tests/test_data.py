"""Data sets: how they are cut, what is promised of every one, and which names and options are refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from zoo import data
from zoo.data.split import stratified_order
from zoo.errors import BadInput


def test_digits_are_the_stated_sizes_and_type():
    digits = data.load("digits")
    assert [len(part) for part in (digits.train, digits.val, digits.test)] == [1077, 360, 360]
    assert digits.input_shape == digits.train.x.shape[1:] == (8, 8, 1)
    assert digits.train.x.dtype == np.uint8
    assert digits.train.x.max() == 255
    assert digits.train.y.dtype == np.int32


def test_digits_are_those_of_scikit_learn_whether_or_not_their_file_is_where_it_was(monkeypatch):
    from zoo.data import arrays

    source, bunch = arrays.digits(), load_digits()
    np.testing.assert_array_equal(source.splits["train"].y, bunch.target)
    np.testing.assert_array_equal(source.splits["train"].x[..., 0], np.round(bunch.images * (255 / 16)))
    assert source.labels == tuple(map(str, bunch.target_names))
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    again = arrays.digits()
    np.testing.assert_array_equal(again.splits["train"].x, source.splits["train"].x)
    np.testing.assert_array_equal(again.splits["train"].y, source.splits["train"].y)


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
        "import sys, zoo.data.dataset, zoo.data.tfds, zoo.data.text, zoo.data.idx, zoo.data.arrays, zoo.data.folders; "
        "assert not {'tensorflow', 'keras', 'tensorflow_datasets', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_description_is_fit_for_json():
    described = json.loads(json.dumps(data.describe(data.load("digits"))))
    assert described["sizes"] == {"train": 1077, "val": 360, "test": 360}
    assert described["labels"] == [str(n) for n in range(10)]


def test_a_set_and_its_parts_are_shown_in_one_line(tmp_path):
    digits = data.load("digits")
    assert repr(digits) == "Dataset('digits': 1,077 train, 360 val, 360 test; images (8, 8, 1), 10 classes)"
    assert repr(digits.val) == "Part(360 examples, x uint8 (360, 8, 8, 1))"


def test_the_listing_names_the_sets_that_can_be_downloaded(tmp_path):
    from trainers import datasets

    listing = datasets.listing(tmp_path)
    lines = datasets.text(listing).splitlines()
    names = [row["name"] for row in listing["datasets"]]
    assert {"digits", "fashion_mnist", "glue/sst2"} <= set(names)
    for name in names:
        assert sum(line.split()[:1] == [name] for line in lines) == 1


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
