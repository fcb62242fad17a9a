"""Models that this project did not build: small graphs of every odd kind, with their sites written down by hand."""

import keras
import numpy as np
from keras import layers, ops


def _conv(x, filters, name, size=3, strides=1, **more):
    return layers.Conv2D(filters, size, strides, padding="same", activation="relu", name=name, **more)(x)


def _norm_conv(x, filters, name, size=3, strides=1, act=True):
    x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if act else x


def unet_by_addition():
    x = keras.Input((16, 16, 3), name="image")
    one = _conv(x, 4, "down1")
    two = _conv(layers.MaxPooling2D()(one), 4, "down2")
    low = _conv(layers.MaxPooling2D()(two), 4, "low")
    up = _conv(layers.Add()([layers.UpSampling2D()(low), two]), 4, "up2")
    up = _conv(layers.Add()([layers.Conv2DTranspose(4, 2, 2, name="up")(up), one]), 4, "up1")
    y = layers.Conv2D(5, 1, activation="softmax", name="pixels")(up)
    return keras.Model(x, y), {"input": ["image"], "conv": ["down1", "down2", "low", "up2", "up1"]}


def feature_pyramid():
    x = keras.Input((16, 16, 3), name="image")
    c1 = _norm_conv(x, 4, "c1", strides=2)
    c2 = _norm_conv(c1, 6, "c2", strides=2)
    c3 = _norm_conv(c2, 8, "c3", strides=2)
    p3 = layers.Conv2D(4, 1, name="lateral3")(c3)
    p2 = layers.Add()([layers.Conv2D(4, 1, name="lateral2")(c2), layers.UpSampling2D()(p3)])
    p1 = layers.Conv2D(4, 1, name="lateral1")(c1) + layers.UpSampling2D()(p2)
    pooled = [layers.GlobalAveragePooling2D(name=f"pool{i}")(p) for i, p in enumerate((p1, p2, p3))]
    y = layers.Dense(5, name="logits")(layers.Concatenate(name="levels")(pooled))
    return keras.Model(x, y), {"input": ["image"], "conv": ["c1_relu", "c2_relu", "c3_relu"], "features": ["levels"]}


def parallel_streams():
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    a = _conv(_conv(left, 4, "a1"), 4, "a2")
    b = _conv(_conv(right, 4, "b1"), 4, "b2")
    y = layers.GlobalAveragePooling2D(name="pool")(layers.Add()([a, b]))
    y = layers.Dense(5, name="logits")(y)
    expected = {"input": ["left", "right"], "conv": ["a1", "a2", "b1", "b2"], "features": ["pool"]}
    return keras.Model([left, right], y), expected


def image_and_table():
    image, table = keras.Input((8, 8, 3), name="image"), keras.Input((6,), name="table")
    a = layers.GlobalMaxPooling2D(name="pool")(_conv(layers.Rescaling(1 / 255, name="pixels")(image), 4, "conv"))
    b = layers.Dense(4, activation="relu", name="numbers")(table)
    x = layers.Concatenate(name="both")([a, b])
    x = layers.Dense(8, name="mix")(x)
    x = layers.BatchNormalization(name="mix_bn")(x)
    x = layers.ReLU(name="mix_relu")(x)
    outputs = {"kind": layers.Dense(5, name="kind")(x), "size": layers.Dense(1, name="size")(x)}
    return keras.Model({"image": image, "table": table}, outputs), {
        "input": ["pixels", "table"],
        "conv": ["conv"],
        "features": ["pool"],
        "hidden": ["numbers", "mix_relu"],
    }


def nested_three_deep():
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.Conv2D(4, 3, padding="same", name="conv"), layers.ReLU(name="relu")],
        name="inner",
    )
    x = keras.Input((8, 8, 3))
    y = inner(layers.Conv2D(4, 1, activation="relu", name="conv")(x))
    middle = keras.Model(x, layers.GlobalAveragePooling2D(name="pool")(y), name="middle")
    x = keras.Input((8, 8, 3), name="image")
    y = layers.Dropout(0.5, name="own")(middle(layers.Rescaling(1 / 255, name="pixels")(x)))
    y = layers.Dense(5, name="logits")(y)
    expected = {"input": ["pixels"], "conv": ["middle/conv", "middle/inner/relu"], "features": ["middle/pool"]}
    return keras.Model(x, y), expected


def shared_encoder():
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(name="pool"),
        ],
        name="encoder",
    )
    a, b = keras.Input((8, 8, 3), name="a"), keras.Input((8, 8, 3), name="b")
    twice = layers.Dense(6, activation="relu", name="twice")
    x = layers.Concatenate(name="pair")([encoder(a), encoder(b)])
    x = twice(layers.Dense(6, activation="relu", name="once")(x))
    y = layers.Dense(5, name="logits")(twice(x))
    expected = {
        "input": ["a", "b"],
        "conv": ["encoder/conv"],
        "features": ["pair"],
        "hidden": ["once", "twice", "twice"],
    }
    return keras.Model([a, b], y), expected


def post_norm_encoder():
    tokens = keras.Input((10,), dtype="int32", name="tokens")
    x = layers.Embedding(20, 8, mask_zero=True, name="token")(tokens)
    position = layers.Embedding(10, 8, name="position")(ops.cumsum(ops.ones_like(tokens), axis=1) - 1)
    x = layers.LayerNormalization(name="embed_norm")(layers.Add(name="embed")([x, position]))
    x = layers.Dropout(0.1, name="embed_drop")(x)
    for i in (1, 2):
        a = layers.MultiHeadAttention(2, 4, dropout=0.1, name=f"attend{i}")(x, x)
        a = layers.Dropout(0.1, name=f"attend_drop{i}")(a)
        x = layers.LayerNormalization(name=f"norm_a{i}")(x + a)
        f = layers.Dense(16, activation="gelu", name=f"wide{i}")(x)
        f = layers.Dropout(0.1, name=f"ffn_drop{i}")(layers.Dense(8, name=f"narrow{i}")(f))
        x = layers.LayerNormalization(name=f"norm_f{i}")(layers.Add()([x, f]))
    x = layers.Dense(8, activation="tanh", name="pooler")(x[:, 0])
    y = layers.Dense(5, name="logits")(layers.Dropout(0.1, name="head_drop")(x))
    return keras.Model(tokens, y), {
        "embedding": ["embed_norm"],
        "attention": ["attend1", "attend2"],
        "attention_out": ["attend1", "attend2"],
        "ffn_hidden": ["wide1", "wide2"],
        "ffn_out": ["narrow1", "narrow2"],
        "branch": ["attend1", "narrow1", "attend2", "narrow2"],
        "features": ["get_item"],
        "hidden": ["pooler"],
    }


def decoder():
    source, target = keras.Input((6, 8), name="source"), keras.Input((5, 8), name="target")
    memory = layers.Dense(8, name="memory")(source)
    x = layers.Dense(8, name="start")(target)
    for i in (1, 2):
        h = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name=f"self{i}")(h, h, use_causal_mask=True)])
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4, name=f"cross{i}")(layers.LayerNormalization()(x), memory)])
        h = layers.Dense(16, activation="relu", name=f"wide{i}")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(8, name=f"narrow{i}")(h)])
    y = layers.Dense(5, name="logits")(layers.GlobalAveragePooling1D(name="pool")(x))
    attention = ["self1", "cross1", "self2", "cross2"]
    return keras.Model([source, target], y), {
        "input": ["source", "target"],
        "embedding": ["start"],
        "attention": attention,
        "attention_out": attention,
        "ffn_hidden": ["wide1", "wide2"],
        "ffn_out": ["narrow1", "narrow2"],
        "branch": ["self1", "cross1", "narrow1", "self2", "cross2", "narrow2"],
        "features": ["pool"],
    }


def residual_kinds():
    """Branches through squeeze-and-excitation and LayerScale, of one kernel, beside projections, pre-activated."""
    x = keras.Input((8, 8, 3), name="image")
    x1 = _norm_conv(x, 6, "stem")
    y = _norm_conv(x1, 6, "one", act=False)  # one kernel, identity
    x2 = layers.ReLU()(layers.Add()([y, x1]))
    y = _norm_conv(x2, 8, "two", act=False)  # one kernel beside a projection
    x3 = layers.ReLU()(layers.Add()([_norm_conv(x2, 8, "two_short", 1, act=False), y]))
    y = _norm_conv(_norm_conv(x3, 8, "three"), 8, "three_b", act=False)  # squeeze and excitation
    s = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(y)
    s = layers.Conv2D(2, 1, activation="relu", name="reduce")(s)
    s = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(s)
    x4 = layers.Add()([layers.Multiply(name="scaled")([y, s]), x3])
    h = layers.ReLU(name="four_relu")(layers.BatchNormalization(name="four_bn")(x4))  # pre-activated
    y = layers.Conv2D(8, 3, padding="same", name="four")(h) * 0.1
    x5 = x4 + layers.Dropout(0.2, noise_shape=(None, 1, 1, 1), name="path")(y)
    y = layers.Dense(5, name="logits")(layers.GlobalAveragePooling2D(name="pool")(x5))
    return keras.Model(x, y), {
        "input": ["image"],
        "conv": ["three_relu"],
        "branch": ["one_bn", "two_bn", "scaled", "multiply"],
        "features": ["pool"],
    }


def recurrent():
    tokens = keras.Input((7,), dtype="int32", name="tokens")
    x = layers.SpatialDropout1D(0.1, name="words")(layers.Embedding(20, 8, mask_zero=True, name="token")(tokens))
    x = layers.Bidirectional(layers.LSTM(4, dropout=0.2, name="lstm"), name="both")(x)
    y = layers.Dense(5, name="logits")(layers.Dense(6, activation="relu", name="dense")(x))
    return keras.Model(tokens, y), {"embedding": ["token"], "features": ["both"], "hidden": ["dense"]}


def residual_perceptron():
    x = keras.Input((6,), name="table")
    h = layers.Dense(8, activation="relu", name="first")(x)
    for i in (1, 2):
        b = layers.Dense(8, activation="relu", name=f"wide{i}")(h)
        h = layers.Add()([h, layers.Dense(8, name=f"narrow{i}")(b)])
    y = layers.Dense(5, name="logits")(h)
    expected = {"input": ["table"], "branch": ["narrow1", "narrow2"], "hidden": ["first", "wide1", "wide2"]}
    return keras.Model(x, y), expected


def conv_one_dimension():
    x = keras.Input((12, 3), name="signal")
    y = layers.Conv1D(4, 3, name="conv1")(x)
    y = layers.Activation("relu", name="relu1")(layers.BatchNormalization()(y))
    y = layers.SeparableConv1D(6, 3, activation="relu", name="conv2")(y)
    y = layers.Flatten(name="flat")(layers.MaxPooling1D(name="max")(y))
    y = layers.Dense(5, name="logits", activation="softmax")(layers.Dense(6, activation="selu", name="fc")(y))
    expected = {"input": ["signal"], "conv": ["relu1", "conv2"], "features": ["flat"], "hidden": ["fc"]}
    return keras.Model(x, y), expected


def parallel_blocks():
    """Attention and feed-forward added in one sum, as in PaLM."""
    x = keras.Input((6, 8), name="sequence")
    h = layers.Dense(8, name="start")(x)
    for i in (1, 2):
        n = layers.LayerNormalization()(h)
        a = layers.MultiHeadAttention(2, 4, name=f"attend{i}")(n, n)
        f = layers.Dense(8, name=f"narrow{i}")(layers.Dense(16, activation="silu", name=f"wide{i}")(n))
        h = h + a + f
    y = layers.Dense(5, name="logits")(layers.GlobalAveragePooling1D(name="pool")(h))
    return keras.Model(x, y), {
        "input": ["sequence"],
        "embedding": ["start"],
        "attention": ["attend1", "attend2"],
        "attention_out": ["attend1", "attend2"],
        "ffn_hidden": ["wide1", "wide2"],
        "ffn_out": ["narrow1", "narrow2"],
        "branch": ["attend1", "narrow1", "attend2", "narrow2"],
        "features": ["pool"],
    }


def channels_first():
    x = keras.Input((3, 4, 4, 4), name="image")  # volumes: images in this order run on processors with AVX-512 only
    y = layers.Conv3D(4, 1, data_format="channels_first", activation="relu", name="conv")(x)
    y = layers.Flatten(name="flat", data_format="channels_first")(y)
    return keras.Model(x, layers.Dense(5, name="logits")(y)), {
        "input": ["image"],
        "conv": ["conv"],
        "features": ["flat"],
    }


GRAPHS = {
    function.__name__: function
    for function in (
        unet_by_addition,
        feature_pyramid,
        parallel_streams,
        image_and_table,
        nested_three_deep,
        shared_encoder,
        post_norm_encoder,
        decoder,
        residual_kinds,
        recurrent,
        residual_perceptron,
        conv_one_dimension,
        parallel_blocks,
        channels_first,
    )
}


def batch_of(model, n=4):
    """Inputs for a model, in its own structure."""
    from zoo.surgery.written import example

    return example(model, n)


def outputs(model, x, **keywords):
    return [np.asarray(keras.ops.convert_to_numpy(y)) for y in keras.tree.flatten(model(x, **keywords))]
