"""The cost of loading and predicting: ratios against the bare runtime and against usual Monte Carlo dropout.

The figures are medians of ratios of alternating measurements within one run; on a shared
machine, only these are reliable.
"""

import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import zoo
from zoo.artefacts.locate import SHELF


def overhead(
    names: Sequence[str] = ("cnn-digits-default", "cnn-fashion_mnist-default"),
    batches: Sequence[int] = (1, 32, 256),
    rounds: int = 200,
) -> dict:
    """Returns the ratio and the extra time of `artefact.predict(x)` against a bare ONNX Runtime session."""
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


def monte_carlo(samples: int = 50, batch: int = 256, rounds: int = 7) -> dict:
    """Returns the time of Monte Carlo samples of the CNN against one pass and against `model(x, training=True)`."""
    from zoo import startup

    startup.tensorflow()
    import tensorflow as tf

    from zoo.modes.modes import in_mode
    from zoo.modes.montecarlo import Sampler

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


def onnx_monte_carlo(
    name: str = "cnn-fashion_mnist-default", samples: int = 50, batch: int = 256, rounds: int = 7
) -> dict:
    """Returns the time of Monte Carlo samples in ONNX Runtime against one pass and against as many whole passes."""
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


def masks(name: str = "cnn-digits-default", samples: int = 50, batch: int = 256, rounds: int = 5) -> dict:
    """Returns the time of samples with shared masks against samples with masks per example, by runtime."""
    rows = []
    for runtime in zoo.load(SHELF / name).card["formats"]:
        artefact = zoo.load(SHELF / name, runtime=runtime)
        x = np.random.default_rng(0).integers(0, 256, (batch, *artefact.card["input"]["shape"])).astype("uint8")
        draw = functools.partial(artefact.predict, x, "mc", samples, seed=1)
        ways = {kind: functools.partial(draw, masks=kind) for kind in ("shared", "per-example")}
        rows.append({"runtime": runtime, "ratio": _ratio(_alternating(ways, rounds), *ways)})
    return {"what": f"{samples} samples of {name}, batch {batch}: shared masks against masks per example", "rows": rows}


def uncertainty(name: str = "cnn-fashion_mnist-default", samples: int = 50, rounds: int = 3) -> dict:
    """Returns the time of `zoo.uncertainty` on a whole test part against drawing its samples alone, and the memory."""
    code = _UNCERTAINTY.format(name=name, samples=samples, rounds=rounds)
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    ratio, seconds, peak = map(float, answer.stdout.split()[-3:])
    what = f"zoo.uncertainty of {name}, {samples} samples, against drawing the samples of the test part alone"
    return {"what": what, "ratio": ratio, "seconds": seconds, "peak_gib": peak}


_UNCERTAINTY = """
import resource, statistics, time
import zoo
from zoo.artefacts import locate
from zoo.seeds import of_sample
model, dataset = locate.opened(locate.subject({name!r}))
x, sampler, ratios, taken = dataset.test.x, zoo.Sampler(model), [], []
def draw():
    for b, start in enumerate(range(0, len(x), 256)):
        sampler.samples(x[start : start + 256], [of_sample(0, s, b) for s in range({samples})])
def seconds(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
for round_ in range({rounds} + 1):
    alone, measured = seconds(draw), seconds(lambda: zoo.uncertainty(model, dataset, samples={samples}))
    if round_:
        ratios.append(measured / alone)
        taken.append(measured)
print(statistics.median(ratios), statistics.median(taken), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def cold_start(name: str = "cnn-digits-default", rounds: int = 5) -> dict:
    """Returns the seconds of `python -m zoo predict` on one image of a digit, with the start of the process."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digit.png"
        Image.fromarray(np.load(SHELF / name / "probe.npz")["image"][0, :, :, 0]).save(path)
        command = [sys.executable, "-m", "zoo", "predict", name, str(path)]
        seconds = [_seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(rounds)]
    what = f"seconds of python -m zoo predict {name} digit.png, process start included"
    return {"what": what, "median": statistics.median(seconds), "all": seconds}


def memory(name: str = "cnn-digits-default", calls: int = 1000) -> dict:
    """Returns the resident memory after `calls` predictions in mode mc against that after a tenth of them."""
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
    """Returns the seconds of each way in `rounds` rounds, after one round that does not count."""
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
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
