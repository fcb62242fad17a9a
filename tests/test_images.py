"""Contract 14: a file gives the same pixels to training and to prediction, whatever its mode or orientation."""

import io

import numpy as np
import pytest
from PIL import Image

from zoo import data
from zoo.artefacts.inputs import read as inputs
from zoo.data import images
from zoo.errors import BadInput

RNG = np.random.default_rng(0)
HEIGHT, WIDTH = 6, 9


def picture(mode):
    """A file's image of a mode, with values that no two decoders take for the same by chance."""
    if mode == "I;16":
        return Image.fromarray(RNG.integers(0, 2**16, (HEIGHT, WIDTH), np.uint16))
    if mode == "1":
        return Image.fromarray(RNG.integers(0, 2, (HEIGHT, WIDTH)).astype(bool))
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "P": 3}[mode]
    array = RNG.integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
    if mode == "P":
        return Image.fromarray(array).quantize(16)
    return Image.fromarray(array.squeeze(), mode)


MODES = [(mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
MODES += [(mode, "jpg") for mode in ("L", "RGB", "CMYK")]


def trained_on(folder):
    """The pixels of each file in the class folders of a data set, by its name in the folder."""
    loaded = data.load(f"folder:{folder}", split_seed=1)
    rows = np.concatenate([loaded.train.x, loaded.val.x, loaded.test.x])
    return loaded.input_shape, {row.tobytes() for row in rows}


def folder_of(root, file, count=12):
    """A data set of two classes, each `count` copies of a file."""
    for name in ("a", "b"):
        (root / "train" / name).mkdir(parents=True)
    for i in range(count):
        (root / "train" / "a" / f"{i}{file.suffix}").write_bytes(file.read_bytes())
        (root / "train" / "b" / f"{i}{file.suffix}").write_bytes(file.read_bytes())
    return root


def card(shape):
    return {"input": {"kind": "image", "name": "image", "shape": list(shape), "dtype": "uint8"}}


@pytest.mark.parametrize(("mode", "suffix"), MODES)
def test_training_and_prediction_see_the_same_pixels_of_every_mode(tmp_path, mode, suffix):
    file = tmp_path / f"x.{suffix}"
    picture(mode).save(file)
    shape, trained = trained_on(folder_of(tmp_path / "set", file))
    (_, predicted) = inputs.read_inputs([str(file)], card(shape))
    assert shape[:2] == (HEIGHT, WIDTH)
    assert trained == {predicted[0].tobytes()}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_training_and_prediction_turn_an_image_alike(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "x.jpg"
    picture("RGB").save(file, exif=exif, quality=95)
    shape, trained = trained_on(folder_of(tmp_path / "set", file))
    (_, predicted) = inputs.read_inputs([str(file)], card(shape))
    assert shape[:2] == ((WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH))
    assert trained == {predicted[0].tobytes()}
    upright = images.decode(file, 3)
    stored = np.asarray(Image.open(file))
    assert np.array_equal(upright, stored) == (orientation == 1)


def test_resizing_an_array_and_a_file_is_the_same_with_transparency_too(tmp_path):
    picture("RGBA").save(tmp_path / "x.png")
    array = images.decode(tmp_path / "x.png", 4)
    np.testing.assert_array_equal(images.resize(array[None], 5)[0], images.decode(tmp_path / "x.png", 4, (5, 5)))


def test_a_resized_set_holds_what_prediction_resizes_to(tmp_path):
    file = tmp_path / "x.png"
    picture("RGB").save(file)
    loaded = data.load(f"folder:{folder_of(tmp_path / 'set', file)}", image_size=5)
    (_, predicted) = inputs.read_inputs([str(file)], card((5, 5, 3)))
    np.testing.assert_array_equal(loaded.train.x[0], predicted[0])
    np.testing.assert_array_equal(images.resize(images.decode(file, 3)[None], 5)[0], predicted[0])


def test_bytes_and_files_are_decoded_alike_and_a_header_says_the_size(tmp_path):
    for mode, suffix in MODES:
        file = tmp_path / f"{mode.replace(';', '')}.{suffix}"
        picture(mode).save(file)
        grey = images.header(file)[2]
        assert images.header(file)[:2] == (HEIGHT, WIDTH)
        assert grey == (mode in ("1", "L", "LA", "I;16"))
        np.testing.assert_array_equal(images.decode(file, 3), images.decode(file.read_bytes(), 3))


def test_one_call_reads_a_file_as_training_does(tmp_path):
    file = tmp_path / "x.png"
    picture("RGB").save(file)
    loaded = data.load(f"folder:{folder_of(tmp_path / 'set', file)}", image_size=5)
    np.testing.assert_array_equal(data.read_image(file, loaded.input_shape), loaded.train.x[0])
    with pytest.raises(BadInput, match=r"cannot read .*x\.png for a model of 2 channels"):
        data.read_image(file, (5, 5, 2))


def test_four_channels_keep_their_transparency(tmp_path):
    image = picture("RGBA")
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(images.decode(tmp_path / "x.png", 4), np.asarray(image))
    (_, x) = inputs.read_inputs([str(tmp_path / "x.png")], card((HEIGHT, WIDTH, 4)))
    np.testing.assert_array_equal(x[0], np.asarray(image))


def test_a_damaged_image_of_a_set_is_refused_by_its_path(tmp_path):
    file = tmp_path / "x.png"
    picture("L").save(file)
    folder = folder_of(tmp_path / "set", file)
    bad = folder / "train" / "a" / "3.png"
    bad.write_bytes(file.read_bytes()[:-30])  # whole enough for its header
    with pytest.raises(BadInput, match=r"cannot read .*train/a/3\.png as an image"):
        data.load(f"folder:{folder}")


def test_damaged_bytes_of_a_set_are_refused_by_its_name():
    held = io.BytesIO()
    picture("L").save(held, "PNG")
    whole = held.getvalue()
    assert images.decode_all([whole], (HEIGHT, WIDTH, 1), "letters").shape == (1, HEIGHT, WIDTH, 1)
    with pytest.raises(BadInput, match="cannot read an image of letters as an image"):
        images.decode_all([whole, whole[:60]], (HEIGHT, WIDTH, 1), "letters")
    with pytest.raises(BadInput, match=r"images of letters must have one size, got 10 x 6 and 9 x 6 pixels"):
        images.decode_all([whole], (HEIGHT, WIDTH + 1, 1), "letters")
