"""What a user sees of `zoo` in Python: names, signatures, docstrings and the examples in them."""

import doctest
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import zoo
from zoo import data

ROOT = Path(__file__).parent.parent
PUBLIC = "BadInput Drop FollowSchedule Placement RunFailed Sampler Schedule build compare_modes compile data in_mode "
PUBLIC += "list_models load dropout place sites audit uncertainty"
# Modules of this list have type hints and docstrings throughout.
FOLDERS = ("zoo/placement", "zoo/data", "zoo/dropout", "zoo/models", "zoo/surgery", "zoo/reliability")
FILES = "errors files checks fields results seeds metrics startup versions keras_graph cli"
MODULES = [f"zoo.{name}" for name in FILES.split()] + ["trainers.datasets"]
MODULES += [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in FOLDERS
    for path in sorted((ROOT / folder).glob("*.py"))
    if path.name != "__init__.py"
]
EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("zoo", "trainers", "tuning", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]


def functions(module):
    """The public functions and methods that a module defines, by name."""
    members = dict(vars(module))
    for name, kind in list(members.items()):
        if inspect.isclass(kind) and kind.__module__ == module.__name__ and not name.startswith("_"):
            members |= {f"{name}.{key}": value for key, value in vars(kind).items()}
    for name, member in members.items():
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        if isinstance(member, property):
            member = member.fget
        public = not name.startswith("_") and not name.rpartition(".")[2].startswith("_")
        if public and inspect.isfunction(member) and member.__module__ == module.__name__:
            yield name, inspect.unwrap(member)


def test_completion_shows_every_public_name():
    assert set(PUBLIC.split()) <= set(dir(zoo))
    assert {"load", "read_image", "Dataset", "describe"} <= set(dir(data))


@pytest.mark.parametrize(
    "function", [zoo.build, zoo.compile, data.load, data.read_image, zoo.list_models, zoo.sites, zoo.place]
)
def test_help_explains_every_argument(function):
    text = inspect.getdoc(function)
    arguments = text.split("Args:\n")[1].split("Returns:")[0]
    for name in inspect.signature(function).parameters:
        assert re.search(rf"^ +(\*\*)?{name}: \S", arguments, re.MULTILINE), name
    assert "Returns:" in text


def test_help_names_every_model_site_and_setting():
    from zoo.models.catalogue import CONFIGS, PLACEMENTS
    from zoo.models.configs import describe_fields

    text = inspect.getdoc(zoo.build)
    row = r"- `(\w+)`: (.*(?:\n +[^-\s][^:]*$)?)"
    sites, settings = (dict(re.findall(row, part, re.MULTILINE)) for part in text.split("seed: decides"))
    for model, config in CONFIGS.items():
        assert re.sub(r"\s*\(images only\)", "", " ".join(sites[model].split())).split(", ") == list(config().sites())
        defaults = ", ".join(f"{name}={getattr(config(), name)}" for name, _, _ in describe_fields(config))
        assert settings[model] == defaults
    assert all(f"`{name}`" in text for name in PLACEMENTS)


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_have_types_and_docstrings(name):
    for label, function in functions(importlib.import_module(name)):
        signature = inspect.signature(function)
        parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
        assert all(p.annotation is not p.empty for p in parameters), f"{name}.{label}"
        assert signature.return_annotation is not signature.empty, f"{name}.{label}"
        assert inspect.getdoc(function), f"{name}.{label}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write there
    module = importlib.import_module(name)
    names = {**vars(module), "zoo": zoo, "tf": sys.modules["tensorflow"]}
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed
