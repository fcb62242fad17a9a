"""What is wrong with the regularisation of a model, why, and what fixes it: rules over its graph.

Each rule is a generator of findings in `RULES`. A rule reports what it can prove from the graph, and says
so where it depends on the data.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from zoo import keras_graph
from zoo.placement.drop import KINDS, Drop
from zoo.placement.placement import Placement
from zoo.surgery.flow import KERNELS, Flow, Mask, Node
from zoo.surgery.recognise import Recognised, Site, recognised

LEVELS = ("error", "warning", "note")
# The largest rate that is usual at each site, by the papers and libraries that use it.
USUAL = {
    "input": 0.3,
    "embedding": 0.3,
    "conv": 0.3,
    "attention": 0.3,
    "attention_out": 0.3,
    "ffn_hidden": 0.5,
    "ffn_out": 0.3,
    "branch": 0.5,
    "features": 0.5,
    "hidden": 0.5,
}
WIDE = 512  # units from which a fully-connected layer is called wide
_PAPERS = {
    "dropout": "Srivastava et al. 2014, JMLR 15",
    "shift": "Li et al. 2019, CVPR, Understanding the Disharmony between Dropout and Batch Normalization",
    "spatial": "Tompson et al. 2015, CVPR, section 3.2",
    "selu": "Klambauer et al. 2017, NeurIPS, section 3",
    "mc": "Gal & Ghahramani 2016, ICML",
    "norm": "Ioffe & Szegedy 2015, ICML, section 3.2",
    "decay": "van Laarhoven 2017, arXiv 1706.05350",
    "transformer": "Vaswani et al. 2017, NeurIPS, section 5.4",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth a thought.

    Attributes:
        rule: name of the rule.
        level: `error`, `warning` or `note`.
        layer: the layer or operation concerned.
        reason: what is there, and what it does.
        reference: where that is shown.
        remedy: what to do instead.
        command: command line that does it; None where only the model's own code can.
    """

    rule: str
    level: str
    layer: str
    reason: str
    reference: str
    remedy: str
    command: str | None = None

    def __getitem__(self, key: str) -> Any:
        """Returns an attribute, so that a finding also reads as a dictionary."""
        return asdict(self)[key]

    def to_json(self) -> dict[str, Any]:
        """Returns the finding as a dictionary."""
        return asdict(self)


def audit(model: keras.Model, name: str = "MODEL") -> list[Finding]:
    """Looks for what is wrong with the regularisation of a model.

    Args:
        model: a Functional model, or a Sequential one that has been built.
        name: what the commands of the findings call the model, such as the path of its file.

    Returns:
        Findings, errors first: rule, level, layer, reason, reference, remedy and command. Empty if
        nothing is wrong.

    Raises:
        BadInput: the calls of the model cannot be known without running its code. `BadInput` is a
            `ValueError`.

    Examples:
        >>> import keras
        >>> x = keras.Input((8,))
        >>> y = keras.layers.Dropout(0.5, name="late")(keras.layers.Dense(3)(x))
        >>> [(finding.rule, finding.level, finding.layer) for finding in audit(keras.Model(x, y))]
        [('dropout-at-output', 'error', 'late')]
    """
    case = _Case(model, name)
    findings = [finding for rule in RULES for finding in rule(case)]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


class _Case:
    """A model under audit: its flow, its sites, and its own placement."""

    def __init__(self, model: keras.Model, name: str) -> None:
        self.model, self.name = model, name
        self.flow = Flow(model)
        self.rows: Recognised = recognised(self.flow)
        self.own: Placement = self.rows.own()
        self.site_of: dict[Mask, Site] = {mask: row for row in self.rows for mask in row.place.masks}
        self.norms = [n for n in self.flow.nodes if isinstance(n.layer, keras.layers.BatchNormalization)]

    def fixed(self, site: str | None = None, drop: Drop | None = None) -> str | None:
        """Returns the command that gives the model its own placement with one site changed, or emptied."""
        sites = {s: d for s, d in self.own.sites.items() if s != site}
        if site is not None and drop is not None:
            sites[site] = drop
        changed = Placement(sites, keep=[s for s in self.own.keep if s != site])
        words = " ".join(f"--drop {item}" for item in changed.drops()) or "--placement none"
        return f"python -m zoo place {self.name} {words} --out fixed.keras"

    def source(self, mask: Mask) -> Node | None:
        """Returns the last node with a kernel or an activation that a mask follows."""
        node = self.flow.maker.get(mask.place)
        while node is not None and node.kind not in KERNELS and not node.activation and node.inputs:
            node = self.flow.maker.get(node.inputs[0])
        return node


def variance_ratio(rate: float, mean: float = 1 / math.sqrt(2 * math.pi), square: float = 0.5) -> float:
    """Returns the variance in training over that at inference of what inverted dropout lets through.

    Li et al. 2019, equation 6: with mean c and variance v, ((c^2 + v)/p - c^2) / v for the share kept p.

    Args:
        rate: rate of the dropout.
        mean: mean of the activations. The default is that of a ReLU of a standard normal variable.
        square: mean of their squares.

    Examples:
        >>> [round(variance_ratio(rate), 2) for rate in (0.1, 0.3, 0.5)]
        [1.16, 1.63, 2.47]
    """
    return (square / (1 - rate) - mean**2) / (square - mean**2)


# === The rules ===


def _at_output(case: _Case) -> Iterator[Finding]:
    for mask in case.flow.masks:
        if mask.rate and case.flow.ends(mask.place):
            source = case.source(mask)
            head = source is not None and (source.kind == "dense" or source.activation in ("softmax", "sigmoid"))
            yield Finding(
                "dropout-at-output",
                "error" if head else "warning",
                mask.step.name,
                f"{mask.kind} {mask.rate:g} after the last layer: predictions themselves are dropped in training, and "
                "no layer behind can make up for it",
                _PAPERS["dropout"],
                "remove it from the model's code, and put dropout before the last layer: sites 'features' or 'hidden'",
            )


def _before_batch_norm(case: _Case) -> Iterator[Finding]:
    for mask in case.flow.masks:
        if not mask.rate or mask.rate >= 1 or mask.kind in ("drop_path", "GaussianNoise", "AlphaDropout"):
            continue
        after = case.flow.behind(mask.place)
        behind = [norm for norm in case.norms if after >> norm.index & 1]
        if not behind:
            continue
        reader = case.flow.sole_reader(mask.place)
        direct = reader in behind
        ratio = variance_ratio(mask.rate)
        row = case.site_of.get(mask)
        how = "directly before" if direct else "before a layer that leads to"
        limit = "" if direct else "up to "
        yield Finding(
            "dropout-before-batchnorm",
            "error" if direct and ratio >= 1.5 else "warning",
            mask.step.name,
            f"{mask.kind} {mask.rate:g} stands {how} the BatchNorm {behind[0].name}: the variance that it stores is "
            f"{limit}{ratio:.2f} times that at inference (for a ReLU of normal inputs)",
            _PAPERS["shift"],
            "put dropout behind the last BatchNorm: site 'features' or 'hidden'",
            case.fixed(row.site) if row else None,
        )


def _single_values_on_maps(case: _Case) -> Iterator[Finding]:
    for mask in case.flow.masks:
        source = case.source(mask)
        convolved = source is not None and (
            source.kind == "conv" or (source.kind == "activation" and _kernel_before(case, source) == "conv")
        )
        shape = case.flow.shape(mask.place)
        flat = len(shape) < 3 or all(size == 1 for size in shape[1:-1])
        if mask.kind != "dropout" or not mask.rate or not convolved or flat:
            continue
        row = case.site_of.get(mask)
        known = row is not None and row.site in KINDS["spatial"] and row.site in case.own.sites
        drop = Drop(case.own.sites[row.site].rate, "spatial") if row is not None and known else None
        yield Finding(
            "single-values-on-maps",
            "warning",
            mask.step.name,
            f"dropout {mask.rate:g} of single values on feature maps {shape[1:]}: neighbours are correlated and give "
            "the dropped values away",
            _PAPERS["spatial"],
            "drop whole maps (kind 'spatial') or squares (kind 'drop_block')",
            case.fixed(row.site, drop) if row is not None and drop is not None else None,
        )


def _kernel_before(case, node):
    while node is not None and node.kind not in KERNELS and node.inputs:
        node = case.flow.maker.get(node.inputs[0])
    return node.kind if node is not None else ""


def _in_series(case: _Case) -> Iterator[Finding]:
    by_place: dict[Any, list[Mask]] = {}
    for mask in case.flow.masks:
        row = case.site_of.get(mask)
        if mask.rate:
            by_place.setdefault((row.site, row.occurrence) if row else mask.place, []).append(mask)
    for masks in by_place.values():
        first, *rest = masks
        row = case.site_of.get(first)
        for mask in rest:
            if not first.whole or not mask.whole:
                continue
            kept = (1 - first.rate) * (1 - mask.rate)
            yield Finding(
                "masks-in-series",
                "warning",
                mask.step.name,
                f"{mask.kind} {mask.rate:g} follows {first.kind} {first.rate:g} ({first.step.name}) without a layer "
                f"with weights in between: together they keep {kept:.0%}",
                _PAPERS["dropout"],
                "keep one of them",
                case.fixed(row.site, Drop(first.rate, first.kind)) if row and _placeable(row, first) else None,
            )


def _placeable(row, mask):
    return mask.kind in KINDS and row.site in KINDS[mask.kind] and mask.rate < 1


def _above_usual(case: _Case) -> Iterator[Finding]:
    for row in case.rows:
        if row.mask and USUAL[row.site] < row.mask["rate"] < 1 and row.mask["kind"] in KINDS:
            most, kind = USUAL[row.site], row.mask["kind"]
            yield Finding(
                "rate-above-usual",
                "warning",
                row.mask["layer"],
                f"rate {row.mask['rate']:g} at the site {row.site}, where rates up to {most:g} are usual",
                _PAPERS["dropout"],
                f"try {most:g} or less, and compare",
                case.fixed(row.site, Drop(most, kind if row.site in KINDS[kind] else "dropout")),
            )


def _after_selu(case: _Case) -> Iterator[Finding]:
    for mask in case.flow.masks:
        source = case.source(mask)
        if mask.rate and mask.kind not in ("AlphaDropout", "GaussianNoise") and source and source.activation == "selu":
            yield Finding(
                "dropout-after-selu",
                "warning",
                mask.step.name,
                f"{mask.kind} {mask.rate:g} after SELU: zeros move the mean and variance that SELU keeps at 0 and 1",
                _PAPERS["selu"],
                "use keras.layers.AlphaDropout in the model's code, or another activation",
            )


def _baked_in(case: _Case) -> Iterator[Finding]:
    for step in case.flow.graph.steps:
        if step.arguments.kwargs.get("training") is not True:
            continue
        norm = isinstance(step.operation, keras.layers.BatchNormalization)
        what = "batch statistics are used" if norm else "it is random"
        yield Finding(
            "training-baked-in",
            "error" if norm else "warning",
            step.name,
            f"called with training=True: in model(x) {what} at inference too, unlike in model.predict",
            _PAPERS["mc"],
            "call the layer without training; for Monte-Carlo dropout use zoo.in_mode(model, 'mc')",
            case.fixed() if any(mask.step is step for mask in case.site_of) else None,
        )


def _everything_dropped(case: _Case) -> Iterator[Finding]:
    for mask in case.flow.masks:
        if mask.rate >= 1 and not mask.noise:
            row = case.site_of.get(mask)
            yield Finding(
                "rate-one",
                "error",
                mask.step.name,
                "rate 1 drops everything: nothing before this layer is trained",
                _PAPERS["dropout"],
                "give a rate below 1; papers before 2015 quote the probability of keeping",
                case.fixed(row.site, Drop(min(0.5, USUAL[row.site]))) if row else None,
            )


def _one_rate_everywhere(case: _Case) -> Iterator[Finding]:
    masks = [row.mask for row in case.rows if row.mask and row.mask["kind"] == "dropout" and row.mask["rate"]]
    places = {row.site for row in case.rows if row.mask}
    if case.norms and len(places) > 2 and len({mask["rate"] for mask in masks}) == 1:
        yield Finding(
            "one-rate-everywhere",
            "note",
            case.norms[0].name,
            f"one rate, {masks[0]['rate']:g}, at {len(places)} sites beside BatchNorm: sites differ in the rates that "
            "they bear, and each mask before a BatchNorm shifts what it stores",
            _PAPERS["shift"],
            "keep the site behind the last BatchNorm, or compare the sites one by one",
            f"python -m zoo place {case.name} --drop features={masks[0]['rate']:g} --out fixed.keras"
            if any(row.site == "features" for row in case.rows)
            else None,
        )


def _nothing_dropped(case: _Case) -> Iterator[Finding]:
    if any(row.mask and row.mask["rate"] for row in case.rows):
        return
    if any(row.site == "attention" for row in case.rows):
        wanted = [
            s for s in case.rows.blocks() if s in ("embedding", "attention", "attention_out", "ffn_hidden", "ffn_out")
        ]
        drops = " ".join(f"--drop {site}=0.1" for site in wanted)
        yield Finding(
            "transformer-without-dropout",
            "note",
            case.model.name,
            "attention, and no dropout at any site",
            _PAPERS["transformer"],
            "on small data, try 0.1 at the sites of the encoder",
            f"python -m zoo place {case.name} {drops} --out fixed.keras",
        )
    for node in case.flow.nodes:
        units = getattr(node.layer, "units", 0)
        hidden = any(row.site == "hidden" and row.after == node.name for row in case.rows)
        if node.kind == "dense" and units >= WIDE and hidden and node.layer.kernel_regularizer is None:
            yield Finding(
                "wide-layer-without-dropout",
                "note",
                node.name,
                f"a fully-connected layer of {units} units, without dropout or weight decay",
                _PAPERS["dropout"],
                "on small data, try 0.5 at the site 'hidden'",
                f"python -m zoo place {case.name} --drop hidden=0.5 --out fixed.keras",
            )


def _cancelled_by_norm(case: _Case) -> Iterator[Finding]:
    for node in case.flow.nodes:
        if node.kind not in ("conv", "dense") or node.activation:
            continue
        reader = case.flow.sole_reader(node.output)
        if reader is None or reader.kind != "norm":
            continue
        if reader in case.norms and getattr(node.layer, "use_bias", False):
            yield Finding(
                "bias-before-norm",
                "note",
                node.name,
                f"its bias is subtracted again by the BatchNorm {reader.name}",
                _PAPERS["norm"],
                "build the layer with use_bias=False",
            )
        if getattr(node.layer, "kernel_regularizer", None) is not None:
            yield Finding(
                "decay-before-norm",
                "note",
                node.name,
                f"the norm {reader.name} undoes the scale of its weights, so weight decay only changes the step size",
                _PAPERS["decay"],
                "leave the regulariser out, or tune it as a learning rate",
            )


def _random_at_inference(case: _Case) -> Iterator[Finding]:
    """Runs the graph twice at inference, if any layer has code that is not known."""
    from zoo.surgery.written import example

    unknown = [n for n in case.flow.nodes if n.kind in ("custom", "other", "preprocess", "activation", "arithmetic")]
    unknown = [n for n in unknown if not keras_graph.family(n.layer) or isinstance(n.layer, keras.layers.Lambda)]
    if not unknown:
        return
    graph = case.flow.graph

    def call(step, *args, **kwargs):
        if keras_graph.takes_training(step.operation):
            kwargs["training"] = False
        return step.operation(*args, **kwargs)

    try:
        x = example(case.model)
        first, second = (keras_graph.run(graph.steps, graph.place_inputs(x), call) for _ in range(2))
    except Exception:  # inputs that cannot be drawn, or code that refuses them
        return
    for step in graph.steps:
        pairs = [(np.asarray(first[place]), np.asarray(second[place])) for place in step.outputs]
        if not all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs):
            yield Finding(
                "random-at-inference",
                "error",
                step.name,
                "it gives other values at each call with training=False: noise or augmentation stays on at inference",
                _PAPERS["mc"],
                "let its code do nothing unless training is True",
            )
            return


RULES: tuple[Callable[[_Case], Iterator[Finding]], ...] = (
    _at_output,
    _before_batch_norm,
    _single_values_on_maps,
    _in_series,
    _above_usual,
    _after_selu,
    _baked_in,
    _everything_dropped,
    _one_rate_everywhere,
    _nothing_dropped,
    _cancelled_by_norm,
    _random_at_inference,
)
