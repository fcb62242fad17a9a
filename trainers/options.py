"""The options that `train`, `compare` and `search` share; none has a default, so that only what is typed counts."""

import argparse

from trainers.parallel.backends import BACKENDS
from trainers.plan import Data
from trainers.recipe import Recipe
from zoo.checks import MOST
from zoo.cli import add_data_options, add_options, integer, settings
from zoo.data.options import DataOptions
from zoo.models.catalogue import CONFIGS, PLACEMENTS
from zoo.placement.drop import KINDS
from zoo.placement.schedule import SCHEDULES
from zoo.surgery.network import RANGES, WEIGHTS

MODELS = f"{', '.join(CONFIGS)}, FILE.keras, applications/NAME, or MODULE:FUNCTION, whose code is run"
_SCHEDULE = f"how the rates change during training: {', '.join(SCHEDULES)} (constant); early:0.3 sets the fraction"


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds data, recipe and folder: everything a run needs except model, placement and seed."""
    add_network_options(parser)
    data = parser.add_argument_group("data")
    add_options(data, Data, ["dataset"])
    add_data_options(data)
    add_options(data, DataOptions)
    add_options(parser.add_argument_group("recipe"), Recipe)

    out = parser.add_argument_group("run")
    out.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help="a field of the model's configuration (see python -m zoo list); repeatable",
    )
    out.add_argument("--out", metavar="DIR", help="folder to write (default: a new one under runs/)")
    out.add_argument("--resume", action="store_true", help="continue what is in --out")
    out.add_argument(
        "--threads", type=integer(1, MOST["threads"]), metavar="N", help="threads per operation (all cores)"
    )
    out.add_argument("--json", action="store_true", help="print the result as one JSON object")


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options for a MODEL that is not one of the four."""
    group = parser.add_argument_group("a model of your own")
    group.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="fresh (default); keep: every run starts from those of FILE.keras; imagenet: applications/NAME starts "
        "from those that Keras fetches, below a fresh head (needs --download)",
    )
    group.add_argument(
        "--replace-head",
        action="store_true",
        default=None,
        help="put a new output layer for the classes of the data in place of the last one",
    )
    group.add_argument(
        "--input-range",
        choices=RANGES,
        help="what it expects of its pixels, if it does not begin with Rescaling or Normalization",
    )
    group.add_argument(
        "--import",
        dest="imports",
        action="append",
        metavar="PACKAGE",
        help="package that registers custom layers; its code is run; repeatable",
    )


def add_placement_options(parser: argparse.ArgumentParser) -> None:
    """Adds the model, its placement and the seed."""
    group = parser.add_argument_group("model and placement")
    group.add_argument("--model", metavar="MODEL", help=f"{MODELS} (mlp)")
    group.add_argument(
        "--drop",
        action="append",
        metavar="SITE=RATE[:KIND]",
        help=f"dropout at this site and at no other; repeatable; kinds: {', '.join(KINDS)}; "
        "as in hidden=0.5 or conv=0.1/0.2:spatial; SITE=own keeps the masks that a model of your own has there",
    )
    group.add_argument(
        "--placement",
        metavar="NAME|FILE.json",
        help=f"{', '.join(PLACEMENTS)}, or a placement file; for a model of your own: own, none, everywhere",
    )
    group.add_argument("--scaling", metavar="NAME", help="inverted (default) or original")
    group.add_argument("--drop-schedule", metavar="NAME[:FRACTION]", help=_SCHEDULE)
    group.add_argument(
        "--seed", type=integer(0, MOST["seed"]), metavar="N", help="seed of weights, masks and data order (0)"
    )


def add_from_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--from`, which takes placement and recipe from a search."""
    parser.add_argument_group("result of a search").add_argument(
        "--from",
        dest="from_",
        metavar="FILE.json",
        help="placement and recipe of a search's best.json; other options win over it",
    )


def add_compare_options(parser: argparse.ArgumentParser) -> None:
    """Adds the arms, the seeds and the processes of a comparison."""
    arms = parser.add_argument_group("comparison")
    arms.add_argument("--model", action="append", metavar="MODEL", help=f"{MODELS} (mlp); repeatable")
    arms.add_argument(
        "--arm",
        action="append",
        metavar="NAME[=SITE=RATE[:KIND],...]",
        help=f"a named placement ({', '.join(PLACEMENTS)}), or a new name and its placement, as in "
        "wide=input=0.2,hidden=0.5; repeatable; the first is the control (none, default)",
    )
    arms.add_argument(
        "--each-site",
        nargs="?",
        type=float,
        const=0.2,
        metavar="RATE",
        help="compare each site of the model alone at RATE (0.2) with none, in place of --arm",
    )
    arms.add_argument("--scaling", metavar="NAME", help="inverted (default) or original, for all arms")
    arms.add_argument("--drop-schedule", metavar="NAME[:FRACTION]", help=f"{_SCHEDULE}; for all arms")
    arms.add_argument(
        "--seeds", type=integer(1, MOST["seeds"]), metavar="N", help="runs of each arm, paired by seed (10)"
    )
    arms.add_argument(
        "--workers",
        type=integer(1, MOST["workers"]),
        metavar="N",
        help="processes; they share the threads (one per core)",
    )
    arms.add_argument(
        "--backend",
        metavar="NAME",
        help=f"{', '.join(BACKENDS)}: processes of this machine (default), or a Dask cluster, where --out must be the "
        "same folder on every machine, under the same path",
    )
    arms.add_argument("--scheduler", metavar="ADDRESS", help="the Dask scheduler, as in tcp://127.0.0.1:8786")
    arms.add_argument(
        "--tune",
        action="append",
        metavar="KEY=V1/V2/...",
        help="choose this recipe field for each arm by validation error before the comparison; as in "
        "learning_rate=0.001/0.003; repeatable (all combinations are tried)",
    )
    arms.add_argument(
        "--tuning-seeds", type=integer(1, MOST["seeds"]), metavar="N", help="seeds of each --tune combination (1)"
    )
    arms.add_argument(
        "--vary",
        metavar="WHAT",
        help="seed: weights, order and masks (default); split: also cut validation anew for each seed",
    )
    add_run_options(parser)


def add_data_commands(parser: argparse.ArgumentParser) -> None:
    """Adds `data list`, `data info NAME`, `data import-idx NAME FOLDER` and `data cache`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = actions.add_parser("list", help="list the data sets that are ready, and how to get others")
    info = actions.add_parser("info", help="show the parts, classes and sizes of a data set")
    info.add_argument("name", metavar="NAME", help="digits, a TFDS name, folder:DIR, FILE.npz, or FILE.csv")
    idx = actions.add_parser("import-idx", help="make a TFDS folder from the four IDX files of an MNIST-like data set")
    idx.add_argument("name", metavar="NAME", help="name of the new data set, as in fashion_mnist")
    idx.add_argument("folder", metavar="FOLDER", help="folder of train-images-idx3-ubyte and the others, .gz or not")
    cache = actions.add_parser("cache", help="list or remove data sets that were decoded into the cache")
    cache.add_argument("--clear", action="store_true", help="remove all that are not in use")
    cache.add_argument(
        "--limit", type=float, metavar="GB", help="from now on, remove those not used for longest beyond GB (20)"
    )
    add_data_options(info)
    add_options(info, DataOptions)
    for action in (shown, idx):
        action.add_argument("--data-dir", metavar="DIR", help="folder of the TFDS data sets (default: TFDS_DATA_DIR)")
    for action in (shown, info, idx, cache):
        action.add_argument("--json", action="store_true", help="print the result as one JSON object")


def add_claims_commands(parser: argparse.ArgumentParser) -> None:
    """Adds `claims list`, `claims run ID...` and `claims report`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    shown = actions.add_parser("list", help="list the claims, their sources and the rules for their verdicts")
    run = actions.add_parser("run", help="run the experiments of claims; finished runs are kept and never repeated")
    run.add_argument("ids", nargs="*", metavar="ID", help="id or number of a claim, as in bands or 20b")
    run.add_argument("--all", dest="everything", action="store_true", help="every claim that can be run here (hours)")
    run.add_argument("--quick", action="store_true", help="tiny runs, to see that it works; their verdict says nothing")
    run.add_argument("--resume", action="store_true", help="continue what is in --out")
    run.add_argument("--out", metavar="DIR", help="folder with a folder for each experiment (runs/claims)")
    run.add_argument(
        "--seeds", type=integer(1, MOST["seeds"]), metavar="N", help="stop after N seeds of each arm (all of them)"
    )
    run.add_argument("--workers", type=integer(1, MOST["workers"]), metavar="N", help="processes (one per core)")
    run.add_argument("--backend", metavar="NAME", help=f"{', '.join(BACKENDS)}, as in compare")
    run.add_argument("--scheduler", metavar="ADDRESS", help="the Dask scheduler, as in tcp://127.0.0.1:8786")
    add_data_options(run)
    report = actions.add_parser("report", help="write the pages from what is kept of the experiments")
    report.add_argument("--out", metavar="DIR", help="the folder that `claims run` wrote (runs/claims)")
    report.add_argument("--quick", action="store_true", help="of the runs of --quick")
    for action in (shown, run, report):
        action.add_argument("--json", action="store_true", help="print the result as one JSON object")


def given(arguments: argparse.Namespace, *without: str) -> dict:
    """Returns the typed options as keyword arguments, except those in `without`; `--set` becomes `settings`."""
    options = {
        k: v
        for k, v in vars(arguments).items()
        if v is not None and k not in (*without, "command", "call", "json", "line")
    }
    if "set" in options:
        options["settings"] = settings(options.pop("set"))
    return options
