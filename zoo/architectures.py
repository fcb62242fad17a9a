"""What can be configured in each architecture, and the sites that it has.

Kept apart from the builders, and free of Keras, so that command lines can list and
refuse before TensorFlow starts. Each class is the configuration of one architecture;
`sites(tokens)` maps each of its sites to the block index of every occurrence, in the
order in which the builder meets them. A block is what a ramp counts: a hidden layer, a
convolution, a residual block or an encoder layer.
"""

import dataclasses
from dataclasses import dataclass

from zoo.errors import BadInput


def _field(default, about, width=False):
    return dataclasses.field(default=default, metadata={"about": about, "width": width})


@dataclass(frozen=True)
class MLP:
    """A multi-layer perceptron over the pixels (Srivastava et al. 2014, section 6.1)."""

    hidden: tuple[int, ...] = _field((512, 512), "width of each hidden layer", width=True)

    def sites(self, tokens=False):
        return {"input": (0,), "hidden": tuple(range(len(self.hidden)))}


@dataclass(frozen=True)
class CNN:
    """Blocks of 3x3 convolutions and pooling, then a fully-connected head (Simonyan & Zisserman 2015)."""

    filters: tuple[int, ...] = _field((32, 64), "filters of the convolutions, one number per block", width=True)
    convolutions: int = _field(2, "convolutions in a block")
    hidden: tuple[int, ...] = _field((256,), "width of each fully-connected layer of the head", width=True)

    def sites(self, tokens=False):
        return {
            "input": (0,),
            "conv": tuple(range(len(self.filters) * self.convolutions)),
            "features": (0,),
            "hidden": tuple(range(len(self.hidden))),
        }


@dataclass(frozen=True)
class ResNet:
    """Residual blocks with batch normalisation (He et al. 2016)."""

    filters: tuple[int, ...] = _field((16, 32, 64), "filters of each stage; later stages halve the map", width=True)
    blocks: tuple[int, ...] = _field((1, 1, 1), "residual blocks of each stage")

    def __post_init__(self):
        if len(self.blocks) != len(self.filters):
            raise BadInput(
                f"received filters={_text(self.filters)} and blocks={_text(self.blocks)}; "
                "resnet needs one number of each per stage"
            )

    def sites(self, tokens=False):
        every = tuple(range(sum(self.blocks)))
        return {"input": (0,), "conv": every, "branch": every, "features": (0,)}


@dataclass(frozen=True)
class Transformer:
    """A pre-norm encoder over image patches (Dosovitskiy et al. 2021) or tokens, mean-pooled."""

    patch: int = _field(4, "edge of a square image patch, in pixels; token models have none")
    width: int = _field(64, "width of a token's representation", width=True)
    depth: int = _field(4, "encoder blocks")
    heads: int = _field(4, "attention heads; must divide width")
    ffn: int = _field(256, "width inside the feed-forward block", width=True)

    def __post_init__(self):
        if self.width % self.heads:
            raise BadInput(f"received width={self.width} and heads={self.heads}; heads must divide width")

    def sites(self, tokens=False):
        every = tuple(range(self.depth))
        twice = tuple(block for block in every for _ in range(2))  # attention and feed-forward
        inner = ("attention", "attention_out", "ffn_hidden", "ffn_out")
        image = {} if tokens else {"input": (0,)}
        return {**image, "embedding": (0,), **dict.fromkeys(inner, every), "branch": twice, "features": (0,)}


def configured(kind, settings):
    """A configuration of class `kind` from a mapping of field to number, tuple or text.

    >>> configured(MLP, {"hidden": "256/256"}).hidden
    (256, 256)
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for key, value in settings.items():
        if key not in fields:
            raise BadInput(f"received setting {key!r} for {kind.__name__.lower()}; it has {', '.join(sorted(fields))}")
        values[key] = _value(key, value, many=isinstance(fields[key].default, tuple))
    return kind(**values)


def widened(config, factor):
    """A configuration of the same architecture, all its widths times `factor`, whole and at least 1.

    >>> widened(MLP((100, 50)), 0.5).hidden
    (50, 25)
    """
    step = getattr(config, "heads", 1)  # attention heads share the width evenly

    def times(width):
        return max(step, round(width * factor / step) * step)

    widths = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.metadata["width"]}
    many = {k: tuple(map(times, v)) if isinstance(v, tuple) else times(v) for k, v in widths.items()}
    return dataclasses.replace(config, **many)


def describe_fields(kind):
    """Rows of (field, default as `--set` takes it, what it is)."""
    return [(f.name, _text(f.default), f.metadata["about"]) for f in dataclasses.fields(kind)]


def _value(key, value, many):
    parts = value if isinstance(value, list | tuple) else str(value).replace(",", "/").split("/")
    try:
        numbers = tuple(int(str(part)) for part in parts)
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1 or (len(numbers) > 1 and not many):
        form = "one or more whole numbers of at least 1, as in 256/256" if many else "a whole number of at least 1"
        raise BadInput(f"received {key}={value!r}; {key} takes {form}")
    return numbers if many else numbers[0]


def _text(value):
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
