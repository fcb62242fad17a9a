"""A pre-norm transformer encoder over image patches or tokens.

The block is that of Dosovitskiy et al. 2021 (equations 1 to 3), with the mean over positions instead
of a class token. Attention is written in stock operations (matmul, softmax, matmul), so that the
attention weights are a site like any other. `MultiHeadAttention` would hide the rate inside the layer
and take another code path when the rate is above 0.
"""

import math
from typing import TYPE_CHECKING

import keras
from keras import layers, ops

if TYPE_CHECKING:
    from zoo.models.configs import Transformer
    from zoo.models.sites import Sites


def build(
    config: "Transformer", inputs: keras.KerasTensor, classes: int, drop: "Sites", vocabulary: int | None = None
) -> keras.Model:
    """Builds the network.

    Args:
        config: patch size, width, depth, heads and width of the feed-forward block.
        inputs: images `(batch, height, width, channels)`, raw pixels, 0 to 255; with `vocabulary`,
            token ids `(batch, length)`. Id 0 is padding: attention and the final mean ignore it.
        classes: number of classes.
        drop: applies the placement, as in `x = drop("attention", x)`.
        vocabulary: number of token ids; None for images.

    Returns:
        A model with logits `(batch, classes)`.
    """
    if vocabulary is None:
        x, bias, weights = _embed_patches(inputs, config, drop), None, None
    else:
        x, bias, weights = _embed_tokens(inputs, config, vocabulary)
    x = drop("embedding", x)
    for i in range(1, config.depth + 1):
        branch = _attention(_norm(x, f"block_{i}_attention_norm"), bias, config, drop, f"block_{i}_attention")
        x = layers.Add(name=f"block_{i}_attention_add")([x, drop("branch", branch)])
        branch = _feed_forward(_norm(x, f"block_{i}_ffn_norm"), config, drop, f"block_{i}_ffn")
        x = layers.Add(name=f"block_{i}_ffn_add")([x, drop("branch", branch)])
    x = _norm(x, "norm")
    if weights is None:
        x = layers.GlobalAveragePooling1D("channels_last", name="pool")(x)
    else:
        x = ops.sum(x * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)
    x = drop("features", x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="transformer")


def _embed_patches(inputs, config, drop):
    """Projects flattened patches and adds a learned position: `(batch, patches, width)`."""
    x = layers.Rescaling(1 / 255, name="pixels")(inputs)
    x = drop("input", x)
    size = config.patch
    height, width, channels = x.shape[1:]
    if height % size or width % size:
        x = layers.ZeroPadding2D(((0, -height % size), (0, -width % size)), "channels_last", name="pad")(x)
        height, width, channels = x.shape[1:]
    x = layers.Reshape((height // size, size, width // size, size * channels), name="cut")(x)
    x = layers.Permute((1, 3, 2, 4), name="gather")(x)
    x = layers.Reshape((height // size * (width // size), size * size * channels), name="patches")(x)
    # The bias has one row per position, so one stock layer holds the projection and the positions.
    return layers.EinsumDense(
        "bpi,iw->bpw",
        output_shape=(x.shape[1], config.width),
        bias_axes="pw",
        bias_initializer=keras.initializers.RandomNormal(stddev=0.02),
        name="embed",
    )(x)


def _embed_tokens(tokens, config, vocabulary):
    """Returns token plus position `(batch, length, width)`, the attention bias and the pooling weights."""
    # Positions are computed from the input: Keras does not track a table that is looked up with a constant.
    position = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    x = layers.Add(name="embed")(
        [
            layers.Embedding(vocabulary, config.width, embeddings_initializer=_small(), name="token")(tokens),
            layers.Embedding(tokens.shape[1], config.width, embeddings_initializer=_small(), name="position")(position),
        ]
    )
    present = ops.cast(ops.not_equal(tokens, 0), x.dtype)
    # -3e4 gives a weight of 0 after the softmax, and fits into float16.
    bias = ops.expand_dims(ops.expand_dims((1 - present) * -3e4, 1), 1)
    return x, bias, ops.expand_dims(present, -1)


def _attention(x, bias, config, drop, name):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2)."""
    size = config.width // config.heads

    def heads(part):  # (batch, heads, positions, size)
        y = layers.Dense(config.width, name=f"{name}_{part}")(x)
        y = layers.Reshape((x.shape[1], config.heads, size), name=f"{name}_{part}_split")(y)
        return layers.Permute((2, 1, 3), name=f"{name}_{part}_heads")(y)

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = ops.matmul(query, ops.swapaxes(key, -1, -2)) / math.sqrt(size)
    if bias is not None:
        scores = scores + bias
    weights = layers.Softmax(name=f"{name}_weights")(scores)
    y = ops.matmul(drop("attention", weights), value)
    y = layers.Permute((2, 1, 3), name=f"{name}_join")(y)
    y = layers.Reshape((x.shape[1], config.width), name=f"{name}_merge")(y)
    y = layers.Dense(config.width, name=f"{name}_out")(y)
    return drop("attention_out", y)


def _feed_forward(x, config, drop, name):
    y = layers.Dense(config.ffn, name=f"{name}_in")(x)
    # The tanh approximation: tf2onnx converts the exact form to an operator that ONNX lacks.
    y = ops.gelu(y, approximate=True)
    y = drop("ffn_hidden", y)
    y = layers.Dense(config.width, name=f"{name}_out")(y)
    return drop("ffn_out", y)


def _norm(x, name):
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _small():
    return keras.initializers.RandomNormal(stddev=0.02)
