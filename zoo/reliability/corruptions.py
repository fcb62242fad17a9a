"""Corruptions of images: a model should become less certain as its inputs become harder to read.

Kinds and strengths follow Hendrycks & Dietterich 2019 (arXiv 1903.12261, appendix A) where that has them;
rotation is added. Lengths are fractions of the image's shorter side, so that one strength looks alike at every size.
"""

import io
from collections.abc import Callable

import numpy as np

from zoo.checks import integer, one_of

STRENGTHS = (1, 2, 3, 4, 5)
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of a range of 1
_BLUR = (0.0125, 0.01875, 0.025, 0.03125, 0.046875)  # standard deviation, of the shorter side: 0.4 to 1.5 of 32 pixels
_CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # what is left of the distance to the image's mean
_BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added, of a range of 1
_ROTATION = (5.0, 10.0, 20.0, 30.0, 45.0)  # degrees, to the left or the right at random
_PIXELATION = (0.6, 0.5, 0.4, 0.3, 0.25)  # side of the smaller image, of the side
_JPEG = (25, 18, 15, 10, 7)  # quality


def corrupted(images: np.ndarray, kind: str, strength: int, seed: int = 0) -> np.ndarray:
    """Returns corrupted copies of images.

    Args:
        images: uint8 `(batch, height, width, channels)`. A fourth channel, transparency, stays as it is.
        kind: one of `KINDS`.
        strength: 1 to 5.
        seed: decides the noise and the side to which an image is rotated.

    Returns:
        uint8 images of the same shape.

    Raises:
        BadInput: an unknown kind or strength.

    Examples:
        >>> corrupted(np.full((1, 4, 4, 1), 100, np.uint8), "brightness", 2)[0, 0, 0]
        array([151], dtype=uint8)
    """
    one_of("corruption", kind, KINDS)
    integer("strength", strength, STRENGTHS[0], STRENGTHS[-1])
    colours = images[..., :3] if images.shape[-1] == 4 else images
    changed = _CORRUPTIONS[kind](colours, strength - 1, np.random.default_rng(seed))
    return np.concatenate([changed, images[..., 3:]], axis=-1) if images.shape[-1] == 4 else changed


def _pixels(values):
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _noise(images, i, rng):
    return _pixels(images + 255 * _NOISE[i] * rng.standard_normal(images.shape, np.float32))


def _blur(images, i, rng):
    from scipy.ndimage import gaussian_filter

    sigma = _BLUR[i] * min(images.shape[1:3])
    return _pixels(gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0), mode="nearest"))


def _contrast(images, i, rng):
    mean = images.mean(axis=(1, 2), keepdims=True, dtype=np.float32)
    return _pixels(mean + _CONTRAST[i] * (images - mean))


def _brightness(images, i, rng):
    return _pixels(images + np.float32(255 * _BRIGHTNESS[i]))


def _rotation(images, i, rng):
    from PIL import Image

    angles = _ROTATION[i] * rng.choice([-1, 1], len(images))
    return _each(images, lambda image, k: image.rotate(angles[k], Image.Resampling.BILINEAR))


def _pixelation(images, i, rng):
    from PIL import Image

    height, width = (max(1, round(_PIXELATION[i] * n)) for n in images.shape[1:3])

    def coarse(image, _):
        return image.resize((width, height), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)

    return _each(images, coarse)


def _jpeg(images, i, rng):
    from PIL import Image

    def compressed(image, _):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_JPEG[i])
        return Image.open(buffer)

    return _each(images, compressed)


def _each(images, change):
    """Applies a change of Pillow to each image: in colour where it has three channels, else channel by channel."""
    from PIL import Image

    def changed(pixels, k):
        return np.asarray(change(Image.fromarray(pixels), k), np.uint8)

    if images.shape[-1] == 3:
        return np.stack([changed(image, k) for k, image in enumerate(images)])
    channels = range(images.shape[-1])
    return np.stack([np.stack([changed(image[..., c], k) for c in channels], -1) for k, image in enumerate(images)])


_CORRUPTIONS: dict[str, Callable] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "rotation": _rotation,
    "pixelation": _pixelation,
    "jpeg": _jpeg,
}
KINDS = tuple(_CORRUPTIONS)
