"""`python -m zoo uncertainty`: what it writes of what, foreign and corrupted data, and what it refuses."""

import csv
import json
import shlex

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import cli
from zoo.__main__ import main
from zoo.data import load_foreign
from zoo.data.images import fitted, read_image
from zoo.errors import BadInput
from zoo.reliability import corruptions, report
from zoo.reliability.assess import SCALARS

QUICK = ["--samples", "2"]


@pytest.fixture
def foreign(tmp_path):
    """A folder of colour photographs of other sizes, in two classes."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "pets" / split / label
            folder.mkdir(parents=True)
            for i in range(12):
                Image.fromarray(rng.integers(0, 256, (20 + i, 30, 3), "uint8")).save(folder / f"{i}.png")
    return f"folder:{tmp_path / 'pets'}"


def test_the_command_writes_a_page_figures_and_a_row_per_example(runs, foreign, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["uncertainty", str(runs["mlp"]), *QUICK, "--ood", foreign, "--corruptions", "--masks", "shared"])
    shown = capsys.readouterr()
    assert all(word in shown.out for word in ("ECE", "mutual information", "contrast: mc", "uncertainty/mlp"))
    assert "foreign examples" in shown.err
    folder = tmp_path / "uncertainty" / "mlp"
    result = json.loads((folder / report.JSON).read_text())
    assert set(SCALARS) <= set(result["modes"]["mc"]) & set(result["modes"]["inference"])
    assert set(result["modes"]["mc"]["ood"][foreign]["entropy"]) == {"auroc", "aupr", "fpr95"}
    assert set(result["corruptions"]) == set(corruptions.KINDS)
    turned = [row["mc"]["error"]["value"] for row in result["corruptions"]["rotation"]]
    assert turned[-1] > turned[0]
    assert (folder / report.PICTURE).read_bytes().startswith(b"\x89PNG")
    with open(folder / report.TABLE, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(report.COLUMNS)
    assert [row["mode"] for row in rows] == ["inference"] * 360 + ["mc"] * 360
    main(["uncertainty", str(runs["mlp"]), *QUICK, "--masks", "shared", "--json"])
    again = json.loads(capsys.readouterr().out)
    assert again["modes"]["mc"]["error"] == result["modes"]["mc"]["error"]
    assert (tmp_path / "uncertainty" / "mlp-2" / report.JSON).exists()


def test_a_model_file_and_an_artefact_are_measured_and_full_folders_refused(artefacts, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(artefacts["mlp"].iterdir())
    main(["uncertainty", str(artefacts["mlp"]), *QUICK, "--out", "a", "--coverage", "0.8"])
    main(["uncertainty", str(artefacts["mlp"] / "model.keras"), "--dataset", "digits", *QUICK, "--out", "b", "--json"])
    a, b = (json.loads((tmp_path / name / report.JSON).read_text()) for name in ("a", "b"))
    assert a["level"] == 0.8
    assert a["modes"]["mc"]["loss"] == b["modes"]["mc"]["loss"]
    assert any("does not state how its inputs are scaled" in note for note in b["notes"])
    assert sorted(artefacts["mlp"].iterdir()) == before
    for words, message in (
        (["--out", "a"], "a new folder, got a, which is not empty"),
        (["--out", str(artefacts["mlp"] / "new")], "sealed"),
        (["--ood", "no/such/set"], "no/such/set"),
        (["--dataset", "mnist", "--data-dir", str(tmp_path)], "not prepared"),
    ):
        with pytest.raises(BadInput, match=message):
            main(["uncertainty", str(artefacts["mlp"]), *words])
    with pytest.raises(BadInput, match="--dataset must be given"):
        main(["uncertainty", str(artefacts["mlp"] / "model.keras")])
    for value in ("0", "1", "half"):
        with pytest.raises(SystemExit):
            main(["uncertainty", str(artefacts["mlp"]), "--coverage", value])
        assert "coverage must be" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["zoo.files.Table.start", "matplotlib.figure.Figure.savefig", "zoo.files.write_json"])
@pytest.mark.parametrize("stopped", ["full disk", "Ctrl-C"])
def test_a_command_that_is_stopped_leaves_nothing_and_says_how_to_run_it_again(
    runs, tmp_path, monkeypatch, capsys, where, stopped
):
    def fails(*args, **kwargs):
        raise OSError(28, "No space left on device") if stopped == "full disk" else KeyboardInterrupt

    words = ["uncertainty", str(runs["mlp"]), *QUICK, "--out", str(tmp_path / "a")]
    with monkeypatch.context() as patch:
        patch.setattr(where, fails)
        with pytest.raises(SystemExit) as end:
            cli.run(lambda: main(words))
    assert end.value.code == (2 if stopped == "full disk" else 130)
    assert list(tmp_path.iterdir()) == []
    message = capsys.readouterr().err
    assert ("No space left" in message) == (stopped == "full disk")
    command = shlex.split(message.strip().splitlines()[-1])
    assert command == ["python", "-m", "zoo", *words]
    assert "Traceback" not in message


# === Foreign data in the form of the model's ===


def test_foreign_images_become_grey_and_small_as_image_files_do(foreign, tmp_path):
    digits = zoo.data.load("digits")
    x = load_foreign(foreign, digits)
    assert (x.shape, x.dtype) == ((24, 8, 8, 1), np.uint8)
    paths = sorted((tmp_path / "pets" / "test").rglob("*.png"))
    expected = np.array([read_image(path, (8, 8, 1)) for path in paths], int)
    for image in x:  # colours are rounded once more before they become grey
        assert np.abs(expected - image).max(axis=(1, 2, 3)).min() <= 2


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_are_brought_to_any_shape_as_their_files_are(channels, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 10, 6, channels)).astype("uint8")
    for shape in ((8, 8, 1), (5, 9, 3), (10, 6, channels)):
        actual = fitted(pixels, shape)
        for image, given in zip(actual, pixels, strict=True):
            Image.fromarray(given[..., 0] if channels == 1 else given).save(tmp_path / "a.png")
            np.testing.assert_array_equal(image, read_image(tmp_path / "a.png", shape))
    with pytest.raises(BadInput, match="1, 3 or 4 channels"):
        fitted(pixels, (8, 8, 2))


def test_foreign_texts_get_the_ids_of_the_models_vocabulary(tmp_path):
    lines = ["text,label,split", "a good film,yes,train", "a bad film,no,train", "bad,no,train", "good,yes,train"]
    (tmp_path / "own.csv").write_text("\n".join([*lines, *lines[1:3] * 3, "good film,yes,test", "bad,no,test"]) + "\n")
    other = ["text,label,split", *(f"word{i} good,x,train\nbad word{i},y,train" for i in range(6))]
    (tmp_path / "other.csv").write_text("\n".join([*other, "Word3 film GOOD!,x,test", "bad,y,test"]) + "\n")
    own = zoo.data.load(str(tmp_path / "own.csv"), length=4)
    ids = {token: i for i, token in enumerate(own.vocabulary)}
    x = load_foreign(str(tmp_path / "other.csv"), own)
    assert x.tolist() == [[1, 1, ids["good"], 0], [ids["bad"], 0, 0, 0]]  # `film` is no word of the other set
    with pytest.raises(BadInput, match="a data set of texts for this model, got digits with images"):
        load_foreign("digits", own)
    with pytest.raises(BadInput, match="a data set of images"):
        load_foreign(str(tmp_path / "other.csv"), zoo.data.load("digits"))


# === Corruptions ===


@pytest.mark.parametrize("shape", [(9, 7, 1), (16, 16, 3), (8, 8, 4)])
@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_a_stronger_corruption_moves_more_pixels_and_keeps_the_form(kind, shape):
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    one = np.stack([(xx * 37 + yy * 23 * (c + 1)) % 200 + 20 for c in range(shape[2])], -1).astype("uint8")
    x = np.stack([one, one[::-1]])
    moved = []
    for strength in corruptions.STRENGTHS:
        y = corruptions.corrupted(x, kind, strength, seed=1)
        assert (y.shape, y.dtype) == (x.shape, np.uint8)
        np.testing.assert_array_equal(y, corruptions.corrupted(x, kind, strength, seed=1))
        if shape[2] == 4:
            np.testing.assert_array_equal(y[..., 3], x[..., 3])
        moved.append(np.abs(y[..., :3].astype(int) - x[..., :3]).mean())
    assert moved[-1] > moved[0]


def test_corruptions_of_other_names_and_strengths_are_refused():
    x = np.zeros((1, 4, 4, 1), np.uint8)
    for kind, strength in (("fog", 1), ("noise", 0), ("noise", 6)):
        with pytest.raises(BadInput, match="must be"):
            corruptions.corrupted(x, kind, strength)


def test_a_strong_contrast_corruption_is_five_per_cent_of_the_distance_to_the_mean():
    x = np.array([0, 200], np.uint8).reshape(1, 1, 2, 1)
    assert corruptions.corrupted(x, "contrast", 5).ravel().tolist() == [95, 105]
