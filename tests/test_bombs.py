"""Small files that declare or unpack to far more than they hold: refused, at once and within little memory."""

import gzip
import io
import json
import re
import struct
import time
import zipfile
import zlib

import h5py
import keras
import numpy as np
import pytest

from zoo import keras_file, reading
from zoo.artefacts.inputs import stored
from zoo.data import arrays, idx, images, tables
from zoo.data.options import DataOptions
from zoo.errors import BadInput

SPARE = 256 * 2**20  # bytes that a refusal may take
SECONDS = 10


def peak():
    """The largest memory of this process, in bytes, since it was last reset."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024


@pytest.fixture(autouse=True)
def within_bounds():
    """No test in this file may take much memory or time."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pytest.skip("the peak of the memory cannot be reset here")
    before, begun = peak(), time.monotonic()
    yield
    assert peak() - before < SPARE
    assert time.monotonic() - begun < SECONDS


def h5(**options):
    """An HDF5 file with one array; nothing is written into it."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("layers/dense/vars/0", dtype="float32", **options)
    return stream.getvalue()


def packed_zeros():
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        data = file.create_dataset("x", (2**25,), "float32", chunks=(2**20,), compression="gzip", compression_opts=9)
        for start in range(0, 2**25, 2**20):
            data[start : start + 2**20] = 0
    return stream.getvalue()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(path)
    return path


def changed(saved, path, kind=zipfile.ZIP_STORED, **members):
    """A copy of a `.keras` file with other members."""
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w", kind) as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.partition(".")[0], old.read(name)))
    return path


@pytest.mark.parametrize(
    "weights",
    [h5(shape=(800 * 2**20,), chunks=(2**20,)), h5(shape=(2**40,), chunks=(2**20,), compression="gzip"), None],
    ids=["800 Mi values", "a terabyte", "packed zeros"],
)
def test_weights_that_declare_more_than_they_hold_are_refused(saved, tmp_path, weights):
    path = changed(saved, tmp_path / "bomb.keras", model=packed_zeros() if weights is None else weights)
    with pytest.raises(BadInput, match=re.escape(f"cannot read the weights in {path}")):
        keras_file.load(path)


def test_a_layer_that_needs_more_weights_than_the_file_holds_is_refused(saved, tmp_path):
    with zipfile.ZipFile(saved) as file:
        config = json.loads(file.read("config.json"))
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "Dense":
            layer["config"]["units"] = 10**9
    with pytest.raises(BadInput, match="its layers need"):
        keras_file.load(changed(saved, tmp_path / "bomb.keras", config=json.dumps(config)))


@pytest.mark.parametrize("config", [b" " * 2**25, b"[" * 2**20, b'{"a":' * 10**5], ids=["long", "open", "deep"])
def test_a_configuration_that_is_long_or_deep_is_refused(saved, tmp_path, config):
    with pytest.raises(BadInput, match="cannot read"):
        keras_file.load(changed(saved, tmp_path / "bomb.keras", zipfile.ZIP_DEFLATED, config=config))


def declaring(path, size):
    """A zip file of a few bytes whose directory declares a member of `size` bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", bytes(1000))
        file.infolist()[0].file_size = size
        file._didModify = True
    return path


def test_archives_that_declare_a_hundred_gigabytes_are_refused(tmp_path):
    path = declaring(tmp_path / "bomb.npz", 100 * 10**9)
    for read in (reading.read_npz, lambda path: stored.read(path, 2**30), keras_file.load):
        with pytest.raises(BadInput, match="declares more bytes than the file can hold"):
            read(path)
    with pytest.raises(BadInput, match="declares more bytes than the file can hold"):
        arrays.npz(path, 2**31, DataOptions())


def test_an_array_that_declares_a_hundred_gigabytes_is_refused(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.zeros(4))
    content = stream.getvalue().replace(b"(4,), }" + b" " * 10, b"(12345678901,), }")
    (tmp_path / "bomb.npy").write_bytes(content)
    with pytest.raises(BadInput, match="declares shape"):
        stored.read(tmp_path / "bomb.npy", 2**40)


def test_zeros_that_unpack_to_more_than_the_budget_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for key in arrays.KEYS:
            with file.open(f"{key}.npy", "w") as member:
                for _ in range(64):
                    member.write(bytes(2**20))
    with pytest.raises(BadInput, match="memory_budget"):
        arrays.npz(tmp_path / "bomb.npz", 10**6, DataOptions())


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("size", [(8001, 8000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_images_of_more_pixels_than_the_limit_are_refused(tmp_path, size):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(10**6), 9))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))
    for read in (images.header, lambda path: images.read_image(path, (8, 8, 1))):
        with pytest.raises(BadInput, match=r"pixels|cannot read"):
            read(tmp_path / "bomb.png")


def test_packed_idx_files_are_read_no_further_than_their_header_says(tmp_path, monkeypatch):
    read = []
    one_block = gzip.GzipFile.read

    def counted(self, size=-1):
        block = one_block(self, size)
        read.append(len(block))
        return block

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    header = b"".join(n.to_bytes(4, "big") for n in (0x803, 10, 5, 5))
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(100):
            file.write(bytes(2**20))
    with pytest.raises(BadInput, match="it is too long"):
        idx._check_file(tmp_path / "train-images-idx3-ubyte.gz", 3)
    assert sum(read) < 2 * 2**20
    header = b"".join(n.to_bytes(4, "big") for n in (0x803, 2**31, 2**15, 2**15))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header))
    with pytest.raises(BadInput, match="it is truncated"):
        idx._check_file(tmp_path / "t10k-images-idx3-ubyte.gz", 3)


@pytest.mark.parametrize(
    ("read", "largest"),
    [
        (reading.read_csv, reading.LARGEST_TEXT),
        (reading.read_json, reading.LARGEST_JSON),
        (tables.read, tables.LARGEST),
    ],
)
def test_a_text_file_that_is_too_long_is_not_read(tmp_path, read, largest):
    path = tmp_path / "x.csv"
    with open(path, "wb") as file:
        file.truncate(largest + 1)  # takes no room on the disk
    with pytest.raises(BadInput, match=f"more than {largest:,} bytes"):
        read(path)


def test_a_line_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_LONG_LINE", re.compile("[^\n]{1001}"))
    (tmp_path / "x.csv").write_text("text,label\n" + "x" * 1000 + ",1\n")
    with pytest.raises(BadInput, match="a line of it has more than"):
        tables.read(tmp_path / "x.csv")
