"""`python -m trainers`: train, compare, data."""

import sys

from trainers import options
from zoo.command import Parser, print_json, run


def main(argv=None):
    """Parse, and hand over; TensorFlow is imported only behind this."""
    parser = Parser(prog="python -m trainers", description="Train Keras models with a placement of dropout.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    train = commands.add_parser("train", help="one model, into a run folder")
    options.add_placement_options(train)
    options.add_run_options(train)
    options.add_compare_options(commands.add_parser("compare", help="placements x seeds, and what they differ by"))
    options.add_data_commands(commands.add_parser("data", help="data sets: list, look into, import"))
    arguments = parser.parse_args(argv)
    return {"train": _train, "compare": _compare, "data": _data}[arguments.command](arguments)


def _train(arguments):
    from trainers.train import report, train

    result = train(**options.given(arguments))
    print_json(result) if arguments.json else print(report(result))


def _compare(arguments):
    from trainers.compare import compare
    from trainers.wording import table

    given = options.given(arguments, "model", "arm", "tune")
    tune = options.candidates(arguments.tune) if arguments.tune else None
    summary = compare(models=arguments.model, arms=arguments.arm, tune=tune, **given)
    if arguments.json:
        print_json(summary)
    elif summary["arms"]:
        print(table(summary))
        print(f"\npicture {summary['folder']}/bands.png\npage    {summary['folder']}/report.html")
    for failure in summary["failed"]:
        print("failed: {model}/{arm} seed {seed}: {message}".format(**failure), file=sys.stderr)
    return 1 if summary["failed"] else 0


def _data(arguments):
    from trainers import datasets

    where = {"data_dir": arguments.data_dir}
    if arguments.action == "list":
        result = datasets.listing(**where)
    elif arguments.action == "info":
        result = datasets.information(arguments.name, download=arguments.download, **where)
    else:
        result = datasets.imported(arguments.name, arguments.folder, **where)
    print_json(result) if arguments.json else print(datasets.text(result))


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
