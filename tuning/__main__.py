"""`python -m tuning`: search, cluster, importance."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.options import add_placement_options, add_run_options, given
from tuning.request import LEAST_EXECUTIONS, STOP_WORSE, TRIALS, TUNERS
from tuning.space import DEFAULTS, OTHERS
from zoo.checks import MOST
from zoo.cli import dispatch, integer, print_json, run
from zoo.errors import BadInput

if TYPE_CHECKING:
    from tuning.result import SearchResult

_OF_WORKERS = ("worker", "name", "parent", "out", "threads", "data_dir", "download", "token_file")
_DEFAULTS = "\n".join(f"  {model:<12} {' '.join(items)}" for model, items in DEFAULTS.items())
EPILOG = f"""--tune takes one of

  SITE=LOW:HIGH:STEP[:KIND[/KIND]]   hidden=0:0.8:0.1, conv=0:0.3:0.1:dropout/spatial
  SITE=RATE/RATE/...[:KIND[/KIND]]   hidden=0/0.25/0.5
  FIELD=VALUE/VALUE/...              learning_rate=0.001/0.003

FIELD is {", ".join(OTHERS)};
width is a factor on all widths of the network. The rates of a range include both ends and 0.
Without --tune the search space is

{_DEFAULTS}

Sites that are not tuned have the dropout of --drop or --placement (default: none).
The first trial is the control: no dropout, with the first value of every FIELD.
--seed is the seed of the sequence of trials and of their runs.
"""


def main(argv: list[str] | None = None) -> int | None:
    """Carries out a command line, and returns its exit code."""
    return dispatch(argv, "python -m tuning", "Search for dropout rates with keras-tuner or Optuna.", add_commands)


def add_commands(commands: Any) -> None:
    """Adds the sub-commands of this package to argparse's sub-parsers, see `zoo.cli.dispatch`."""
    about = "search for the dropout rates with the lowest validation error"
    search = commands.add_parser("search", help=about, description=_sentence(about), epilog=EPILOG)
    _add_search_options(search)
    search.set_defaults(call=_search)
    about = "run one search on several machines"
    warning = "Chief and workers share a token. What they send is not encrypted: use a private network."
    cluster = commands.add_parser("cluster", help=about, description=f"{_sentence(about)} {warning}", epilog=EPILOG)
    _add_cluster_options(cluster)
    about = "show which tuned hyperparameters mattered in a search (needs Optuna)"
    mattered = commands.add_parser("importance", help=about, description=_sentence(about))
    mattered.add_argument("folder", metavar="SEARCH_DIR", help="the folder of a search")
    mattered.add_argument("--json", action="store_true", help="print the result as one JSON object")
    mattered.set_defaults(call=_importance)
    cluster.set_defaults(call=lambda arguments: (_work if arguments.worker else _search)(arguments))


def _importance(arguments):
    from tuning.importance import importance

    shares = importance(arguments.folder)
    if arguments.json:
        return print_json({"importance": shares})
    width = max(map(len, shares))
    for name, share in shares.items():
        print(f"{name:<{width}}  {share:.3f}")
    print(f"\npictures {Path(arguments.folder, 'importance.png')} and {Path(arguments.folder, 'parallel.png')}")


def _sentence(text):
    return text[0].upper() + text[1:] + "."


def _add_search_options(parser):
    """Adds what is tuned and how, and the options of a run."""
    group = parser.add_argument_group("search")
    group.add_argument(
        "--tune", action="append", metavar="SITE=LOW:HIGH:STEP", help="values to try; repeatable, see below"
    )
    group.add_argument("--tuner", metavar="NAME", help=f"{', '.join(TUNERS)} (random)")
    group.add_argument(
        "--max-trials",
        type=integer(1, MOST["trials"]),
        metavar="N",
        help=f"largest number of trials, with the control ({TRIALS}; grid and hyperband: all)",
    )
    group.add_argument(
        "--executions",
        type=integer(1, MOST["executions"]),
        metavar="N",
        help="runs of each trial, with different seeds (1)",
    )
    group.add_argument(
        "--stop-worse",
        nargs="?",
        type=float,
        const=STOP_WORSE,
        metavar="P",
        help="stop a trial after two or more executions if it is clearly worse than the best one, paired by seed; P "
        f"({STOP_WORSE}) is the probability of stopping one that is as good; needs {LEAST_EXECUTIONS} --executions",
    )
    group.add_argument(
        "--workers",
        type=integer(1, MOST["workers"]),
        metavar="N",
        help="processes on this machine, which share its threads (1)",
    )
    group.add_argument(
        "--retrain",
        type=integer(2, MOST["seeds"]),
        metavar="N",
        help="then compare the winner with no dropout over N seeds on the test part",
    )
    add_placement_options(parser)
    add_run_options(parser)


def _add_cluster_options(parser):
    """Adds the options of a chief, which takes those of a search too, and of a worker."""
    role = parser.add_argument_group("cluster").add_mutually_exclusive_group(required=True)
    role.add_argument("--chief", metavar="HOST:PORT", help="lead a search; listen at this address of this machine")
    role.add_argument("--worker", metavar="HOST:PORT", help="train for the chief at this address")
    parser.add_argument(
        "--name", metavar="NAME", help="name of a worker; a restarted worker keeps its trial by its name"
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="the token that chief and workers share (chief: worker-token in --out); the chief writes the file unless "
        "it exists; the variable DROPOUT_ZOO_TOKEN can hold the token instead",
    )
    parser.add_argument("--parent", type=integer(), metavar="PID", help=argparse.SUPPRESS)
    _add_search_options(parser)


def _search(arguments):
    from tuning.session import search

    if arguments.command == "cluster":
        from tuning.service import check_address

        check_address(arguments.chief, "--chief")
        for name in ("workers", "name", "parent"):
            if getattr(arguments, name) is not None:
                raise BadInput(f"--{name} must be left out with --chief, got {getattr(arguments, name)}")
    result = search(**given(arguments, "worker", "name", "parent"))
    print_json(result) if arguments.json else print(_text(result))


def _work(arguments):
    from tuning.service import check_address, work

    check_address(arguments.worker, "--worker")
    chosen = given(arguments, "worker", "resume")
    for name, value in chosen.items():
        if name not in _OF_WORKERS:
            option = "set" if name == "settings" else name.replace("_", "-")
            raise BadInput(f"--{option} must be left out with --worker, got {value}; give it to the chief")
    work(arguments.worker, **chosen)


def _text(result: "SearchResult") -> str:
    """What the command prints of a search."""
    if result["winner"] is None:
        return result.headline
    folder, lines = result.folder, [result.headline]
    if stopped := result.get("stopped"):
        lines.append(f"{len(stopped)} of {result['trials']} trials were stopped: clearly worse than the best")
    if "retrain" in result:
        lines.append(result["retrain"]["verdict"])
    else:
        lines += [
            "This error is optimistic: it is the minimum of many trials. Compare the winner on the test part with",
            f"  python -m tuning search --out {folder} --resume --retrain 10",
        ]
    lines += [f"picture {folder}/rate.png", f"table   {folder}/results.csv", f"winner  {folder}/best.json"]
    winner = Path(result["winner"]["run"])
    if winner.exists():
        lines.append(f"export  python -m zoo export {winner}")
    else:
        lines.append(f"run     {winner.relative_to(folder)}, in the folder of the worker that trained it")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
