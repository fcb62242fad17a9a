"""A member of every family of `keras.applications`: its sites, counted by hand from the papers, and a placement."""

import functools
import gc

import keras
import numpy as np
import psutil
import pytest
from foreign import outputs

import zoo
from zoo.dropout.layers import is_mask

pytestmark = pytest.mark.xdist_group("applications")

# The edge of the images, and the number of occurrences of each site. `conv` counts the activations of
# convolutions that stay inside a block; `branch` the residual blocks of the papers.
FAMILIES = {
    "ConvNeXtTiny": (32, {"conv": 18, "branch": 18}),  # 3 + 3 + 9 + 3 blocks, one activation each
    "DenseNet121": (32, {"conv": 59}),  # the stem and a bottleneck in each of 58 layers; it concatenates
    "EfficientNetB0": (32, {"conv": 33, "branch": 9}),  # stem, 16 depthwise, 15 expansions, top; 16 - 7 blocks
    "EfficientNetV2B0": (32, {"conv": 39, "branch": 15}),
    "InceptionResNetV2": (75, {"conv": 204, "branch": 40}),  # 10 + 20 + 10 blocks
    "InceptionV3": (75, {"conv": 94}),
    "MobileNet": (32, {"conv": 27}),
    "MobileNetV2": (32, {"conv": 35, "branch": 10}),  # stem, 17 depthwise, 16 expansions, top
    "MobileNetV3Small": (32, {"conv": 23, "branch": 6, "hidden": 1}),
    "NASNetMobile": (32, {"conv": 80}),  # cells of parallel paths: no residual branch
    "ResNet50": (32, {"conv": 32, "branch": 16}),  # two inside each bottleneck
    "ResNet50V2": (32, {"conv": 32, "branch": 16}),
    "VGG16": (32, {"conv": 13, "hidden": 2}),
    "VGG19": (32, {"conv": 16, "hidden": 2}),
    "Xception": (71, {"conv": 23, "branch": 12}),
}
HEAVY = ("InceptionResNetV2", "NASNetMobile", "DenseNet121", "InceptionV3")  # placed once, not back


@functools.cache
def network(name):
    edge = FAMILIES[name][0]
    return getattr(keras.applications, name)(weights=None, input_shape=(edge, edge, 3), classes=5)


def images(name, n=2):
    edge = FAMILIES[name][0]
    return np.random.default_rng(0).uniform(0, 255, (n, edge, edge, 3)).astype("float32")


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_the_sites_of_its_paper(name):
    rows = zoo.sites(network(name))
    counted = {site: len(blocks) for site, blocks in rows.blocks().items()}
    assert counted == {"input": 1, "features": 1, **FAMILIES[name][1]}
    assert rows.elsewhere == []


@pytest.mark.parametrize("name", FAMILIES)
def test_13_each_family_can_be_placed_and_inference_stays(name):
    model, x = network(name), images(name)
    placed = zoo.place(model, "everywhere")
    before = outputs(model, x, training=False)[0]
    np.testing.assert_array_equal(outputs(placed, x, training=False)[0], before)
    assert sum(is_mask(layer) for layer in placed.layers) == len(zoo.sites(model))
    if name not in HEAVY:
        bare = zoo.place(placed, {})
        assert not any(map(is_mask, bare.layers))
        np.testing.assert_array_equal(outputs(bare, x, training=False)[0], before)
        assert not np.array_equal(outputs(placed, x, training=True)[0], outputs(bare, x, training=True)[0])


@pytest.mark.parametrize("name", ["ResNet50", "EfficientNetB0", "ConvNeXtTiny", "MobileNetV2"])
def test_stochastic_depth_puts_one_mask_on_every_residual_branch_and_none_elsewhere(name):
    placed = zoo.place(network(name), zoo.Placement.parse("branch=0.2:drop_path:linear"))
    count = FAMILIES[name][1]["branch"]
    rates = [layer.rate for layer in placed.layers if is_mask(layer)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.2, count))
    masks = [row.mask["layer"] for row in zoo.sites(placed) if row.mask]
    assert masks == [f"drop_branch_{i + 1}" for i in range(count)]


def test_masks_stand_where_the_blocks_end():
    ends = {
        "ResNet50": ("conv2_block1_3_bn", "conv5_block3_3_bn"),
        "EfficientNetB0": ("block2b_project_bn", "block6d_project_bn"),
        "MobileNetV2": ("block_2_project_BN", "block_15_project_BN"),
        "ConvNeXtTiny": ("convnext_tiny_stage_0_block_0_layer_scale", "convnext_tiny_stage_3_block_2_layer_scale"),
    }
    for name, (first, last) in ends.items():
        rows = [row for row in zoo.sites(network(name)) if row.site == "branch"]
        assert (rows[0].after, rows[-1].after) == (first, last)


def test_the_masks_that_keras_puts_in_are_recognised():
    masks = {row.site: row.mask for row in zoo.sites(network("EfficientNetB0")) if row.mask}
    assert masks["branch"]["kind"] == "drop_path"
    assert masks["features"] == {"kind": "dropout", "rate": 0.2, "layer": "top_dropout"}
    assert [row.mask["rate"] for row in zoo.sites(network("MobileNetV3Small")) if row.mask] == [0.2]


def test_placing_again_and_again_keeps_memory_flat_and_traces_nothing(caplog):
    model, process = network("MobileNetV2"), psutil.Process()
    sizes = []
    for _ in range(6):
        zoo.place(model, {"branch": 0.2})
        gc.collect()
        sizes.append(len(gc.get_objects()))
    assert sizes[-1] <= sizes[1] * 1.01
    assert process.memory_info().rss
    assert not [record for record in caplog.records if "retracing" in record.message]
