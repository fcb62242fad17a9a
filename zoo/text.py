"""Text to token ids and back: Keras' `TextVectorization`, and its vocabulary as a text file.

Id 0 is padding, id 1 a token outside the vocabulary, then tokens from frequent to rare.
"""

from pathlib import Path

from zoo.errors import BadInput
from zoo.files import write_text

RESERVED = ("", "[UNK]")


def learn(batches, vocabulary, length):
    """A `TextVectorization` whose at most `vocabulary` tokens are learned from `batches` of strings.

    `batches` is a `tf.data.Dataset` of string tensors `(batch,)`, or a list of strings.
    Text is lower-cased, punctuation stripped, split at white space, cut off at `length`.
    """
    layer = _layer(length, max_tokens=vocabulary)
    layer.adapt(batches)
    if layer.vocabulary_size() <= len(RESERVED):
        raise BadInput("the training texts hold no word to learn a vocabulary from; choose another data set")
    return layer


def vectorizer(vocabulary, length, name=None):
    """The Keras layer that maps strings `(batch,)` to token ids `(batch, length)` by a saved vocabulary.

        layer = vectorizer(("", "[UNK]", "good", "film"), 4)
        layer(["A good film!"])     # [[1, 2, 3, 0]]

    Raises `BadInput` if `vocabulary` is not one of ours.
    """
    _check(vocabulary, "the vocabulary")
    return _layer(length, vocabulary=list(vocabulary[len(RESERVED) :]), name=name)


def tokenise(layer, texts):
    """Token ids of a list of strings: int32, `(len(texts), length)`."""
    return encoder(layer)(list(texts)).numpy()


def encoder(layer):
    """A function from a tensor of strings `(batch,)` to int32 ids `(batch, length)`, fit for tf.data."""
    import tensorflow as tf

    def encode(texts):
        return tf.cast(layer(valid(texts)), tf.int32)

    return encode


def valid(texts):
    """The strings with bytes that are not UTF-8 replaced: a vocabulary could not hold them."""
    import tensorflow as tf

    return tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")


def save_vocabulary(path, vocabulary):
    """Write a vocabulary as UTF-8, a token a line; line k, counted from 0, is id k, so the first is empty."""
    _check(vocabulary, "the vocabulary")
    write_text(path, "".join(f"{token}\n" for token in vocabulary))


def load_vocabulary(path):
    """The vocabulary in a file of `save_vocabulary`, as a tuple.

    Raises `BadInput` if the file is missing or holds something else.
    """
    try:
        # Only \n ends a line: a token may hold other characters that Python takes for line ends.
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise BadInput(f"cannot read the vocabulary {path} ({error.strerror}); give an existing file") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text; give a vocabulary file with a token a line") from error
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
            f"{what} begins with {tokens[:2]!r} and has {len(tokens)} tokens; it must begin with the "
            "padding '' and '[UNK]', followed by at least one token: use the file saved with the model"
        )
    if len(set(tokens)) != len(tokens) or any("\n" in token or not token for token in tokens[1:]):
        raise BadInput(f"{what} has a token twice, an empty one or one with a line break; save it anew")
