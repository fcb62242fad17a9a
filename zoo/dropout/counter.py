"""Masks from a counter: functions of a key and of the position in the tensor, and of nothing else.

The bits are an integer hash of the element's index. So a key gives the same masks, bit for bit, in
TensorFlow, ONNX Runtime, LiteRT and NumPy; any sample can be drawn alone; and no mask needs to be stored
for the gradient, because it can be drawn again.

In `mc` and in exports the key is a seed and a site; in training it is the state of a layer's seed
generator. The hash is two rounds of multiplication and xor-shift of 32-bit integers, similar to the
finalizer of MurmurHash3 (Appleby 2008), with a key between the rounds. All arithmetic is int32 and wraps
around.
"""

import hashlib
import math
from collections.abc import Callable
from typing import Any

from keras import ops

STEP = -1640531527  # 2**32 divided by the golden ratio, odd
_FIRST, _SECOND = 2146121005, -2073254261  # odd multipliers that flip half of the bits on average


def salt(site: str, occurrence: int) -> int:
    """Returns the int32 that distinguishes the masks of one occurrence of a site from all others."""
    digest = hashlib.sha256(f"{site}/{occurrence}".encode()).digest()
    return int.from_bytes(digest[:4], "little", signed=True)


def bits(seeds: Any, salt: int, size: Any) -> Any:
    """Returns pseudo-random int32 `(samples, size)` over the whole range, for int32 `seeds` `(samples,)`."""
    key = mixed(ops.expand_dims(seeds, -1) * STEP + salt, salt)
    return words(key, key * _FIRST + STEP, size)


def words(first: Any, second: Any, size: Any) -> Any:
    """Returns pseudo-random int32 `(..., size)` for the keys `first` and `second`, int32 `(..., 1)`."""
    return mixed(ops.arange(size, dtype="int32") * STEP + first, second)


def keys(seed: Any, count: Any, lane: Any = 0) -> tuple[Any, Any]:
    """Returns the two keys of draw number `count` of a generator; `lane` is the replica. All are int32 scalars."""
    first = mixed(count * STEP + seed, lane * _FIRST)
    return first, mixed(seed * STEP + first, count)


def threshold(rate: float) -> int:
    """Returns the int32 below which a word means dropped.

    The probability is `rate` to within 2**-32, and above 0 for every rate above 0.
    """
    return min(max(round(rate * 2**32), 1), 2**32 - 1) - 2**31 if rate > 0 else -(2**31)


def kept(seeds: Any, salt: int, size: Any, rate: float) -> Any:
    """Returns booleans `(samples, size)`, each False with probability `rate` (to within 2**-32)."""
    return ops.greater_equal(bits(seeds, salt, size), threshold(rate))


def normal(seeds: Any, salt: int, size: Any) -> Any:
    """Returns standard normal float32 `(samples, size)`, from integers that are equal in every runtime."""
    return gauss(bits(seeds, salt, size), bits(seeds, salt ^ _SECOND, size))


def gauss(a: Any, b: Any) -> Any:
    """Returns standard normal float32 from two independent words, by the transformation of Box & Muller 1958.

    Runtimes may differ in the last digit, because they round logarithm and cosine differently.
    """
    return ops.sqrt(-2.0 * ops.log(_unit(a))) * ops.cos(2 * math.pi * _unit(b))


def _unit(h):
    """Returns exact floats inside (0, 1): 23 bits plus a half."""
    return (ops.cast(_shifted(h, 9), "float32") + 0.5) * 2**-23


def _shifted(h, k):
    """Shifts `h` right by `k` bits, filling with zeros.

    It is an arithmetic shift and a correction: the only form that TensorFlow, ONNX and LiteRT all
    convert correctly.
    """
    return ops.right_shift(h, k) + ops.cast(h < 0, "int32") * 2 ** (32 - k)


def mixed(h: Any, key: Any, shifted: Callable = _shifted) -> Any:
    """Returns two rounds of the hash of `h`, with `key` between them.

    The high bits are the stronger ones. Comparing words with a threshold depends on them first.

    Args:
        h: int32.
        key: int32.
        shifted: a logical right shift `(h, bits)`.
    """
    h = ops.bitwise_xor(h, shifted(h, 16)) * _FIRST + key
    return ops.bitwise_xor(h, shifted(h, 15)) * _SECOND
