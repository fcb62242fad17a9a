"""Vocabularies: learned, saved, and the same mapping afterwards."""

import numpy as np
import pytest

from zoo.data import text
from zoo.errors import BadInput

TEXTS = ["A good, good film!", "not a bad film", "dull"]


def test_the_most_frequent_tokens_come_first():
    vocabulary = text.learn(TEXTS, 100, 4).get_vocabulary()
    assert vocabulary[:2] == ["", "[UNK]"]
    assert set(vocabulary[2:5]) == {"a", "good", "film"}


def test_case_and_punctuation_do_not_matter():
    layer = text.vectorizer(("", "[UNK]", "good", "film"), 4)
    np.testing.assert_array_equal(text.tokenise(layer, ["Good FILM!", "good film"]), [[2, 3, 0, 0]] * 2)


def test_unknown_tokens_are_one_and_long_texts_cut():
    layer = text.vectorizer(("", "[UNK]", "good"), 2)
    ids = text.tokenise(layer, ["strange good good"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [[1, 2]]


def test_a_saved_vocabulary_gives_the_same_mapping(tmp_path):
    learned = text.learn(TEXTS, 100, 5)
    text.save_vocabulary(tmp_path / "vocabulary.txt", learned.get_vocabulary())
    again = text.vectorizer(text.load_vocabulary(tmp_path / "vocabulary.txt"), 5)
    np.testing.assert_array_equal(text.tokenise(learned, TEXTS), text.tokenise(again, TEXTS))


def test_odd_characters_survive_the_file(tmp_path):
    vocabulary = ("", "[UNK]", "naïve", "映画", "a\u2028b", "c\x85d", "\ufeffe", "f\rg", " h")
    text.save_vocabulary(tmp_path / "v.txt", vocabulary)
    assert text.load_vocabulary(tmp_path / "v.txt") == vocabulary


def test_bytes_that_are_no_utf8_are_replaced():
    import tensorflow as tf

    assert text.valid(tf.constant([b"caf\xe9"])).numpy()[0].decode() == "caf\ufffd"


def test_texts_without_a_word_are_refused():
    with pytest.raises(BadInput, match="no word"):
        text.learn(["...", ""], 10, 3)


@pytest.mark.parametrize("content", [b"", b"good\nfilm\n", b"\n[UNK]\n", b"\n[UNK]\na\na\n", b"\n[UNK]\n\xff\n"])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(BadInput):
        text.load_vocabulary(tmp_path / "v.txt")


def test_a_missing_vocabulary_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot read"):
        text.load_vocabulary(tmp_path / "none.txt")


@pytest.mark.parametrize("vocabulary", [("", "[UNK]", "a\nb"), ("", "[UNK]", "a", ""), ("a", "b", "c")])
def test_what_a_file_could_not_hold_is_refused(tmp_path, vocabulary):
    with pytest.raises(BadInput):
        text.save_vocabulary(tmp_path / "v.txt", vocabulary)
