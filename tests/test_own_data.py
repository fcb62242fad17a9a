"""A user's own data: folders of images, and `.npz` files."""

import numpy as np
import pytest
from streams import assert_same_part, load_streamed

from trainers import datasets
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
    streamed, whole = load_streamed(name), data.load(name)
    for key in ("train", "val", "test"):
        assert_same_part(getattr(streamed, key), getattr(whole, key))


def test_a_folder_of_differing_sizes_is_refused_with_the_way_out(tmp_path):
    name = image_folder(tmp_path, sizes=((6, 5), (7, 5)))
    with pytest.raises(BadInput, match="--image-size"):
        data.load(name)
    assert data.load(name, image_size=4).input_shape == (4, 4, 3)
    assert datasets.information(name, image_size=4)["input_shape"] == [4, 4, 3]


def test_an_unreadable_image_is_named(tmp_path):
    name = image_folder(tmp_path)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"cat.0\.png"):
        data.load(name)


def test_a_truncated_image_is_refused(tmp_path):
    name = image_folder(tmp_path)
    file = tmp_path / "train" / "cat" / "0.png"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(BadInput, match=r"cannot read .*train/cat/0\.png as an image"):
        data.load(name)


@pytest.mark.parametrize("make", ["", "train", "train/cat", "cat", "test/cat"])
def test_a_folder_without_two_classes_is_refused(tmp_path, make):
    (tmp_path / make).mkdir(parents=True, exist_ok=True)
    with pytest.raises(BadInput, match="train/CLASS"):
        data.check_name(f"folder:{tmp_path}")


def test_two_folders_for_one_split_are_refused(tmp_path):
    name = image_folder(tmp_path, splits=("train", "val", "valid"))
    with pytest.raises(BadInput, match="one folder for validation"):
        data.check_name(name)


def test_class_folders_need_no_folder_of_a_split(tmp_path):
    name = image_folder(tmp_path)
    flat = data.load(f"folder:{tmp_path / 'train'}")
    assert flat.labels == ("cat", "dog")
    assert "held out of train" in flat.about["test_part"]
    assert sum(data.describe(flat)["sizes"].values()) == len(data.load(name, split_seed=1).train) + 3


@pytest.mark.parametrize("split", ["val", "valid", "validation", "Dev"])
def test_a_validation_folder_beside_a_test_folder_is_the_validation_part(tmp_path, split):
    loaded = data.load(image_folder(tmp_path, splits=("train", "test", split)))
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [24, 24, 24]


def test_every_image_of_a_class_is_read_whatever_its_name_and_place(tmp_path):
    from PIL import Image

    name = image_folder(tmp_path, splits=["train"])
    cats = tmp_path / "train" / "cat"
    (cats / "more" / "of them").mkdir(parents=True)
    places = ["a.webp", "b.bmp", "c.gif", "d.TIF", "e.jfif", "f", "g.image", "more/h.png", "more/of them/i.ppm"]
    for i, place in enumerate(places):
        kind = {"d.TIF": "TIFF", "e.jfif": "JPEG", "f": "PNG", "g.image": "PNG"}.get(place)
        Image.fromarray(np.full((6, 5, 3), 20 * i, np.uint8)).save(cats / place, kind)
    (tmp_path / "train" / "dog" / "linked").symlink_to(cats / "more")
    loaded = data.load(name)
    counts = data.describe(loaded)["class_counts"].values()
    assert [sum(of_class) for of_class in zip(*counts, strict=True)] == [12 + len(places), 12 + 2]
    assert loaded.about["notes"] == [
        "read 26 .png, 2 .ppm, 1 .bmp, 1 .gif, 1 .image, 1 .jfif, 1 .tif, 1 .webp, 1 nameless"
    ]


def test_what_is_skipped_is_counted_and_said(tmp_path, capsys):
    name = image_folder(tmp_path)
    cats = tmp_path / "train" / "cat"
    for i in range(3):
        (cats / f"{i}.json").write_text("{}")
    (cats / "notes.txt").write_text("cats")
    (cats / "gone.png").symlink_to("nowhere")
    (cats / ".hidden.png").write_bytes(b"")
    (tmp_path / "train" / "list.csv").write_text("")
    lines = "\n".join(data.summary({**data.describe(data.load(name)), "dataset": name}))
    for skipped in ("3 .json files", "1 .txt files", "1 names", "1 files outside"):
        assert f"skipped {skipped}" in lines
    assert "21 training, 3 validation and 24 test examples" in lines
    assert "hidden" not in lines


@pytest.mark.parametrize("suffix", [".heic", ".svg", ".AVIF"])
def test_images_that_cannot_be_read_are_refused_not_skipped(tmp_path, suffix):
    name = image_folder(tmp_path)
    (tmp_path / "train" / "cat" / f"a{suffix}").write_bytes(b"ftypheic")
    with pytest.raises(BadInput, match="convert it"):
        data.load(name)


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
def test_training_and_prediction_resize_alike(tmp_path, resize):
    name = image_folder(tmp_path, sizes=((9, 5), (4, 12), (6, 6)), splits=["train"])
    loaded = data.load(name, image_size=6, resize=resize)
    seen = {x.tobytes() for part in (loaded.train, loaded.val, loaded.test) for x in part.x}
    files = sorted((tmp_path / "train").rglob("*.png"))
    assert {data.read_image(file, (6, 6, 3), resize).tobytes() for file in files} == seen
    assert any(
        {"squash": "squashed", "pad": "padded", "crop": "cropped"}[resize] in note for note in loaded.about["notes"]
    )


def test_padding_and_cropping_keep_the_shape_of_things(tmp_path):
    from PIL import Image

    picture = np.zeros((4, 8), np.uint8)
    picture[:, 2:6] = 255  # a white square in the middle
    Image.fromarray(picture).save(tmp_path / "a.png")
    padded, cropped = (data.read_image(tmp_path / "a.png", (4, 4, 1), how)[..., 0] for how in ("pad", "crop"))
    assert (cropped == 255).all()
    assert not padded[[0, 3]].any()
    assert padded[1:3, 1:3].min() > 128


def test_a_folder_of_text_files_is_a_set_of_texts(tmp_path):
    for split in ("train", "test"):
        for label, word in (("good", "lovely"), ("bad", "dull")):
            (tmp_path / split / label).mkdir(parents=True)
            for i in range(12):
                (tmp_path / split / label / f"{i}.txt").write_text(f"a {word}\nfilm {i}", encoding="utf-8")
    loaded = data.load(f"folder:{tmp_path}", length=4)
    assert (loaded.kind, loaded.labels, loaded.input_shape) == ("text", ("bad", "good"), (4,))
    lovely = loaded.vocabulary.index("lovely")
    assert [(x == lovely).any() for x in loaded.test.x] == [y == 1 for y in loaded.test.y]


# --- files of texts

ROWS = [(f"a {'lovely' if i % 2 else 'dull'} film, number {i}", ("no", "yes")[i % 2]) for i in range(40)]


def text_file(path, columns=("text", "label"), rows=ROWS, separator=","):
    import csv
    import json

    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.write("\n".join(json.dumps(dict(zip(columns, row, strict=True))) for row in rows))
        else:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else separator)
            writer.writerows([columns, *rows])
    return str(path)


@pytest.mark.parametrize("file", ["a.csv", "a.tsv", "a.jsonl", "A.CSV"])
def test_a_file_of_texts_is_a_set(tmp_path, file):
    loaded = data.load(text_file(tmp_path / file), length=8)
    assert (loaded.kind, loaded.labels) == ("text", ("no", "yes"))
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [32, 4, 4]
    lovely = loaded.vocabulary.index("lovely")
    assert [(x == lovely).any() for x in loaded.train.x] == [y == 1 for y in loaded.train.y]


def test_the_form_of_the_file_makes_no_difference(tmp_path):
    sets = [data.load(text_file(tmp_path / name)) for name in ("a.csv", "a.tsv", "a.jsonl")]
    sets.append(
        data.load(text_file(tmp_path / "semicolon.csv", rows=[(t.replace(",", ""), y) for t, y in ROWS], separator=";"))
    )
    for other in sets[1:]:
        np.testing.assert_array_equal(other.train.x, sets[0].train.x)
        assert other.labels == sets[0].labels


def test_a_column_split_decides_the_parts(tmp_path):
    names = ["train"] * 30 + ["valid"] * 4 + ["Test"] * 6
    rows = [(*row, name) for row, name in zip(ROWS, names, strict=True)]
    loaded = data.load(text_file(tmp_path / "a.csv", ("text", "label", "split"), rows))
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [30, 4, 6]


def test_columns_of_other_names_are_named_by_options(tmp_path):
    rows = [(i, text, label) for i, (text, label) in enumerate(ROWS)]
    name = text_file(tmp_path / "a.csv", ("id", "what", "how"), rows)
    with pytest.raises(BadInput, match=r"--text-column .*'id', 'what', 'how'"):
        data.load(name)
    assert data.load(name, text_column="what", label_column="how").labels == ("no", "yes")
    with pytest.raises(BadInput, match="--label-column must be one of"):
        data.load(name, text_column="what", label_column="missing")


def test_labels_that_are_numbers_are_ordered_by_value(tmp_path):
    rows = [(f"film {i}", (10, 9, 2)[i % 3]) for i in range(30)]
    assert data.load(text_file(tmp_path / "a.csv", rows=rows)).labels == ("2", "9", "10")


BAD_FILES = {
    "distinct names": "text,text\na,b\n",
    "none in 1 rows, the first in row 2": "text,label\na,x\n,y\nb,x\n",
    "several rows of most of them": "text,label\n" + "".join(f"film {i},{i}\n" for i in range(20)),
    "must hold train, test or val": "text,label,split\na,x,train\nb,y,other\nc,x,train\nd,y,train\n",
    "cannot read": 'text,label\na,b,c,d\ne\n"',
    "got 0 rows": "text,label\n",
}


@pytest.mark.parametrize("message", BAD_FILES)
def test_an_unfit_file_of_texts_is_refused(tmp_path, message):
    (tmp_path / "a.csv").write_text(BAD_FILES[message])
    with pytest.raises(BadInput, match=message):
        data.load(str(tmp_path / "a.csv"))


@pytest.mark.parametrize("content", [b"text,label\n\xff\xfe,a\n", b"", b"\x00" * 100])
def test_a_file_that_is_no_text_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.csv"):
        data.load(str(tmp_path / "a.csv"))


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


def test_labels_may_be_any_numbers_or_texts(tmp_path):
    rows = np.arange(60) % 3
    texts, numbers = np.array(["b", "a", "c"]), np.array([5, 1, 30])
    loaded = data.load(save_npz(tmp_path / "a.npz", y_train=texts[rows], y_test=texts[np.arange(12) % 3]))
    assert loaded.labels == ("a", "b", "c")
    assert loaded.test.y.tolist() == [1, 0, 2] * 4
    loaded = data.load(save_npz(tmp_path / "b.npz", y_train=numbers[rows], y_test=numbers[np.arange(12) % 3]))
    assert loaded.labels == ("1", "5", "30")
    assert loaded.test.y.tolist() == [1, 0, 2] * 4


def test_arrays_of_texts_are_a_set_of_texts(tmp_path):
    texts = np.array([f"film {'good' if i % 2 else 'bad'} é" for i in range(60)])
    parts = {"x_train": texts, "y_train": np.arange(60) % 2, "x_test": texts[:12], "y_test": np.arange(12) % 2}
    loaded = data.load(save_npz(tmp_path / "a.npz", **parts), length=4)
    assert (loaded.kind, loaded.input_shape) == ("text", (4,))
    assert "é" in loaded.vocabulary


def test_a_validation_part_in_the_file_is_used_and_other_arrays_are_named(tmp_path):
    more = {"x_val": arrays()["x_test"][:5], "y_val": np.arange(5) % 3, "ids": np.arange(3)}
    loaded = data.load(save_npz(tmp_path / "a.npz", **more))
    assert [len(part) for part in (loaded.train, loaded.val, loaded.test)] == [60, 5, 12]
    assert loaded.about["notes"] == ["skipped the arrays ids"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 16), (-1, 1), (0, 4095)])
def test_values_of_a_stated_range_become_the_same_pixels(tmp_path, low, high):
    """To within the rounding of the values themselves."""
    original = {key: arrays()[key] for key in ("x_train", "x_test")}
    moved = {key: low + x * ((high - low) / 255) for key, x in original.items()}
    loaded = data.load(save_npz(tmp_path / "a.npz", **moved), value_range=(low, high))
    np.testing.assert_array_equal(loaded.train.x, data.load(save_npz(tmp_path / "b.npz")).train.x)
    assert loaded.about["value_range"] == f"{low}:{high}"
    with pytest.raises(BadInput, match="got 0"):
        data.load(save_npz(tmp_path / "b.npz"), value_range=(5, 300))


@pytest.mark.parametrize("high", [1, 15, 100])
def test_a_largest_value_far_below_255_is_said(tmp_path, high):
    small = {key: (arrays()[key] * (high / 255)).astype(np.uint8) for key in ("x_train", "x_test")}
    name = save_npz(tmp_path / "a.npz", **small)
    notes = data.load(name).about["notes"]
    assert len(notes) == 1
    assert f"--value-range 0:{high}" in notes[0]
    assert data.load(name, value_range=f"0:{high}").about["notes"] == []


@pytest.mark.parametrize("given", ["1:0", "0", "a:b", "0:1:2", "nan:1", (0,), 5, "0:inf", ""])
def test_an_impossible_range_is_refused(given):
    with pytest.raises(BadInput, match="value_range must be LOW:HIGH"):
        data.load("digits", value_range=given)


def test_a_folder_named_like_a_set_of_photographs_is_not_one(tmp_path):
    (tmp_path / "cifar10").mkdir()
    assert not data.load(save_npz(tmp_path / "cifar10" / "mine.npz")).flip


def test_a_sample_has_the_classes_of_a_sorted_set_in_their_proportions(tmp_path):
    y = np.arange(60) // 20
    loaded = data.load(save_npz(tmp_path / "a.npz", x_test=arrays()["x_train"], y_test=y))
    sample = loaded.test.sample(15)
    assert np.bincount(sample.y).tolist() == [5, 5, 5]
    np.testing.assert_array_equal(sample.x, loaded.test.sample(15).x)
    np.testing.assert_array_equal(loaded.test.sample(100).x, loaded.test.x)
    streamed = load_streamed(image_folder(tmp_path / "f"))
    whole = data.load(f"folder:{tmp_path / 'f'}")
    np.testing.assert_array_equal(streamed.test.sample(6).x, whole.test.sample(6).x)


BAD_ARRAYS = {
    "must hold x_train, y_train, x_test, y_test, got x_train, y_train, x_test": {"y_test": None},
    "value_range 0:1": {"x_train": np.full((60, 4, 4), 0.5)},
    "NaN": {"x_train": np.full((60, 4, 4), np.nan)},
    "got 0 to 256": {"x_train": np.full((60, 4, 4), 256) * (np.arange(60) > 5)[:, None, None]},
    "each of the 60 examples, got 59": {"y_train": np.arange(59) % 3},
    r"got \(60, 16\)": {"x_test": np.zeros((60, 16), np.uint8)},
    "1 to 4 channels": {"x_train": np.zeros((60, 3, 8, 8), np.uint8)},
    "examples of one shape": {"x_test": np.zeros((12, 5, 5), np.uint8)},
    "classes of y_train, 0, 2, got 1": {"y_train": np.arange(60) % 2 * 2},
    "got -1": {"y_train": np.arange(60) % 3 - 1},
    "got 0.5": {"y_train": np.arange(60) % 3 + 0.5},
    "regression": {"y_train": np.arange(60) % 31},
    "argmax": {"y_train": np.eye(3, dtype=int)[np.arange(60) % 3]},
    "got 3": {"y_test": np.arange(12) % 4},
    "pickled": {"y_train": np.array([{}] * 60, object)},  # NumPy writes objects as pickles; they are refused unread
    "two or more classes": {"y_train": np.zeros(60, int), "y_test": np.zeros(12, int)},
    "classes of y_train, 0, 1, 2, got 'a'": {"y_test": np.array(list("abc"))[np.arange(12) % 3]},
    "move examples": {"x_test": np.zeros((0, 4, 4), np.uint8), "y_test": np.zeros(0, int)},
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
    with pytest.raises(BadInput, match="cannot read"):
        data.load(str(path))


def test_a_file_over_the_memory_budget_is_refused(tmp_path):
    with pytest.raises(BadInput, match="memory_budget"):
        data.load(save_npz(tmp_path / "a.npz"), memory_budget=100)
