"""`zoo.uncertainty`: every figure of each mode, what is undefined, and the picture."""

import json

import keras
import numpy as np
import pytest

import zoo
from zoo import metrics
from zoo.errors import BadInput
from zoo.reliability import assess
from zoo.reliability.selective import SHARES

RESAMPLES = 40


@pytest.fixture(scope="module")
def digits():
    return zoo.data.load("digits")


@pytest.fixture(scope="module")
def model(digits):
    keras.utils.set_random_seed(0)
    network = zoo.compile(zoo.build("mlp", (8, 8, 1), 10, {"hidden": 0.5}, hidden=(32,), seed=1))
    network.fit(digits.train.x, digits.train.y, epochs=3, verbose=0)
    return network


@pytest.fixture(scope="module")
def result(model, digits):
    noise = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), "uint8")
    foreign = {"noise": noise, "the same": digits.test.x}
    return zoo.uncertainty(model, digits, foreign, samples=6, resamples=RESAMPLES)


def test_error_loss_and_ece_are_those_of_the_network(result, model, digits):
    logits = model.predict(digits.test.x, verbose=0)
    figures = result["modes"]["inference"]
    for key, value in metrics.summary(logits, digits.test.y).items():
        assert figures[key]["value"] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("mode", ["inference", "mc"])
def test_every_figure_lies_in_its_interval_and_is_paired_in_the_difference(result, mode):
    figures = result["modes"][mode]
    for key in assess.SCALARS:
        row = figures[key]
        assert row["low"] is None or row["low"] <= row["value"] <= row["high"], key
    for key in ("error", "loss", "aurc", "set_size"):
        difference = result["modes"]["mc"][key]["value"] - result["modes"]["inference"][key]["value"]
        assert result["difference"][key]["value"] == pytest.approx(difference, abs=1e-9)


def test_the_figures_of_all_samples_are_those_of_the_mode(result):
    assert list(result["samples"]) == ["1", "2", "5", "6"]
    assert result["samples"]["6"] == result["modes"]["mc"]
    assert result["samples"]["1"]["loss"]["value"] > result["samples"]["6"]["loss"]["value"]


def test_the_rows_of_examples_give_the_figures(result, digits):
    rows = [row for row in result.examples if row["mode"] == "mc"]
    assert [row["label"] for row in rows] == digits.test.y.tolist()
    wrong = np.array([row["label"] != row["predicted"] for row in rows])
    assert 100 * wrong.mean() == pytest.approx(result["modes"]["mc"]["error"]["value"])
    inside = [str(row["label"]) in row["set"].split() for row in rows]
    assert np.mean(inside) == pytest.approx(result["modes"]["mc"]["coverage"]["value"])
    certain = np.argsort([1 - row["probability"] for row in rows], kind="stable")
    for share in SHARES:
        kept = int(np.ceil(len(rows) * (1 - share / 100) - 1e-9))
        error = 100 * wrong[certain[:kept]].mean()
        assert result["modes"]["mc"][f"error_at_{share}"]["value"] == pytest.approx(error, abs=0.5)


def test_foreign_data_have_figures_by_score_and_the_test_part_itself_is_not_noticed(result):
    by_score = result["modes"]["mc"]["ood"]["noise"]
    assert list(by_score) == ["probability", "entropy", "mutual_information", "variance"]
    assert by_score["entropy"]["auroc"]["value"] != 0.5
    for figures in result["modes"]["inference"]["ood"]["the same"].values():
        assert figures["auroc"]["value"] == pytest.approx(0.5)
    assert list(result["modes"]["inference"]["ood"]["noise"]) == ["probability", "entropy"]


def test_the_result_is_fit_for_json_and_has_a_table_a_headline_and_a_picture(result, tmp_path):
    assert json.loads(result.to_json())["examples"] == 360
    assert list(result.table()["figure"]) == list(assess.SCALARS)
    assert "inference error" in repr(result)
    result.figure().savefig(tmp_path / "a.png")


def test_a_model_without_dropout_has_no_mc_and_says_so(digits):
    plain = zoo.build("mlp", (8, 8, 1), 10, {}, hidden=(8,), seed=1)
    result = zoo.uncertainty(plain, digits, samples=2, resamples=RESAMPLES)
    assert result["modes"]["mc"] is None
    assert result["difference"] is None
    assert "no dropout" in result["notes"][0]
    result.figure()


def test_a_coverage_that_needs_more_examples_is_undefined_with_the_number(model, digits):
    result = zoo.uncertainty(model, digits, samples=1, coverage=0.999, resamples=RESAMPLES)
    figure = result["modes"]["inference"]["coverage"]
    assert figure["value"] is None
    assert "999" in figure["reason"]
    result.figure()


@pytest.mark.parametrize("change", [{"coverage": 1}, {"coverage": 0}, {"samples": 0}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(model, digits, change):
    with pytest.raises(BadInput, match=next(iter(change))):
        zoo.uncertainty(model, digits, **change)
