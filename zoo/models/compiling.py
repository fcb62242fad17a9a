"""Compiling a model whose outputs are logits, and the warning for a loss that expects probabilities."""

import functools
import warnings
from typing import TYPE_CHECKING, Any

from zoo.checks import shown
from zoo.errors import BadInput

if TYPE_CHECKING:
    import keras

_EXAMPLES = 8  # random inputs that show what a model of unknown code returns


def compile(model: "keras.Model", **keywords: Any) -> "keras.Model":
    """Compiles a model that returns logits, as every model of `zoo.build` does.

    It warns if the loss does not fit the outputs: a loss on probabilities with logits, or a loss on logits with
    probabilities, which are recognised by the last operation of a Functional model, or by the values that the model
    gives for random inputs.

    The defaults are `keras.optimizers.Adam()`, sparse categorical cross-entropy on logits (integer
    labels) and accuracy.

    Args:
        model: a Keras model with outputs `(batch, classes)`, logits.
        **keywords: arguments of `keras.Model.compile`, such as `optimizer`, `loss`, `metrics` or
            `jit_compile`. They replace the defaults.

    Returns:
        The same model, compiled.

    Raises:
        BadInput: `model` is not a Keras model, or returns probabilities and no loss is given. `BadInput` is a
            `ValueError`.

    Examples:
        >>> model = zoo.compile(zoo.build("mlp", (8, 8, 1), 10))
        >>> model.loss.from_logits
        True
    """
    import keras

    if not isinstance(model, keras.Model):
        raise BadInput(f"model must be a Keras model, got {shown(model)}; zoo.build returns one")
    defaults = {
        "optimizer": keras.optimizers.Adam(),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "metrics": ["accuracy"],
    }
    scores, watched = _scores(model), "compile" in vars(model)
    probabilities = _shows_probabilities(model, scores)
    if probabilities and "loss" not in keywords:
        raise BadInput(
            f"model must return logits, got {model.name!r}, which returns probabilities: {probabilities}; remove its "
            "last activation, or pass loss='sparse_categorical_crossentropy' (or another loss on probabilities)"
        )
    if "loss" not in keywords and scores is not None and scores.units == 1:
        raise BadInput(
            f"model must return one logit per class, got {model.name!r} with one output; "
            "give it two, or pass loss=keras.losses.BinaryCrossentropy(from_logits=True), metrics=['binary_accuracy']"
        )
    try:
        model.compile(**{**defaults, **keywords})
    except Exception as error:  # Keras raises errors of many classes for what it does not know
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise BadInput(
            f"{', '.join(keywords)} must be what keras.Model.compile takes, got an error: {reason}"
        ) from error
    if probabilities and _expects_logits(model.loss):
        warnings.warn(
            f"{model.name!r} returns probabilities ({probabilities}), but the loss expects logits, so training will "
            "fail to learn; use a loss with from_logits=False, or remove the last activation",
            stacklevel=2,
        )
    elif not watched and _are_logits(scores) and _expects_probabilities(model.loss):
        _warn_of_logits(model)
    return model


def _scores(model):
    """Returns how to read the outputs of a model, by its operations; None if they do not tell."""
    from zoo.keras_graph import Graph
    from zoo.models.scores import scores_of

    try:
        return scores_of(Graph(model))
    except BadInput:  # several outputs, or not a Functional model
        return None


def _are_logits(scores):
    return scores is not None and scores.certain and scores.form == "logits"


def _shows_probabilities(model, scores) -> str:
    """Returns what shows that a model returns probabilities; empty if nothing does."""
    if scores is None or _are_logits(scores):
        return ""
    if scores.form != "logits":
        return scores.why
    import numpy as np

    rng, examples = np.random.default_rng(0), []
    for x in model.inputs:
        shape = (_EXAMPLES, *(n or 1 for n in x.shape[1:]))
        examples.append(rng.normal(size=shape).astype("float32") if "float" in x.dtype else np.ones(shape, "int32"))
    try:
        outputs = model(examples if len(examples) > 1 else examples[0], training=False)
        settled = scores.settled(np.asarray(outputs))
    except Exception:  # inputs of another kind, or values that can be either
        return ""
    return settled.why if settled.form != "logits" else ""


def warning_on_probabilities(model: "keras.Model") -> "keras.Model":
    """Makes `model.compile` warn, once, if its loss expects probabilities.

    The method is replaced on this instance alone. The class stays Keras' own, and saved files, clones
    and copies, which Keras makes from the configuration, are not affected.
    """
    keras_compile = model.compile

    @functools.wraps(keras_compile)
    def compile(*args, **keywords):
        keras_compile(*args, **keywords)
        if _expects_probabilities(model.loss):
            vars(model).pop("compile", None)
            _warn_of_logits(model)

    # `setattr` would make Keras track the function as part of the model.
    vars(model)["compile"] = compile
    return model


def _warn_of_logits(model):
    warnings.warn(
        f"{model.name!r} returns logits, but the loss expects probabilities, so training will fail to learn; "
        "use zoo.compile(model), or a loss with from_logits=True",
        stacklevel=3,
    )


def _expects_logits(loss) -> bool:
    """Returns whether a loss, or any of a structure of losses, is one of Keras' losses on logits."""
    import keras

    return any(getattr(leaf, "from_logits", False) is True for leaf in keras.tree.flatten(loss))


def _expects_probabilities(loss) -> bool:
    """Returns whether a loss, or any of a structure of losses, is one of Keras' losses on probabilities."""
    import keras

    known = keras.losses
    functions = (
        known.binary_crossentropy,
        known.binary_focal_crossentropy,
        known.categorical_crossentropy,
        known.categorical_focal_crossentropy,
        known.sparse_categorical_crossentropy,
        known.kl_divergence,
    )

    def expects(leaf):
        if isinstance(leaf, str):
            if leaf.lower() in ("crossentropy", "ce"):  # Keras chooses one of the functions when training starts
                return True
            try:
                leaf = known.get(leaf)
            except ValueError:  # Keras reports unknown names itself, when training starts
                return False
        if isinstance(leaf, known.Loss):
            on_probabilities = known.KLDivergence | known.CategoricalGeneralizedCrossEntropy
            return getattr(leaf, "from_logits", None) is False or isinstance(leaf, on_probabilities)
        return leaf in functions

    return any(map(expects, keras.tree.flatten(loss)))
