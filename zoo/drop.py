"""What can happen at a site: the sites, the kinds, and one Drop.

Nothing heavy is imported here, so that a command line can refuse a bad placement
before TensorFlow starts.
"""

import difflib
import math
from dataclasses import dataclass
from numbers import Real

from zoo.errors import BadInput

# The closed set of sites, in the order in which a signal meets them.
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

# Kind -> the sites that it fits.
KINDS = {
    "dropout": tuple(SITES),
    "spatial": ("input", "conv"),
    "drop_path": ("branch",),
    "drop_block": ("conv",),
    "gaussian": tuple(SITES),
}
RAMPS = ("constant", "linear")
BLOCK_SIZE = 5  # the edge of a block of `drop_block`, in pixels

_OUTPUT_NAMES = ("output", "outputs", "logits", "head")


@dataclass(frozen=True)
class Drop:
    """What happens at a site.

    `rate`: probability in [0, 1) that a value is dropped (Keras' meaning; papers
        before 2015 quote the probability of keeping it), or a tuple of rates, one
        per occurrence of the site in the network.
    `kind`: `dropout` (single values, Srivastava et al. 2014), `spatial` (whole feature
        maps, Tompson et al. 2015), `drop_path` (the branch of a whole example, Huang
        et al. 2016), `drop_block` (squares of a feature map, Ghiasi et al. 2018), `gaussian`
        (multiplicative noise of mean 1 and variance rate/(1-rate), Srivastava et al. 2014,
        section 10).
    `ramp`: `linear` grows the rate from 0 at the first block to `rate` at the last.
    `block_size`: the edge of a square of `drop_block`, in pixels of the feature map.

    Raises `BadInput` (a ValueError) for a rate outside [0, 1), an unknown kind or
    ramp, a ramp over a tuple, and a block size below 1 or with another kind.

    >>> Drop((0.1, 0.2)).rates((0, 1))
    (0.1, 0.2)
    >>> Drop(0.4, ramp="linear").rates((0, 1, 2))
    (0.0, 0.2, 0.4)
    """

    rate: float | tuple[float, ...]
    kind: str = "dropout"
    ramp: str = "constant"
    block_size: int = BLOCK_SIZE

    def __post_init__(self):
        if isinstance(self.rate, list | tuple):
            if not self.rate:
                raise BadInput("received an empty list of rates; give one rate per occurrence of the site")
            rate = tuple(_checked_rate(r) for r in self.rate)
        else:
            rate = _checked_rate(self.rate)
        object.__setattr__(self, "rate", rate)
        member("kind", self.kind, KINDS)
        member("ramp", self.ramp, RAMPS)
        if self.ramp != "constant" and isinstance(rate, tuple):
            raise BadInput(
                f"received ramp {self.ramp!r} with the rates {rate}: a ramp needs one rate, "
                "a list of rates needs the ramp 'constant'"
            )
        size = self.block_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise BadInput(f"received block_size {size!r}; it is the edge of a square in pixels, at least 1")
        if size != BLOCK_SIZE and self.kind != "drop_block":
            raise BadInput(f"received block_size {size} with kind {self.kind!r}; only 'drop_block' has blocks")

    def rates(self, blocks):
        """One rate per occurrence; `blocks` holds the block index of each occurrence."""
        if isinstance(self.rate, tuple):
            return self.rate
        if self.ramp == "constant" or not blocks:
            return (self.rate,) * len(blocks)
        last = max(blocks)
        return tuple(self.rate * (block / last) if last else self.rate for block in blocks)

    def to_json(self):
        """The rate alone where nothing else is said, else an object."""
        rate = list(self.rate) if isinstance(self.rate, tuple) else self.rate
        rest = {key: getattr(self, key) for key, default in _DEFAULT.items() if getattr(self, key) != default}
        return {"rate": rate, **rest} if rest else rate

    def __str__(self):
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,)
        parts = ["/".join(_number(r) for r in rates)]
        parts += [str(getattr(self, key)) for key, default in _DEFAULT.items() if getattr(self, key) != default]
        return ":".join(parts)


_DEFAULT = {"kind": "dropout", "ramp": "constant", "block_size": BLOCK_SIZE}


def check_site(site):
    """Refuse a name that is no site; an output site with the reason and what to use instead."""
    if site in _OUTPUT_NAMES:
        raise BadInput(
            f"received site {site!r}: nothing is dropped at the output, whose values are the prediction "
            "itself; use 'hidden' (mlp, cnn) or 'features' (cnn, resnet, transformer), which feed it"
        )
    member("site", site, SITES)


def _checked_rate(rate):
    if isinstance(rate, bool) or not isinstance(rate, Real):
        raise BadInput(f"received rate {rate!r}; a rate is a number in [0, 1), the probability to be dropped")
    if math.isnan(rate) or not 0 <= rate < 1:
        raise BadInput(f"received rate {rate!r}; a rate, the probability to be dropped, lies in [0, 1)")
    return float(rate)


def member(what, value, allowed):
    """Refuse a `value` that is not among `allowed`, with the nearest name."""
    if not isinstance(value, str) or value not in allowed:
        close = difflib.get_close_matches(str(value), list(allowed), n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise BadInput(f"received {what} {value!r}; {hint}allowed: {listed(allowed)}")


def listed(names):
    """Names as a message lists them."""
    return ", ".join(str(name) for name in names)


def _number(rate):
    text = repr(rate)
    return text[:-2] if text.endswith(".0") else text
