"""Streamed parts of data sets, looked at as arrays."""

import numpy as np

from zoo import data

TINY = 1  # a memory budget that nothing fits into


def all_batches(part, **options):
    batches = [(x.numpy(), y.numpy()) for x, y in part.batches(32, **options)]
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def assert_same_part(streamed, part):
    assert isinstance(streamed, data.StreamedPart)
    x, y = all_batches(streamed)
    np.testing.assert_array_equal(streamed.y, part.y)
    np.testing.assert_array_equal(y, part.y)
    np.testing.assert_array_equal(x, part.x)
