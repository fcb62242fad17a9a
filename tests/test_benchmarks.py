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
