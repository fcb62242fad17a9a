"""The options of `search` and `cluster`; none has a default here, so that only what is typed counts."""

from trainers.options import add_placement_options, add_run_options
from tuning.request import TRIALS, TUNERS
from tuning.space import DEFAULTS, OTHERS
from zoo.command import whole

_DEFAULTS = "\n".join(f"  {model:<12} {' '.join(items)}" for model, items in DEFAULTS.items())
EPILOG = f"""--tune takes SITE=LOW:HIGH:STEP[:KIND[/KIND]], SITE=R1/R2/...[:KIND[/KIND]] or FIELD=V1/V2/..., where
FIELD is one of {", ".join(OTHERS)}. Both ends and 0 are always among the rates.
Unless --tune is given:
{_DEFAULTS}

Sites that are not tuned have what --drop or --placement says, nothing unless one is given.
--seed is that of the sequence of trials and of their runs.
"""


def add_search_options(parser):
    """What is tuned and how, and everything that a run takes."""
    how = parser.add_argument_group("search")
    how.add_argument("--tune", action="append", metavar="SITE=LOW:HIGH:STEP", help="rates to try; repeatable")
    how.add_argument("--tuner", metavar="NAME", help=f"{', '.join(TUNERS)} (random)")
    how.add_argument(
        "--max-trials",
        type=whole(),
        metavar="N",
        help=f"combinations ({TRIALS}; grid, hyperband: all), control counted",
    )
    how.add_argument("--executions", type=whole(), metavar="N", help="runs of each trial (1)")
    how.add_argument("--workers", type=whole(), metavar="N", help="processes on this machine (1); threads divided")
    how.add_argument(
        "--retrain", type=whole(2), metavar="N", help="compare winner and no dropout over N seeds on the test part"
    )
    add_placement_options(parser)
    add_run_options(parser)


def add_cluster_options(parser):
    """One chief, or a worker of it; a chief takes everything that a search takes."""
    who = parser.add_argument_group("cluster").add_mutually_exclusive_group(required=True)
    who.add_argument("--chief", metavar="HOST:PORT", help="lead a search, and listen at this address of this machine")
    who.add_argument("--worker", metavar="HOST:PORT", help="work for the chief at this address")
    parser.add_argument("--name", metavar="NAME", help="of a worker (host and process); one that comes back under it")
    parser.add_argument("--parent", type=whole(), metavar="PID", help="end with this process (a worker)")
    add_search_options(parser)
