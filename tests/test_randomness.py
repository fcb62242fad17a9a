"""Layers of other people that draw random numbers: they take part in `mc`, or are refused by name."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from graphs import stack
from keras import layers, ops

from zoo.dropout.layers import Dropout, is_mask
from zoo.errors import BadInput
from zoo.modes import randomness
from zoo.modes.compare import compare_modes
from zoo.modes.modes import in_mode
from zoo.modes.montecarlo import Sampler

X = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")


class Own(keras.Layer):
    """A layer of one function `noise(layer, x)`, which is applied in training."""

    def __init__(self, noise, **kwargs):
        super().__init__(**kwargs)
        self._noise = noise
        self.generator = keras.random.SeedGenerator(1)
        self.bag = np.random.default_rng(0)
        self.counter = self.add_weight(shape=(2,), dtype="int32", initializer="ones", trainable=False)

    def call(self, x, training=None):
        return self._noise(self, x) if training else x

    def compute_output_shape(self, shape):
        return shape


class Path(keras.Layer):
    """Drop path as keras_hub and others write it."""

    def __init__(self, rate=0.5, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seed_generator = rate, keras.random.SeedGenerator()

    def call(self, x, training=None):
        if not training:
            return x
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        kept = ops.floor(1 - self.rate + keras.random.uniform(shape, seed=self.seed_generator))
        return x / (1 - self.rate) * kept

    def compute_output_shape(self, shape):
        return shape


class Half(layers.Dropout):
    """A Dropout with a call of its own."""

    def call(self, x, training=False):
        return ops.concatenate([super().call(x[:, :3], training=training), x[:, 3:]], axis=1)


class Rows(layers.SpatialDropout1D):
    """A SpatialDropout that drops something else, with the call of Keras."""

    def _get_noise_shape(self, inputs):
        return (ops.shape(inputs)[0], inputs.shape[1], 1)


class Inside(keras.Layer):
    """A generator two layers down, and a layer in a list."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.many = [Path(0.5), layers.Dense(6)]

    def build(self, shape):
        self.many[1].build(shape)

    def call(self, x, training=None):
        return self.many[1](self.many[0](x, training=training))


class Movable(layers.Dropout):
    """A Dropout whose rate is an array."""

    def __init__(self, **kwargs):
        super().__init__(0.5, **kwargs)
        self.rate = np.full((), 0.5, "float32")

    def call(self, x, training=False):
        if not training:
            return x
        kept = keras.random.uniform(ops.shape(x), seed=self.seed_generator) >= self.rate
        return x * ops.cast(kept, x.dtype)


SEEDED = {
    "drop path": lambda: Path(),
    "a subclass with a call of its own": lambda: Half(0.5),
    "a subclass with another noise shape": lambda: keras.Sequential([layers.Reshape((6, 1)), Rows(0.5)]),
    "a generator inside a layer inside": lambda: Inside(),
    "a rate that is an array": lambda: Movable(),
    "Keras' global generator": lambda: Own(lambda layer, x: keras.random.dropout(x, 0.5)),
    "a Lambda": lambda: layers.Lambda(lambda x, training=False: keras.random.dropout(x, 0.5) if training else x),
    "a generator of its own": lambda: Own(lambda layer, x: x + keras.random.normal(ops.shape(x), seed=layer.generator)),
    "ConvNeXt": lambda: keras.Sequential([keras.src.applications.convnext.StochasticDepth(0.5)]),
    "time distributed": lambda: keras.Sequential([layers.Reshape((3, 2)), layers.TimeDistributed(Path())]),
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_layer_with_a_generator_takes_part_and_follows_the_seed(name):
    model = stack((6,), layers.Dense(6), SEEDED[name](), layers.Flatten(), layers.Dense(3))
    for mode in ("mc", "training"):
        run = tf.function(in_mode(model, mode), autograph=False)
        one, again, other = (np.asarray(run(X, tf.constant(seed))) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()
    np.testing.assert_array_equal(in_mode(model, "inference")(X), model(X, training=False))
    samples = Sampler(model).samples(X, range(6))
    assert len(np.unique(samples, axis=0)) > 1
    np.testing.assert_allclose(samples[1], one, atol=1e-5)


def test_its_samples_have_the_spread_that_keras_gives_them():
    model = stack((6,), layers.Dense(6), Path(0.3), layers.Dense(3))
    drawn = Sampler(model).samples(X, range(300))
    call = tf.function(lambda: model(X, training=True))
    stock = np.stack([call().numpy() for _ in range(300)])
    error = np.sqrt((drawn.var(0) + stock.var(0)) / 300)
    assert (np.abs(drawn.mean(0) - stock.mean(0)) < 5 * error + 1e-6).all()
    assert drawn.std(0).mean() == pytest.approx(stock.std(0).mean(), rel=0.15)


def _from_the_bag(layer, x):
    return x * layer.bag.binomial(1, 0.5, 6).astype("float32")


def _python_branch(layer, x):
    return x * 0.0 if random.random() < 0.01 else x * 1.0


def _in_python(layer, x):
    return tf.ensure_shape(
        tf.numpy_function(lambda v: (v * np.random.rand(*v.shape)).astype("float32"), [x], "float32"), x.shape
    )


UNSEEDED = {
    "tf.random": lambda layer, x: x * tf.random.uniform(tf.shape(x)),
    "tf.nn.dropout": lambda layer, x: tf.nn.dropout(x, 0.5),
    "tf.random in a branch": lambda layer, x: tf.cond(
        tf.reduce_sum(x) > 0, lambda: tf.random.normal(tf.shape(x)), lambda: x
    ),
    "tf.random.shuffle": lambda layer, x: tf.random.shuffle(x),
    "numpy": lambda layer, x: x * np.random.rand(6).astype("float32"),
    "a generator of numpy": _from_the_bag,
    "a branch of python": _python_branch,
    "numpy in the graph": _in_python,
    "a seed that never changes": lambda layer, x: x + keras.random.normal(ops.shape(x), seed=1337),
    "a counter of its own": lambda layer, x: x * tf.random.stateless_uniform(tf.shape(x), layer.counter.value),
}


@pytest.mark.parametrize("name", UNSEEDED)
def test_randomness_that_no_seed_reaches_is_refused_by_name(name):
    model = stack((6,), layers.Dropout(0.5), Own(UNSEEDED[name], name="theirs"), layers.Dense(3))
    for refused in (
        lambda: in_mode(model, "mc"),
        lambda: in_mode(model, "training"),
        lambda: Sampler(model),
        lambda: compare_modes(model, X, samples=2),
    ):
        with pytest.raises(BadInput, match="'theirs', a Own"):
            refused()
    np.testing.assert_array_equal(in_mode(model, "inference")(X), model(X, training=False))


class Always(layers.Dropout):
    """Monte-Carlo dropout as tutorials write it: on in every call."""

    def call(self, x):
        return super().call(x, training=True)


def test_a_layer_that_always_draws_is_sampled_but_has_no_inference():
    model = stack((6,), Always(0.5, name="on"), layers.Dense(3))
    assert (in_mode(model, "mc")(X, 1) != in_mode(model, "mc")(X, 2)).numpy().any()
    with pytest.raises(BadInput, match="'on', a Always"):
        in_mode(model, "inference")


class Scaled(keras.Layer):
    """Code of one's own without randomness."""

    def call(self, x, training=None):
        return x * (2.0 if training else 1.0)


def test_code_without_randomness_draws_nothing():
    parts = {"own": Scaled(), "lambda": layers.Lambda(lambda x: x + 1), "rate 0": layers.Dropout(0.0)}
    for part in parts.values():
        model = stack((6,), part, layers.Dense(3))
        with pytest.raises(BadInput, match="dropout rate above 0"):
            Sampler(model)


class Projected(keras.Layer):
    """Features from a fixed seed, the same in every call: a function, not noise."""

    def call(self, x):
        return x @ keras.random.normal((6, 6), seed=3)


def test_a_fixed_seed_in_every_call_is_a_part_of_the_function():
    model = stack((6,), Projected(), layers.Dropout(0.5), layers.Dense(3))
    np.testing.assert_array_equal(in_mode(model, "inference")(X), model(X, training=False))
    assert len(np.unique(Sampler(model).samples(X, range(4)), axis=0)) == 4


def test_augmentation_is_no_dropout_and_follows_the_seed_in_training():
    images = np.random.default_rng(0).normal(size=(8, 5, 5, 2)).astype("float32")
    model = stack((5, 5, 2), layers.RandomFlip(), layers.Flatten(), layers.Dense(2))
    with pytest.raises(BadInput, match="dropout rate above 0"):
        Sampler(model)
    np.testing.assert_array_equal(in_mode(model, "mc")(images, 1), model(images, training=False))
    one, again, other = (in_mode(model, "training")(images, seed).numpy() for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_a_mask_layer_is_one_that_changes_nothing_of_what_is_drawn():
    class Renamed(layers.Dropout):
        pass

    class Faster(Dropout):
        def _drawn(self, inputs, state, lane, rate):
            return inputs

    class Forced(layers.Dropout):
        def __call__(self, x, training=None):
            return super().__call__(x, training=True)

    assert is_mask(Renamed(0.5))
    assert is_mask(layers.AlphaDropout(0.5))
    for other in (Faster(0.5), Forced(0.5), Rows(0.5), Half(0.5), Movable()):
        assert not is_mask(other)


def test_a_layer_is_examined_once():
    calls = []

    class Counted(keras.Layer):
        def call(self, x, training=None):
            calls.append(training)
            return x

    model = stack((6,), Counted(), layers.Dense(3))
    from zoo import keras_graph

    (step, *_), before = keras_graph.Graph(model).steps, len(calls)
    assert [randomness.of(step) for _ in range(3)] == [randomness.Randomness()] * 3
    assert len(calls) == before + 3
