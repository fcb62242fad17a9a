"""The mask layers: fast subclasses of Keras' own, and `DropBlock2D`.

The subclasses take the same arguments as their parents, and can be used in their place; training steps
are cheaper (`zoo.dropout.kernels`). They are saved under the names of their parents: any Keras opens the
file, without this project, and continues with the stock layer of the same configuration.
"""

import numbers
from typing import Any

import keras
import tensorflow as tf

from zoo import checks, keras_graph
from zoo.dropout import counter, kernels
from zoo.placement.drop import BLOCK_SIZE, KINDS
from zoo.seeds import of_layer

_STOCK = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.AlphaDropout,
)
SPATIAL = _STOCK[1:4]
_DRAWN_BY = ("__call__", "call", "_drawn", "_get_noise_shape")  # methods that decide what a mask layer does


class Drawing:
    """Common part of the layers: one draw per call, at a rate that may follow a schedule.

    `moving` is None, or a `zoo.dropout.scheduled.MovingRate` whose variable multiplies the rate in
    training. `rate` itself does not change. `live` is None, or the rate as a variable (`zoo.dropout.live`).
    """

    moving = None
    live: Any = None
    rate: Any
    seed_generator: Any
    _drawn: Any

    def __init__(self, rate: float, *args: Any, **kwargs: Any) -> None:
        checks.number("rate", rate, 0, 1, closed="both")
        seed = kwargs.get("seed")
        if seed is not None and not isinstance(seed, keras.random.SeedGenerator):
            checks.integer("seed", seed, -(2**31), 2**32 - 1)
        super().__init__(rate, *args, **kwargs)

    @property
    def realised_rate(self) -> float:
        """The actual rate: `rate` to within 2**-32, and above 0 unless `rate` is 0."""
        return (counter.threshold(self.rate) + 2**31) / 2**32 if self.rate < 1 else 1.0

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `inputs`, with a mask applied if `training`. Raises `ValueError` for integers, as Keras does."""
        if not training or (self.rate == 0 and self.live is None):
            return inputs
        check_float(self, inputs)
        if self.rate >= 1:  # Keras allows it
            return tf.zeros_like(inputs)
        rate = self.rate if self.live is None else self.live
        if self.moving is not None:
            rate = rate * self.moving.variable
        return self._drawn(inputs, tf.cast(self.seed_generator.next(), tf.int64), _lane(), rate)


def check_float(layer: keras.Layer, inputs: Any, error: type[ValueError] = ValueError) -> None:
    """Raises `error` unless a mask layer's `inputs` are floating: integers cannot be scaled by 1/(1 - rate)."""
    kind = keras.backend.standardize_dtype(inputs.dtype)
    if not keras.backend.is_float_dtype(kind):
        raise error(
            f"inputs of layer {layer.name!r} must be floating in training, got {kind}, which cannot be scaled by "
            "1/(1 - rate); cast them first, as with keras.layers.Rescaling(1.0)"
        )


def _lane():
    """Returns the number of this replica. Seed generators are mirrored, so replicas need different draws."""
    replica = tf.distribute.get_replica_context()
    alone = replica is None or replica.num_replicas_in_sync == 1
    return tf.constant(0) if alone else tf.cast(replica.replica_id_in_sync_group, tf.int32)


class _Dropping(Drawing):
    """Factors of 0 or 1/(1 - rate), one draw per unit of the noise shape."""

    def _drawn(self, inputs, state, lane, rate):
        return kernels.drop(inputs, state, lane, rate, noise_pattern(self))


class Dropout(_Dropping, keras.layers.Dropout):
    """`keras.layers.Dropout` at about the cost of a multiplication (Srivastava et al. 2014).

    Arguments, configuration and behaviour are those of Keras, but a seed gives other masks. Each value
    is dropped independently with probability `rate`, exact to 2**-32 (`realised_rate`). The others are
    divided by the share kept. Masks of single values are not stored for the gradient.

    Examples:
        >>> layer = Dropout(0.25, seed=1)
        >>> layer.realised_rate
        0.25
    """


class SpatialDropout1D(_Dropping, keras.layers.SpatialDropout1D):
    """A fast `keras.layers.SpatialDropout1D`: drops whole feature maps, masks `(batch, 1, channels)`."""


class SpatialDropout2D(_Dropping, keras.layers.SpatialDropout2D):
    """A fast `keras.layers.SpatialDropout2D`: drops whole feature maps (Tompson et al. 2015)."""


class SpatialDropout3D(_Dropping, keras.layers.SpatialDropout3D):
    """A fast `keras.layers.SpatialDropout3D`: drops whole feature maps, masks `(batch, 1, 1, 1, channels)`."""


class GaussianDropout(Drawing, keras.layers.GaussianDropout):
    """A fast `keras.layers.GaussianDropout`: noise of mean 1 and variance rate/(1 - rate)."""

    def _drawn(self, inputs, state, lane, rate):
        return kernels.shake(inputs, state, lane, rate)


for _layer in (Dropout, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D, GaussianDropout):
    keras_graph.save_as(_layer, f"keras.layers.{_layer.__name__}")


@keras.saving.register_keras_serializable("dropout_zoo")
class DropBlock2D(Drawing, keras.layers.Layer):
    """Drops squares of feature maps, independently in each map (Ghiasi et al. 2018, algorithm 1).

    Input and output are `(batch, height, width, channels)`. The rest of an example is divided by the
    share kept in that example. The paper uses it after convolutions, with a rate that grows from 0
    during training.

    Args:
        rate: probability in [0, 1) that a value is dropped. Overlaps and borders are accounted for, so
            the share of zeros is `rate` on average; in the paper it is lower.
        block_size: edge of a square, in pixels; cut to the edge of the map.
        data_format: `channels_last` or `channels_first`.
        seed: seed of the layer's generator.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Raises:
        BadInput: a rate outside [0, 1), or a block size below 1. `BadInput` is a `ValueError`.

    Examples:
        >>> DropBlock2D(0.1, block_size=3, seed=1)(tf.ones((2, 8, 8, 4)), training=True).shape
        TensorShape([2, 8, 8, 4])
    """

    def __init__(
        self,
        rate: float,
        block_size: int = BLOCK_SIZE,
        data_format: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        keras.layers.Layer.__init__(self, **kwargs)
        checks.number("rate", rate, 0, 1)
        if seed is not None:
            checks.integer("seed", seed, -(2**31), 2**32 - 1)
        block_size = checks.integer("block_size", block_size)
        self.rate, self.block_size, self.seed = rate, block_size, seed
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.supports_masking = True
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)
        keras_graph.built_at_init(self)

    def _drawn(self, inputs, state, lane, rate):
        return kernels.drop_blocks(inputs, state, lane, rate, self.block_size, self.data_format == "channels_last")

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns `input_shape`."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the layer, fit for JSON."""
        own = {key: getattr(self, key) for key in ("rate", "block_size", "data_format", "seed")}
        return {**super().get_config(), **own}


_MASKS = {*_STOCK, Dropout, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D, GaussianDropout, DropBlock2D}


def mask_layer(
    kind: str,
    rate: float,
    *,
    rank: int,
    name: str,
    seed: int,
    block_size: int = BLOCK_SIZE,
    channels_first: bool = False,
    dtype: str | None = None,
) -> keras.Layer:
    """Returns the layer of a kind of dropout.

    Its masks depend on `seed` and `name`, not on the global seed or on other layers.

    Args:
        kind: one of `zoo.placement.drop.KINDS`.
        rate: probability that a value is dropped.
        rank: rank of the input with the batch axis: 4 for `(batch, height, width, channels)`, whatever the
            image data format of Keras.
        name: name of the layer.
        seed: seed of the model.
        block_size: edge of a square, for `drop_block`.
        channels_first: whether axis 1 of the input holds the channels, and not the last one.
        dtype: data type that the layer computes in; Keras' default if None.

    Raises:
        BadInput: an unknown kind.
    """
    checks.one_of("kind", kind, KINDS)
    common: dict[str, Any] = {"seed": of_layer(seed, name), "name": name, "dtype": dtype}
    order = {"data_format": "channels_first" if channels_first else "channels_last"}
    if kind == "dropout":
        return Dropout(rate, **common)
    if kind == "spatial":
        if rank == 3:  # Keras' layer takes the last axis for the channels
            if channels_first:
                return Dropout(rate, noise_shape=(None, None, 1), **common)
            return SpatialDropout1D(rate, **common)
        return {4: SpatialDropout2D, 5: SpatialDropout3D}[rank](rate, **order, **common)
    if kind == "drop_path":
        # Stochastic depth: one draw per example (Huang et al. 2016).
        return Dropout(rate, noise_shape=(None,) + (1,) * (rank - 1), **common)
    if kind == "drop_block":
        return DropBlock2D(rate, block_size, **order, **common)
    return GaussianDropout(rate, **common)


def scale_layer(rate: float, *, name: str, dtype: str | None = None) -> keras.Layer:
    """Returns the layer that turns the inverted dropout before it into the original formulation.

    Inverted dropout gives x/(1-rate) in training and x at inference. Times 1-rate, that is x and
    (1-rate)x, as in Srivastava et al. 2014, section 4.
    """
    return keras.layers.Rescaling(1.0 - rate, name=name, dtype=dtype)


def is_mask(layer: Any) -> bool:
    """Returns whether a layer only applies masks or noise that this project can draw from a seed.

    It is a layer of Keras or of this project, or a subclass that changes nothing of what is drawn.
    """
    kind = type(layer)
    known = next((parent for parent in kind.__mro__ if parent in _MASKS), None)
    if known is None or any(getattr(kind, name, None) is not getattr(known, name, None) for name in _DRAWN_BY):
        return False
    return isinstance(strength(layer), numbers.Real)


def strength(layer: keras.Layer) -> float:
    """Returns the rate of a mask layer, or the standard deviation of one that adds noise; 0 if it does nothing."""
    return layer.stddev if isinstance(layer, keras.layers.GaussianNoise) else layer.rate


def kind_of(layer: keras.Layer) -> str:
    """Returns the kind of a mask layer, read from the layer itself."""
    if isinstance(layer, SPATIAL):
        return "spatial"
    if isinstance(layer, DropBlock2D):
        return "drop_block"
    if isinstance(layer, keras.layers.GaussianDropout):
        return "gaussian"
    if isinstance(layer, keras.layers.AlphaDropout | keras.layers.GaussianNoise):
        return type(layer).__name__
    shared = [size == 1 for size in (getattr(layer, "noise_shape", None) or ())[1:]]
    if shared and all(shared):
        return "drop_path"
    return "spatial" if len(shared) > 1 and sum(shared) == len(shared) - 1 else "dropout"


def noise_pattern(layer: keras.Layer) -> tuple[int | None, ...] | None:
    """Returns the noise shape of a mask layer, None for an axis of its own size; None for one draw per value."""
    if isinstance(layer, SPATIAL):
        rank = layer.input_spec.ndim
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1
        return tuple(None if i in (0, axis) else 1 for i in range(rank))
    return getattr(layer, "noise_shape", None)
