"""The description of an artefact: `card.json` for programs, `README.md` for people.

Every entry is computed from the run, the exported files, or the model read back.
"""

import dataclasses
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import files, runs
from zoo.artefacts import source, sums
from zoo.artefacts.contract import FORMAT, NAME
from zoo.artefacts.runtimes import RUNTIMES, runtime
from zoo.modes import MODES
from zoo.versions import versions

if TYPE_CHECKING:
    import keras

PAGE = "README.md"
# How image files become pixels, for training and prediction (`zoo.data.images`).
DECODER = (
    "rotated by EXIF orientation; transparency over black, except in models of 4 channels; 16 bits scaled to 8; the "
    "first frame of an animation; bilinear, antialiased resizing"
)


def make(
    name: str,
    run: runs.Run,
    model: "keras.Model",
    formats: Mapping[str, Mapping[str, str]],
    gap: Mapping[str, Any],
    examples: Sequence[Mapping[str, Any]],
    calibration: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the card of an artefact as a dictionary fit for JSON.

    Args:
        name: name of the artefact.
        run: the run that is exported.
        model: the model of the run.
        formats: the file of each mode by format.
        gap: the figures of the modes on the test part, of `zoo.modes.compare.gap`.
        examples: some test examples, of `zoo.artefacts.examples.rows`.
        calibration: temperatures and thresholds, of `zoo.reliability.fitting.fit`.
    """
    config = run.config
    return {
        "format": FORMAT,
        "name": name,
        "use": use(run),
        "architecture": {
            "model": run.label,
            "settings": config["settings"],
            **({"origin": origin(run)} if run.network else {}),
            "parameters": model.count_params(),
        },
        "placement": config["placement"],
        "placement_text": str(run.placement),
        "realised": masks(model),
        "input": input_of(run),
        "output": {"name": "logits", "dtype": "float32", "labels": config["data"]["labels"]},
        "modes": _modes(formats),
        "formats": formats,
        "data": {
            "dataset": run.dataset,
            **run.data_options.to_json(),
            "about": config["data"].get("about"),
            "sizes": config["data"].get("sizes"),
            **{key: config["data"][key] for key in ("fingerprint",) if key in config["data"]},
        },
        "recipe": config["recipe"],
        "seed": config["seed"],
        "metrics": run.summary(),
        "gap": gap,
        "calibration": calibration,
        "examples": examples,
        "training": {
            "command": config["command"].replace(config["model"], run.named) if run.network else config["command"],
            "seconds": run.metrics["seconds"],
            "epochs": run.metrics["epochs"],
            "best_epoch": run.metrics["best_epoch"],
            "val_error": run.metrics["val_error"],
            "threads": config["threads"],
            "versions": config["versions"],
        },
        "export": export_of(run, formats),
        "limits": limits(run, formats),
    }


def export_of(run: runs.Run, formats: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Returns how the files were made; `kept` tells which versions wrote the formats kept from an earlier export."""
    made = {"versions": versions(_distributions()), "commit": commit()}
    kept = {}
    if isinstance(run, source.Earlier):
        before = run.card["export"]
        earlier = before.get("kept", {})
        for name in (name for name in formats if source.keeps(run, name, formats[name])):
            kept[name] = earlier.get(name) or {key: before.get(key) for key in made}
    what = "ARTEFACT" if isinstance(run, source.Earlier) else "RUN_DIR"
    command = shlex.join(["python", "-m", "zoo", "export", what, "--formats", ",".join(formats)])
    return {"command": command, **made, **({"kept": kept} if kept else {})}


def finished(card: Mapping[str, Any], folder: str | Path, agreement: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `card` with the sizes of the files in `folder` and the difference of each runtime to Keras."""
    return {**card, "agreement": agreement, "files": sizes(folder)}


def sizes(folder: str | Path) -> dict[str, dict[str, int]]:
    """Returns the size of each file of an artefact except the card; `SHA256SUMS` holds their hashes."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    paths = [path for path in paths if path.name not in (NAME, PAGE, sums.NAME)]
    return {path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size} for path in paths}


def write(card: Mapping[str, Any], folder: str | Path) -> None:
    """Writes `card.json`, and `README.md` made from it."""
    import jinja2

    template = Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    files.write_json(Path(folder) / NAME, card)
    files.write_text(
        Path(folder) / PAGE,
        environment.from_string(template).render(card=card, rows=file_rows(card), snippets=snippets(card)).rstrip()
        + "\n",
    )


def file_rows(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a row for each exported file: `file`, its `modes`, the name of its input as `takes`, and `bytes`."""
    rows = []
    for name, modes in card["formats"].items():
        for file in dict.fromkeys(modes.values()):
            has = [mode for mode in modes if modes[mode] == file]
            takes = _takes(card, name)
            size = sum(f["bytes"] for path, f in card["files"].items() if path == file or path.startswith(f"{file}/"))
            rows.append({"file": file, "modes": has, "takes": takes, "bytes": size})
    return rows


def snippets(card: Mapping[str, Any]) -> list[str]:
    """Returns lines of Python that run each of the files without this project."""
    return [
        line for name, modes in card["formats"].items() for line in runtime(name).snippets(modes, _takes(card, name))
    ]


def _takes(card, name):
    """Returns the name of the input of a format."""
    return card["input"].get("takes", {}).get(name, card["input"]["name"])


def masks(model: "keras.Model") -> list[dict[str, Any]]:
    """Returns the mask layers of a model, read from the model itself."""
    from zoo.models.sites import realised

    return [dataclasses.asdict(mask) for mask in realised(model)]


def input_of(run: runs.Run) -> dict[str, Any]:
    """Returns the description of the input of the exported files."""
    shape = run.config["data"]["input_shape"]
    if len(shape) == 1 and run.vocabulary is None:
        columns = (run.config["data"].get("about") or {}).get("columns")
        return {"kind": "table", "name": "features", "shape": shape, "dtype": "float32", "columns": columns}
    if run.vocabulary is None:
        options = run.data_options
        return {
            "kind": "image",
            "name": "image",
            "shape": shape,
            "dtype": "uint8",
            "range": [0, 255],
            "resize": options.resize,
            "value_range": options.value_range,
            "decoder": DECODER,
        }
    return {
        "kind": "text",
        "name": "tokens",
        "shape": shape,
        "dtype": "int32",
        "vocabulary": runs.VOCABULARY,
        "takes": {name: runtime(name).takes for name in RUNTIMES},
    }


def origin(run: runs.Run) -> dict[str, Any]:
    """Returns where a model that is not one of the four comes from, without the folders of this machine."""
    network = run.network
    if network is None:
        return {}
    return {"model": run.named, **network.origin, "weights": network.weights, "new_head": network.replace_head}


def _distributions():
    """Returns the packages that wrote the files."""
    return dict.fromkeys(
        ["tensorflow", "keras", "numpy", *(package for name in RUNTIMES for package in runtime(name).distributions)]
    )


def commit() -> str | None:
    """Returns the commit of this project, with `+` if it has changes; None outside a checkout."""
    here = Path(__file__)

    def git(*words):
        return subprocess.run(
            ["git", "-C", str(here.parent), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # an installed package may be inside another project's checkout
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/zoo")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def use(run: runs.Run) -> list[str]:
    """Returns sentences about what the model is for, and what it is not for."""
    data = run.config["data"]
    labels = data["labels"]
    if run.vocabulary is None and len(data["input_shape"]) == 1:
        given, alike = f"a row of {data['input_shape'][0]:,} numbers", "rows from other sources"
    elif run.vocabulary is None:
        height, width, channels = data["input_shape"]
        colour = "grey" if channels == 1 else "colour"
        given, alike = f"a {colour} image, resized to {height}x{width} pixels,", "other kinds of images"
    else:
        given, alike = f"the first {data['length']:,} words of a text", "texts of another kind or language"
    return [
        f"Assigns {given} to one of {len(labels)} classes.",
        f"Intended for data like the test part of {data['dataset']}. The figures below do not hold for {alike}; "
        "measure the error on your own data before you rely on a prediction.",
    ]


def limits(run: runs.Run, formats: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Returns sentences about the limits of the model."""
    data, recipe = run.config["data"], run.config["recipe"]
    epochs = run.metrics["epochs"]
    sentences = [
        f"The model was trained on {data['sizes']['train']:,} examples of {data['dataset']} for {epochs} epochs "
        f"{'with' if recipe.get('augment') else 'without'} augmentation. It also returns a class for unrelated inputs."
    ]
    absent = run.placement.not_in_files()
    if absent:
        sentences.append(
            f"The model was trained with {absent}, which the files do not contain: Keras has no such layer."
        )
    if run.summary()["test_error"]["seeds"] == 1:
        sentences.append("The figures come from one seed and do not show how much they vary between seeds.")
    if run.vocabulary is None and len(data["input_shape"]) == 1:
        sentences.append(
            "Features have the units and the order of the training data; the model brings them to mean 0 and variance "
            "1 by the figures of the training part."
        )
    elif run.vocabulary is None:
        height, width, channels = data["input_shape"]
        look = "converted to grey" if channels == 1 else "in colour"
        done = {"squash": "squashed", "pad": "padded with black", "crop": "cropped"}[run.data_options.resize]
        sentences.append(
            f"Images are {done} to {height}x{width} pixels, {look}, and not inverted. They must look like the training "
            "data, for example light on dark."
        )
        sentences.append(f"Image files are read as in training: {DECODER}.")
        if run.data_options.value_range:
            sentences.append(f"Images hold values from {run.data_options.value_range.replace(':', ' to ')}.")
    else:
        sentences.append(
            f"Texts are cut off after {data['length']} words. All words outside the vocabulary of "
            f"{len(run.vocabulary):,} tokens become one token. "
            f"{_titles(n for n in RUNTIMES if runtime(n).takes == 'tokens')} cannot process text; their files take "
            "token ids."
        )
    if not run.placement.sites:
        sentences.append("The model has no dropout and therefore no mode mc: every sample would equal inference.")
    elif without := [name for name in formats if "training" not in formats[name]]:
        sentences.append(f"{_titles(without)} files have no mode training; only TensorFlow computes batch statistics.")
    sentences.append("SHA256SUMS detects damage, not forgery. Load only artefacts from sources that you trust.")
    return sentences


def _titles(names):
    return " and ".join(runtime(name).title for name in names)


def _modes(formats):
    return [mode for mode in MODES if any(mode in modes for modes in formats.values())]
