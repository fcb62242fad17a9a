"""The parts of a data set: in memory, or read from disk on the fly."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from zoo import sources
from zoo.seeds import seed_for


@dataclass(frozen=True, eq=False)
class Part:
    """Examples in memory.

    `x`: uint8 images `(n, height, width, channels)`, or int32 token ids `(n, length)`.
    `y`: int32 classes `(n,)`.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self):
        return len(self.y)

    def head(self, n):
        """The first `n` examples (or all, if there are fewer)."""
        return Part(self.x[:n], self.y[:n])


@dataclass(frozen=True, eq=False)
class StreamedPart:
    """Examples that stay on disk and are decoded while they are read; the classes `y` are in memory.

    Same examples and same order as the `Part` that a larger memory budget would have given.
    """

    y: np.ndarray
    indices: np.ndarray = field(repr=False)  # places in the set's split, ascending
    chunks: Callable = field(repr=False)  # indices -> tf.data of (raw, y), see zoo.sources.Split
    encode: Callable = field(repr=False)  # (raw, y) -> (x, y), a batch at a time
    buffer: int  # examples held back, undecoded, to be shuffled

    def __len__(self):
        return len(self.y)

    def batches(self, batch_size, seed=None, epoch=0):
        """A `tf.data.Dataset` of `(x, y)`, the last batch as short as it comes out.

        `x` is `(batch, height, width, channels)` uint8 or `(batch, length)` int32. Without
        a `seed`: the part's own order. With one: an order that depends on `seed` and
        `epoch` alone, shuffled within a moving window of `buffer` examples.
        """
        import tensorflow as tf

        if seed is not None:
            seed = tf.constant(seed_for(seed, f"epoch/{epoch}"), tf.int64)
        return self._pipeline(tf.constant(batch_size, tf.int64), seed)

    @functools.cached_property
    def _pipeline(self):
        """A function of the batch size and a seed or None, so that a pipeline's parts are not traced in every epoch."""
        import tensorflow as tf

        def pipeline(size, seed):
            examples = self.chunks(self.indices).unbatch()
            if seed is not None:
                examples = _shuffled(examples, min(self.buffer, len(self)), seed)
            batches = examples.batch(size).map(self.encode, tf.data.AUTOTUNE, deterministic=True)
            count = -(-len(self) // size)
            return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)

        return tf.function(pipeline, autograph=False)

    def head(self, n):
        """The first `n` examples (or all, if there are fewer) as a `Part`."""
        (x,) = read(self.chunks, [self.indices[:n]], self.encode)
        return Part(x, self.y[:n])


def _shuffled(examples, buffer, seed):
    import tensorflow as tf

    def shuffle(_):
        # tf.data mixes the process-wide seed into its own; in here it is this graph's, a constant
        # (and not 0, where it would look at `seed`, which is not known yet).
        tf.compat.v1.set_random_seed(1)
        return examples.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)

    return tf.data.Dataset.range(1).flat_map(shuffle)


def read(chunks, wanted, encode):
    """Read and encode the examples at each array of indices in `wanted`, in one pass: a list of arrays."""
    import tensorflow as tf

    union = np.sort(np.concatenate(wanted))
    places = [np.searchsorted(union, indices) for indices in wanted]
    arrays = None
    start = 0
    for batch, _ in chunks(union).map(encode, tf.data.AUTOTUNE, deterministic=True).prefetch(2):
        x = batch.numpy()
        if arrays is None:
            arrays = [np.empty((len(indices), *x.shape[1:]), x.dtype) for indices in wanted]
        for array, place in zip(arrays, places, strict=True):
            low, high = np.searchsorted(place, [start, start + len(x)])
            array[low:high] = x[place[low:high] - start]
        start += len(x)
    return arrays


def build(source, places, image_size, vocabulary, length, memory_budget):
    """The parts of a `Source` at the places that `zoo.split.cut` chose.

    Returns `(parts by name, shape of an example, vocabulary of a text set or None)`. Raises
    `BadInput` for files that cannot be read, or images of differing size.
    """
    if source.splits["train"].x is not None:
        return (*_array_parts(source, places, image_size), None)

    import tensorflow as tf

    try:
        if source.kind == "text":
            encode, tokens = _text_encoder(source, places["train"][1], vocabulary, length)
            shape, itemsize = (length,), 4
        else:
            encode, shape = _image_encoder(source, image_size)
            tokens, itemsize = None, 1
        size = sum(len(indices) for _, indices in places.values()) * int(np.prod(shape)) * itemsize
        if size > memory_budget:
            return _streamed_parts(source, places, encode, memory_budget), shape, tokens
        return _read_parts(source, places, encode), shape, tokens
    except tf.errors.OpError as error:
        raise sources.damaged(source.name, error) from error


def _array_parts(source, places, image_size):
    parts = {}
    for key, (split, indices) in places.items():
        x = source.splits[split].x[indices]
        if image_size:
            x = np.concatenate([sources.resize(x[i : i + 1024], image_size).numpy() for i in range(0, len(x), 1024)])
        parts[key] = Part(x, source.splits[split].y[indices])
    return parts, parts["train"].x.shape[1:]


def _image_encoder(source, image_size):
    import tensorflow as tf

    shape = source.shape
    if image_size:
        shape = (image_size, image_size, shape[2])
    elif None in shape:
        # The set does not say how large its images are: the first one does, the others must agree.
        (raw, _) = next(iter(source.splits["train"].chunks(np.arange(1))))
        shape = tuple(tf.io.decode_image(raw[0], channels=shape[2], expand_animations=False).shape)
    return sources.image_encoder(shape, image_size, source.paths), shape


def _text_encoder(source, indices, vocabulary, length):
    from zoo import text

    chunks = source.splits["train"].chunks(indices)
    layer = text.learn(chunks.map(lambda raw, _: text.valid(raw)), vocabulary, length)
    tokens = text.encoder(layer)

    def encode(raw, y):
        return tokens(raw), y

    return encode, tuple(str(token) for token in layer.get_vocabulary())


def _read_parts(source, places, encode):
    parts = {}
    for split in dict.fromkeys(split for split, _ in places.values()):
        keys = [key for key in places if places[key][0] == split]
        arrays = read(source.splits[split].chunks, [places[key][1] for key in keys], encode)
        for key, x in zip(keys, arrays, strict=True):
            parts[key] = Part(x, source.splits[split].y[places[key][1]])
    return parts


def _streamed_parts(source, places, encode, memory_budget):
    parts = {}
    for key, (name, indices) in places.items():
        split = source.splits[name]
        # A quarter of the budget holds undecoded examples for shuffling.
        buffer = max(1000, memory_budget // 4 // max(1, split.raw_bytes))
        parts[key] = StreamedPart(split.y[indices], indices, split.chunks, encode, buffer)
    return parts
