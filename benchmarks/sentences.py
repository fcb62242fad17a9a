"""Writes glue/sst2 as a table whose validation part holds whole sentences that were not trained on.

python -m benchmarks.sentences FILE.csv        writes it
python -m benchmarks.sentences --overlap       how many texts of a part cut at random are in other texts; baselines

The training part of SST-2 holds the phrases of its sentences, too: a part cut from it at random for validation consists
of texts that other training texts contain word for word. The test part, GLUE's validation split, does not.
"""

import random
import sys
from pathlib import Path

from benchmarks.evidence import bag, sst2
from zoo import data
from zoo.cli import Parser
from zoo.cli import run as command
from zoo.files import Table

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
    long = sorted(index for index in sentences if len(texts[index].split()) >= SHORTEST)
    held_out = set(random.Random(SEED).sample(long, int(SHARE * len(long))))
    trained: set[str] = set()
    for index in sentences:
        if index not in held_out:
            trained |= spans(texts[index].split())
    return [i for i, text in enumerate(texts) if " ".join(text.split()) in trained], sorted(held_out)


def write(path: str | Path) -> dict[str, int]:
    """Writes the table: columns `sentence`, `label` and `split`. Returns the sizes of the parts."""
    (texts, labels), (test, test_labels) = sst2()
    train, val = parted(texts)
    rows = [(texts[i], labels[i], "train") for i in train] + [(texts[i], labels[i], "val") for i in val]
    rows += [(text, label, "test") for text, label in zip(test, test_labels, strict=True)]
    columns, names = ("sentence", "label", "split"), ("negative", "positive")
    Table(path, columns).start(
        dict(zip(columns, (text.strip(), names[label], split), strict=True)) for text, label, split in rows
    )
    return {"train": len(train), "val": len(val), "test": len(test)}


def overlap() -> dict[str, dict[str, float]]:
    """Returns figures of the validation and the test part, in per cent.

    `contained` is the share of the first 872 texts, of the parts that `zoo.data.load("glue/sst2")` cuts at random, that
    are part of a training text. The others are errors of a bag of words: `random`, with a tenth held out at random,
    and `sentences`, trained on the parts of `write`.
    """
    (texts, labels), (test, test_labels) = sst2()
    cut = data.load("glue/sst2")
    joined = "|".join(f" {text} " for text in _tokens(cut.train))
    measured: dict[str, dict[str, float]] = {"val": {}, "test": {}}
    for part, figures in measured.items():
        some = _tokens(getattr(cut, part))[: len(test)]
        figures["contained"] = 100 * sum(f" {text} " in joined for text in some) / len(some)
    shuffled, tenth = random.Random(SEED).sample(range(len(texts)), len(texts)), len(texts) // 10
    cuts = {"random": (shuffled[tenth:], shuffled[:tenth]), "sentences": parted(texts)}
    for name, (chosen, held_out) in cuts.items():
        model = bag().fit([texts[i] for i in chosen], labels[chosen])
        measured["val"][name] = 100 * (1 - model.score([texts[i] for i in held_out], labels[held_out]))
        measured["test"][name] = 100 * (1 - model.score(test, test_labels))
    return measured


def _tokens(part):
    """Returns the token ids of each text as a text."""
    return [" ".join(map(str, row[row > 0])) for row in part.x]


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
        parser.error("FILE.csv must be given, or --overlap")


if __name__ == "__main__":
    command(lambda: main(sys.argv[1:]))
