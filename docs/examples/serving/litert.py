"""Writes the files for a device: an artefact in LiteRT with 8-bit weights, its labels, and what the weights cost.

    python litert.py ARTEFACT OUT [--data-dir DIR]

OUT gets `model.int8.tflite`, `mc.int8.tflite` if the model has dropout, `labels.txt`, and `loss.json`: size and
error of the files with 32-bit and 8-bit weights on the test part, and the paired difference with a 95 % interval.

Weights of convolutions and matrix products become 8-bit integers and products are computed in 8 bits; inputs,
outputs and masks stay as they are ("dynamic range quantization" in LiteRT's documentation).
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

import zoo

SEED = 7  # of the sample that is compared in mode mc
BATCH = 250
RESAMPLES = 2000
MOST = 10_000  # test examples
DATA_OPTIONS = ("split_seed", "image_size", "resize", "value_range")  # those that the test part depends on


def convert(model, mode: str, given: dict, quantised: bool) -> bytes:
    """Returns a `.tflite` file with one signature, named as its mode: an input as in the card, `seed`, and `logits`."""
    import tensorflow as tf

    run = zoo.in_mode(model, mode)
    inputs = [tf.TensorSpec((None, *given["shape"]), given["dtype"], name=given["name"])]
    if mode == "mc":
        inputs.append(tf.TensorSpec((), tf.int32, name="seed"))
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    module.run = tf.function(lambda x, seed=0: {"logits": run(x, seed)}, input_signature=inputs, autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={mode: module.run})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[mode])
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if quantised else []
        return converter.convert()


def logits(data: bytes, mode: str, name: str, x: np.ndarray) -> np.ndarray:
    """Returns logits `(n, classes)` of a `.tflite` file, as a device computes them; in mc with `SEED`."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_content=data).get_signature_runner(mode)
    seed = {"seed": np.array(SEED, np.int32)} if mode == "mc" else {}
    batches = (x[start : start + BATCH] for start in range(0, len(x), BATCH))
    return np.concatenate([run(**{name: batch}, **seed)["logits"] for batch in batches])


def quantise(artefact: Path, out: Path, data_dir: Path | None = None) -> dict:
    """Writes the files of an artefact into the new folder `out`, and returns what `loss.json` holds."""
    import keras

    card = json.loads((artefact / "card.json").read_text(encoding="utf-8"))
    given, about = card["input"], card["data"]
    if given["kind"] == "text" or "keras" not in card["formats"]:
        raise SystemExit(f"{artefact} must be a model over images or tables with a .keras file")
    options = {key: about[key] for key in DATA_OPTIONS if about.get(key) is not None}
    test = zoo.data.load(about["dataset"], data_dir=data_dir, **options).test.head(MOST)
    model = keras.saving.load_model(artefact / card["formats"]["keras"]["inference"])
    labels = "".join(f"{label}\n" for label in card["output"]["labels"])
    files = {"labels.txt": labels.encode()}
    loss = {"artefact": card["name"], "test_examples": len(test.y)}
    for mode in ("inference", "mc") if "mc" in card["modes"] else ("inference",):
        before, after = (convert(model, mode, given, quantised) for quantised in (False, True))
        files["model.int8.tflite" if mode == "inference" else "mc.int8.tflite"] = after
        loss[mode] = compare(before, after, mode, given["name"], test)
    files["loss.json"] = json.dumps(loss, indent=2).encode() + b"\n"
    out.mkdir(parents=True)
    for name, data in files.items():
        (out / name).write_bytes(data)
    return loss


def compare(before: bytes, after: bytes, mode: str, name: str, test) -> dict:
    """Returns sizes, errors in per cent, and the paired difference of the errors with a 95 % bootstrap interval."""
    plain, small = (logits(data, mode, name, test.x) for data in (before, after))
    wrong, wrong_small = (values.argmax(axis=1) != test.y for values in (plain, small))
    difference = 100.0 * (wrong_small.astype(float) - wrong)
    rng = np.random.default_rng(0)
    means = [rng.choice(difference, len(difference)).mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "bytes": len(before),
        "bytes_int8": len(after),
        "error": 100 * wrong.mean(),
        "error_int8": 100 * wrong_small.mean(),
        "difference": {"value": difference.mean(), "low": low, "high": high},
        "other_classes": int((plain.argmax(axis=1) != small.argmax(axis=1)).sum()),
        "largest_difference_of_logits": float(np.abs(plain - small).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT", help="folder that `zoo export` wrote")
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of prepared data sets (TFDS_DATA_DIR)")
    arguments = parser.parse_args()
    if arguments.out.exists():
        parser.error(f"OUT must be a new folder, got {arguments.out}")
    loss = quantise(arguments.artefact, arguments.out, arguments.data_dir)
    print(f"{loss['artefact']}, {loss['test_examples']:,} test examples, weights of 32 and of 8 bits")
    for mode in (mode for mode in ("inference", "mc") if mode in loss):
        row, difference = loss[mode], loss[mode]["difference"]
        print(
            f"{mode:<10} {row['bytes'] / 1e3:,.0f} kB to {row['bytes_int8'] / 1e3:,.0f} kB; error {row['error']:.2f} % "
            f"to {row['error_int8']:.2f} %, difference {difference['value']:+.2f} ({difference['low']:+.2f} to "
            f"{difference['high']:+.2f}); another class for {row['other_classes']} examples"
        )


if __name__ == "__main__":
    main()
