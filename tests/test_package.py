"""The project as a package: a wheel, installed beside its dependencies, used from another folder."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = ("train", "compare", "data", "claims", "search", "cluster", "importance")
COMMANDS += ("list", "sites", "place", "audit", "export", "predict", "modes", "uncertainty", "verify")
USER = {Requirement(text).name.lower(): Requirement(text) for text in PROJECT["dependencies"]}
DEVELOPER = {Requirement(text).name.lower(): Requirement(text) for text in PROJECT["optional-dependencies"]["dev"]}
SEARCH = {Requirement(text).name.lower(): Requirement(text) for text in PROJECT["optional-dependencies"]["optuna"]}
PINS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] not in "# "
)


def run(*command, cwd, **options):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, **options
    )


# === A wheel ===


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder to work in, and the programs of an environment that has the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    tracked = run("git", "ls-files", "-z", cwd=ROOT, check=True).stdout.split("\0")
    for name in tracked:
        if name.split("/")[0] in ("zoo", "trainers", "tuning") or name in ("pyproject.toml", "README.md", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    build = (*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    answer = run(*build, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder, check=True)
    programs = folder / "venv" / "bin"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(programs / "python", "-c", code, cwd=folder, check=True).stdout.strip())
    # The dependencies are those of this environment, behind the environment's own packages.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (wheel,) = folder.glob("*.whl")
    answer = run(*pip, "--python", programs / "python", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    work = folder / "work"
    work.mkdir()
    return work, programs


def test_the_packages_are_those_of_the_wheel(installed):
    work, programs = installed
    code = "import zoo, trainers, tuning; print(zoo.__file__, trainers.__file__, tuning.__file__, zoo.load, sep='\\n')"
    lines = run(programs / "python", "-c", code, cwd=work, check=True).stdout.splitlines()
    assert all(line.startswith(str(programs.parent)) for line in lines[:3]), lines


def test_every_command_answers_help_without_tensorflow(installed):
    work, programs = installed
    listed = run(programs / "dropout-zoo", "--help", cwd=work, check=True).stdout
    assert set(re.findall(r"^    ([a-z]+)\b", listed, re.MULTILINE)) == set(COMMANDS)
    code = "import sys; sys.argv[0] = 'dropout-zoo'\nfrom tuning.dropout_zoo import main\n"
    code += "try: main()\nfinally: print('tensorflow' in sys.modules, 'keras' in sys.modules, file=sys.stderr)"
    for command in COMMANDS:
        answer = run(programs / "python", "-c", code, command, "--help", cwd=work)
        assert answer.returncode == 0
        assert answer.stdout.startswith(f"usage: dropout-zoo {command}")
        assert answer.stderr == "False False\n"


def test_a_run_becomes_a_report_and_an_artefact_far_from_any_checkout(installed):
    work, programs = installed
    zoo = programs / "dropout-zoo"
    small = ("--set", "hidden=8", "--train-size", "100", "--epochs", "1")
    for command in (
        ("list",),
        ("compare", "--seeds", "2", "--workers", "1", "--out", "compared", *small),
        ("search", "--tune", "hidden=0/0.5", "--workers", "2", "--out", "searched", *small),
        ("export", "compared/runs/mlp/default/seed-0", "--name", "mine", "--formats", "keras,onnx", "--out", "shelf"),
        ("verify", "shelf/mine"),
    ):
        answer = run(zoo, *command, cwd=work)
        assert answer.returncode == 0, (command, answer.stderr)
        assert "warning" not in answer.stderr.lower(), answer.stderr
    assert (work / "compared" / "report.html").read_text().startswith("<!doctype html>")
    assert "# mine" in (work / "shelf" / "mine" / "README.md").read_text()
    assert json.loads((work / "shelf" / "mine" / "card.json").read_text())["export"]["commit"] is None
    answer = run(zoo, "verify", "cnn-digits-default", cwd=work)
    assert answer.returncode == 2
    assert "there is no artefact 'cnn-digits-default'" in answer.stderr


# === What is stated ===


def test_the_metadata_names_the_licence():
    assert PROJECT["license"] == "Apache-2.0"
    licence = (ROOT / "LICENSE").read_text()
    assert "SPDX-License-Identifier: Apache-2.0" in licence
    assert "https://www.apache.org/licenses/LICENSE-2.0" in licence
    assert f"version: {PROJECT['version']}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_dependency_has_an_upper_bound():
    extras = [Requirement(text) for texts in PROJECT["optional-dependencies"].values() for text in texts]
    for requirement in (*USER.values(), *extras):
        assert any(bound.operator in ("<", "==", "~=") for bound in requirement.specifier), str(requirement)


def test_what_serves_is_what_the_tests_use():
    for text in PROJECT["optional-dependencies"]["serve"]:
        requirement = Requirement(text)
        assert str(DEVELOPER[requirement.name.lower()]) == str(requirement)


def test_the_pinned_versions_are_within_the_bounds_and_cover_them():
    pins = {name.lower().replace("_", "-"): version for name, version in PINS.items()}
    for name, requirement in (USER | DEVELOPER).items():
        assert pins[name.replace("_", "-")] in requirement.specifier, name


def test_requirements_install_the_project_with_what_checks_it():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == ["--editable .[dev]"]
    assert "pytest" in DEVELOPER


# Imported only where it is there already: in a notebook.
OPTIONAL = {"IPython"}


def imports(*rooms):
    """The modules of others that files of ours import, anywhere in them."""
    import ast

    ours = {"zoo", "trainers", "tuning", "benchmarks", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    names = set()
    for path in (path for room in rooms for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - ours - OPTIONAL


@pytest.mark.parametrize(
    ("rooms", "declared"),
    [(("zoo", "trainers", "tuning"), USER | SEARCH), (("tests",), USER | DEVELOPER)],
    ids=["user", "tests"],
)
def test_whatever_is_imported_is_declared(rooms, declared):
    distributions = metadata.packages_distributions()
    known = {name.replace("_", "-") for name in declared}
    for module in imports(*rooms):
        owners = {owner.lower().replace("_", "-") for owner in distributions.get(module, [])}
        assert owners & known, f"{module} is imported and not declared"
