"""The mask layers: what they compute exactly, and that they pass wherever Keras' own do."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.testing import TestCase
from mask_layers import LAYERS, every_dtype, every_layer, made

from zoo.dropout.layers import (
    DropBlock2D,
    Dropout,
    GaussianDropout,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
    kind_of,
)

compiled = pytest.mark.parametrize("xla", [False, True], ids=["eager", "xla"])


def draw(layer, shape):
    """What a layer makes of ones in training: its factors."""
    return np.asarray(layer(tf.ones(shape), training=True), "float64")


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.5}, "rate must be in"),
        ({"rate": -0.1}, "rate must be in"),
        ({"rate": 0.5, "noise_shape": (0, 2)}, "Invalid value received"),
    ],
)
def test_what_keras_refuses_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Dropout(**options)


@pytest.mark.parametrize("options", [{"rate": 1.0}, {"rate": 0.1, "block_size": 0}, {"rate": 0.1, "block_size": 2.5}])
def test_a_block_that_cannot_be_is_refused(options):
    with pytest.raises(ValueError, match=r"(rate|block_size) must be"):
        DropBlock2D(**options)


@every_layer
@pytest.mark.parametrize("seed", [1.5, "7", 2**32, -(2**31) - 1, True])
def test_a_seed_that_cannot_be_is_refused(name, seed):
    cls = type(made(name)[0])
    with pytest.raises(ValueError, match="seed must be an integer"):
        cls(0.3, seed=seed)


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


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (Dropout(0.1), "dropout"),
        (keras.layers.Dropout(0.1), "dropout"),
        (Dropout(0.1, noise_shape=(None, 1)), "drop_path"),
        (Dropout(0.1, noise_shape=(None, 1, 1, 1)), "drop_path"),
        (Dropout(0.1, noise_shape=(None, 1, 1, 8)), "spatial"),
        (Dropout(0.1, noise_shape=(None, 1, 4, 8)), "dropout"),
        (SpatialDropout2D(0.1), "spatial"),
        (keras.layers.SpatialDropout1D(0.1), "spatial"),
        (DropBlock2D(0.1, 3), "drop_block"),
        (GaussianDropout(0.1), "gaussian"),
        (keras.layers.GaussianDropout(0.1), "gaussian"),
        (keras.layers.AlphaDropout(0.1), "AlphaDropout"),
        (keras.layers.GaussianNoise(0.1), "GaussianNoise"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_kind_of_a_mask_is_read_from_its_layer(layer, kind):
    assert kind_of(layer) == kind
