"""What every test file may use: TensorFlow started in silence, and small networks of every architecture."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from zoo import startup

startup.tensorflow(threads=1)  # the other core has tests of its own to run

startup.use_devices(2)  # for the tests of several devices; TensorFlow cannot be cut later

import zoo  # noqa: E402 - TensorFlow first, or its start-up lines get out
from zoo import keras_graph  # noqa: E402
from zoo.models import catalogue  # noqa: E402


@pytest.fixture(autouse=True)
def fixed_seed():
    """Starts each test as in a new process, in any order: Keras draws seeds from `random` and counts layers' names."""
    random.seed(0)
    np.random.seed(0)
    keras_graph.restart_names()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Keeps decoded data sets of the tests, and of the processes that they start, out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DROPOUT_ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items):
    """What needs trained networks runs in one process, so that each is trained and exported once."""
    for item in items:
        if {"runs", "artefacts"} & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group("trained"))


@dataclasses.dataclass(frozen=True)
class Small:
    """A network small enough to build by the dozen: `transformer` comes over patches and over tokens."""

    name: str
    model: str
    input_shape: tuple
    settings: dict
    vocabulary: int | None = None

    def build(self, placement=None, seed=3, **changes):
        settings = {**self.settings, **changes}
        return zoo.build(self.model, self.input_shape, 5, placement, seed, self.vocabulary, **settings)

    def sites(self):
        return catalogue.configure(self.model, self.settings).sites(self.vocabulary is not None)

    def batch(self, n=32, seed=0):
        rng = np.random.default_rng(seed)
        if self.vocabulary:
            tokens = rng.integers(1, self.vocabulary, (n, *self.input_shape)).astype("int32")
            tokens[::2, -3:] = 0  # padding at the end of every second text
            return tokens
        return rng.integers(0, 256, (n, *self.input_shape)).astype("uint8")


_ENCODER = {"width": 16, "heads": 2, "depth": 2, "ffn": 24}
_SITES = ("embedding", "attention", "attention_out", "ffn_hidden", "ffn_out")
SMALL = {
    small.name: small
    for small in (
        Small("mlp", "mlp", (8, 8, 1), {"hidden": (16, 12)}),
        Small("cnn", "cnn", (8, 8, 3), {"filters": (4, 6), "convolutions": 2, "hidden": (16,)}),
        Small("resnet", "resnet", (8, 8, 3), {"filters": (4, 6), "blocks": (1, 2)}),
        Small("transformer", "transformer", (8, 8, 1), {"patch": 4, **_ENCODER}),
        Small("tokens", "transformer", (12,), _ENCODER, vocabulary=30),
    )
}


@pytest.fixture(params=SMALL)
def small(request):
    """Each architecture in turn."""
    return SMALL[request.param]


ROOT = Path(__file__).parent.parent
# Networks that are trained for an epoch and exported once: every site kind, and what each runtime finds hard.
SHELF_MODELS = {
    "mlp": ({"hidden": (24, 16)}, ["hidden=0.5"]),
    "cnn": ({"filters": (4, 8), "hidden": (16,)}, ["conv=0.1:spatial", "hidden=0.5", "features=0.2:gaussian"]),
    "resnet": ({"filters": (4, 8), "blocks": (1, 1)}, ["conv=0.2", "branch=0.3:drop_path", "features=0.1"]),
    "transformer": ({"patch": 4, **_ENCODER}, [f"{site}=0.1" for site in _SITES]),
}


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A run folder of every architecture on digits, two epochs."""
    from trainers.training.train import train

    folder = tmp_path_factory.mktemp("runs")
    for model, (settings, drop) in SHELF_MODELS.items():
        train(model=model, settings=settings, drop=drop, epochs=2, out=folder / model, seed=3, quiet=True)
    return {model: folder / model for model in SHELF_MODELS}


@pytest.fixture(scope="session")
def artefacts(runs, tmp_path_factory):
    """An artefact of every architecture, in all formats."""
    from zoo.artefacts.export import export

    shelf = tmp_path_factory.mktemp("shelf")
    return {model: export(folder, name=model, out=shelf) for model, folder in runs.items()}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with small TFDS sets of several kinds."""
    from prepared_sets import write_all

    folder = tmp_path_factory.mktemp("tfds")
    write_all(folder)
    return folder
