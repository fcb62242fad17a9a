"""The thinned network of one sample: a plain Keras model with the mask in its weights."""

import keras
import numpy as np
from keras import layers

from zoo import checks, keras_graph
from zoo.dropout.layers import is_mask, noise_pattern, strength
from zoo.errors import BadInput
from zoo.modes.modes import Caller

_TAKING = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
)  # their weights can hold a mask before them


def thinned(model: keras.Model, seed: int) -> keras.Model:
    """Returns the thinned network of one sample with shared masks, as a plain Keras model without dropout.

    In inference it computes what `model` computes in mode `mc` with shared masks and this seed:
    `zoo.in_mode(model, "mc", "shared")(x, seed)` and `zoo.Sampler(model, "shared").samples(x, [seed])`. Dropout
    trains exponentially many such networks, which share their weights (Srivastava et al. 2014, section 1).

    A mask in front of a Dense or convolution layer goes into that layer's weights: the rows of dropped units become
    0, those of kept units are divided by the share kept. Any other mask becomes a `Rescaling` layer with one factor per
    unit. The result saves to `.keras` and opens in plain Keras.

    Args:
        model: a Functional model, or a Sequential one that has been built.
        seed: a signed 32-bit integer.

    Returns:
        A new model that shares nothing with `model`, not compiled.

    Raises:
        BadInput (a ValueError): the model has no active dropout; a layer with dropout in its own code; a mask over
            an axis of unknown size; a mask layer that is called several times; a layer that the model calls with
            `training=True`; or another kind of model.

    Examples:
        >>> import numpy as np, zoo
        >>> model = zoo.build("mlp", (8, 8, 1), 10, {"hidden": 0.5}, seed=1)
        >>> network, x = thinned(model, seed=7), np.ones((2, 8, 8, 1), "uint8")
        >>> sample = zoo.in_mode(model, "mc", "shared")(x, seed=7)
        >>> bool(np.allclose(network(x), sample, atol=1e-6)), [l.name for l in network.layers if "drop" in l.name]
        (True, [])
    """
    checks.integer("seed", seed, -(2**31), 2**31 - 1)
    graph = keras_graph.Graph(model)
    caller = Caller(graph.steps, "mc", masks="shared")
    if not caller.draws:
        raise BadInput(f"model must have a dropout rate above 0 to be thinned, got {model.name!r} without any")
    masks = [step for step in graph.steps if is_mask(step.operation)]
    again = [step.name for step in masks if step.call > 1 and strength(step.operation)]
    if again:
        raise BadInput(
            f"each mask layer must be called once to be thinned, got {again[0]!r}, which draws another mask in each "
            "call; give each call a layer of its own"
        )
    fixed = [s.name for s in graph.steps if s.arguments.kwargs.get("training") and not is_mask(s.operation)]
    if fixed:
        raise BadInput(
            f"layers must be called without training=True to be thinned, got {fixed[0]!r}; build the model without it"
        )
    folds = _Folds(graph, masks, caller, seed)
    network = keras_graph.rebuilt(model, folds.skip, folds.after, _without_mask)
    copies = {layer.name: layer for layer in keras_graph.inside(network)}
    for layer, factors in folds.kernels:
        kernel = copies[layer.name].kernel
        kernel.assign(keras.ops.cast(keras.ops.convert_to_tensor(layer.kernel) * factors, kernel.dtype))
    return network


def _without_mask(layer):
    """Replaces a mask that no output of the model depends on."""
    return layers.Identity(name=layer.name) if is_mask(layer) else None


class _Folds:
    """Where each mask goes: into the weights of the layer that takes it, or into a layer of its own."""

    def __init__(self, graph, masks, caller, seed):
        self.skip, self.after, self.kernels = set(), {}, []
        takers: dict[int, list] = {}
        for step in graph.steps:
            for place in set(step.inputs.values()):
                takers.setdefault(place, []).append(step)
        names = [layer.name for step in graph.steps for layer in keras_graph.inside(step.operation)]
        for step in masks:
            symbol = step.symbols[0]
            self.skip.add(id(symbol))
            if not strength(step.operation):
                continue
            scale, offset = _factors(step, caller, seed)
            taker = _taker(graph, takers, step, names) if not offset.any() else None
            kernel = None if taker is None else _of_kernel(taker, scale, symbol.shape[1:])
            if kernel is None:
                self.after[id(symbol)] = _Rescaled(step.operation, scale, offset)
            else:
                self.kernels.append((taker.operation, kernel))


class _Rescaled:
    """Multiplies by one factor per unit, in place of a mask."""

    def __init__(self, mask, scale, offset):
        self._mask, self._scale, self._offset = mask, scale, offset

    def __call__(self, x):
        offset = self._offset if self._offset.any() else 0.0
        name = f"{self._mask.name}_fixed"
        return layers.Rescaling(self._scale, offset, name=name, dtype=self._mask.dtype_policy)(x)


def _factors(step, caller, seed):
    """Returns the factors and the offset of a mask, without the axis of examples, as small as they can be stored."""
    layer, shape = step.operation, step.symbols[0].shape
    units = noise_pattern(layer) or (None,) * len(shape)
    sizes = [1 if unit == 1 else n for unit, n in zip(units[1:], shape[1:], strict=True)]
    if None in sizes:
        raise BadInput(
            f"a mask must have a known number of units to be thinned, got {step.name!r} over {tuple(shape[1:])}; build "
            "the model with a fixed input shape"
        )
    one = np.ones((1, *sizes), layer.compute_dtype)
    zero, full = (_masked(step, caller, seed, x) for x in (np.zeros_like(one), one))
    return _compact(full - zero), _compact(zero)


def _masked(step, caller, seed, x):
    seeds = keras.ops.convert_to_tensor([seed], "int32")
    return np.asarray(caller.masked(step, keras.ops.convert_to_tensor(x), seeds))[0]


def _compact(factors):
    """Returns factors with each leading axis along which they do not vary left out."""
    while factors.ndim > 1 and (factors == factors[:1]).all():
        factors = factors[0]
    return factors


def _taker(graph, takers, step, names):
    """Returns the only call that takes the masked tensor, directly or after a Flatten; None if there are others."""
    place = step.outputs[0]
    while place not in graph.outputs and len(takers.get(place, [])) == 1:
        (taker,) = takers[place]
        if isinstance(taker.operation, layers.Flatten) and taker.operation.data_format == "channels_last":
            place = taker.outputs[0]
            continue
        own = type(taker.operation) in _TAKING and names.count(taker.operation.name) == 1
        return taker if own and len(taker.inputs) == 1 else None
    return None


def _of_kernel(taker, scale, shape):
    """Returns factors that broadcast to the kernel of `taker`; None if its kernel cannot hold the mask."""
    layer = taker.operation
    if isinstance(layer, layers.Dense):
        units = layer.kernel.shape[0]
        if scale.ndim == 1 and units == shape[-1]:  # whole feature maps, or a vector
            return scale[:, None]
        flat = np.broadcast_to(scale, shape).reshape(-1)
        return flat[:, None] if len(flat) == units else None
    plain = layer.data_format == "channels_last" and layer.groups == 1
    return scale[:, None] if plain and scale.ndim == 1 and len(scale) == layer.kernel.shape[-2] else None
