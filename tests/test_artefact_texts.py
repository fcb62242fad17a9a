"""Texts as a model takes them: where they come from, and the same tokens as Keras makes."""

import random
import string

import fake_artefacts as fake
import numpy as np
import pytest
from test_artefact_inputs import TEXT

from zoo.artefacts.inputs import read as inputs
from zoo.artefacts.inputs.tokens import Tokens, words
from zoo.data import text
from zoo.errors import BadInput

PIECES = ["good", "Film", "naïve", "ÉMILE", "映画", "don't", "\ufffd", "İstanbul", "ß", "e\u0301", "bad-good", "a\x00b"]
VOCABULARY = ("", "[UNK]", *dict.fromkeys(word.decode() for piece in PIECES for word in words(piece)), "q", "x", "7")


def strings(count, seed=0):
    """Random strings: words, ASCII, control characters, white space of every alphabet, any code point."""
    draw = random.Random(seed)
    spaces = [" ", "  ", "\t", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000", "\ufeff"]

    def piece():
        kind = draw.randrange(5)
        if kind == 0:
            return draw.choice(PIECES)
        if kind == 1:
            return draw.choice(string.printable)
        if kind == 2:
            return draw.choice(spaces)
        if kind == 3:
            return chr(draw.randrange(128))
        return chr(draw.choice([draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)]))

    return ["".join(piece() for _ in range(draw.randrange(25))) for _ in range(count)]


@pytest.mark.parametrize("length", [1, 6, 40])
def test_tokens_are_those_of_keras(length):
    given = [*strings(3000), "", " ", "!!!", *PIECES, string.printable]
    wanted = text.tokenise(text.vectorizer(VOCABULARY, length), given)
    actual = Tokens(VOCABULARY, length)(given)
    assert actual.dtype == np.int32
    np.testing.assert_array_equal(actual, wanted)
    assert (actual > 1).any()


def test_bytes_that_are_no_utf8_are_replaced_as_keras_is_given_them():
    draw = random.Random(1)
    given = [bytes(draw.choice([draw.randrange(256), 32, 113]) for _ in range(20)) for _ in range(2000)]
    given += [b"\xe2\x82 q", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"caf\xe9"]
    wanted = text.encoder(text.vectorizer(VOCABULARY, 30))(given).numpy()
    np.testing.assert_array_equal(Tokens(VOCABULARY, 30)(given), wanted)


def test_an_input_is_a_text_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["A good film!", "", "see notes.txt", " @home"]
    assert inputs.read_inputs(given, TEXT) == (given, given)


def test_a_file_has_one_text_a_line(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_bytes("\ufeffgood\r\n\nß bad\n".encode())
    wanted = [f"{path}:1", f"{path}:2", f"{path}:3"], ["good", "", "ß bad"]
    assert inputs.read_inputs([str(path)], TEXT) == wanted
    assert inputs.read_inputs([f"@{path}"], TEXT) == wanted
    names, texts = inputs.read_inputs(["first", f"@{path}"], TEXT)
    assert (names[0], texts) == ("first", ["first", "good", "", "ß bad"])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_system_ends_them(end, tmp_path):
    (tmp_path / "a.txt").write_bytes(f"good film{end}{end}bad film{end}".encode())
    assert inputs.read_inputs([str(tmp_path / "a.txt")], TEXT)[1] == ["good film", "", "bad film"]


def test_another_file_than_txt_has_to_be_named_as_a_file(tmp_path):
    (tmp_path / "reviews.csv").write_text("good\nbad\n")
    with pytest.raises(BadInput, match="give @"):
        inputs.read_inputs([str(tmp_path / "reviews.csv")], TEXT)
    assert inputs.read_inputs([f"@{tmp_path / 'reviews.csv'}"], TEXT)[1] == ["good", "bad"]


def test_files_of_texts_that_cannot_be_read_are_refused(tmp_path, monkeypatch):
    for item in ("@none", "none.txt"):
        with pytest.raises(BadInput, match="there is no file 'none"):
            inputs.read_inputs([item], TEXT)
    with pytest.raises(BadInput, match=r"must hold \.txt files, got none"):
        inputs.read_inputs([f"@{tmp_path}"], TEXT)
    (tmp_path / "x.txt").write_bytes(b"caf\xe9")
    with pytest.raises(BadInput, match="not UTF-8"):
        inputs.read_inputs([str(tmp_path / "x.txt")], TEXT)
    (tmp_path / "x.txt").write_bytes(b"")
    with pytest.raises(BadInput, match="empty file"):
        inputs.read_inputs([str(tmp_path / "x.txt")], TEXT)
    monkeypatch.setattr(inputs, "LARGEST", 10)
    (tmp_path / "x.txt").write_bytes(b"x" * 11)
    for item in (str(tmp_path / "x.txt"), "x" * 11):
        with pytest.raises(BadInput, match="at most"):
            inputs.read_inputs([item], TEXT)


def test_python_takes_one_text_or_several():
    assert inputs.batch("good", TEXT) == ["good"]
    assert inputs.batch(("a", "b"), TEXT) == ["a", "b"]
    assert inputs.batch(np.array(["a", "b"]), TEXT) == ["a", "b"]
    assert inputs.batch("lone \ud800 surrogate", TEXT) == ["lone \ufffd surrogate"]


@pytest.mark.parametrize("x", [[], 3, b"good", ["good", b"bad"], [None], np.zeros((2, 3))])
def test_what_is_no_text_is_refused(x):
    with pytest.raises(BadInput, match="must be a str"):
        inputs.batch(x, TEXT)


def test_a_saved_vocabulary_gives_the_tokens(tmp_path):
    text.save_vocabulary(tmp_path / "v.txt", fake.VOCABULARY)
    tokens = Tokens(text.load_vocabulary(tmp_path / "v.txt"), 4)
    np.testing.assert_array_equal(tokens(["A good film!", "bad " * 9]), [[1, 2, 4, 0], [3, 3, 3, 3]])
