"""Image files of any size and kind as the pixels that a model takes."""

import logging
import warnings

import numpy as np

from zoo.errors import BadInput

LARGEST = 64_000_000  # pixels of an image, judged by its header
# Pillow reads more; some of that starts other programs.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what matters to a reader is raised as well


def read(path, shape):
    """The image in a file, as uint8 of `shape` `(height, width, channels)` with 1 or 3 channels.

    Turned as its EXIF data say, transparent parts black, 16 bits scaled to 8, resized with
    an antialiasing bilinear filter; of an animation, the first picture.

    Raises `BadInput` for a file that is no whole image, or has more than 64 million pixels.
    """
    from PIL import Image

    height, width, channels = shape
    if channels not in (1, 3):
        raise BadInput(
            f"received the image {path} for a model of {channels} channels, and image files are read as 1 or 3; "
            "give an .npy file with an array (n, height, width, channels)"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are judged below, and odd metadata
            with Image.open(path, formats=FORMATS) as image:
                _check_size(path, image)
                image = _flat(path, image).convert("L" if channels == 1 else "RGB")
                if image.size != (width, height):
                    image = image.resize((width, height), Image.Resampling.BILINEAR)
                return np.asarray(image, np.uint8).reshape(shape)
    except BadInput:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(path, "far more") from error
    except Exception as error:  # decoders of damaged files raise whatever they meet
        raise BadInput(
            f"{path} cannot be read as an image ({_reason(error)}); give a whole file of {', '.join(FORMATS)}, "
            "or an .npy or .npz file of pixels"
        ) from error


def _check_size(path, image):
    pixels = image.width * image.height
    if pixels > LARGEST:
        raise _too_large(path, f"{image.width} x {image.height}")


def _too_large(path, found):
    return BadInput(f"{path} has {found} pixels; allowed are {LARGEST:,}: make it smaller, the model scales it anyway")


def _flat(path, image):
    """The image upright, without transparency, with 8 bits a channel."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(path, image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, image).convert("RGB")
    # Palettes and inks have no order that a grey could be taken of.
    return image if image.mode in ("1", "L", "RGB") else image.convert("RGB")


def _eight_bits(path, image):
    """Grey values beyond 8 bits: whole numbers are 16 bits, 0..65535; floats are 0..255."""
    values = np.asarray(image)
    top = 255 if image.mode == "F" else 65535
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= top):  # also true of NaN
        raise BadInput(f"{path} goes from {low} to {high}; allowed are {image.mode} images of 0 to {top}: rescale it")
    return np.rint(values * (255 / top)).astype(np.uint8)


def _reason(error):
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return "not an image" if type(error).__name__ == "UnidentifiedImageError" else first[:160]
