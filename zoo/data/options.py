"""The options of `zoo.data.load` that runs and artefacts record."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo import checks, fields
from zoo.checks import MOST, shown
from zoo.data.images import RESIZES
from zoo.errors import BadInput

SMALLEST_VOCABULARY = 3  # padding, the unknown token, and one token


def value_range(name: str, value: Any) -> str:
    """Checks a range of values, `LOW:HIGH` or a pair of numbers, and returns it as text.

    Raises:
        BadInput: another form, or LOW is not below HIGH.

    Examples:
        >>> value_range("value_range", (0, 16))
        '0:16'
    """
    parts: Any = value.split(":") if isinstance(value, str) else value
    try:
        low, high = (checks.number(name, float(part)) for part in parts)
    except (TypeError, ValueError):  # BadInput is a ValueError
        low, high = 0.0, 0.0
    if not low < high:
        raise BadInput(f"{name} must be LOW:HIGH, two numbers with LOW < HIGH, as in 0:1 or 0:4095, got {shown(value)}")
    return ":".join(repr(int(part)) if part == int(part) else repr(part) for part in (low, high))


def dataset_name(name: str, value: Any) -> str:
    """Checks the name of a data set and returns it as text; the path of a folder becomes `folder:DIR`.

    Raises:
        BadInput: another type, or an empty text.

    Examples:
        >>> from pathlib import Path
        >>> dataset_name("dataset", Path("mine.npz"))
        'mine.npz'
    """
    if isinstance(value, os.PathLike):
        path = checks.path(name, value)
        return f"folder:{path}" if path.is_dir() else str(value)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{name} must be a name such as digits, or a path, got {checks.shown(value)}")
    return value


@dataclass(frozen=True)
class DataOptions:
    """The options of `zoo.data.load` that decide which examples each part holds, and in which form.

    Raises:
        BadInput: a value out of range. `BadInput` is a `ValueError`.

    Examples:
        >>> DataOptions(train_size=1000).split_seed
        0
    """

    train_size: int | None = fields.whole(
        None, "number of training examples, stratified (default: all)", maximum=MOST["examples"]
    )
    split_seed: int = fields.whole(0, "seed of the split into training and validation", minimum=0, maximum=MOST["seed"])
    image_size: int | None = fields.whole(None, "resize images to N x N pixels", maximum=MOST["image_size"])
    resize: str = fields.choice(
        "squash", f"with --image-size, for images of another shape: {', '.join(RESIZES)}", RESIZES
    )
    value_range: str | None = fields.field(
        None, "LOW:HIGH, the range of the values of images (default: 0:255)", value_range, metavar="LOW:HIGH"
    )
    vocabulary: int = fields.whole(
        8000, "for texts: number of token ids", minimum=SMALLEST_VOCABULARY, maximum=MOST["vocabulary"]
    )
    length: int = fields.whole(64, "for texts: number of tokens that are read", maximum=MOST["length"])
    text_column: str | None = fields.field(
        None, "for FILE.csv, .tsv and .jsonl: column of the texts", fields.text, metavar="COLUMN"
    )
    label_column: str | None = fields.field(
        None, "for FILE.csv, .tsv and .jsonl: column of the classes", fields.text, metavar="COLUMN"
    )

    def __post_init__(self) -> None:
        fields.check(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "DataOptions":
        """Returns the options among the entries of a mapping, such as `data` of a `config.json`."""
        known = {f.name for f in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known and value is not None})

    @property
    def limits(self) -> tuple[float, float] | None:
        """The values that become 0 and 255; None if the values stay as they are."""
        if self.value_range is None:
            return None
        low, high = map(float, self.value_range.split(":"))
        return low, high

    def to_json(self) -> dict[str, Any]:
        """Returns all options as a dictionary."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(DataOptions)}
