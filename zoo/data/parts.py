"""The parts of a data set: in memory, mapped from the cache, or decoded anew in each epoch."""

import functools
import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data import announce, cache, flat, images
from zoo.data.options import DataOptions
from zoo.data.source import CHUNK, Source, damaged
from zoo.data.split import stratified_order
from zoo.seeds import of_streamed_order

if TYPE_CHECKING:
    import tensorflow as tf

_DECODED = 2**24  # bytes that are decoded at once into the cache


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """Examples in memory, or mapped into memory from a file in the cache.

    Attributes:
        x: uint8 images `(n, height, width, channels)`, int32 token ids `(n, length)`, or float32 rows
            `(n, features)`. A read-only `np.memmap` if the data do not fit into memory.
        y: int32 classes `(n,)`.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"Part({len(self):,} examples{' on disk' * self.mapped}, x {self.x.dtype} {self.x.shape})"

    @property
    def mapped(self) -> bool:
        """Whether `x` is mapped from a file: then copy only some rows of it at a time."""
        return isinstance(self.x, np.memmap)

    def head(self, n: int) -> "Part":
        """Returns the first `n` examples; all if there are fewer."""
        return Part(self.x[:n], self.y[:n])

    def sample(self, n: int) -> "Part":
        """Returns `n` examples, always the same, with classes in their proportions; all if there are fewer."""
        places = sampled(self.y, n)
        return Part(self.x[places], self.y[places])


@dataclass(frozen=True, eq=False, repr=False)
class StreamedPart:
    """Examples that are decoded anew in each epoch, since they fit neither into memory nor into the cache.

    The classes `y` are in memory. The examples are those of the `Part` that a larger memory budget gives.
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
    arrays: list[Any] = [None] * len(wanted)
    filled = [0] * len(wanted)
    for number, x in rows(chunks, wanted, encode):
        if arrays[number] is None:
            arrays[number] = np.empty((len(wanted[number]), *x.shape[1:]), x.dtype)
        arrays[number][filled[number] : filled[number] + len(x)] = x
        filled[number] += len(x)
    return arrays


def rows(
    chunks: Callable, wanted: Sequence[np.ndarray], encode: Callable, most: int = CHUNK
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the examples at each array of ascending indices in `wanted`, in one pass over the files.

    Args:
        chunks: as in `StreamedPart`, like `encode`.
        wanted: the arrays of indices.
        encode: from `(raw, y)` to `(x, y)`.
        most: number of examples that are encoded at once.

    Yields:
        The number of an array in `wanted`, and the next of its examples.
    """
    import tensorflow as tf

    union = np.sort(np.concatenate(wanted))
    places = [np.searchsorted(union, indices) for indices in wanted]
    examples = chunks(union) if most >= CHUNK else chunks(union).rebatch(most)
    start = 0
    for batch, _ in examples.map(encode, tf.data.AUTOTUNE, deterministic=True).prefetch(2):
        x = batch.numpy()
        for number, place in enumerate(places):
            low, high = np.searchsorted(place, [start, start + len(x)])
            if low < high:
                yield number, x[place[low:high] - start]
        start += len(x)


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
        memory_budget: bytes; parts that need more are mapped from the cache, or streamed if they cannot be cached.

    Returns:
        `(parts by name, shape of an example, vocabulary of a text set or None)`.

    Raises:
        BadInput: files cannot be read, or images have several sizes.
    """
    if source.splits["train"].x is not None:
        return (*_array_parts(source, places, options), None)

    import tensorflow as tf

    try:
        coding = _Texts(source, places["train"][1], options) if source.kind == "text" else _Images(source, options)
        if sum(len(indices) for _, indices in places.values()) * coding.bytes <= memory_budget:
            parts, tokens = _read_parts(source, places, coding.encoder()), coding.vocabulary
        else:
            parts, tokens = _parts_on_disk(source, places, options, coding, memory_budget)
        return parts, coding.shape, tokens
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


class _Images:
    """How images become arrays."""

    dtype, vocabulary, packages = np.dtype("uint8"), None, ("pillow",)
    options = ("image_size", "resize", "value_range")

    def __init__(self, source: Source, options: DataOptions):
        self._source, self._options = source, options
        self.shape = tuple(source.shape)
        if options.image_size:
            self.shape = (options.image_size, options.image_size, source.shape[2])
        elif None in source.shape:
            # The set does not state the size of its images: the first one decides, and the others must agree.
            (raw, _) = next(iter(source.splits["train"].chunks(np.arange(1))))
            named = f"an image of {source.name}"
            self.shape = images.decode(raw[0].numpy(), source.shape[2], named=named).shape
        self.bytes = int(np.prod(self.shape))

    def encoder(self):
        """Returns a function for tf.data from `(raw, y)` to `(x, y)`; `x` is uint8 `(batch, *shape)`."""
        import tensorflow as tf

        def encode(raw, y):
            x = tf.numpy_function(self._decoded, [raw], tf.uint8, stateful=False)
            return tf.ensure_shape(x, (None, *self.shape)), y

        return encode

    def _decoded(self, raw):
        source, options = self._source, self._options
        files = [os.fsdecode(path) for path in raw] if source.paths else raw
        how = options.resize if options.image_size else None
        return images.decode_all(files, self.shape, source.name, how, options.limits)


class _Texts:
    """How texts become arrays. The vocabulary is learned from the training part when it is first needed."""

    dtype, packages = np.dtype("int32"), ("tensorflow", "keras")
    options = ("vocabulary", "length", "text_column", "label_column")

    def __init__(self, source: Source, indices: np.ndarray, options: DataOptions):
        self._source, self._indices, self._options = source, indices, options
        self.shape, self.bytes = (options.length,), 4 * options.length

    @functools.cached_property
    def _layer(self):
        from zoo.data import text

        texts = self._source.splits["train"].chunks(self._indices).map(lambda raw, _: text.valid(raw))
        return text.learn(texts, self._options.vocabulary, self._options.length)

    @functools.cached_property
    def vocabulary(self):
        return tuple(str(token) for token in self._layer.get_vocabulary())

    def encoder(self):
        """Returns a function for tf.data from `(raw, y)` to `(x, y)`; `x` is int32 `(batch, length)`."""
        from zoo.data import text

        tokens = text.encoder(self._layer)
        return lambda raw, y: (tokens(raw), y)


def _parts_on_disk(source, places, options, coding, memory_budget):
    """Returns the parts mapped from the cache, or streamed if that is impossible; and the vocabulary."""
    try:
        mapped = _mapped(source, places, options, coding)
    except cache.Unavailable as error:
        announce.say(f"{source.name} is decoded anew in each epoch, in an order of its own: {error}")
        return _streamed_parts(source, places, coding.encoder(), memory_budget), coding.vocabulary
    return {
        key: Part(mapped.arrays[key], source.splits[split].y[indices]) for key, (split, indices) in places.items()
    }, mapped.vocabulary


def _mapped(source, places, options, coding):
    chosen = {name: options.to_json()[name] for name in ("train_size", "split_seed", *coding.options)}
    versions = [importlib.metadata.version(package) for package in coding.packages]
    about = (flat.FORMAT, source.place, source.kind, chosen, versions, sys.byteorder)
    try:
        stamps = {split: source.splits[split].stamp() for split, _ in places.values()}
    except OSError as error:  # a file is gone: reading the set says so
        raise cache.Unavailable(f"cannot read {error.filename}: {error.strerror}") from error
    decided = {
        key: (split, stamps[split], hashlib.sha256(np.ascontiguousarray(indices, "<i8")).hexdigest())
        for key, (split, indices) in places.items()
    }
    contents = flat.Contents(
        name=source.name,
        stamp=flat.digest(coding.shape, decided),
        dtype=coding.dtype,
        shapes={key: (len(indices), *coding.shape) for key, (_, indices) in places.items()},
        vocabulary=options.vocabulary if source.kind == "text" else None,
    )

    def decode():
        most, encode = max(1, min(CHUNK, _DECODED // coding.bytes)), coding.encoder()

        def every():
            for split, keys in _by_split(places).items():
                wanted = [places[key][1] for key in keys]
                for number, x in rows(source.splits[split].chunks, wanted, encode, most):
                    yield keys[number], x

        return every(), coding.vocabulary

    return cache.mapped(flat.digest(about)[:32], contents, decode)


def _by_split(places):
    """Returns the names of the parts of each split."""
    return {
        split: [key for key in places if places[key][0] == split]
        for split in dict.fromkeys(split for split, _ in places.values())
    }


def _read_parts(source, places, encode):
    parts = {}
    for split, keys in _by_split(places).items():
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
