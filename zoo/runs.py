"""The run folder: the names of its files, and how it is read."""

import math
from dataclasses import dataclass
from pathlib import Path

from zoo import reading
from zoo.data.options import DataOptions
from zoo.data.text import load_vocabulary
from zoo.errors import BadInput
from zoo.models import catalogue
from zoo.placement.placement import Placement
from zoo.reading import read_json
from zoo.schema import all_of, by_name, each, fields_of, nullable, numeric, real, record, require, text, whole
from zoo.surgery.network import Network

CONFIG = "config.json"  # everything needed to repeat the run
HISTORY = "history.csv"  # one row per epoch
METRICS = "metrics.json"  # written last, so a run that has it is finished
MODEL = "model.keras"
CHECKPOINT = "checkpoint.npz"
VOCABULARY = "vocabulary.txt"  # of a run on texts
LOGS = "logs"  # for TensorBoard

MEASURED = ("test_error", "test_loss", "test_ece")


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        folder: its folder.
        config: the contents of its `config.json`.
        metrics: the contents of its `metrics.json`.
        peers: the metrics of the same run with other seeds.
    """

    folder: Path
    config: dict
    metrics: dict
    peers: tuple

    @property
    def placement(self) -> Placement:
        """The placement that the run was trained with."""
        return Placement.from_json(self.config["placement"])

    @property
    def network(self) -> Network | None:
        """Whose network it trained; None for one of the four models."""
        return Network.from_json(self.config["network"]) if self.config.get("network") else None

    @property
    def label(self) -> str:
        """The name of its model: one of the four, or a slug and a hash."""
        return self.network.label if self.network else self.config["model"]

    @property
    def named(self) -> str:
        """MODEL as the user named it, without the folder of a file."""
        model = self.config["model"]
        return Path(model).name if self.network and model.endswith(".keras") else model

    @property
    def dataset(self) -> str:
        """The name of its data set."""
        return self.config["data"]["dataset"]

    @property
    def data_options(self) -> DataOptions:
        """How its data set was read and split."""
        return DataOptions.of(self.config["data"])

    @property
    def data_dir(self) -> Path | None:
        """The folder of prepared data sets that the run used, None if it is not recorded or does not exist here."""
        return data_dir(self.config)

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """The tokens of a run on texts, None for images."""
        path = self.folder / VOCABULARY
        return load_vocabulary(path) if path.exists() else None

    @property
    def name(self) -> str:
        """The default name of its artefact, `<model>-<dataset>-<placement>`."""
        if network := self.network:
            return catalogue.artefact_name(network.label, self.dataset, network.name_of(self.placement))
        config, tokens = self.config, (self.folder / VOCABULARY).exists()
        settings = catalogue.configure(config["model"], config["settings"])
        return catalogue.name_of(config["model"], self.dataset, self.placement, tokens, settings)

    def summary(self) -> dict:
        """Returns each test measure of this run, with mean, sd and 95 % interval over all its seeds.

        The interval of the mean is Student's t. The error also has Wilson's interval, in per
        cent, which reflects the size of the test part.
        """
        from scipy import stats

        figures, runs = {}, (self.metrics, *self.peers)
        for key in MEASURED:
            values = [run[key] for run in runs]
            figures[key] = {"value": self.metrics[key], "seeds": len(values)}
            if len(values) > 1:
                mean = math.fsum(values) / len(values)
                sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
                half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
                figures[key] |= {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}
        size = self.config["data"]["sizes"]["test"]
        wrong = round(self.metrics["test_error"] * size / 100)
        interval = stats.binomtest(wrong, size).proportion_ci(method="wilson")
        figures["test_error"] |= {
            "test_examples": size,
            "wilson_low": 100 * interval.low,
            "wilson_high": 100 * interval.high,
        }
        return figures


_AGAIN = "train it again"
DATA = record(
    {"dataset": text},
    {
        "input_shape": each(whole(1), 1, 3),
        "classes": whole(2),
        "labels": each(text, 2),
        "sizes": record(dict.fromkeys(("train", "val", "test"), whole(1))),
        "about": record({}),
        "fingerprint": record({}),
    },
)
_CONFIG = record(
    {"model": text, "settings": record({}), "placement": record({}), "data": all_of(DATA, fields_of(DataOptions))}
    | {"recipe": record({}), "seed": whole()},
    {"threads": whole(1), "data_dir": text, "versions": by_name(text), "command": text},
)
_FINISHED = record({"data": record({"sizes": record({"test": whole(1)})})})
_PER_CENT = real(0, 100)
_METRICS = record(
    {"test_error": _PER_CENT, "test_loss": real(), "test_ece": _PER_CENT, "best_epoch": whole(1)}
    | {"seconds": real(0), "images_per_second": real(0), "parameters": whole(1)},
    {"epochs": whole(1), "val_error": _PER_CENT, "val_loss": real(), "class_errors": each(nullable(_PER_CENT))},
)
ROW = record(
    {"epoch": whole(1), "val_loss": numeric, "val_error": numeric, "seconds": real(0), "train_seconds": real(0)},
    {"train_loss": numeric, "train_error": numeric, "test_loss": numeric, "test_error": numeric},
)


def read(folder: str | Path) -> Run:
    """Returns the finished run in `folder`.

    Raises:
        BadInput: `folder` holds no run, or one that is not finished.
    """
    folder, config = Path(folder), read_config(folder)
    check_finished(folder)
    metrics = read_metrics(folder)
    require(folder / CONFIG, config, _FINISHED, _AGAIN)
    run = Run(folder, config, metrics, tuple(_peers(folder, config)))
    with reading.refusing(folder / CONFIG, _AGAIN):
        run.name, run.summary()
    return run


def read_config(folder: str | Path) -> dict:
    """Returns the `config.json` of the run in `folder`, finished or not.

    Raises:
        BadInput: there is none, or it is damaged.
    """
    path = Path(folder) / CONFIG
    config = read_json(path, _AGAIN)
    if config is None:
        raise BadInput(f"{folder} is not a run folder: it has no {CONFIG}; give a folder of `python -m trainers train`")
    return require(path, config, _CONFIG, _AGAIN)


def read_metrics(folder: str | Path) -> dict | None:
    """Returns the `metrics.json` of the run in `folder`, None if it is not finished. Raises `BadInput` for damage."""
    path = Path(folder) / METRICS
    metrics = read_json(path, _AGAIN)
    return None if metrics is None else require(path, metrics, _METRICS, _AGAIN)


def read_history(folder: str | Path) -> list[dict]:
    """Returns the rows of the `history.csv` of the run in `folder`. Raises `BadInput` if it is damaged."""
    path = Path(folder) / HISTORY
    return require(path, reading.read_csv(path), each(ROW), _AGAIN)


def data_of(folder: str | Path, *below: str) -> dict | None:
    """Returns the entry `data` of the first run in the folders `below` a comparison or search, None if there is none.

    Examples:
        >>> data_of("runs/nothing-here", "runs") is None
        True
    """
    for name in below:
        for path in sorted((Path(folder) / name).rglob(CONFIG)):
            if isinstance(config := read_json(path), dict) and isinstance(config.get("data"), dict):
                return config["data"]
    return None


def data_dir(config: dict) -> Path | None:
    """Returns the folder of prepared data sets in a run's `config`, None if it is missing there or here."""
    folder = config.get("data_dir")
    return Path(folder) if isinstance(folder, str) and Path(folder).is_dir() else None


def check_finished(folder: str | Path) -> None:
    """Raises `BadInput` unless the run in `folder` is finished."""
    if not all((Path(folder) / name).is_file() for name in (METRICS, MODEL)):
        raise BadInput(
            f"the run in {folder} is not finished; finish it with `python -m trainers train --resume --out {folder}`"
        )


def _peers(folder, config):
    """Yields the metrics of finished runs beside `folder` that differ only in their seed, as in a comparison."""
    if not folder.name.startswith("seed-"):
        return
    for other in sorted(folder.parent.glob("seed-*")):
        if other == folder or not reading.present(other / CONFIG):
            continue
        metrics = read_metrics(other)
        if metrics and _same_but_seed(read_config(other), config):
            yield metrics


def _same_but_seed(one, other):
    marks = [config["data"].get("fingerprint") for config in (one, other)]
    return _without_seed(one) == _without_seed(other) and (None in marks or marks[0] == marks[1])


def _without_seed(config):
    compared = {key: config.get(key) for key in ("model", "settings", "placement", "data", "recipe", "network")}
    # Runs of earlier versions have no fingerprint.
    return {**compared, "data": {key: value for key, value in compared["data"].items() if key != "fingerprint"}}
