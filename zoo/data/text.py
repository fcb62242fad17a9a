"""Texts as token ids: Keras' `TextVectorization`, and its vocabulary as a text file.

Id 0 is padding, id 1 any token outside the vocabulary. The others go from frequent to rare.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import BadInput
from zoo.files import write_text
from zoo.reading import read_text

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

RESERVED = ("", "[UNK]")


def learn(batches: Any, vocabulary: int, length: int) -> "keras.layers.TextVectorization":
    """Learns a vocabulary.

    Texts are lower-cased, stripped of punctuation, split at white space and cut to `length` tokens.

    Args:
        batches: a `tf.data.Dataset` of string tensors `(batch,)`, or a list of strings.
        vocabulary: largest number of token ids.
        length: number of tokens of a text.

    Returns:
        A layer from strings `(batch,)` to token ids `(batch, length)`.

    Raises:
        BadInput: the texts hold no word.
    """
    layer = _layer(length, max_tokens=vocabulary)
    layer.adapt(batches)
    if layer.vocabulary_size() <= len(RESERVED):
        raise BadInput("cannot learn a vocabulary: the training texts hold no word; choose another data set")
    return layer


def vectorizer(vocabulary: Sequence[str], length: int, name: str | None = None) -> "keras.layers.TextVectorization":
    """Returns the Keras layer from strings `(batch,)` to token ids `(batch, length)`.

    Args:
        vocabulary: token of each id; the first two are `""` and `"[UNK]"`.
        length: number of tokens of a text.
        name: name of the layer.

    Raises:
        BadInput: `vocabulary` does not have that form.

    Examples:
        >>> vectorizer(("", "[UNK]", "good", "film"), 4)(["A good film!"]).numpy().tolist()
        [[1, 2, 3, 0]]
    """
    _check(vocabulary, "the vocabulary")
    return _layer(length, vocabulary=list(vocabulary[len(RESERVED) :]), name=name)


def tokenise(layer: "keras.layers.TextVectorization", texts: Sequence[str]) -> np.ndarray:
    """Returns the token ids of texts, int32 `(len(texts), length)`."""
    return encoder(layer)(list(texts)).numpy()


def encoder(layer: "keras.layers.TextVectorization") -> Callable:
    """Returns a function, for tf.data, from a string tensor `(batch,)` to int32 token ids `(batch, length)`."""
    import tensorflow as tf

    def encode(texts):
        return tf.cast(layer(valid(texts)), tf.int32)

    return encode


def valid(texts: "tf.Tensor") -> "tf.Tensor":
    """Returns the strings with bytes that are not UTF-8 replaced, since a vocabulary cannot hold them."""
    import tensorflow as tf

    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def save_vocabulary(path: str | Path, vocabulary: Sequence[str]) -> None:
    """Writes a vocabulary as UTF-8, one token per line. Line k, counted from 0, is id k; line 0 is empty.

    Raises:
        BadInput: a vocabulary of another form.
    """
    _check(vocabulary, "the vocabulary")
    write_text(path, "".join(f"{token}\n" for token in vocabulary))


def load_vocabulary(path: str | Path) -> tuple[str, ...]:
    """Reads a file of `save_vocabulary`.

    Raises:
        BadInput: the file is missing or has another form.
    """
    # Only \n ends a line: tokens may hold other characters that Python treats as line ends.
    text = read_text(path, way="use the vocabulary file that was saved with the model")
    vocabulary = tuple(text.removesuffix("\n").split("\n"))
    _check(vocabulary, str(path))
    return vocabulary


def _layer(length, **options):
    import keras

    return keras.layers.TextVectorization(
        standardize="lower_and_strip_punctuation",
        split="whitespace",
        output_sequence_length=length,
        **options,
    )


def _check(vocabulary, what):
    tokens = tuple(vocabulary)
    if tokens[:2] != RESERVED or len(tokens) < 3:
        raise BadInput(
            f"{what} must begin with '' (padding) and '[UNK]', followed by one token or more, got {len(tokens)} tokens "
            f"that begin with {tokens[:2]!r}; use the file that was saved with the model"
        )
    if len(set(tokens)) != len(tokens) or any("\n" in token or not token for token in tokens[1:]):
        raise BadInput(f"{what} must have distinct tokens, none empty or with a line break; save it again")
