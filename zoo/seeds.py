"""One seed, one model: every weight and mask is a function of the seed and of a name.

Keras draws its default seeds from a global generator while layers are made, so that
each layer's start depends on all that were made before it. Here each draws from its
own stream, and adding a layer leaves the others as they were.
"""

import hashlib


def seed_for(seed, name):
    """A 31-bit seed for the stream `name` of the model's `seed`; equal in every process."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def initialise(model, seed):
    """Draw every weight of `model` anew, by its own initialiser, from the stream of its name."""
    for layer in model.layers:
        for weight in layer.weights:
            slot = f"{weight.name}_initializer"
            initializer = getattr(layer, slot, None)
            config = initializer.get_config() if initializer is not None else {}
            if "seed" in config:
                config["seed"] = seed_for(seed, f"{layer.name}/{weight.name}")
                initializer = type(initializer).from_config(config)
                setattr(layer, slot, initializer)  # the file then states the seed that was used
                weight.assign(initializer(weight.shape, weight.dtype))
    return model
