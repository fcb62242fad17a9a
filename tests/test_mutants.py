"""The driver of `make mutants`: what it draws, and how it counts. Its tests of mutants run only on request."""

import ast
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "mutants"))
import core
import operators
from operators import Mutant, draw, mutants

ROOT = Path(__file__).parent.parent
SOURCE = '''"""Text 1."""


def f(a: int = 3, *, b: bool = True) -> int:
    """Returns 1."""
    x = {}
    x["a"] = a + 1
    if a < 2 and not b:
        raise ValueError(f"a must be {2 - 1}")
    print(a, sep="")
    return g(a, 2, c=a * 2)
'''


@pytest.fixture
def driver(monkeypatch):
    import importlib.util

    path = ROOT / "tests" / "mutants" / "__main__.py"
    spec = importlib.util.spec_from_file_location("mutants_driver", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_operator_makes_mistakes_that_are_valid_and_different():
    made = mutants("f.py", SOURCE)
    assert {mutant.operator for mutant in made} == set(operators.OPERATORS)
    texts = [mutant.apply(SOURCE) for mutant in made]
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(SOURCE))
    changed = {(mutant.before, mutant.after) for mutant in made}
    expected = {
        ("a < 2", "(a <= 2)"),
        ("a + 1", "(a - 1)"),
        ("not b", "(b)"),
        ("3", "4"),
        ("True", "False"),
        ("return g(a, 2, c=a * 2)", "return None"),
        ('x["a"] = a + 1', "pass"),
        ("g(a, 2, c=a * 2)", "(g(a, 2))"),
        ("g(a, 2, c=a * 2)", "(g(a, c=a * 2))"),
    }
    assert expected <= changed
    assert not any("Text" in before or before == "2 - 1" for before, _ in changed)


def test_two_hundred_mutants_cover_every_operator_and_every_core_file():
    sources = {file: (ROOT / file).read_text() for file in core.FILES}
    drawn = draw(sources, 200, 0)
    assert drawn == draw(sources, 200, 0)
    assert len({mutant.key for mutant in drawn}) == 200
    assert min(Counter(mutant.operator for mutant in drawn).values()) >= 20
    assert {mutant.file for mutant in drawn} == set(core.FILES)
    for file, tests in core.FILES.items():
        assert all((ROOT / "tests" / test).is_file() for test in tests), file


def test_outcomes_are_kept_and_the_report_leaves_out_what_has_a_reason(driver, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(driver, "FILES", {"zoo/checks.py": ("test_checks.py",)})
    monkeypatch.setattr(driver, "copy_checkout", lambda target: copied(target))

    def copied(target):
        (target / "zoo").mkdir()
        (target / "zoo" / "checks.py").write_text(SOURCE)

    asked = []
    outputs = iter(["survived", "killed", "survived", "timeout", "survived"])  # the first is without a mistake
    monkeypatch.setattr(driver, "tested", lambda folder, tests, limit: (asked.append(limit), (next(outputs), 1.0))[1])
    drawn, results = mutants("zoo/checks.py", SOURCE)[:4], tmp_path / "out" / "results.jsonl"
    driver.run(drawn, results, most=3)
    results.write_text(results.read_text() + '{"key": "cut')
    driver.run(drawn[:3], results)
    assert len(asked) == 4
    assert asked[0] is None
    assert list(driver.outcomes(results).values()) == ["killed", "survived", "timeout"]
    reasons = tmp_path / "equivalent.jsonl"
    monkeypatch.setattr(driver, "EQUIVALENT", reasons)
    assert driver.report(drawn, results) == 1
    assert drawn[1].key in capsys.readouterr().out
    reasons.write_text(json.dumps({"key": drawn[1].key, "reason": "the same for every input"}))
    assert driver.report(drawn, results) == 0
    assert "3 of 4 mutants ran: 1 killed, 1 timeout, 1 survived" in capsys.readouterr().out


def test_every_equivalent_mutant_has_a_reason(driver):
    for entry in driver.read(driver.EQUIVALENT):
        assert set(entry) >= {"key", "file", "before", "after", "reason"}
        assert len(entry["reason"]) > 20


def test_a_key_changes_with_its_line_alone():
    made = mutants("f.py", SOURCE)
    moved = mutants("f.py", SOURCE.replace("    x = {}\n", "    x = {}\n    y = None\n"))
    assert [mutant.key for mutant in made] == [mutant.key for mutant in moved]
    assert isinstance(made[0], Mutant)
