"""The counter hash: what its bits are, that they look random, and that every runtime draws the same.

Each statistical check states its error rate; since seeds are fixed, it passes always or never.
"""

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.stats
import tensorflow as tf
import tf2onnx
from ai_edge_litert.interpreter import Interpreter

from zoo.dropout import counter

SEEDS = np.array([0, -1, 1, 2**31 - 1, -(2**31), 123456789], "int32")
SALT = counter.salt("drop_hidden_1", 1)
RATES = [0.01, 0.1, 0.25, 0.5, 0.9]
Z = 4  # standard errors of the normal law: a false alarm of one comparison has probability 1 in 16,000


def reference(seeds, salt, size):
    """The same hash in unsigned 32-bit NumPy with true logical shifts, written from the module's description."""

    def mixed(h, key):
        h = (h ^ (h >> np.uint32(16))) * np.uint32(2146121005) + key
        return (h ^ (h >> np.uint32(15))) * np.uint32(2221713035)

    step = np.uint32(0x9E3779B9)
    salt = np.array(salt & 0xFFFFFFFF, "uint32")
    key = mixed(np.asarray(seeds, "int32").view("uint32")[:, None] * step + salt, salt)
    number = np.arange(size, dtype="uint32")[None]
    return mixed(number * step + key, key * np.uint32(2146121005) + step).view("int32")


def bits(seeds=(7,), salt=SALT, size=2**16):
    return np.asarray(counter.bits(np.asarray(seeds, "int32"), salt, size))


def kept(rate, seeds=(7,), salt=SALT, size=2**16):
    return np.asarray(counter.kept(np.asarray(seeds, "int32"), salt, size, rate))


def correlation(a, b):
    """The correlation of two samples in units of its standard error under independence."""
    return np.corrcoef(a.ravel(), b.ravel())[0, 1] * np.sqrt(a.size)


# === What the bits are ===


@pytest.mark.parametrize("salt", [0, -1, 2**31 - 1, -(2**31), SALT])
def test_bits_are_those_of_unsigned_arithmetic_with_logical_shifts(salt):
    got = bits(SEEDS, salt, 5000)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, reference(SEEDS, salt, 5000))


def test_known_bits_stay_what_they_are():
    # Exported files and published samples rest on these: a change here changes every mask ever drawn.
    known = [[-1093620861, -34773942, -739055583], [114071156, -804272224, -1690777112]]
    np.testing.assert_array_equal(bits([0, -1], 12345, 3), known)


def test_eager_traced_and_xla_bits_are_equal():
    seeds = tf.constant(SEEDS)
    traced = tf.function(counter.bits)(seeds, SALT, 4097)
    compiled = tf.function(counter.bits, jit_compile=True)(seeds, SALT, 4097)
    np.testing.assert_array_equal(traced, bits(SEEDS, size=4097))
    np.testing.assert_array_equal(compiled, bits(SEEDS, size=4097))


def test_a_size_known_only_at_run_time_gives_the_same_bits():
    signature = [tf.TensorSpec((None,), tf.int32), tf.TensorSpec((), tf.int32)]
    drawn = tf.function(lambda seeds, size: counter.bits(seeds, SALT, size), input_signature=signature)
    np.testing.assert_array_equal(drawn(SEEDS, 300), bits(SEEDS, size=300))


def test_a_sample_drawn_alone_is_the_same_as_in_a_batch_of_samples():
    together, noise = bits(SEEDS, size=999), counter.normal(SEEDS, SALT, 999)
    for i, seed in enumerate(SEEDS):
        np.testing.assert_array_equal(bits([seed], size=999)[0], together[i])
        alone = counter.normal(SEEDS[i : i + 1], SALT, 999)[0]
        np.testing.assert_allclose(alone, noise[i], rtol=0, atol=1e-6)  # rounding depends on the vector width


def test_a_longer_draw_begins_with_the_shorter_one():
    np.testing.assert_array_equal(bits(size=1000)[:, :100], bits(size=100))


def test_salts_depend_on_the_site_and_the_call_and_on_no_process():
    assert counter.salt("drop", 1) == 1350545594  # SHA-256 of "drop/1", the first four bytes
    salts = {counter.salt(f"drop_{i}", call) for i in range(100) for call in range(1, 11)}
    assert len(salts) == 1000
    assert all(-(2**31) <= salt < 2**31 for salt in salts)


# === Masks look like independent coins ===


@pytest.mark.parametrize("rate", RATES)
def test_the_share_dropped_is_the_rate(rate):
    dropped = ~kept(rate, np.arange(64))
    z = (dropped.mean() - rate) / np.sqrt(rate * (1 - rate) / dropped.size)
    assert abs(z) < Z  # error rate 1 in 16,000; the bound is 0.05 % of the size at rate 0.5
    per_seed = (dropped.mean(1) - rate) / np.sqrt(rate * (1 - rate) / dropped.shape[1])
    assert abs(per_seed).max() < 5  # 64 comparisons at 1 in 1,700,000: error rate 1 in 27,000


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("lag", [1, 2, 8, 64])
def test_elements_at_a_distance_are_uncorrelated(rate, lag):
    mask = kept(rate, np.arange(16))
    assert abs(correlation(mask[:, :-lag], mask[:, lag:])) < Z  # error rate 1 in 16,000


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("distance", [1, 2, 64])
def test_seeds_close_to_each_other_draw_uncorrelated_masks(rate, distance):
    mask = kept(rate, np.arange(-64, 128), size=2**13)
    assert abs(correlation(mask[:-distance], mask[distance:])) < Z  # error rate 1 in 16,000


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_no_pair_of_seeds_draws_alike_even_when_shifted(rate):
    mask = kept(rate, [*range(12), -1, 2**31 - 1, -(2**31), 2**30, 2**16, 2**8], size=2**14).astype("float64")
    spectra = np.fft.rfft(mask - mask.mean(1, keepdims=True), axis=1)
    a, b = np.triu_indices(len(mask), 1)
    shifted = np.fft.irfft(spectra[a] * spectra[b].conj(), axis=1) / (mask.shape[1] * rate * (1 - rate))
    z = shifted * np.sqrt(mask.shape[1])  # each pair of masks, one of them turned by every distance
    assert abs(z).max() < 7  # 2.5 million comparisons at 1 in 4e11: error rate below 1 in 10,000


@pytest.mark.parametrize("rate", RATES)
def test_places_draw_uncorrelated_masks(rate):
    salts = [counter.salt("drop_hidden_1", 1), counter.salt("drop_hidden_1", 2), counter.salt("drop_hidden_2", 1), 0, 1]
    masks = [kept(rate, np.arange(4), salt) for salt in salts]
    z = [correlation(a, b) for i, a in enumerate(masks) for b in masks[:i]]
    assert np.abs(z).max() < 4.5  # 10 comparisons at 1 in 150,000: error rate 1 in 15,000


@pytest.mark.parametrize("first", [0, -1, 2**31 - 64])
def test_the_mask_of_one_element_is_a_fair_coin_over_consecutive_seeds(first):
    mask = kept(0.5, np.arange(first, first + 64), size=2**14)
    z = (mask.sum(0) - 32) / 4  # each element over 64 consecutive seeds: a binomial law, of variance 1
    assert abs(z.var() - 1) < Z * np.sqrt(2 / z.size)  # error rate 1 in 16,000


@pytest.mark.parametrize("seed", SEEDS.tolist())
def test_the_top_byte_is_uniform(seed):
    counts = np.bincount(bits([seed], size=2**20).view("uint32").ravel() >> 24, minlength=256)
    assert scipy.stats.chisquare(counts).pvalue > 1e-4  # error rate 1 in 10,000


def test_each_bit_flips_half_the_time_when_the_seed_changes_by_one():
    flipped = bits(np.arange(256), size=256) ^ bits(np.arange(1, 257), size=256)
    share = np.unpackbits(flipped.view("uint8"), bitorder="little").reshape(-1, 32).mean(0)
    z = (share - 0.5) / np.sqrt(0.25 / flipped.size)
    assert abs(z).max() < 5  # 32 bits at 1 in 1,700,000: error rate 1 in 54,000


@pytest.mark.parametrize(("rate", "expected"), [(0.0, True), (1 - 2**-40, False)])
def test_the_ends_of_the_range_of_rates_do_not_wrap_around(rate, expected):
    assert (kept(rate, [1, 2, 3]) == expected).all()


def test_a_smaller_rate_drops_a_part_of_what_a_larger_one_drops():
    assert (kept(0.3) <= kept(0.1)).all()


# === Normal noise ===


def normal(size=2**17, salt=SALT):
    return np.asarray(counter.normal(np.array([11, 12, 13, 14], "int32"), salt, size)).astype("float64").ravel()


def test_noise_has_the_moments_of_the_normal_law():
    z, n = normal(), 2**19
    # Four comparisons at 4 standard errors: error rate 1 in 4,000.
    assert abs(z.mean()) < Z / np.sqrt(n)
    assert abs(z.var() - 1) < Z * np.sqrt(2 / n)
    assert abs(scipy.stats.skew(z)) < Z * np.sqrt(6 / n)
    assert abs(scipy.stats.kurtosis(z)) < Z * np.sqrt(24 / n)


def test_noise_has_the_distribution_of_the_normal_law():
    assert scipy.stats.kstest(normal(2**15), "norm").pvalue > 1e-4  # error rate 1 in 10,000


def test_noise_reaches_into_both_tails_as_often_as_the_normal_law():
    z = normal()
    for limit in (3.0, 4.0):
        expected = z.size * scipy.stats.norm.sf(limit)
        for count in ((z > limit).sum(), (z < -limit).sum()):
            assert 1e-5 < scipy.stats.poisson.cdf(count, expected) < 1 - 1e-5  # error rate 1 in 12,000 over all four


def test_noise_is_uncorrelated_across_elements_seeds_and_places_and_in_its_size():
    z = normal().reshape(4, -1)
    pairs = [(z[:, :-lag], z[:, lag:]) for lag in (1, 2, 8, 64)]
    pairs += [(z[0], z[1]), (z[:2], z[2:]), (z, normal(salt=SALT + 1))]
    pairs += [(abs(a), abs(b)) for a, b in pairs]
    assert max(abs(correlation(a, b)) for a, b in pairs) < 4.5  # 14 at 1 in 150,000: error rate 1 in 10,000


# === The same in every runtime ===

SIZE, RATE = 4000, 0.3


def draws(seeds):
    return {
        "bits": counter.bits(seeds, SALT, SIZE),
        "kept": tf.cast(counter.kept(seeds, SALT, SIZE, RATE), tf.float32),
        "normal": counter.normal(seeds, SALT, SIZE),
    }


traced = tf.function(draws, input_signature=[tf.TensorSpec((SEEDS.size,), tf.int32, name="seeds")])


def in_onnx_runtime():
    proto, _ = tf2onnx.convert.from_function(traced, input_signature=traced.input_signature, opset=18)
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}  # ONNX's own operators alone
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"seeds": SEEDS}), strict=True))


def in_litert():
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], traced)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], SEEDS)
    interpreter.invoke()
    actual = sorted(interpreter.get_output_details(), key=lambda output: output["name"])
    return {name: interpreter.get_tensor(o["index"]) for name, o in zip(sorted(draws(SEEDS)), actual, strict=True)}


@pytest.fixture(scope="module", params=[in_onnx_runtime, in_litert], ids=["onnx", "litert"])
def elsewhere(request):
    return request.param()


def test_another_runtime_draws_the_same_bits(elsewhere):
    np.testing.assert_array_equal(elsewhere["bits"], bits(SEEDS, size=SIZE))


def test_another_runtime_draws_the_same_masks(elsewhere):
    np.testing.assert_array_equal(elsewhere["kept"] == 1, kept(RATE, SEEDS, size=SIZE))


def test_another_runtime_draws_the_same_noise_up_to_rounding(elsewhere):
    np.testing.assert_allclose(elsewhere["normal"], counter.normal(SEEDS, SALT, SIZE), rtol=0, atol=1e-5)


def test_the_threshold_of_no_dropout_drops_no_word_and_that_of_a_tiny_rate_drops_some():
    least, largest = -(2**31), 2**31 - 1
    assert counter.threshold(0) == least  # no word is below it
    assert counter.threshold(1e-300) == least + 1
    assert counter.threshold(0.5) == 0
    assert counter.threshold(1 - 1e-16) == largest
