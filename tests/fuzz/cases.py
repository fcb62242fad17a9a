"""The cases, drawn from a seed: bad command lines, damaged files, and wrong arguments of functions."""

import copy
import dataclasses
import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import world

BAD = (
    *("", " ", "0", "-1", "1.5", "nan", "-inf", "1e999", "9" * 400, "1" + "0" * 18, "٣", "²", "0x10", "1_0", "1,000"),
    *(
        "x" * 300,
        "x/" * 3000,
        "é数字🙂",
        "\udcff",
        "a\x00b",
        "a\nb",
        "\x1b[31m",
        "%s%n",
        "{}",
        "{0.__class__}",
        "-",
        "--",
    ),
    *("=", "=1", "a=b", "a=", "hidden=", "hidden=2", "hidden=nan", "hidden=0.5:", "hidden=0.5:spatial", "output=0.5"),
    *("--", "hidden=0:0.8:1e-12", "hidden=1/0/x", "hidden=9", "hidden=99999999999", "hidden=" + "4/" * 300 + "4"),
    *("none=", "wide=hidden=0.5=3", "..", "../../x", "~nobody/x", "/", "/proc/self/mem", "/dev/zero", "/dev/full"),
    *("{fifo}", "{socket}", "{loop}", "{folder}", "no/such/file", "x.npz", "x.csv", "x.json", "x.keras", "folder:"),
    *("folder:{folder}", "folder:{loop}", "inputs/x.png", "inputs/x.npz", "data/texts.csv", "inputs/placement.json"),
    *("None", "True", "[]", "null", "1:2:3", "5:1", "0:0", "nan:1", ":", "1.2.3.4:99999", "host", ":80", "[::1]:x"),
    *("applications/NoSuch", "os:system", "no.module:f", "keras:Model", "os:path", "mnist", "glue/nosuch", "gpt"),
    *("8", "8,8", "8,8,0", "99999,99999,3", "8,8,1,1", "savedmodel", "training", "early:2", "early:nan"),
)
# Values that would start something that does not end, or use the network, come from no pool.
_NEVER = ("--download", "--scheduler", "--backend")


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: what it is, the same for one seed and number.
        kind: `command`, `file` or `call`.
        argv: package and arguments of a command line; None for a call.
        prepare: changes the files of the world, whose folder it is given.
        call: a function of the folder of the world.
        expect: exit codes that are right; 0 since the changed input may happen to be good.
    """

    name: str
    kind: str
    argv: tuple = ()
    prepare: Callable[[Path], None] = lambda folder: None
    call: Callable | None = None
    expect: tuple = (0, 2)


def draw(count: int, seed: int = 0) -> list[Case]:
    """Returns `count` cases: two fifths command lines, two fifths files, one fifth calls."""
    import calls

    rng, cases = random.Random(seed), []
    makers = (command, damaged, command, damaged, calls.draw)
    while len(cases) < count:
        cases.append(makers[len(cases) % len(makers)](rng, len(cases)))
    return cases


# === Command lines ===


def command(rng: random.Random, number: int) -> Case:
    """Returns a good command line with one to three changes."""
    package, *words = world.COMMANDS[number // 2 % len(world.COMMANDS)]
    start = 2 if words[0] == "data" else 1
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        words = _changed(rng, package, words, start)
    expect = (0, 1, 2) if words[:1] == ["verify"] else (0, 2)
    shown = " ".join(word if len(word) < 40 else f"{word[:20]}...({len(word)})" for word in words)
    return Case(f"{number}: {package} {shown!a}", "command", (package, *words), expect=expect)


def _changed(rng, package, words, start):
    words, places = list(words), range(start, len(words))
    options = [i for i in places if words[i].startswith("--")]
    values = [i for i in places if not words[i].startswith("--")]
    what = rng.choice(("value", "value", "value", "option", "remove", "twice", "unknown", "extra"))
    if what == "value" and values:
        words[rng.choice(values)] = rng.choice(BAD)
    elif what == "option":
        allowed = [option for option in OPTIONS[package, words[0]] if option not in _NEVER]
        words += [rng.choice(allowed), rng.choice(BAD)] if allowed else []
    elif what == "remove" and len(words) > start:
        del words[rng.choice(places)]
        if words[0] in ("train", "compare", "search") and not {"--epochs", "--out"} <= {*words}:
            words += ["--epochs", "0"]  # 50 epochs would take long
    elif what == "twice" and options:
        words += words[(i := rng.choice(options)) : i + 2]
    elif what == "unknown":
        words.insert(rng.randint(start, len(words)), rng.choice(("--nosuch", "-x", "--epoch=1", "--out=~/x\x00", "--")))
    else:
        words.append(rng.choice(BAD))
    if words[0] == "train" and "--epochs" not in words:
        words += ["--epochs", "0"]
    return words


_RUN = (
    *("--dataset", "--data-dir", "--train-size", "--split-seed", "--image-size", "--resize"),
    *("--value-range", "--vocabulary", "--length", "--text-column", "--label-column", "--batch-size"),
    *("--optimizer", "--learning-rate", "--momentum", "--schedule", "--warmup", "--warmup-start"),
    *("--weight-decay", "--max-norm", "--label-smoothing", "--early-stopping", "--set", "--out"),
    *("--threads", "--scaling", "--drop-schedule", "--model"),
)
_PLACED = ["--drop", "--placement", "--seed"]
_SEARCH = [*_RUN, *_PLACED, "--tune", "--tuner", "--max-trials", "--executions"]
OPTIONS = {
    ("trainers", "train"): [*_RUN, *_PLACED, "--from"],
    ("trainers", "compare"): [*_RUN, "--arm", "--each-site", "--tune", "--tuning-seeds"],
    ("trainers", "data"): ["--data-dir"],
    ("tuning", "search"): _SEARCH,
    ("tuning", "cluster"): [*_SEARCH, "--token-file", "--name"],
    ("zoo", "list"): [],
    ("zoo", "sites"): ["--input-shape", "--classes", "--vocabulary", "--import"],
    ("zoo", "audit"): ["--input-shape", "--classes", "--vocabulary", "--import"],
    ("zoo", "place"): ["--drop", "--placement", "--scaling", "--seed", "--out", "--import"],
    ("zoo", "export"): ["--name", "--formats", "--out", "--data-dir"],
    ("zoo", "predict"): ["--runtime", "--mode", "--samples", "--seed", "--value-range"],
    ("zoo", "modes"): ["--dataset", "--samples", "--seed", "--examples", "--data-dir", "--out"],
    ("zoo", "verify"): [],
}

# === Files ===


def damaged(rng: random.Random, number: int) -> Case:
    """Returns a command line that reads a damaged file."""
    names = list(world.USES)
    name = names[number // 2 % len(names)]
    argv = rng.choice(world.USES[name])
    how = rng.choice((*DAMAGES, *_FITTING.get(Path(name).suffix, ()), *_FITTING.get(Path(name).suffix, ())))
    seed, sums = rng.random(), rng.random() < 0.75

    def prepare(folder):
        path = folder / name
        how(path, random.Random(seed))
        if name.startswith("artefact/") and sums and not name.endswith("SUMS") and path.is_file():
            world.with_right_sums(folder / "artefact")

    expect = (0, 1, 2) if "verify" in argv else (0, 2)
    return Case(
        f"{number}: {name} {how.__name__} {seed:.6f} {' '.join(argv)[:60]}", "file", argv, prepare, None, expect
    )


def cut(path, rng):
    """Cuts a file off."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(max(1, len(content)))])


def flipped(path, rng):
    """Flips one to sixteen bits."""
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 2, 16))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def zeroed(path, rng):
    """Replaces a stretch by zeros."""
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    content[start : start + 64] = bytes(len(content[start : start + 64]))
    path.write_bytes(content)


def emptied(path, rng):
    """Empties a file."""
    path.write_bytes(b"")


def noise(path, rng):
    """Replaces a file by random bytes."""
    path.write_bytes(rng.randbytes(rng.choice((1, 100, 5000))))


def doubled(path, rng):
    """Writes the contents twice."""
    path.write_bytes(path.read_bytes() * 2)


def swapped(path, rng):
    """Puts a file of another format in its place."""
    root = next(parent for parent in path.parents if (parent / "inputs").is_dir())
    others = ("inputs/x.png", "inputs/x.npz", "inputs/x.npy", "inputs/placement.json", "run/model.keras")
    others += ("data/table.csv", "artefact/model.onnx", "run/checkpoint.npz", "data/texts.jsonl")
    shutil.copy(root / rng.choice(others), path.with_name(".swap"))
    os.replace(path.with_name(".swap"), path)


def missing(path, rng):
    """Removes a file."""
    path.unlink()


def odd(path, rng):
    """Puts something in its place that is no regular file."""
    paths = world.odd(path.parent / ".odd")
    path.unlink()
    kind = rng.choice(("fifo", "socket", "loop", "folder", "zero", "full"))
    if kind in ("zero", "full", "loop"):
        path.symlink_to(paths[kind])
    else:
        os.replace(paths[kind], path)
    shutil.rmtree(path.parent / ".odd")


VALUES = (None, True, -1, 0, 1.5, 10**30, 2**63, "", "x", "\x00", "../../x", "é" * 500, [], {}, [[]], [None], {"": {}})
VALUES += ("NaN", "1e999", "DEEP", "HUGE")


def other_json(path, rng):
    """Changes, removes or adds a value of a JSON file, wherever it stands."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    place = rng.randrange(len(lines))
    lines[place] = _other(json.loads(lines[place]), rng)
    path.write_text("\n".join(lines) + "\n")


def _other(value, rng):
    value, raw = copy.deepcopy(value), rng.choice(VALUES)
    marks = {"NaN": "NaN", "1e999": "1e999", "DEEP": "[" * 5000 + "]" * 5000, "HUGE": "9" * 5000}
    new = "@@RAW@@" if raw in list(marks) else raw
    if rng.random() < 0.1:
        value = new
    else:
        holder, key = value, None
        for _ in range(rng.choice((1, 1, 2, 2, 3, 4))):
            inner = holder if key is None else holder[key]
            if not isinstance(inner, dict | list) or not inner:
                break
            holder, key = inner, rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
        if key is not None and rng.random() < 0.3:
            del holder[key]
        elif key is not None:
            holder[key] = new
    return json.dumps(value).replace('"@@RAW@@"', marks.get(raw, "null") if isinstance(raw, str) else "null")


def other_csv(path, rng):
    """Changes a cell, or the number of cells, of a CSV file."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    row = rng.choice(rows)
    what = rng.choice(("cell", "cell", "short", "long", "header", "quote"))
    cell = rng.choice(("", "nan", "inf", "x", "1e999", "9" * 400, '"', "\x00", "é", "-1"))
    if what == "cell":
        row[rng.randrange(len(row))] = cell
    elif what == "short":
        del row[-1]
    elif what == "long":
        row += [cell, cell]
    elif what == "header":
        rows[0][rng.randrange(len(rows[0]))] = rng.choice((rows[0][-1], "", cell))
    else:
        row[0] = '"' + row[0]
    path.write_text("\n".join(map(",".join, rows)) + "\n")


def other_zip(path, rng):
    """Changes a member of a zip file: its bytes, its name, its size in the directory; or removes it."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    rng.choice(_MEMBERS)(members, rng.choice(list(members)), rng)
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
        for name, content in members.items():
            file.writestr(name, content)


def _bytes(members, name, rng):
    content = bytearray(members[name])
    for _ in range(8 if content else 0):
        content[rng.randrange(len(content))] = rng.randrange(256)
    members[name] = bytes(content)


def _removed(members, name, rng):
    del members[name]


def _renamed(members, name, rng):
    members[rng.choice(("../x", "/x", "x" * 300, "meta.npy", "x/"))] = members.pop(name)


def _array(members, name, rng):
    arrays = (np.array(1), np.zeros((0, 3)), np.array(["x"]), np.full(3, np.nan), np.zeros(5, "complex64"))
    members[name] = world.npy(rng.choice(arrays))


def _more(members, name, rng):
    members["more.npy"] = world.npy(np.zeros(3))


def _bomb(members, name, rng):
    """Declares an array of 100 GB, or packs 64 MB of zeros."""
    array = world.npy(np.zeros(4)).replace(b"(4,), }" + b" " * 10, b"(12345678901,), }")
    members[name] = array if members[name][:6] == b"\x93NUMPY" else bytes(2**26)


def _inside(members, name, rng):
    if "config.json" in members:
        members["config.json"] = _other(json.loads(members["config.json"]), rng).encode()
    elif "meta.npy" in members:
        meta = json.loads(np.load(io.BytesIO(members["meta.npy"])).tobytes())
        members["meta.npy"] = world.npy(np.frombuffer(_other(meta, rng).encode(), np.uint8))


_MEMBERS = (_bytes, _bytes, _removed, _renamed, _array, _more, _bomb, _inside, _inside)


def other_line(path, rng):
    """Changes a line of a text file."""
    lines = path.read_text(errors="replace").split("\n")
    lines[rng.randrange(len(lines))] = rng.choice(("", "x", "\x00", "x" * 10**6, "0" * 64 + "  ../x", lines[0]))
    path.write_text("\n".join(lines))


DAMAGES = (cut, flipped, zeroed, emptied, noise, doubled, swapped, missing, odd)
_FITTING: dict[str, tuple] = {
    ".json": (other_json,) * 5,
    ".jsonl": (other_json,) * 5,
    ".csv": (other_csv,) * 5,
    ".npz": (other_zip,) * 5,
    ".keras": (other_zip,) * 5,
    ".txt": (other_line,) * 3,
    "": (other_line,) * 3,
}
