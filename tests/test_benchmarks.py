"""The benchmarks' command lines; what they measure is never a test."""

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import evidence
from zoo.errors import BadInput


def test_an_unknown_benchmark_is_refused_before_anything_is_measured():
    with pytest.raises(BadInput, match=r"NAME must be one of digits, mlp.*, got 'nonsense'"):
        benchmarks.main(["digits", "nonsense"])


def test_a_run_that_is_not_there_cannot_be_kept(tmp_path):
    with pytest.raises(BadInput, match=r"config\.json"):
        evidence.main([str(tmp_path)])


def test_the_price_of_stock_layers_is_that_of_keras_own():
    import keras

    import zoo
    from benchmarks import price

    network = zoo.build("mlp", (28, 28, 1), 10, price.PLACEMENTS["mlp"], seed=1, hidden=(8,))
    again = price.stock(network)
    assert type(again.get_layer("drop_hidden_1")) is keras.layers.Dropout
    for a, b in zip(network.get_weights(), again.get_weights(), strict=True):
        assert (a == b).all()


def test_the_picture_of_prices_is_drawn_of_whatever_was_measured(tmp_path):
    from benchmarks import figure

    row = {"model": "mlp", "layers": "ours", "xla": False, "ratio": 1.05, "low": 1.0, "high": 1.1}
    figure.draw({}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    figure.draw({"price": {"rows": [row, {**row, "layers": "stock", "ratio": 16.0}]}}, tmp_path / "price.png")
    assert (tmp_path / "price.png").read_bytes()[:4] == b"\x89PNG"


def test_the_recorded_grid_is_whole_and_a_replay_reads_it(monkeypatch):
    import importlib.util

    import numpy as np

    from benchmarks import regret
    from tuning.space import Space

    space = Space.parse(regret.TUNE)
    grid = regret.recorded(space)
    assert len(grid) == space.size
    assert {tuple(run["seed"] for run in runs) for runs in grid.values()} == {tuple(range(1000, 1005))}
    trials = regret.replayed("random", grid, space, 7)
    assert len({trial.key for trial in trials}) == len(trials) == max(regret.AFTER)
    for trial in trials:
        assert trial.score[0] == pytest.approx(grid[trial.key[0]][7 % 5]["val_error"])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    result = regret.regret(4, ("random", "optuna:gp"))
    assert "optuna:gp, which needs torch" in result["left_out"]
    (row,) = result["rows"]
    # Random picks lie between the best combination and the mean of all.
    everywhere = np.mean([np.mean(list(regret._judged(grid, seed).values())) for seed in range(4)])
    assert 0 <= row["after_20"] < everywhere
    assert 0 <= row["after_10"] < everywhere
    skipped = regret.stopping(4)
    assert 0 < skipped["executions_run"] < 1
    assert skipped["trials_stopped"] > 0
