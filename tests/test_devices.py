"""Several devices that share each batch, here parts of the CPU, and other precisions."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import trainers
from trainers.parallel.jobs import loaded
from trainers.plan import Plan
from trainers.training.devices import Devices
from trainers.training.engines import Engines
from trainers.training.prediction import BATCH, Predictor
from trainers.training.train import run
from zoo import data, runs, startup
from zoo.dropout.layers import Dropout
from zoo.errors import BadInput
from zoo.reading import read_csv

TWO = Devices(2)
SHORT = {"epochs": 2, "train_size": 100, "batch_size": 32}
MLP = {"model": "mlp", "settings": {"hidden": (12,)}, **SHORT}
# 97 examples leave one for the last batch, which only one of the devices gets.
RESNET = {"model": "resnet", "settings": {"filters": (2,), "blocks": (1,)}, **SHORT, "train_size": 97}


def trained(folder, engines=None, until=None, **options):
    """The rows of the history, the variables, and the metrics, of a run."""
    folder.mkdir(exist_ok=True, parents=True)
    metrics = run(Plan.make(**options), folder, quiet=True, load=loaded, engines=engines, until=until)
    rows = [{k: v for k, v in row.items() if "seconds" not in k} for row in read_csv(folder / runs.HISTORY)]
    with np.load(folder / runs.CHECKPOINT) as state:
        return rows, {name: state[name] for name in state.files if name != "meta"}, metrics


def losses(rows):
    return [row[key] for row in rows for key in ("train_loss", "val_loss")]


@pytest.mark.parametrize(
    "recipe",
    [
        {"optimizer": "sgd", "label_smoothing": 0.1},
        {"optimizer": "adam", "weight_decay": 0.01, "max_norm": 1.0},
        {"optimizer": "lion", "learning_rate": 1e-4},
        {"optimizer": "adam", "jit_compile": True},
    ],
    ids=str,
)
def test_two_devices_train_as_one_does(tmp_path, recipe):
    one, two = (trained(tmp_path / str(n), **MLP, **recipe, placement="none", devices=n) for n in (1, 2))
    np.testing.assert_allclose(losses(one[0]), losses(two[0]), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_each_device_draws_masks_of_its_own(dtype):
    with TWO.scope():
        layer = Dropout(0.5, seed=1, dtype=dtype)
    x = tf.ones((64, 64), dtype)
    first, second = tf.function(lambda: TWO.on_each(lambda number: layer(x, training=True)))()
    dropped = [np.asarray(mask) == 0 for mask in (first, second)]
    # Independent masks agree at half of 4,096 places, give or take five standard errors.
    assert abs(np.mean(dropped[0] == dropped[1]) - 0.5) < 5 * 0.5 / 64
    assert all(abs(mask.mean() - 0.5) < 5 * 0.5 / 64 for mask in dropped)


def test_a_run_on_two_devices_goes_on_exactly(tmp_path):
    options = {**RESNET, "drop": ["conv=0.2"], "drop_schedule": "late", "augment": True, "devices": 2}
    whole = trained(tmp_path / "whole", **options)
    trained(tmp_path / "cut", until=1, **options)
    again = trained(tmp_path / "cut", **options)
    assert again[0] == whole[0]
    assert again[1].keys() == whole[1].keys()
    assert all(np.array_equal(again[1][name], whole[1][name]) for name in whole[1])
    assert np.isfinite(losses(whole[0])).all()


def test_runs_on_two_devices_share_an_engine(tmp_path):
    options, engines = {**MLP, "drop": ["hidden=0.5"], "devices": 2}, Engines()
    trained(tmp_path / "first", engines, **options)
    other = options | {"seed": 5, "drop": ["hidden=0.1"], "learning_rate": 0.0037}
    shared, own = trained(tmp_path / "shared", engines, **other), trained(tmp_path / "own", **other)
    assert engines.made == 1
    assert shared[0] == own[0]
    assert all(np.array_equal(shared[1][name], own[1][name]) for name in own[1])


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_the_shares_of_a_batch_are_all_of_it_once(size):
    x, y = tf.range(10 * size, 10 * size + size), tf.range(size)
    three = [Devices.share(DevicesOf(3), number, x, y) for number in range(3)]
    counted = [place for _, places, own in three for place in places[: int(own)].numpy()]
    assert counted == list(range(size))
    assert all(len(places) >= 1 and np.array_equal(rows, places + 10 * size) for rows, places, _ in three)
    assert np.ptp([int(own) for *_, own in three]) <= 1


class DevicesOf:
    def __init__(self, count):
        self.count = count


def test_moving_statistics_are_the_mean_of_the_devices():
    with TWO.scope():
        layer = keras.layers.BatchNormalization(momentum=0.0)
        layer.build((None, 1))
    x = tf.constant([[2.0], [6.0]])
    tf.function(lambda: TWO.on_each(lambda number, x: layer(x[number : number + 1], training=True), x))()
    TWO.average(layer.non_trainable_variables)
    assert layer.moving_mean.numpy() == [4.0]


@pytest.mark.parametrize("size", [1, BATCH, BATCH + 1, 3 * BATCH + 5])
def test_two_devices_evaluate_as_one_does(size):
    with TWO.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    rows = data.Part(np.random.default_rng(0).normal(size=(size, 4)).astype("float32"), np.zeros(size, "int32"))
    dataset = data.Dataset("rows", "table", (4,), 3, ("a", "b", "c"), rows, rows, rows, None, False, {})
    one, two = (Predictor(model, dataset, one_or_two).logits(rows) for one_or_two in (Devices(1), TWO))
    assert np.array_equal(one, two)


def test_more_devices_than_there_are_must_be_chosen_at_the_start(monkeypatch):
    with pytest.raises(BadInput, match="--devices must be 1 once TensorFlow has begun to compute on the CPU, got 5"):
        startup.use_devices(5)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu 0", "gpu 1"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, grows: None)
    startup.use_devices(2)
    with pytest.raises(BadInput, match="--devices must be at most 2, the GPUs that are here, got 3"):
        startup.use_devices(3)
    assert startup.devices() == 2
    assert Plan.make(devices="all").recipe.devices == 2


@pytest.mark.parametrize("model", ["transformer", "users_text:small"])
def test_data_that_tensorflow_reads_do_not_come_before_the_devices(tmp_path, model):
    """In a new process, whose devices are not chosen yet: texts are read by TensorFlow."""
    (tmp_path / "users_text.py").write_text(
        "import keras\n\ndef small(input_shape, classes):\n"
        "    x = keras.Input(input_shape)\n"
        "    y = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(8000, 2)(x))\n"
        "    return keras.Model(x, keras.layers.Dense(classes)(y))\n"
    )
    rows = [f"{word} film {number},{word}" for number in range(60) for word in ("good", "bad")]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]))
    words = f"--model {model} --dataset texts.csv --length 8 --epochs 1 --devices 2 --placement none --out out"
    if model == "transformer":
        words += " --set width=8 --set heads=2 --set depth=1 --set ffn=8"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    command = [sys.executable, "-m", "trainers", "train", *words.split()]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert runs.read_config(tmp_path / "out")["recipe"]["devices"] == 2


def test_the_number_of_devices_is_checked():
    for wrong in (0, "many", 1.5):
        with pytest.raises(BadInput, match="devices must be"):
            Plan.make(devices=wrong)


# === Precision ===


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_what_a_run_in_16_bits_keeps_computes_in_float32(tmp_path, dtype):
    options = {**MLP, "epochs": 8, "learning_rate": 0.01, "drop": ["hidden=0.2"], "dtype": dtype}
    rows, variables, metrics = trained(tmp_path / "run", **options)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] - 0.2
    model = keras.models.load_model(tmp_path / "run" / runs.MODEL)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    test = loaded("digits", train_size=100).test
    right = np.argmax(model.predict(test.x.astype("float32"), verbose=0), -1) == test.y
    assert metrics["test_error"] == pytest.approx(100 * (1 - right.mean()))
    same = trained(tmp_path / "same", **options | {"dtype": "float32"})
    assert not all(np.array_equal(same[1].get(name), variables[name]) for name in variables)


def test_a_model_whose_layers_have_their_own_type_is_refused(tmp_path):
    x = keras.Input((8, 8, 1))
    y = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(x))
    keras.Model(x, keras.layers.Dense(10, dtype="float32")(y)).save(tmp_path / "mine.keras")
    options = {"model": tmp_path / "mine.keras", "placement": "none", "quiet": True, **SHORT}
    with pytest.raises(BadInput, match=r"dtype must be float32 for mine-\w+, whose layers have data types"):
        trainers.train(out=tmp_path / "out", dtype="mixed_bfloat16", **options)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_run_in_16_bits_goes_on_exactly(tmp_path):
    options = {**MLP, "drop": ["hidden=0.2"], "dtype": "mixed_float16"}
    whole = trained(tmp_path / "whole", **options)
    trained(tmp_path / "cut", until=1, **options)
    again = trained(tmp_path / "cut", **options)
    assert again[0] == whole[0]
    assert all(np.array_equal(again[1][name], whole[1][name]) for name in whole[1])
