"""The forms of MODEL: a name, a file, a network of `keras.applications`, a function of the user's own code."""

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import checks, keras_file, startup
from zoo.checks import MOST, integer
from zoo.errors import BadInput
from zoo.models import catalogue

if TYPE_CHECKING:
    import keras

FORMS = "a .keras file, mlp, cnn, resnet, transformer, applications/NAME, or MODULE:FUNCTION"
_APPLICATIONS = "applications/"
# How each module of keras.applications expects its pixels; None: it begins with layers that see to it.
_PIXELS = {
    "convnext": None,
    "densenet": "torch",
    "efficientnet": None,
    "efficientnet_v2": None,
    "inception_resnet_v2": "tf",
    "inception_v3": "tf",
    "mobilenet": "tf",
    "mobilenet_v2": "tf",
    "mobilenet_v3": None,
    "nasnet": "tf",
    "resnet": "caffe",
    "resnet_v2": "tf",
    "vgg16": "caffe",
    "vgg19": "caffe",
    "xception": "tf",
}


def open_model(
    model: str | Path,
    input_shape: str | Sequence[int] | None = None,
    classes: int | None = None,
    vocabulary: int | None = None,
    imports: Iterable[str] = (),
    say: Callable[[str], object] | None = None,
) -> "keras.Model":
    """Opens a model that a user names.

    Args:
        model: path of a `.keras` file, opened in safe mode; `mlp`, `cnn`, `resnet` or `transformer`;
            `applications/NAME`, a network of `keras.applications` without weights; or `MODULE:FUNCTION`,
            a function `(input_shape, classes) -> keras.Model`, which is imported and run.
        input_shape: shape of one example, such as `(28, 28, 1)` or its text `28,28,1`; needed unless
            `model` is a file.
        classes: number of classes; needed unless `model` is a file.
        vocabulary: number of token ids, for a transformer over tokens.
        imports: packages to import first. Their code runs; it registers custom layers.
        say: called with a line about what was added to the model; it goes to stderr unless given.

    Raises:
        BadInput: there is no such model, or it cannot be opened. `BadInput` is a `ValueError`.

    Examples:
        >>> open_model("mlp", (8, 8, 1), 10).output_shape
        (None, 10)
    """
    text = str(model if isinstance(model, str) else checks.path("model", model))
    shape = _shape(input_shape)
    if classes is not None:
        classes = integer("classes", classes, 2, MOST["classes"])
    kind = _form(text)
    if kind == "file" and (shape is not None or classes is not None):
        raise BadInput(f"input_shape and classes must be left out for a file, which has its own, got them with {text}")
    if kind != "file" and (shape is None or classes is None):
        raise BadInput(f"input_shape and classes must be given for {text}, as in --input-shape 28,28,1 --classes 10")
    say = say or (lambda line: print(line, file=sys.stderr))
    startup.tensorflow()
    for package in imports:
        _imported(package)
    if kind == "file":
        return _file(Path(text).expanduser())
    if kind == "name":
        return catalogue.build(text, shape, classes, vocabulary=vocabulary)
    if kind == "application":
        return _application(text.removeprefix(_APPLICATIONS), shape, classes, say)
    return _function(text, shape, classes)


def form_of(text: str) -> str | None:
    """Returns the form of a MODEL: `name`, `application`, `file` or `function`; None if it has none of them.

    Examples:
        >>> form_of("mlp"), form_of("mine.keras"), form_of("mine.onnx")
        ('name', 'file', None)
    """
    if text in catalogue.CONFIGS:
        return "name"
    if text.startswith(_APPLICATIONS):
        return "application"
    if Path(text).suffix in (".keras", ".h5", ".hdf5"):
        return "file"
    return "function" if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text) else None


def _form(text):
    form = form_of(text)
    if form not in (None, "file"):
        return form
    path = checks.path("model", text)
    if path.suffix in (".h5", ".hdf5"):
        target = path.with_suffix(".keras")
        line = f"import keras; keras.models.load_model({text!r}, compile=False).save({str(target)!r})"
        raise BadInput(f'model must be a .keras file, got {text}, an older format; convert it with: python -c "{line}"')
    if path.suffix == ".keras":
        if not path.is_file():
            raise BadInput(f"cannot read {text}: no such file; MODEL is {FORMS}")
        return "file"
    if path.is_dir():
        inside = sorted(str(p) for p in path.glob("*.keras"))
        hint = f"; give the file {inside[0]}" if inside else ""
        raise BadInput(f"model must be {FORMS}, got the folder {text}{hint}")
    raise BadInput(f"model must be {FORMS}, got {checks.shown(text)}")


def _shape(value):
    if value is None:
        return None
    if not isinstance(value, str | list | tuple):
        raise BadInput(f"input_shape must be integers, as in 28,28,1, got {checks.shown(value)}")
    parts = re.split(r"[,x/ ]+", value.strip("() ")) if isinstance(value, str) else list(value)
    try:
        sizes = [int(str(part)) for part in parts if str(part)]
    except ValueError:
        sizes = []
    if not sizes:
        raise BadInput(f"input_shape must be integers, as in 28,28,1, got {checks.shown(value)}")
    return tuple(integer("each size in input_shape", size, 1, MOST["width"]) for size in sizes)


def _file(path):
    import keras

    try:
        model = keras_file.load(path)
    except BadInput:
        raise
    except Exception as error:  # Keras raises whatever its layers raise
        reason = str(error).strip().split("\n")[0][:300]
        custom = re.search(r"Could not locate (?:class|function) '([^']+)'", str(error))
        way = "save it again with model.save"
        if custom:
            reason = f"its layer {custom[1]} is not a layer of Keras"
            way = "register it with keras.saving.register_keras_serializable in a package, and give --import PACKAGE"
        elif "safe_mode" in str(error) or "Lambda" in str(error):
            reason = "it holds a Lambda layer, whose code is not run"
            way = "replace it with operations of keras.ops, or with a registered layer"
        raise BadInput(f"cannot open {path} in Keras: {reason}; {way}") from error
    if not isinstance(model, keras.Model):
        raise BadInput(f"model must be a Keras model, got {path}, which holds a {type(model).__name__}")
    return model


def pretrain(model: "keras.Model", text: str) -> None:
    """Gives a network of `keras.applications` the weights of ImageNet, except its head.

    Keras fetches them unless it has them already.

    Args:
        model: the network, with its own head, of images with 3 channels.
        text: `applications/NAME`.

    Raises:
        BadInput: the weights cannot be fetched.
    """
    builder = _builder(text.removeprefix(_APPLICATIONS))
    try:
        source = builder(weights="imagenet", include_top=False)
    except Exception as error:  # of the download, of the file, and of Keras
        reason = str(error).strip().split("\n")[0][:300]
        raise BadInput(
            f"cannot get the ImageNet weights of {builder.__name__}: {reason}; omit --weights imagenet, or copy the "
            "file to the folder models in Keras' folder, ~/.keras"
        ) from error
    pretrained, own = ([layer for layer in m.layers if layer.weights] for m in (source, model))
    for layer, target in zip(pretrained, own, strict=False):
        target.set_weights(layer.get_weights())


def _application(name, shape, classes, say):
    import keras

    builder = _builder(name)
    if len(shape) != 3:
        raise BadInput(
            f"input_shape must be (height, width, channels) for applications/{builder.__name__}, got {shape}"
        )
    mode = _PIXELS.get(builder.__module__.rpartition(".")[2])
    smallest = _smallest(builder, shape, classes)
    image = keras.Input(shape, name="image")
    x = image
    if smallest != shape:
        say(f"images are enlarged to {smallest[0]}x{smallest[1]}, the smallest that {builder.__name__} takes")
        x = keras.layers.Resizing(*smallest[:2], name="enlarge")(x)
    x = preprocessed(x, mode)
    network = _built(builder, smallest, classes, x)
    return keras.Model(image, network.outputs[0], name=network.name)


def _builder(name):
    """Returns the function of `keras.applications` that builds a network, by its name in any case."""
    import keras

    builders = {n: getattr(keras.applications, n) for n in dir(keras.applications) if n[:1].isupper()}
    match = [n for n in builders if n.lower() == name.lower()]
    if not match:
        import difflib

        close = difflib.get_close_matches(name, builders, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise BadInput(f"model must be a network of keras.applications, got {name!r}{hint}")
    return builders[match[0]]


def _built(builder, shape, classes, x):
    try:
        return builder(
            weights=None, input_shape=shape, input_tensor=x, classes=classes, classifier_activation="softmax"
        )
    except Exception as error:  # Keras raises whatever its layers raise
        raise BadInput(f"cannot build {builder.__name__} for images of {shape}: {error}") from error


def _smallest(builder, shape, classes):
    """Returns `shape`, or the smallest one that the network takes."""
    try:
        builder(weights=None, input_shape=shape, classes=classes)
    except ValueError as error:
        least = re.search(r"at least (\d+)x(\d+)", str(error))
        if least:
            return (max(shape[0], int(least[1])), max(shape[1], int(least[2])), shape[2])
        raise BadInput(f"cannot build {builder.__name__} for images of {shape}: {error}") from error
    return shape


def preprocessed(x: Any, mode: str | None) -> Any:
    """Returns `x` after the preprocessing of `keras.applications.imagenet_utils`: tf, torch, caffe or None."""
    from keras import layers, ops

    if mode == "tf" or (mode and x.shape[-1] != 3):
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="pixels")(x)
    if mode == "torch":
        mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        means, variances = [255 * m for m in mean], [(255 * d) ** 2 for d in deviation]
        return layers.Normalization(mean=means, variance=variances, name="pixels")(x)
    if mode == "caffe":  # blue, green, red, less the means of ImageNet
        x = ops.flip(x, axis=-1)
        return layers.Normalization(mean=[103.939, 116.779, 123.68], variance=[1.0, 1.0, 1.0], name="pixels")(x)
    return x


def _imported(name):
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except Exception as error:  # the package's own code runs
        raise BadInput(
            f"cannot import {name}: {type(error).__name__}: {error}; run from the folder that holds it"
        ) from error


def _function(text, shape, classes) -> Any:
    import keras

    module, _, name = text.partition(":")
    function = getattr(_imported(module), name, None)
    if not callable(function):
        raise BadInput(f"model must be MODULE:FUNCTION, got {text}: {module} has no function {name!r}")
    try:
        model = function(shape, classes)
    except Exception as error:  # the user's own code
        raise BadInput(
            f"{text} must return a model for input_shape={shape} and classes={classes}, got {error}"
        ) from error
    if not isinstance(model, keras.Model):
        raise BadInput(f"{text} must return a Keras model, got {type(model).__name__}")
    return model
