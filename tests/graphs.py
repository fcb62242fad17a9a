"""Small Functional networks of all sorts with active dropout, by name, and inputs for them."""

import keras
import numpy as np
import pytest
from keras import layers


def stack(shape, *parts, dtype="float32"):
    x = h = keras.Input(shape, dtype=dtype)
    for part in parts:
        h = part(h)
    return keras.Model(x, h)


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Somebody's own layer, with a layer called `dropout` and perhaps a BatchNorm in it."""

    def __init__(self, normalised=False, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.dropout = layers.Dense(6), layers.Dropout(0.5)
        self.norm = layers.BatchNormalization() if normalised else layers.Identity()

    def build(self, shape):
        self.dense.build(shape)
        self.norm.build((None, 6))

    def call(self, x, training=None):
        return self.dropout(self.norm(self.dense(x), training=training), training=training)


def branches():
    a, b = keras.Input((6,)), keras.Input((4,))
    h = layers.Dense(5, "relu")(a)
    left, right = layers.Dropout(0.5)(h), layers.Dense(5)(layers.Dropout(0.4)(b))
    return keras.Model([a, b], layers.Dense(3)(layers.Concatenate()([left, right, h]) * 2.0))


def dict_of_inputs():
    inputs = {"b": keras.Input((4,), name="b"), "a": keras.Input((6,), name="a")}
    h = layers.Dense(4, "relu")(inputs["a"]) + inputs["b"]
    return keras.Model(inputs, layers.Dense(2)(layers.Dropout(0.5)(h)))


def shared_dropout():
    x, drop = keras.Input((20,)), layers.Dropout(0.5)
    return keras.Model(x, layers.Concatenate()([drop(x), drop(x)]))


def nested_models():
    inner = stack((6,), layers.Dense(6), layers.Dropout(0.5), layers.BatchNormalization())
    head = keras.Sequential([keras.Input((6,)), layers.Dense(4), layers.Dropout(0.3), layers.Dense(2)])
    return stack((6,), layers.Dense(6), stack((6,), inner, layers.ReLU()), head)


def nested_model_called_twice():
    x, encoder = keras.Input((6,)), stack((6,), layers.Dense(8), layers.Dropout(0.5))
    return keras.Model(x, layers.Concatenate()([encoder(x), encoder(x)]))


def nested_output_that_nobody_takes():
    x = keras.Input((6,))
    h = layers.Dense(6)(x)
    inner = keras.Model(x, {"taken": layers.Dropout(0.5)(h), "left": layers.Dropout(0.5)(layers.Dense(2)(h))})
    return keras.Model(x, layers.Dense(3)(inner(x)["taken"]))


def padding_across_masks():
    masks = (layers.Dropout(0.2), layers.SpatialDropout1D(0.2), layers.GaussianDropout(0.2), layers.GaussianNoise(0.1))
    return stack(
        (7,), layers.Embedding(9, 6, mask_zero=True), *masks, layers.AlphaDropout(0.2), layers.LSTM(4), dtype=IDS
    )


def attention():
    x = keras.Input((5, 8))
    h = layers.LayerNormalization()(x)
    h = x + layers.MultiHeadAttention(2, 4, dropout=0.2)(h, h)
    return keras.Model(x, layers.GlobalAveragePooling1D()(layers.Attention(dropout=0.3)([h, h])))


def channels_first():
    two = stack((8, 4, 4), layers.SpatialDropout2D(0.5, data_format="channels_first"), layers.Reshape((8, 4, 2, 2)))
    return stack((8, 4, 4), two, layers.SpatialDropout3D(0.5, data_format="channels_first"))


def noise_shapes():
    one, fixed = layers.Dropout(0.5, noise_shape=(None, 1, 6)), layers.Dropout(0.5, noise_shape=(1, 5, None))
    return stack((5, 6), one, layers.Dense(6), fixed)


def mixed(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        x = keras.Input((8,))
        h = layers.Dropout(0.25)(x)  # takes float32, gives 16 bits
        h = layers.GaussianNoise(0.1)(layers.Dense(8)(h) * x)
        h = stack((8,), layers.AlphaDropout(0.2, dtype="float32"), layers.GaussianDropout(0.2))(h)
        return keras.Model(x, layers.Dropout(0.5, dtype="float32")(h))
    finally:
        keras.config.set_dtype_policy(before)


def training_baked_in():
    x = keras.Input((9,))
    return keras.Model(x, layers.Dropout(0.5)(inputs=layers.BatchNormalization()(x, training=True), training=True))


IDS = "int32"
GRAPHS = {f.__name__: f for f in (branches, dict_of_inputs, shared_dropout, nested_models, nested_model_called_twice)}
GRAPHS |= {f.__name__: f for f in (nested_output_that_nobody_takes, padding_across_masks, attention, channels_first)}
GRAPHS |= {f.__name__: f for f in (noise_shapes, training_baked_in)}
GRAPHS |= {
    "sequential": lambda: keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu"), layers.Dropout(0.5), layers.Dense(2)]
    ),
    "lstms_over_padded_tokens": lambda: stack(
        (7,), layers.Embedding(9, 6, mask_zero=True), layers.Dropout(0.2), layers.LSTM(5, dropout=0.3), dtype=IDS
    ),
    "padding_into_a_nested_model": lambda: stack(
        (7,), layers.Embedding(9, 6, mask_zero=True), stack((7, 6), layers.Dropout(0.2), layers.LSTM(4)), dtype=IDS
    ),
    "recurrent_dropout": lambda: stack((None, 3), layers.GRU(4, recurrent_dropout=0.5), layers.Dense(2)),
    "bidirectional": lambda: stack((5, 3), layers.Bidirectional(layers.LSTM(3, dropout=0.5)), layers.Dense(2)),
    "batch_norm_next_to_dropout": lambda: stack(
        (6, 6, 2),
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dropout(0.3),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(3),
    ),
    "noise": lambda: stack(
        (12,), layers.GaussianNoise(0.3), layers.Dense(9), layers.GaussianDropout(0.4), layers.AlphaDropout(0.2)
    ),
    "spatial_1d": lambda: stack((5, 4), layers.Conv1D(6, 2), layers.SpatialDropout1D(0.5), layers.Flatten()),
    "spatial_2d": lambda: stack((5, 5, 4), layers.Conv2D(6, 2), layers.SpatialDropout2D(0.5), layers.Flatten()),
    "spatial_3d": lambda: stack((3, 3, 3, 8), layers.SpatialDropout3D(0.5), layers.Flatten()),
    "mixed_float16": lambda: mixed("mixed_float16"),
    "mixed_bfloat16": lambda: mixed("mixed_bfloat16"),
    "rate_0_beside_another": lambda: stack((6,), layers.Dropout(0), layers.Dense(8), layers.Dropout(0.5)),
    "layers_of_somebody_else": lambda: stack((6,), Block(), layers.Dense(5), Block()),
}
every_graph = pytest.mark.parametrize("name", GRAPHS)


def built(name):
    """The network `name`, its weights and BatchNorm statistics drawn at random, and a batch for it."""
    model, rng = GRAPHS[name](), np.random.default_rng(1)
    for weight in model.weights:
        low, high = (0.5, 1.5) if "variance" in weight.name else (-0.8, 0.8)
        weight.assign(rng.uniform(low, high, weight.shape))
    return model, batch(model)


def batch(model, n=4, seed=0):
    """Random values in the structure of the model's input; token ids end in padding."""
    rng = np.random.default_rng(seed)

    def values(x):
        shape = (n, *(5 if size is None else size for size in x.shape[1:]))
        if x.dtype == IDS:
            return np.where(np.arange(shape[1]) < rng.integers(1, shape[1] + 1, (n, 1)), rng.integers(1, 9, shape), 0)
        return rng.normal(size=shape).astype("float32")

    return keras.tree.map_structure(values, model.inputs[0] if isinstance(model, keras.Sequential) else model.input)
