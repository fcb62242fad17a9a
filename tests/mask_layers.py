"""Mask layers of every kind, an input for each, and the programs that a graph calls for them."""

import pytest
import tensorflow as tf

from zoo.dropout.layers import (
    DropBlock2D,
    Dropout,
    GaussianDropout,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)

every_dtype = pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])

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


def calls_of(traced):
    """The calls of compiled programs in the graph of a traced function."""
    return [operation for operation in traced.graph.get_operations() if "PartitionedCall" in operation.type]
