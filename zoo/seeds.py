"""Seeds: every weight, mask and order of examples is decided by a seed and a name.

Keras draws default seeds from a global generator while layers are created, so that the initial weights
of a layer depend on the layers before it. Here each layer has a stream of its own, and adding a layer
does not change the others.

This file lists all named streams. The masks of the modes `mc` and `training` have salts instead (see
`zoo.dropout.counter`). Single draws with a seed of their own, such as the validation part or a
bootstrap, need no name.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def seed_for(seed: int, name: str) -> int:
    """Returns a 31-bit seed for the stream `name` of `seed`, the same in every process.

    Examples:
        >>> seed_for(1, "drop_hidden_1") == seed_for(1, "drop_hidden_1")
        True
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


# === The streams ===


def of_layer(seed: int, layer: str) -> int:
    """Returns the seed of the masks that the layer `layer` draws in training."""
    return seed_for(seed, layer)


def of_weight(seed: int, layer: str, weight: str) -> int:
    """Returns the seed of the initial values of a weight."""
    return seed_for(seed, f"{layer}/{weight}")


def of_order(seed: int, epoch: int) -> int:
    """Returns the seed of the order of examples in an epoch, for data in memory."""
    return seed_for(seed, f"order/{epoch}")


def of_streamed_order(seed: int, epoch: int) -> int:
    """Returns the seed of the order of examples in an epoch, for data read from disk."""
    return seed_for(seed, f"epoch/{epoch}")


def of_augmentation(seed: int, what: str) -> int:
    """Returns the seed of the augmentation layer `shift`, `cut` or `flip`."""
    return seed_for(seed, what)


def of_sample(seed: int, sample: int, chunk: int) -> int:
    """Returns the seed of a Monte Carlo sample of a chunk of the examples."""
    return seed_for(seed, f"sample/{sample}/{chunk}")


def of_pass(seed: int, number: int, batch: int) -> int:
    """Returns the seed of a pass over a batch, in the comparison of modes."""
    return seed_for(seed, f"pass/{number}/{batch}")


def of_tuner(seed: int) -> int:
    """Returns the seed of the trials of a search."""
    return seed_for(seed, "tuner")


# === Weights ===


def initialise(model: "keras.Model", seed: int) -> "keras.Model":
    """Initializes every weight again with its own initializer, seeded by `of_weight`.

    Returns:
        The same model.
    """
    for layer in model.layers:
        for weight in layer.weights:
            slot = f"{weight.name}_initializer"
            initializer = getattr(layer, slot, None)
            if initializer is not None and "seed" in (config := initializer.get_config()):
                config["seed"] = of_weight(seed, layer.name, weight.name)
                initializer = type(initializer).from_config(config)  # type: ignore[union-attr]
                setattr(layer, slot, initializer)  # so that a saved file records the seed
                weight.assign(initializer(weight.shape, weight.dtype))
    return model
