"""Sets of TFDS that cannot be cached are streamed: the examples are those in memory, in an order of their own."""

import dataclasses

import numpy as np
import pytest
from streams import all_batches, assert_same_part, load_streamed

from zoo import data


@pytest.mark.parametrize("image_size", [None, 8])
def test_streamed_images_are_those_in_memory(prepared, image_size):
    options = {"data_dir": prepared, "image_size": image_size}
    streamed = load_streamed("pictures", **options)
    whole = data.load("pictures", **options)
    for key in ("train", "val", "test"):
        assert_same_part(getattr(streamed, key), getattr(whole, key))


def test_streaming_respects_train_size(prepared):
    options = {"data_dir": prepared, "train_size": 50}
    streamed = load_streamed("pictures", **options)
    assert_same_part(streamed.train, data.load("pictures", **options).train)


def test_the_head_of_a_streamed_part_is_in_memory(prepared):
    head = load_streamed("pictures", data_dir=prepared).train.head(7)
    whole = data.load("pictures", data_dir=prepared).train
    np.testing.assert_array_equal(head.x, whole.x[:7])
    np.testing.assert_array_equal(head.y, whole.y[:7])


def test_the_last_batch_of_a_stream_is_kept_and_counted(prepared):
    part = load_streamed("cifar10", data_dir=prepared).train
    batches = part.batches(32, seed=0)
    assert [len(y) for _, y in batches] == [32, 22]
    assert len(batches) == 2


def test_a_stream_is_traced_once_and_not_in_every_epoch(prepared):
    part, traced = load_streamed("pictures", data_dir=prepared).train, []

    def encode(raw, y):
        traced.append(raw)
        return part.encode(raw, y)

    counted = dataclasses.replace(part, encode=encode)
    first, second = ([y for _, y in counted.batches(32, seed=1, epoch=epoch)] for epoch in (1, 2))
    assert len(traced) == 1
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_a_shuffled_stream_has_every_example_once(prepared):
    part = load_streamed("pictures", data_dir=prepared).train
    plain, shuffled = all_batches(part)[0], all_batches(part, seed=3)[0]
    assert not np.array_equal(plain, shuffled)
    assert sorted(map(bytes, plain)) == sorted(map(bytes, shuffled))


def test_epochs_are_shuffled_differently(prepared):
    part = load_streamed("pictures", data_dir=prepared).train
    assert not np.array_equal(all_batches(part, seed=3, epoch=0)[0], all_batches(part, seed=3, epoch=1)[0])


def test_the_order_depends_on_seed_and_epoch_alone(prepared):
    import tensorflow as tf

    part = load_streamed("pictures", data_dir=prepared).train
    first = all_batches(part, seed=3, epoch=1)[0]
    tf.random.set_seed(99)
    np.testing.assert_array_equal(first, all_batches(part, seed=3, epoch=1)[0])


def test_streamed_text_is_that_in_memory(prepared):
    streamed = load_streamed("remarks/short", data_dir=prepared)
    whole = data.load("remarks/short", data_dir=prepared)
    assert streamed.vocabulary == whole.vocabulary
    for key in ("train", "val", "test"):
        assert_same_part(getattr(streamed, key), getattr(whole, key))
