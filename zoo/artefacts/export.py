"""Exports a run as an artefact: a folder with the model in several formats, its card and its checksums."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import filelock
import numpy as np

from zoo import data, files, runs, startup
from zoo.artefacts import card, contract, examples, probe, source, sums
from zoo.artefacts.runtimes import RUNTIMES, runtime
from zoo.checks import one_of, shown
from zoo.data import fingerprint
from zoo.errors import BadInput, CannotWrite, RunFailed
from zoo.modes import MODES

OUT = "saved_models"  # relative to the working directory
COMPARED = 1000  # largest number of test examples on which the modes are compared


def export(
    folder: str | Path,
    name: str | None = None,
    formats: str | Sequence[str] = tuple(RUNTIMES),
    out: str | Path = OUT,
    data_dir: str | Path | None = None,
    download: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> Path:
    """Exports the finished run in `folder` to a new artefact folder `out/name`.

    An artefact can be exported again when its run is gone: files that it has are kept byte for byte, formats that it
    lacks are written, and its card is brought up to date, calibration included.

    Args:
        folder: a run folder of `python -m trainers train`, `compare` or `search`, or an artefact with a `.keras` file.
        name: name of the artefact. The default is `<model>-<dataset>-<placement>`, or the
            next free name, such as `cnn-digits-default-2`.
        formats: some of `keras`, `savedmodel`, `onnx`, `litert`.
        out: folder in which the artefact's folder is created.
        data_dir: folder of prepared data sets; the one that the run used unless given. The
            test part provides the probe and the comparison of the modes.
        download: whether the data set may be downloaded.
        say: called with a line of progress before each step.

    Returns:
        The path of the new folder.

    Raises:
        BadInput (a ValueError): no finished run, an unknown format, an existing target, or
            a data set that is not ready. Nothing is written.
        RunFailed: a format cannot express the model, or a runtime gives other logits than
            Keras. Nothing is left behind.
        CannotWrite: the disk is full, or the folder cannot be written. Nothing is left behind.

    Examples:
        >>> export("mlp-digits-default", name="again", formats=("keras", "onnx"), out="shelf").as_posix()
        'shelf/again'
    """
    formats = check_formats(formats)
    run = source.read(folder)
    target = files.free(Path(out) / run.name) if name is None else _target(out, name)
    if data_dir is None:
        data_dir = run.data_dir
    data.check_ready(run.dataset, data_dir=data_dir, download=download)
    say(f"exporting {folder} to {target}")
    startup.tensorflow()
    dataset = data.load(run.dataset, data_dir=data_dir, download=download, **run.data_options.to_json())
    fingerprint.check(run.config["data"], dataset, str(folder))
    for line in data.summary({**data.describe(dataset), "dataset": run.dataset}):
        say(line)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(target.with_name(f".{target.name}.lock")):
            _remove_unfinished(target)
            try:
                unfinished.mkdir()
                _fill(unfinished, target.name, run, formats, dataset, say)
                os.rename(unfinished, target)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except filelock.Timeout:
        raise BadInput(f"another process is exporting to {target}; wait for it, or choose another --name") from None
    except Exception as error:
        why = files.reason(error) if isinstance(error, OSError) else files.refused(error)
        if why is None or isinstance(error, BadInput):
            raise
        raise CannotWrite(f"cannot write {target}: {why}") from error
    return target


def _remove_unfinished(target):
    """Removes what exports to `target` that were killed have left; the caller holds its lock."""
    for path in files.unfinished(target.parent):
        if path.is_dir() and path.name.rpartition(".")[0] == f".{target.name}":
            shutil.rmtree(path)


def check_formats(formats: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the formats in the order of a card. Raises `BadInput` for an unknown format or none."""
    formats = formats.split(",") if isinstance(formats, str) else list(formats)
    for name in formats or [None]:
        one_of("format", name, RUNTIMES)
    return tuple(name for name in RUNTIMES if name in formats)


def _target(out, name):
    if not name or name in (".", "..") or Path(name).name != name or name.startswith("."):
        raise BadInput(f"name must be a plain folder name, got {shown(name)}")
    target = Path(out) / name
    if target.exists():
        raise BadInput(f"cannot write {target}: it already exists; choose another --name or --out, or remove it first")
    return target


def _fill(folder, name, run, formats, dataset, say):
    from zoo.artefacts.formats import from_text
    from zoo.data.text import save_vocabulary
    from zoo.modes.compare import gap
    from zoo.modes.modes import in_mode, whether_drops
    from zoo.reliability.fitting import fit

    model, vocabulary, test = source.model(run), run.vocabulary, dataset.test
    dropping = whether_drops(model)
    if vocabulary is not None:
        save_vocabulary(folder / runs.VOCABULARY, vocabulary)
    say(f"writing {', '.join(formats)}")
    full = model if vocabulary is None else from_text(model, vocabulary)
    written = _write(formats, {"text": full, "tokens": model}, folder, dropping, run)
    modes = [mode for mode in MODES if mode != "mc" or dropping]
    compared = test.sample(COMPARED)
    arrays = source.probe_of(run, modes)
    if arrays is None:
        x = compared.head(probe.EXAMPLES).x
        arrays = probe.make(lambda x, mode, seed: _logits(in_mode(full, mode), x, seed), x, modes, vocabulary)
        np.savez_compressed(folder / probe.NAME, **arrays)
    else:  # logits of an earlier export are to be reproduced
        shutil.copyfile(run.folder / probe.NAME, folder / probe.NAME)
    say("comparing the modes on the test part")
    figures = gap(model, compared.x, compared.y)
    say("fitting temperature and prediction sets on the validation part")
    calibration = fit(model, dataset.val, compared)
    described = card.make(name, run, model, written, figures, _examples(test, full, run, folder), calibration)
    say("checking every runtime against Keras")
    files.write_json(folder / contract.NAME, card.finished(described, folder, {}))  # enough to load the artefact
    sums.write(folder)
    described = card.finished(described, folder, _agreement(folder, formats, arrays))
    card.write(described, folder)
    sums.write(folder)


def _examples(test, model, run, folder):
    """Returns the rows of some test examples for the card; writes their picture into `folder` if they are images."""
    from zoo.modes.modes import in_mode

    shown = test.sample(examples.SHOWN)
    # A text model takes strings; the probe makes them of token ids.
    x = shown.x if run.vocabulary is None else examples.texts(shown.x, run.vocabulary)
    logits = _logits(in_mode(model, "inference"), x, None)
    rows = examples.rows(shown.y, logits, run.config["data"]["labels"], None if run.vocabulary is None else x)
    if run.vocabulary is None and shown.x.ndim == 4:
        examples.draw(shown.x, rows, folder / examples.PICTURE)
    return rows


def _write(formats, models, folder, dropping, run):
    """Writes the model in `formats`, or copies the files of an artefact; returns the file of each mode by format.

    `models` holds the model as each format takes it. Without dropout there is no file for
    mc, which would equal inference.
    """
    files = {}
    for name in formats:
        kind = runtime(name)
        files[name] = {mode: file for mode, file in kind.files.items() if mode != "mc" or dropping}
        if source.keeps(run, name, files[name]):
            _copy(run.folder, folder, files[name].values())
        else:
            kind.write(models[kind.takes], folder, files[name])
    return files


def _copy(folder, target, names):
    for name in set(names):
        copy = shutil.copytree if (folder / name).is_dir() else shutil.copyfile
        copy(folder / name, target / name)


def _logits(run, x, seed):
    import tensorflow as tf

    x = tf.constant(x.tolist(), tf.string) if x.dtype.kind == "U" else tf.constant(x)
    return run(x, 0 if seed is None else seed).numpy()


def _agreement(folder, formats, arrays):
    """Returns the largest difference to Keras by runtime and mode. Raises `RunFailed` beyond the tolerance."""
    from zoo.artefacts.load import load

    agreement = {}
    for name in formats:
        compared = probe.differences(load(folder, runtime=name), probe.read(folder))
        agreement[name] = {mode: difference for mode, (difference, _) in compared.items()}
        for mode, (difference, small) in compared.items():
            if not small:
                raise RunFailed(
                    f"cannot export to {name}: its logits differ from Keras by {difference:.1e} in mode {mode}, and "
                    f"{probe.TOLERANCE[mode]:.0e} is allowed; omit this format with --formats, and report it"
                )
    return agreement
