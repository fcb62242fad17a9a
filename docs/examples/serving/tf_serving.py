"""Lays out an artefact for TensorFlow Serving, and answers a REST request as the server does.

    python tf_serving.py layout ARTEFACT models       writes models/NAME/1, or the next version
    python tf_serving.py answer models/NAME REQUEST   prints the answer to the JSON file REQUEST

`answer` runs the signature in the SavedModel, so that a client can be tested without the server. It follows
https://www.tensorflow.org/tfx/serving/api_rest: `instances` (row format) gives `predictions`, `inputs`
(columnar format) gives `outputs`.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

LABELS = "assets.extra/labels.txt"  # TensorFlow leaves this folder of a SavedModel to its users


def layout(artefact: Path, models: Path) -> Path:
    """Copies the SavedModel of an artefact, with its labels, to the next version folder; the server loads the newest.

    The server polls the folder, so the version appears in one step.
    """
    card = json.loads((artefact / "card.json").read_text(encoding="utf-8"))
    if "savedmodel" not in card["formats"]:
        raise SystemExit(f"{artefact} has no SavedModel; export the run with --formats savedmodel")
    model = models / card["name"]
    model.mkdir(parents=True, exist_ok=True)
    version = model / str(1 + max(versions(model), default=0))
    unfinished = model / f".{version.name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(artefact / card["formats"]["savedmodel"]["inference"], unfinished)
    labels = unfinished / LABELS
    labels.parent.mkdir()
    labels.write_text("".join(f"{label}\n" for label in card["output"]["labels"]), encoding="utf-8")
    return unfinished.rename(version)


def versions(model: Path) -> list[int]:
    """Returns the versions of a model that the server sees: folders whose names are numbers."""
    return [int(path.name) for path in model.iterdir() if path.name.isdigit() and path.is_dir()]


def answer(model: Path, request: dict) -> dict:
    """Returns the server's answer to `POST /v1/models/NAME:predict`, or `{"error": ...}` where it sends code 400."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model / str(max(versions(model)))))
    name = request.get("signature_name", "serving_default")
    if name not in loaded.signatures:
        return {"error": f"Serving signature name: {name!r} not found in signature def"}
    signature = loaded.signatures[name]
    specs = signature.structured_input_signature[1]
    try:
        inputs, rows = _inputs(request, specs)
        given = {key: tf.constant(inputs[key], spec.dtype) for key, spec in specs.items()}
        for key, spec in specs.items():
            if not spec.shape.is_compatible_with(given[key].shape):
                raise ValueError(f"{key} must have shape {spec.shape}, got {given[key].shape}")
        outputs = {key: value.numpy().tolist() for key, value in signature(**given).items()}
    except (KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        return {"error": str(error)}
    if not rows:  # the one output stands without its name
        return {"outputs": next(iter(outputs.values())) if len(outputs) == 1 else outputs}
    if len(outputs) == 1:
        return {"predictions": next(iter(outputs.values()))}
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]}


def _inputs(request, specs):
    """Returns the value of each input, and whether the request has the row format."""
    if ("instances" in request) == ("inputs" in request):
        raise ValueError("the request must have either 'instances' or 'inputs'")
    if "inputs" in request:
        given = request["inputs"]
        return given if isinstance(given, dict) else {_only(specs): given}, False
    instances = request["instances"]
    if not isinstance(instances[0], dict):
        return {_only(specs): instances}, True
    # Each input gets a first axis, so a scalar such as `seed` cannot be given in rows.
    return {key: np.stack([np.asarray(row[key]) for row in instances]) for key in specs}, True


def _only(specs):
    if len(specs) > 1:
        raise ValueError(f"this signature has the inputs {', '.join(sorted(specs))}; name each of them")
    return next(iter(specs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    laying = commands.add_parser("layout", help="write a version folder for the server")
    laying.add_argument("artefact", type=Path, metavar="ARTEFACT", help="folder that `zoo export` wrote")
    laying.add_argument("models", type=Path, metavar="MODELS", help="folder of the server's models")
    answering = commands.add_parser("answer", help="answer a request as the server does")
    answering.add_argument("model", type=Path, metavar="MODEL", help="folder with the versions of a model")
    answering.add_argument("request", type=Path, metavar="REQUEST", help="JSON file")
    arguments = parser.parse_args()
    if arguments.command == "layout":
        print(layout(arguments.artefact, arguments.models))
    else:
        request = json.loads(arguments.request.read_text(encoding="utf-8"))
        print(json.dumps(answer(arguments.model, request), indent=2))


if __name__ == "__main__":
    main()
