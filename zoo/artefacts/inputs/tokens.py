"""Converts text to token ids without TensorFlow, with the result of `zoo.data.text.vectorizer`.

ASCII letters become lower-case, ASCII punctuation is removed, and ASCII white space
separates words. Other characters stay as they are, as in Keras.
"""

import string
from collections.abc import Sequence

import numpy as np

from zoo.data.text import RESERVED

_PUNCTUATION = string.punctuation.encode()
_UNKNOWN = 1


class Tokens:
    """Maps strings to token ids, cut off or padded with 0 to a fixed length.

    Args:
        vocabulary: the tokens by id; 0 is padding, 1 the unknown token.
        length: number of ids per string.

    Examples:
        >>> Tokens(("", "[UNK]", "good", "film"), 4)(["A good film!"])
        array([[1, 2, 3, 0]], dtype=int32)
    """

    def __init__(self, vocabulary: Sequence[str], length: int) -> None:
        self._length = length
        self._ids = {token.encode(): id_ for id_, token in enumerate(vocabulary) if id_ >= len(RESERVED)}

    def __call__(self, texts: Sequence[str | bytes]) -> np.ndarray:
        """Returns int32 token ids `(len(texts), length)` of strings, or of bytes in UTF-8."""
        rows = np.zeros((len(texts), self._length), np.int32)
        for row, text in zip(rows, texts, strict=True):
            ids = [self._ids.get(word, _UNKNOWN) for word in words(text)[: self._length]]
            row[: len(ids)] = ids
        return rows


def words(text: str | bytes) -> list[bytes]:
    """Returns the words of a string as UTF-8 bytes.

    Examples:
        >>> words("Don't  STOP, Émile")
        [b'dont', b'stop', b'\\xc3\\x89mile']
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    valid = data.decode("utf-8", "replace").encode()  # a vocabulary cannot hold other bytes
    return valid.lower().translate(None, _PUNCTUATION).split()  # on bytes, this affects ASCII alone
