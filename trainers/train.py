"""One run: a plan carried out in one run folder, resumable at any moment."""

import dataclasses
import importlib.metadata
import platform
from pathlib import Path

from trainers import callable_as
from trainers import folder as folders
from trainers.plan import Plan
from trainers.progress import duration, say
from zoo import data, startup
from zoo.errors import BadInput
from zoo.files import write_json


def train(out=None, resume=False, data_dir=None, download=False, threads=None, callbacks=(), quiet=False, **options):
    """Train one model, as `python -m trainers train` does, into a run folder.

    Args:
        out: the run folder; `runs/<model>-<dataset>-<placement>` (or its first free
            successor) unless given.
        resume: go on with the run in `out`; what it left is used for options not given.
        data_dir: where TFDS keeps its data; `download` allows it to fetch a set.
        threads: threads of an operation; all cores unless given. Bits depend on it.
        callbacks: Keras callbacks, driven once an epoch.
        quiet: no progress on stderr.
        **options: the other options of the command: `model`, `dataset`, `drop`,
            `placement`, `scaling`, `settings`, `seed`, the fields of `Recipe`, ...

    Returns:
        A dictionary with the contents of `metrics.json`, and `folder`.

    Raises:
        BadInput (a ValueError): the options cannot be carried out; nothing was begun.
        RunFailed: it began and could not be finished; the last checkpoint is intact.

    >>> result = train(out="runs/first", dataset="digits", epochs=1, quiet=True)
    """
    if resume and out is None:
        raise BadInput("received --resume without --out; name the folder of the run to go on with")
    base = None
    if resume and folders.is_empty(out):
        say(quiet, f"nothing to resume in {out}: starting from the beginning")
    elif resume:
        base = Plan.read(out)
    plan = Plan.make(base, **options)
    if base is not None and plan != base:
        raise BadInput(
            f"received --resume with options that differ from those of {out}: "
            f"{'; '.join(plan.differences(base))}; leave them out, or name another --out"
        )
    out = Path(out) if out else folders.free_name(Path("runs") / plan.name)
    with folders.claimed(out, resume):
        return run(plan, out, data_dir=data_dir, download=download, threads=threads, callbacks=callbacks, quiet=quiet)


def run(
    plan,
    out,
    *,
    data_dir=None,
    download=False,
    threads=None,
    callbacks=(),
    quiet=False,
    track_test=False,
    keep_checkpoint=True,
    load=None,
    until=None,
):
    """Carry out `plan` in the folder `out`, which the caller has claimed; see `train`.

    `track_test` adds the test part's error of every epoch to the history, for plots.
    `load` replaces `zoo.data.load`, for callers that keep a data set between runs.
    `until` pauses the run after that epoch: what is returned are the last row's
    validation figures, and calling again with a later one goes on from there.
    """
    out = Path(out)
    done = folders.read_json(out / "metrics.json")
    if done is not None:
        say(quiet, f"{out} is finished already: nothing to do")
        return {**done, "folder": str(out)}
    data.check_ready(plan.data.dataset, data_dir=data_dir, download=download)
    startup.keep_memory()
    threads = startup.tensorflow(threads or (folders.read_json(out / "config.json") or {}).get("threads"))
    options = dataclasses.asdict(plan.data)
    dataset = (load or data.load)(options.pop("dataset"), data_dir=data_dir, download=download, **options)
    from trainers.session import Session, explained

    with explained(plan, out), startup.gradients_forgotten():
        # What cannot be built is refused before anything is written.
        session = Session(plan, dataset, out, callbacks, quiet, track_test)
        write_json(out / "config.json", {**describe(plan, dataset, threads), "compiled": session.compiled})
        if dataset.vocabulary is not None:
            from zoo.text import save_vocabulary

            save_vocabulary(out / "vocabulary.txt", dataset.vocabulary)
        paused = session.train(until)
        result = paused or session.finish()
    if not keep_checkpoint and not paused:
        (out / "checkpoint.npz").unlink(missing_ok=True)
    return {**result, "folder": str(out)}


def describe(plan, dataset, threads):
    """The contents of `config.json`: everything needed to run `plan` again."""
    config = plan.to_json()
    config["data"] |= {"about": dataset.about, "input_shape": list(dataset.input_shape)}
    config["data"] |= {"classes": dataset.classes, "labels": list(dataset.labels)}
    config["data"] |= {"sizes": {name: len(getattr(dataset, name)) for name in ("train", "val", "test")}}
    packages = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
    versions = {name: importlib.metadata.version(name) for name in packages}
    config |= {"command": f"{plan.command()} --threads {threads}", "threads": threads}
    absent = plan.placement.not_in_files()
    if absent:
        config["not_in_file"] = f"model.keras lacks {absent}, which no layer of Keras does; inference is the same"
    return {**config, "versions": {"python": platform.python_version(), **versions}}


def report(result):
    """The lines that the command prints of a finished run."""
    return (
        f"test error {result['test_error']:.2f} %, loss {result['test_loss']:.4f}, "
        f"calibration error {result['test_ece']:.2f} %\n"
        f"best epoch on validation {result['best_epoch']} of {result['epochs']}; "
        f"{result['parameters']:,} weights; {result['images_per_second']:,.0f} training examples/s; "
        f"{duration(result['seconds'])}\n"
        f"run folder {result['folder']}"
    )


callable_as(__name__, "train")
