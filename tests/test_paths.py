"""A `pathlib.Path` is taken wherever Python takes the path or the name of a data set, an artefact or an input."""

from pathlib import Path

import fake_artefacts as fake
import numpy as np
import pytest
from PIL import Image
from test_artefact_inputs import TEXT

import trainers
import zoo
from trainers.plan import Plan
from zoo import data, runs
from zoo.errors import BadInput


@pytest.fixture
def files(tmp_path):
    """A folder with the same 20 images as an `.npz` file and in folders, and a table."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 4, 4, 1)).astype("uint8"), np.arange(20) % 2
    np.savez(tmp_path / "images.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    for i in range(20):
        folder = tmp_path / "images" / "ab"[y[i]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i, :, :, 0]).save(folder / f"{i}.png")
    (tmp_path / "table.csv").write_text("a,b,label\n" + "".join(f"{i},{i / 2},{i % 2}\n" for i in range(40)))
    return tmp_path


@pytest.mark.parametrize("name", ["images.npz", "images", "table.csv"])
def test_a_data_set_of_a_path_is_that_of_its_text(files, name):
    path = files / name
    text = f"folder:{path}" if path.is_dir() else str(path)
    one, other = data.load(path), data.load(text)
    assert one.name == other.name == text
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(one, part).x, getattr(other, part).x)
    np.testing.assert_array_equal(data.load_foreign(path, one), data.load_foreign(text, one))
    assert Plan.make(dataset=path) == Plan.make(dataset=text)


def test_a_path_can_be_trained_on_and_is_recorded_as_text(files):
    path = files / "images.npz"
    result = trainers.train(dataset=path, set={"hidden": 4}, epochs=1, out=files / "run", quiet=True)
    assert runs.read_config(result.folder)["data"]["dataset"] == str(path)


@pytest.mark.parametrize("name", [3, None, b"digits", ["digits"], ""])
def test_what_is_neither_a_name_nor_a_path_is_refused(name):
    for call in (data.load, data.check_ready):
        with pytest.raises(BadInput, match="dataset must be a name"):
            call(name)


def test_inputs_are_read_from_paths(files):
    card = fake.write(files / "artefact") and zoo.load(files / "artefact").card
    path = files / "images" / "a" / "0.png"
    expected = zoo.read_inputs([str(path)], card)
    for given in (path, [path], (path,)):
        names, x = zoo.read_inputs(given, card)
        assert names == expected[0]
        np.testing.assert_array_equal(x, expected[1])


def test_a_path_for_a_text_model_is_a_file_and_never_a_text(tmp_path):
    (tmp_path / "texts").write_text("good\nbad\n")
    assert zoo.read_inputs([tmp_path / "texts", "film"], TEXT)[1] == ["good", "bad", "film"]
    with pytest.raises(BadInput, match="there is no file"):
        zoo.read_inputs(Path("good film"), TEXT)
