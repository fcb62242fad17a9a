"""Rates as variables, so that a training step that is traced once can be given other rates.

The masks, and all that is computed with them, are those of the constant rate, bit for bit.
"""

import keras
import tensorflow as tf

from zoo.dropout import counter
from zoo.dropout.layers import Drawing


def takes(layer: keras.Layer) -> bool:
    """Returns whether the rate of a layer can be a variable: that of a mask layer of this project, below 1."""
    return isinstance(layer, Drawing) and layer.rate < 1


def enliven(layer: keras.Layer) -> None:
    """Makes the rate of a layer a variable, also one of 0; see `takes`.

    A rate that a schedule multiplies is a float32, which `kernels` rounds at each step. Any other is the word
    to which it would have been rounded, since float32 cannot hold it.
    """
    own = vars(layer)  # past Keras, which would count what is added to the layer's variables
    own["live"] = tf.Variable(_value(layer), trainable=False, dtype=tf.int32 if layer.moving is None else tf.float32)
    if layer.rate == 0:  # Keras gives it no generator
        own["seed_generator"] = keras.random.SeedGenerator(0)


def set_rate(layer: keras.Layer, like: keras.Layer) -> None:
    """Sets the rate of an enlivened layer to that of the layer `like`, if it `takes` one."""
    if takes(layer):
        layer.live.assign(_value(like))


def _value(layer):
    return counter.threshold(layer.rate) if layer.moving is None else layer.rate
