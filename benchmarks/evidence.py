"""Keeps what a finished run showed: its model, its configuration, and a row of `saved_models/results.csv`.

python -m benchmarks.evidence RUN_DIR...      runs of `python -m trainers train`
python -m benchmarks.evidence --bag-of-words  logistic regression on glue/sst2, beside them
"""

import shutil
import sys
from pathlib import Path

from trainers.folder import Table, read_csv, read_json
from trainers.plan import Plan
from trainers.train import default_name
from zoo.command import Parser, run
from zoo.errors import BadInput

SHELF = Path(__file__).parent.parent / "saved_models"
COLUMNS = (
    "name", "model", "dataset", "placement", "seed", "parameters", "train_examples", "epochs", "best_epoch",
    "val_error", "test_error", "test_loss", "test_ece", "test_part", "seconds", "command",
)  # fmt: skip


def keep(folder):
    """Copy `model.keras` and `config.json` of the run in `folder` to its shelf; its row."""
    folder = Path(folder)
    config, metrics, plan = read_json(folder / "config.json"), read_json(folder / "metrics.json"), Plan.read(folder)
    if metrics is None:
        raise BadInput(f"received {folder}, whose run is not finished; go on with --resume first")
    name = default_name(plan)
    (SHELF / name).mkdir(parents=True, exist_ok=True)
    for file in ("model.keras", "config.json", "vocabulary.txt"):
        if (folder / file).exists():
            shutil.copyfile(folder / file, SHELF / name / file)
    about = config["data"]["about"]
    return {
        **metrics,
        "name": name,
        "model": plan.model,
        "dataset": plan.data.dataset,
        "placement": str(plan.placement),
        "seed": plan.seed,
        "train_examples": config["data"]["sizes"]["train"],
        "test_part": about["test_part"],
        "command": f"{plan.command()} --threads {config['threads']}",
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
    """Keep what was named, in the place of earlier rows of the same name."""
    parser = Parser(prog="python -m benchmarks.evidence", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="RUN_DIR")
    parser.add_argument("--bag-of-words", action="store_true")
    arguments = parser.parse_args(argv)
    rows = [keep(folder) for folder in arguments.runs] + ([bag_of_words()] if arguments.bag_of_words else [])
    table = Table(SHELF / "results.csv", COLUMNS)
    before = read_csv(table.path) if table.path.exists() else []
    kept = {row["name"]: row for row in [*before, *rows]}
    table.start([kept[name] for name in sorted(kept)])


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
