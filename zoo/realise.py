"""A placement in a network: put in while the network is built, read back from what was built."""

import re
from dataclasses import dataclass

import keras

from zoo import dropout, graph
from zoo.drop import SITES
from zoo.moving import MovingRate


class Sites:
    """Puts a placement into a network while that is built: `x = drop("hidden", x)`.

    A site without a Drop gets no layer; a Drop of rate 0 gets a layer of rate 0, so
    that a search's control has its rivals' topology. Layers carry their site and
    occurrence in their name (`drop_conv_3`), so that `realised` can read the
    placement back from any saved file.
    """

    def __init__(self, placement, sites, seed):
        self._placement, self._seed = placement, seed
        self._rates = {site: placement.sites[site].rates(sites[site]) for site in placement.sites}
        self._met = dict.fromkeys(sites, 0)
        self._moving = MovingRate(placement.schedule) if placement.schedule.moves else None

    def whole_maps(self, site):
        """Whether what happens at `site`, if anything does, happens to whole feature maps."""
        return site in self._placement.sites and self._placement.sites[site].kind == "spatial"

    def __call__(self, site, x):
        """Apply the Drop of `site`, if there is one, to the tensor `x`."""
        self._met[site] += 1
        if site not in self._placement.sites:
            return x
        drop, occurrence = self._placement.sites[site], self._met[site]
        rate = self._rates[site][occurrence - 1]
        name = f"{site}_{occurrence}"
        shape = {"rank": len(x.shape), "block_size": drop.block_size}
        layer = dropout.mask_layer(drop.kind, rate, name=f"drop_{name}", seed=self._seed, **shape)
        layer.moving = self._moving
        x = layer(x)
        if self._placement.scaling == "original":
            x = dropout.scale_layer(rate, name=f"scale_{name}")(x)
        return x


@dataclass(frozen=True)
class Realised:
    """One mask layer found in a model: where it stands and what it does."""

    site: str
    occurrence: int
    kind: str
    rate: float
    scaling: str


def realised(model):
    """The mask layers of a built or loaded Functional model, in the order of sites and occurrences."""
    names = {layer.name for layer in model.layers}
    found = []
    for layer in model.layers:
        match = re.fullmatch(r"drop_([a-z_]+)_(\d+)", layer.name)
        if match:
            scaling = "original" if f"scale_{match[1]}_{match[2]}" in names else "inverted"
            found.append(Realised(match[1], int(match[2]), dropout.kind_of(layer), layer.rate, scaling))
    return sorted(found, key=lambda r: (list(SITES).index(r.site), r.occurrence))


def planned(placement, sites):
    """The mask layers that `placement` asks of a network with `sites`, in the form of `realised`."""
    return [
        Realised(site, i + 1, drop.kind, rate, placement.scaling)
        for site, drop in placement.sites.items()
        for i, rate in enumerate(drop.rates(sites[site]))
    ]


def stock(model):
    """The same network without the mask layers that Keras' own cannot express, for a file that any Keras opens.

    That is `drop_block`, which does nothing at inference. Layers and weights are shared; `model` itself comes
    back if there is nothing to leave out.
    """
    if not any(dropout.kind_of(layer) == "drop_block" for layer in model.layers if dropout.is_mask(layer)):
        return model
    whole = graph.Graph(model)
    values = dict(zip(whole.inputs, model.inputs, strict=True))

    def call(step, *args, **kwargs):
        blocks = dropout.is_mask(step.operation) and dropout.kind_of(step.operation) == "drop_block"
        return args[0] if blocks else step.operation(*args, **kwargs)

    graph.run(whole.steps, values, call)
    return keras.Model(model.inputs, whole.result(values), name=model.name)
