"""Good files of every kind that the product reads, made once by the product itself, and what uses each of them."""

import io
import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SMALL = {"epochs": 1, "threads": 1, "quiet": True}
WORDS = ("good", "bad", "film", "actor", "dull", "great", "scene", "plot")


def build(folder: Path, sweeps: bool = True) -> None:
    """Writes the world into a new folder: runs, artefacts, data and inputs; with `sweeps` a comparison and a search."""
    import trainers
    import tuning

    folder.mkdir(parents=True)
    data(folder / "data")
    inputs(folder / "inputs")
    trainers.train(model="mlp", set="hidden=4", train_size=50, out=folder / "run", **SMALL)
    encoder = "width=8", "heads=1", "depth=1", "ffn=8"
    texts = {"dataset": str(folder / "data/texts.csv"), "vocabulary": 20, "length": 4}
    trainers.train(model="transformer", set=encoder, out=folder / "text-run", **texts, **SMALL)
    shutil.copytree(folder / "run", folder / "unfinished")
    (folder / "unfinished/metrics.json").unlink()
    shutil.copytree(ROOT / "saved_models/mlp-digits-default", folder / "artefact")
    shutil.copy(folder / "run/model.keras", folder / "inputs/model.keras")
    best = {"sites": {"hidden": 0.5}, "recipe": {"learning_rate": 0.003}}
    (folder / "inputs/best.json").write_text(json.dumps(best))
    if sweeps:
        options = {"set": "hidden=4", "train_size": 50, **SMALL}
        trainers.compare(arm=["none", "default"], seeds=1, workers=1, out=folder / "comparison", **options)
        tuning.search(tune="hidden=0/0.5", tuner="grid", out=folder / "search", **options)


def data(folder: Path) -> None:
    """Writes data sets: arrays, tables, folders and IDX files."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder.mkdir()
    x, y = rng.integers(0, 256, (80, 5, 5)).astype("uint8"), np.arange(80) % 4
    np.savez(folder / "images.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    rows = [f"{a:.3f},{b:.3f},{label}" for a, b, label in zip(*rng.normal(size=(2, 80)), y, strict=True)]
    (folder / "table.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    lines = [(" ".join(rng.choice(WORDS, 4)), "yes" if i % 2 else "no") for i in range(80)]
    (folder / "texts.csv").write_text("\n".join(["text,label", *map(",".join, lines)]) + "\n")
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": t, "label": k}) + "\n" for t, k in lines))
    for kind in ("pictures", "words"):
        for i in range(24):
            path = folder / kind / ("one" if i % 2 else "two") / f"{i}{'.png' if kind == 'pictures' else '.txt'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[i]).save(path) if kind == "pictures" else path.write_text(lines[i][0])
    (folder / "idx").mkdir()
    for stem in ("train", "t10k"):
        header = b"".join(int(n).to_bytes(4, "big") for n in (0x803, *x.shape))
        (folder / f"idx/{stem}-images-idx3-ubyte").write_bytes(header + x.tobytes())
        header = b"".join(int(n).to_bytes(4, "big") for n in (0x801, len(y)))
        (folder / f"idx/{stem}-labels-idx1-ubyte").write_bytes(header + y.astype("uint8").tobytes())


def inputs(folder: Path) -> None:
    """Writes what `predict` reads, a placement file and a token."""
    from PIL import Image

    folder.mkdir()
    x = np.random.default_rng(1).integers(0, 256, (3, 8, 8)).astype("uint8")
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x=x)
    for suffix in ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm"):
        Image.fromarray(x[0]).save(folder / f"x.{suffix}")
    (folder / "placement.json").write_text('{"scaling": "inverted", "sites": {"hidden": {"rate": 0.4}}}')
    (folder / "token").write_text("0123456789abcdef0123456789abcdef\n")
    (folder / "token").chmod(0o600)


def odd(folder: Path) -> dict[str, str]:
    """Makes what is no regular file: a pipe, a socket, a loop of links, a folder; returns their paths."""
    folder.mkdir(exist_ok=True)
    paths = {name: folder / name for name in ("fifo", "socket", "loop", "folder")}
    if not paths["folder"].exists():
        os.mkfifo(paths["fifo"])
        here = Path.cwd()
        os.chdir(folder)  # a path of a socket is short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
        os.chdir(here)
        paths["loop"].symlink_to("loop")
        paths["folder"].mkdir()
    return {name: str(path) for name, path in paths.items()} | {"zero": "/dev/zero", "full": "/dev/full"}


_TRAIN = ("trainers", "train", "--set", "hidden=4", "--epochs", "1", "--threads", "1", "--out", "new")
_PREDICT = ("zoo", "predict", "artefact")
_RESUMED = ("trainers", "train", "--resume", "--threads", "1", "--out")
_SEARCHED = ("tuning", "search", "--resume", "--threads", "1", "--out", "search")
_COMPARED = ("trainers", "compare", "--resume", "--threads", "1", "--workers", "1", "--out", "comparison")
_IMPORT = ("trainers", "data", "import-idx", "mine", "data/idx", "--data-dir", "tfds")
_MODES = ("zoo", "modes", "run", "--samples", "2", "--examples", "20", "--out", "modes")
_ENCODER = tuple(word for pair in ("width=8", "heads=1", "depth=1", "ffn=8") for word in ("--set", pair))


def _data(path):
    return (
        ("trainers", "data", "info", path),
        (*_TRAIN, "--dataset", path) if "texts" not in path and "words" not in path else
        ("trainers", "train", "--model", "transformer", *_ENCODER, *_TRAIN[4:], "--dataset", path),
    )  # fmt: skip


# What reads each file: command lines, run in the folder of the world.
USES: dict[str, tuple] = {
    "run/config.json": (_MODES, (*_RESUMED, "run"), ("zoo", "export", "run", "--formats", "keras", "--out", "shelf")),
    "run/metrics.json": ((*_RESUMED, "run"), ("zoo", "export", "run", "--formats", "keras", "--out", "shelf")),
    "run/model.keras": (_MODES, ("zoo", "export", "run", "--formats", "keras", "--out", "shelf")),
    "text-run/vocabulary.txt": (("zoo", "modes", "text-run", "--samples", "2", "--out", "modes"),),
    "unfinished/config.json": ((*_RESUMED, "unfinished"),),
    "unfinished/history.csv": ((*_RESUMED, "unfinished"),),
    "unfinished/checkpoint.npz": ((*_RESUMED, "unfinished"),),
    "comparison/compare.json": (_COMPARED,),
    "comparison/runs/mlp/none/seed-0/metrics.json": (_COMPARED,),
    "comparison/runs/mlp/none/seed-0/history.csv": (_COMPARED,),
    "comparison/runs/mlp/none/seed-0/config.json": (_COMPARED,),
    "search/search.json": (_SEARCHED,),
    "search/journal.jsonl": (_SEARCHED,),
    "artefact/card.json": ((*_PREDICT, "inputs/x.png"), ("zoo", "verify", "artefact"), ("zoo", "modes", "artefact")),
    "artefact/SHA256SUMS": ((*_PREDICT, "inputs/x.png"), ("zoo", "verify", "artefact")),
    "artefact/probe.npz": (("zoo", "verify", "artefact"),),
    "artefact/model.keras": ((*_PREDICT, "--runtime", "keras", "inputs/x.png"),),
    "artefact/model.onnx": ((*_PREDICT, "--runtime", "onnx", "inputs/x.png"),),
    "artefact/mc.onnx": ((*_PREDICT, "--runtime", "onnx", "--mode", "mc", "--samples", "2", "inputs/x.png"),),
    "artefact/model.tflite": ((*_PREDICT, "--runtime", "litert", "inputs/x.png"),),
    "artefact/mc.tflite": ((*_PREDICT, "--runtime", "litert", "--mode", "mc", "--samples", "2", "inputs/x.png"),),
    "artefact/savedmodel/saved_model.pb": ((*_PREDICT, "--runtime", "savedmodel", "inputs/x.png"),),
    "artefact/savedmodel/variables/variables.index": ((*_PREDICT, "--runtime", "savedmodel", "inputs/x.png"),),
    "inputs/model.keras": (
        ("zoo", "sites", "inputs/model.keras"),
        ("zoo", "audit", "inputs/model.keras"),
        ("zoo", "place", "inputs/model.keras", "--drop", "hidden=0.3", "--out", "placed.keras"),
    ),
    "inputs/placement.json": (
        (*_TRAIN, "--train-size", "50", "--placement", "inputs/placement.json"),
        ("zoo", "place", "inputs/model.keras", "--placement", "inputs/placement.json", "--out", "placed.keras"),
    ),
    "inputs/best.json": ((*_TRAIN, "--train-size", "50", "--from", "inputs/best.json"),),
    "inputs/token": (("tuning", "cluster", "--worker", "127.0.0.1:99999", "--token-file", "inputs/token"),),
    "data/idx/train-images-idx3-ubyte": (_IMPORT,),
    "data/idx/t10k-labels-idx1-ubyte": (_IMPORT,),
    "data/images.npz": _data("data/images.npz"),
    "data/table.csv": _data("data/table.csv"),
    "data/texts.csv": _data("data/texts.csv"),
    "data/texts.jsonl": _data("data/texts.jsonl"),
    "data/pictures/one/1.png": _data("folder:data/pictures"),
    "data/words/one/1.txt": _data("folder:data/words"),
}
USES |= {
    f"inputs/x.{suffix}": ((*_PREDICT, f"inputs/x.{suffix}"),)
    for suffix in ("npy", "npz", "png", "jpg", "gif", "bmp", "tif", "webp", "ppm")
}

# Command lines that are right and small, in which one or more words are changed.
COMMANDS: tuple[tuple, ...] = (
    (*_TRAIN, "--train-size", "50"),
    ("trainers", "compare", "--arm", "none", "--seeds", "1", "--workers", "1", *_TRAIN[2:], "--train-size", "50"),
    ("trainers", "data", "list"),
    ("trainers", "data", "info", "digits"),
    _IMPORT,
    ("tuning", "search", "--tune", "hidden=0/0.5", "--max-trials", "1", *_TRAIN[2:], "--train-size", "50"),
    ("tuning", "cluster", "--chief", "127.0.0.1:99999", "--tune", "hidden=0/0.5", *_TRAIN[2:]),
    ("tuning", "cluster", "--worker", "127.0.0.1:99999", "--token-file", "inputs/token"),
    ("zoo", "list", "mlp"),
    ("zoo", "sites", "mlp", "--input-shape", "8,8,1", "--classes", "10"),
    ("zoo", "audit", "inputs/model.keras"),
    ("zoo", "place", "inputs/model.keras", "--drop", "hidden=0.3", "--seed", "1", "--out", "placed.keras"),
    ("zoo", "export", "run", "--formats", "keras", "--name", "one", "--out", "shelf"),
    (*_PREDICT, "inputs/x.png", "--runtime", "onnx", "--mode", "mc", "--samples", "2", "--seed", "1"),
    (*_MODES, "--seed", "1", "--dataset", "digits"),
    ("zoo", "verify", "artefact"),
)


def with_right_sums(path: Path) -> None:
    """Writes SHA256SUMS again, so that a damaged file of an artefact gets past the check of its sum."""
    from zoo.artefacts import sums

    sums.write(path)


def npy(array: np.ndarray) -> bytes:
    """Returns the bytes of an `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
