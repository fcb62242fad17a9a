"""Text to token ids without TensorFlow: what `zoo.text.vectorizer` computes, in plain Python.

Upper-case ASCII letters become lower-case ones, ASCII punctuation goes, ASCII white space
separates. Letters, signs and spaces beyond ASCII stay as they are, as in Keras.
"""

import string

import numpy as np

from zoo.text import RESERVED

_PUNCTUATION = string.punctuation.encode()
_UNKNOWN = 1


class Tokens:
    """Maps strings to token ids by a vocabulary, cut off or padded with 0 at `length`.

    >>> Tokens(("", "[UNK]", "good", "film"), 4)(["A good film!"])
    array([[1, 2, 3, 0]], dtype=int32)
    """

    def __init__(self, vocabulary, length):
        self._length = length
        self._ids = {token.encode(): id_ for id_, token in enumerate(vocabulary) if id_ >= len(RESERVED)}

    def __call__(self, texts):
        """Token ids of strings, or of bytes in UTF-8: int32, `(len(texts), length)`."""
        rows = np.zeros((len(texts), self._length), np.int32)
        for row, text in zip(rows, texts, strict=True):
            ids = [self._ids.get(word, _UNKNOWN) for word in words(text)[: self._length]]
            row[: len(ids)] = ids
        return rows


def words(text):
    """The words of a string, as UTF-8 bytes: tokens, if the vocabulary has them.

    >>> words("Don't  STOP, Émile")
    [b'dont', b'stop', b'\\xc3\\x89mile']
    """
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    valid = data.decode("utf-8", "replace").encode()  # a vocabulary could not hold other bytes
    return valid.lower().translate(None, _PUNCTUATION).split()  # of bytes: ASCII alone
