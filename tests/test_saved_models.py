"""What ships: every artefact does what its card says, and its row of figures is its card's."""

import re
from pathlib import Path

import numpy as np
import pytest

import zoo
from benchmarks.evidence import row
from zoo.__main__ import main
from zoo.artefacts import contract, probe
from zoo.artefacts.runtimes import RUNTIMES
from zoo.artefacts.verify import verify
from zoo.models import catalogue
from zoo.reading import read_csv
from zoo.reliability import calibration

SHELF = Path(__file__).parent.parent / "saved_models"
ARTEFACTS = sorted(path.parent for path in SHELF.glob("*/card.json"))
ALL = list(RUNTIMES)


def test_the_shelf_holds_the_four_architectures_with_and_without_dropout():
    formats = {folder.name: list(contract.read(folder)["formats"]) for folder in ARTEFACTS}
    for model in catalogue.CONFIGS:
        assert formats[f"{model}-digits-none"] == formats[f"{model}-digits-default"] == ALL
    for name in ("cnn-fashion_mnist-default", "resnet-fashion_mnist-none", "transformer-fashion_mnist-custom"):
        assert formats[name] == ["keras", "onnx"]
    assert formats["mlp-fashion_mnist-custom"] == formats["cnn-fashion_mnist-none"] == ["keras"]
    assert formats["transformer-glue-sst2-custom"] == ALL


def test_the_shelf_is_small_and_holds_nothing_half_made():
    assert sum(path.stat().st_size for path in SHELF.rglob("*") if path.is_file()) < 40e6
    assert sorted(SHELF.iterdir()) == sorted([*ARTEFACTS, SHELF / "results.csv"])


def test_the_table_is_what_the_cards_say():
    rows = {r["name"]: r for r in read_csv(SHELF / "results.csv")}
    assert set(rows) >= {folder.name for folder in ARTEFACTS}
    for folder in ARTEFACTS:
        for key, value in row(contract.read(folder)).items():
            stated = rows[folder.name][key]
            assert stated == (pytest.approx(value) if isinstance(value, float) else value), (folder.name, key)


@pytest.mark.parametrize("folder", ARTEFACTS, ids=lambda folder: folder.name)
def test_every_artefact_predicts_calibrated_probabilities_and_sets_in_each_mode(folder):
    artefact, x = zoo.load(folder), probe.read(folder)["x"]
    for mode in {"inference", "mc"} & set(artefact.modes):
        options = {"mode": mode, "samples": 2, "seed": 1} if mode == "mc" else {}
        actual = artefact.predict(x, **options, calibrated=True, coverage=0.9)
        plain = artefact.predict(x, **options)
        np.testing.assert_array_equal(actual.classes, plain.classes)
        assert actual.temperature != 1
        assert actual.sets.any()
        fitted = artefact.card["calibration"]["modes"][mode]
        assert fitted["loss_scaled"] <= fitted["loss"] + 0.02


def test_a_calibration_is_that_of_the_files_on_the_data_that_the_card_names():
    artefact, digits = zoo.load(SHELF / "mlp-digits-default"), zoo.data.load("digits")
    log_p = np.log(artefact.predict(digits.val.x).probabilities)
    fitted = artefact.card["calibration"]["modes"]["inference"]
    assert fitted["temperature"] == pytest.approx(calibration.temperature(log_p, digits.val.y), rel=1e-3)
    error = 100 * np.mean(artefact.predict(digits.test.x).classes != digits.test.y)
    assert error == pytest.approx(artefact.card["metrics"]["test_error"]["value"])


def test_no_file_names_a_folder_of_the_machine_that_made_it():
    for path in (path for folder in ARTEFACTS for path in folder.rglob("*") if path.suffix in (".json", ".md", "")):
        if path.is_file():
            assert not re.search(r"/(work|tmp|home|root|mnt|Users)/", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("folder", ARTEFACTS, ids=lambda folder: folder.name)
def test_an_artefact_does_what_its_card_says(folder):
    failed = [check for check in verify(folder) if not check.ok]
    assert not failed


def test_verify_finds_a_shipped_artefact_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "mlp-digits-none"]) == 0
    assert "checks passed" in capsys.readouterr().out
