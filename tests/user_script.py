"""What a user writes, with every public name: the type checker accepts it (`make lint`)."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd

import trainers
import tuning
import zoo
from zoo import Drop, Placement, Schedule


def build_and_fit() -> keras.Model:
    """Builds, compiles and fits a network."""
    digits: zoo.data.Dataset = zoo.data.load("digits", train_size=200)
    placement = Placement({"conv": Drop(0.1, "spatial"), "hidden": 0.5}, schedule=Schedule("early", 0.3))
    model = zoo.build("cnn", input_shape=digits.input_shape, classes=digits.classes, placement=placement, seed=1)
    zoo.compile(model, optimizer="sgd")
    part = digits.train.head(100)
    model.fit(part.x, part.y, epochs=1, callbacks=[zoo.FollowSchedule()])
    return model


def look_at(model: keras.Model, x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    """Compares the modes of a network, and draws samples."""
    sample = zoo.in_mode(model, "mc")(x, seed=7)
    samples: np.ndarray = zoo.Sampler(model).samples(x, seeds=[1, 2, 3])
    print(sample.shape, samples.shape)
    trust = zoo.uncertainty(model, zoo.data.load("digits"), ood={"noise": x}, samples=5, coverage=0.9)
    print(trust.headline, len(trust.examples))
    return zoo.compare_modes(model, x, y, samples=5).table()


def change(model: keras.Model) -> list[str]:
    """Reads and changes the dropout of any network."""
    after = [row.after for row in zoo.sites(model) if row.mask is None]
    placed: keras.Model = zoo.place(model, {"hidden": 0.3}, seed=1)
    return after + [finding.reason for finding in zoo.audit(placed)]


def train_and_compare(out: Path) -> list[str]:
    """Trains, compares and searches."""
    run = trainers.train(model="mlp", drop={"hidden": 0.3}, epochs=5, out=out / "run", quiet=True)
    compared = trainers.compare(model="mlp", arm=["none", "default"], seeds=2, epochs=1, out=out / "compared")
    searched = tuning.search(tune=["hidden=0:0.4:0.2"], epochs=1, max_trials=2, out=out / "search", quiet=True)
    recipe = trainers.Recipe(epochs=3)
    return [repr(run), run.history.to_csv(), compared.to_json(), str(compared.folder), searched.headline, str(recipe)]


def predict(folder: Path, images: np.ndarray) -> float:
    """Predicts with an exported model."""
    artefact = zoo.load(folder, runtime="onnx")
    names, x = zoo.read_inputs([str(folder / "digit.png")], artefact.card, value_range=(0, 255))
    print(names, x)
    predictions = artefact.predict(images, mode="mc", samples=10, seed=1)
    return float(predictions.probabilities.max())


def refused() -> str:
    """Asks for what is refused."""
    try:
        zoo.build("mlp", (8, 8, 1), 10, {"logits": 0.5})
    except zoo.BadInput as error:
        return str(error)
    except zoo.RunFailed as error:
        return str(error)
    return ", ".join([*zoo.list_models(), str(tuning.Space.default("mlp")), tuning.HyperModel.__name__])
