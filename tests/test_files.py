"""A table that grows on the disk: when its rows are there, and that none is lost or written twice."""

import csv

import pytest

from zoo import files
from zoo.errors import CannotWrite

ROWS = [{"epoch": epoch, "loss": 1 / epoch, "more": "left out"} for epoch in range(1, 5)]


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    return now


def epochs(path):
    with open(path, newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def test_without_patience_each_row_is_in_the_file_at_once(tmp_path):
    table = files.Table(tmp_path / "table.csv", ("epoch", "loss"))
    table.start(ROWS[:1])
    for row in ROWS[1:]:
        table.append(row)
        assert epochs(table.path)[-1] == row["epoch"]
    assert table.path.read_text().splitlines()[:3] == ["epoch,loss", "1,1", "2,0.5"]


def test_with_patience_the_first_row_is_written_at_once_and_the_others_together(tmp_path, clock):
    table = files.Table(tmp_path / "table.csv", ("epoch", "loss"), patience=0.5)
    table.start()
    written = []
    for row, clock[0] in zip(ROWS, (100.0, 100.4, 100.5, 100.9), strict=True):
        table.append(row)
        written.append(epochs(table.path))
    assert written == [[1], [1], [1, 2, 3], [1, 2, 3]]
    table.close()
    table.close()
    assert epochs(table.path) == [1, 2, 3, 4]


def test_what_cannot_be_written_is_said_once(tmp_path):
    table = files.Table(tmp_path / "gone" / "table.csv", ("epoch", "loss"))
    with pytest.raises(CannotWrite, match=r"cannot write .*table\.csv: No such file"):
        table.append(ROWS[0])
    table.close()
