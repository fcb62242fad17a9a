"""What can happen at a site: the sites, the kinds of dropout, and `Drop`. Imports nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.checks import integer, listed, number, one_of, shortest, shown
from zoo.errors import BadInput

# All sites, in the order in which a signal passes them.
SITES = {
    "input": "on the model's input, after preprocessing",
    "embedding": "after token or patch embedding plus position",
    "conv": "after the activation of a convolution",
    "attention": "on the attention weights, after softmax",
    "attention_out": "after the attention's output projection",
    "ffn_hidden": "after the activation inside the feed-forward block",
    "ffn_out": "after the feed-forward block's output projection",
    "branch": "on a residual branch, before the add",
    "features": "on the pooled or flattened features that enter the head",
    "hidden": "after the activation of each hidden fully-connected layer",
}

# The sites that each kind fits.
KINDS = {
    "dropout": tuple(SITES),
    "spatial": ("input", "conv"),
    "drop_path": ("branch",),
    "drop_block": ("conv",),
    "gaussian": tuple(SITES),
}
RAMPS = ("constant", "linear")
BLOCK_SIZE = 5  # edge of a `drop_block` square, in pixels

_OUTPUT_NAMES = ("output", "outputs", "logits", "head")


@dataclass(frozen=True)
class Drop:
    """What happens at a site: a rate, and the kind of dropout.

    Args:
        rate: probability in [0, 1) that a value is dropped, as in Keras (papers before 2015 quote the
            probability of keeping it). Or a tuple of rates, one per occurrence of the site.
        kind: one of

            - `dropout`: single values (Srivastava et al. 2014)
            - `spatial`: whole feature maps (Tompson et al. 2015); sites `input` and `conv`
            - `drop_path`: the whole residual branch of an example, also called stochastic depth
              (Huang et al. 2016); site `branch`
            - `drop_block`: squares of a feature map (Ghiasi et al. 2018); site `conv`
            - `gaussian`: multiplicative noise of mean 1 and variance rate/(1-rate) (Srivastava et al.
              2014, section 10)
        ramp: `constant`, or `linear`: the rate grows from 0 at the first block to `rate` at the last.
        block_size: edge of a `drop_block` square, in pixels of the feature map.

    Raises:
        BadInput: a rate outside [0, 1), an unknown kind or ramp, a linear ramp over several rates, a
            block size below 1 or with another kind. `BadInput` is a `ValueError`.

    Examples:
        >>> Drop(0.1, "spatial")
        Drop(rate=0.1, kind='spatial', ramp='constant', block_size=5)
        >>> Drop((0.1, 0.2)).rates((0, 1))
        (0.1, 0.2)
        >>> Drop(0.4, ramp="linear").rates((0, 1, 2))
        (0.0, 0.2, 0.4)
    """

    rate: float | tuple[float, ...]
    kind: str = "dropout"
    ramp: str = "constant"
    block_size: int = BLOCK_SIZE

    def __post_init__(self) -> None:
        if isinstance(self.rate, list | tuple):
            if not self.rate:
                raise BadInput(f"rate must be a number, or one number per occurrence of a site, got {shown(self.rate)}")
            rate = tuple(_checked_rate(r) for r in self.rate)
        else:
            rate = _checked_rate(self.rate)
        object.__setattr__(self, "rate", rate)
        one_of("kind", self.kind, KINDS)
        one_of("ramp", self.ramp, RAMPS)
        if self.ramp != "constant" and isinstance(rate, tuple):
            raise BadInput(f"ramp must be 'constant' with several rates, got {self.ramp!r} with the rates {rate}")
        size = integer("block_size", self.block_size)
        object.__setattr__(self, "block_size", size)
        if size != BLOCK_SIZE and self.kind != "drop_block":
            raise BadInput(
                f"block_size must be left out for kind {self.kind!r}, got {size}; only 'drop_block' has blocks"
            )

    def rates(self, blocks: Sequence[int]) -> tuple[float, ...]:
        """Returns one rate per occurrence of the site.

        Args:
            blocks: block index of each occurrence.
        """
        if isinstance(self.rate, tuple):
            return self.rate
        if self.ramp == "constant" or not blocks:
            return (self.rate,) * len(blocks)
        last = max(blocks)
        return tuple(self.rate * (block / last) if last else self.rate for block in blocks)

    def to_json(self) -> Any:
        """Returns the rate, or a dictionary if anything else differs from its default."""
        rate = list(self.rate) if isinstance(self.rate, tuple) else self.rate
        rest = {key: getattr(self, key) for key, default in _DEFAULT.items() if getattr(self, key) != default}
        return {"rate": rate, **rest} if rest else rate

    def __str__(self) -> str:
        if isinstance(self.rate, tuple):
            parts = ["/".join(map(shortest, self.rate)) + ("/" if len(self.rate) == 1 else "")]
        else:
            parts = [shortest(self.rate)]
        parts += [str(getattr(self, key)) for key, default in _DEFAULT.items() if getattr(self, key) != default]
        return ":".join(parts)


_DEFAULT = {"kind": "dropout", "ramp": "constant", "block_size": BLOCK_SIZE}


def check_site(site: str) -> None:
    """Raises `BadInput` unless `site` is a site; the message says why the output is none."""
    if site in _OUTPUT_NAMES:
        raise BadInput(
            f"site must be one of {listed(SITES)}, got {shown(site)}; nothing is dropped at the output, which is the "
            "prediction itself: use 'hidden' (mlp, cnn) or 'features' (cnn, resnet, transformer), which feed it"
        )
    one_of("site", site, SITES)


def _checked_rate(rate):
    return float(number("rate", rate, 0, 1))
