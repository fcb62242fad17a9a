"""A few test examples on an artefact's card: what it was tested on, and what it answered."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo import files, metrics
from zoo.data.images import displayed

PICTURE = "examples.png"
SHOWN = 12
_PER_ROW, _DPI = 6, 100
_LONGEST = {"text": 120, "label": 18}  # characters


def texts(ids: np.ndarray, vocabulary: Sequence[str]) -> np.ndarray:
    """Returns token ids `(n, length)` as texts `(n,)`, without padding.

    Examples:
        >>> texts(np.array([[2, 3, 0]]), ["", "[UNK]", "a", "film"]).tolist()
        ['a film']
    """
    return np.array([" ".join(vocabulary[i] for i in row if i) for row in ids])


def rows(
    y: np.ndarray, logits: np.ndarray, labels: Sequence[str], given: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Returns a row per example: its `label`, the class `predicted`, its `probability`, and of a text its `text`.

    Args:
        y: classes `(n,)`.
        logits: `(n, classes)` in inference.
        labels: names of the classes.
        given: the texts, for a text model.

    Examples:
        >>> rows([1], np.array([[0.0, 0.0]]), ["bad", "good"])
        [{'label': 'good', 'predicted': 'bad', 'probability': 0.5}]
    """
    result = []
    for i, (truth, probabilities) in enumerate(zip(y, metrics.softmax(logits), strict=True)):
        best = int(probabilities.argmax())
        row = {"label": labels[truth], "predicted": labels[best], "probability": float(probabilities[best])}
        result.append(row if given is None else row | {"text": _short(str(given[i]), "text")})
    return result


def draw(images: np.ndarray, examples: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Writes a picture of the examples, each under its label and its prediction; wrong ones are orange.

    Args:
        images: uint8 `(n, height, width, channels)`.
        examples: their `rows`.
        path: the PNG file to write.
    """
    from matplotlib.figure import Figure

    height = -(-len(examples) // _PER_ROW)
    figure = Figure(figsize=(1.35 * _PER_ROW, 1.7 * height), layout="constrained")
    axes = figure.subplots(height, _PER_ROW, squeeze=False).flat
    for ax in axes:
        ax.axis("off")
    for ax, image, row in zip(figure.axes, images, examples, strict=False):
        ax.imshow(displayed(image), cmap="gray", vmin=0, vmax=255)
        right = row["label"] == row["predicted"]
        second = f"{100 * row['probability']:.0f} %" if right else f"not {_short(row['predicted'], 'label')}"
        title = f"{_short(row['label'], 'label')}\n{second}"
        ax.set_title(title, fontsize=8, color="black" if right else "#D55E00", parse_math=False)
    with files.replacing(Path(path)) as unfinished:
        figure.savefig(unfinished, format="png", dpi=_DPI)


def _short(text, kind):
    longest = _LONGEST[kind]
    return text if len(text) <= longest else text[: longest - 1] + "…"
