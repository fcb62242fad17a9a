"""The cache of decoded data sets: what it keeps, what it notices, and what it does when it cannot be written."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from streams import assert_same_part, load_mapped
from test_full_disk import filling, small_files

import trainers.__main__
from trainers import datasets
from zoo import cli, data
from zoo.data import announce, cache, dataset, flat, images
from zoo.errors import BadInput

COUNT = 40


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A cache of its own, which does not exist yet."""
    monkeypatch.setenv("DROPOUT_ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["image", "text"])
def name(request, tmp_path):
    """A set of images in a folder, and one of texts."""
    return pictures(tmp_path / "faces") if request.param == "image" else texts(tmp_path / "moods.csv")


@pytest.fixture
def faces(tmp_path):
    """The set of images alone, where the kind of the set makes no difference."""
    return pictures(tmp_path / "faces")


def pictures(folder, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(COUNT):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).save(path)
    return f"folder:{folder}"


def texts(path, seed=0):
    words = np.random.default_rng(seed).choice(["good", "bad", "dull", "fine", "plot"], (COUNT, 4))
    path.write_text("text,label\n" + "".join(f"{' '.join(row)},{i % 2}\n" for i, row in enumerate(words)))
    return str(path)


def assert_equal(mapped, whole):
    for key in ("train", "val", "test"):
        a, b = getattr(mapped, key), getattr(whole, key)
        assert a.mapped
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)
        assert a.x.dtype == b.x.dtype
    assert mapped.vocabulary == whole.vocabulary


def said(name, **options):
    """What is mapped, and the lines that are said on the way."""
    lines = []
    with announce.heard(lines.append, lambda text: None):
        return load_mapped(name, **options), lines


def entry(root):
    """The folder of the only entry."""
    (path,) = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return path


def names(root):
    return {path.name for path in root.iterdir()}


# === What is kept ===


def test_what_is_mapped_is_what_is_read_into_memory(root, name):
    (first, lines), whole = said(name), data.load(name)
    assert_equal(first, whole)
    assert len(lines) == 1
    assert "decoding it once" in lines[0]
    again, lines = said(name)
    assert lines == []
    assert_equal(again, whole)
    assert names(root) == {entry(root).name}


def test_mapped_parts_work_wherever_parts_do(root, name):
    mapped, whole = load_mapped(name), data.load(name)
    for a, b in ((mapped.train.head(3), whole.train.head(3)), (mapped.train.sample(8), whole.train.sample(8))):
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)
    assert dataset.describe(mapped) == {**dataset.describe(whole), "mapped": True}
    assert "on disk" in repr(mapped.train)
    with pytest.raises(ValueError, match="read-only"):
        mapped.train.x[0] = 0


def test_nothing_is_decoded_or_learned_again(root, name, monkeypatch):
    load_mapped(name)
    monkeypatch.setattr(images, "decode_all", None)
    monkeypatch.setattr("zoo.data.text.learn", None)
    assert load_mapped(name).train.mapped


def test_the_folder_is_that_of_the_user_unless_the_variable_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("DROPOUT_ZOO_CACHE", "here")
    monkeypatch.chdir(tmp_path)
    assert cache.folder() == tmp_path / "here"
    monkeypatch.delenv("DROPOUT_ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "dropout-zoo"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # is to be ignored
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home" / ".cache" / "dropout-zoo"


OPTIONS = {
    "image": [{"image_size": 4}, {"image_size": 4, "resize": "crop"}, {"value_range": "0:300"}],
    "text": [{"length": 3}, {"vocabulary": 4}],
}


def test_every_option_that_decides_the_content_has_an_entry_of_its_own(root, name):
    kind = "image" if name.startswith("folder:") else "text"
    every = [{}, {"train_size": 10}, {"split_seed": 1}, *OPTIONS[kind]]
    for number, options in enumerate(every):
        assert_equal(load_mapped(name, **options), data.load(name, **options))
        assert len(cache.entries()) == number + 1
    other = {"length": 9} if kind == "image" else {"resize": "pad"}
    load_mapped(name, **other)
    assert len(cache.entries()) == len(every)


def test_a_set_of_tfds_is_mapped_and_a_changed_one_is_decoded_again(root, prepared, tmp_path):
    shutil.copytree(prepared / "cifar10", tmp_path / "tfds" / "cifar10")
    options = {"data_dir": tmp_path / "tfds"}
    assert_equal(load_mapped("cifar10", **options), data.load("cifar10", **options))
    (file,) = (tmp_path / "tfds" / "cifar10" / "1.0.0").glob("*-train.*")
    os.utime(file, ns=(0, 0))
    assert "has changed since" in said("cifar10", **options)[1][0]
    assert len(cache.entries()) == 1


# === What is noticed ===


def truncate(folder):
    os.truncate(folder / "train.bin", 100)


def extend(folder):
    with open(folder / "val.bin", "ab") as file:
        file.write(b"more")


def flip_keeping_the_time(folder):
    path = folder / "train.bin"
    times = path.stat()
    flip(folder)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def flip(folder):
    content = bytearray((folder / "train.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "train.bin").write_bytes(content)


def lose(folder):
    (folder / "test.bin").unlink()


def lose_meta(folder):
    (folder / "meta.json").unlink()


def no_json(folder):
    (folder / "meta.json").write_text("{")


def become_a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("a file")


def become_a_link(folder):
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def link_out(folder):
    (folder.parent.parent / "victim").write_bytes((folder / "train.bin").read_bytes())
    (folder / "train.bin").unlink()
    (folder / "train.bin").symlink_to(folder.parent.parent / "victim")


def fifo(folder):
    (folder / "train.bin").unlink()
    os.mkfifo(folder / "train.bin")


DAMAGES = (truncate, extend, flip, flip_keeping_the_time, lose, lose_meta, no_json)
DAMAGES += (become_a_file, become_a_link, link_out, fifo)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_repaired_and_nothing_outside_is_touched(root, faces, damage):
    load_mapped(faces)
    gc.collect()
    folder, whole = entry(root), data.load(faces)
    damage(folder)
    outside = {
        path: path.read_bytes()
        for path in root.parent.rglob("*")
        if path.is_file() and folder not in path.parents and path != folder
    }
    mapped, lines = said(faces)
    assert_equal(mapped, whole)
    assert len([line for line in lines if "decoding it again" in line]) == 1
    assert not folder.is_symlink()
    assert {path: path.read_bytes() for path in outside} == outside
    assert said(faces)[1] == []


META = {
    "negative": lambda files: files["train.bin"].update(shape=[-1, 6, 5, 3]),
    "huge": lambda files: files["train.bin"].update(shape=[2**60, 6, 5, 3]),
    "other shape": lambda files: files["train.bin"].update(shape=[*files["train.bin"]["shape"][:-1], 1]),
    "text for a number": lambda files: files["train.bin"].update(shape="1", bytes="1"),
    "object": lambda files: files["train.bin"].update(dtype="object"),
    "float": lambda files: files["train.bin"].update(dtype="float32"),
    "path": lambda files: files.update({"../../victim": files["train.bin"]}),
    "path in place of a file": lambda files: files.update({"../../victim": files.pop("train.bin")}),
    "no object": lambda files: files.update({"train.bin": 7}),
    "another hash": lambda files: files["train.bin"].update(sample="0" * 64),
}


@pytest.mark.parametrize("change", META)
def test_a_hostile_meta_is_refused_and_replaced(root, faces, change):
    load_mapped(faces)
    path = entry(root) / "meta.json"
    meta = json.loads(path.read_text())
    META[change](meta["files"])
    path.write_text(json.dumps(meta))
    mapped, lines = said(faces)
    assert "has a damaged copy in the cache" in lines[0]
    assert_equal(mapped, data.load(faces))


@pytest.mark.parametrize("meta", [7, [], {}, {"stamp": 1, "files": []}, {"format": 10**400}, "x" * 10])
def test_any_json_in_place_of_a_meta_is_refused(root, faces, meta):
    load_mapped(faces)
    path = entry(root) / "meta.json"
    stamp = json.loads(path.read_text())["stamp"]
    path.write_text(json.dumps({"stamp": stamp, **meta} if isinstance(meta, dict) else meta))
    assert_equal(said(faces)[0], data.load(faces))
    assert all(row["set"] for row in datasets.cached()["entries"])


def test_a_hostile_vocabulary_is_refused(root, tmp_path):
    name = texts(tmp_path / "moods.csv")
    load_mapped(name, vocabulary=5)
    path = entry(root) / "vocabulary.txt"
    path.write_text("\n[UNK]\n" + "".join(f"{n}\n" for n in range(9)))
    with flat._regular(path) as file:
        about = flat._state(file) | {"sample": flat._sample(file), "sha256": flat._hash(file)}
    meta = json.loads((entry(root) / "meta.json").read_text())
    meta["files"]["vocabulary.txt"] = about
    (entry(root) / "meta.json").write_text(json.dumps(meta))
    mapped, lines = said(name, vocabulary=5)
    assert "more than 5 tokens" in lines[0]
    assert len(mapped.vocabulary) == 5


def test_changed_data_are_decoded_again_in_place_of_the_old(root, tmp_path):
    for write, path in ((pictures, tmp_path / "faces"), (texts, tmp_path / "moods.csv")):
        name = write(path)
        load_mapped(name)
        write(path, seed=1)
        mapped, lines = said(name)
        assert "has changed since it was decoded; decoding it again" in lines[0]
        assert_equal(mapped, data.load(name))
    assert len(cache.entries()) == 2


def test_a_moved_entry_is_hashed_whole_once_and_then_trusted(root, faces, monkeypatch):
    load_mapped(faces)
    hashed, original = [], flat._hash
    for path in entry(root).glob("*.bin"):
        os.utime(path, ns=(0, 1))
    monkeypatch.setattr(flat, "_hash", lambda file: hashed.append(file) or original(file))
    for _ in range(2):
        assert said(faces)[1] == []
        assert len(hashed) == 3


# === Several processes, and killed ones ===

KEY = "0" * 32
WRITE = """
import sys, time
import numpy as np
from zoo.data import cache, flat

contents = flat.Contents("faces", "stamp", np.dtype("uint8"), {{"train": (6, 5)}})

def rows():
    for row in range(6):
        print("writing", flush=True)
        time.sleep({seconds})
        yield "train", np.full((1, 5), row, np.uint8)

print(int(cache.mapped("{key}", contents, lambda: (rows(), None)).arrays["train"].sum()))
"""


def writing(seconds):
    """A process that has begun to write an entry, with so many seconds between its rows."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE.format(seconds=seconds, key=KEY)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "writing\n"
    return process


def written():
    """The same entry in this process, and what is said on the way."""
    contents, lines = flat.Contents("faces", "stamp", np.dtype("uint8"), {"train": (6, 5)}), []
    x = np.repeat(np.arange(6, dtype=np.uint8), 5).reshape(6, 5)
    with announce.heard(lines.append, lambda text: None):
        return cache.mapped(KEY, contents, lambda: ([("train", x)], None)).arrays["train"], lines


def test_of_two_processes_one_decodes_and_the_other_waits(root):
    first = writing(seconds=0.2)
    x, lines = written()
    out, err = first.communicate(timeout=60)
    assert lines == ["another process decodes faces; waiting for it"]
    assert out.splitlines()[-1] == str(int(x.sum()))
    assert err.count("decoding it once") == 1
    assert names(root) == {KEY}


def test_a_killed_build_leaves_nothing_that_looks_finished_and_is_cleaned_up(root, faces):
    process = writing(seconds=60)
    process.kill()
    process.communicate(timeout=60)
    assert cache.entries() == []
    assert [path.is_dir() for path in root.iterdir() if path.name.startswith(".")] == [True]
    load_mapped(faces)  # cleans up behind the process that was killed
    assert names(root) == {entry(root).name}
    assert written()[0].sum() == 75


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_is_done_again(root, number):
    process = writing(seconds=60)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert number == signal.SIGKILL or names(root) == set()
    x, lines = written()
    assert x.sum() == 75
    assert "decoding it once" in lines[0]
    assert names(root) == {KEY}


def test_decoding_is_never_silent(root, faces, monkeypatch):
    assert announce.SECONDS < 2
    monkeypatch.setattr(announce, "SECONDS", 0.05)
    states, write = [], flat.write

    def slowly(*args):
        time.sleep(0.3)
        write(*args)

    monkeypatch.setattr(flat, "write", slowly)
    with announce.heard(lambda line: None, states.append):
        load_mapped(faces)
    assert len(states) >= 2
    assert all("decoding folder:" in state and "%" in state for state in states)


# === What cannot be cached ===


def assert_streamed(name):
    """Checks that a set is streamed, and that one line says so; returns it."""
    lines = []
    with announce.heard(lines.append):
        streamed = load_mapped(name)
    assert isinstance(streamed.train, data.StreamedPart)
    assert_same_part(streamed.test, data.load(name).test)
    (line,) = [line for line in lines if "is decoded anew in each epoch" in line]
    return line


def test_a_disk_that_is_full_at_any_write_makes_a_set_stream(root, faces):
    with filling(root) as disk:
        load_mapped(faces)
    gc.collect()
    shutil.rmtree(root)
    for full in range(1, disk.count + 1):
        with filling(root, full):
            line = assert_streamed(faces)
        assert "No space left on device; free disk space or set DROPOUT_ZOO_CACHE to another folder" in line
        assert not root.exists() or cache.entries() == []
        shutil.rmtree(root, ignore_errors=True)


def test_what_the_system_refuses_to_write_makes_a_set_stream(root, name):
    with small_files(100):
        assert "File too large" in assert_streamed(name)
    assert names(root) == set()


def test_a_disk_without_room_is_noticed_before_the_work(root, faces, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    assert "has 0.0 MB left" in assert_streamed(faces)
    assert names(root) == set()


@pytest.mark.parametrize("place", ["file/below/it", "/proc/nowhere/cache", "x" * 300, "file"])
def test_a_place_that_cannot_be_written_makes_a_set_stream(tmp_path, faces, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file, where a folder is needed")
    monkeypatch.setenv("DROPOUT_ZOO_CACHE", place)
    assert place[:20] in assert_streamed(faces)
    assert (tmp_path / "file").read_text() == "a file, where a folder is needed"


def test_what_is_there_is_read_even_if_the_disk_is_full(root, faces):
    load_mapped(faces)
    with filling(root, 1):
        assert said(faces)[1] == []


def test_damaged_data_are_no_fault_of_the_cache(root, faces, monkeypatch):
    def refuse(*args):
        raise BadInput("cannot read faces/a/0.png")

    monkeypatch.setattr(images, "decode_all", refuse)
    with pytest.raises(BadInput, match="cannot read faces/a"):
        load_mapped(faces)
    assert names(root) == set()


# === The limit ===


def test_beyond_the_limit_the_entry_that_was_not_used_for_longest_goes_first(root, tmp_path):
    sets = [pictures(tmp_path / str(number), number) for number in range(4)]
    for number, name in enumerate(sets[:3]):
        load_mapped(name)
        gc.collect()
        newest = cache.entries()[0]
        os.utime(root / newest.key / "meta.json", (number, number))
    load_mapped(sets[0])  # now the one that was used last
    gc.collect()
    sizes = [entry.bytes for entry in cache.entries()]
    cache.set_limit((sum(sizes) + 100) / cache.GIGABYTE)
    load_mapped(sets[3])
    gc.collect()
    assert {entry.name for entry in cache.entries()} == {sets[0], sets[2], sets[3]}
    cache.set_limit(sizes[0] * 1.5 / cache.GIGABYTE)
    assert [entry.name for entry in cache.entries()] == [sets[3]]


def test_an_entry_in_use_is_never_removed(root, tmp_path):
    first, second = (pictures(tmp_path / str(number), number) for number in range(2))
    used = load_mapped(first)
    assert cache.entries()[0].in_use
    assert cache.clear() == 0
    cache.set_limit(cache.entries()[0].bytes * 1.5 / cache.GIGABYTE)
    assert "--limit GB" in assert_streamed(second)
    assert [entry.name for entry in cache.entries()] == [first]
    view = used.val.x[:1]
    del used
    gc.collect()
    assert cache.entries()[0].in_use  # the view holds it
    del view
    gc.collect()
    assert not cache.entries()[0].in_use
    assert load_mapped(second).train.mapped
    assert [entry.name for entry in cache.entries()] == [second]


def test_a_limit_of_nothing_caches_nothing(root, faces):
    cache.set_limit(0)
    assert_streamed(faces)


@pytest.mark.parametrize("content", ["{", "7", '{"limit_gb": -1}', '{"limit_gb": "x"}', '{"limit_gb": 1e999}'])
def test_damaged_settings_are_the_default(root, content):
    root.mkdir()
    (root / "settings.json").write_text(content)
    assert cache.limit() == cache.LIMIT


# === The command ===


def command(capsys, *words, code=0):
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: trainers.__main__.main(["data", "cache", *words]))
    assert end.value.code == code
    return capsys.readouterr()


def test_the_command_lists_limits_and_clears(root, faces, capsys):
    assert "the cache is empty" in command(capsys).out
    part = load_mapped(faces).test
    capsys.readouterr()
    shown = json.loads(command(capsys, "--json").out)
    (row,) = shown["entries"]
    assert (row["set"], row["in_use"], shown["limit_gb"]) == (faces, True, 20.0)
    assert row["bytes"] == shown["bytes"] > 0
    assert faces in command(capsys).out
    assert json.loads(command(capsys, "--clear", "--json").out)["freed"] == 0
    del part
    gc.collect()
    assert json.loads(command(capsys, "--limit", "1.5", "--json").out)["limit_gb"] == 1.5
    assert json.loads(command(capsys, "--clear", "--json").out)["freed"] == row["bytes"]
    assert "of at most 1.5 GB" in command(capsys).out
    assert names(root) == {"settings.json"}


def test_a_wrong_limit_and_a_place_that_cannot_be_written_are_refused(root, capsys, monkeypatch):
    for limit in ("-1", "nan"):
        assert "limit must be" in command(capsys, "--limit", limit, code=2).err
    monkeypatch.setenv("DROPOUT_ZOO_CACHE", __file__)
    assert __file__ in command(capsys, "--limit", "1", code=2).err


def test_links_are_not_followed_and_other_files_are_left_alone(root, faces, tmp_path):
    load_mapped(faces)
    gc.collect()
    folder, victim = entry(root), tmp_path / "victim"
    victim.mkdir()
    (victim / "meta.json").write_text("{}")
    (root / "notes.txt").write_text("mine")
    (root / ("0" * 32)).symlink_to(victim)
    (root / f".{'0' * 32}.77").symlink_to(victim)
    (root / f"{folder.name}.lock").symlink_to(tmp_path / "created")
    (root / "settings.json").symlink_to(tmp_path / "settings")
    (folder / "meta.json").unlink()
    load_mapped(faces)
    gc.collect()
    cache.set_limit(3)
    assert cache.clear() > 0
    assert names(root) == {"notes.txt", "settings.json"}
    assert [path.name for path in victim.iterdir()] == ["meta.json"]
    assert not (tmp_path / "created").exists()
    assert not (tmp_path / "settings").exists()
