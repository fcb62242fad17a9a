"""What a command is pointed at: a run folder, an artefact or a model file, and the data to look at it with."""

import json
from dataclasses import dataclass
from pathlib import Path

from zoo import data, startup
from zoo.artefacts import contract, sums
from zoo.artefacts.load import SHELF
from zoo.errors import BadInput

_SETTINGS = ("train_size", "split_seed", "image_size", "vocabulary", "length")


@dataclass(frozen=True)
class Subject:
    """A model and its data, found and checked, but not opened.

    `settings` are the options of `zoo.data.load` that the model was trained with;
    `vocabulary` is the file with its tokens, or None; `folder` is where results about it go.
    """

    name: str
    model: Path
    dataset: str
    settings: dict
    vocabulary: Path | None
    folder: Path

    @property
    def unknown(self):
        """What the model itself does not say, as a list of sentences."""
        if self.settings:
            return []
        return [
            f"{self.model.name} does not say how its inputs are scaled: it got images as raw pixels 0 to 255, "
            "texts as token ids of an own vocabulary"
        ]


def find(path, dataset=None, out=None):
    """The `Subject` at `path`, without TensorFlow.

    `path` is a run folder (results go into it), an artefact or the name of a shipped one
    (whose files are sealed by checksums), or a `.keras` file; results about these go to
    `modes/<name>/`. `dataset` and `out` override.

    Raises `BadInput` for anything else, for a file without `dataset`, and for an `out`
    that cannot take files.
    """
    path = Path(path).expanduser()
    if not path.exists() and len(path.parts) == 1 and (SHELF / path).is_dir():
        path = SHELF / path
    if (path / contract.NAME).is_file():
        found = _artefact(path, dataset)
    elif (path / "config.json").is_file():
        found = _run(path, dataset)
    elif path.suffix == ".keras" and path.is_file():
        found = _file(path, dataset)
    else:
        raise BadInput(
            f"received {path}, which is {_what(path)}; allowed: a run folder of python -m trainers train, an artefact "
            "of python -m zoo export, or a .keras file with --dataset NAME: give the path of one"
        )
    return Subject(**{**found, "folder": _target(found["folder"] if out is None else Path(out).expanduser())})


def load(subject, data_dir=None, download=False):
    """The model of a `Subject`, and its `zoo.data.Dataset`, once they are seen to fit each other.

    A text artefact loses its first layer, which takes strings: it is fed token ids.

    Raises `BadInput` for data that is not ready (before TensorFlow starts), for a file
    that Keras cannot open, and for a model that takes or tells apart something else.
    """
    data.check_ready(subject.dataset, data_dir=data_dir, download=download)
    startup.tensorflow()
    from zoo.artefacts.programs import read_keras

    model = _from_tokens(read_keras(subject.model))
    dataset = data.load(subject.dataset, data_dir=data_dir, download=download, **subject.settings)
    _check_fit(subject, model, dataset)
    return model, dataset


def _artefact(folder, dataset):
    sums.check(folder)
    card = contract.read(folder)
    if "keras" not in card["formats"]:
        raise BadInput(f"received {folder}, which has no Keras file; export the run with --formats keras, or give it")
    name, model = card["name"], folder / card["formats"]["keras"]["inference"]
    file = card["input"].get("vocabulary")
    return _made(folder / contract.NAME, name, model, card, dataset, file, Path("modes") / Path(name).name)


def _run(folder, dataset):
    if not (folder / "model.keras").is_file():
        raise BadInput(
            f"received {folder}, whose run is not finished; go on with python -m trainers train --resume --out {folder}"
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {folder / 'config.json'} ({error}); train the run again") from error
    file = "vocabulary.txt" if (folder / "vocabulary.txt").is_file() else None
    name = folder.resolve().name
    return _made(folder / "config.json", name, folder / "model.keras", config, dataset, file, folder)


def _made(path, name, model, about, dataset, vocabulary, folder):
    """A subject from what `config.json` or `card.json` says under `data`."""
    stated = about.get("data") if isinstance(about, dict) else None
    if not isinstance(stated, dict) or not isinstance(stated.get("dataset"), str):
        raise BadInput(f"{path} does not say under data.dataset what the model was trained on; train or export it anew")
    settings = {key: stated[key] for key in _SETTINGS if stated.get(key) is not None}
    if dataset not in (None, stated["dataset"]):
        settings.pop("train_size", None)  # of another set; test parts do not depend on it
    return {
        "name": name,
        "model": model,
        "dataset": dataset or stated["dataset"],
        "settings": settings,
        "vocabulary": vocabulary and path.parent / vocabulary,
        "folder": folder,
    }


def _file(path, dataset):
    if dataset is None:
        raise BadInput(f"received {path} without --dataset, and a model file does not say what it is for; add one")
    folder = Path("modes") / path.stem
    return {"name": path.stem, "model": path, "dataset": dataset, "settings": {}, "vocabulary": None, "folder": folder}


def _target(folder):
    for place in (folder, *folder.absolute().parents):
        if (place / sums.NAME).exists():
            raise BadInput(
                f"received --out {folder}, inside the artefact {place}, whose files are sealed by checksums; "
                "name a folder elsewhere"
            )
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"received --out {folder}, which is a file; name a folder")
    return folder


def _what(path):
    if not path.exists():
        return "not there"
    return "a folder without config.json or card.json" if path.is_dir() else "no .keras file"


def _from_tokens(model):
    """A model over strings as one over the token ids that its layer `tokens` makes; any other as it is."""
    import keras

    if [str(x.dtype) for x in getattr(model, "inputs", None) or []] != ["string"]:
        return model
    if not any(layer.name == "tokens" for layer in model.layers):
        raise BadInput(f"received {model.name!r}, which takes strings and has no layer 'tokens'; give one on token ids")
    return keras.Model(model.get_layer("tokens").output, model.output, name=model.name)


def _check_fit(subject, model, dataset):
    """Refuse a model that does not take the examples of `dataset`, or has not its classes."""
    taken = [tuple(x.shape[1:]) for x in getattr(model, "inputs", None) or []]
    given = dataset.input_shape
    fits = len(taken) == 1 and len(taken[0]) == len(given)
    if taken and not (fits and all(a in (None, b) for a, b in zip(taken[0], given, strict=True))):
        raise BadInput(
            f"received a model with input {', '.join(map(str, taken))} and {subject.dataset}, whose examples are "
            f"{given}; they must agree: choose another --dataset, or another model"
        )
    units = [tuple(y.shape[1:]) for y in getattr(model, "outputs", None) or []]
    classes = max(2, units[0][0]) if len(units) == 1 and len(units[0]) == 1 else None
    if classes is not None and classes != dataset.classes:
        raise BadInput(
            f"received a model of {classes} classes and {subject.dataset}, which has {dataset.classes}; they must "
            "agree: choose another --dataset, or another model"
        )
    if dataset.kind == "text" and subject.vocabulary is not None:
        from zoo.text import load_vocabulary

        if load_vocabulary(subject.vocabulary) != tuple(dataset.vocabulary):
            raise BadInput(
                f"received {subject.dataset}, whose training part gives other words the numbers that the model has "
                f"learned ({subject.vocabulary}); texts must be those that it was trained on: leave --dataset out"
            )
