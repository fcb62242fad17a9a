"""Which runs XLA compiles, and that they train the same network."""

import json

import pytest

import trainers
import zoo
from trainers.recipe import Recipe
from trainers.training import optimizer
from trainers.training.optimizer import compiles

SMALL = {"settings": {"hidden": "24"}, "train_size": 200}


def test_a_step_compiled_by_xla_trains_the_same_network(tmp_path):
    small = {"settings": {"hidden": "16"}, "train_size": 200, "epochs": 3, "quiet": True}
    plain, compiled = (trainers.train(**small, jit_compile=jit, out=tmp_path / str(jit)) for jit in (False, True))
    # The last digits differ, and grow from step to step.
    assert compiled["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-3)
    assert compiled["val_loss"] != plain["val_loss"], "XLA sums in another order"
    for jit, option in ((True, "--jit-compile"), (False, "--no-jit-compile")):
        config = json.loads((tmp_path / str(jit) / "config.json").read_text())
        assert (option in config["command"], config["compiled"]) == (True, jit)


def test_xla_compiles_the_steps_of_long_runs_without_convolutions():
    image = (8, 8, 1)
    networks = {name: zoo.build(name, image, 10, {}) for name in ("mlp", "cnn", "resnet", "transformer")}
    chosen = {name: compiles(Recipe(), network, 5000) for name, network in networks.items()}
    assert chosen == {"mlp": True, "cnn": False, "resnet": False, "transformer": True}
    assert not compiles(Recipe(), networks["mlp"], 100), "its seconds would not come back"
    assert compiles(Recipe(jit_compile=True), networks["cnn"], 1), "whoever asks for it gets it"
    assert not compiles(Recipe(jit_compile=False), networks["mlp"], 5000)


def test_a_long_run_is_compiled_and_images_are_varied_all_the_same(tmp_path, monkeypatch):
    # What XLA cannot do, such as shifting images, stays outside of what it compiles.
    monkeypatch.setattr(optimizer, "_WORTH_COMPILING", 4)
    for epochs, compiled in ((1, False), (2, True)):
        out = tmp_path / str(epochs)
        trainers.train(out=out, epochs=epochs, augment=True, quiet=True, **SMALL)
        assert json.loads((out / "config.json").read_text())["compiled"] is compiled
