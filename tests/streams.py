"""Streamed parts of data sets, looked at as arrays."""

import numpy as np
import pytest

from zoo import data

TINY = 1  # a memory budget that nothing fits into


def load_streamed(name, **options):
    """A data set that neither fits into memory nor can be cached."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DROPOUT_ZOO_CACHE", f"{__file__}/below/a/file")
        return data.load(name, memory_budget=TINY, **options)


def load_mapped(name, **options):
    """A data set that is mapped from the cache."""
    return data.load(name, memory_budget=TINY, **options)


def all_batches(part, **options):
    batches = [(x.numpy(), y.numpy()) for x, y in part.batches(32, **options)]
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def assert_same_part(streamed, part):
    assert isinstance(streamed, data.StreamedPart)
    x, y = all_batches(streamed)
    np.testing.assert_array_equal(streamed.y, part.y)
    np.testing.assert_array_equal(y, part.y)
    np.testing.assert_array_equal(x, part.x)
