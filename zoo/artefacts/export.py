"""From a run folder to an artefact: a folder that states its modes and keeps them in every runtime."""

import os
import shutil
from pathlib import Path

import numpy as np

from zoo import data, startup
from zoo.artefacts import card, probe, sums
from zoo.artefacts import run as runs
from zoo.errors import BadInput, RunFailed
from zoo.files import write_json

FORMATS = ("keras", "savedmodel", "onnx", "litert")
SHELF = "saved_models"
COMPARED = 1000  # examples of the test part, at most, for the gap between modes


def export(folder, name=None, formats=FORMATS, out=SHELF, data_dir=None, download=False, say=lambda line: None):
    """Export the finished run in `folder` to `out/name/`; the path of the new artefact.

    Args:
        name: `<model>-<dataset>-<placement>` unless given.
        formats: some of `keras`, `savedmodel`, `onnx`, `litert`.
        data_dir, download: as for training; the test part gives the probe and the gap
            between modes.
        say: called with a line before each step.

    Raises:
        BadInput (a ValueError): no finished run, an unknown format, a target that
            exists, a data set that is not ready. Nothing has been written then.
        RunFailed: a format cannot express the model, or a runtime gives other logits
            than Keras. Nothing is left behind.

    >>> export("runs/first", formats=("keras", "onnx"))  # doctest: +SKIP
    """
    formats = check_formats(formats)
    run = runs.read(folder)
    target = _target(out, name or run.name)
    settings = {key: run.config["data"].get(key) for key in _SETTINGS}
    settings = {key: value for key, value in settings.items() if value is not None}
    data.check_ready(run.config["data"]["dataset"], data_dir=data_dir, download=download)
    startup.tensorflow()
    test = data.load(run.config["data"]["dataset"], data_dir=data_dir, download=download, **settings).test
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.mkdir()
        _fill(unfinished, target.name, run, formats, test, say)
        os.rename(unfinished, target)
    except OSError as error:
        raise RunFailed(
            f"could not write {target}: {error.strerror or error}; make room or choose another --out"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


_SETTINGS = ("train_size", "split_seed", "image_size", "vocabulary", "length")


def check_formats(formats):
    """The formats in their own order. Raises `BadInput` for an unknown one or none."""
    formats = formats.split(",") if isinstance(formats, str) else list(formats)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        received = repr(unknown[0]) if unknown else "none"
        raise BadInput(f"received the format {received}; allowed: {', '.join(FORMATS)}, joined by commas")
    return tuple(name for name in FORMATS if name in formats)


def _target(out, name):
    target = Path(out) / name
    if not name or name in (".", "..") or Path(name).name != name or name.startswith("."):
        raise BadInput(f"received --name {name!r}; it is the plain name of a folder")
    if target.exists():
        raise BadInput(f"{target} exists already; choose another --name or --out, or remove it first")
    return target


def _fill(folder, name, run, formats, test, say):
    from zoo import behaviour, dropout
    from zoo.artefacts import formats as writers
    from zoo.artefacts.programs import read_keras
    from zoo.modes import in_mode
    from zoo.text import save_vocabulary

    model, vocabulary = read_keras(run.folder / "model.keras"), run.vocabulary
    dropping = any(dropout.is_mask(layer) and dropout.strength(layer) for layer in model.layers)
    if vocabulary is not None:
        save_vocabulary(folder / "vocabulary.txt", vocabulary)
    say(f"writing {', '.join(formats)}")
    made = writers.write(model, formats, folder, dropping, vocabulary)
    whole = model if vocabulary is None else writers.from_text(model, vocabulary)
    modes = [mode for mode in ("inference", "training", "mc") if mode != "mc" or dropping]
    few = test.head(COMPARED)
    x = few.head(probe.EXAMPLES).x
    arrays = probe.make(lambda x, mode, seed: _logits(in_mode(whole, mode), x, seed), x, modes, vocabulary)
    np.savez_compressed(folder / probe.NAME, **arrays)
    say("comparing the modes on the test part")
    gap = behaviour.gap(model, few.x, few.y)
    say("checking every runtime against Keras")
    described = card.make(name, run, model, made, gap)
    write_json(folder / card.NAME, card.finished(described, folder, {}))  # enough to load it by
    sums.write(folder)
    described = card.finished(described, folder, _agreement(folder, formats, arrays))
    card.write(described, folder)
    sums.write(folder)


def _logits(run, x, seed):
    import tensorflow as tf

    x = tf.constant(x.tolist(), tf.string) if x.dtype.kind == "U" else tf.constant(x)
    return run(x, 0 if seed is None else seed).numpy()


def _agreement(folder, formats, arrays):
    """Largest difference to Keras by runtime and mode. Raises `RunFailed` beyond the tolerance."""
    from zoo.artefacts.load import load

    found = {}
    for name in formats:
        compared = probe.differences(load(folder, runtime=name), probe.read(folder))
        found[name] = {mode: difference for mode, (difference, _) in compared.items()}
        for mode, (difference, small) in compared.items():
            if not small:
                raise RunFailed(
                    f"{name} differs from Keras by {difference:.1e} in mode {mode}, where {probe.TOLERANCE[mode]:.0e} "
                    "is allowed for a small logit; leave that format out with --formats, and report it"
                )
    return found
