"""A placement in a network: applied while the network is built, and read back from a built one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import keras

from zoo import keras_graph
from zoo.dropout.layers import is_mask, kind_of, mask_layer, scale_layer
from zoo.dropout.scheduled import MovingRate
from zoo.placement.drop import SITES
from zoo.placement.placement import Placement


class Sites:
    """Applies a placement while a network is built: `x = drop("hidden", x)`.

    A site without a Drop gets no layer. A Drop of rate 0 gets a layer of rate 0, so that the control
    of a search has the topology of the other trials. A layer's name holds its site and occurrence
    (`drop_conv_3`), so that `realised` can read the placement back from any saved file.

    Args:
        placement: the placement to apply.
        sites: block index of every occurrence, by site (see `zoo.models.configs`).
        seed: seed of the masks.
    """

    def __init__(self, placement: Placement, sites: Mapping[str, tuple[int, ...]], seed: int) -> None:
        self._placement, self._seed = placement, seed
        self._rates = {site: placement.sites[site].rates(sites[site]) for site in placement.sites}
        self._met = dict.fromkeys(sites, 0)
        self._moving = MovingRate(placement.schedule) if placement.schedule.moves else None

    def whole_maps(self, site: str) -> bool:
        """Returns whether `site` has a Drop that drops whole feature maps."""
        return site in self._placement.sites and self._placement.sites[site].kind == "spatial"

    def __call__(self, site: str, x: keras.KerasTensor) -> keras.KerasTensor:
        """Applies the Drop of `site`, if it has one, to the tensor `x`."""
        self._met[site] += 1
        if site not in self._placement.sites:
            return x
        drop, occurrence = self._placement.sites[site], self._met[site]
        rate = self._rates[site][occurrence - 1]
        name = f"{site}_{occurrence}"
        shape = {"rank": len(x.shape), "block_size": drop.block_size}
        layer = mask_layer(drop.kind, rate, name=f"drop_{name}", seed=self._seed, **shape)
        vars(layer)["moving"] = self._moving  # None, too: it tells constant rates from a lost schedule
        x = layer(x)
        if self._placement.scaling == "original":
            x = scale_layer(rate, name=f"scale_{name}")(x)
        return x


@dataclass(frozen=True)
class Realised:
    """One mask layer of a model: where it is and what it does."""

    site: str
    occurrence: int
    kind: str
    rate: float
    scaling: str


def realised(model: keras.Model) -> list[Realised]:
    """Returns the mask layers of a built or loaded Functional model, ordered by site and occurrence."""
    names = {layer.name for layer in model.layers}
    masks = []
    for layer in model.layers:
        match = re.fullmatch(r"drop_([a-z_]+)_(\d+)", layer.name)
        if match:
            scaling = "original" if f"scale_{match[1]}_{match[2]}" in names else "inverted"
            masks.append(Realised(match[1], int(match[2]), kind_of(layer), layer.rate, scaling))
    return sorted(masks, key=lambda r: (list(SITES).index(r.site), r.occurrence))


def planned(placement: Placement, sites: Mapping[str, tuple[int, ...]]) -> list[Realised]:
    """Returns the mask layers that a network with `sites` has under `placement`, as `realised` returns them."""
    return [
        Realised(site, i + 1, drop.kind, rate, placement.scaling)
        for site, drop in placement.sites.items()
        for i, rate in enumerate(drop.rates(sites[site]))
    ]


def stock(model: keras.Model) -> keras.Model:
    """Returns the network without `drop_block` layers, for a file that any Keras opens.

    Keras has no such layer. Inference does not change: it drops nothing. The result is a copy, or `model`
    itself if it has no such layer.
    """
    if not any(is_mask(layer) and kind_of(layer) == "drop_block" for layer in keras_graph.inside(model)):
        return model
    steps = [step for step in keras_graph.Graph(model).steps if is_mask(step.operation)]
    return keras_graph.rebuilt(
        model, {id(step.symbols[0]) for step in steps if kind_of(step.operation) == "drop_block"}
    )
