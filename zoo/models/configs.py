"""What can be configured in each architecture, and the sites that it has. Imports no Keras.

Each class is the configuration of one architecture. Its method `sites(tokens)` maps each site to
the block index of every occurrence, in the order in which the builder meets them. A block is what
a ramp counts: a hidden layer, a convolution, a residual block or an encoder block.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.checks import MOST, integer, one_of, shown
from zoo.errors import BadInput
from zoo.fields import field


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron over the pixels, or the features of a table (Srivastava et al. 2014, section 6.1)."""

    hidden: tuple[int, ...] = field((512, 512), "width of each hidden layer", width=True)

    def sites(self, tokens: bool = False) -> dict[str, tuple[int, ...]]:
        """Returns the block index of every occurrence, by site."""
        return {"input": (0,), "hidden": tuple(range(len(self.hidden)))}


@dataclass(frozen=True)
class CNN:
    """Blocks of 3x3 convolutions and pooling, then a fully-connected head (Simonyan & Zisserman 2015)."""

    filters: tuple[int, ...] = field((32, 64), "filters of the convolutions of each block", width=True)
    convolutions: int = field(2, "convolutions in a block")
    hidden: tuple[int, ...] = field((256,), "width of each fully-connected layer of the head", width=True)

    def sites(self, tokens: bool = False) -> dict[str, tuple[int, ...]]:
        """Returns the block index of every occurrence, by site."""
        return {
            "input": (0,),
            "conv": tuple(range(len(self.filters) * self.convolutions)),
            "features": (0,),
            "hidden": tuple(range(len(self.hidden))),
        }


@dataclass(frozen=True)
class ResNet:
    """Residual blocks with batch normalization (He et al. 2016)."""

    filters: tuple[int, ...] = field((16, 32, 64), "filters of each stage; later stages halve the map", width=True)
    blocks: tuple[int, ...] = field((1, 1, 1), "residual blocks of each stage")

    def __post_init__(self):
        if len(self.blocks) != len(self.filters):
            raise BadInput(
                "filters and blocks of resnet must have one number per stage each, "
                f"got filters={_text(self.filters)} and blocks={_text(self.blocks)}"
            )

    def sites(self, tokens: bool = False) -> dict[str, tuple[int, ...]]:
        """Returns the block index of every occurrence, by site."""
        every = tuple(range(sum(self.blocks)))
        return {"input": (0,), "conv": every, "branch": every, "features": (0,)}


@dataclass(frozen=True)
class Transformer:
    """A pre-norm encoder over image patches (Dosovitskiy et al. 2021) or tokens, mean-pooled."""

    patch: int = field(4, "edge of a square image patch, in pixels; unused for tokens")
    width: int = field(64, "width of a token's representation", width=True)
    depth: int = field(4, "encoder blocks")
    heads: int = field(4, "attention heads; must divide width")
    ffn: int = field(256, "width inside the feed-forward block", width=True)

    def __post_init__(self):
        if self.width % self.heads:
            raise BadInput(f"heads must divide width, got heads={self.heads} and width={self.width}")

    def sites(self, tokens: bool = False) -> dict[str, tuple[int, ...]]:
        """Returns the block index of every occurrence, by site."""
        every = tuple(range(self.depth))
        twice = tuple(block for block in every for _ in range(2))  # attention and feed-forward
        inner = ("attention", "attention_out", "ffn_hidden", "ffn_out")
        image = {} if tokens else {"input": (0,)}
        return {**image, "embedding": (0,), **dict.fromkeys(inner, every), "branch": twice, "features": (0,)}


Config = MLP | CNN | ResNet | Transformer
_COUNTS = ("convolutions", "blocks", "depth")  # the fields that are no widths
_LONGEST = 10_000  # characters of a value


def configured(kind: type, settings: Mapping[str, Any]) -> Config:
    """Returns a configuration.

    Args:
        kind: `MLP`, `CNN`, `ResNet` or `Transformer`.
        settings: values by field, each an integer, a tuple of integers or its text.

    Raises:
        BadInput: an unknown field or a value out of range.

    Examples:
        >>> configured(MLP, {"hidden": "256/256"}).hidden
        (256, 256)
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for key, value in settings.items():
        one_of(f"setting of {kind.__name__.lower()}", key, sorted(fields))
        values[key] = _value(key, value, many=isinstance(fields[key].default, tuple))
    config = kind(**values)
    layers = max(map(len, config.sites().values()))
    if layers > MOST["depth"]:
        model = kind.__name__.lower()
        raise BadInput(f"{model} must have at most {MOST['depth']:,} layers at a site, got {layers:,}; choose fewer")
    return config


def widened(config: Config, factor: float) -> Config:
    """Returns the configuration with all widths multiplied by `factor`, rounded, at least 1.

    The width of a transformer is rounded to a multiple of its heads.

    Examples:
        >>> widened(MLP((100, 50)), 0.5).hidden
        (50, 25)
    """
    step = getattr(config, "heads", 1)  # attention heads share the width evenly

    def times(width):
        return max(step, round(width * factor / step) * step)

    widths = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.metadata.get("width")}
    changed: dict[str, Any] = {k: tuple(map(times, v)) if isinstance(v, tuple) else times(v) for k, v in widths.items()}
    return configured(type(config), {**dataclasses.asdict(config), **changed})


def describe_fields(kind: type) -> list[tuple[str, str, str]]:
    """Returns a row `(field, default as --set takes it, description)` for each field of a class."""
    return [(f.name, _text(f.default), f.metadata["about"]) for f in dataclasses.fields(kind)]


def _value(key, value, many):
    parts = value if isinstance(value, list | tuple) else str(value)[:_LONGEST].replace(",", "/").split("/")
    most = MOST["depth" if key in _COUNTS else "width"]
    try:
        numbers = tuple(integer(key, int(str(part)), 1, most) for part in parts)
    except ValueError:
        numbers = ()
    if not numbers or (len(numbers) > 1 and not many) or len(numbers) > MOST["depth"]:
        form = "one or more integers, as in 256/256, each" if many else "an integer"
        raise BadInput(f"{key} must be {form} from 1 to {most:,}, got {shown(value)}")
    return numbers if many else numbers[0]


def _text(value):
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
