"""The mask layers: what their masks are, statistically and exactly, and that they pass wherever Keras' own do.

Every statistical check states its error rate; since seeds are fixed, it passes always or never.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from keras.src.testing import TestCase

from zoo import dropout
from zoo.dropout import DropBlock2D, Dropout, GaussianDropout, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D

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
    named = [
        dropout.mask_layer("dropout", rate, rank=2, name=f"drop_hidden_{i}", seed=0, block_size=5) for i in range(4)
    ]
    assert_independent([draw(each, (300, 300)) != 0 for each in named], rate)


def test_a_key_is_64_bits_and_no_two_of_a_million_draws_share_it():
    from zoo import counter

    count = tf.range(1000)
    seeds = tf.range(1000)[:, None] * 7919
    first, second = (np.asarray(tf.broadcast_to(k, (1000, 1000))).ravel() for k in counter.keys(seeds, count))
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 10**6


# === Exactly ===

LAYERS = {
    "dropout": (lambda **more: Dropout(0.3, **more), (8, 6)),
    "noise_shape": (lambda **more: Dropout(0.3, noise_shape=(None, 1, 5), **more), (8, 4, 5)),
    "drop_path": (lambda **more: Dropout(0.3, noise_shape=(None, 1, 1, 1), **more), (8, 4, 4, 3)),
    "spatial_1d": (lambda **more: SpatialDropout1D(0.3, **more), (8, 4, 5)),
    "spatial_2d": (lambda **more: SpatialDropout2D(0.3, **more), (8, 4, 3, 5)),
    "spatial_2d_first": (lambda **more: SpatialDropout2D(0.3, data_format="channels_first", **more), (8, 5, 4, 3)),
    "spatial_3d": (lambda **more: SpatialDropout3D(0.3, **more), (8, 2, 4, 3, 5)),
    "gaussian": (lambda **more: GaussianDropout(0.3, **more), (8, 6)),
    "drop_block": (lambda **more: DropBlock2D(0.3, 2, **more), (8, 6, 5, 4)),
    "drop_block_first": (lambda **more: DropBlock2D(0.3, 2, data_format="channels_first", **more), (8, 4, 6, 5)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def made(name, seed=3, **more):
    make, shape = LAYERS[name]
    return make(seed=seed, **more), tf.random.stateless_uniform(shape, (1, 2), 0.5, 1.5)


@every_layer
@compiled
def test_the_gradient_is_the_mask_itself_also_of_the_gradient(name, xla):
    layer, x = made(name)

    @tf.function(jit_compile=xla)
    def run(x, upstream):
        with tf.GradientTape() as outer:
            outer.watch(upstream)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            gradient = tape.gradient(y, x, upstream)
        return y, gradient, outer.gradient(gradient, upstream, x)

    y, gradient, second = run(x, tf.ones_like(x))
    factors = (y / x).numpy()
    np.testing.assert_allclose(gradient, factors, rtol=1e-6)
    np.testing.assert_array_equal(np.equal(gradient, 0), np.equal(y, 0))
    np.testing.assert_allclose(second, y, rtol=1e-6)


@every_layer
def test_no_mask_is_kept_for_the_gradient(name):
    layer, x = made(name)

    @tf.function
    def gradient(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return tape.gradient(y, x, upstream)

    operations = gradient.get_concrete_function(x, x).graph.get_operations()
    calls = [operation for operation in operations if "PartitionedCall" in operation.type]
    assert len(calls) == 2  # there and back
    for call in calls:
        # One tensor goes in; the rest are the generator's state and numbers.
        assert sum(each.shape.num_elements() > 2 for each in call.inputs) == 1


@every_layer
def test_eager_traced_and_xla_draw_the_same_masks(name):
    x = made(name)[1]
    runs = []
    for wrap in (lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)):
        layer = made(name)[0]
        call = wrap(lambda x, layer=layer: layer(x, training=True))
        runs.append([call(x).numpy() for _ in range(2)])
    for other in runs[1:]:
        np.testing.assert_allclose(other, runs[0], rtol=1e-6)
    assert not np.array_equal(*runs[0])


@every_layer
def test_shapes_known_only_at_run_time_change_nothing(name):
    (layer, x), again = made(name), made(name)[0]
    unknown = [None] * (x.shape.rank - 1) + [x.shape[-1]]
    call = tf.function(lambda x: again(x, training=True), input_signature=[tf.TensorSpec(unknown, x.dtype)])
    np.testing.assert_allclose(call(x), layer(x, training=True), rtol=1e-6)


@every_layer
def test_inference_hands_the_input_on_and_rate_0_always(name):
    layer, x = made(name)
    np.testing.assert_array_equal(layer(x, training=False), x)
    np.testing.assert_array_equal(layer(x), x)
    idle = type(layer).from_config({**layer.get_config(), "rate": 0.0})
    np.testing.assert_array_equal(idle(x, training=True), x)
    assert idle.variables == []


@every_layer
@every_dtype
def test_every_precision_has_the_masks_of_single_precision(name, dtype):
    (layer, x), single = made(name, dtype=dtype), made(name)[0]
    y = layer(x, training=True)
    assert y.dtype == dtype
    if name != "gaussian":
        np.testing.assert_array_equal(np.equal(y, 0), np.equal(single(x, training=True), 0))


def test_any_rank_and_a_fixed_noise_shape():
    for shape in [(7,), (7, 3), (2, 3, 4, 5, 6)]:
        y = draw(Dropout(0.5, seed=1), shape)
        assert y.shape == shape
        assert set(np.unique(y)) == {0, 2}
    y = draw(Dropout(0.5, noise_shape=(20, 1, 10), seed=1), (20, 3, 10))
    assert (y == y[:, :1]).all()


def test_rate_1_which_keras_allows_leaves_nothing():
    assert not draw(Dropout(1.0, seed=1), (5, 5)).any()


def test_a_tiny_rate_is_never_none():
    assert Dropout(1e-12).realised_rate == 2**-32


def test_masks_of_whole_maps_commute_with_pooling():
    import zoo

    x, pool = tf.random.stateless_normal((16, 9, 7, 12), (1, 2)), keras.layers.MaxPooling2D()
    before, behind = (SpatialDropout2D(0.4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(pool(before(x, training=True)), behind(pool(x), training=True))
    model = zoo.build("cnn", (8, 8, 1), 5, {"conv": zoo.Drop(0.1, "spatial")}, filters=(4,), hidden=(8,))
    assert [model.get_layer(f"drop_conv_{i}").output.shape[1] for i in (1, 2)] == [8, 4]
    model = zoo.build("cnn", (8, 8, 1), 5, {"conv": 0.1}, filters=(4,), hidden=(8,))
    assert model.get_layer("drop_conv_2").output.shape[1] == 8


# === Where Keras' own pass ===


class AsKerasTests(TestCase):
    """Keras' own examination of a layer: shapes, dtypes, mixed precision, configuration, saving, training."""

    def run_class_serialization_test(self, instance, custom_objects=None):
        if type(instance) is DropBlock2D:
            return super().run_class_serialization_test(instance, custom_objects)
        # Keras expects the same class back; ours comes back as its parent, of the same configuration.
        parent = getattr(keras.layers, type(instance).__name__)
        revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(instance))
        assert type(revived) is parent
        return super().run_class_serialization_test(parent.from_config(instance.get_config()), custom_objects)

    def examine(self, layer, shape, **init):
        self.run_layer_test(
            layer,
            init_kwargs=init,
            call_kwargs={"training": True},
            input_shape=shape,
            expected_output_shape=shape,
            expected_num_trainable_weights=0,
            expected_num_non_trainable_weights=0,
            expected_num_seed_generators=1,
            expected_num_losses=0,
            supports_masking=True,
            assert_built_after_instantiation=True,
        )

    def test_dropout(self):
        self.examine(Dropout, (2, 3), rate=0.2)

    def test_noise_shape(self):
        self.examine(Dropout, (2, 3, 4), rate=0.2, noise_shape=(None, 1, 4))

    def test_spatial(self):
        self.examine(SpatialDropout1D, (2, 3, 4), rate=0.5)
        self.examine(SpatialDropout2D, (2, 3, 4, 5), rate=0.5)
        self.examine(SpatialDropout2D, (2, 3, 4, 5), rate=0.5, data_format="channels_first")
        self.examine(SpatialDropout3D, (2, 3, 4, 4, 5), rate=0.5)

    def test_gaussian(self):
        self.examine(GaussianDropout, (2, 3), rate=0.2)

    def test_drop_block(self):
        self.examine(DropBlock2D, (2, 6, 6, 3), rate=0.2, block_size=3)


@pytest.mark.parametrize("options", [{"rate": 1.5}, {"rate": -0.1}, {"rate": 0.5, "noise_shape": (0, 2)}])
def test_what_keras_refuses_is_refused(options):
    with pytest.raises(ValueError, match="Invalid value received"):
        Dropout(**options)


@pytest.mark.parametrize("options", [{"rate": 1.0}, {"rate": 0.1, "block_size": 0}, {"rate": 0.1, "block_size": 2.5}])
def test_a_block_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=r"received (rate|block_size)"):
        DropBlock2D(**options)


@every_layer
def test_a_configuration_gives_the_same_layer_again(name):
    layer, x = made(name)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again(x, training=True), layer(x, training=True))


@pytest.mark.parametrize("name", [name for name in LAYERS if not name.startswith("drop_block")])
def test_a_file_holds_the_stock_layer_of_the_same_configuration(name, tmp_path):
    layer, x = made(name)
    inputs = keras.Input(x.shape[1:])
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True).layers[-1]
    assert type(loaded) is getattr(keras.layers, type(layer).__name__)
    assert loaded.get_config() == layer.get_config()


def test_blocks_come_back_from_a_file_in_safe_mode(tmp_path):
    layer, x = made("drop_block")
    inputs = keras.Input(x.shape[1:])
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True).layers[-1]
    np.testing.assert_array_equal(loaded(x, training=True), layer(x, training=True))


def test_padding_masks_pass_through():
    x = keras.layers.Embedding(5, 4, mask_zero=True)(np.array([[1, 2, 0], [3, 0, 0]]))
    assert x._keras_mask is not None
    for layer in (Dropout(0.5), SpatialDropout1D(0.5), GaussianDropout(0.5)):
        np.testing.assert_array_equal(layer(x, training=True)._keras_mask, x._keras_mask)


def test_stock_fit_trains_with_and_without_xla():
    for xla in (False, True):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, "relu"), Dropout(0.5, seed=1)])
        model.compile("adam", "mse", jit_compile=xla)
        history = model.fit(np.ones((20, 6)), np.ones((20, 4)), batch_size=8, epochs=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()


_REPLICAS = """
from zoo import startup
startup.tensorflow(threads=1)
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from zoo.dropout import Dropout, SpatialDropout2D
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layers = [Dropout(0.5, seed=1), SpatialDropout2D(0.5, seed=1)]
for layer, shape in zip(layers, [(100, 100), (100, 1, 1, 100)]):
    run = tf.function(lambda: strategy.run(lambda: layer(tf.ones(shape), training=True)))
    draws = [np.array([np.asarray(y) for y in strategy.experimental_local_results(run())]) != 0 for _ in range(2)]
    (a, b), (c, d) = draws
    for one, other in ((a, b), (c, d), (a, c), (b, d), (a, d)):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.04, "4 standard errors"
print("independent")
"""


def test_replicas_of_a_mirrored_strategy_draw_masks_of_their_own(request):
    answer = subprocess.run(
        [sys.executable, "-c", _REPLICAS], cwd=request.config.rootpath, capture_output=True, text=True, check=False
    )
    assert answer.stdout.strip().endswith("independent"), answer.stderr
