"""Converts arrays of images to the pixels that a model takes."""

import numpy as np

from zoo.data import images
from zoo.errors import BadInput


def pixels(
    what: str, x: np.ndarray, shape: tuple[int, int, int], value_range: tuple[float, float] | None = None
) -> np.ndarray:
    """Returns uint8 pixels `(n, height, width, channels)` of an array of one or more images.

    Args:
        what: name of the array, for messages.
        x: images with values from 0 to 255, or within `value_range`.
        shape: `(height, width, channels)` of the model.
        value_range: values that become 0 and 255.

    Raises:
        BadInput: another shape, type or range; or values so small that they belong to another range.
    """
    _check_dtype(what, x.dtype)
    x = images.as_pixels(what, x.reshape(_with_batch(what, x.shape, shape)), value_range)
    if value_range is None and (high := images.too_dark(x)) is not None:
        raise BadInput(
            f"{what} must hold values from 0 to 255, got none above {high}; state their range with value_range, as in "
            f"0:{high} (--value-range), or 0:255 if the images are as dark as that"
        )
    return x


def _with_batch(what, given, shape):
    """Returns the shape `(n, *shape)` of an array of shape `given`. Raises `BadInput` if it has none."""
    full = given if len(given) == 4 else (1, *given) if given == shape else None
    if full is None and shape[-1] == 1:
        full = {3: (*given, 1), 2: (1, *given, 1)}.get(len(given))
    if full is None or full[1:] != shape or full[0] < 1:
        without = ", (n, height, width)" if shape[-1] == 1 else ""
        raise BadInput(
            f"{what} must have shape (n, height, width, channels), or one image without n{without}, with (height, "
            f"width, channels) = {shape}, got shape {given}; resize or transpose it"
        )
    return full


def _check_dtype(what, dtype):
    if dtype.kind not in "biuf":
        raise BadInput(
            f"{what} must be uint8 pixels or other numbers from 0 to 255, got type {dtype}; give an array of pixels"
        )
