"""Which example of a set belongs to which part: stratified, and a function of the split seed alone."""

import numpy as np

from zoo.errors import BadInput


def stratified_order(y, seed):
    """All indices of `y`, such that every beginning and every end of them is stratified.

    The r-th of a class' n examples, in random order, stands at r/n. So the first examples
    are one of each class, and the last ones come from no class that has just one.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(y))
    by_class = shuffled[np.argsort(y[shuffled], kind="stable")]
    _, counts = np.unique(y, return_counts=True)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(y)) - np.repeat(starts, counts)
    return by_class[np.lexsort((rng.random(len(y)), rank / np.repeat(counts, counts)))]


def cut(name, splits, classes, *, split_seed=0, train_size=None, hold_out=10):
    """Cut the labelled `splits` (name -> int array of classes) into the three parts.

    Returns `({"train": (split, indices), "val": ..., "test": ...}, what the test part is)`,
    indices ascending. Validation is 1/`hold_out` of the `train` split, stratified; test
    is the split `test`, else `validation`, else another 1/`hold_out` of `train`.

    Raises `BadInput` if there is no labelled `train` split, if it is too small, or if
    `train_size` is more than it holds or fewer than its classes.
    """
    y = splits.get("train", np.zeros(0, np.int32))
    if not len(y):
        raise BadInput(f"{name} has no `train` split but {', '.join(splits) or 'none at all'}; choose another")
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
    order, val = order[: max(0, len(order) - held)], order[max(0, len(order) - held) :]
    present = len(np.unique(y))
    if len(order) < present:
        raise BadInput(f"{name} has {len(y)} training examples of {present} classes; too few to set a tenth aside")
    if train_size is not None and not present <= train_size <= len(order):
        raise BadInput(
            f"train_size {train_size} is impossible with {name}: after validation is set aside its training "
            f"part has {len(order)} examples of {present} classes; give {present} to {len(order)}"
        )
    parts["train"] = ("train", np.sort(order[:train_size]))
    parts["val"] = ("train", np.sort(val))
    return parts, test_part or f"1/{hold_out} held out of train"


def _labelled(y):
    """Whether there is such a split, and its classes are not hidden (-1 throughout)."""
    return y is not None and len(y) > 0 and bool((y >= 0).any())


def _check_labels(name, split, y, classes):
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if len(wrong):
        raise BadInput(
            f"{name}: {len(wrong)} of {len(y)} examples of the {split} split have no valid class (the first: "
            f"{y[wrong[0]]}; allowed: 0 to {classes - 1}); choose a set that is labelled throughout"
        )
