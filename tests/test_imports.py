"""Imports go one way, and what only needs arguments needs no TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("zoo", "trainers", "tuning", "benchmarks")

# Within zoo: what each file may import of ours, beside errors and what imports nothing itself.
LAYERS = [
    {"errors", "files", "seeds", "startup", "metrics", "command"},
    {"blocks", "counter", "drop", "graph", "moving", "prepared"},
    {"kernels", "schedule", "sources", "text"},
    {"dropout", "placement"},
    {"realise", "architectures", "folders", "arrays", "split"},
    {"mlp", "cnn", "resnet", "transformer", "parts"},
    {"catalogue", "data", "idx"},
    {"masked", "modes"},
    {"montecarlo", "moments", "scores", "uncompensated"},
    {"behaviour", "behaviour_figure", "behaviour_report"},
    {f"artefacts/{name}" for name in ("answers", "contract", "images", "litertfile", "modelfile", "onnxfile")},
    {f"artefacts/{name}" for name in ("onnxsplit", "pixels", "predictions", "probe", "sums", "tokens", "trust")},
    {f"artefacts/{name}" for name in ("card", "formats", "inputs", "run", "runtimes")},
    {"artefacts/load", "artefacts/programs"},
    {"artefacts/export", "artefacts/verify"},
    {"subject"},
    {"__main__"},
]
LIGHT = ["zoo", "zoo.catalogue", "zoo.data", "zoo.placement", "zoo.metrics", "trainers", "trainers.compare"]
LIGHT += ["trainers.train", "trainers.options", "trainers.__main__", "zoo.__main__"]
LIGHT += ["tuning", "tuning.search", "tuning.space", "tuning.request", "tuning.cluster", "tuning.__main__"]
LIGHT += ["zoo.artefacts.load", "zoo.artefacts.runtimes", "zoo.artefacts.inputs", "zoo.artefacts.answers"]


def imported(path):
    """Modules of ours that a file imports, anywhere in it, as `room/file` or `room/sub-room/file`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {module(f"{node.module}.{alias.name}") for alias in node.names}
    return found - {""}


def module(name):
    """The file of ours that a dotted name is, or is in; nothing for those of others."""
    parts = name.split(".")
    while parts and parts[0] in ROOMS:
        path = "/".join(parts)
        if (ROOT / f"{path}.py").exists() or (ROOT / path / "__init__.py").exists():
            return path
        parts.pop()
    return ""


def files(room):
    return sorted((ROOT / room).rglob("*.py"))


def place(path):
    """A file of zoo as `LAYERS` names it."""
    return path.relative_to(ROOT / "zoo").with_suffix("").as_posix()


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_rooms_before_them(room):
    for path in files(room):
        later = {name.split("/")[0] for name in imported(path)} - set(ROOMS[: ROOMS.index(room) + 1])
        assert not later, f"{path} imports {later}"


def test_files_of_zoo_import_only_files_below_them():
    level = {f"zoo/{name}": i for i, names in enumerate(LAYERS) for name in names}
    for path in files("zoo"):
        if path.stem == "__init__":
            continue
        for name in imported(path) & level.keys():
            assert level[name] <= level[f"zoo/{place(path)}"], f"{path} imports {name}"


def test_every_file_of_zoo_has_a_place():
    assert {place(path) for path in files("zoo") if path.stem != "__init__"} == set().union(*LAYERS)


def test_what_only_needs_arguments_imports_no_tensorflow():
    code = f"import sys, importlib; [importlib.import_module(m) for m in {LIGHT}]\n"
    code += "print(sorted({'tensorflow', 'keras', 'tensorflow_datasets', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_functions_stay_short_and_files_readable():
    for room in ROOMS:
        for path in files(room):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= 260, f"{path} has {text.count(chr(10))} lines: split it by concept"
