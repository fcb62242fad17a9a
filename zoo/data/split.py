"""Which example of a set belongs to which part: stratified, and decided by the split seed alone."""

from collections.abc import Mapping

import numpy as np

from zoo.errors import BadInput


def stratified_order(y: np.ndarray, seed: int) -> np.ndarray:
    """Returns all indices of `y` in an order whose every beginning and every end is stratified.

    The r-th of a class' n examples, in random order, is placed at r/n. So the first examples are one of
    each class, and a class of one example is never among the last ones.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(y))
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    _, counts = np.unique(y, return_counts=True)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(y)) - np.repeat(starts, counts)
    return by_class[np.lexsort((rng.random(len(y)), rank / np.repeat(counts, counts)))]


def cut(
    name: str,
    splits: Mapping[str, np.ndarray],
    classes: int,
    *,
    split_seed: int = 0,
    train_size: int | None = None,
    hold_out: int = 10,
    own_validation: bool = False,
) -> tuple[dict[str, tuple[str, np.ndarray]], str]:
    """Splits a set into training, validation and test parts.

    Validation is 1/`hold_out` of the `train` split, stratified. Test is the split `test`, or
    `validation` if its labels are hidden, or else another 1/`hold_out` of `train`. With
    `own_validation` and a test split, the split `validation` is the validation part instead.

    Args:
        name: the set, for messages.
        splits: int32 classes `(n,)` by split.
        classes: number of classes.
        split_seed: decides which examples are held out.
        train_size: number of training examples; all if None.
        hold_out: a part that is held out is 1/`hold_out` of `train`.
        own_validation: whether a split `validation` beside `test` is the validation part.

    Returns:
        `({"train": (split, indices), "val": ..., "test": ...}, source of the test part)`, indices
        ascending.

    Raises:
        BadInput: the `train` split is missing, unlabelled or too small, or `train_size` is out of range.
    """
    y = splits.get("train", np.zeros(0, np.int32))
    if not len(y):
        raise BadInput(f"{name} must have a train split, got {', '.join(splits) or 'none'}; choose another data set")
    _check_labels(name, "train", y, classes)
    order = stratified_order(y, split_seed)
    held = -(-len(y) // hold_out)
    parts = {}
    test_part = next((key for key in ("test", "validation") if _labelled(splits.get(key))), None)
    if test_part:
        _check_labels(name, test_part, splits[test_part], classes)
        parts["test"] = (test_part, np.arange(len(splits[test_part])))
    else:
        parts["test"] = ("train", np.sort(order[len(order) - held :]))
        order = order[: len(order) - held]
    brought = own_validation and test_part == "test" and _labelled(splits.get("validation"))
    if brought:
        _check_labels(name, "validation", splits["validation"], classes)
        parts["val"] = ("validation", np.arange(len(splits["validation"])))
    else:
        order, val = order[: max(0, len(order) - held)], order[max(0, len(order) - held) :]
        parts["val"] = ("train", np.sort(val))
    present = len(np.unique(y))
    if len(order) < present:
        raise BadInput(
            f"{name} must have more examples in its train split, got {len(y)} of {present} classes; "
            f"1/{hold_out} of them is held out"
        )
    if train_size is not None and not present <= train_size <= len(order):
        raise BadInput(
            f"train_size must be from {present} (the classes of {name}) to {len(order)} (its examples without those "
            f"held out), got {train_size}"
        )
    parts["train"] = ("train", np.sort(order[:train_size]))
    return parts, test_part or f"1/{hold_out} held out of train"


def _labelled(y):
    """Returns whether a split exists and has a class other than -1, which means hidden."""
    return y is not None and len(y) > 0 and bool((y >= 0).any())


def _check_labels(name, split, y, classes):
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if len(wrong):
        raise BadInput(
            f"classes of the {split} split of {name} must be from 0 to {classes - 1}, got {y[wrong[0]]} "
            f"({len(wrong)} of {len(y)} examples are out of range); choose a set with a label for each example"
        )
