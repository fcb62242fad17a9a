"""When a run stops, which epoch it keeps and reports, and that a stopped run stays stopped."""

import json

import keras
import numpy as np
import pytest

from trainers.plan import Plan
from trainers.training import loop
from trainers.training.train import run
from zoo.errors import BadInput, RunFailed

ERRORS = [50, 40, 30, 35, 30, 36, 20, 10, 5, 4]  # per cent, by epoch; the third is the best until the seventh
OPTIONS = {"model": "mlp", "settings": {"hidden": "8"}, "train_size": 60, "epochs": 10, "learning_rate": 0.01}


class Weights(keras.callbacks.Callback):
    """Remembers the weights at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.by_epoch = {}

    def on_epoch_end(self, epoch, logs=None):
        self.by_epoch[epoch + 1] = self.model.get_weights()


@pytest.fixture
def scripted(monkeypatch):
    """Replaces the validation error of each epoch by that of `ERRORS`, and its loss by a number."""
    trained, evaluate = loop.Engine.train_epoch, loop.Engine.evaluate

    def train_epoch(self, epoch, *rest):
        self.at = epoch
        return trained(self, epoch, *rest)

    def scores(self, part):
        figures = evaluate(self, part)
        return {**figures, "error": float(ERRORS[self.at - 1])} if part is self.dataset.val else figures

    monkeypatch.setattr(loop.Engine, "train_epoch", train_epoch)
    monkeypatch.setattr(loop.Engine, "evaluate", scores)


def trained(out, **changes):
    seen = Weights()
    out.mkdir(exist_ok=True)
    result = run(Plan.make(**{**OPTIONS, **changes}), out, quiet=True, threads=1, callbacks=[seen])
    return result, seen.by_epoch, keras.models.load_model(out / "model.keras").get_weights()


def assert_equal(a, b):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("patience", "epochs", "best"), [(1, 4, 3), (2, 5, 3), (3, 6, 3), (4, 10, 10)])
def test_a_run_stops_after_so_many_epochs_without_a_lower_error_and_keeps_the_best(
    scripted, tmp_path, patience, epochs, best
):
    result, weights, kept = trained(tmp_path / "run", early_stopping=patience)
    assert list(weights) == list(range(1, epochs + 1))
    assert (result["epochs"], result["best_epoch"], result["val_error"]) == (epochs, best, ERRORS[best - 1])
    assert_equal(kept, weights[best])


def test_without_early_stopping_the_last_epoch_is_kept_and_reported(scripted, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ERRORS", [50, 10, 30, 35])
    result, weights, kept = trained(tmp_path / "run", epochs=4)
    assert (result["epochs"], result["best_epoch"], result["val_error"]) == (4, 2, 35)
    assert_equal(kept, weights[4])


def test_a_run_that_has_stopped_trains_no_further_when_its_end_is_made_up_for(scripted, tmp_path):
    first, _, kept = trained(tmp_path / "run", early_stopping=2)
    history = (tmp_path / "run" / "history.csv").read_text()
    for name in ("metrics.json", "model.keras"):  # as if it had been killed while it wrote its result
        (tmp_path / "run" / name).unlink()
    again, more, same = trained(tmp_path / "run", early_stopping=2)
    assert not more
    assert (tmp_path / "run" / "history.csv").read_text() == history
    assert_equal(same, kept)
    for name in first.keys() - {"images_per_second", "seconds"}:  # the table of a run rounds the rest
        assert again[name] == (pytest.approx(first[name]) if isinstance(first[name], float) else first[name]), name
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["best_epoch"] == 3


def test_a_validation_loss_that_is_no_number_ends_the_run(tmp_path, monkeypatch):
    evaluate = loop.Engine.evaluate

    def broken(self, part):
        figures = evaluate(self, part)
        return {**figures, "loss": float("nan")} if part is self.dataset.val else figures

    monkeypatch.setattr(loop.Engine, "evaluate", broken)
    with pytest.raises(RunFailed, match=r"validation loss became nan in epoch 1.*--learning-rate"):
        trained(tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [{"settings": {"hidden": "9"}}, {"settings": {"hidden": "8/8"}}, {"optimizer": "sgd"}, {"augment": True}],
    ids=["width", "layers", "optimizer", "augmentation"],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes):
    out = tmp_path / "run"
    out.mkdir()
    run(Plan.make(**OPTIONS), out, quiet=True, threads=1, until=1)
    with pytest.raises(BadInput, match="the checkpoint must hold"):
        run(Plan.make(**{**OPTIONS, **changes}), out, quiet=True, threads=1)


def test_a_checkpoint_of_other_callbacks_is_refused(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    run(Plan.make(**OPTIONS), out, quiet=True, threads=1, until=1)
    with pytest.raises(BadInput, match="callbacks must be those"):
        run(Plan.make(**OPTIONS), out, quiet=True, threads=1, callbacks=[Weights()])
