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
    {"dropout", "drop", "prepared"},
    {"placement", "sources", "text"},
    {"realise", "architectures", "folders", "arrays", "split"},
    {"mlp", "cnn", "resnet", "transformer", "parts"},
    {"catalogue", "data", "idx"},
    {"modes"},
    {"__main__"},
]
LIGHT = ["zoo", "zoo.catalogue", "zoo.data", "zoo.placement", "zoo.metrics", "trainers", "trainers.compare"]
LIGHT += ["trainers.train", "trainers.options", "trainers.__main__", "zoo.__main__"]


def imported(path):
    """Modules of ours that a file imports, anywhere in it, as (package, module)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split("."))
            found |= {(*base, alias.name) for alias in node.names} if len(base) == 1 else {base}
    return {(name[0], name[1] if len(name) > 1 else "") for name in found if name[0] in ROOMS}


def files(room):
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_rooms_before_them(room):
    for path in files(room):
        later = {name for name, _ in imported(path)} - set(ROOMS[: ROOMS.index(room) + 1])
        assert not later, f"{path} imports {later}"


def test_files_of_zoo_import_only_files_below_them():
    level = {name: i for i, names in enumerate(LAYERS) for name in names}
    for path in files("zoo"):
        if path.stem == "__init__":
            continue
        for _, module in imported(path):
            if module in level:
                assert level[module] <= level[path.stem], f"{path.name} imports {module}"


def test_every_file_of_zoo_has_a_place():
    names = {path.stem for path in files("zoo")} - {"__init__"}
    assert names == set().union(*LAYERS)


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
