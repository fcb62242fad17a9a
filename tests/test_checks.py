"""Checks of values: what passes, and that a message names the value, what is allowed and what came."""

import dataclasses

import numpy as np
import pytest

from zoo import checks, cli, fields
from zoo.errors import BadInput


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_an_integer_passes_as_a_plain_one(value):
    assert type(checks.integer("n", value)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, None, float("nan"), [1]])
def test_what_is_no_integer_in_range_is_refused_by_name(value):
    with pytest.raises(BadInput) as error:
        checks.integer("epochs", value)
    assert str(error.value) == f"epochs must be an integer >= 1, got {value!r}"


def test_bounds_of_an_integer_are_said():
    with pytest.raises(BadInput, match="seed must be an integer from 0 to 9, got 10"):
        checks.integer("seed", 10, 0, 9)


@pytest.mark.parametrize(
    ("closed", "inside", "outside", "bounds"),
    [
        ("left", [0, 0.5], [1, -0.1], r"\[0, 1\)"),
        ("right", [1, 0.5], [0, 1.1], r"\(0, 1\]"),
        ("both", [0, 1], [1.01], r"\[0, 1\]"),
        ("neither", [0.5], [0, 1], r"\(0, 1\)"),
    ],
)
def test_a_number_keeps_to_its_interval(closed, inside, outside, bounds):
    for value in inside:
        assert checks.number("rate", value, 0, 1, closed) == value
    for value in (*outside, float("nan"), float("inf"), "0.5", True, None):
        with pytest.raises(BadInput, match=f"rate must be in {bounds}, got"):
            checks.number("rate", value, 0, 1, closed)


def test_a_number_without_an_upper_bound_is_finite():
    for value in (float("inf"), -1.0, 0):
        with pytest.raises(BadInput, match="x must be a finite number > 0, got"):
            checks.number("x", value, 0, closed="neither")


def test_a_name_is_one_of_those_allowed_and_the_nearest_is_suggested():
    assert checks.one_of("kind", "spatial", ("dropout", "spatial")) == "spatial"
    with pytest.raises(
        BadInput, match=r"kind must be one of dropout, spatial, got 'spatail'; did you mean 'spatial'\?"
    ):
        checks.one_of("kind", "spatail", ("dropout", "spatial"))


@dataclasses.dataclass(frozen=True)
class Settings:
    steps: int = fields.whole(5, "number of steps", minimum=2)
    most: int | None = fields.whole(None, "upper limit")
    rate: float = fields.real(0.1, "share dropped", 0, 1)
    name: str = fields.choice("a", "which", ("a", "b"))
    loud: bool = fields.field(False, "say more")
    fast: bool | None = fields.field(None, "be quick")

    def __post_init__(self):
        fields.check(self)


def test_a_dataclass_checks_itself_and_none_passes_only_where_it_is_the_default():
    assert Settings(most=None).most is None
    for wrong in ({"steps": 1}, {"steps": None}, {"most": 0}, {"rate": 1.0}, {"name": "c"}):
        with pytest.raises(BadInput, match=f"{next(iter(wrong))} must be"):
            Settings(**wrong)


def parsed(*words):
    parser = cli.Parser(prog="x")
    cli.add_options(parser, Settings)
    return {key: value for key, value in vars(parser.parse_args(words)).items() if value is not None}


def test_options_are_made_from_the_fields_and_have_no_default():
    assert parsed() == {}
    words = ("--steps", "3", "--most", "4", "--rate", "0.2", "--name", "b", "--loud", "--no-fast")
    assert parsed(*words) == {"steps": 3, "most": 4, "rate": 0.2, "name": "b", "loud": True, "fast": False}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "1"), "error: --steps must be an integer >= 2, got 1; see x --help\n"),
        (("--steps", "x"), "error: --steps must be an integer >= 2, got 'x'; see x --help\n"),
        (("--rate", "2"), "error: --rate must be in [0, 1), got 2.0; see x --help\n"),
        (("--rate", "x"), "error: --rate must be in [0, 1), got 'x'; see x --help\n"),
        (("--name", "c"), "error: --name must be one of a, b, got 'c'; see x --help\n"),
    ],
)
def test_a_bad_option_is_refused_with_one_message_and_exit_code_2(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        parsed(*words)
    assert end.value.code == 2
    assert capsys.readouterr().err == message


def test_the_commands_say_what_python_says_but_for_the_name(capsys):
    from trainers.__main__ import main
    from trainers.recipe import Recipe

    for option, value in (("epochs", 0), ("label_smoothing", 1.0), ("learning_rate", -1.0), ("optimizer", "adm")):
        with pytest.raises(BadInput) as error:
            Recipe(**{option: value})
        with pytest.raises(SystemExit):
            main(["train", f"--{option.replace('_', '-')}={value}"])
        said = capsys.readouterr().err.removeprefix("error: ").partition("; see ")[0]
        assert said == str(error.value).replace(option, f"--{option.replace('_', '-')}", 1)
