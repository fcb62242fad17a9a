"""A placement in a network: put in while the network is built, read back from what was built."""

import re
from dataclasses import dataclass

from zoo import dropout
from zoo.drop import SITES


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

    def __call__(self, site, x):
        """Apply the Drop of `site`, if there is one, to the tensor `x`."""
        self._met[site] += 1
        if site not in self._placement.sites:
            return x
        drop, occurrence = self._placement.sites[site], self._met[site]
        rate = self._rates[site][occurrence - 1]
        name = f"{site}_{occurrence}"
        x = dropout.mask_layer(drop.kind, rate, rank=len(x.shape), name=f"drop_{name}", seed=self._seed)(x)
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
