"""Resolves a path or shipped name to an artefact, a run folder or a model file, with the data that belongs to it."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import checks, data, runs, startup
from zoo.artefacts import contract, sums
from zoo.artefacts.runtimes.keras import model_file, read_keras
from zoo.data import fingerprint
from zoo.data.options import DataOptions
from zoo.errors import BadInput
from zoo.reading import read_csv
from zoo.schema import each, real, record, require, text

if TYPE_CHECKING:
    import keras

SHELF = Path(__file__).parents[2] / "saved_models"  # the artefacts that ship with a checkout


def artefact(given: str | Path) -> Path:
    """Returns the folder of an artefact, given its path or the name of a shipped one.

    Raises:
        BadInput: there is no such artefact.
    """
    folder = resolved(given)
    if not folder.exists():
        names = sorted(card.parent.name for card in SHELF.glob(f"*/{contract.NAME}"))
        shipped = f", or a shipped name: {', '.join(names)}" if names else ""
        raise BadInput(f"there is no artefact {str(given)!r}; give a folder that `python -m zoo export` wrote{shipped}")
    if not (folder / contract.NAME).exists():
        raise BadInput(
            f"{folder} is not an artefact: it has no {contract.NAME}; give a folder that "
            "`python -m zoo export RUN_DIR` wrote"
        )
    return folder


def shipped(pattern: str = "*") -> list[dict[str, Any]]:
    """Returns the rows of `saved_models/results.csv` whose model matches a shell pattern; empty without a checkout."""
    table = SHELF / "results.csv"
    if not table.exists():
        return []
    keys = ("name", "model", "dataset", "placement")
    rows = require(table, read_csv(table), each(record({**dict.fromkeys(keys, text), "test_error": real(0, 100)})))
    rows = [row for row in rows if fnmatch.fnmatch(row["model"], pattern)]
    return [{**{key: row[key] for key in keys}, "test_error": float(row["test_error"])} for row in rows]


def resolved(given: str | Path) -> Path:
    """Returns the given path, or that of the shipped artefact of this name if the path does not exist."""
    given = checks.path("the artefact or run", given)
    return SHELF / given if not given.exists() and len(given.parts) == 1 and (SHELF / given).is_dir() else given


@dataclass(frozen=True)
class Subject:
    """A model and its data, found and checked but not opened.

    Attributes:
        name: name of the model in titles.
        model: path of its `.keras` file.
        dataset: name of the data set.
        options: how the data was read for the model, None if unknown.
        vocabulary: path of the file with its tokens, or None.
        folder: where results about it are written.
        data_dir: folder of prepared data sets that it was trained with, None if unknown.
        stated: what is known of the data that it was trained on, the entry `data` of a `config.json`.
    """

    name: str
    model: Path
    dataset: str
    options: DataOptions | None
    vocabulary: Path | None
    folder: Path
    data_dir: Path | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unknown(self) -> list[str]:
        """Sentences about what the model does not state itself."""
        if self.options:
            return []
        return [
            f"{self.model.name} does not state how its inputs are scaled: images were fed as raw pixels from 0 to 255, "
            "texts as token ids of a new vocabulary"
        ]


def subject(given: str | Path, dataset: str | None = None, out: str | Path | None = None) -> Subject:
    """Returns the `Subject` of a path or shipped name, without importing TensorFlow.

    Args:
        given: a run folder, an artefact or the name of a shipped one, or a `.keras` file.
        dataset: name of the data set; the model's own unless given. Required for a file.
        out: where results go. The default is the run folder itself; for an artefact, whose
            files have checksums, and for a file it is `modes/<name>/`.

    Raises:
        BadInput: `given` is something else, a file has no `dataset`, or `out` cannot be used.
    """
    place = resolved(given)
    if (place / contract.NAME).is_file():
        values = _artefact(place, dataset)
    elif (place / runs.CONFIG).is_file():
        values = _run(place, dataset)
    elif place.suffix == ".keras" and place.is_file():
        values = _file(place, dataset)
    else:
        raise BadInput(
            f"model must be a run folder of `python -m trainers train`, an artefact of `python -m zoo export` or a "
            f".keras file with --dataset NAME, got {place}, which {_what(place)}"
        )
    return Subject(**{**values, "folder": _target(values["folder"] if out is None else checks.path("--out", out))})


def opened(
    subject: Subject, data_dir: str | Path | None = None, download: bool = False
) -> tuple["keras.Model", data.Dataset]:
    """Opens the model of a `Subject` and its data set, and checks that they fit each other.

    The model of a text artefact comes without its first layer, so that it takes token ids.

    Args:
        subject: what `subject()` returned.
        data_dir: folder of prepared data sets; the one of the run unless given.
        download: whether the data set may be downloaded.

    Raises:
        BadInput: the data is not ready (found out before TensorFlow starts), Keras cannot
            open the file, or the model has other inputs or classes than the data.
    """
    if data_dir is None:
        data_dir = subject.data_dir
    data.check_ready(subject.dataset, data_dir=data_dir, download=download)
    startup.tensorflow()
    model = from_tokens(read_keras(subject.model))
    options = subject.options.to_json() if subject.options else {}
    dataset = data.load(subject.dataset, data_dir=data_dir, download=download, **options)
    _check_same(subject, dataset)
    _check_fit(subject, model, dataset)
    return model, dataset


def _artefact(folder, dataset):
    sums.check(folder)
    card = contract.read(folder)
    name, model = card["name"], model_file(folder, card)
    file = card["input"].get("vocabulary")
    return _values(folder / contract.NAME, name, model, card, dataset, file, Path("modes") / Path(name).name)


def _run(folder, dataset):
    runs.check_finished(folder)
    file = runs.VOCABULARY if (folder / runs.VOCABULARY).is_file() else None
    config, name = runs.read_config(folder), folder.resolve().name
    values = _values(folder / runs.CONFIG, name, folder / runs.MODEL, config, dataset, file, folder)
    return {**values, "data_dir": runs.data_dir(config)}


def _values(path, name, model, about, dataset, vocabulary, folder):
    """Returns the fields of a `Subject` from the entry `data` of a `config.json` or `card.json`."""
    require(path, about, record({"data": runs.DATA}), "train or export it again")
    stated = about["data"]
    options = dict(stated)
    if dataset not in (None, stated["dataset"]):
        options.pop("train_size", None)  # it belongs to the other set; test parts do not depend on it
    return {
        "name": name,
        "model": model,
        "dataset": dataset or stated["dataset"],
        "options": DataOptions.of(options),
        "vocabulary": vocabulary and path.parent / vocabulary,
        "folder": folder,
        "stated": {"labels": about.get("output", {}).get("labels"), **stated},
    }


def _file(path, dataset):
    if dataset is None:
        raise BadInput(f"--dataset must be given for {path}: a model file does not name its data")
    folder = Path("modes") / path.stem
    return {"name": path.stem, "model": path, "dataset": dataset, "options": None, "vocabulary": None, "folder": folder}


def _target(folder):
    for place in (folder, *folder.absolute().parents):
        if (place / sums.NAME).exists():
            raise BadInput(
                f"--out must be outside the artefact {place}, whose files are sealed by checksums, got {folder}; "
                "choose another folder"
            )
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--out must be a folder, got {folder}, which is a file; choose another")
    return folder


def _what(path):
    if not path.exists():
        return "does not exist"
    return f"has no {runs.CONFIG} or {contract.NAME}" if path.is_dir() else "is another kind of file"


def from_tokens(model: "keras.Model") -> "keras.Model":
    """Returns a model on strings as one on the token ids of its layer `tokens`; any other model unchanged."""
    import keras

    from zoo.keras_graph import Graph, run

    if [str(x.dtype) for x in getattr(model, "inputs", None) or []] != ["string"]:
        return model
    if not any(layer.name == "tokens" for layer in model.layers):
        raise BadInput(
            f"a model on strings must have a layer named tokens, got {model.name!r}; give a model on token ids"
        )
    ids = model.get_layer("tokens").output
    # Its input is as that of the model in a run, so that it can be exported as one.
    graph, tokens = Graph(keras.Model(ids, model.output)), keras.Input(ids.shape[1:], dtype="int32", name="tokens")
    values = run(graph.steps, {graph.inputs[0]: tokens}, lambda step, *args, **kwargs: step.operation(*args, **kwargs))
    return keras.Model(tokens, graph.result(values), name=model.name)


def _check_same(subject, dataset):
    """Raises `BadInput` for data that are not those the model was trained on; of another set, the classes count."""
    if subject.dataset == subject.stated.get("dataset"):
        fingerprint.check(subject.stated, dataset, str(subject.model))
    else:
        fingerprint.check_labels(subject.stated, dataset, str(subject.model))


def _check_fit(subject, model, dataset):
    """Raises `BadInput` for a model whose inputs or classes differ from those of `dataset`."""
    taken = [tuple(x.shape[1:]) for x in getattr(model, "inputs", None) or []]
    given = dataset.input_shape
    fits = len(taken) == 1 and len(taken[0]) == len(given)
    if taken and not (fits and all(a in (None, b) for a, b in zip(taken[0], given, strict=True))):
        raise BadInput(
            f"the input of the model must match the examples of {subject.dataset}, {given}, got "
            f"{', '.join(map(str, taken))}; choose another --dataset or another model"
        )
    units = [tuple(y.shape[1:]) for y in getattr(model, "outputs", None) or []]
    classes = max(2, units[0][0]) if len(units) == 1 and len(units[0]) == 1 else None
    if classes is not None and classes != dataset.classes:
        raise BadInput(
            f"the model must have the {dataset.classes} classes of {subject.dataset}, got {classes}; choose another "
            "--dataset or another model"
        )
    if dataset.kind == "text" and subject.vocabulary is not None:
        from zoo.data.text import load_vocabulary

        if load_vocabulary(subject.vocabulary) != tuple(dataset.vocabulary):
            raise BadInput(
                f"the vocabulary of {subject.dataset} must be that of the model, {subject.vocabulary}, got another "
                "one; omit --dataset to use the texts that the model was trained on"
            )
