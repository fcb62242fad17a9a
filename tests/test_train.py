"""One run: its folder, its files, its command line."""

import csv
import gc
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trainers
from trainers.plan import Plan, choose_placement
from trainers.recipe import Recipe
from trainers.training.folder import claimed
from trainers.training.optimizer import learning_rate
from zoo import data, metrics
from zoo.errors import BadInput, RunFailed
from zoo.models import catalogue
from zoo.placement.placement import Placement
from zoo.reading import read_csv

ROOT = Path(__file__).parent.parent
SMALL = {"settings": {"hidden": "24"}, "train_size": 200}


def command(*words, package="trainers", cwd=ROOT):
    """Run a command line as a user does; the finished process."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(
        [sys.executable, "-m", package, *words], cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with early stopping, through the command line, in a folder of its own."""
    folder = tmp_path_factory.mktemp("user")
    words = "train --set hidden=24 --train-size 200 --epochs 12 --early-stopping 3 --drop hidden=0.3 --out run --json"
    answer = command(*words.split(), cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return folder / "run", answer


def test_a_run_leaves_the_promised_files(run):
    folder, _ = run
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "history.csv", "metrics.json", "model.keras", "checkpoint.npz", "logs"} == names


def test_tensorboard_shows_the_curves_under_the_names_that_keras_gives_them(run):
    folder, _ = run
    rows = read_csv(folder / "history.csv")
    curves = {}
    for part in ("train", "validation"):
        events = EventAccumulator(str(folder / "logs" / part), {"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            curves[part, tag] = [tf.make_ndarray(event.tensor_proto).item() for event in events.Tensors(tag)]
    assert ("validation", "epoch_accuracy") in curves
    rate = learning_rate(Recipe(epochs=12), 24)  # 200 examples are two steps
    assert curves["train", "epoch_learning_rate"] == pytest.approx(
        [float(rate(2 * row["epoch"])) for row in rows], rel=1e-5
    )
    assert curves["validation", "epoch_loss"] == pytest.approx([row["val_loss"] for row in rows], rel=1e-6)
    assert curves["train", "epoch_loss"] == pytest.approx([row["train_loss"] for row in rows], rel=1e-6)


def test_stdout_is_one_json_object_and_stderr_only_progress(run):
    folder, answer = run
    assert json.loads(answer.stdout) == {**json.loads((folder / "metrics.json").read_text()), "folder": "run"}
    assert all(line.startswith(("epoch ", "digits: ")) for line in answer.stderr.splitlines()), answer.stderr


def test_history_has_a_row_per_epoch_under_the_fixed_columns(run):
    with open(run[0] / "history.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    fixed = "epoch,train_loss,train_error,train_loss_inference,train_error_inference,val_loss,val_error,seconds"
    assert ",".join(header).startswith(fixed)
    assert [int(row[0]) for row in rows] == list(range(1, len(rows) + 1))


def test_the_saved_model_is_that_of_the_best_epoch_and_the_metrics_are_its(run):
    folder, _ = run
    result, rows = json.loads((folder / "metrics.json").read_text()), read_csv(folder / "history.csv")
    best = min(rows, key=lambda row: row["val_error"])
    assert result["best_epoch"] == best["epoch"]
    digits = data.load("digits", train_size=200)
    model = keras.models.load_model(folder / "model.keras")
    assert metrics.error(np.asarray(model(digits.val.x)), digits.val.y) == pytest.approx(best["val_error"], abs=1e-3)
    test = metrics.summary(np.asarray(model(digits.test.x)), digits.test.y)
    for key, value in test.items():
        assert result[f"test_{key}"] == pytest.approx(value, rel=1e-4), key
    assert result["parameters"] == model.count_params()


def test_config_is_everything_needed_to_run_again(run):
    config = json.loads((run[0] / "config.json").read_text())
    plan = Plan.from_json(config)
    assert plan == Plan.make(drop=["hidden=0.3"], epochs=12, early_stopping=3, **SMALL)
    assert {"versions", "threads", "command"} <= set(config)
    assert config["data"]["sizes"] == {"train": 200, "val": 360, "test": 360}


def test_the_command_in_the_config_makes_the_same_plan():
    from trainers import options
    from zoo.cli import Parser

    plan = Plan.make(
        model="cnn", drop=["conv=0.1/0.2/0.3/0.4:spatial"], scaling="original", settings={"hidden": "64/32"},
        augment=True, max_norm=3.0, learning_rate=3e-4, train_size=500, seed=7,
    )  # fmt: skip
    parser = Parser(prog="x")
    options.add_placement_options(parser)
    options.add_run_options(parser)
    given = options.given(parser.parse_args(plan.command().split()[4:]))
    assert Plan.make(**{k: v for k, v in given.items() if k != "resume"}) == plan


def test_two_runs_of_one_seed_are_equal_and_leave_the_global_seed_alone(tmp_path):
    kept = []
    for name in ("a", "b"):
        np.random.seed(len(kept))
        trainers.train(out=tmp_path / name, epochs=2, quiet=True, **SMALL)
        kept.append(keras.models.load_model(tmp_path / name / "model.keras").get_weights())
    for a, b in zip(*kept, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_run_leaves_none_of_its_graphs_behind(jit_compile, tmp_path):
    def graphs():
        gc.collect()
        return sum(isinstance(each, tf.Graph) for each in gc.get_objects())

    counts = []
    for name in "abc":
        trainers.train(out=tmp_path / name, epochs=1, quiet=True, jit_compile=jit_compile, **SMALL)
        keras.backend.clear_session(free_memory=False)
        counts.append(graphs())
    assert counts[1] == counts[2], "the first run may leave what every other uses too"


def test_a_users_own_callback_is_driven(tmp_path):
    seen = []
    spy = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["val_loss"])))
    trainers.train(out=tmp_path / "run", epochs=2, callbacks=[spy], quiet=True, **SMALL)
    rows = read_csv(tmp_path / "run" / "history.csv")
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert [loss for _, loss in seen] == pytest.approx([row["val_loss"] for row in rows], rel=1e-5)


# === Which placement ===


def chosen(**request):
    return str(choose_placement("cnn", catalogue.configure("cnn"), **request))


def test_which_placement_the_options_mean(tmp_path):
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"sites": {"conv": 0.1}}))
    assert chosen() == "hidden=0.5"
    assert chosen(drop=["conv=0.2"]) == "conv=0.2"
    assert chosen(placement="paper2014") == "input=0.2,hidden=0.5"
    assert chosen(placement="paper2014", drop=["hidden=0.3", "conv=0.1"]) == "input=0.2,conv=0.1,hidden=0.3"
    assert chosen(placement=str(file)) == "conv=0.1"
    assert chosen(scaling="original") == "hidden=0.5,scaling=original"
    assert chosen(placement={}) == ""
    assert chosen(placement=Placement({"conv": 0.3})) == "conv=0.3"


# === Refusals ===

REFUSED = [
    (["--drop", "output=0.5"], "nothing is dropped at the output"),
    (["--drop", "conv=0.5"], "site must be one of input, hidden for mlp, got 'conv'"),
    (["--drop", "hidden=1.5"], r"rate must be in [0, 1), got 1.5"),
    (["--model", "rnn"], "model must be one of mlp, cnn, resnet, transformer, got 'rnn'"),
    (["--placement", "missing.json"], "cannot read missing.json: No such file or directory"),
    (["--placement", "defualt"], "got 'defualt'"),
    (["--epochs", "0"], "--epochs must be an integer >= 1, got 0"),
    (["--epochs", "many"], "--epochs must be an integer >= 1, got 'many'"),
    (["--learning-rate", "-1"], "--learning-rate must be a finite number > 0, got -1.0"),
    (["--optimizer", "adm"], "--optimizer must be one of adam, sgd, rmsprop, nadam, lion, got 'adm'"),
    (["--set", "hidden"], "--set must be KEY=VALUE, got 'hidden'"),
    (["--set", "depth=3"], "setting of mlp must be one of hidden, got 'depth'"),
    (["--resume"], "--out must be the folder of the run to resume"),
    (["--dataset", "no_such_set"], "no_such_set"),
    (["--dataset", "mnist"], "--download"),
    (["--train-size", "9"], "9"),
    (["--nonsense"], "unrecognized arguments: --nonsense"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_bad_input_is_refused_with_one_message_and_nothing_written(words, message, tmp_path, monkeypatch, capsys):
    from trainers.__main__ import main
    from zoo.cli import run as carry_out

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(SystemExit) as ending:
        carry_out(lambda: main(["train", *words]))
    answer = capsys.readouterr()
    assert ending.value.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert message in answer.err
    assert not list(tmp_path.rglob("config.json"))
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path.parent.name == "runs"]


def test_a_folder_that_holds_something_is_refused_without_resume(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"not empty; add --resume"):
        trainers.train(out=tmp_path, epochs=1, quiet=True)


def test_two_processes_cannot_write_into_one_folder(tmp_path):
    with (
        claimed(tmp_path / "run", resume=False),
        pytest.raises(BadInput, match="another process is writing"),
        claimed(tmp_path / "run", resume=True),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFailed, match="cannot write into"):
        trainers.train(out=tmp_path / "file" / "run", epochs=1, quiet=True)


def test_unnamed_runs_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [trainers.train(epochs=1, quiet=True, **SMALL)["folder"] for _ in range(2)]
    assert names == ["runs/mlp-digits-default", "runs/mlp-digits-default-2"]


def test_text_and_image_models_are_told_apart(tmp_path):
    np.savez(
        tmp_path / "set.npz",
        x_train=np.zeros((60, 9, 9), "uint8"), y_train=np.arange(60) % 3,
        x_test=np.zeros((9, 9, 9), "uint8"), y_test=np.arange(9) % 3,
    )  # fmt: skip
    result = trainers.train(out=tmp_path / "run", dataset=str(tmp_path / "set.npz"), epochs=1, quiet=True)
    assert result["test_error"] == pytest.approx(100 * 2 / 3, abs=0.01)


# === Help ===


@pytest.mark.parametrize("package", ["zoo", "trainers"])
def test_help_is_answered_without_tensorflow(package):
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module({package!r}, run_name='__main__')\n"
        "except SystemExit: print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "False False"


def test_list_tells_what_can_be_set_dropped_and_named():
    answer = command("list", "--json", package="zoo")
    models = {model["name"]: model for model in json.loads(answer.stdout)["models"]}
    assert set(models) == {"mlp", "cnn", "resnet", "transformer"}
    assert models["cnn"]["placements"]["default"] == "hidden=0.5"
    assert {site["name"] for site in models["resnet"]["sites"]} == {"input", "conv", "branch", "features"}
    refused = command("list", "nothing*", package="zoo")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "PATTERN must match one of mlp, cnn" in refused.stderr


def test_what_no_layer_of_keras_does_is_left_out_of_the_file_and_said(tmp_path):
    small = {"model": "cnn", "settings": {"filters": "4", "hidden": "8"}, "train_size": 100, "epochs": 1, "quiet": True}
    trainers.train(**small, drop=["conv=0.2:drop_block:3", "hidden=0.5"], out=tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["not_in_file"].startswith("model.keras lacks conv=0.2:drop_block:3")
    assert config["placement"]["sites"]["conv"] == {"rate": 0.2, "kind": "drop_block", "block_size": 3}
    code = "import keras; print([l.name for l in keras.models.load_model('model.keras').layers if 'drop' in l.name])"
    plain = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path / "run", capture_output=True, text=True)
    assert plain.stdout.strip() == "['drop_hidden_1']", plain.stderr
