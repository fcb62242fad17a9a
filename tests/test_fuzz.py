"""A sample of `make fuzz`: bad command lines, damaged files and wrong arguments end with one message."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
import cases
import judge
import world

COUNT = 100


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The good files, without a comparison and a search, which take long to make."""
    folder = tmp_path_factory.mktemp("fuzz") / "world"
    world.build(folder, sweeps=False)
    return folder


def quick(case):
    """Whether a case needs no comparison or search, and trains nothing long."""
    return not any(word in case.name for word in ("comparison", "search", "text", "words", "import-idx", "export"))


def test_a_hundred_bad_inputs_end_with_one_message_each(good, tmp_path):
    drawn = [case for case in cases.draw(2 * COUNT, seed=1) if quick(case)][:COUNT]
    assert len(drawn) == COUNT
    outcomes = [judge.in_process(case, good, tmp_path / "case") for case in drawn]
    assert not [(outcome.name, outcome.wrong) for outcome in outcomes if outcome.wrong]
    assert sum(outcome.code == 2 for outcome in outcomes) > COUNT / 2


def test_a_bad_input_ends_a_process_with_one_message(good, tmp_path):
    case = cases.Case("a path of no user", "command", ("zoo", "verify", "~nobody/x"))
    outcome = judge.as_process(case, good, tmp_path / "case", base=2**30)
    assert (outcome.code, outcome.wrong) == (2, "")
    assert "~nobody" in outcome.message


def test_one_seed_draws_the_same_cases():
    names = [case.name for case in cases.draw(200, seed=3)]
    assert names == [case.name for case in cases.draw(200, seed=3)]
    assert names != [case.name for case in cases.draw(200, seed=4)]
    assert {case.kind for case in cases.draw(200, seed=3)} == {"command", "file", "call"}


def test_a_traceback_a_second_message_and_another_code_are_wrong():
    case = cases.Case("x", "command")
    assert not judge._wrong(case, 2, "error: x must be y, got z\n")
    assert judge._wrong(case, 2, "error: x must be y, got z\nerror: again and again\n")
    assert judge._wrong(case, 2, "Traceback (most recent call last)\nerror: x must be y\n")
    assert judge._wrong(case, 1, "failed: x\n")
