"""The Python functions of `trainers`: signatures, aliases, result objects, folders of another kind, --from."""

import dataclasses
import inspect
import json

import keras
import pytest
from matplotlib.figure import Figure

import trainers
import tuning
import zoo
from trainers.plan import Data, Plan
from trainers.training.folder import KINDS
from trainers.training.train import run
from zoo.errors import BadInput

SMALL = {"set": {"hidden": 24}, "train_size": 200, "epochs": 2, "quiet": True}
OF_A_COMPARISON = {"placement", "drop", "seed", "from_", "callbacks"}  # what an arm or `seeds` replaces


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trainers.train(out=tmp_path_factory.mktemp("api") / "run", drop="hidden=0.3", **SMALL)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("api") / "out"
    return trainers.compare(model=["mlp"], arm={"a": {}, "b": {"hidden": 0.4}}, seeds=2, workers=1, out=out, **SMALL)


# === Signatures ===


@pytest.mark.parametrize("function", [trainers.train, trainers.compare])
def test_every_option_is_a_keyword_with_a_type_and_a_sentence(function):
    parameters = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    fields = {f.name for kind in (trainers.Recipe, Data) for f in dataclasses.fields(kind)}
    assert fields <= set(parameters)
    for name, parameter in parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
    assert not [name for name in parameters if f"    {name}: " not in function.__doc__]


def test_compare_takes_the_options_of_train():
    train, compare = (set(inspect.signature(f).parameters) for f in (trainers.train, trainers.compare))
    assert train - compare == OF_A_COMPARISON


def test_the_command_and_the_function_have_the_same_options():
    from trainers import options
    from zoo.cli import Parser

    for function, adds in (
        (trainers.train, (options.add_placement_options, options.add_from_option, options.add_run_options)),
        (trainers.compare, (options.add_compare_options,)),
    ):
        parser = Parser(prog="x")
        for add in adds:
            add(parser)
        names = {action.dest for action in parser._actions} - {"help", "json"}
        assert names <= set(inspect.signature(function).parameters)


@pytest.mark.parametrize("function", [trainers.train, trainers.compare, tuning.search, zoo.data.load])
def test_what_can_be_switched_on_is_off_unless_asked_for(function):
    switches = {
        name: p.default for name, p in inspect.signature(function).parameters.items() if type(p.default) is bool
    }
    assert switches["download"] is False
    assert not any(switches.values())


@pytest.mark.parametrize(
    ("function", "both"),
    [
        (trainers.train, {"set": "hidden=8", "settings": {"hidden": "8"}}),
        (trainers.compare, {"set": "hidden=8", "settings": {"hidden": "8"}}),
        (trainers.compare, {"model": "mlp", "models": ["mlp"]}),
        (trainers.compare, {"arm": "none", "arms": ["none"]}),
    ],
)
def test_an_option_and_its_alias_together_are_refused(function, both):
    name, other = both
    with pytest.raises(BadInput, match=f"{name} and its alias {other}"):
        function(**both)


def test_repeatable_options_take_a_value_or_a_list(tmp_path, monkeypatch):
    from trainers.comparison.compare import _candidates, _listed

    assert _listed("mlp") == _listed(("mlp",)) == ["mlp"]
    assert _candidates("epochs=2/3") == _candidates(["epochs=2/3"]) == _candidates({"epochs": (2, 3)})
    assert Plan.make(drop="hidden=0.3") == Plan.make(drop=["hidden=0.3"]) == Plan.make(drop={"hidden": 0.3})


# === Results ===


def test_a_run_is_a_dictionary_with_a_model_a_history_and_curves(trained):
    metrics = json.loads((trained.folder / "metrics.json").read_text())
    assert dict(trained) == {**metrics, "folder": str(trained.folder)}
    assert f"{metrics['test_error']:.2f} %" in repr(trained)
    assert repr(trained).count("\n") == 0
    assert isinstance(trained.model, keras.Model)
    assert len(trained.figure().axes) == 2
    assert json.loads(trained.to_json()) == trained


def test_the_tables_of_a_run_are_data_frames(trained):
    assert list(trained.history["epoch"]) == [1, 2]
    assert trained.table()["test_error"].item() == trained["test_error"]
    assert "<img" in trained._repr_html_()


def test_a_comparison_is_a_dictionary_with_placements_and_a_picture(compared):
    summary = json.loads((compared.folder / "summary.json").read_text())
    assert {key: compared[key] for key in summary} == summary
    assert compared.placements == {"a": "no dropout", "b": "hidden=0.4"}
    assert isinstance(compared.figure(), Figure)
    assert "b (hidden=0.4)" in repr(compared)
    assert json.loads(compared.to_json()) == compared


def test_the_tables_of_a_comparison_are_data_frames(compared):
    table = compared.table()
    assert list(table["arm"]) == ["a", "b"]
    assert list(table["placement"]) == ["no dropout", "hidden=0.4"]
    assert list(table["n"]) == [2, 2]
    assert table["difference"][1] == pytest.approx(table["test_error"][1] - table["test_error"][0], abs=1e-6)
    assert table["low"].isna().all(), "two seeds are too few for an interval"
    assert len(compared.runs) == 4
    assert len(compared.history) == 8
    assert "<table" in compared._repr_html_()


# === Folders ===


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_another_kind_cannot_be_resumed(kind, tmp_path):
    calls = {"run": trainers.train, "comparison": trainers.compare, "search": tuning.search}
    (tmp_path / KINDS[kind]).write_text("{}")
    for other in calls.keys() - {kind}:
        with pytest.raises(BadInput, match=f"must be the folder of a {other} .*holds a {kind}"):
            calls[other](out=tmp_path, resume=True, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == [KINDS[kind]]


def test_the_data_folder_is_recorded_if_there_is_one_and_does_not_matter_to_a_resumed_run(tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    plan = Plan.make(set=None, settings={"hidden": 8}, train_size=100, epochs=2)
    config = tmp_path / "run" / "config.json"
    (tmp_path / "run").mkdir()
    run(plan, tmp_path / "run", quiet=True, until=1)
    without = json.loads(config.read_text())
    assert "data_dir" not in without
    monkeypatch.chdir(tmp_path)
    trainers.train(out=tmp_path / "run", resume=True, data_dir="sets", quiet=True)
    config = json.loads(config.read_text())
    assert config.pop("data_dir") == str(tmp_path / "sets")
    assert config == without


# === --from ===


@pytest.fixture
def best(tmp_path):
    path = tmp_path / "best.json"
    sites = {"scaling": "inverted", "sites": {"hidden": {"rate": 0.2, "kind": "gaussian"}}}
    path.write_text(json.dumps({**sites, "recipe": {"learning_rate": 0.003, "weight_decay": 0.01}}))
    return str(path)


def test_from_takes_placement_and_recipe_of_a_search_and_other_options_win(best):
    plan = Plan.make(from_=best)
    assert str(plan.placement) == "hidden=0.2:gaussian"
    assert (plan.recipe.learning_rate, plan.recipe.weight_decay, plan.recipe.epochs) == (0.003, 0.01, 50)
    assert Plan.make(from_=best, learning_rate=0.1).recipe.learning_rate == 0.1
    assert Plan.make(from_=best, placement="none").placement.sites == {}
    assert str(Plan.make(from_=best, drop="input=0.1").placement) == "input=0.1,hidden=0.2:gaussian"


def test_a_placement_file_gives_its_placement_alone_and_says_so(best, tmp_path, monkeypatch, capsys):
    from trainers.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main(["train", "--placement", best, "--set", "hidden=8", "--train-size", "100", "--epochs", "1"]) is None
    assert f"only the placement of {best}, not its learning_rate, weight_decay" in capsys.readouterr().err
    config = json.loads(next(tmp_path.glob("runs/*/config.json")).read_text())
    assert config["recipe"]["learning_rate"] == 0.001


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("{", "it is not JSON"),
        ('{"sites": {}, "recipe": 3}', "recipe must be a JSON object"),
        ('{"sites": {}, "recipe": {"rate": 3}}', "recipe field must be one of"),
        ('{"sites": {}, "recipe": {"epochs": 0}}', "epochs must be an integer >= 1"),
    ],
)
def test_a_damaged_file_is_refused(contents, message, best):
    with open(best, "w", encoding="utf-8") as file:
        file.write(contents)
    with pytest.raises(BadInput, match=message):
        Plan.make(from_=best)
