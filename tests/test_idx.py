"""IDX files become a set that TFDS reads, or are refused with the reason."""

import gzip

import numpy as np
import pytest

from zoo import data
from zoo.data.idx import import_idx
from zoo.errors import BadInput


def idx_bytes(array, kind=8):
    header = bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def contents(height=4, width=3, classes=3):
    """The bytes of four valid files, by name."""
    rng = np.random.default_rng(0)
    files = {}
    for split, count in (("train", 60), ("t10k", 12)):
        files[f"{split}-images-idx3-ubyte"] = idx_bytes(rng.integers(0, 256, (count, height, width)))
        files[f"{split}-labels-idx1-ubyte"] = idx_bytes(np.arange(count) % classes)
    return files


def write(folder, files, compressed=False):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / (name + ".gz" * compressed)
        path.write_bytes(gzip.compress(content) if compressed else content)
    return folder


def pixels(content):
    return np.frombuffer(content[16:], np.uint8).reshape(-1, 4, 3, 1)


def test_imported_images_keep_their_classes(tmp_path):
    files = contents()
    import_idx("letters", write(tmp_path / "idx", files), tmp_path / "data")
    loaded = data.load("letters", data_dir=tmp_path / "data")
    expected = {bytes(x): i % 3 for i, x in enumerate(pixels(files["t10k-images-idx3-ubyte"]))}
    assert {bytes(x): y for x, y in zip(loaded.test.x, loaded.test.y, strict=True)} == expected
    assert len(loaded.train) + len(loaded.val) == 60


def test_tfds_itself_reads_the_result(tmp_path):
    import tensorflow_datasets as tfds

    target = import_idx("letters", write(tmp_path / "idx", contents()), tmp_path / "data")
    assert target == tmp_path / "data" / "letters" / "1.0.0"
    splits = tfds.load("letters", data_dir=str(tmp_path / "data"))
    assert {name: len(split) for name, split in splits.items()} == {"train": 60, "test": 12}


def test_compressed_files_give_the_same_records(tmp_path):
    plain = import_idx("letters", write(tmp_path / "a", contents()), tmp_path / "data_a")
    packed = import_idx("letters", write(tmp_path / "b", contents(), compressed=True), tmp_path / "data_b")
    for file in plain.glob("*tfrecord*"):
        assert file.read_bytes() == (packed / file.name).read_bytes()


def test_a_known_name_gets_its_registered_version_and_class_names(tmp_path):
    folder = write(tmp_path / "idx", contents(28, 28, 10))
    assert import_idx("fashion_mnist", folder, tmp_path).name == "3.0.1"
    assert data.load("fashion_mnist", data_dir=tmp_path).labels[9] == "Ankle boot"


def test_a_known_name_of_another_shape_is_refused(tmp_path):
    with pytest.raises(BadInput, match="another name"):
        import_idx("fashion_mnist", write(tmp_path / "idx", contents()), tmp_path)


def test_an_import_leaves_nothing_else_behind(tmp_path):
    import_idx("letters", write(tmp_path / "idx", contents()), tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["letters"]


def test_a_taken_name_is_refused(tmp_path):
    folder = write(tmp_path / "idx", contents())
    import_idx("letters", folder, tmp_path)
    with pytest.raises(BadInput, match="already"):
        import_idx("letters", folder, tmp_path)


@pytest.mark.parametrize("name", ["digits", "a/b", "Bad Name", "x:1.0.0"])
def test_an_unfit_name_is_refused(tmp_path, name):
    with pytest.raises(BadInput):
        import_idx(name, tmp_path, tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(BadInput, match="folder must be"):
        import_idx("letters", tmp_path / "none", tmp_path)


@pytest.mark.parametrize("name", contents())
def test_a_missing_file_is_refused(tmp_path, name):
    folder = write(tmp_path / "idx", contents())
    (folder / name).unlink()
    with pytest.raises(BadInput, match="got none"):
        import_idx("letters", folder, tmp_path)


def test_two_sets_in_one_folder_are_refused(tmp_path):
    folder = write(tmp_path / "idx", contents())
    write(folder, {f"other-{name}": content for name, content in contents().items()})
    with pytest.raises(BadInput, match="several"):
        import_idx("letters", folder, tmp_path)


IMAGES, LABELS, TEST_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"
FAULTS = {
    "truncated": (IMAGES, contents()[IMAGES][:-1]),
    "too long": (IMAGES, contents()[IMAGES] + b"\0"),
    "magic number": (IMAGES, idx_bytes(np.zeros((60, 4, 3)), kind=13)),
    "is truncated": (LABELS, contents()[LABELS][:20]),
    "each of the 60 images of .*, got 59": (LABELS, idx_bytes(np.arange(59) % 3)),
    "without gaps": (LABELS, idx_bytes(np.arange(60) % 3 + 1)),
    "class 3": (TEST_LABELS, idx_bytes(np.arange(12) % 4)),
    "empty": (LABELS, idx_bytes(np.zeros(0))),
    "magic number 0": (LABELS, b""),
    "test images": ("t10k-images-idx3-ubyte", idx_bytes(np.zeros((12, 5, 5)))),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_faulty_file_is_refused_before_anything_is_written(tmp_path, message):
    name, content = FAULTS[message]
    folder = write(tmp_path / "idx", {**contents(), name: content})
    with pytest.raises(BadInput, match=message):
        import_idx("letters", folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("keep", [5, -5])
def test_corrupt_gzip_is_refused(tmp_path, keep):
    folder = write(tmp_path / "idx", contents(), compressed=True)
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match="cannot read"):
        import_idx("letters", folder, tmp_path)
