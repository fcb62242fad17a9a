"""The builders: shapes, sizes, precision, and what they refuse."""

import keras
import numpy as np
import pytest
from conftest import SMALL

import zoo
from trainers.plan import Plan
from zoo.errors import BadInput
from zoo.models import catalogue
from zoo.models.catalogue import CONFIGS
from zoo.models.sites import realised
from zoo.placement.drop import KINDS, Drop

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
    (
        ("mpl", (8, 8, 1), 10),
        {},
        r"model must be one of mlp, cnn, .*, got 'mpl'; did you mean 'mlp'\?",
    ),
    (("mlp", (8, 8), 10), {}, r"input_shape of mlp must be \(height, width, channels\) or \(features,\), got \(8, 8\)"),
    (("mlp", (8, 8, 0), 10), {}, r"input_shape must be an integer >= 1, got 0"),
    (("mlp", (8, 8, 1), 1), {}, r"classes must be an integer >= 2, got 1"),
    (("mlp", (8, 8, 1), 10), {"hidden": 0}, r"hidden must be .*, got 0"),
    (("mlp", (8, 8, 1), 10), {"width": 4}, r"setting of mlp must be one of hidden, got 'width'"),
    (("mlp", (8,), 10), {"vocabulary": 9}, r"vocabulary must be None for mlp, which takes no token ids, got 9"),
    (("transformer", (8,), 10), {}, r"give vocabulary=N"),
    (("transformer", (8,), 10), {"vocabulary": 1}, r"vocabulary must be an integer >= 3, got 1"),
    (("transformer", (8, 8, 1), 10), {"width": 10, "heads": 4}, r"heads must divide width, got heads=4 and width=10"),
    (
        ("transformer", (8,), 10, {"input": 0.1}),
        {"vocabulary": 9},
        r"site must be .* for transformer over tokens, got 'input'",
    ),
    (("cnn", (3, 8, 1), 10), {}, r"images must be at least 4x4 .*, got 3x8"),
    (("resnet", (8, 8, 1), 10), {"blocks": (1, 1)}, r"one number per stage each, got filters=16/32/64 and blocks=1/1"),
    (("mlp", (8, 8, 1), 10, 0.5), {}, r"placement must be .*, got 0\.5"),
]


@pytest.mark.parametrize(("arguments", "settings", "message"), REFUSED, ids=[r[2][:40] for r in REFUSED])
def test_what_cannot_be_built_is_refused(arguments, settings, message):
    with pytest.raises(BadInput, match=message):
        zoo.build(*arguments, **settings)


def test_models_are_listed_by_pattern():
    assert zoo.list_models() == ["mlp", "cnn", "resnet", "transformer"]
    assert zoo.list_models("*n*") == ["cnn", "resnet", "transformer"]


def test_everywhere_over_tokens_has_no_site_of_images():
    for build in (
        lambda: zoo.build("transformer", (6,), 3, "everywhere", vocabulary=9, width=8, heads=2, depth=1, ffn=8),
        lambda: zoo.build("transformer", (8, 8, 1), 3, "everywhere", width=8, heads=2, depth=1, ffn=8),
    ):
        model = build()
        sites = {row.site for row in realised(model)}
        assert ("input" in sites) == (model.inputs[0].name == "image")
    plan = Plan.make(model="transformer", placement="everywhere", drop_schedule="early")
    assert "input" not in plan.over("text").placement.sites
    assert plan.over("text").placement.schedule == plan.placement.schedule
    assert plan.over("image") == plan
    asked = Plan.make(model="transformer", drop=["input=0.2"])
    assert asked.over("text") == asked  # refused by name when the network is built


@pytest.mark.parametrize("model", CONFIGS)
@pytest.mark.parametrize("kind", ["spatial", "drop_block"])
def test_the_image_data_format_of_keras_changes_nothing(model, kind):
    if "conv" not in catalogue.configure(model).sites():
        placement = {"input": Drop(0.5, "spatial")}
    else:
        placement = {"conv": Drop(0.5, kind), "features": 0.5}
    settings = {"mlp": {"hidden": 8}, "transformer": {"width": 8, "depth": 1, "ffn": 8, "heads": 2}}.get(model, {})
    last = zoo.build(model, (9, 9, 2), 3, placement, 1, **settings)
    keras.config.set_image_data_format("channels_first")
    try:
        first = zoo.build(model, (9, 9, 2), 3, placement, 1, **settings)
    finally:
        keras.config.set_image_data_format("channels_last")
    x = np.random.default_rng(0).integers(0, 256, (4, 9, 9, 2)).astype("float32")
    for training in (False, True):
        np.testing.assert_array_equal(first(x, training=training), last(x, training=training))


@pytest.mark.parametrize("kind", KINDS)
def test_masks_follow_the_seed_of_the_model(small, kind):
    placement = {site: Drop(0.5, kind) for site in small.sites() if site in KINDS[kind] and site != "attention"}
    if not placement:
        return
    models, x = [small.build(placement, seed=seed) for seed in (3, 3, 4)], small.batch(8)
    models[2].set_weights(models[0].get_weights())
    one, twin, other = (np.asarray(model(x, training=True)) for model in models)
    np.testing.assert_array_equal(one, twin)
    assert (one != other).any()
