"""Fills `saved_models/`: exports finished runs to it, and writes its `results.csv` from the cards there.

python -m benchmarks.evidence RUN_DIR... [--formats keras,onnx]   runs of `python -m trainers train` or `compare`
python -m benchmarks.evidence NAME... [--formats keras,onnx]      shipped artefacts again: same files, a newer card
python -m benchmarks.evidence --bag-of-words                      adds logistic regression on glue/sst2
python -m benchmarks.evidence                                     writes the table again from the cards
"""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import data, startup
from zoo.artefacts import contract, source
from zoo.artefacts.export import export
from zoo.artefacts.locate import SHELF
from zoo.artefacts.runtimes import RUNTIMES
from zoo.cli import Parser
from zoo.cli import run as command
from zoo.files import Table
from zoo.models.catalogue import CONFIGS
from zoo.placement.placement import Placement
from zoo.reading import read_csv

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from sklearn.pipeline import Pipeline

COLUMNS = (
    "name", "model", "dataset", "placement", "formats", "seed", "parameters", "train_examples", "epochs",
    "best_epoch", "val_error", "test_error", "test_loss", "test_ece", "test_part", "seeds", "mean_test_error",
    "low", "high", "seconds", "command",
)  # fmt: skip


def keep(folder: str | Path, formats: str, data_dir: str | Path | None = None) -> None:
    """Exports the run or artefact in `folder` to `saved_models/`, and replaces the artefact of its name.

    Args:
        folder: a run folder, an artefact, or the name of a shipped one.
        formats: names of runtimes, joined by commas.
        data_dir: the folder in which TFDS keeps its data.
    """
    run = source.read(folder)
    place = SHELF / run.name
    before = place.with_name(f".{place.name}.before")
    origin = before if run.folder.resolve() == place else run.folder
    if place.exists():
        place.rename(before)
    try:
        export(origin, formats=formats, out=SHELF, data_dir=data_dir, say=lambda line: print(f"{place.name}: {line}"))
    except BaseException:
        if before.exists():
            before.rename(place)
        raise
    shutil.rmtree(before, ignore_errors=True)


def row(card: dict) -> dict:
    """Returns the row of an artefact in `results.csv`; all of it comes from its card."""
    error, training = card["metrics"]["test_error"], card["training"]
    return {
        "name": card["name"],
        "model": card["architecture"]["model"],
        "dataset": card["data"]["dataset"],
        "placement": str(Placement.from_json(card["placement"])),
        "formats": ",".join(card["formats"]),
        "seed": card["seed"],
        "parameters": card["architecture"]["parameters"],
        "train_examples": card["data"]["sizes"]["train"],
        "test_part": card["data"]["about"]["test_part"],
        **{key: card["metrics"][key]["value"] for key in ("test_error", "test_loss", "test_ece")},
        **{key: training[key] for key in ("epochs", "best_epoch", "val_error", "seconds", "command")},
        "seeds": error["seeds"],
        **{"mean_test_error": error.get("mean"), "low": error.get("low"), "high": error.get("high")},
    }


def bag() -> "Pipeline":
    """Returns an untrained logistic regression on weighted counts of words and word pairs."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), min_df=2), LogisticRegression(C=10, max_iter=1000))


def sst2() -> "Iterator[tuple[list[str], np.ndarray]]":
    """Yields the texts and the labels of glue/sst2, of its training part and of its test part (GLUE's validation)."""
    data.check_ready("glue/sst2")
    startup.tensorflow()
    import tensorflow_datasets as tfds

    for part in tfds.as_numpy(tfds.load("glue/sst2", split=["train", "validation"], batch_size=-1, download=False)):
        yield [sentence.decode() for sentence in part["sentence"]], part["label"]


def bag_of_words() -> dict:
    """Returns the row of a logistic regression on counts of words and word pairs of glue/sst2."""
    import time

    (train, train_y), (test, test_y) = sst2()
    started = time.perf_counter()
    model = bag().fit(train, train_y)
    return {
        "name": "bag-of-words-glue-sst2",
        "model": "logistic regression",
        "dataset": "glue/sst2",
        "placement": "",
        "seed": "",
        "parameters": model[-1].coef_.size + 1,
        "train_examples": len(train),
        "test_error": 100 * (1 - model.score(test, test_y)),
        "test_part": "validation",
        "seconds": time.perf_counter() - started,
        "command": "python -m benchmarks.evidence --bag-of-words",
    }


def main(argv: list[str] | None = None) -> None:
    """Exports the named runs, then writes the table: a row for each card, and the rows without a card."""
    parser = Parser(prog="python -m benchmarks.evidence", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="RUN_DIR", help="run folders or shipped names")
    parser.add_argument("--formats", metavar="NAMES", default=",".join(RUNTIMES), help="comma-separated runtimes (all)")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data (default: TFDS_DATA_DIR)")
    parser.add_argument("--bag-of-words", action="store_true", help="train the logistic regression on glue/sst2 too")
    arguments = parser.parse_args(argv)
    for folder in arguments.runs:
        keep(folder, arguments.formats, arguments.data_dir)
    table = Table(SHELF / "results.csv", COLUMNS)
    cards = {path.parent.name: row(contract.read(path.parent)) for path in SHELF.glob(f"*/{contract.NAME}")}
    others = {r["name"]: r for r in (read_csv(table.path) if table.path.exists() else []) if r["model"] not in CONFIGS}
    if arguments.bag_of_words:
        others |= {"bag-of-words-glue-sst2": bag_of_words()}
    kept = {**others, **cards}
    table.start([{key: kept[name].get(key) for key in COLUMNS} for name in sorted(kept)])


if __name__ == "__main__":
    command(lambda: main(sys.argv[1:]))
