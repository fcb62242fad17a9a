"""`python -m trainers`: train, compare, claims, data."""

import argparse
import sys

from trainers import options
from zoo.cli import dispatch, print_json, run


def main(argv: list[str] | None = None) -> int | None:
    """Carries out a command line and returns its exit code."""
    return dispatch(argv, "python -m trainers", "Train Keras models with a placement of dropout.", add_commands)


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-commands of this package; see `zoo.cli.dispatch`."""
    train = commands.add_parser("train", help="train one model into a run folder")
    options.add_placement_options(train)
    options.add_from_option(train)
    options.add_run_options(train)
    train.set_defaults(call=_train)
    compare = commands.add_parser("compare", help="compare placements over seeds")
    options.add_compare_options(compare)
    compare.set_defaults(call=_compare)
    claims = commands.add_parser("claims", help="test common claims about dropout")
    options.add_claims_commands(claims)
    claims.set_defaults(call=_claims)
    data = commands.add_parser("data", help="list, describe and import data sets; the cache")
    options.add_data_commands(data)
    data.set_defaults(call=_data)


def _train(arguments):
    from trainers.training.train import report, train

    result = train(**options.given(arguments))
    print_json(result) if arguments.json else print(report(result))


def _compare(arguments):
    from trainers.comparison.compare import compare

    summary = compare(**options.given(arguments))
    if arguments.json:
        print_json(summary)
    elif summary["arms"]:
        from trainers.comparison.wording import table  # with SciPy, for which the runs need not wait

        print(table(summary))
        print(f"\npicture {summary['folder']}/bands.png\npage    {summary['folder']}/report.html")
    for failure in summary["failed"]:
        print("failed: {model}/{arm} seed {seed}: {message}".format(**failure), file=sys.stderr)
    return 1 if summary["failed"] else 0


def _claims(arguments):
    from trainers.claims import wording

    if arguments.action == "list":
        from trainers.claims.verdicts import listing

        claims = listing()
        print_json({"claims": claims}) if arguments.json else print(wording.listed(claims))
        return
    if arguments.action == "run":
        from trainers.claims.running import run as carry_out

        verdicts = carry_out(**options.given(arguments, "action"))
        print_json({"claims": verdicts}) if arguments.json else print(wording.verdicts(verdicts))
        return
    from trainers.claims.pages import write

    written = write(**options.given(arguments, "action"))
    print_json(written) if arguments.json else print(wording.summary(written))


def _data(arguments):
    from trainers import datasets
    from zoo.data.options import DataOptions

    if arguments.action == "cache":
        result = datasets.cached(arguments.clear, arguments.limit)
        print_json(result) if arguments.json else print(datasets.cache_text(result))
        return
    where = {"data_dir": arguments.data_dir}
    if arguments.action == "list":
        result = datasets.listing(**where)
    elif arguments.action == "info":
        names = DataOptions().to_json()
        options = {key: value for key, value in vars(arguments).items() if key in names and value is not None}
        result = datasets.information(arguments.name, download=bool(arguments.download), **options, **where)
    else:
        result = datasets.imported(arguments.name, arguments.folder, **where)
    print_json(result) if arguments.json else print(datasets.text(result))


if __name__ == "__main__":
    run(main)
