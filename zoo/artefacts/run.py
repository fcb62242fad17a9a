"""A finished run folder, read: what an artefact is made from."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from zoo import catalogue
from zoo.errors import BadInput
from zoo.placement import Placement

MEASURED = ("test_error", "test_loss", "test_ece")


@dataclass(frozen=True, eq=False)
class Run:
    """`config` and `metrics` of the run in `folder`; `peers` are the metrics of the same run with other seeds."""

    folder: Path
    config: dict
    metrics: dict
    peers: tuple

    @property
    def placement(self):
        return Placement.from_json(self.config["placement"])

    @property
    def vocabulary(self):
        """The tokens of a run over text, None for images."""
        from zoo.text import load_vocabulary

        path = self.folder / "vocabulary.txt"
        return load_vocabulary(path) if path.exists() else None

    @property
    def name(self):
        """`<model>-<dataset>-<placement>`."""
        config, tokens = self.config, (self.folder / "vocabulary.txt").exists()
        settings = catalogue.configure(config["model"], config["settings"])
        return catalogue.name_of(config["model"], config["data"]["dataset"], self.placement, tokens, settings)

    def summary(self):
        """Each measure of the test part: this run's, and over all its seeds mean, sd and 95 % interval.

        The interval of the mean is Student's. For the error there is also Wilson's
        interval of what a test part of this size leaves open, in per cent.
        """
        from scipy import stats

        found, runs = {}, (self.metrics, *self.peers)
        for key in MEASURED:
            values = [run[key] for run in runs]
            found[key] = {"value": self.metrics[key], "seeds": len(values)}
            if len(values) > 1:
                mean = math.fsum(values) / len(values)
                sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
                half = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
                found[key] |= {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}
        size = self.config["data"]["sizes"]["test"]
        wrong = round(self.metrics["test_error"] * size / 100)
        interval = stats.binomtest(wrong, size).proportion_ci(method="wilson")
        found["test_error"] |= {
            "test_examples": size,
            "wilson_low": 100 * interval.low,
            "wilson_high": 100 * interval.high,
        }
        return found


def read(folder):
    """The run in `folder`. Raises `BadInput` if there is none, or it is not finished."""
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise BadInput(f"received {folder}, which is no run folder (it has no config.json); give one of trainers train")
    config, metrics = _json(folder / "config.json"), _json(folder / "metrics.json", missing=None)
    if metrics is None or not (folder / "model.keras").exists():
        raise BadInput(
            f"received {folder}, whose run is not finished; go on with python -m trainers train --resume --out {folder}"
        )
    try:
        run = Run(folder, config, metrics, tuple(_peers(folder, config)))
        run.name, run.summary()
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"received {folder}, whose config.json or metrics.json lacks {error}; train it again") from error
    return run


def _peers(folder, config):
    """Metrics of finished runs beside `folder` that differ from it in their seed alone, as `compare` lays them out."""
    if not folder.name.startswith("seed-"):
        return
    for other in sorted(folder.parent.glob("seed-*")):
        metrics = _json(other / "metrics.json", missing=None)
        if (
            other != folder
            and metrics is not None
            and _without_seed(_json(other / "config.json")) == _without_seed(config)
        ):
            yield metrics


def _without_seed(config):
    return {key: config.get(key) for key in ("model", "settings", "placement", "data", "recipe")}


def _json(path, **default):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if "missing" in default:
            return default["missing"]
        raise BadInput(f"there is no {path}; give a finished run folder") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {path} ({error}); train the run again") from error
