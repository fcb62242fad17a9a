"""What ships: every model opens, is what its configuration says, and has a row of figures."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from trainers.folder import read_csv
from trainers.plan import Plan
from zoo import catalogue, realise

SHELF = Path(__file__).parent.parent / "saved_models"
ROWS = {row["name"]: row for row in read_csv(SHELF / "results.csv")}
FOLDERS = sorted(path.parent for path in SHELF.glob("*/config.json"))


def test_every_folder_has_a_row_and_the_shelf_is_small():
    assert FOLDERS
    assert {folder.name for folder in FOLDERS} <= set(ROWS)
    assert sum(path.stat().st_size for path in SHELF.rglob("*") if path.is_file()) < 40e6


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_model_is_what_its_configuration_and_its_row_say(folder):
    config, row = json.loads((folder / "config.json").read_text()), ROWS[folder.name]
    plan, model = Plan.from_json(config), keras.models.load_model(folder / "model.keras", safe_mode=True)
    sites = catalogue.configure(plan.model, plan.settings).sites(tokens=(folder / "vocabulary.txt").exists())
    assert realise.realised(model) == realise.planned(plan.placement, sites)
    assert row["parameters"] == model.count_params()
    assert row["command"] == f"{plan.command()} --threads {config['threads']}", "the bits depend on the threads"
    shape = config["data"]["input_shape"]
    assert np.isfinite(np.asarray(model(np.ones((2, *shape), "int32" if len(shape) == 1 else "float32")))).all()
