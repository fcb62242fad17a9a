"""`python -m tuning importance`: which hyperparameters mattered, in searches whose errors are made up."""

import csv
import importlib.util
import itertools
import json

import pytest

from tuning.__main__ import main
from tuning.importance import bars, importance, lines
from tuning.request import Request
from zoo.errors import BadInput
from zoo.reading import read_csv

TUNE = ["input=0/0.1/0.2", "hidden=0:0.6:0.2", "learning_rate=0.001/0.003"]


def search(folder, error, tune=TUNE, count=None, **options):
    """A search folder whose trials are all combinations, with made-up errors."""
    request = Request.make(tune=tune, tuner=options.pop("tuner", "grid"), **options)
    folder.mkdir()
    (folder / "search.json").write_text(json.dumps(request.to_json()))
    names = list(request.space.candidates)
    rows = [dict(zip(names, values, strict=True)) for values in itertools.product(*request.space.candidates.values())]
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ("trial", "execution", *names, "val_error", "epochs", "status"))
        writer.writeheader()
        for number, values in enumerate(rows[:count]):
            common = {"trial": f"{number:04}", "execution": 0, "epochs": request.base.recipe.epochs, **values}
            writer.writerow({**common, "val_error": error(values), "status": "completed"})
    return folder


def by_hidden(values):
    """An error that only `hidden` decides, but for a little noise."""
    return 5 + 20 * abs(values["rate_hidden"] - 0.4) + 0.01 * (values["rate_input"] * 10 % 2)


def test_the_hyperparameter_that_decides_is_the_most_important(tmp_path):
    shares = importance(search(tmp_path / "s", by_hidden))
    assert next(iter(shares)) == "rate_hidden"
    assert shares["rate_hidden"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    written = read_csv(tmp_path / "s" / "importance.csv")
    assert {row["name"]: row["importance"] for row in written} == pytest.approx(shares)
    assert all((tmp_path / "s" / name).stat().st_size > 1000 for name in ("importance.png", "parallel.png"))


def test_trials_that_were_stopped_as_clearly_worse_count_with_what_ran(tmp_path):
    folder = search(tmp_path / "s", by_hidden)
    before = importance(folder)
    table = folder / "results.csv"
    lines = table.read_text().splitlines()
    worst = max(lines[1:], key=lambda line: float(line.split(",")[-3]))
    table.write_text("\n".join(lines).replace(worst, worst.replace("completed", "stopped")) + "\n")
    assert importance(folder) == before
    table.write_text("\n".join(lines).replace(worst, worst.replace("completed", "failed")) + "\n")
    assert importance(folder) != before


def test_kinds_are_names_without_an_order(tmp_path):
    tune = ["conv=0:0.2:0.1:dropout/spatial", "hidden=0:0.4:0.2"]

    def error(values):
        return 9.0 if values["kind_conv"] == "dropout" else 5.0

    shares = importance(search(tmp_path / "s", error, tune, model="cnn"))
    assert next(iter(shares)) == "kind_conv"


def test_equal_trials_have_no_importance(tmp_path):
    assert set(importance(search(tmp_path / "s", lambda values: 5.0)).values()) == {0.0}


def test_trials_that_were_stopped_or_failed_do_not_count(tmp_path):
    folder = search(tmp_path / "s", by_hidden)
    before = importance(folder)
    with open(folder / "results.csv", "a") as file:
        file.write("9998,0,0,0,0.001,0.0,1,failed\n")
    assert importance(folder) == before


def test_trials_that_hyperband_paused_do_not_count_and_those_that_stopped_early_do(tmp_path):
    folder = search(tmp_path / "s", by_hidden, tuner="hyperband", epochs=9)
    before = importance(folder)
    table = folder / "results.csv"
    text = table.read_text()
    table.write_text(text.replace("9,completed", "4,completed") + "9999,0,0,0,0.001,0.0,3,paused\n")
    assert importance(folder) == before  # with early stopping, say
    table.write_text(text + "9999,0,0,0,0.001,0.0,3,completed\n")
    assert importance(folder) == before  # as earlier versions wrote it


def test_too_few_trials_and_other_folders_are_refused(tmp_path, capsys):
    with pytest.raises(BadInput, match="at least 8"):
        importance(search(tmp_path / "s", by_hidden, count=7))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    for folder in (tmp_path / "run", tmp_path / "none"):
        with pytest.raises(BadInput):
            importance(folder)
    assert not list((tmp_path / "s").glob("*.png"))


def test_without_optuna_the_folder_is_looked_at_first(tmp_path, monkeypatch):
    folder = search(tmp_path / "s", by_hidden)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="SEARCH_DIR must be the folder of a search"):
        importance(tmp_path / "none")
    with pytest.raises(BadInput, match="pip install optuna"):
        importance(folder)
    assert not (folder / "importance.csv").exists()


def test_the_command_prints_the_shares(tmp_path, capsys):
    folder = str(search(tmp_path / "s", by_hidden))
    main(["importance", folder])
    assert capsys.readouterr().out.startswith("rate_hidden")
    main(["importance", folder, "--json"])
    assert next(iter(json.loads(capsys.readouterr().out)["importance"])) == "rate_hidden"


def test_the_pictures_name_every_hyperparameter():
    assert [text.get_text() for text in bars({"a": 0.7, "b": 0.3}).axes[0].get_yticklabels()] == ["a", "b"]
    trials = [{"a": 0.0, "val_error": 3.0}, {"a": 0.5, "val_error": 2.0}]
    (ax,) = lines(trials, {"a": (0.0, 0.5)}).axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "validation error, %"]
    assert sum(line.get_linewidth() == 3 for line in ax.lines) == 1


def test_a_folder_without_results_is_no_search_that_can_be_measured(tmp_path):
    (search(tmp_path / "s", by_hidden) / "results.csv").unlink()
    with pytest.raises(BadInput, match=r"results\.csv"):
        importance(tmp_path / "s")
