"""The builders: shapes, sizes, precision, and what they refuse."""

import keras
import numpy as np
import pytest
from conftest import SMALL

import zoo
from zoo.catalogue import CONFIGS
from zoo.errors import BadInput

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 48, 3), (64, 64, 3), (30, 31, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("classes", [2, 1000])
@pytest.mark.parametrize("model", CONFIGS)
def test_images_of_many_sizes_become_finite_logits(model, shape, classes):
    built = zoo.build(model, shape, classes, seed=1)
    x = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype("uint8")
    y = np.asarray(built(x))
    assert y.shape == (2, classes)
    assert y.dtype == np.float32
    assert np.isfinite(y).all()


@pytest.mark.parametrize(("model", "weights"), [("cnn", 870_634), ("resnet", 78_426), ("transformer", 204_874)])
def test_default_networks_have_the_published_size(model, weights):
    assert zoo.build(model, (28, 28, 1), 10).count_params() == weights


@pytest.mark.parametrize(
    ("model", "settings", "weights"),
    [
        ("mlp", {"hidden": (20,)}, 64 * 20 + 20 + 20 * 5 + 5),
        ("mlp", {"hidden": "20/30"}, 64 * 20 + 20 + 20 * 30 + 30 + 30 * 5 + 5),
        ("cnn", {"filters": (4,), "convolutions": 1, "hidden": (6,)}, 9 * 4 + 4 + 4 * 4 * 4 * 6 + 6 + 6 * 5 + 5),
    ],
)
def test_settings_reach_the_network(model, settings, weights):
    assert zoo.build(model, (8, 8, 1), 5, **settings).count_params() == weights


def test_a_resnet_halves_its_map_at_every_stage_but_the_first():
    model = zoo.build("resnet", (32, 32, 3), 10, filters=(4, 8, 16), blocks=(2, 1, 3))
    sides = [model.get_layer(f"stage_{s}_1_add").output.shape[1] for s in (1, 2, 3)]
    assert sides == [32, 16, 8]
    assert sum(layer.name.endswith("shortcut_conv") for layer in model.layers) == 2


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_and_close_under_mixed_precision(small, policy):
    x, exact = small.batch(), np.asarray(small.build("everywhere")(small.batch()))
    keras.mixed_precision.set_global_policy(policy)
    try:
        rough = small.build("everywhere")(x)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert rough.dtype == "float32"
    np.testing.assert_allclose(np.asarray(rough), exact, atol=0.05 * np.abs(exact).max() + 0.02)


def test_padding_does_not_reach_the_logits():
    model = SMALL["tokens"].build()
    tokens = SMALL["tokens"].batch()
    tokens[:, 7:] = 0
    short = zoo.build("transformer", (12,), 5, None, 3, 30, **SMALL["tokens"].settings)
    for source, target in zip(model.layers, short.layers, strict=True):
        weights = source.get_weights()
        if source.name == "position":
            weights[0][7:] = 1e3  # what stands behind the padding must not matter
        if source.name == "token":
            weights[0][0] = 1e3
        target.set_weights(weights)
    np.testing.assert_array_equal(np.asarray(short(tokens)), np.asarray(model(tokens)))


def test_a_text_of_padding_alone_gives_finite_logits():
    assert np.isfinite(np.asarray(SMALL["tokens"].build()(np.zeros((2, 12), "int32")))).all()


def test_token_order_matters():
    model, tokens = SMALL["tokens"].build(), SMALL["tokens"].batch()
    assert not np.allclose(np.asarray(model(tokens)), np.asarray(model(tokens[:, ::-1].copy())))


def test_no_layer_is_told_for_ever_to_train(small):
    for layer in small.build("everywhere").get_config()["layers"]:
        for node in layer["inbound_nodes"]:
            assert node["kwargs"].get("training") is not True, layer["name"]


def test_fit_compile_and_predict_work_as_with_any_keras_model(small):
    model, x = small.build(), small.batch()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, np.arange(len(x)) % 5, epochs=1, verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), np.asarray(model(x)), atol=1e-5)


REFUSED = [
    (("mpl", (8, 8, 1), 10), {}, r"received model 'mpl'; did you mean 'mlp'\?.*mlp, cnn, resnet, transformer"),
    (("mlp", (8, 8), 10), {}, r"input_shape \(8, 8\).*\(height, width, channels\)"),
    (("mlp", (8, 8, 0), 10), {}, r"at least 1"),
    (("mlp", (8, 8, 1), 1), {}, r"received classes 1.*at least 2"),
    (("mlp", (8, 8, 1), 10), {"hidden": 0}, r"received hidden=0"),
    (("mlp", (8, 8, 1), 10), {"width": 4}, r"received setting 'width' for mlp; it has hidden"),
    (("mlp", (8,), 10), {"vocabulary": 9}, r"vocabulary for mlp, which takes images"),
    (("transformer", (8,), 10), {}, r"give vocabulary=N"),
    (("transformer", (8,), 10), {"vocabulary": 1}, r"received vocabulary 1"),
    (("transformer", (8, 8, 1), 10), {"width": 10, "heads": 4}, r"heads must divide width"),
    (("transformer", (8,), 10, {"input": 0.1}), {"vocabulary": 9}, r"'input', which transformer over tokens lacks"),
    (("cnn", (3, 8, 1), 10), {}, r"images of 3x8.*at least 4x4"),
    (("resnet", (8, 8, 1), 10), {"blocks": (1, 1)}, r"one number of each per stage"),
    (("mlp", (8, 8, 1), 10, 0.5), {}, r"received placement 0\.5"),
]


@pytest.mark.parametrize(("arguments", "settings", "message"), REFUSED, ids=[r[2][:40] for r in REFUSED])
def test_what_cannot_be_built_is_refused(arguments, settings, message):
    with pytest.raises(BadInput, match=message):
        zoo.build(*arguments, **settings)


def test_models_are_listed_by_pattern():
    assert zoo.list_models() == ["mlp", "cnn", "resnet", "transformer"]
    assert zoo.list_models("*n*") == ["cnn", "resnet", "transformer"]
