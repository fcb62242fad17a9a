"""Fills `saved_models/`: exports finished runs to it, and writes its `results.csv` from the cards that stand there.

python -m benchmarks.evidence RUN_DIR... [--formats keras,onnx]   runs of `python -m trainers train` or `compare`
python -m benchmarks.evidence --bag-of-words                      logistic regression on glue/sst2, beside them
python -m benchmarks.evidence                                     the table again, from the cards alone
"""

import shutil
import sys
from pathlib import Path

from trainers.folder import Table, read_csv
from zoo.artefacts import contract, run
from zoo.artefacts.export import FORMATS, export
from zoo.catalogue import CONFIGS
from zoo.command import Parser
from zoo.command import run as command
from zoo.placement import Placement

SHELF = Path(__file__).parent.parent / "saved_models"
COLUMNS = (
    "name", "model", "dataset", "placement", "formats", "seed", "parameters", "train_examples", "epochs",
    "best_epoch", "val_error", "test_error", "test_loss", "test_ece", "test_part", "seeds", "mean_test_error",
    "low", "high", "seconds", "command",
)  # fmt: skip


def keep(folder, formats, data_dir=None):
    """Export the run in `folder` to its place on the shelf, in the place of what stood there."""
    place = SHELF / run.read(folder).name
    before = place.with_name(f".{place.name}.before")
    if place.exists():
        place.rename(before)
    try:
        export(folder, formats=formats, out=SHELF, data_dir=data_dir, say=lambda line: print(f"{place.name}: {line}"))
    except BaseException:
        if before.exists():
            before.rename(place)
        raise
    shutil.rmtree(before, ignore_errors=True)


def row(card):
    """The row of an artefact in `results.csv`, all of it from its card."""
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


def bag_of_words():
    """Test error (per cent) of a logistic regression on word and word-pair counts of glue/sst2."""
    import time

    import tensorflow_datasets as tfds
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    parts = tfds.as_numpy(tfds.load("glue/sst2", split=["train", "validation"], batch_size=-1, download=False))
    (train, train_y), (test, test_y) = (([s.decode() for s in p["sentence"]], p["label"]) for p in parts)
    begun = time.perf_counter()
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), min_df=2), LogisticRegression(C=10, max_iter=1000))
    model.fit(train, train_y)
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
        "seconds": time.perf_counter() - begun,
        "command": "python -m benchmarks.evidence --bag-of-words",
    }


def main(argv=None):
    """Keep what was named; then write the table: a row for each card, and the rows of what has none."""
    parser = Parser(prog="python -m benchmarks.evidence", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="RUN_DIR")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--bag-of-words", action="store_true")
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
