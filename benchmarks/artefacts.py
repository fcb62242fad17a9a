"""What loading and predicting cost: ratios against the bare runtime, and against the usual way of Monte-Carlo.

Alternating measurements in one run, medians of their ratios; only these mean anything on
a shared machine.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import zoo

SHELF = Path(__file__).parent.parent / "saved_models"


def overhead(names=("cnn-digits-default", "cnn-fashion_mnist-default"), batches=(1, 32, 256), rounds=200):
    """`artefact.predict(x).probabilities` against a bare ONNX Runtime session on the same file: ratio, extra time."""
    rows = [row for name in names for row in _overhead(name, batches, rounds)]
    return {"what": f"predict against a bare ONNX Runtime session, {rounds} pairs", "rows": rows}


def _overhead(name, batches, rounds):
    import onnxruntime

    artefact = zoo.load(SHELF / name, runtime="onnx")
    session = onnxruntime.InferenceSession(SHELF / name / "model.onnx", providers=["CPUExecutionProvider"])
    for size in batches:
        x = np.random.default_rng(0).integers(0, 256, (size, *artefact.card["input"]["shape"])).astype("uint8")
        ours, bare = [], []
        for _ in range(rounds):
            ours.append(_seconds(lambda x=x: artefact.predict(x).probabilities))
            bare.append(_seconds(lambda x=x: session.run(["logits"], {"image": x})))
        ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
        extra = 1e6 * (statistics.median(ours) - statistics.median(bare))
        yield {"artefact": name, "batch": size, "ratio": ratio, "extra_microseconds": extra}


def monte_carlo(samples=50, batch=256, rounds=7):
    """Samples of the CNN on 28x28 images against one deterministic pass, and against `model(x, training=True)`."""
    from zoo import startup

    startup.tensorflow()
    import tensorflow as tf

    from zoo.modes import in_mode
    from zoo.montecarlo import Sampler

    model = zoo.build("cnn", (28, 28, 1), 10, seed=1)
    x = tf.constant(np.random.default_rng(0).integers(0, 256, (batch, 28, 28, 1)), tf.uint8)
    sampler, seeds = Sampler(model), list(range(samples))
    once = tf.function(lambda x: in_mode(model, "inference")(x, 0))
    usual = tf.function(lambda x: model(x, training=True))
    ways = {
        "samples": lambda: sampler.samples(x, seeds),
        "one pass": lambda: once(x).numpy(),
        "usual": lambda: [usual(x).numpy() for _ in seeds],
    }
    seconds = _alternating(ways, rounds)
    return {
        "what": f"{samples} mc samples of the CNN, batch {batch}, 28x28 images",
        "about": sampler.about,
        "to_one_pass": _ratio(seconds, "samples", "one pass"),
        "usual_to_ours": _ratio(seconds, "usual", "samples"),
        "seconds": seconds,
    }


def onnx_monte_carlo(name="cnn-fashion_mnist-default", samples=50, batch=256, rounds=7):
    """The same in ONNX Runtime, without TensorFlow: samples against one pass, and against as many whole passes."""
    import onnxruntime

    artefact = zoo.load(SHELF / name, runtime="onnx")
    session = onnxruntime.InferenceSession(SHELF / name / "mc.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).integers(0, 256, (batch, *artefact.card["input"]["shape"])).astype("uint8")
    ways = {
        "samples": lambda: artefact.predict(x, mode="mc", samples=samples, seed=1),
        "one pass": lambda: artefact.predict(x),
        "usual": lambda: [session.run(["logits"], {"image": x, "seed": np.array(s, np.int32)}) for s in range(samples)],
    }
    seconds = _alternating(ways, rounds)
    return {
        "what": f"{samples} mc samples of {name} in ONNX Runtime, batch {batch}",
        "to_one_pass": _ratio(seconds, "samples", "one pass"),
        "usual_to_ours": _ratio(seconds, "usual", "samples"),
        "seconds": seconds,
    }


def cold_start(name="cnn-digits-default", rounds=5):
    """Seconds of `python -m zoo predict` on one image of a digit, process start included."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digit.png"
        Image.fromarray(np.load(SHELF / name / "probe.npz")["image"][0, :, :, 0]).save(path)
        command = [sys.executable, "-m", "zoo", "predict", name, str(path)]
        seconds = [_seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(rounds)]
    what = f"seconds of python -m zoo predict {name} digit.png, process start included"
    return {"what": what, "median": statistics.median(seconds), "all": seconds}


def memory(name="cnn-digits-default", calls=1000):
    """Resident memory after `calls` predictions in mode mc, against that after a tenth of them, by runtime."""
    rows = []
    for runtime in ("onnx", "litert", "savedmodel", "keras"):
        code = _MEMORY.format(folder=str(SHELF / name), runtime=runtime, calls=calls)
        answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        early, late = map(int, answer)
        rows.append({"runtime": runtime, "early_mib": early / 2**20, "late_mib": late / 2**20, "ratio": late / early})
    return {"what": f"resident memory after {calls} mc predictions against after {calls // 10}", "rows": rows}


_MEMORY = """
import numpy as np, psutil, zoo
artefact = zoo.load({folder!r}, runtime={runtime!r})
x = np.zeros((8, *artefact.card["input"]["shape"]), "uint8")
for call in range(1, {calls} + 1):
    artefact.predict(x, mode="mc", samples=4, seed=call)
    if call in ({calls} // 10, {calls}):
        print(psutil.Process().memory_info().rss)
"""


def _alternating(ways, rounds):
    """Seconds of each way in `rounds` rounds, after one that is not counted."""
    seconds = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            taken = _seconds(way)
            if round_:
                seconds[name].append(taken)
    return seconds


def _ratio(seconds, above, below):
    return statistics.median(a / b for a, b in zip(seconds[above], seconds[below], strict=True))


def _seconds(call):
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
