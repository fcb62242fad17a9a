"""The options that `train` and `compare` share; none has a default here, so that only what is typed counts."""

import argparse

from trainers.recipe import OPTIMIZERS, SCHEDULES, Recipe
from zoo.catalogue import CONFIGS, PLACEMENTS
from zoo.command import number, settings, whole
from zoo.drop import KINDS
from zoo.errors import BadInput
from zoo.schedule import SCHEDULES as RATE_SCHEDULES

_R = Recipe()
_COUNTS = ("epochs", "batch_size", "early_stopping")
_SCHEDULE = f"how rates move while training: {', '.join(RATE_SCHEDULES)} (constant); early:0.3 says which part"


def add_run_options(parser):
    """Network, data, recipe and folder: everything a run needs but its placement and seed."""
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", metavar="NAME", help="digits (default), a TFDS name, folder:DIR, or FILE.npz")
    data.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data (default: TFDS_DATA_DIR)")
    data.add_argument("--download", action="store_true", default=None, help="let TFDS fetch the set")
    data.add_argument("--train-size", type=whole(), metavar="N", help="train on N examples (stratified)")
    data.add_argument("--split-seed", type=whole(0), metavar="N", help="seed of the validation part (0)")
    data.add_argument("--image-size", type=whole(), metavar="N", help="resize images to N x N pixels")
    data.add_argument("--vocabulary", type=whole(2), metavar="N", help="token ids, for text (8000)")
    data.add_argument("--length", type=whole(), metavar="N", help="tokens of a text that are read (64)")

    how = parser.add_argument_group("recipe")
    how.add_argument("--epochs", type=whole(), metavar="N", help=f"passes over the training part ({_R.epochs})")
    how.add_argument("--batch-size", type=whole(), metavar="N", help=f"examples a step ({_R.batch_size})")
    how.add_argument("--optimizer", metavar="NAME", help=f"{', '.join(OPTIMIZERS)} ({_R.optimizer})")
    how.add_argument("--learning-rate", type=number, metavar="X", help=f"its highest value ({_R.learning_rate:g})")
    how.add_argument("--momentum", type=number, metavar="X", help=f"of sgd and rmsprop ({_R.momentum:g})")
    how.add_argument("--schedule", metavar="NAME", help=f"{', '.join(SCHEDULES)} ({_R.schedule})")
    how.add_argument("--warmup", type=number, metavar="X", help=f"fraction of steps it rises ({_R.warmup:g})")
    how.add_argument("--weight-decay", type=number, metavar="X", help="decoupled; not on biases and norms (0)")
    how.add_argument("--max-norm", type=number, metavar="X", help="bound on a hidden unit's incoming weights")
    how.add_argument("--label-smoothing", type=number, metavar="X", help="share spread over all classes (0)")
    how.add_argument("--augment", action="store_true", default=None, help="shift, cut-out, flips where they fit")
    how.add_argument("--early-stopping", type=whole(), metavar="N", help="epochs of patience; keeps the best epoch")
    how.add_argument(
        "--jit-compile",
        action=argparse.BooleanOptionalAction,
        help="let XLA compile the step (long runs of networks without convolutions)",
    )

    out = parser.add_argument_group("run")
    out.add_argument("--set", action="append", metavar="KEY=VALUE", help="a field of the model (python -m zoo list)")
    out.add_argument("--out", metavar="DIR", help="folder to write (default: a new one under runs/)")
    out.add_argument("--resume", action="store_true", help="go on with what --out holds")
    out.add_argument("--threads", type=whole(), metavar="N", help="threads of an operation (all cores)")
    out.add_argument("--json", action="store_true", help="print the result as one JSON object")


def add_placement_options(parser):
    """Which model, and where dropout goes in it."""
    where = parser.add_argument_group("model and placement")
    where.add_argument("--model", metavar="NAME", help=f"{', '.join(CONFIGS)} (mlp)")
    where.add_argument(
        "--drop",
        action="append",
        metavar="SITE=RATE[:KIND]",
        help=f"dropout at a site, and at no other; kinds {', '.join(KINDS)}; as in hidden=0.5, conv=0.1/0.2:spatial",
    )
    where.add_argument("--placement", metavar="NAME|FILE.json", help=f"{', '.join(PLACEMENTS)}, or a placement file")
    where.add_argument("--scaling", metavar="NAME", help="inverted (default) or original")
    where.add_argument("--drop-schedule", metavar="NAME[:PART]", help=_SCHEDULE)
    where.add_argument("--seed", type=whole(0), metavar="N", help="of weights, masks and data order (0)")


def add_compare_options(parser):
    """Which arms are compared, over how many seeds and processes."""
    arms = parser.add_argument_group("comparison")
    arms.add_argument("--model", action="append", metavar="NAME", help=f"{', '.join(CONFIGS)} (mlp); repeatable")
    arms.add_argument(
        "--arm",
        action="append",
        metavar="NAME[=SITE=RATE[:KIND],...]",
        help=f"a named placement ({', '.join(PLACEMENTS)}), or a name and a placement of its own, as in "
        "wide=input=0.2,hidden=0.5; repeatable, the first is the control (none, default)",
    )
    arms.add_argument("--scaling", metavar="NAME", help="inverted (default) or original, for all arms")
    arms.add_argument("--drop-schedule", metavar="NAME[:PART]", help=f"{_SCHEDULE}; for all arms")
    arms.add_argument("--seeds", type=whole(), metavar="N", help="runs of each arm, paired by seed (10)")
    arms.add_argument("--workers", type=whole(), metavar="N", help="processes; the threads are divided (cores)")
    arms.add_argument(
        "--backend",
        metavar="NAME",
        help="loky, processes on this machine (default), or dask, all workers of a cluster; on each of its machines "
        "--out must be the same folder, under the same path",
    )
    arms.add_argument("--scheduler", metavar="ADDRESS", help="of the Dask cluster, as in tcp://127.0.0.1:8786")
    arms.add_argument(
        "--tune",
        action="append",
        metavar="KEY=V1/V2/...",
        help="choose this field of the recipe per arm, by validation error, before comparing; as in "
        "learning_rate=0.001/0.003; repeatable (all combinations)",
    )
    arms.add_argument("--tuning-seeds", type=whole(), metavar="N", help="seeds of each tuning candidate (1)")
    add_run_options(parser)


def add_data_commands(parser):
    """`data list`, `data info NAME`, `data import-idx NAME FOLDER`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = actions.add_parser("list", help="the sets that are ready, and how to get others")
    info = actions.add_parser("info", help="parts, classes and sizes of a set")
    info.add_argument("name", metavar="NAME", help="digits, a TFDS name, folder:DIR, or FILE.npz")
    info.add_argument("--download", action="store_true", help="let TFDS fetch the set")
    idx = actions.add_parser("import-idx", help="make a TFDS folder of the four IDX files of an MNIST-like set")
    idx.add_argument("name", metavar="NAME", help="what the set is to be called, as in fashion_mnist")
    idx.add_argument("folder", metavar="FOLDER", help="holds train-images-idx3-ubyte and the others, .gz or not")
    for action in (shown, info, idx):
        action.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data (default: TFDS_DATA_DIR)")
        action.add_argument("--json", action="store_true", help="print the result as one JSON object")


def candidates(items):
    """`KEY=V1/V2` texts as a dictionary of key to numbers."""
    found = {}
    for key, text in settings(items, "--tune").items():
        try:
            values = [float(value) for value in text.split("/")]
        except ValueError:
            raise BadInput(f"received --tune {key}={text}; the candidates are numbers, as in 0.001/0.003") from None
        found[key] = [int(value) if key in _COUNTS else value for value in values]
    return found


def given(arguments, *without):
    """What was typed, as keyword arguments; `--set` becomes `settings`."""
    options = {k: v for k, v in vars(arguments).items() if v is not None and k not in (*without, "command", "json")}
    if "set" in options:
        options["settings"] = settings(options.pop("set"))
    return options
