"""What an artefact says of itself: `card.json` for programs, `README.md` for people.

Every entry is computed: from the run, from the exported files, or from the model read
back. Nothing is typed in.
"""

import dataclasses
import hashlib
import importlib.metadata
import platform
import shlex
import subprocess
from pathlib import Path

from zoo import files
from zoo.artefacts.contract import FORMAT

NAME, PAGE = "card.json", "README.md"
_PACKAGES = ("tensorflow", "keras", "numpy", "onnx", "onnxruntime", "tf2onnx", "ai-edge-litert")
_DATA = ("dataset", "train_size", "split_seed", "image_size", "vocabulary", "length", "about", "sizes")


def make(name, run, model, made, gap):
    """The card of the artefact `name`, as a JSON-able dictionary.

    `run` is a `run.Run`, `model` its model, `made` the modes and files by format, and
    `gap` what the modes do on the test part (`zoo.behaviour`).
    """
    config = run.config
    return {
        "format": FORMAT,
        "name": name,
        "architecture": {
            "model": config["model"],
            "settings": config["settings"],
            "parameters": model.count_params(),
        },
        "placement": config["placement"],
        "placement_text": str(run.placement),
        "realised": realised(model),
        "input": input_of(run),
        "output": {"name": "logits", "dtype": "float32", "labels": config["data"]["labels"]},
        "modes": _modes(made),
        "formats": made,
        "data": {key: config["data"].get(key) for key in _DATA},
        "recipe": config["recipe"],
        "seed": config["seed"],
        "metrics": run.summary(),
        "gap": gap,
        "training": {
            "command": config["command"],
            "seconds": run.metrics["seconds"],
            "epochs": run.metrics["epochs"],
            "best_epoch": run.metrics["best_epoch"],
            "val_error": run.metrics["val_error"],
            "threads": config["threads"],
            "versions": config["versions"],
        },
        "export": {
            "command": shlex.join(["python", "-m", "zoo", "export", "RUN_DIR", "--formats", ",".join(made)]),
            "versions": versions(),
            "commit": commit(),
        },
        "limits": limits(run, made),
    }


def finished(card, folder, agreement):
    """`card` with the hashes of the files in `folder`, and how far each runtime is from Keras on the probe."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name not in (NAME, PAGE))
    listed = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in paths
        if path.name != "SHA256SUMS"
    }
    return {**card, "agreement": agreement, "files": listed}


def write(card, folder):
    """Write `card.json`, and the page made from it."""
    import jinja2

    template = Path(__file__).with_name("card.md.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    files.write_json(Path(folder) / NAME, card)
    files.write_text(
        Path(folder) / PAGE, environment.from_string(template).render(card=card, rows=file_rows(card)).rstrip() + "\n"
    )


def file_rows(card):
    """The exported files of a card, one row each: `file`, `modes`, what it `takes`, `bytes`."""
    rows = []
    for name, modes in card["formats"].items():
        for file in dict.fromkeys(modes.values()):
            has = [mode for mode in modes if modes[mode] == file]
            takes = card["input"].get("takes", {}).get(name, card["input"]["name"])
            size = sum(f["bytes"] for path, f in card["files"].items() if path == file or path.startswith(f"{file}/"))
            rows.append({"file": file, "modes": has, "takes": takes, "bytes": size})
    return rows


def realised(model):
    """The mask layers of `model`, read from the model itself."""
    from zoo import realise

    return [dataclasses.asdict(found) for found in realise.realised(model)]


def input_of(run):
    """What the exported forms take."""
    shape = run.config["data"]["input_shape"]
    if run.vocabulary is None:
        return {"kind": "image", "name": "image", "shape": shape, "dtype": "uint8", "range": [0, 255]}
    return {
        "kind": "text",
        "name": "tokens",
        "shape": shape,
        "dtype": "int32",
        "vocabulary": "vocabulary.txt",
        "takes": {"keras": "text", "savedmodel": "text", "onnx": "tokens", "litert": "tokens"},
    }


def versions():
    """Versions of Python and of the packages that wrote the files."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def commit():
    """The commit of this project that wrote the files, None outside a checkout; `+` if it had changes."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        ours = [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/zoo"]
        return head + ("+" if subprocess.run(ours, capture_output=True, text=True, check=True).stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def limits(run, made):
    """What the model cannot be expected to do, in sentences."""
    data, recipe = run.config["data"], run.config["recipe"]
    epochs = run.metrics["epochs"]
    said = [
        f"It was trained on {data['sizes']['train']:,} examples of {data['dataset']} for {epochs} epochs"
        f" {'with' if recipe.get('augment') else 'without'} augmentation; other inputs get an answer all the same."
    ]
    absent = run.placement.not_in_files()
    if absent:
        said.append(f"It was trained with {absent}, which is not in the files: no layer of Keras does it.")
    if not run.peers:
        said.append("The figures are those of one seed: they say nothing about what another seed would give.")
    if run.vocabulary is None:
        height, width, channels = data["input_shape"]
        look = "grey, light on dark or dark on light as in the training data" if channels == 1 else "in colour"
        said.append(f"Images are resized to {height}x{width} pixels, {look}; nothing is cropped or inverted.")
    else:
        said.append(
            f"Texts are cut off after {data['length']} words; words outside the vocabulary of {len(run.vocabulary)} "
            "are all one token. ONNX and LiteRT have no operators for text: there the model takes token ids."
        )
    if not run.placement.sites:
        said.append("Nothing is dropped in this model, so it has no mode mc: every sample would equal inference.")
    elif {"onnx", "litert"} & set(made):
        said.append("ONNX and LiteRT files have no mode training: batch statistics are for TensorFlow alone.")
    said.append("SHA256SUMS tells damage, not forgery: load only artefacts that you trust.")
    return said


def _modes(made):
    return [mode for mode in ("inference", "training", "mc") if any(mode in files for files in made.values())]
