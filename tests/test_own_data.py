"""A user's own data: folders of images, and `.npz` files."""

import numpy as np
import pytest
from streams import TINY, assert_same_part

from zoo import data
from zoo.errors import BadInput


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
    "pickled": {"y_train": np.array([{}] * 60, object)},  # NumPy writes objects as pickles; they are refused unread
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
