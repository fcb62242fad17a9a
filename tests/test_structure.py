"""The structure that import-linter cannot check: what is light, what is private, and that the map is right."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("zoo", "trainers", "tuning", "benchmarks")
PACKAGES = ("zoo", "zoo.data", "zoo.dropout", "zoo.models", "zoo.modes", "zoo.placement", "trainers", "tuning")
LIGHT = ["zoo", "zoo.models.catalogue", "zoo.data.dataset", "zoo.placement.placement", "zoo.metrics", "zoo.data.images"]
LIGHT += ["zoo.__main__", "zoo.runs", "zoo.artefacts.load", "zoo.artefacts.locate", "zoo.artefacts.inputs.read"]
LIGHT += ["zoo.artefacts.predictions", "zoo.artefacts.runtimes.onnx", "zoo.artefacts.runtimes.litert"]
LIGHT += ["trainers", "trainers.comparison.compare", "trainers.training.train", "trainers.options"]
LIGHT += ["trainers.parallel.jobs", "trainers.__main__", "tuning", "tuning.session", "tuning.space", "tuning.request"]
LIGHT += ["zoo.surgery.commands", "zoo.surgery.opening", "zoo.surgery.place"]
LIGHT += ["trainers.claims.verdicts", "trainers.claims.running", "trainers.claims.wording"]
LIGHT += ["tuning.service", "tuning.__main__", "tuning.dropout_zoo"]
PRIVATE = r"keras\.src|\._keras_mask|\._flatten_layers|\._call_has_training_arg|\._functional\b|seed_generator_state"
PRIVATE += r"|\._momentums|\._velocities|\._get_variable_index|\._standardize_inputs|\._nodes_by_depth|\._build_at_init"


def sources():
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def test_what_only_needs_arguments_imports_no_tensorflow():
    code = f"import sys, importlib; [importlib.import_module(m) for m in {LIGHT}]\n"
    code += "print(sorted({'tensorflow', 'keras', 'tensorflow_datasets', 'sklearn', 'matplotlib'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_one_file_knows_what_keras_keeps_private():
    users = {path.relative_to(ROOT).as_posix() for path in sources() if re.search(PRIVATE, path.read_text())}
    assert users == {"zoo/keras_graph.py"}


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_listed_are_there_and_are_no_modules(name):
    package = importlib.import_module(name)
    folder = Path(package.__file__).parent
    listed = dir(package)
    assert listed
    for public in listed:
        assert getattr(package, public) is not None
        is_package = callable(getattr(package, public)) and (folder / public).is_dir()
        hidden = is_package or (folder / f"{public}.py").exists()
        assert not hidden, f"importing {name}.{public} as a module would hide what users call"


def mapped(text):
    """The paths that the map in the README names: files after the folder that they are indented under."""
    folders, paths = {}, set()
    for line in text.split("```")[1].splitlines():
        indent = len(line) - len(line.lstrip())
        folder = re.match(r"\s*([a-z_]+/)", line)
        if folder:
            folders = {level: name for level, name in folders.items() if level < indent} | {indent: folder[1]}
            line = line[folder.end() :]
        if indent > 12 and not folder:  # a line goes on
            above = {level: name for level, name in folders.items()}
        else:
            above = {level: name for level, name in folders.items() if level < indent or folder}
        paths |= {"".join(above[level] for level in sorted(above)) + name for name in re.findall(r"\w+\.py", line)}
    return paths


def test_the_map_for_contributors_names_every_file_where_it_is():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = mapped(text[text.index("## Where everything is") :])
    exist = {path.relative_to(ROOT).as_posix() for path in sources()}
    exist = {path for path in exist if not path.endswith(("__init__.py", "__main__.py"))}
    assert named <= exist
    assert {path for path in exist if not path.startswith("benchmarks/")} <= named


def test_the_files_that_contributors_are_sent_to_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:zoo|trainers|tuning|tests)/[\w/.]+\.py)`", text))
    changes = re.findall(r"^\| (?!change|---).*\| `([^`]+)` \|$", text, re.MULTILINE)
    assert len(changes) == 10
    assert not [path for path in paths if not (ROOT / path).is_file()]
    for heading in ("model", "site", "kind of dropout", "runtime", "claim about dropout"):
        steps = text.split(f"## Add a {heading}\n")[1].split("## ")[0]
        assert re.findall(r"^(\d)\. ", steps, re.MULTILINE) == list("12345")
