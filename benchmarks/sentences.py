"""Writes glue/sst2 as a table whose validation part holds whole sentences that were not trained on.

python -m benchmarks.sentences FILE.csv

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


def main(argv: list[str] | None = None) -> None:
    """Writes the table and prints the sizes of its parts."""
    parser = Parser(prog="python -m benchmarks.sentences", description=__doc__.splitlines()[0])
    parser.add_argument("path", metavar="FILE.csv", type=Path, help="the file to write")
    print(", ".join(f"{part} {size:,}" for part, size in write(parser.parse_args(argv).path).items()))


if __name__ == "__main__":
    command(lambda: main(sys.argv[1:]))
