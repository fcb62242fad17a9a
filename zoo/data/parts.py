"""The parts of a data set: in memory, or read from disk during training."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data import images
from zoo.data.options import DataOptions
from zoo.data.source import Source, damaged
from zoo.data.split import stratified_order
from zoo.seeds import of_streamed_order

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """Examples in memory.

    Attributes:
        x: uint8 images `(n, height, width, channels)`, int32 token ids `(n, length)`, or float32 rows
            `(n, features)`.
        y: int32 classes `(n,)`.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"Part({len(self):,} examples, x {self.x.dtype} {self.x.shape})"

    def head(self, n: int) -> "Part":
        """Returns the first `n` examples; all if there are fewer."""
        return Part(self.x[:n], self.y[:n])

    def sample(self, n: int) -> "Part":
        """Returns `n` examples, always the same, with classes in their proportions; all if there are fewer."""
        places = sampled(self.y, n)
        return Part(self.x[places], self.y[places])


@dataclass(frozen=True, eq=False, repr=False)
class StreamedPart:
    """Examples that stay on disk and are decoded as they are read; the classes `y` are in memory.

    The examples and their order are those of the `Part` that a larger memory budget gives.
    """

    y: np.ndarray
    indices: np.ndarray  # in the set's split, ascending
    chunks: Callable  # indices -> tf.data of (raw, y), see zoo.data.source.Split
    encode: Callable  # (raw, y) -> (x, y), a batch at a time
    buffer: int  # undecoded examples in the shuffle buffer

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"StreamedPart({len(self):,} examples on disk)"

    def batches(self, batch_size: int, seed: int | None = None, epoch: int = 0) -> "tf.data.Dataset":
        """Returns a `tf.data.Dataset` of batches `(x, y)`; the last one may be shorter.

        Args:
            batch_size: examples in a batch.
            seed: shuffles within a moving window of `buffer` examples, in an order that depends on
                `seed` and `epoch` alone. None keeps the part's own order.
            epoch: number of the epoch.

        Returns:
            `x` is uint8 `(batch, height, width, channels)` or int32 `(batch, length)`; `y` is int32 `(batch,)`.
        """
        import tensorflow as tf

        if seed is not None:
            seed = tf.constant(of_streamed_order(seed, epoch), tf.int64)
        return self._pipeline(tf.constant(batch_size, tf.int64), seed)

    @functools.cached_property
    def _pipeline(self):
        """A function of the batch size and a seed or None: tracing it once saves doing so in every epoch."""
        import tensorflow as tf

        def pipeline(size, seed):
            examples = self.chunks(self.indices).unbatch()
            if seed is not None:
                examples = _shuffled(examples, min(self.buffer, len(self)), seed)
            batches = examples.batch(size).map(self.encode, tf.data.AUTOTUNE, deterministic=True)
            count = -(-len(self) // size)
            return batches.apply(tf.data.experimental.assert_cardinality(count)).prefetch(tf.data.AUTOTUNE)

        return tf.function(pipeline, autograph=False)

    def head(self, n: int) -> Part:
        """Returns the first `n` examples as a `Part`; all if there are fewer."""
        (x,) = read(self.chunks, [self.indices[:n]], self.encode)
        return Part(x, self.y[:n])

    def sample(self, n: int) -> Part:
        """Returns `n` examples as a `Part`, as `Part.sample` does."""
        places = sampled(self.y, n)
        (x,) = read(self.chunks, [self.indices[places]], self.encode)
        return Part(x, self.y[places])


def sampled(y: np.ndarray, n: int) -> np.ndarray:
    """Returns `n` places among those of the classes `y`, ascending, with classes in their proportions."""
    return np.sort(stratified_order(y, 0)[:n])


def _shuffled(examples, buffer, seed):
    import tensorflow as tf

    def shuffle(_):
        # tf.data combines `seed` with the process-wide seed. In this graph that is a constant; not 0, because
        # TensorFlow would then test the value of `seed`, which is symbolic.
        tf.compat.v1.set_random_seed(1)
        return examples.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)

    return tf.data.Dataset.range(1).flat_map(shuffle)


def read(chunks: Callable, wanted: Sequence[np.ndarray], encode: Callable) -> list[np.ndarray]:
    """Reads and encodes the examples at each array of indices in `wanted`, in one pass over the files."""
    import tensorflow as tf

    union = np.sort(np.concatenate(wanted))
    places = [np.searchsorted(union, indices) for indices in wanted]
    arrays: Any = None
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


def build(
    source: Source,
    places: Mapping[str, tuple[str, np.ndarray]],
    options: DataOptions,
    memory_budget: int,
) -> tuple[dict[str, Part | StreamedPart], tuple[int, ...], tuple[str, ...] | None]:
    """Makes the parts of a data set.

    Args:
        source: the data set.
        places: split and indices of each part, from `zoo.data.split.cut`.
        options: how examples are read.
        memory_budget: bytes; parts that need more stay on disk.

    Returns:
        `(parts by name, shape of an example, vocabulary of a text set or None)`.

    Raises:
        BadInput: files cannot be read, or images have several sizes.
    """
    if source.splits["train"].x is not None:
        return (*_array_parts(source, places, options), None)

    import tensorflow as tf

    try:
        if source.kind == "text":
            encode, tokens = _text_encoder(source, places["train"][1], options)
            shape, itemsize = (options.length,), 4
        else:
            encode, shape = _image_encoder(source, options)
            tokens, itemsize = None, 1
        size = sum(len(indices) for _, indices in places.values()) * int(np.prod(shape)) * itemsize
        if size > memory_budget:
            return _streamed_parts(source, places, encode, memory_budget), shape, tokens
        return _read_parts(source, places, encode), shape, tokens
    except tf.errors.OpError as error:
        raise damaged(source.name, error) from error


def _array_parts(source, places, options):
    parts = {}
    for key, (split, indices) in places.items():
        x = source.splits[split].x[indices]
        if options.image_size:
            x = images.resize(x, options.image_size, options.resize)
        parts[key] = Part(x, source.splits[split].y[indices])
    return parts, parts["train"].x.shape[1:]


def _image_encoder(source, options):
    """Returns a function for tf.data from `(raw, y)` to `(x, y)`, `x` uint8 `(batch, *shape)`; and `shape`."""
    import tensorflow as tf

    shape, size = source.shape, options.image_size
    if size:
        shape = (size, size, shape[2])
    elif None in shape:
        # The set does not state the size of its images: the first one decides, and the others must agree.
        (raw, _) = next(iter(source.splits["train"].chunks(np.arange(1))))
        shape = images.decode(raw[0].numpy(), shape[2], named=f"an image of {source.name}").shape

    def decode(raw):
        files = [os.fsdecode(path) for path in raw] if source.paths else raw
        return images.decode_all(files, shape, source.name, options.resize if size else None, options.limits)

    def encode(raw, y):
        x = tf.numpy_function(decode, [raw], tf.uint8, stateful=False)
        return tf.ensure_shape(x, (None, *shape)), y

    return encode, shape


def _text_encoder(source, indices, options):
    from zoo.data import text

    chunks = source.splits["train"].chunks(indices)
    layer = text.learn(chunks.map(lambda raw, _: text.valid(raw)), options.vocabulary, options.length)
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
        # The shuffle buffer, of undecoded examples, takes a quarter of the budget.
        buffer = max(1000, memory_budget // 4 // max(1, split.raw_bytes))
        parts[key] = StreamedPart(split.y[indices], indices, split.chunks, encode, buffer)
    return parts
