"""The image decoder, for training and prediction: files of any size and mode as uint8 pixels.

Uses Pillow alone; imports no TensorFlow.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo import checks, reading
from zoo.errors import BadInput

_PART = 2**22  # values that are converted at a time
LARGEST = 64_000_000  # pixels of an image, according to its header
RESIZES = ("squash", "pad", "crop")
BRIGHTEST = 16  # images whose largest value is at most this were probably meant for another range than 0 to 255
# Pillow reads more formats; some of them start other programs.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
_WAY = f"use a complete file in one of the formats {', '.join(FORMATS)}, or an .npy or .npz file of pixels"
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap height and width

# Pillow's warnings are about sizes, which are checked below, and about metadata, which change no pixel. The filter is
# set once, since filters belong to the process and images are decoded in several threads.
logging.getLogger("PIL").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image(
    path: str | Path,
    shape: tuple[int, int, int],
    resize: str = "squash",
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Reads an image file as training and prediction read it.

    The image is rotated according to its EXIF data, 16 bits are scaled to 8, and of an animation the
    first frame is read. With 1 or 3 channels, transparent areas are composed over black.

    Args:
        path: a PNG, JPEG, GIF, BMP, TIFF, WEBP or PPM file.
        shape: `(height, width, channels)` of the result, such as the `input_shape` of a model. Channels
            are 1 (grey), 3 (RGB) or 4 (RGBA).
        resize: what is done to an image of another size, with an antialiasing bilinear filter: `squash`
            does not keep the aspect ratio, `pad` keeps it and adds black borders, `crop` keeps it and
            cuts off what is outside the centre.
        value_range: values of the file that become 0 and 255. The default is 0 and 255, of 16 bits 65535.

    Returns:
        uint8 pixels of shape `shape`.

    Raises:
        BadInput: the file is not a complete image, has more than 64 million pixels, or has values
            outside the range. `BadInput` is a `ValueError`.
    """
    sizes = list(shape) if isinstance(shape, list | tuple | np.ndarray) else []
    if len(sizes) != 3:
        raise BadInput(f"shape must be (height, width, channels), got {checks.shown(shape)}")
    height, width, channels = (checks.integer("each size in shape", n, 1, checks.MOST["width"]) for n in sizes)
    if height * width > LARGEST:
        raise BadInput(f"shape must have at most {LARGEST:,} pixels, got {height} x {width}")
    checks.one_of("resize", resize, RESIZES)
    path = checks.path("path", path)
    return decode(path, channels, (height, width), resize=resize, value_range=value_range)


def decode(
    source: str | Path | bytes,
    channels: int,
    size: tuple[int, int] | None = None,
    named: str | None = None,
    resize: str = "squash",
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Decodes an image, see `read_image`.

    Args:
        source: the path of a file, or its contents as bytes.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        size: `(height, width)` to resize to; the image's own size if None.
        named: what messages call the image; the path if None.
        resize: as for `read_image`, and so is `value_range`.

    Returns:
        uint8 pixels `(height, width, channels)`.

    Raises:
        BadInput: the source is not a complete image, or has more than 64 million pixels.
    """
    name = named or str(source)
    if channels not in _MODES:
        raise BadInput(
            f"cannot read {name} for a model of {channels} channels: image files have 1, 3 or 4; "
            "use an .npy file with an array (n, height, width, channels)"
        )
    try:
        with _opened(source, name) as image:
            image = _flat(name, image, channels == 4, value_range).convert(_MODES[channels])
            if size is not None and image.size != (size[1], size[0]):
                image = _resized(image, size, resize)
            pixels = np.asarray(image, np.uint8)
            return pixels.reshape(*pixels.shape[:2], channels)
    except BadInput:
        raise
    except Exception as error:  # decoders of damaged files raise errors of many classes
        raise _unreadable(name, error) from error


def as_pixels(what: str, x: np.ndarray, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """Returns an array of numbers as uint8 pixels.

    Args:
        what: name of the array, for messages.
        x: values of any shape, from 0 to 255, or within `value_range`.
        value_range: values that become 0 and 255; the values stay as they are if None.

    Raises:
        BadInput: values that are no numbers or outside the range, or fractions from 0 to 1 without a
            `value_range`.

    Examples:
        >>> as_pixels("x", np.array([0.0, 0.5, 1.0]), (0, 1)).tolist()
        [0, 128, 255]
    """
    if x.dtype.kind not in "biuf":
        raise BadInput(f"{what} must hold numbers from 0 to 255, got type {x.dtype}; give an array of pixels")
    if not x.size or (value_range is None and x.dtype == np.uint8):
        return x.astype(np.uint8)
    low, high = x.min(), x.max()
    bottom, top = value_range or (0, 255)
    if x.dtype.kind == "b" and value_range is None:
        raise BadInput(f"{what} must hold numbers from 0 to 255, got type bool; use value_range 0:1 (--value-range)")
    if not (low >= bottom and high <= top):  # also true of NaN
        way_out = "state another value_range" if value_range else "state their range with value_range LOW:HIGH"
        raise BadInput(
            f"{what} must hold values from {bottom:g} to {top:g} without NaN, got {low} to {high}; {way_out} "
            "(--value-range)"
        )
    if value_range is None and x.dtype.kind == "f" and 0 < high <= 1:
        raise BadInput(
            f"{what} must hold values from 0 to 255, got {low} to {high}; state their range with value_range 0:1 "
            "(--value-range)"
        )
    if value_range is None:
        return np.rint(x).astype(np.uint8)
    result = np.empty(x.shape, np.uint8)
    for part, values in zip(_parts(result), _parts(x), strict=True):
        part[...] = np.rint((values.astype(np.float64) - bottom) * (255 / (top - bottom)))
    return result


def _parts(x):
    """Returns views of an array, of which no 64-bit copy is large."""
    rows = max(1, _PART * len(x) // x.size) if x.ndim else 1
    return [x[i : i + rows] for i in range(0, len(x), rows)] if x.ndim else [x]


def too_dark(x: np.ndarray) -> int | None:
    """Returns the largest value of uint8 pixels that are probably meant for a smaller range than 0 to 255, or None."""
    high = int(x.max()) if x.size else 0
    return high if 0 < high <= BRIGHTEST else None


def is_image(path: str | Path) -> bool:
    """Returns whether a file has the header of an image that `read_image` can read, whatever its name."""
    try:
        header(path)
    except BadInput:
        return False
    return True


def header(path: str | Path) -> tuple[int, int, bool]:
    """Reads the header of an image file.

    Returns:
        `(height, width, grey)`; height and width are those after rotation.

    Raises:
        BadInput: the file is not an image, or has more than 64 million pixels.
    """
    try:
        with _opened(path, path) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                width, height = height, width
            return height, width, image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")
    except BadInput:
        raise
    except Exception as error:  # as in `decode`
        raise _unreadable(path, error) from error


def resize(images: np.ndarray, size: int, how: str = "squash") -> np.ndarray:
    """Resizes uint8 images `(batch, height, width, channels)` to `size` x `size` pixels, as `decode` does."""
    from PIL import Image

    def resized(channel):
        return np.asarray(_resized(Image.fromarray(channel), (size, size), how), np.uint8)

    return np.stack([np.stack([resized(image[..., c]) for c in range(image.shape[-1])], -1) for image in images])


def fitted(images: np.ndarray, shape: tuple[int, int, int], how: str = "squash") -> np.ndarray:
    """Returns uint8 images `(batch, height, width, channels)` in another shape, as `decode` reads a file for it.

    Args:
        images: uint8 pixels with 1, 3 or 4 channels.
        shape: `(height, width, channels)` of the result: grey, RGB or RGBA.
        how: as `resize` of `read_image`.

    Raises:
        BadInput: another number of channels.

    Examples:
        >>> fitted(np.zeros((2, 8, 8, 1), np.uint8), (4, 4, 3)).shape
        (2, 4, 4, 3)
    """
    from PIL import Image

    shape = tuple(shape)
    if images.shape[1:] == shape:
        return images
    for channels in (images.shape[-1], shape[-1]):
        if channels not in _MODES:
            raise BadInput(f"images must have 1, 3 or 4 channels to be converted, got {channels}; convert them before")

    def fit(pixels):
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        image = _flat("an image", image, shape[-1] == 4, None).convert(_MODES[shape[-1]])
        image = image if image.size == (shape[1], shape[0]) else _resized(image, shape[:2], how)
        return np.asarray(image, np.uint8).reshape(shape)

    return np.stack([fit(pixels) for pixels in images]) if len(images) else np.empty((0, *shape), np.uint8)


def decode_all(
    sources: Sequence,
    shape: tuple[int, int, int],
    name: str,
    resize: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Decodes images of a data set.

    Args:
        sources: paths, or contents as bytes.
        shape: `(height, width, channels)`.
        name: the data set, for messages.
        resize: how images of another size are resized, as for `read_image`; None refuses them.
        value_range: as for `read_image`.

    Returns:
        uint8 pixels `(batch, height, width, channels)`.

    Raises:
        BadInput: an image cannot be read, or has another size and `resize` is None.
    """
    pixels = np.empty((len(sources), *shape), np.uint8)
    for i, source in enumerate(sources):
        size, how = (shape[:2], resize) if resize else (None, "squash")
        image = decode(source, shape[2], size, _named(source, name), how, value_range)
        if image.shape != tuple(shape):
            sizes = (f"{shape[1]} x {shape[0]}", f"{image.shape[1]} x {image.shape[0]}")
            raise BadInput(differing(name, " and ".join(sizes)))
        pixels[i] = image
    return pixels


def differing(name: str, sizes: str) -> str:
    """Returns the message for a data set whose images have several sizes."""
    return f"images of {name} must have one size, got {sizes} pixels; use --image-size N to resize them to N x N"


def _resized(image, size, how):
    """Resizes an image channel by channel: together, Pillow would weight colours by their transparency."""
    from PIL import Image

    height, width = size
    box, inner = None, (width, height)
    if how != "squash":
        fitting = min if how == "pad" else max
        scale = fitting(width / image.width, height / image.height)
        if how == "pad":
            inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        else:  # the part of the image that fills the size, in its own pixels
            w, h = width / scale, height / scale
            left, top = (image.width - w) / 2, (image.height - h) / 2
            box = (left, top, left + w, top + h)
    channels = [c.resize(inner, Image.Resampling.BILINEAR, box=box) for c in image.split()]
    resized = Image.merge(image.mode, channels)
    if inner == (width, height):
        return resized
    padded = Image.new(image.mode, (width, height))  # black, and transparent if there is transparency
    padded.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def _named(source, name):
    return source if isinstance(source, str | Path) else f"an image of {name}"


@contextlib.contextmanager
def _opened(source, named):
    """A context with an opened image that is not too large."""
    from PIL import Image

    with io.BytesIO(source) if isinstance(source, bytes) else reading.regular(source, _WAY) as file:
        try:
            image = Image.open(file, formats=FORMATS)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _too_large(named, "far more") from error
        with image:
            if image.width * image.height > LARGEST:
                raise _too_large(named, f"{image.width} x {image.height}")
            yield image


def _too_large(named, pixels):
    return BadInput(f"{named} must have at most {LARGEST:,} pixels, got {pixels}; make it smaller")


def _unreadable(named, error):
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    reason = "not an image" if type(error).__name__ == "UnidentifiedImageError" else first
    return BadInput(f"cannot read {named} as an image: {reason}; {_WAY}")


def _flat(named, image, keep_alpha, value_range):
    """Rotates an image upright, scales it to 8 bits, and removes transparency unless `keep_alpha`."""
    from PIL import Image, ImageOps

    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(named, image, value_range))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if not keep_alpha:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image).convert("RGB")
    # Palette indices and CMYK have to become colours before they can become grey.
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    if value_range is None:
        return image
    image = image.convert("L") if image.mode == "1" else image
    values = np.array(image)
    colours = values[..., :3] if values.ndim == 3 else values
    colours[...] = as_pixels(named, colours, value_range)
    return Image.fromarray(values)


def _eight_bits(named, image, value_range):
    """Scales grey values to 8 bits. Integers are 16 bits, 0 to 65535; floats are 0 to 255."""
    values = np.asarray(image)
    if value_range is None and image.mode != "F":
        value_range = (0, 65535)
    return as_pixels(named, values, value_range)


def displayed(image: np.ndarray) -> np.ndarray:
    """Returns an image as pictures show it: `(height, width)` for grey, or RGB, uint8.

    Two or more than four channels are not colours, so their mean is shown; a fourth one (opacity) is left out.

    Args:
        image: pixels from 0 to 255, `(height, width, channels)`.

    Examples:
        >>> displayed(np.full((4, 4, 2), 7.4)).shape, displayed(np.zeros((4, 4, 4))).shape
        ((4, 4), (4, 4, 3))
    """
    channels = image.shape[-1]
    shown = image[..., :3] if channels in (3, 4) else np.asarray(image, float).mean(-1)
    return np.clip(np.rint(shown), 0, 255).astype(np.uint8)
