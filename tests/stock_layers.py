"""A small model for each stock layer of Keras, in its variants: what any export may hold."""

import keras
from keras import layers, ops

# Layers that run code of the user or of another framework, are bases of others, or come in the models of others.
NOT_MODELS = {"FlaxLayer", "InputLayer", "JaxLayer", "Lambda", "Layer", "TFSMLayer", "TorchModuleWrapper", "Wrapper"}
# Layers that work on data before a model and cannot stand in a Functional one.
OF_DATA = {"CutMix", "Equalization", "MaxNumBoundingBoxes", "MixUp"}

VECTOR, SEQUENCE, IMAGE, VOLUME, MOVIE = (6,), (8, 4), (12, 12, 3), (8, 8, 8, 2), (3, 8, 8, 2)
LINE, WAVE = (4, 8, 2), (600,)
BOX = (2, 4, 4, 4, 2)


def one(*made, shape, dtype="float32"):
    x = h = keras.Input(shape, dtype=dtype)
    for layer in made:
        h = layer(h)
    return keras.Model(x, h)


def several(layer, *shapes):
    x = keras.Input((sum(width for _, width in shapes),)) if len(shapes[0]) == 0 else keras.Input(shapes[0])
    return keras.Model(x, layer([x, layers.Rescaling(0.5)(x)]))


def _each(shape, *made, dtype="float32"):
    return [lambda layer=layer: one(layer(), shape=shape, dtype=dtype) for layer in made]


def _attending(layer, **options):
    x = keras.Input(SEQUENCE)
    return keras.Model(x, layer(x, x, **options))


def _masked(*made):
    x = keras.Input((8,), dtype="int32")
    h = layers.Embedding(10, 4, mask_zero=True)(x)
    for layer in made:
        h = layer(h)
    return keras.Model(x, h)


def _cells(*cells):
    return one(layers.RNN(list(cells) if len(cells) > 1 else cells[0]), shape=SEQUENCE)


ACTIVATIONS = (
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu",
    "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink",
    "softmax", "softplus", "softsign", "sparse_plus", "sparsemax", "squareplus", "tanh", "tanh_shrink",
)  # fmt: skip


UNARY = """
abs arccos arccosh arcsin arcsinh arctan arctanh argsort ceil cos cosh erf erfinv exp expm1 flip floor isfinite isinf
isnan log log10 log1p log2 logical_not negative ones_like reciprocal relu round rsqrt sigmoid sign sin sinh softmax sort
sqrt square tan tanh zeros_like
"""
REDUCING = "all any amax amin argmax argmin count_nonzero logsumexp max mean min norm prod std sum var"
BINARY = """
add arctan2 divide divide_no_nan equal floor_divide greater greater_equal less less_equal logaddexp logical_and
logical_or logical_xor maximum minimum mod multiply not_equal power subtract
"""
OTHERS = (
    lambda x: ops.cumsum(x, 1),
    lambda x: ops.cumprod(x, 1),
    lambda x: ops.roll(x, 1, 1),
    lambda x: ops.repeat(x, 2, 1),
    lambda x: ops.tile(x, (1, 2, 1)),
    lambda x: ops.stack([x, x], 1),
    lambda x: ops.split(x, 2, 1)[0],
    lambda x: ops.pad(x, ((0, 0), (1, 1), (0, 0))),
    lambda x: ops.clip(x, 0, 1),
    lambda x: ops.take(x, [0, 1], 1),
    lambda x: ops.where(x > 0, x, 0.0),
    lambda x: ops.swapaxes(x, 1, 2),
    lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
    lambda x: ops.einsum("abc,abd->acd", x, x),
    lambda x: x[:, 1:3],
    lambda x: ops.top_k(x, 2)[0],
    lambda x: ops.cast(x, "float16"),
    lambda x: ops.one_hot(ops.cast(x, "int32"), 3),
    lambda x: ops.expand_dims(x, 1),
)


def _operations():
    """Keras' elementary operations, which a Functional model may call between its layers."""
    made = [lambda x, name=name: getattr(ops, name)(x) for name in UNARY.split()]
    made += [lambda x, name=name: getattr(ops, name)(x, axis=1) for name in REDUCING.split()]
    made += [lambda x, name=name: getattr(ops, name)(x, x * 2.0) for name in BINARY.split()]
    return [*made, *OTHERS]


def _with(operation):
    x = keras.Input(SEQUENCE)
    return keras.Model(x, ops.cast(operation(x), "float32"))


def models():
    """Yields (name of the layer, function that makes a model of it) for every stock layer, in its variants."""
    made = {
        "Activation": [
            lambda: one(*(layers.Activation(name) for name in ACTIVATIONS if name != "glu"), shape=VECTOR),
            lambda: one(layers.Activation("glu"), shape=VECTOR),
        ],
        "BatchNormalization": _each(IMAGE, layers.BatchNormalization),
        "Dense": _each(VECTOR, lambda: layers.Dense(3, "relu")),
    }
    for name in ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"):
        made[name] = [lambda name=name: several(getattr(layers, name)(), SEQUENCE)]
    made["Dot"] = [lambda: several(layers.Dot(1), SEQUENCE), lambda: several(layers.Dot(1, normalize=True), SEQUENCE)]
    plain = (
        "ActivityRegularization AlphaDropout Dropout ELU Flatten GaussianDropout GaussianNoise Identity "
        "LayerNormalization LeakyReLU Masking PReLU RMSNormalization ReLU Softmax UnitNormalization"
    )
    with_rate = {"AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"}
    for name in plain.split():
        made[name] = _each(SEQUENCE, lambda name=name: getattr(layers, name)(*([0.5] if name in with_rate else [])))
    made["ReLU"] += _each(SEQUENCE, lambda: layers.ReLU(6.0, 0.1, 0.5))
    made["Softmax"] += [lambda: one(layers.Softmax(axis=(1, 2)), shape=SEQUENCE)]
    for rank, shape in ((1, SEQUENCE), (2, IMAGE), (3, VOLUME)):
        for kind in ("Average", "Max"):
            made[f"{kind}Pooling{rank}D"] = _each(
                shape,
                *(
                    lambda kind=kind, rank=rank, padding=padding: getattr(layers, f"{kind}Pooling{rank}D")(
                        2, 1, padding
                    )
                    for padding in ("valid", "same")
                ),
            )
            made[f"Global{kind}Pooling{rank}D"] = _each(shape, getattr(layers, f"Global{kind}Pooling{rank}D"))
            made[f"Adaptive{kind}Pooling{rank}D"] = _each(
                shape,
                lambda kind=kind, rank=rank: getattr(layers, f"Adaptive{kind}Pooling{rank}D")(3),
                lambda kind=kind, rank=rank: getattr(layers, f"Adaptive{kind}Pooling{rank}D")(4),
            )
        made[f"Conv{rank}D"] = _each(
            shape,
            *(
                lambda rank=rank, more=more: getattr(layers, f"Conv{rank}D")(4, 3, activation="relu", **more)
                for more in (
                    {},
                    {"padding": "same", "strides": 2},
                    {"dilation_rate": 2},
                    *([{"padding": "causal"}] if rank == 1 else []),
                    {"groups": 2} if shape[-1] % 2 == 0 else {},
                )
            ),
        )
        made[f"Conv{rank}DTranspose"] = _each(
            shape,
            *(
                lambda rank=rank, more=more: getattr(layers, f"Conv{rank}DTranspose")(4, 3, **more)
                for more in ({}, {"padding": "same", "strides": 2}, {"output_padding": 1, "strides": 2})
            ),
        )
        made[f"Cropping{rank}D"] = _each(shape, getattr(layers, f"Cropping{rank}D"))
        made[f"ZeroPadding{rank}D"] = _each(shape, getattr(layers, f"ZeroPadding{rank}D"))
        made[f"UpSampling{rank}D"] = _each(shape, getattr(layers, f"UpSampling{rank}D"))
        made[f"SpatialDropout{rank}D"] = _each(shape, lambda rank=rank: getattr(layers, f"SpatialDropout{rank}D")(0.5))
    made["UpSampling2D"] += _each(
        IMAGE,
        *(
            lambda how=how: layers.UpSampling2D(2, interpolation=how)
            for how in ("bilinear", "bicubic", "lanczos3", "lanczos5")
        ),
    )
    for rank, shape in ((1, SEQUENCE), (2, IMAGE)):
        made[f"SeparableConv{rank}D"] = _each(shape, lambda rank=rank: getattr(layers, f"SeparableConv{rank}D")(4, 3))
        made[f"DepthwiseConv{rank}D"] = _each(
            shape,
            lambda rank=rank: getattr(layers, f"DepthwiseConv{rank}D")(3),
            lambda rank=rank: getattr(layers, f"DepthwiseConv{rank}D")(
                3, padding="same", depth_multiplier=2, strides=2
            ),
        )
    made["GroupNormalization"] = _each(IMAGE, lambda: layers.GroupNormalization(3))
    made["SpectralNormalization"] = _each(VECTOR, lambda: layers.SpectralNormalization(layers.Dense(3)))
    made["Normalization"] = _each(
        VECTOR,
        lambda: layers.Normalization(mean=1.0, variance=2.0),
        lambda: layers.Normalization(mean=1.0, variance=2.0, invert=True),
    )
    made["EinsumDense"] = _each(SEQUENCE, lambda: layers.EinsumDense("abc,cd->abd", output_shape=(None, 5)))
    made["Permute"] = _each(SEQUENCE, lambda: layers.Permute((2, 1)))
    made["Reshape"] = _each(SEQUENCE, lambda: layers.Reshape((4, 8)), lambda: layers.Reshape((-1, 2)))
    made["RepeatVector"] = _each(VECTOR, lambda: layers.RepeatVector(3))
    made["Rescaling"] = _each(IMAGE, lambda: layers.Rescaling(1 / 255, -0.5))
    made["Resizing"] = _each(
        IMAGE,
        *(
            lambda more=more: layers.Resizing(7, 9, **more)
            for more in (
                *({"interpolation": how} for how in ("bilinear", "nearest", "bicubic", "lanczos3", "area")),
                {"crop_to_aspect_ratio": True},
                {"pad_to_aspect_ratio": True},
                {"antialias": True},
            )
        ),
    )
    made["CenterCrop"] = _each(IMAGE, lambda: layers.CenterCrop(8, 8), lambda: layers.CenterCrop(20, 20))
    made["MelSpectrogram"] = _each(WAVE, lambda: layers.MelSpectrogram(fft_length=128, sequence_stride=64))
    made["STFTSpectrogram"] = _each(
        (600, 1),
        *(
            lambda mode=mode: layers.STFTSpectrogram(mode=mode, frame_length=64, frame_step=32, fft_length=64)
            for mode in ("log", "magnitude", "psd", "real", "imag", "angle", "stft")
        ),
    )
    # Attention
    made["Attention"] = [
        lambda: one_self(layers.Attention(use_scale=True)),
        lambda: one_self(layers.Attention(score_mode="concat")),
    ]
    made["AdditiveAttention"] = [lambda: one_self(layers.AdditiveAttention())]
    made["MultiHeadAttention"] = [
        lambda: _attending(layers.MultiHeadAttention(2, 3, dropout=0.2)),
        lambda: _attending(layers.MultiHeadAttention(2, 3), use_causal_mask=True),
        lambda: _attending(layers.MultiHeadAttention(2, 3, flash_attention=False)),
    ]
    made["GroupedQueryAttention"] = [lambda: _attending(layers.GroupQueryAttention(3, 4, 2))]
    made["Embedding"] = [lambda: _masked(), lambda: _masked(layers.GlobalAveragePooling1D())]
    made["ReversibleEmbedding"] = [lambda: one(layers.ReversibleEmbedding(10, 4), shape=(8,), dtype="int32")]
    # Recurrent
    for name in ("LSTM", "GRU", "SimpleRNN"):
        layer, cell = getattr(layers, name), getattr(layers, f"{name}Cell")
        made[name] = [
            lambda layer=layer: one(layer(5), shape=SEQUENCE),
            lambda layer=layer: one(layer(5, return_sequences=True, go_backwards=True), shape=SEQUENCE),
            lambda layer=layer: one(layer(5, unroll=True, recurrent_dropout=0.2, dropout=0.2), shape=SEQUENCE),
            lambda layer=layer: one(layer(5, return_sequences=True), shape=(None, 4)),
            lambda layer=layer: _masked(layer(5, return_sequences=True)),
            lambda layer=layer: _masked(layer(5)),
        ]
        made[f"{name}Cell"] = [lambda cell=cell: _cells(cell(5))]
    made["GRU"] += [lambda: one(layers.GRU(5, reset_after=False), shape=SEQUENCE)]
    made["StackedRNNCells"] = [lambda: _cells(layers.GRUCell(5), layers.LSTMCell(4))]
    made["RNN"] = [lambda: _masked(layers.RNN(layers.LSTMCell(4), zero_output_for_mask=True, return_sequences=True))]
    made["Bidirectional"] = [
        lambda: one(layers.Bidirectional(layers.LSTM(3)), shape=SEQUENCE),
        lambda: _masked(layers.Bidirectional(layers.GRU(3), "sum")),
    ]
    made["TimeDistributed"] = [
        lambda: one(layers.TimeDistributed(layers.Dense(3)), shape=SEQUENCE),
        lambda: _masked(layers.TimeDistributed(layers.Dense(3))),
        lambda: one(layers.TimeDistributed(layers.Dense(3)), shape=(None, 4)),
    ]
    made["ConvLSTM1D"] = [lambda: one(layers.ConvLSTM1D(2, 3), shape=LINE)]
    made["ConvLSTM2D"] = [lambda: one(layers.ConvLSTM2D(2, 3, return_sequences=True), shape=MOVIE)]
    made["ConvLSTM3D"] = [lambda: one(layers.ConvLSTM3D(2, 3), shape=BOX)]
    # Words and categories
    made["TextVectorization"] = [
        lambda: one(
            layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=4), shape=(), dtype="string"
        ),
        lambda: one(
            layers.TextVectorization(vocabulary=["a", "b"], output_mode="multi_hot", ngrams=2, split="character"),
            shape=(),
            dtype="string",
        ),
        lambda: one(
            layers.TextVectorization(
                vocabulary=["a", "b"], output_mode="tf_idf", idf_weights=[0.2, 0.3], pad_to_max_tokens=False
            ),
            shape=(),
            dtype="string",
        ),
        lambda: one(layers.TextVectorization(vocabulary=["a", "b"], output_mode="count"), shape=(), dtype="string"),
    ]
    for name, vocabulary, dtype in (("StringLookup", ["a", "b"], "string"), ("IntegerLookup", [3, 5], "int64")):
        layer = getattr(layers, name)
        made[name] = [
            lambda layer=layer, more=more, vocabulary=vocabulary, dtype=dtype: one(
                layer(vocabulary=vocabulary, **more), shape=(4,), dtype=dtype
            )
            for more in (
                {},
                {"num_oov_indices": 2},
                {"output_mode": "multi_hot"},
                {"output_mode": "count"},
                {"output_mode": "tf_idf", "idf_weights": [0.2, 0.3]},
            )
        ]
        made[name] += [
            lambda layer=layer, vocabulary=vocabulary: one(
                layer(vocabulary=vocabulary, invert=True), shape=(4,), dtype="int64"
            ),
            lambda layer=layer, vocabulary=vocabulary, dtype=dtype: one(
                layer(vocabulary=vocabulary, output_mode="one_hot"), shape=(1,), dtype=dtype
            ),
            lambda layer=layer, vocabulary=vocabulary, dtype=dtype: one(
                layer(vocabulary=vocabulary, num_oov_indices=0), shape=(1,), dtype=dtype
            ),
        ]
    made["Hashing"] = [
        lambda: one(layers.Hashing(5), shape=(1,), dtype="string"),
        lambda: one(layers.Hashing(5, salt=7), shape=(1,), dtype="string"),
        lambda: one(layers.Hashing(5, mask_value="a"), shape=(1,), dtype="string"),
        lambda: one(layers.Hashing(5), shape=(1,), dtype="int64"),
        lambda: one(layers.Hashing(5, output_mode="one_hot"), shape=(1,), dtype="string"),
    ]
    made["HashedCrossing"] = [
        lambda how=how: _crossed(layers.HashedCrossing(5, output_mode=how)) for how in ("int", "one_hot")
    ]
    made["CategoryEncoding"] = [
        lambda how=how: one(layers.CategoryEncoding(5, output_mode=how), shape=(3,), dtype="int32")
        for how in ("multi_hot", "count")
    ] + [lambda: one(layers.CategoryEncoding(5, output_mode="one_hot"), shape=(1,), dtype="int32")]
    made["Discretization"] = [
        lambda how=how: one(layers.Discretization([0.0, 1.0], output_mode=how), shape=(1,))
        for how in ("int", "one_hot", "multi_hot", "count")
    ]
    # Images
    by_factor = (
        "RandomColorDegeneration RandomContrast RandomGrayscale RandomHue RandomInvert RandomPosterization "
        "RandomSaturation RandomSharpness RandomShear RandomZoom RandomRotation RandomBrightness"
    )
    plain = (
        "AugMix AutoContrast ContrastLimitedAdaptiveHistogramEqualization RandAugment "
        "RandomColorJitter RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomPerspective "
        "Solarization"
    )
    for name in plain.split():
        made[name] = _each(IMAGE, getattr(layers, name))
    for name in by_factor.split():
        factor = {"RandomPosterization": 4}.get(name, 0.3)
        made[name] = _each(IMAGE, lambda name=name, factor=factor: getattr(layers, name)(factor))
    made["RandomCrop"] = _each(IMAGE, lambda: layers.RandomCrop(8, 8))
    made["RandomTranslation"] = _each(IMAGE, lambda: layers.RandomTranslation(0.2, 0.2))
    made["operations"] = [lambda each=each: _with(each) for each in _operations()]
    made["Pipeline"] = _each(IMAGE, lambda: layers.Pipeline([layers.RandomFlip(), layers.Rescaling(2.0)]))
    return [(name, make) for name, makers in made.items() for make in makers]


def one_self(layer):
    x = keras.Input(SEQUENCE)
    return keras.Model(x, layer([x, x]))


def _crossed(layer):
    x = keras.Input((1,), dtype="string")
    return keras.Model(x, layer((x, x)))
