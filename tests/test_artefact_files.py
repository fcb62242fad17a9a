"""What is refused before anything is opened: damaged folders and wrong cards."""

import json
import os
import subprocess

import fake_artefacts as fake
import pytest

import zoo
from zoo.artefacts import sums
from zoo.errors import BadInput


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return fake.write(tmp_path_factory.mktemp("made") / "a", {"notes.md": b"more"})


@pytest.fixture
def folder(made, tmp_path):
    """A sound artefact with a sub-folder, to be damaged."""
    (tmp_path / "a" / "sub").mkdir(parents=True)
    for path in made.iterdir():
        (tmp_path / "a" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "a" / "sub" / "deep file.bin").write_bytes(b"deep")
    sums.write(tmp_path / "a")
    return tmp_path / "a"


def test_the_sums_are_those_of_sha256sum(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    names = [line[66:] for line in lines]
    assert names == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    sums.check(folder)
    sums.write(folder)
    assert (folder / "SHA256SUMS").read_text().splitlines() == lines


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "model.onnx is damaged: SHA-256 must be .*, got": lambda a: damage(a / "model.onnx"),
    "mc.tflite is damaged": lambda a: (a / "mc.tflite").write_bytes((a / "mc.tflite").read_bytes()[:100]),
    "deep file.bin is damaged": lambda a: (a / "sub/deep file.bin").write_bytes(b""),
    "'notes.md' is missing": lambda a: (a / "notes.md").unlink(),
    "'sub/new.txt' in .* is not listed": lambda a: (a / "sub/new.txt").write_text("hello"),
    "has no SHA256SUMS": lambda a: (a / "SHA256SUMS").unlink(),
    "symbolic link 'notes.md'": lambda a: ((a / "notes.md").unlink(), (a / "notes.md").symlink_to("/etc/hostname")),
    "symbolic link 'more'": lambda a: (a / "more").symlink_to(a.parent),
    "plain files, got 'sub/pipe'": lambda a: os.mkfifo(a / "sub/pipe"),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_folder_that_changed_is_refused_before_anything_is_opened(folder, message, monkeypatch):
    DAMAGES[message](folder)
    monkeypatch.setattr("zoo.artefacts.contract.read", lambda folder: pytest.fail("opened"))
    with pytest.raises(BadInput, match=message):
        zoo.load(folder)


ZEROS = "0" * 64


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "not of the form"),
        ("hello", "not of the form"),
        (f"{ZEROS[1:]}  notes.md", "not of the form"),
        (f"{ZEROS} notes.md", "not of the form"),
        (f"{ZEROS}  /etc/passwd", "absolute path"),
        (f"{ZEROS}  C:/notes.md", "absolute path"),
        (f"{ZEROS}  ../a/notes.md", r"empty, \. or \.\. parts"),
        (f"{ZEROS}  sub/../notes.md", r"empty, \. or \.\. parts"),
        (f"{ZEROS}  ./notes.md", r"empty, \. or \.\. parts"),
        (f"{ZEROS}  sub//x", r"empty, \. or \.\. parts"),
        (f"{ZEROS}  sub\\x", "backslash"),
        (f"{ZEROS}  a\tb", "unprintable"),
        (f"{ZEROS}  SHA256SUMS", "the sums itself"),
        (f"{ZEROS}  notes.md", "named twice"),
    ],
)
def test_a_line_that_is_none_is_refused(folder, line, message):
    with open(folder / "SHA256SUMS", "a") as file:
        file.write(line + "\n")
    number = len((folder / "SHA256SUMS").read_text().splitlines())
    with pytest.raises(BadInput, match=message) as refused:
        sums.check(folder)
    assert str(refused.value).startswith(f"line {number} of {folder / 'SHA256SUMS'} ")


def test_sums_that_are_no_text_or_endless_are_refused(folder):
    (folder / "SHA256SUMS").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        sums.check(folder)
    (folder / "SHA256SUMS").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(BadInput, match="more than"):
        sums.check(folder)


def test_links_and_odd_names_are_not_written(tmp_path):
    (tmp_path / "a\nb").write_text("x")
    with pytest.raises(BadInput, match="rename the file"):
        sums.write(tmp_path)
    (tmp_path / "a\nb").unlink()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(BadInput, match="symbolic link"):
        sums.write(tmp_path)


IMAGE = {"kind": "image", "name": "image", "shape": [4, 4, 1], "dtype": "uint8"}
OUTPUT = {"name": "logits", "dtype": "float32", "labels": fake.LABELS}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format of .* got 2"),
        ({"name": 3}, "name of .* got 3"),
        ({"input": []}, "input must be .* got"),
        ({"input": {**IMAGE, "kind": "sound"}}, "image or text"),
        ({"input": {**IMAGE, "kind": ["image"]}}, "image or text"),
        ({"input": {**IMAGE, "name": ""}}, "input.name"),
        ({"input": {**IMAGE, "shape": [4, 4]}}, "input.shape"),
        ({"input": {**IMAGE, "shape": [4, 4, True]}}, "input.shape"),
        ({"input": {**IMAGE, "shape": [0, 4, 1]}}, "input.shape"),
        ({"input": {**IMAGE, "shape": [99999, 99999, 3]}}, "input.shape"),
        ({"input": {**IMAGE, "dtype": "float32"}}, "uint8 for image"),
        ({"input": {**IMAGE, "kind": "text", "shape": [5], "dtype": "int32"}}, "input.vocabulary"),
        ({"output": {**OUTPUT, "dtype": "float64"}}, "output.dtype"),
        ({"output": {**OUTPUT, "labels": ["one"]}}, "output.labels"),
        ({"output": {**OUTPUT, "labels": ["a", "a", "b"]}}, "output.labels"),
        ({"output": {**OUTPUT, "labels": ["a", "b", 3]}}, "output.labels"),
        ({"output": {**OUTPUT, "labels": ["a", "b", "\x1b[2J"]}}, "output.labels"),
        ({"modes": ["mc"]}, "with inference"),
        ({"modes": [["inference"]]}, "with inference"),
        ({"formats": {}}, "one or more of onnx"),
        ({"formats": {"onnx": "model.onnx"}}, "formats.onnx"),
        ({"formats": {"onnx": {"mc": "mc.onnx"}}}, "formats.onnx"),
        ({"formats": {"onnx": {"inference": "../a/model.onnx"}}}, "the plain name"),
        ({"formats": {"onnx": {"inference": "/etc/passwd"}}}, "the plain name"),
        ({"formats": {"onnx": {"inference": ".."}}}, "the plain name"),
        ({"formats": {"onnx": {"inference": None}}}, "the plain name"),
        ({"formats": {"onnx": {"inference": "none.onnx"}}}, "cannot find 'none.onnx'"),
    ],
)
def test_a_card_that_is_wrong_is_refused(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message):
        zoo.load(fake.write(tmp_path / "a", **changes))


CARDS = {
    "empty": b"",
    "cut": b"{",
    "binary": b"\xff",
    "list": b"[]",
    "deep": b"[" * 200_000,
    "long": b'{"a": 1' + b" " * 2**23 + b"}",
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_a_card_that_is_no_card_is_refused(tmp_path, card):
    with pytest.raises(BadInput, match=r"card\.json"):
        zoo.load(fake.write(tmp_path / "a", {"card.json": card}))


def test_the_card_is_read_as_it_was_written(made):
    assert zoo.load(made).card == json.loads((made / "card.json").read_text())
