"""Any Functional model under another placement: a new model with the same weights."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.checks import MOST, integer, listed, shown, way_to_rates
from zoo.errors import BadInput
from zoo.placement.drop import Drop
from zoo.placement.placement import Placement
from zoo.seeds import of_layer

if TYPE_CHECKING:
    import keras

    from zoo.models.catalogue import PlacementLike
    from zoo.surgery.recognise import Recognised, Site

NAMED = ("none", "own", "everywhere", "default")
_RANKS = {"spatial": (3, 4, 5), "drop_block": (4,)}


def place(model: "keras.Model", placement: "PlacementLike" = None, seed: int = 0) -> "keras.Model":
    """Builds a model again under another placement, with the same weights.

    At inference the new model computes what `model` computes, bit for bit; with `original` scaling,
    activations are scaled by 1-rate. Masks at recognised sites are replaced, and removed at sites without
    a Drop; masks elsewhere stay (see `zoo.sites`). Rates inside attention layers are set in their
    configuration.

    Args:
        model: a Functional model, or a Sequential one that has been built: one of `zoo.build`, of a file, of
            `keras.applications`, or your own.
        placement: a mapping of site to rate or `Drop`, a `Placement`, or a name: `none`, `own` (the masks
            that the model came with), `default` (the same) or `everywhere` (0.2 at every site). `{}` takes
            all recognised masks out; None is `own`.
        seed: decides the masks.

    Returns:
        A new model that shares nothing with `model`, not compiled.

    Raises:
        BadInput: the model is not Functional, lacks a site, or cannot hold what the placement asks for
            there; or a layer cannot be made from its configuration. `BadInput` is a `ValueError`.

    Examples:
        >>> import keras
        >>> network = keras.Sequential([
        ...     keras.Input((8,)), keras.layers.Dense(4, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(2)
        ... ])
        >>> softer = place(network, {"hidden": 0.3})
        >>> [layer.rate for layer in softer.layers if layer.name.startswith("drop_")]
        [0.3]
    """
    return placed(model, placement, seed)[0]


def placed(model: "keras.Model", placement: "PlacementLike", seed: int) -> tuple["keras.Model", list["keras.Layer"]]:
    """Returns what `place` returns, and the layers in it that the placement put there."""
    from zoo import keras_graph
    from zoo.surgery.recognise import sites

    integer("seed", seed, 0, MOST["seed"])
    recognised = sites(model)
    if placement is None or placement in ("own", "default"):
        return keras_graph.rebuilt(model), []
    placement = resolved(placement, recognised, model.name)
    edits = _Edits(recognised, placement, seed, {layer.name for layer in keras_graph.inside(model)})
    return keras_graph.rebuilt(model, edits.skip, edits.after, edits.replace), edits.inserted


def resolved(placement: Any, recognised: "Recognised", name: str) -> Placement:
    """Returns a `Placement` that fits a model.

    Args:
        placement: what `place` takes.
        recognised: the sites of the model.
        name: name of the model in messages.

    Raises:
        BadInput: it is none of these, or does not fit.
    """
    if isinstance(placement, str):
        if placement not in NAMED:
            raise BadInput(
                f"placement must be one of {listed(NAMED)} for a model that is not built by name, or a .json file, "
                f"got {placement!r}{way_to_rates(placement)}"
            )
        blocks = recognised.blocks()
        placement = {} if placement == "none" else dict.fromkeys(blocks, 0.2) if placement == "everywhere" else None
        placement = recognised.own() if placement is None else placement
    if isinstance(placement, Mapping):
        placement = Placement(placement)
    if not isinstance(placement, Placement):
        raise BadInput(
            f"placement must be a Placement, a dictionary of site to rate or Drop, or one of {listed(NAMED)}, "
            f"got {shown(placement)}"
        )
    if placement.sites and not recognised:
        raise BadInput(f"placement must be empty for {name}, in which no site is recognised, got {placement}")
    placement.check(recognised.blocks(), name)
    for row in recognised:
        if row.site in placement.sites:
            _check_fit(row, placement.sites[row.site], placement, name)
    return placement


def _check_fit(row: "Site", drop: Drop, placement: Placement, name: str) -> None:
    if row.place.step is not None:
        what = f"{row.after!r} in {name}, a {type(row.place.step.operation).__name__} that drops its weights itself"
        if drop.kind != "dropout":
            raise BadInput(f"kind at site 'attention' must be 'dropout' for {what}, got {drop.kind!r}")
        if placement.scaling != "inverted":
            raise BadInput(f"scaling must be 'inverted' with site 'attention' for {what}, got {placement.scaling!r}")
        return
    rank = len(row.place.tensor.shape)
    if rank not in _RANKS.get(drop.kind, (rank,)):
        allowed = " or ".join(str(r) for r in _RANKS[drop.kind])
        raise BadInput(
            f"kind at site {row.site!r} must fit tensors of rank {rank} in {name} (after {row.after}), "
            f"got {drop.kind!r}, which is for rank {allowed}; use 'dropout'"
        )


class _Edits:
    """What a placement changes in a graph, in the form of `zoo.keras_graph.rebuilt`."""

    def __init__(self, recognised, placement, seed, names):
        from zoo.dropout.scheduled import MovingRate

        self._placement, self._seed = placement, seed
        self._moving = MovingRate(placement.schedule) if placement.schedule.moves else None
        self.skip, self._chains, self._rates, self.inserted = set(), {}, {}, []
        changed = [row for row in recognised if row.site not in placement.keep]
        masks = [mask for row in changed for mask in row.place.masks]
        for mask in masks:
            self.skip.add(id(mask.step.symbols[0]))
            if mask.scale is not None:
                self.skip.add(id(mask.scale.symbols[0]))
        gone = {mask.step.operation.name for mask in masks} | {m.scale.operation.name for m in masks if m.scale}
        self._names = names - gone
        rates = {s: drop.rates(recognised.blocks()[s]) for s, drop in placement.sites.items()}
        for row in changed:
            drop = placement.sites.get(row.site)
            rate = rates[row.site][row.occurrence - 1] if drop else None
            if row.place.step is not None:
                self._rates[id(row.place.step.operation)] = (rate or 0.0, f"drop_{row.site}_{row.occurrence}")
            elif drop is not None:
                self._insert(row, drop, rate)

    @property
    def after(self) -> dict[int, Callable]:
        return {key: _chained(layers) for key, layers in self._chains.items()}

    def _insert(self, row, drop, rate):
        from zoo.dropout.layers import mask_layer, scale_layer

        tensor, name = row.place.tensor, f"{row.site}_{row.occurrence}"
        if drop.kind == "spatial" and row.place.pooled is not None:
            tensor = row.place.pooled  # masks of whole feature maps commute with pooling, and cost less there
        dtype = str(tensor.dtype)
        layer = mask_layer(
            drop.kind,
            rate,
            rank=len(tensor.shape),
            name=self._free(f"drop_{name}"),
            seed=self._seed,
            block_size=drop.block_size,
            channels_first=row.place.channels_first,
            dtype=dtype,
        )
        layer.moving = self._moving
        chain = self._chains.setdefault(id(tensor), [])
        chain.append(layer)
        self.inserted.append(layer)
        if self._placement.scaling == "original":
            chain.append(scale_layer(rate, name=self._free(f"scale_{name}"), dtype=dtype))

    def _free(self, name):
        """Returns a name that no layer that stays has."""
        number, free = 1, name
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        return free

    def replace(self, layer):
        """Returns an attention layer with its new rate; None for other layers."""
        from zoo import keras_graph
        from zoo.dropout.layers import Dropout

        if id(layer) not in self._rates:
            return None
        rate, name = self._rates[id(layer)]
        seed = of_layer(self._seed, name)

        def make_dropout(dtype):
            masks = Dropout(rate, seed=seed, dtype=dtype)
            masks.moving = self._moving
            return masks

        return keras_graph.with_rate(layer, rate, seed, make_dropout)


def _chained(layers):
    def call(x):
        for layer in layers:
            x = layer(x)
        return x

    return call
