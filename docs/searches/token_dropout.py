"""The winner of the search on `sst2.csv`, with masks that drop whole tokens.

Such a mask is Keras' `Dropout` with one draw per position. Each function is a model for `--model`.
"""

import keras

import zoo


def winner(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns the winner: 0.6 of the values at `embedding` are dropped, and no tokens."""
    return _network(input_shape, classes, values=0.6, tokens=0.0)


def values_and_tokens_10(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns the winner with 10 % of the tokens dropped, too."""
    return _network(input_shape, classes, values=0.6, tokens=0.1)


def values_and_tokens_30(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns the winner with 30 % of the tokens dropped, too."""
    return _network(input_shape, classes, values=0.6, tokens=0.3)


def tokens_30(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """Returns the winner with 30 % of the tokens dropped in place of values."""
    return _network(input_shape, classes, values=0.0, tokens=0.3)


def _network(input_shape, classes, values, tokens):
    placement = {"embedding": values, "attention": 0.2, "ffn_out": 0.2}
    settings = {"width": 16, "depth": 1, "heads": 2, "ffn": 32}
    model = zoo.build("transformer", input_shape, classes, placement=placement, vocabulary=8000, **settings)

    def call(layer, *inputs, **options):
        y = layer(*inputs, **options)
        if layer.name != "embed":
            return y
        return keras.layers.Dropout(tokens, noise_shape=(None, None, 1), name="drop_tokens")(y)

    return keras.models.clone_model(model, call_function=call)
