"""The mask layers: Keras' own, made cheap. The one place that knows how a kind is drawn in training.

Everything else asks for a kind, a rate and a seed. The layers are subclasses of Keras'
with the same arguments, and pass wherever those do; the difference is what `training`
costs (`zoo.kernels`). Written into a file they are their parents: any Keras opens it,
without this project, and goes on with the stock layer of the same configuration.
"""

import keras
import tensorflow as tf
from keras.src import api_export  # where Keras keeps the names under which classes are written to files

from zoo import counter, kernels
from zoo.drop import BLOCK_SIZE
from zoo.seeds import seed_for

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


class _Drawing:
    """What the layers share: a draw for each call, and a rate that may follow a schedule.

    `moving` is None, or a `zoo.moving.MovingRate` whose variable multiplies the rate while
    training; `rate` stays what the placement says.
    """

    moving = None

    @property
    def realised_rate(self):
        """The rate at which values are dropped: `rate` to within 2**-32, and never 0 unless `rate` is."""
        return (counter.threshold(self.rate) + 2**31) / 2**32 if self.rate < 1 else 1.0

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        if self.rate >= 1:  # Keras allows it
            return tf.zeros_like(inputs)
        rate = self.rate if self.moving is None else self.rate * self.moving.variable
        return self._drawn(inputs, tf.cast(self.seed_generator.next(), tf.int64), _lane(), rate)


def _lane():
    """The number of this replica: generators are mirrored, and all replicas would draw the same masks."""
    replica = tf.distribute.get_replica_context()
    alone = replica is None or replica.num_replicas_in_sync == 1
    return tf.constant(0) if alone else tf.cast(replica.replica_id_in_sync_group, tf.int32)


class _Dropping(_Drawing):
    """Values of 0 and 1/(1 - rate), one coin for each unit of the noise shape."""

    def _drawn(self, inputs, state, lane, rate):
        return kernels.drop(inputs, state, lane, rate, noise_pattern(self))


class Dropout(_Dropping, keras.layers.Dropout):
    """`keras.layers.Dropout` at about the price of a product (Srivastava et al. 2014).

    Arguments, configuration and behaviour are Keras'; the masks of a seed are not. Each
    value is dropped independently with probability `rate`, exact to 2**-32
    (`realised_rate`), and the others are divided by the share kept. No mask of single values
    is stored for the gradient.

    >>> layer = Dropout(0.25, seed=1)
    >>> layer.realised_rate
    0.25
    """


class SpatialDropout1D(_Dropping, keras.layers.SpatialDropout1D):
    """`keras.layers.SpatialDropout1D`, made cheap: whole feature maps `(batch, 1, channels)`."""


class SpatialDropout2D(_Dropping, keras.layers.SpatialDropout2D):
    """`keras.layers.SpatialDropout2D`, made cheap: whole feature maps (Tompson et al. 2015)."""


class SpatialDropout3D(_Dropping, keras.layers.SpatialDropout3D):
    """`keras.layers.SpatialDropout3D`, made cheap: whole feature maps `(batch, 1, 1, 1, channels)`."""


class GaussianDropout(_Drawing, keras.layers.GaussianDropout):
    """`keras.layers.GaussianDropout`, made cheap: noise of mean 1 and variance rate/(1 - rate)."""

    def _drawn(self, inputs, state, lane, rate):
        return kernels.shake(inputs, state, lane, rate)


for _ours in (Dropout, SpatialDropout1D, SpatialDropout2D, SpatialDropout3D, GaussianDropout):
    api_export.REGISTERED_OBJS_TO_NAMES[_ours] = f"keras.layers.{_ours.__name__}"


@keras.saving.register_keras_serializable("dropout_zoo")
class DropBlock2D(_Drawing, keras.layers.Layer):
    """Drops squares of feature maps, each map its own (Ghiasi et al. 2018, algorithm 1).

    Args:
        rate: probability in [0, 1) that a value is dropped, borders and overlaps counted:
            the share of zeros is `rate` on average, where the paper's is lower.
        block_size: edge of a square, in pixels; cut to the map's own edge if that is less.
        data_format: `channels_last` or `channels_first`.
        seed: of the layer's generator.

    Input and output: `(batch, height, width, channels)`. What is left of an example is
    multiplied by one factor, the inverse of the share kept. The paper places it after
    convolutions, with a rate that grows from 0 while training (`zoo.schedule`).

    Raises ValueError for a rate outside [0, 1) and a block size below 1.

    >>> DropBlock2D(0.1, block_size=3, seed=1)(tf.ones((2, 8, 8, 4)), training=True).shape
    TensorShape([2, 8, 8, 4])
    """

    def __init__(self, rate, block_size=BLOCK_SIZE, data_format=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"received rate {rate!r}; it lies in [0, 1), the probability to be dropped")
        if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < 1:
            raise ValueError(f"received block_size {block_size!r}; it is the edge of a square, at least 1 pixel")
        self.rate, self.block_size, self.seed = rate, block_size, seed
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        self.input_spec = keras.layers.InputSpec(ndim=4)
        self.supports_masking = True
        if rate > 0:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self._build_at_init()

    def _drawn(self, inputs, state, lane, rate):
        return kernels.drop_blocks(inputs, state, lane, rate, self.block_size, self.data_format == "channels_last")

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {key: getattr(self, key) for key in ("rate", "block_size", "data_format", "seed")}
        return {**super().get_config(), **own}


def mask_layer(kind, rate, *, rank, name, seed, block_size=BLOCK_SIZE):
    """A layer that drops with probability `rate`, in training alone.

    `rank` is that of its input, the batch axis counted: `(batch, height, width,
    channels)` is 4. The masks depend on the model's `seed` and on `name`, never on
    the global seed or on other layers.

    Raises ValueError for a kind that is not one of `zoo.placement.KINDS`.
    """
    seed = seed_for(seed, name)
    if kind == "dropout":
        return Dropout(rate, seed=seed, name=name)
    if kind == "spatial":
        return {3: SpatialDropout1D, 4: SpatialDropout2D}[rank](rate, seed=seed, name=name)
    if kind == "drop_path":
        # Stochastic depth: one coin per example (Huang et al. 2016).
        return Dropout(rate, noise_shape=(None,) + (1,) * (rank - 1), seed=seed, name=name)
    if kind == "drop_block":
        return DropBlock2D(rate, block_size, seed=seed, name=name)
    if kind == "gaussian":
        return GaussianDropout(rate, seed=seed, name=name)
    raise ValueError(f"received kind {kind!r}")


def scale_layer(rate, *, name):
    """Turns the inverted layer before it into the original formulation.

    Inverted dropout gives x/(1-rate) in training and x at inference; times 1-rate that
    is x and (1-rate)x, which is what Srivastava et al. 2014 (section 4) describe.
    """
    return keras.layers.Rescaling(1.0 - rate, name=name)


def is_mask(layer):
    """Whether a layer does nothing but draw masks or noise: Keras' own, ours or anybody's."""
    if isinstance(layer, _Drawing):
        return type(layer).call is _Drawing.call
    return isinstance(layer, _STOCK) and any(type(layer).call is stock.call for stock in _STOCK)


def strength(layer):
    """The rate of a mask layer, or the standard deviation of one that adds noise; 0 if it does nothing."""
    return layer.stddev if isinstance(layer, keras.layers.GaussianNoise) else layer.rate


def kind_of(layer):
    """The kind of a mask layer, read from the layer itself."""
    if isinstance(layer, SPATIAL):
        return "spatial"
    if isinstance(layer, DropBlock2D):
        return "drop_block"
    if isinstance(layer, keras.layers.GaussianDropout):
        return "gaussian"
    if isinstance(layer, keras.layers.AlphaDropout | keras.layers.GaussianNoise):
        return type(layer).__name__
    shape = getattr(layer, "noise_shape", None)
    return "drop_path" if shape and all(size == 1 for size in shape[1:]) else "dropout"


def noise_pattern(layer):
    """The noise shape of a mask layer, None where an axis keeps its own size; None for a coin for each value."""
    if isinstance(layer, SPATIAL):
        rank = layer.input_spec.ndim
        axis = 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1
        return tuple(None if i in (0, axis) else 1 for i in range(rank))
    return getattr(layer, "noise_shape", None)
