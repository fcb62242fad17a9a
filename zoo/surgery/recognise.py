"""The sites of any Functional model, found from its graph alone, never from names.

`Recognised` holds the rows that `python -m zoo sites` prints. What is uncertain, and what cannot be
placed, is listed with the reason instead of being guessed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

from zoo import keras_graph
from zoo.checks import shown
from zoo.dropout.layers import is_mask, strength
from zoo.errors import BadInput
from zoo.placement.drop import SITES
from zoo.placement.placement import Placement
from zoo.surgery.flow import KERNELS, SATURATING, Flow, Mask, Node, enlarges, stated_rate

_PASSING = ("activation", "norm", "arithmetic", "pool", "pad")  # what may stand between a kernel and a mask of its site
_SHAPING = ("reshape", "flatten")
_PREPROCESSING = ("arithmetic", "preprocess")


@dataclass(frozen=True)
class Site:
    """One occurrence of a site.

    Attributes:
        site: the site, one of `zoo.placement.drop.SITES`.
        occurrence: its number among those of the site, from 1.
        block: index of its block, from 0; what a ramp counts.
        after: the layer or operation after which it stands.
        mask: kind, rate and layer of the mask that is there; None if there is none.
        why: what makes it this site.
    """

    site: str
    occurrence: int
    block: int
    after: str
    mask: dict[str, Any] | None
    why: str
    place: "Place" = field(repr=False, compare=False)

    def __getitem__(self, key: str) -> Any:
        """Returns an attribute, so that a row also reads as a dictionary."""
        if key not in COLUMNS:
            raise KeyError(key)
        return getattr(self, key)

    def to_json(self) -> dict[str, Any]:
        """Returns the row as a dictionary."""
        return {key: getattr(self, key) for key in COLUMNS}


COLUMNS = ("site", "occurrence", "block", "after", "mask", "why")


@dataclass(eq=False)
class Place:
    """Where a site is in the graph.

    Attributes:
        tensor: symbolic tensor that is masked; None for a rate inside a layer.
        step: the call of the layer that holds the rate; None for a tensor.
        pooled: symbolic tensor behind the pooling layer that follows; None if none does. Masks of whole
            feature maps go there: they commute with pooling and cost less.
        masks: masks that stand at the site now, and are replaced.
        channels_first: whether axis 1 of the tensor holds the channels.
    """

    tensor: Any = None
    step: Any = None
    pooled: Any = None
    masks: list[Mask] = field(default_factory=list)
    channels_first: bool = False


class Recognised(list):
    """The rows of `zoo.sites`, ordered by site and occurrence.

    Attributes:
        elsewhere: masks and rates at no recognised site: dictionaries of layer, kind, rate and why.
        unplaced: what looks like a site but is uncertain or cannot hold a mask: dictionaries of site,
            after and why.
    """

    def __init__(self, rows: list[Site], elsewhere: list[dict[str, Any]], unplaced: list[dict[str, Any]]) -> None:
        super().__init__(rows)
        self.elsewhere, self.unplaced = elsewhere, unplaced

    def blocks(self) -> dict[str, tuple[int, ...]]:
        """Returns the block index of every occurrence, by site, as the configurations of our models do."""
        blocks = {site: tuple(row.block for row in self if row.site == site) for site in SITES}
        return {site: indices for site, indices in blocks.items() if indices}

    def own(self) -> Placement:
        """Returns the placement that the model came with; it keeps the masks that no Drop describes."""
        from zoo.placement.drop import KINDS, Drop

        drops, keep = {}, []
        for site in self.blocks():
            rows = [row for row in self if row.site == site]
            masks = [row.mask for row in rows]
            kinds = {mask["kind"] for mask in masks if mask}
            if not kinds:
                continue
            kind, rates = kinds.pop(), tuple(mask["rate"] if mask else 0.0 for mask in masks)
            described = not kinds and site in KINDS.get(kind, ()) and max(rates) < 1
            if described and all(len(row.place.masks) <= 1 for row in rows):
                drops[site] = Drop(rates[0] if len(set(rates)) == 1 else rates, kind)
            else:
                keep.append(site)
        return Placement(drops, keep=keep)

    def to_json(self) -> dict[str, Any]:
        """Returns what `python -m zoo sites --json` prints."""
        return {"sites": [row.to_json() for row in self], "elsewhere": self.elsewhere, "unplaced": self.unplaced}


def sites(model: keras.Model) -> Recognised:
    """Finds the sites of a model: where dropout can go, and what is there now.

    Args:
        model: a Functional model, or a Sequential one that has been built. Nested models are opened.

    Returns:
        Rows of site, occurrence, block, after, mask and why; a list with the further attributes
        `elsewhere` (masks at no site) and `unplaced` (what is uncertain, or cannot hold a mask).

    Raises:
        BadInput: the calls of the model cannot be known without running its code: it is neither
            Functional nor a built Sequential model. `BadInput` is a `ValueError`.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([
        ...     keras.Input((8,)), keras.layers.Dense(4, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(2)
        ... ])
        >>> [(row.site, row.mask["rate"] if row.mask else None) for row in sites(model)]
        [('input', None), ('hidden', 0.5)]
    """
    if not isinstance(model, keras.Model):
        raise BadInput(
            f"model must be a Keras model, got {shown(model)}; zoo.build or keras.models.load_model returns one"
        )
    return recognised(Flow(model))


def recognised(flow: Flow) -> Recognised:
    """Returns the sites of a flow, see `sites`."""
    return _Recogniser(flow).result()


@dataclass(eq=False)
class _Found:
    """An occurrence while the rest is looked for."""

    site: str
    place: int
    order: int
    unit: Any
    why: str
    step: Any = None
    where: tuple[int, ...] = ()  # places at which a mask counts as a mask of this site


@dataclass(eq=False)
class _Branch:
    """A residual branch: from the place where it leaves the stream to the addition."""

    add: Node
    split: int
    end: int
    own: int  # bits of the nodes that it alone consists of
    kind: str = "conv"  # `attention`, `ffn` or `conv`
    cross: bool = False
    unit: int = 0


class _Recogniser:
    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.rows: list[_Found] = []
        self.unplaced: list[dict[str, Any]] = []
        self.kernels = _bits(n for n in flow.nodes if n.kind in KERNELS)
        self.gates = 0
        self.attention_nodes: dict[Node, Node] = {}

    def result(self) -> Recognised:
        self._find_gates()
        self._find_attention()
        self.branches = _Branches(self).found
        self.splits = {branch.split for branch in self.branches}
        self._attention_sites()
        self._feed_forward_sites()
        self._branch_sites()
        self._embedding_sites()
        self._head_sites()
        self._convolution_sites()
        self._input_sites()
        return self._assembled()

    # === What the sites are found by ===

    def _find_gates(self):
        """Marks what computes factors of a product, as in squeeze-and-excitation: nothing in it is a site."""
        flow = self.flow
        for node in flow.nodes:
            if node.kind != "multiply" or len(node.inputs) != 2:
                continue
            for gate, other in (node.inputs, node.inputs[::-1]):
                own = flow.before[gate] & ~flow.before[other]
                last = self._last_active(gate)
                pooled = any(n.kind == "reduce" for n in flow.of(own))
                if own & self.kernels and (pooled or (last and last.activation in SATURATING)):
                    self.gates |= own
                    break

    def _last_active(self, place):
        """Returns the node whose activation a place ends with, if only shapes change after it."""
        node = self.flow.maker.get(place)
        while node and not node.activation and node.kind in ("reshape", "upsample", "arithmetic", "pad"):
            node = self.flow.maker.get(node.inputs[0]) if node.inputs else None
        return node if node and node.activation else None

    def _find_attention(self):
        """Finds softmax(scores) @ values in operations: sets `attention_nodes`, products by their softmax."""
        flow = self.flow
        for node in flow.nodes:
            if node.kind != "softmax" or not self._from_product(node.inputs[0]):
                continue
            reader = flow.sole_reader(node.output)
            while reader and reader.kind in ("reshape", "arithmetic"):
                reader = flow.sole_reader(reader.output)
            if reader and reader.kind == "matmul":
                self.attention_nodes[node] = reader

    def _from_product(self, place):
        """Returns whether scores come from a product of two tensors, through scales, biases and masks."""
        flow, seen = self.flow, set()
        stack = [place]
        while stack:
            node = flow.maker.get(stack.pop())
            if node is None or node in seen or node.kind in KERNELS:
                continue
            if node.kind == "matmul":
                return True
            seen.add(node)
            stack += node.inputs
        return False

    # === Attention, feed-forward blocks, branches, embeddings ===

    def _attention_sites(self):
        flow = self.flow
        for node in flow.nodes:
            if node.kind == "attention":
                what = type(node.layer).__name__
                self._add("attention", node.output, node, f"{what} holds the rate of its weights itself", inside=True)
                if isinstance(node.layer, keras.layers.MultiHeadAttention | keras.layers.GroupQueryAttention):
                    why = f"what {what} returns, after its output projection"
                    self._add("attention_out", node.output, node, why)
                else:
                    self._projection(node)
            elif node in self.attention_nodes:
                why = "softmax over scores from a product, multiplied with values"
                self._add("attention", node.output, node, why)
                self._projection(self.attention_nodes[node])

    def _projection(self, product):
        """Adds the output projection: the first kernel that reads the joined heads."""
        reader = self.flow.sole_reader(product.output)
        while reader and reader.kind in ("reshape", "norm", "arithmetic"):
            reader = self.flow.sole_reader(reader.output)
        if reader and reader.kind in ("dense", "conv") and self.flow.rank(reader.output) > 2:
            self._add("attention_out", reader.output, reader, "the projection that reads the attention's product")

    def _feed_forward_sites(self):
        for branch in self.branches:
            if branch.kind != "ffn":
                continue
            kernels = [n for n in self.flow.of(branch.own & self.kernels & ~self.gates)]
            last = kernels[-1]
            why = "the feed-forward block of a residual branch: "
            self._add("ffn_hidden", last.inputs[0], last, why + "what its output projection reads")
            self._add("ffn_out", last.output, last, why + "its output projection")

    def _branch_sites(self):
        flow = self.flow
        for branch in self.branches:
            start, end = flow.name(branch.split), flow.name(branch.end)
            why = f"added by {branch.add.name} to what it started from, {start}"
            if flow.ends(branch.add.output) and flow.rank(branch.end) < 3:
                self._refuse("branch", branch.end, f"{branch.add.name} adds it to the output itself")
            elif end:
                self._add("branch", branch.end, branch.add, why)

    def _embedding_sites(self):
        flow = self.flow
        upstream = _bits(branch.add for branch in self.branches)
        starts = {}
        for branch in self.branches:
            if branch.kind != "conv" and not flow.before[branch.split] & upstream and self._is_stream(branch.split):
                starts[branch.split] = branch
        for place in starts:
            if flow.before[place] & self.kernels:
                self._add("embedding", place, flow.maker[place], "what the first residual branches start from")
        reached = 0
        for place in starts:
            reached |= flow.before[place]
        self._lookup_sites(reached)

    def _is_stream(self, place):
        """Returns whether a place holds tokens, or patches of an image, and not feature maps with attention on them."""
        kernels = [n for n in self.flow.of(self.flow.before[place] & self.kernels)]
        return self.flow.rank(place) == 3 or len(kernels) < 2

    def _lookup_sites(self, reached):
        """Adds the embeddings that no residual branch starts from: those of recurrent networks and of tables."""
        flow = self.flow
        for node in flow.nodes:
            if reached >> node.index & 1 or not self._looks_up(node):
                continue
            place, seen = node.output, "the output of an embedding"
            while (reader := flow.sole_reader(place)) and reader.kind in ("add", "arithmetic"):
                if reader.kind == "add" and not all(self._embedded(p) for p in reader.inputs):
                    break
                place, seen = reader.output, "tokens and positions, added"
            if not any(row.place == place and row.site == "embedding" for row in self.rows):
                self._add("embedding", place, flow.maker[place], seen)

    def _looks_up(self, node):
        """Returns whether a node turns integers into vectors."""
        if node.kind == "embedding":
            return True
        if node.kind != "custom" or len(node.inputs) != 1:
            return False
        tensors = self.flow.graph.tensors
        return "int" in str(tensors[node.inputs[0]].dtype) and "float" in str(tensors[node.output].dtype)

    def _embedded(self, place):
        """Returns whether a place holds an embedding, or a constant, and no other kernel came before."""
        kernels = [n for n in self.flow.of(self.flow.before[place] & self.kernels)]
        return all(self._looks_up(n) for n in kernels)

    # === The head ===

    def _flat(self, node):
        """Returns whether a node is a fully-connected layer: dense on vectors, or a 1x1 convolution on one pixel."""
        flow = self.flow
        if not node.inputs or self.gates >> node.index & 1:
            return False
        if node.kind == "dense":
            return flow.rank(node.inputs[0]) == 2
        if node.kind != "conv" or flow.rank(node.inputs[0]) < 3:
            return False
        pooled = any(n.kind == "reduce" for n in self._behind(node.inputs[0]))
        axes = flow.shape(node.output)
        last = getattr(node.layer, "data_format", "channels_last") == "channels_last"
        return pooled and all(size == 1 for size in (axes[1:-1] if last else axes[2:]))

    def _behind(self, place):
        """Yields the nodes that lead to a place, back to where several tensors meet or a kernel with more pixels is."""
        node = self.flow.maker.get(place)
        while node is not None:
            yield node
            if len(node.inputs) != 1 or node.kind == "reduce":
                return
            node = self.flow.maker.get(node.inputs[0])

    def _head_sites(self):
        flow = self.flow
        ends = _bits(b.add for b in self.branches)
        for node in flow.nodes:
            if not self._flat(node):
                continue
            self._features(node)
            if flow.ends(node.output):
                continue
            place, why = self._activated(node)
            reader = flow.sole_reader(node.output)
            if (
                place is None
                and reader is not None
                and not ends >> reader.index & 1
                and reader.kind in (*KERNELS, "norm")
            ):
                place, why = node.output, "a fully-connected layer without an activation"
            if place is not None and not flow.ends(place):
                self._add("hidden", place, node, why)

    def _features(self, node):
        """Adds what enters the head, if `node` is its first layer."""
        flow = self.flow
        place = maker = node.inputs[0]
        while (source := flow.maker.get(maker)) and source.kind in ("activation", "norm", "arithmetic", "reshape"):
            maker = source.inputs[0]
        if source is None or not self._pooled(place):
            return
        if source.kind == "concat":
            parts = [p for p in source.inputs if self._pooled(p)]
            if len(parts) < len(set(source.inputs)):
                for part in parts:
                    self._add_features(part, "pooled features, joined with others before the head")
                return
        what = {
            "reduce": "pooled features",
            "flatten": "flattened features",
            "concat": "joined features",
            "recurrent": "the last state of a recurrent layer",
        }.get(source.kind, "features")
        self._add_features(place, f"{what} ({source.name}) that enter the head, {node.name}")

    def _pooled(self, place):
        """Returns whether a place holds features of maps or sequences: some kernel just before it is no flat layer."""
        stack, seen = [self.flow.maker.get(place)], set()
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node.kind not in KERNELS or self.gates >> node.index & 1:
                stack += [self.flow.maker.get(p) for p in node.inputs]
            elif not self._flat(node):
                return True
        return False

    def _add_features(self, place, why):
        if not any(row.site == "features" and row.place == place for row in self.rows):
            self._add("features", place, self.flow.maker[place], why)

    def _activated(self, node):
        """Returns the place of the site of a layer, and how it was found; None if it has no activation.

        The site stands behind the activation, and behind a BatchNorm that follows it: dropout before it
        would shift the variance that it stores (Li et al. 2019).
        """
        place, why = self._behind_activation(node)
        while place is not None and (reader := self.flow.sole_reader(place)):
            if not isinstance(reader.layer, keras.layers.BatchNormalization):
                break
            place, why = reader.output, f"{why}, and its norm {reader.name}"
        return place, why

    def _behind_activation(self, node):
        """Returns the place behind the activation of a layer, and how it was found; None if it has none."""
        flow = self.flow
        if node.activation and node.activation != "softmax":
            return node.output, f"the activation {node.activation} of {node.name}"
        place, between = node.output, []
        while True:
            gated = self._gated_by_itself(place)
            if gated is not None:
                return gated.output, f"{node.name} multiplied with an activation of itself"
            reader = flow.sole_reader(place)
            if reader is None:
                return None, ""
            if reader.kind == "activation":
                through = f", after {', '.join(between)}" if between else ""
                return reader.output, f"the activation {reader.name} of {node.name}{through}"
            if reader.kind not in ("norm", "arithmetic", "pad", "pool"):
                return None, ""
            between.append(reader.name)
            place = reader.output

    def _gated_by_itself(self, place):
        """Returns the product of a place with an activation of it, as in x * sigmoid(x)."""
        readers = self.flow.readers.get(place, [])
        products = [n for n in readers if n.kind == "multiply"]
        if len(products) != 1 or len(readers) != 2:
            return None
        other = next(n for n in readers if n is not products[0])
        while other.kind in ("activation", "arithmetic"):
            reader = self.flow.sole_reader(other.output)
            if reader is products[0]:
                return reader
            if reader is None:
                return None
            other = reader
        return None

    # === Convolutions and inputs ===

    def _convolution_sites(self):
        flow = self.flow
        transformer = any(row.site == "attention" for row in self.rows)
        ffn = 0
        for branch in self.branches:
            if branch.kind == "ffn":
                ffn |= branch.own
        for node in flow.nodes:
            maps = node.inputs and flow.rank(node.inputs[0]) > 3
            pointwise = node.kind == "dense" and maps and not transformer
            if (node.kind != "conv" and not pointwise) or (self.gates | ffn) >> node.index & 1 or self._flat(node):
                continue
            place, why = self._activated(node)
            if place is None:
                continue
            if pointwise:
                why += ", a 1x1 convolution"
            if self._leads_to_split(place):
                self._refuse(
                    "conv", place, f"{why}; the shortcuts carry it on, so a mask here would not stay in a block"
                )
            elif flow.ends(place):
                self._refuse("conv", place, f"{why}, which leads to the output without another layer")
            else:
                self._add("conv", place, node, why)

    def _leads_to_split(self, place):
        while place is not None:
            if place in self.splits:
                return True
            reader = self.flow.sole_reader(place)
            place = reader.output if reader and reader.kind in (*_PASSING, *_SHAPING) else None
        return False

    def _input_sites(self):
        flow = self.flow
        for number, start in enumerate(flow.inputs):
            place, why = start, "the model's input"
            while (reader := flow.sole_reader(place)) and reader.kind in _PREPROCESSING:
                place, why = reader.output, f"the input, after the preprocessing {reader.name}"
            dtype = str(flow.graph.tensors[place].dtype)
            readers = flow.readers.get(place, [])
            if not readers or any(self._looks_up(n) for n in readers) or "float" not in dtype:
                if readers and "float" not in dtype and not any(self._looks_up(n) for n in self._reached(place)):
                    self._refuse("input", place, f"it holds {dtype}; only floating point values can be masked")
                continue
            self.rows.append(_Found("input", place, number, "input", why, None, self._input_places(start, place)))

    def _reached(self, place):
        """Yields the nodes that a place reaches before any kernel, and those kernels."""
        stack, seen = list(self.flow.readers.get(place, [])), set()
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            yield node
            if node.kind not in KERNELS:
                stack += [n for out in node.step.outputs for n in self.flow.readers.get(out, [])]

    def _input_places(self, start, place):
        """Returns where a mask counts as one of the input: from the input itself to the first kernel."""
        places, at = {start, place}, start
        while (reader := self.flow.sole_reader(at)) and reader.kind in (*_PREPROCESSING, *_SHAPING, "pad"):
            at = reader.output
            if not any(row.site != "input" and row.place == at for row in self.rows):
                places.add(at)
        return tuple(places)

    # === Rows ===

    def _add(self, site, place, node, why, inside=False):
        flow = self.flow
        if place in flow.outputs and not inside:
            self._refuse(site, place, f"{why}; it is an output of the model")
            return
        if "float" not in str(flow.graph.tensors[place].dtype):
            self._refuse(site, place, f"{why}; it holds {flow.graph.tensors[place].dtype}, which cannot be masked")
            return
        unit = self._unit_of(node)
        order = flow.maker[place].index if place in flow.maker else -1
        self.rows.append(_Found(site, place, order, unit, why, node.step if inside else None))

    def _refuse(self, site, place, why):
        row = {"site": site, "after": self.flow.name(place), "why": why}
        if row not in self.unplaced:
            self.unplaced.append(row)

    def _unit_of(self, node):
        """Returns the block of a node: that of its residual branch, or itself."""
        for branch in self.branches:
            if branch.add is node or branch.own >> node.index & 1:
                return ("block", branch.unit)
        return ("node", node.index)

    def _assembled(self):
        rows = self._deduplicated()
        claims = _Claims(self.flow, rows, self.branches)
        result, counts, units = [], {}, {}
        for row in sorted(rows, key=lambda r: (list(SITES).index(r.site), r.order)):
            counts[row.site] = counts.get(row.site, 0) + 1
            seen = units.setdefault(row.site, {})
            block = seen.setdefault(row.unit, len(seen))
            masks = claims.of(row)
            first = row.site in ("conv", "input") and self.flow.channels_first(row.place)
            place = Place(self.flow.graph.tensors[row.place], row.step, self._pooled_tensor(row), masks, first)
            name = row.step.name if row.step else self.flow.name(row.place)
            mask = masks[0].to_json() if masks else _inside(row.step)
            result.append(Site(row.site, counts[row.site], block, name, mask, row.why, place))
        return Recognised(result, claims.elsewhere(), self.unplaced + list(self._opaque()))

    def _deduplicated(self):
        """Returns the rows, one for each tensor: nested models that are called twice appear once."""
        kept = {}
        for row in sorted(self.rows, key=lambda r: r.order):
            key = (row.site, id(row.step.operation) if row.step else id(self.flow.graph.tensors[row.place]))
            kept.setdefault(key, row)
        return list(kept.values())

    def _pooled_tensor(self, row):
        reader = self.flow.sole_reader(row.place) if row.site == "conv" else None
        return self.flow.graph.tensors[reader.output] if reader and reader.kind == "pool" else None

    def _opaque(self):
        """Yields a row for each layer whose own code may hold sites."""
        for node in self.flow.nodes:
            if node.kind == "custom":
                what = f"a {type(node.layer).__name__} with weights and code of its own: no mask can be put inside"
                yield {"site": "any", "after": node.name, "why": what}
            elif node.kind == "recurrent":
                what = "the cell of a recurrent layer has rates of its own (dropout, recurrent_dropout), no site"
                yield {"site": "any", "after": node.name, "why": what}


def _bits(nodes) -> int:
    bits = 0
    for node in nodes:
        bits |= 1 << node.index
    return bits


def _inside(step):
    """Returns the mask inside an attention layer, None if there is none."""
    rate = float(step.operation.dropout) if step else 0.0
    return {"kind": "dropout", "rate": rate, "layer": step.name} if rate else None


class _Branches:
    """Finds the residual branches.

    A branch is one operand of an addition of tensors of equal shape. It starts where the shortcut, the
    other operand, starts, and nothing inside it is read from outside.
    """

    def __init__(self, recogniser: _Recogniser) -> None:
        self.up, self.flow = recogniser, recogniser.flow
        self.found: list[_Branch] = []
        sums = [node for node in self.flow.nodes if node.kind == "add" and len(node.inputs) >= 2]
        inner = {n for n in sums if (reader := self.flow.sole_reader(n.output)) and reader in sums}
        for node in sums:
            if node in inner and not self._stands_alone(node):
                continue
            if not recogniser.gates >> node.index & 1:
                self._examine(node, inner)
        self._number()

    def _stands_alone(self, node):
        """Returns whether an addition that only another addition reads is a residual block itself."""
        a, b = (self.flow.before[p] for p in node.inputs[:2]) if len(node.inputs) == 2 else (0, 0)
        reader = self.flow.sole_reader(node.output)
        others = [p for p in reader.inputs if p != node.output]
        # x + f(x) + g(x) is one block; a + (x + f(x)) is two sums that meet
        return len(node.inputs) == 2 and not any(p in node.inputs or self.flow.before[p] & (a & b) for p in others)

    def _terms(self, node, inner):
        terms = []
        for place in node.inputs:
            maker = self.flow.maker.get(place)
            if maker in inner and maker is not None and not self._stands_alone(maker):
                terms += self._terms(maker, inner)
            else:
                terms.append(place)
        return terms

    def _examine(self, node, inner):
        flow = self.flow
        terms = self._terms(node, inner)
        shapes = {flow.shape(place) for place in terms}
        if len(shapes) > 1 or len(set(terms)) < 2:
            return
        identity = [p for p in terms if all(p == q or self._descends(q, p) for q in terms)]
        if len(identity) == 1:
            ends = [place for place in terms if place != identity[0]]
            for place in ends:
                self._with_identity(node, identity[0], place, ends)
        elif len(terms) == 2:
            self._with_projection(node, *terms)
        elif self._kernels(flow.before[terms[0]]) and not self.up._embedded(node.output):
            self._refuse(node, f"{node.name} adds {len(terms)} tensors, none of which is the start of the others")

    def _descends(self, place, ancestor):
        """Returns whether a place is computed from another one."""
        maker = self.flow.maker.get(ancestor)
        if maker is None:
            return ancestor in self._starts(self.flow.before[place], place)
        return bool(self.flow.before.get(place, 0) >> maker.index & 1)

    def _starts(self, own, end):
        """Returns the places that a set of nodes reads from outside."""
        inside = {out for n in self.flow.of(own) for out in n.step.outputs}
        return {p for n in self.flow.of(own) for p in n.inputs} - inside or {end}

    def _kernels(self, bits):
        return list(self.flow.of(bits & self.up.kernels & ~self.up.gates))

    def _with_identity(self, node, shortcut, end, ends):
        flow, behind = self.flow, self.flow.behind(shortcut)
        own = flow.before[end] & ~flow.before[shortcut] & behind
        if not self._kernels(own):
            return
        if shortcut not in self._starts(own, end):
            self._refuse(node, f"the operand {flow.name(end)} of {node.name} does not start from the other one")
            return
        beside = 0  # the branches of one sum may share a norm
        for place in ends:
            beside |= flow.before[place] if place != end else 0
        self._accept(node, shortcut, end, own, 0, beside & behind)

    def _with_projection(self, node, left, right):
        flow = self.flow
        own = [flow.before[a] & ~flow.before[b] for a, b in ((left, right), (right, left))]
        if not any(map(self._kernels, own)) or self.up._embedded(node.output):
            return
        starts = [self._starts(bits, end) for bits, end in zip(own, (left, right), strict=True)]
        shared = starts[0] & starts[1]
        if len(shared) != 1 or min(map(len, starts)) > 1:
            self._refuse(node, f"the operands of {node.name} do not start from one tensor: parallel streams")
            return
        own = [bits & flow.behind(next(iter(shared))) for bits in own]
        counts = [len(self._kernels(bits)) for bits in own]
        order = sorted((0, 1), key=lambda i: (counts[i], self._work(own[i])))
        short, long = order
        same = counts[short] == counts[long] and self._work(own[short]) == self._work(own[long])
        if counts[short] > 1 or same:
            what = "both have as many layers with kernels" if same else "the shorter one has more than one kernel"
            self._refuse(node, f"which operand of {node.name} is the shortcut is not clear: {what}")
            return
        if starts[short] != shared:
            self._refuse(node, f"the shortcut of {node.name} reads other tensors too")
            return
        self._accept(node, shared.pop(), (left, right)[long], own[long], own[short])

    def _work(self, bits):
        """Returns what ranks two paths with equally many kernels: activations, then the size of the kernels."""
        nodes = list(self.flow.of(bits & ~self.up.gates))
        # an activation before the kernel is often shared with the shortcut; one after it marks the branch
        active = sum(bool(n.activation) for n in nodes)
        size = 0
        for n in nodes:
            kernel = getattr(n.layer, "kernel_size", ()) if n.kind == "conv" else ()
            for edge in kernel:
                size = max(size, edge)
        return size > 1, active > 0

    def _accept(self, node, split, end, own, shortcut, beside=0):
        flow = self.flow
        inside = [n for n in flow.of(own)]
        read = {out for n in inside for out in n.step.outputs} - {end}
        within = own | beside
        beyond = [n for p in read for n in flow.readers.get(p, []) if not within >> n.index & 1 and n is not node]
        beyond += [n for n in flow.readers.get(end, []) if n is not node and not self._in_sum(n, node)]
        if beyond:
            self._refuse(node, f"{beyond[0].name} reads from inside the operand {flow.name(end)} of {node.name}")
            return
        if any(enlarges(n.step, n.kind) for n in inside) and not any(
            enlarges(n.step, n.kind) for n in flow.of(shortcut)
        ):
            self._refuse(node, f"the longer operand of {node.name} is made smaller and larger again, as in a U-Net")
            return
        nested = [b for b in self.found if own >> b.add.index & 1 and not self._in_sum(b.add, node)]
        if nested:
            self._refuse(node, f"{node.name} is a long skip over {len(nested)} residual branches")
            return
        if self._cell(node, split, own):
            self._refuse(node, f"{node.name} is one of several parallel paths from {flow.name(split)}")
            return
        self.found.append(_Branch(node, split, end, own & ~beside))

    def _in_sum(self, reader, node):
        """Returns whether an addition is part of the sum that `node` ends."""
        while reader is not None and reader is not node and reader.kind == "add":
            reader = self.flow.sole_reader(reader.output)
        return reader is node

    def _cell(self, node, split, own):
        """Returns whether the sum meets other paths from its start in a merge, without a kernel in between."""
        flow = self.flow
        others = [n for n in flow.readers.get(split, []) if not own >> n.index & 1 and n is not node]
        others = [n for n in others if not flow.before[node.output] >> n.index & 1]
        if not others:
            return False
        stack, seen = list(flow.readers.get(node.output, [])), set()
        while stack:
            reader = stack.pop()
            if reader in seen or reader.kind in KERNELS:
                continue
            seen.add(reader)
            if reader.kind in ("concat", "add"):
                for place in reader.inputs:
                    away = flow.before[place] & ~flow.before[node.output]
                    if any(away >> n.index & 1 for n in others) and away & self.up.kernels:
                        return True
            stack += flow.readers.get(reader.output, [])
        return False

    def _refuse(self, node, why):
        self.up._refuse("branch", node.output, f"uncertain: {why}")

    def _number(self):
        """Numbers the blocks: an attention branch and the feed-forward branch behind it are one block."""
        up = self.up
        weights = _bits(up.attention_nodes)
        self.found.sort(key=lambda b: (b.add.index, self.flow.maker[b.end].index))
        unit, previous = -1, None
        for branch in self.found:
            nodes = list(self.flow.of(branch.own))
            attends = branch.own & weights or any(n.kind == "attention" for n in nodes)
            kernels = self._kernels(branch.own)
            maps = [n for n in kernels if n.kind == "conv" and self.flow.rank(n.output) > 3]
            dense = [n for n in kernels if n.kind in ("dense", "conv") and self.flow.rank(n.output) > 2]
            active = any(n.activation and n.activation != "softmax" for n in nodes)
            pair = len(dense) >= 2 and len(dense) == len(kernels) and active and not maps
            tokens = (
                self.flow.rank(branch.end) == 3 or bool(weights) or any(n.kind == "attention" for n in self.flow.nodes)
            )
            flat = all(n.kind == "dense" or set(getattr(n.layer, "kernel_size", ())) == {1} for n in kernels)
            branch.kind = "attention" if attends else "ffn" if pair and tokens and flat else "conv"
            branch.cross = bool(attends) and len(self._starts(branch.own, branch.end)) > 1
            same = previous is not None and (
                branch.add is previous.add
                or (branch.kind == "ffn" and previous.kind == "attention")
                or (branch.kind == "attention" and previous.kind == "attention" and self._crosses(branch))
            )
            unit += not same
            branch.unit, previous = unit, branch

    def _crosses(self, branch):
        """Returns whether an attention branch reads another stream, as the second one of a decoder block does."""
        upstream = _bits(b.add for b in self.found)
        extra = self._starts(branch.own, branch.end) - {branch.split}
        return any(self.flow.before.get(p, 0) & (upstream | self.up.kernels) for p in extra)


class _Claims:
    """Which mask belongs to which site."""

    def __init__(self, flow: Flow, rows: list[_Found], branches: list[_Branch]) -> None:
        self.flow, self._rows = flow, rows
        self._ends = {branch.end: branch for branch in branches}
        self._at: dict[int, list[Mask]] = {}
        for mask in flow.masks:
            if mask.whole and not mask.noise:
                self._at.setdefault(mask.place, []).append(mask)
        self._site: dict[Mask, _Found] = {}
        order = ("attention", "ffn_hidden", "attention_out", "ffn_out", "branch", "embedding", "features")
        for site in (*order, "hidden", "conv", "input"):
            for row in rows:
                if row.site == site and row.step is None:
                    self._claim(row)
        self._share_out()

    def of(self, row: _Found) -> list[Mask]:
        masks = [mask for mask, owner in self._site.items() if owner is row]
        return masks

    def _claim(self, row):
        for place in row.where or self._places(row):
            for mask in self._at.get(place, []):
                self._site.setdefault(mask, row)

    def _places(self, row) -> Iterator[int]:
        """Yields the places at which a mask is one of this row: its own, those just before and just behind."""
        flow, place = self.flow, row.place
        yield place
        if row.site in ("attention", "ffn_hidden"):
            return
        yield from self._back(row)
        stop = () if row.site in ("hidden", "conv") else ("activation", "pool")
        taken = {other.place for other in self._rows if other is not row}
        while (reader := flow.sole_reader(place)) and reader.kind in _PASSING and reader.kind not in stop:
            place = reader.output
            if row.site in ("branch", "features") or place in taken:
                return
            yield place

    def _back(self, row):
        """Yields the places between the layer of a site and the site."""
        kinds = {
            "embedding": ("add", "arithmetic", "norm", "reshape", "concat"),
            "features": (*_PASSING[:3], "reshape"),
        }
        passing = kinds.get(row.site, _PASSING)
        stack, seen = [row.place], set()
        while stack:
            node = self.flow.maker.get(stack.pop())
            if node is None or node in seen or node.kind not in passing:
                continue
            seen.add(node)
            for place in node.inputs:
                before = self.flow.maker.get(place)
                if (
                    row.site in ("features", "hidden", "conv")
                    and before is not None
                    and before.kind in ("add", "concat")
                ):
                    continue
                if self.flow.sole_reader(place) is not None or row.site == "embedding":
                    yield place
                    stack.append(place)

    def _share_out(self):
        """Gives masks between a projection and an addition to the projection and to the branch."""
        branches = {row.place: row for row in self._rows if row.site == "branch"}
        for row in self._rows:
            if row.site not in ("attention_out", "ffn_out", "conv"):
                continue
            end = row.place
            while end not in branches and (reader := self.flow.sole_reader(end)) and reader.kind in _PASSING:
                end = reader.output
            branch = branches.get(end)
            if branch is None:
                continue
            masks = [mask for mask, owner in self._site.items() if owner in (row, branch)]
            masks.sort(key=lambda mask: self.flow.masks.index(mask))
            for number, mask in enumerate(masks):
                named = next((s for s in (row, branch) if mask.step.operation.name.startswith(f"drop_{s.site}_")), None)
                whole_path = mask.kind == "drop_path" or (number > 0 and number == len(masks) - 1)
                self._site[mask] = named or (branch if whole_path else row)

    def elsewhere(self) -> list[dict[str, Any]]:
        rows = []
        owned = {id(mask.step.symbols[0]) for mask in self._site}  # a nested model that is called twice has each once
        for mask in self.flow.masks:
            owner = self._site.get(mask)
            if owner is None and id(mask.step.symbols[0]) in owned:
                continue
            if owner is None:
                rows.append({**mask.to_json(), "why": self._reason(mask)})
            elif mask is not self.of(owner)[0]:
                rows.append({**mask.to_json(), "why": f"a further mask at the site {owner.site}, replaced with it"})
        masked = {mask.step for mask in self.flow.masks} | {row.step for row in self._rows if row.step}
        for step in self.flow.graph.steps:
            if step not in masked:
                rows += self._within(step)
        rows = [{key: row[key] for key in ("layer", "kind", "rate", "why")} for row in rows]
        return [row for number, row in enumerate(rows) if row not in rows[:number]]

    def _reason(self, mask):
        if mask.noise:
            return "it adds noise instead of dropping values"
        if self.flow.ends(mask.place):
            return "it stands between the last layer and an output"
        if not mask.whole:
            return f"it stands on one of several paths from {self.flow.name(mask.place)}"
        return f"{self.flow.name(mask.place)}, which it follows, is no recognised site"

    def _within(self, step):
        """Yields a row for each rate inside a layer that is no mask itself."""
        known = False
        for part in keras_graph.inside(step.operation):
            if is_mask(part) and strength(part):
                yield {
                    "layer": f"{step.name}/{part.name}",
                    "kind": "inside",
                    "rate": float(strength(part)),
                    "why": f"it is inside {step.name}, a {type(step.operation).__name__} with code of its own",
                }
                known = True
                continue
            for name in ("dropout", "recurrent_dropout"):
                rate = getattr(part, name, 0)
                if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < 1:
                    why = "a rate inside a recurrent cell, which is no site"
                    if not keras_graph.family(part).startswith("layers.rnn"):
                        why = f"a rate inside a {type(part).__name__}, which has code of its own"
                    yield {"layer": step.name, "kind": name, "rate": float(rate), "why": why}
        if not known and not keras_graph.family(step.operation) and keras_graph.takes_training(step.operation):
            rate = stated_rate(step.operation)
            if rate:
                why = f"a rate of {step.operation.name}, a {type(step.operation).__name__} with code of its own"
                yield {"layer": step.name, "kind": "inside", "rate": rate, "why": why}
