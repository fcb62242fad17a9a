"""Tables of numbers: read, scaled by the training part, trained, exported and predicted."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_wine

import trainers
import zoo
from trainers.plan import Plan
from trainers.training.train import run as train_plan
from zoo import data
from zoo.__main__ import main
from zoo.artefacts import contract, export, verify
from zoo.artefacts.runtimes.keras import read_keras
from zoo.errors import BadInput
from zoo.models import rows

COLUMNS = ("length", "width", "odd name, with a comma")


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    """A table of 178 rows as a CSV file, with a feature that never varies, and names as labels."""
    path = tmp_path_factory.mktemp("table") / "wine.csv"
    bunch = load_wine(as_frame=True)
    frame = bunch.frame.assign(constant=3.5, target=bunch.target_names[bunch.target])
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(wine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return trainers.train(dataset=str(wine), epochs=4, set={"hidden": 32}, out=folder, quiet=True)


@pytest.fixture(scope="module")
def artefact(run, tmp_path_factory):
    return export.export(run.folder, out=tmp_path_factory.mktemp("shelf"))


def written(path, values, header=(*COLUMNS, "label")):
    lines = [",".join(f'"{cell}"' for cell in row) for row in (header, *values)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def numbers(count=40):
    return [(i, i / 8, -i * 1e3, "even" if i % 2 == 0 else "odd") for i in range(count)]


def test_a_table_has_its_columns_in_their_order(tmp_path):
    dataset = data.load(written(tmp_path / "a.csv", numbers()))
    assert (dataset.kind, dataset.input_shape, dataset.labels) == ("table", (3,), ("even", "odd"))
    assert dataset.about["columns"] == list(COLUMNS)
    assert dataset.train.x.dtype == np.float32
    first = dataset.train.x[:, 0]
    np.testing.assert_array_equal(dataset.train.x, np.stack([first, first / 8, first * -1e3], axis=1))
    np.testing.assert_array_equal(dataset.train.y, first.astype(int) % 2)


def test_csv_jsonl_and_npz_give_the_same_table(tmp_path):
    values = numbers()
    from_csv = data.load(written(tmp_path / "a.csv", values))
    lines = [json.dumps(dict(zip((*COLUMNS, "label"), row, strict=True))) for row in values]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    from_jsonl = data.load(str(tmp_path / "a.jsonl"))
    np.testing.assert_array_equal(from_csv.test.x, from_jsonl.test.x)
    x, y = np.array([row[:3] for row in values]), np.array([row[3] for row in values])
    np.savez(tmp_path / "a.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    from_npz = data.load(str(tmp_path / "a.npz"))
    assert (from_npz.kind, from_npz.input_shape) == ("table", (3,))
    np.testing.assert_array_equal(from_npz.test.x, x[30:].astype(np.float32))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1, "", 2, "odd"), r"value in column 'width' of each row, got none in 1 rows, the first in row 3"),
        ((1, "tall", 2, "odd"), r"must hold numbers, got 'tall' in row 3 of 'width'.*--text-column"),
        ((1, "nan", 2, "odd"), r"must hold numbers, got 'nan' in row 3 of 'width'"),
        ((1, "1e39", 2, "odd"), r"finite numbers, got 1e\+39 in row 2, feature 1"),
        ((1, "inf", 2, "odd"), r"finite numbers, got inf"),
    ],
)
def test_cells_that_are_not_finite_numbers_are_refused_by_place(tmp_path, row, message):
    values = numbers()
    values[2] = row
    with pytest.raises(BadInput, match=message):
        data.load(written(tmp_path / "a.csv", values))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_arrays_with_missing_values_are_refused(tmp_path, value):
    x = np.ones((20, 3))
    x[4, 2] = value
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(20) % 2, x_test=x[:4], y_test=np.arange(4) % 2)
    with pytest.raises(BadInput, match=r"x_train .* finite numbers, got (nan|inf) in row 4, feature 2"):
        data.load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("option", [{"image_size": 8}, {"value_range": "0:1"}])
def test_options_for_images_are_refused_for_tables(wine, option):
    with pytest.raises(BadInput, match="holds rows of numbers"):
        data.load(str(wine), label_column="target", **option)


@pytest.mark.parametrize(("option", "message"), [({"model": "cnn"}, "use --model mlp"), ({"augment": True}, "augment")])
def test_what_needs_images_is_refused_before_training(wine, tmp_path, option, message):
    with pytest.raises(BadInput, match=message):
        trainers.train(dataset=str(wine), epochs=1, out=tmp_path / "run", quiet=True, **option)
    assert not (tmp_path / "run").exists()


def test_features_have_mean_0_and_variance_1_on_the_training_part(wine):
    x = data.load(str(wine)).train.x
    model = rows.standardise(zoo.build("mlp", x.shape[1:], 3, hidden=(4,)), x)
    scaled = np.asarray(model.get_layer(rows.LAYER)(x))
    varies = x.std(axis=0) > 0
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0)[varies], 1, atol=1e-4)
    constant = ~varies
    assert constant.sum() == 1
    np.testing.assert_allclose(np.asarray(model.get_layer(rows.LAYER)(x + 1))[:, constant], 1, rtol=1e-6)


def test_a_model_trained_on_a_table_scales_by_the_training_part(run, wine):
    layer, x = run.model.get_layer(rows.LAYER), data.load(str(wine)).train.x
    np.testing.assert_allclose(np.ravel(layer.mean), x.mean(axis=0, dtype=np.float64), rtol=1e-6)


def test_a_run_over_a_table_resumes_to_the_same_weights(wine, run, tmp_path):
    plan = Plan.make(dataset=str(wine), epochs=4, settings={"hidden": 32})
    train_plan(plan, tmp_path, quiet=True, until=2)
    train_plan(plan, tmp_path, quiet=True)
    again = read_keras(tmp_path / "model.keras")
    for one, other in zip(run.model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_runtimes_predict_rows_alike_and_the_artefact_verifies(artefact, wine):
    x = data.load(str(wine)).test.x
    expected = zoo.load(artefact, runtime="keras").predict(x, mode="mc", samples=2, seed=3)
    for runtime in ("savedmodel", "onnx", "litert"):
        got = zoo.load(artefact, runtime=runtime).predict(x, mode="mc", samples=2, seed=3)
        np.testing.assert_allclose(got.logits, expected.logits, atol=1e-4, rtol=1e-5)
    assert all(check.ok for check in verify.verify(artefact))
    assert contract.read(artefact)["input"]["columns"][-1] == "constant"


def test_predict_reads_the_columns_of_the_model_in_any_order(artefact, wine, tmp_path, capsys):
    import pandas

    frame = pandas.read_csv(wine)
    frame[frame.columns[::-1]].head(3).to_csv(tmp_path / "turned.csv", index=False)
    columns = contract.read(artefact)["input"]["columns"]
    np.save(tmp_path / "array.npy", frame[columns].head(3).to_numpy())
    probabilities = []
    for file in ("turned.csv", "array.npy"):
        assert main(["predict", str(artefact), str(tmp_path / file), "--json"]) is None
        answer = json.loads(capsys.readouterr().out)
        probabilities.append([row["probabilities"] for row in answer["predictions"]])
    np.testing.assert_allclose(probabilities[0], probabilities[1], atol=1e-6)
    frame.drop(columns="ash").to_csv(tmp_path / "lacking.csv", index=False)
    with pytest.raises(BadInput, match="none called 'ash'"):
        main(["predict", str(artefact), str(tmp_path / "lacking.csv")])


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 14, 1), (0, 14)])
def test_rows_of_another_shape_are_refused(artefact, shape):
    with pytest.raises(BadInput, match=r"shape \(n, 14\)"):
        zoo.load(artefact).predict(np.zeros(shape))


def test_another_placement_keeps_the_scaling(run, wine):
    x = data.load(str(wine)).test.x
    placed = zoo.place(run.model, {"input": 0.1, "hidden": 0.3})
    np.testing.assert_array_equal(placed(x), run.model(x))
