"""Random augmentation of images during training: shift, cutout and flips."""

import keras

from trainers.recipe import Recipe
from zoo.seeds import of_augmentation


def augmentation(recipe: Recipe, input_shape: tuple[int, ...], flip: bool, seed: int) -> keras.Sequential | None:
    """Returns a model that augments a batch of images `(batch, height, width, channels)`; None without `augment`.

    Its seed generators are part of the checkpoint.
    """
    if not recipe.augment:
        return None
    layers = [
        keras.layers.RandomTranslation(
            0.1,
            0.1,
            fill_mode="constant",
            interpolation="nearest",
            seed=of_augmentation(seed, "shift"),
            data_format="channels_last",
        ),
        keras.layers.RandomErasing(
            factor=0.5,
            scale=(0.05, 0.15),
            fill_value=0.0,
            value_range=(0, 255),
            data_format="channels_last",
            seed=of_augmentation(seed, "cut"),
        ),
    ]
    if flip:
        layers.insert(
            0, keras.layers.RandomFlip("horizontal", seed=of_augmentation(seed, "flip"), data_format="channels_last")
        )
    return keras.Sequential([keras.Input(input_shape), *layers], name="augmentation")
