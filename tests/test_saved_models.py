"""What ships: every artefact does what its card says, and its row of figures is its card's."""

from pathlib import Path

import pytest

import zoo
from benchmarks.evidence import row
from zoo.__main__ import main
from zoo.artefacts import contract
from zoo.artefacts.runtimes import RUNTIMES
from zoo.artefacts.verify import verify
from zoo.errors import BadInput
from zoo.models import catalogue
from zoo.reading import read_csv

SHELF = Path(__file__).parent.parent / "saved_models"
ARTEFACTS = sorted(path.parent for path in SHELF.glob("*/card.json"))
ALL = list(RUNTIMES)


def test_the_shelf_holds_the_four_architectures_with_and_without_dropout():
    formats = {folder.name: list(contract.read(folder)["formats"]) for folder in ARTEFACTS}
    for model in catalogue.CONFIGS:
        assert formats[f"{model}-digits-none"] == formats[f"{model}-digits-default"] == ALL
        assert formats[f"{model}-fashion_mnist-default"] == ["keras", "onnx"]


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


def test_the_shipped_artefacts_come_without_a_calibration_and_say_so():
    """They were exported before exports fitted one; only an export of the runs, which do not ship, adds it."""
    for folder in ARTEFACTS:
        assert contract.read(folder).get("calibration") is None
        for options in ({"calibrated": True}, {"coverage": 0.9}):
            with pytest.raises(BadInput, match="export the run again"):
                zoo.load(folder).predict(None, **options)


@pytest.mark.parametrize("folder", ARTEFACTS, ids=lambda folder: folder.name)
def test_an_artefact_does_what_its_card_says(folder):
    failed = [check for check in verify(folder) if not check.ok]
    assert not failed


def test_verify_finds_a_shipped_artefact_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "mlp-digits-none"]) == 0
    assert "checks passed" in capsys.readouterr().out
