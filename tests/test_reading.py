"""Readers of files that may be damaged: any damage is one refusal that names the file."""

import io
import os
import re
import zipfile

import numpy as np
import pytest

from zoo import reading
from zoo.errors import BadInput


@pytest.mark.parametrize("read", [reading.read_json, reading.read_csv, reading.read_npz, reading.read_text])
def test_only_regular_files_are_read(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(BadInput, match=re.escape(f"cannot read {path}")):
            read(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 5000, b"[" * 200 + b"]" * 200, b"NaN", b"1e999", b"9" * 5000, b'"\\ud800"']
)
def test_bad_json_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadInput, match="cannot read"):
        reading.read_json(tmp_path / "x.json")


def npy(array):
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        npy(np.arange(9))[:-1],
        npy(np.array([None])),
        npy(np.arange(9)).replace(b"(9,)", b"(9e9,)"),
        npy(np.zeros(2**10)).replace(b"(1024,)", b"(8192,)"),
    ],
)
def test_a_bad_array_is_refused(tmp_path, data):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("a.npy", data)
    with pytest.raises(BadInput, match="cannot read"):
        reading.read_npz(tmp_path / "x.npz")


def test_good_arrays_are_read_and_a_bomb_is_not(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((1000, 100)), b=np.arange(6).reshape(2, 3).T)
    arrays = reading.read_npz(tmp_path / "x.npz")
    assert arrays["a"].shape == (1000, 100)
    assert arrays["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(BadInput, match="more than 1,000"):
        reading.read_npz(tmp_path / "x.npz", largest=1000)
