"""The masks of the layers as random numbers: rate, variance and independence.

Every statistical check states its error rate; since seeds are fixed, it passes always or never.
"""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from zoo.dropout.layers import DropBlock2D, Dropout, GaussianDropout, SpatialDropout2D, mask_layer

RATES = [0.01, 0.1, 0.25, 0.5, 0.9]
DTYPES = ["float32", "float16", "bfloat16"]
Z = 4  # standard errors of the normal law: a false alarm of one comparison has probability 1 in 16,000
P = 2 * scipy.stats.norm.sf(Z)

# Kind -> what makes the layer, the shape of a batch, and where in it one value of each unit stands.
KINDS = {
    "dropout": (Dropout, (100, 20, 50), np.s_[:]),
    "spatial": (SpatialDropout2D, (500, 3, 2, 200), np.s_[:, 0, 0, :]),
    "drop_path": (lambda rate, **more: Dropout(rate, noise_shape=(None, 1, 1), **more), (50000, 2, 1), np.s_[:, 0, 0]),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_rate = pytest.mark.parametrize("rate", RATES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
compiled = pytest.mark.parametrize("xla", [False, True], ids=["eager", "xla"])


def draw(layer, shape, dtype="float32", xla=False):
    """What a layer makes of ones in training: its factors."""
    call = tf.function(lambda x: layer(x, training=True), jit_compile=xla) if xla else lambda x: layer(x, training=True)
    return np.asarray(call(tf.ones(shape, dtype)), "float64")


def coins(kind, rate, seed=5, **options):
    """Booleans (is it kept?) of the units of one draw."""
    make, shape, unit = KINDS[kind]
    return draw(make(rate, seed=seed), shape, **options)[unit] != 0


def assert_independent(columns, rate):
    """Chi-square over all patterns of the boolean `columns`, expected from independent coins; error rate P."""
    patterns = sum(column.ravel().astype(int) << i for i, column in enumerate(columns))
    count = np.bincount(patterns, minlength=2 ** len(columns))
    kept = np.array([bin(pattern).count("1") for pattern in range(len(count))])
    chance = (1 - rate) ** kept * rate ** (len(columns) - kept)
    often = chance * patterns.size >= 5  # below, chi-square is no approximation: together they make one cell
    observed, expected = ([*c[often], c[~often].sum()] for c in (count, chance * patterns.size))
    if expected[-1] < 5:
        observed, expected = observed[:-1], np.array(expected[:-1]) * sum(observed[:-1]) / sum(expected[:-1])
    assert scipy.stats.chisquare(observed, expected).pvalue > P


# === Statistics ===


@every_kind
@every_rate
@every_dtype
@compiled
def test_units_are_dropped_at_the_rate_and_the_others_scaled_by_its_inverse(kind, rate, dtype, xla):
    make, shape, unit = KINDS[kind]
    layer = make(rate, seed=5, dtype=dtype)
    y = draw(layer, shape, dtype, xla)
    factor = float(tf.cast(1 / (1 - rate), dtype))
    assert set(np.unique(y)) == {0, factor}
    dropped = y[unit] == 0
    error = np.sqrt(rate * (1 - rate) / dropped.size)
    assert abs(dropped.mean() - rate) < Z * error
    assert layer.realised_rate == pytest.approx(rate, abs=2**-32)
    # Mean 1 and variance rate/(1-rate), as far as the type can say 1/(1-rate).
    assert abs(y[unit].mean() - factor * (1 - rate)) < Z * error * factor
    assert abs(y[unit].var() / factor**2 - rate * (1 - rate)) < Z * error * abs(1 - 2 * rate) + 1e-3 * rate


@every_rate
@every_dtype
@compiled
def test_gaussian_factors_have_mean_1_and_the_variance_of_dropout(rate, dtype, xla):
    y = draw(GaussianDropout(rate, seed=5, dtype=dtype), (400, 500), dtype, xla)
    variance = rate / (1 - rate)
    assert abs(y.mean() - 1) < Z * np.sqrt(variance / y.size)
    # Rounding to 16 bits adds a variance of its own.
    rounding = {"float32": 0, "float16": 2**-22, "bfloat16": 2**-16}[dtype] * (1 + variance)
    assert abs(y.var() - variance) < Z * variance * np.sqrt(2 / y.size) + rounding
    if dtype == "float32":
        assert scipy.stats.kstest((y.ravel()[:20000] - 1) / np.sqrt(variance), "norm").pvalue > P


@every_rate
@pytest.mark.parametrize("size", [1, 3, 5])
@compiled
def test_blocks_take_the_rate_of_a_map_on_average(rate, size, xla):
    y = draw(DropBlock2D(rate, size, seed=5), (400, 14, 9, 8), xla=xla)
    share = (y == 0).mean((1, 2))  # of each map, and maps are independent
    assert abs(share.mean() - rate) < Z * share.std() / np.sqrt(share.size)
    left = y.max((1, 2, 3))
    np.testing.assert_allclose(y, np.where(y == 0, 0, left[:, None, None, None]))  # one factor per example
    np.testing.assert_allclose(y.mean((1, 2, 3)), 1, rtol=1e-5)


def test_blocks_are_squares_in_maps_of_their_own():
    zeros = draw(DropBlock2D(0.05, 3, seed=1), (200, 12, 10, 4)) == 0
    # Opening by the square: every dropped value lies in a square of 3x3 dropped values.
    squares = np.lib.stride_tricks.sliding_window_view(zeros, (3, 3), axis=(1, 2)).all((-1, -2))
    covered = np.zeros_like(zeros)
    for i, j in np.ndindex(3, 3):
        covered[:, i : i + squares.shape[1], j : j + squares.shape[2]] |= squares
    np.testing.assert_array_equal(zeros, covered)
    assert (zeros[..., 0] != zeros[..., 1]).any()


def test_blocks_larger_than_the_map_drop_it_whole():
    y = draw(DropBlock2D(0.5, 9, seed=2), (300, 4, 3, 5))
    assert (y == y[:, :1, :1, :]).all()
    assert 0 < (y == 0).mean() < 1


@every_rate
@compiled
def test_masks_are_independent_over_elements_channels_and_examples(rate, xla):
    kept = coins("dropout", rate, xla=xla)
    assert_independent([kept[..., i::4][..., :12] for i in range(4)], rate)  # neighbours in a row
    assert_independent([kept[:, i::4] for i in range(4)], rate)
    assert_independent([kept[i::4] for i in range(4)], rate)
    maps = coins("spatial", rate, xla=xla)
    assert_independent([maps[:, i::4] for i in range(4)], rate)
    assert_independent([maps[i::4] for i in range(4)], rate)
    paths = coins("drop_path", rate, xla=xla)
    assert_independent([paths[i::4] for i in range(4)], rate)


@every_rate
@every_kind
def test_masks_are_independent_over_steps_seeds_and_layers(kind, rate):
    make, shape, unit = KINDS[kind]
    layer = make(rate, seed=5)
    assert_independent([draw(layer, shape)[unit] != 0 for _ in range(4)], rate)
    assert_independent([coins(kind, rate, seed=seed) for seed in (0, 1, 2, 2**31 - 1)], rate)
    named = [mask_layer("dropout", rate, rank=2, name=f"drop_hidden_{i}", seed=0, block_size=5) for i in range(4)]
    assert_independent([draw(each, (300, 300)) != 0 for each in named], rate)


def test_a_key_is_64_bits_and_no_two_of_a_million_draws_share_it():
    from zoo.dropout import counter

    count = tf.range(1000)
    seeds = tf.range(1000)[:, None] * 7919
    first, second = (np.asarray(tf.broadcast_to(k, (1000, 1000))).ravel() for k in counter.keys(seeds, count))
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 10**6
