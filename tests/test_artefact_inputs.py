"""Files, arrays and texts as a model takes them, and what is refused before it is unpacked."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from zoo import reading
from zoo.artefacts.inputs import read as inputs
from zoo.errors import BadInput


def card(*shape):
    return {"input": {"kind": "image", "name": "image", "shape": list(shape), "dtype": "uint8"}}


TEXT = {"input": {"kind": "text", "name": "tokens", "shape": [5], "dtype": "int32", "vocabulary": "vocabulary.txt"}}
GREY, COLOUR = card(8, 8, 1), card(8, 8, 3)
RAMP = np.arange(64, dtype="uint8").reshape(8, 8) * 4


def saved(path, array_or_image, **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    image.save(path, **options)
    return str(path)


def read(path, to=GREY):
    names, x = inputs.read_inputs([str(path)], to)
    assert names == [str(path)]
    assert x.dtype == np.uint8
    return x[0]


def image_of_ramp(mode):
    if mode == "I;16":
        return Image.fromarray(RAMP.astype("uint16") * 257)
    if mode == "I":
        return Image.fromarray(RAMP.astype("int32") * 257)
    if mode in ("LA", "RGBA"):
        return Image.merge(mode, [Image.fromarray(RAMP)] * (len(mode) - 1) + [Image.new("L", (8, 8), 255)])
    if mode == "PA":
        return Image.fromarray(RAMP).convert("P").convert("PA")
    return Image.fromarray(RAMP).convert(mode)


KINDS = {"png": ("L", "LA", "P", "RGB", "RGBA", "I;16"), "tiff": ("I", "F", "PA", "CMYK"), "bmp": ("RGB",)}
KINDS |= {"gif": ("L",), "webp": ("RGB",), "ppm": ("L",)}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in KINDS.items() for mode in modes])
def test_every_kind_of_image_gives_its_pixels(tmp_path, mode, suffix):
    image = image_of_ramp(mode)
    if mode == "PA":
        image.convert("RGBA").save(tmp_path / f"x.{suffix}")
    else:
        saved(tmp_path / f"x.{suffix}", image, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_allclose(read(tmp_path / f"x.{suffix}")[..., 0], RAMP, atol=1)
    np.testing.assert_allclose(read(tmp_path / f"x.{suffix}", COLOUR), np.repeat(RAMP[..., None], 3, -1), atol=1)


def test_black_and_white_is_0_and_255(tmp_path):
    saved(tmp_path / "x.png", Image.fromarray(RAMP > 100))
    np.testing.assert_array_equal(read(tmp_path / "x.png")[..., 0], np.where(RAMP > 100, 255, 0))


def test_transparent_is_black_and_half_transparent_half(tmp_path):
    white = np.full((8, 8, 4), 255, "uint8")
    white[:4, :, 3], white[4, :, 3] = 0, 128
    saved(tmp_path / "x.png", white)
    actual = read(tmp_path / "x.png")[..., 0]
    assert set(actual[:4].ravel()) == {0}
    assert set(actual[4]) == {128}
    assert set(actual[5:].ravel()) == {255}
    saved(tmp_path / "p.png", Image.fromarray(np.full((8, 8), 200, "uint8")), transparency=200)
    assert set(read(tmp_path / "p.png").ravel()) == {0}


def test_an_image_is_turned_as_its_exif_data_say(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    saved(tmp_path / "x.png", Image.fromarray(RAMP), exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "x.png")[..., 0], np.rot90(RAMP, -1))


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    frames = [Image.new("L", (8, 8), grey) for grey in (10, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert set(read(tmp_path / "x.gif").ravel()) == {10}


@pytest.mark.parametrize(("height", "width"), [(64, 64), (3, 5), (1, 200), (8, 16)])
def test_any_size_is_resized_with_an_antialiasing_filter(tmp_path, height, width):
    grey = np.random.default_rng(0).integers(0, 256, (height, width)).astype("uint8")
    wanted = Image.fromarray(grey).resize((8, 8), Image.Resampling.BILINEAR)
    saved(tmp_path / "x.png", grey)
    np.testing.assert_array_equal(read(tmp_path / "x.png")[..., 0], np.asarray(wanted))
    if height == width == 64:  # a checkerboard becomes its mean
        saved(tmp_path / "c.png", (np.indices((64, 64)).sum(0) % 2 * 255).astype("uint8"))
        assert abs(read(tmp_path / "c.png").astype(int) - 127).max() <= 2


def png(width, height, data=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(8001, 8000), (12000, 12000), (2**31 - 1, 2**31 - 1)])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path, size):
    (tmp_path / "x.png").write_bytes(png(*size))
    with pytest.raises(BadInput, match="must have at most 64,000,000 pixels"):
        read(tmp_path / "x.png")


def whole_png():
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype("uint8")
    Image.fromarray(noise).save(buffer, "png")
    return buffer.getvalue()


BROKEN = {
    "cut off": whole_png()[:2000],
    "empty": b"",
    "text": b"hello, I am no image",
    "a header alone": png(8, 8),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_whole_image_is_refused(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(BadInput, match=r"cannot read .* as an image.*complete file"):
        read(tmp_path / "x.png")


def test_floats_out_of_range_and_other_channels_are_refused(tmp_path):
    saved(tmp_path / "x.tiff", RAMP.astype("float32") * 10)
    with pytest.raises(BadInput, match=r"must hold values from 0 to 255 .*, got 0\.0 to 2520\.0"):
        read(tmp_path / "x.tiff")
    with pytest.raises(BadInput, match="model of 2 channels"):
        read(tmp_path / "x.tiff", card(8, 8, 2))


def test_missing_files_and_folders_are_refused(tmp_path):
    for item in (tmp_path / "none.png", "a\0b", "x" * 5000, "~nobody-there/x.png"):
        with pytest.raises(BadInput, match="there is no file"):
            inputs.read_inputs([str(item)], GREY)
    with pytest.raises(BadInput, match=r"must hold images, got none"):
        inputs.read_inputs([str(tmp_path)], GREY)
    with pytest.raises(BadInput, match=r"INPUT must be .* got none"):
        inputs.read_inputs([], GREY)


IMAGES = np.random.default_rng(1).integers(0, 250, (3, 8, 8, 1)).astype("uint8")
FORMS = [IMAGES, IMAGES[0], IMAGES[..., 0], IMAGES[0, ..., 0], IMAGES.astype("float64"), IMAGES.astype("int64")]


@pytest.mark.parametrize("x", [*FORMS, np.asfortranarray(IMAGES), IMAGES + 0.2], ids=range(8))
def test_arrays_of_every_form_are_taken(tmp_path, x):
    wanted = IMAGES if len(x) == 3 else IMAGES[:1]
    np.save(tmp_path / "x.npy", x)
    np.savez_compressed(tmp_path / "x.npz", whatever=x)
    np.savez(tmp_path / "y.npz", y=np.zeros(3), x_test=x)
    for name in ("x.npy", "x.npz", "y.npz"):
        names, actual = inputs.read_inputs([str(tmp_path / name)], GREY)
        np.testing.assert_array_equal(actual, wanted)
        assert len(names) == len(actual)
    assert inputs.batch(x, GREY).dtype == np.uint8
    np.testing.assert_array_equal(inputs.batch(x, GREY), wanted)
    np.testing.assert_array_equal(inputs.batch(x.tolist(), GREY), wanted)


WRONG = {
    "must have shape": [
        np.zeros((2, 8, 9, 1)),
        np.zeros((0, 8, 8, 1)),
        np.zeros(64),
        np.zeros((2, 8, 8, 3)),
        np.zeros(()),
    ],
    "got type": [np.zeros((8, 8, 1), bool), np.zeros((8, 8, 1), "complex64"), np.full((8, 8, 1), "a")],
    "values from 0 to 255": [IMAGES + 100.0, IMAGES - 300.0, np.full((8, 8), np.nan), np.full((8, 8), np.inf)],
    "value_range 0:1": [IMAGES / 255],
    "got none above": [IMAGES // 16 + 1, np.ones((8, 8, 1), "uint8"), np.full((8, 8, 1), 16.0)],
}


@pytest.mark.parametrize(("message", "x"), [(message, x) for message, many in WRONG.items() for x in many])
def test_arrays_that_are_no_pixels_are_refused(tmp_path, message, x):
    np.save(tmp_path / "x.npy", x)
    for call in (lambda: inputs.batch(x, GREY), lambda: inputs.read_inputs([str(tmp_path / "x.npy")], GREY)):
        with pytest.raises(BadInput, match=message):
            call()


@pytest.mark.parametrize("x", ["digit.png", ["a.png", "b.png"], [[1], [1, 2]], None])
def test_what_is_no_array_is_refused(x):
    with pytest.raises(BadInput, match="give"):
        inputs.batch(x, GREY)


class Bomb:
    """What a hostile file holds: whoever unpickled it would end the tests."""

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


def test_objects_are_never_unpickled(tmp_path):
    hostile = np.array([Bomb()] * 64, object).reshape(8, 8, 1)
    np.save(tmp_path / "x.npy", hostile, allow_pickle=True)  # written, to see it refused; no test reads it so
    np.savez(tmp_path / "x.npz", x=hostile)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(BadInput, match="pickled objects"):
            inputs.read_inputs([str(tmp_path / name)], GREY)


def header(shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_an_array_that_announces_too_much_is_refused_unread(tmp_path):
    (tmp_path / "x.npy").write_bytes(header((10**12, 8, 8, 1)))
    with pytest.raises(BadInput, match=r"declares shape \(1000000000000, 8, 8, 1\).*0 bytes of data"):
        inputs.read_inputs([str(tmp_path / "x.npy")], GREY)
    (tmp_path / "x.npy").write_bytes(header((1000, 8, 8, 1)) + b"few")
    with pytest.raises(BadInput, match=r"declares shape \(1000, 8, 8, 1\).*3 bytes of data"):
        inputs.read_inputs([str(tmp_path / "x.npy")], GREY)


def test_an_npz_bomb_is_refused_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header((2**20, 8, 8, 1)) + bytes(2**26))
    assert (tmp_path / "x.npz").stat().st_size < 100_000
    monkeypatch.setattr(inputs, "LARGEST", 2**25)
    monkeypatch.setattr(reading, "read_array", lambda *args, **kwargs: pytest.fail("unpacked"))
    with pytest.raises(BadInput, match=r"at most 33,554,432 bytes, got .* with 67,108,992"):
        inputs.read_inputs([str(tmp_path / "x.npz")], GREY)


def test_an_npz_that_lies_about_its_size_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header((1000, 8, 8, 1)) + bytes(100))
    with pytest.raises(BadInput, match=r"declares shape \(1000, 8, 8, 1\).*100 bytes of data"):
        inputs.read_inputs([str(tmp_path / "x.npz")], GREY)


def test_an_npz_without_an_array_to_take_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=IMAGES, b=IMAGES)
    with pytest.raises(BadInput, match=r"must hold an array x or x_test, .* got a, b"):
        inputs.read_inputs([str(tmp_path / "x.npz")], GREY)
    for data in (b"", b"PK\x03\x04 and no more", (tmp_path / "x.npz").read_bytes()[:300]):
        (tmp_path / "y.npz").write_bytes(data)
        with pytest.raises(BadInput, match=r"cannot read .*; save it again"):
            inputs.read_inputs([str(tmp_path / "y.npz")], GREY)
