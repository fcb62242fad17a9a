"""Writes glue/sst2 as a table whose validation part holds whole sentences that were not trained on.

python -m benchmarks.sentences FILE.csv        writes it
python -m benchmarks.sentences --overlap       how many texts of a part cut at random are in other texts; baselines

The training part of SST-2 holds the phrases of its sentences, too: a part cut from it at random for validation consists
of texts that other training texts contain word for word. The test part, GLUE's validation split, does not.
"""

import csv
import random
import sys
from pathlib import Path

from zoo.cli import Parser
from zoo.cli import run as command

SHARE, SEED = 0.2, 0  # of the sentences that are held out for validation
SHORTEST = 5  # words of a text that counts as a sentence


def spans(words: list[str]) -> set[str]:
    """Returns all runs of words, joined by spaces.

    Examples:
        >>> sorted(spans(["a", "good", "film"]))
        ['a', 'a good', 'a good film', 'film', 'good', 'good film']
    """
    return {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}


def parted(texts: list[str]) -> tuple[list[int], list[int]]:
    """Returns the indices of the texts for training and of those for validation.

    A sentence is a text that no other one contains. Some are held out. Other texts are for training if they are part
    of a sentence that is not held out; the rest is left out.

    Examples:
        >>> parted(["a film", "a good film that nobody has seen yet", "nobody has seen"])
        ([0, 1, 2], [])
    """
    known: set[str] = set()
    sentences = []
    for index in sorted(range(len(texts)), key=lambda index: -len(texts[index].split())):
        text = " ".join(texts[index].split())
        if text not in known:
            sentences.append(index)
            known |= spans(text.split())
    whole = sorted(index for index in sentences if len(texts[index].split()) >= SHORTEST)
    held_out = set(random.Random(SEED).sample(whole, int(SHARE * len(whole))))
    trained: set[str] = set()
    for index in sentences:
        if index not in held_out:
            trained |= spans(texts[index].split())
    return [i for i, text in enumerate(texts) if " ".join(text.split()) in trained], sorted(held_out)


def write(path: str | Path) -> dict[str, int]:
    """Writes the table: columns `sentence`, `label` and `split`. Returns the sizes of the parts."""
    import tensorflow_datasets as tfds

    parts = tfds.as_numpy(tfds.load("glue/sst2", split=["train", "validation"], batch_size=-1, download=False))
    (texts, labels), (test, test_labels) = (([s.decode() for s in p["sentence"]], p["label"]) for p in parts)
    train, val = parted(texts)
    rows = [(texts[i], labels[i], "train") for i in train] + [(texts[i], labels[i], "val") for i in val]
    rows += [(text, label, "test") for text, label in zip(test, test_labels, strict=True)]
    names = ("negative", "positive")
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("sentence", "label", "split"))
        writer.writerows((text.strip(), names[label], split) for text, label, split in rows)
    return {"train": len(train), "val": len(val), "test": len(test)}


def overlap() -> dict[str, dict[str, float]]:
    """Returns, for validation and test, which per cent of the texts other texts contain, and the baseline's errors.

    `contained` is of the parts that `zoo.data.load("glue/sst2")` cuts at random, with the training texts; `random` and
    `sentences` are the errors, in per cent, of a bag of words that is trained on these parts and on those of `write`.
    """
    import tensorflow_datasets as tfds

    from benchmarks.evidence import bag
    from zoo import data

    cut = data.load("glue/sst2")
    train = {" ".join(map(str, row[row > 0])) for row in cut.train.x}
    joined = "|".join(f" {text} " for text in train)
    measured: dict[str, dict[str, float]] = {"val": {}, "test": {}}
    for part, errors in measured.items():
        texts = [" ".join(map(str, row[row > 0])) for row in getattr(cut, part).x[:872]]
        errors["contained"] = 100 * sum(f" {text} " in joined for text in texts) / len(texts)
    parts = tfds.as_numpy(tfds.load("glue/sst2", split=["train", "validation"], batch_size=-1, download=False))
    (texts, labels), (test, test_labels) = (([s.decode() for s in p["sentence"]], p["label"]) for p in parts)
    shuffled = random.Random(SEED).sample(range(len(texts)), len(texts))
    tenth = len(texts) // 10
    for name, (chosen, held_out) in {
        "random": (shuffled[tenth:], shuffled[:tenth]),
        "sentences": parted(texts),
    }.items():
        model = bag().fit([texts[i] for i in chosen], labels[chosen])
        measured["val"][name] = 100 * (1 - model.score([texts[i] for i in held_out], labels[held_out]))
        measured["test"][name] = 100 * (1 - model.score(test, test_labels))
    return measured


def main(argv: list[str] | None = None) -> None:
    """Writes the table and prints the sizes of its parts, or what `overlap` measures."""
    parser = Parser(prog="python -m benchmarks.sentences", description=__doc__.splitlines()[0])
    parser.add_argument("path", metavar="FILE.csv", type=Path, nargs="?", help="the file to write")
    parser.add_argument("--overlap", action="store_true", help="measure how the random parts overlap, and baselines")
    arguments = parser.parse_args(argv)
    if arguments.overlap:
        for part, errors in overlap().items():
            print(f"{part}: " + ", ".join(f"{name} {value:.2f} %" for name, value in errors.items()))
    elif arguments.path:
        print(", ".join(f"{part} {size:,}" for part, size in write(arguments.path).items()))
    else:
        parser.error("give FILE.csv, or --overlap")


if __name__ == "__main__":
    command(lambda: main(sys.argv[1:]))
