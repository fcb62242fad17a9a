"""A placed model in a file: its inference is compared with that of the model it was made from, then it is written."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo import files, keras_graph
from zoo.errors import BadInput, RunFailed
from zoo.models.sites import stock
from zoo.surgery.place import place
from zoo.surgery.recognise import sites


def write(model: keras.Model, placed: keras.Model, path: Path) -> dict[str, Any]:
    """Writes a placed model as a `.keras` file of stock layers, once its inference is checked.

    Args:
        model: the model that it was made from.
        placed: the placed model.
        path: the file; replaced if it exists.

    Returns:
        `inference` (a sentence about what was compared) and `difference`: the largest absolute difference
        of an output of the file, opened again, from that of `model`, on inputs drawn at random; None if
        it was not compared.

    Raises:
        RunFailed: inference differs from that of `model`, where it must not.
        BadInput: Keras cannot write or read the file.
    """
    scaled = _scaled(model) or _scaled(placed)
    try:
        x = example(model)
        expected = _outputs(model, x)
        if scaled:
            same = _equal(_outputs(place(model, {}), x), _outputs(place(placed, {}), x))
        else:
            same = _equal(expected, _outputs(placed, x))
    except RunFailed:
        raise
    except Exception as error:  # layers that take no drawn numbers, such as texts
        x, expected, same, reason = None, None, True, str(error).strip().split("\n")[0]
    if not same:
        raise RunFailed("the placed model does not compute what the model computes at inference; nothing was written")
    try:
        with files.replacing(path) as temporary:
            stock(placed).save(temporary)
            reread = keras.models.load_model(temporary, compile=False) if x is not None else None
    except (ValueError, TypeError, NotImplementedError) as error:
        raise BadInput(f"cannot write {path}: Keras refuses a layer: {error}") from error
    if x is None:
        return {"inference": f"inference was not compared: no inputs can be drawn ({reason})", "difference": None}
    result = _outputs(reread, x)
    difference = max(float(np.abs(a - b).max(initial=0)) for a, b in zip(expected, result, strict=True))
    if scaled:
        said = (
            "inference is scaled by 1-rate where the scaling is original; without dropout it is unchanged, bit for bit"
        )
    elif _equal(expected, result):
        said = "inference is unchanged, bit for bit"
    else:
        said = (
            f"inference is unchanged, bit for bit, in this process; the file differs by up to {difference:.1e}, "
            "because Keras' attention layers take another path as soon as their rate is above 0"
        )
    return {"inference": said, "difference": difference}


def example(model: keras.Model, batch: int = 2, seed: int = 0) -> Any:
    """Returns inputs drawn at random, in the structure of the model's inputs.

    Integers are small enough for every embedding in the model. Sizes that the model leaves open are 16.
    """
    rng = np.random.default_rng(seed)
    tables = [layer.input_dim for layer in keras_graph.inside(model) if isinstance(layer, keras.layers.Embedding)]

    def drawn(tensor):
        shape = [batch, *(16 if size is None else size for size in tensor.shape[1:])]
        if tensor.shape[0]:
            shape[0] = tensor.shape[0]
        dtype = str(tensor.dtype)
        if dtype == "string":
            raise ValueError("it takes texts")
        if "float" in dtype:
            return rng.uniform(0, 255 if len(shape) == 4 else 1, shape).astype("float32")
        if dtype == "bool":
            return rng.integers(0, 2, shape).astype(bool)
        return rng.integers(0, min([256 if dtype == "uint8" else 100, *tables]), shape).astype(dtype)

    return keras.tree.map_structure(drawn, keras_graph.inputs_of(model))


def _scaled(model):
    """Returns whether a model scales at inference for some of its masks."""
    return any(mask.scale is not None for row in sites(model) for mask in row.place.masks)


def _outputs(model, x):
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # Keras traces a new function for each grouped convolution that runs eagerly
    try:
        return [np.asarray(keras.ops.convert_to_numpy(y)) for y in keras.tree.flatten(model(x, training=False))]
    finally:
        logger.setLevel(level)


def _equal(left, right):
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(left, right, strict=True))
