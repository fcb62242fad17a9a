"""Masks from a counter: a function of a key and a place in the tensor, and of nothing else.

The bits come from an integer hash of the element's number, so that a key gives the same
masks, bit for bit, in TensorFlow, ONNX Runtime, LiteRT and NumPy, so that any sample can
be drawn alone, and so that a mask need not be kept for the gradient: it is drawn again.
In `mc` and exports the key is a seed and a site; in training, the state of a layer's
seed generator. The hash is two rounds of multiplying and xor-shifting 32-bit integers,
in the manner of MurmurHash3's finaliser (Appleby 2008), with a key between the rounds.
All of it is int32 arithmetic that wraps around.
"""

import hashlib
import math

from keras import ops

STEP = -1640531527  # 2**32 divided by the golden ratio, an odd number
_FIRST, _SECOND = 2146121005, -2073254261  # odd multipliers that flip half of the bits


def salt(site, occurrence):
    """The 32 bits, as a signed number, that keep the masks of one place apart from those of all others."""
    digest = hashlib.sha256(f"{site}/{occurrence}".encode()).digest()
    return int.from_bytes(digest[:4], "little", signed=True)


def bits(seeds, salt, size):
    """Pseudo-random int32 `(samples, size)` over the whole range, for int32 `seeds` `(samples,)`."""
    key = mixed(ops.expand_dims(seeds, -1) * STEP + salt, salt)
    return words(key, key * _FIRST + STEP, size)


def words(first, second, size):
    """Pseudo-random int32 `(..., size)` of the keys `first` and `second`, int32 `(..., 1)`."""
    return mixed(ops.arange(size, dtype="int32") * STEP + first, second)


def keys(seed, count, lane=0):
    """The two keys of draw number `count` of a generator, int32 scalars all; `lane` tells replicas apart."""
    first = mixed(count * STEP + seed, lane * _FIRST)
    return first, mixed(seed * STEP + first, count)


def threshold(rate):
    """The int32 below which a word means dropped: a share of `rate` of all, to within 2**-32, but never none."""
    return min(max(round(rate * 2**32), 1), 2**32 - 1) - 2**31 if rate > 0 else -(2**31)


def kept(seeds, salt, size, rate):
    """Booleans `(samples, size)`, each False with probability `rate` (to within 2**-32)."""
    return ops.greater_equal(bits(seeds, salt, size), threshold(rate))


def normal(seeds, salt, size):
    """Standard normal float32 `(samples, size)`; the integers behind it are equal in every runtime."""
    return gauss(bits(seeds, salt, size), bits(seeds, salt ^ _SECOND, size))


def gauss(a, b):
    """Standard normal float32 of two independent words, by the transformation of Box & Muller 1958.

    Logarithm and cosine round differently from runtime to runtime, in the last digit.
    """
    return ops.sqrt(-2.0 * ops.log(_unit(a))) * ops.cos(2 * math.pi * _unit(b))


def _unit(h):
    """Floats inside (0, 1), exact: 23 bits and a half."""
    return (ops.cast(_shifted(h, 9), "float32") + 0.5) * 2**-23


def _shifted(h, k):
    """`h` shifted right by `k` bits, zeros coming in.

    Written as an arithmetic shift and a correction, since that is the one form that
    TensorFlow, ONNX and LiteRT all convert to what it says.
    """
    return ops.right_shift(h, k) + ops.cast(h < 0, "int32") * 2 ** (32 - k)


def mixed(h, key, shifted=_shifted):
    """Two rounds of hashing `h`, with `key` between them; `shifted` is a logical shift to the right.

    The low bits stay the weaker ones; what decides is compared from the top.
    """
    h = ops.bitwise_xor(h, shifted(h, 16)) * _FIRST + key
    return ops.bitwise_xor(h, shifted(h, 15)) * _SECOND
