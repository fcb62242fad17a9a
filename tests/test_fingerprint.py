"""A run is not continued, exported or looked at with other data than it was trained on, and sweeps know their data."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from streams import load_mapped, load_streamed

import trainers
import tuning
from zoo import data
from zoo.artefacts import locate
from zoo.artefacts.export import export
from zoo.data import fingerprint
from zoo.errors import BadInput

SMALL = {"quiet": True, "threads": 1, "epochs": 1, "set": "hidden=8"}


def write(path, change=None):
    """A data file of two classes; `change` is what became of it."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 60), ("test", 20)):
        x, y = rng.integers(0, 256, (n, 4, 4), np.uint8), np.arange(n, dtype=np.int64) % 2
        if change == "content" and part == "train":
            x[3, 0, 0] ^= 1
        if change == "classes":
            y = 1 - y
        if change == "sizes" and part == "test":
            x, y = x[:-2], y[:-2]
        arrays |= {f"x_{part}": x, f"y_{part}": y}
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fingerprint")
    path = write(folder / "own.npz")
    trainers.train(dataset=path, out=folder / "run", **SMALL)
    return folder / "run", path


def test_a_fingerprint_is_that_of_the_content(tmp_path):
    """Two loads agree; one changed pixel, or other classes, do not."""
    first = fingerprint.of(data.load(write(tmp_path / "a.npz")))
    assert first == fingerprint.of(data.load(write(tmp_path / "b.npz")))
    for change in ("content", "classes", "sizes"):
        assert first != fingerprint.of(data.load(write(tmp_path / "c.npz", change)))


def test_a_fingerprint_is_the_same_in_memory_and_on_disk(tmp_path):
    """A larger memory changes no fingerprint."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(20):
            Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(tmp_path / label / f"{number}.png")
    streamed, mapped = (load(f"folder:{tmp_path}") for load in (load_streamed, load_mapped))
    assert not hasattr(streamed.train, "x")
    assert mapped.train.mapped
    assert fingerprint.of(streamed) == fingerprint.of(mapped) == fingerprint.of(data.load(f"folder:{tmp_path}"))


@pytest.mark.parametrize("change", ["content", "classes", "sizes"])
def test_what_opens_a_run_refuses_changed_data(run, tmp_path, change):
    """Modes, export and a resumed run name the run and what differs."""
    folder, path = run
    try:
        write(path, change)
        for opened in (
            lambda: locate.opened(locate.subject(folder, out=tmp_path / "m")),
            lambda: export(folder, out=tmp_path / "shelf", formats="keras", say=lambda line: None),
        ):
            with pytest.raises(BadInput) as caught:
                opened()
            assert "run" in str(caught.value)
            assert path in str(caught.value)
        (folder / "metrics.json").rename(folder / "kept.json")
        with pytest.raises(BadInput, match="other data"):
            trainers.train(out=folder, resume=True, quiet=True)
    finally:
        write(path)
        if (folder / "kept.json").exists():
            (folder / "kept.json").rename(folder / "metrics.json")


def test_a_run_without_a_fingerprint_is_checked_by_what_it_holds(tmp_path):
    """Runs of earlier versions state labels and sizes."""
    dataset = data.load(write(tmp_path / "a.npz"))
    sizes = {name: len(getattr(dataset, name)) for name in ("train", "val", "test")}
    stated = {"dataset": dataset.name, "labels": list(dataset.labels), "sizes": sizes}
    fingerprint.check(stated, dataset, "run")
    for other in ({"labels": ["dog", "cat"]}, {"sizes": {**sizes, "test": 1}}):
        with pytest.raises(BadInput, match="other data"):
            fingerprint.check(stated | other, dataset, "run")


def test_comparisons_and_searches_know_their_data(tmp_path, capfd):
    """They store the fingerprint, print the sizes, and a resumed one trains nothing on other data."""
    path = write(tmp_path / "a.npz")
    print_too = {**SMALL, "quiet": False}
    done = trainers.compare(dataset=path, arm=["none"], seeds=1, workers=1, out=tmp_path / "c", **print_too)
    searched = tuning.search(dataset=path, tune="hidden=0/0.5", tuner="grid", out=tmp_path / "s", **print_too)
    expected = fingerprint.of(data.load(path))
    said = capfd.readouterr().err
    metrics = json.loads((tmp_path / "c" / "runs" / "mlp" / "none" / "seed-0" / "metrics.json").read_text())
    confusion = np.array(metrics["confusion"])
    assert confusion.sum() == 20
    assert 100 * (1 - confusion.trace() / 20) == pytest.approx(metrics["test_error"])
    assert said.count("20 test examples") == 2
    for folder in ("c", "s"):
        assert json.loads((tmp_path / folder / "summary.json").read_text())["data"]["fingerprint"] == expected
    page = (tmp_path / "c" / "report.html").read_text()
    assert "Errors per class" in page
    assert not done["failed"]
    assert searched["winner"]
    write(path, "content")
    with pytest.raises(BadInput, match="other data"):
        trainers.compare(out=tmp_path / "c", resume=True, seeds=2, workers=1, quiet=True)
    journal = tmp_path / "s" / "journal.jsonl"
    begun = [line for line in journal.read_text().splitlines(True) if '"control"' in line]
    journal.write_text("".join(begun))  # as if the search had been killed after its first trial
    for folder in (tmp_path / "s" / "trials").iterdir():
        if folder.name != "control":
            shutil.rmtree(folder)
    with pytest.raises(BadInput, match="other data"):
        tuning.search(out=tmp_path / "s", resume=True, quiet=True)
