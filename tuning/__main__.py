"""`python -m tuning`: search, cluster."""

import sys

from trainers.options import given
from tuning import options
from zoo.command import Parser, print_json, run
from zoo.errors import BadInput

_OF_WORKERS = ("worker", "name", "parent", "out", "threads", "data_dir", "download")


def main(argv=None):
    """Parse, and hand over; TensorFlow is imported only behind this."""
    parser = Parser(prog="python -m tuning", description="Search for dropout rates with keras-tuner.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    about = "the rates with the lowest validation error"
    options.add_search_options(commands.add_parser("search", help=about, epilog=options.EPILOG))
    about = "one search over several machines; its service is unauthenticated: for private networks only"
    options.add_cluster_options(
        commands.add_parser("cluster", help=about, description=f"Runs {about}.", epilog=options.EPILOG)
    )
    arguments = parser.parse_args(argv)
    if arguments.command == "cluster" and arguments.worker:
        return _work(arguments)
    return _search(arguments)


def _search(arguments):
    from tuning.search import search

    if arguments.command == "cluster":
        from tuning.cluster import check_address

        check_address(arguments.chief, "--chief")
        for name in ("workers", "name", "parent"):
            if getattr(arguments, name) is not None:
                raise BadInput(f"received --{name} with --chief, which has workers elsewhere; leave it out")
    found = search(**given(arguments, "worker", "name", "parent"))
    if arguments.json:
        return print_json(found)
    print(_text(found))


def _work(arguments):
    from tuning.cluster import check_address, work

    check_address(arguments.worker, "--worker")
    chosen = given(arguments, "worker", "resume")
    for name in chosen:
        if name not in _OF_WORKERS and name != "chief":
            raise BadInput(f"received --{name.replace('_', '-')} with --worker; the search is the chief's to say")
    work(arguments.worker, **chosen)


def _text(found):
    winner, control, folder = found["winner"], found["control"], found["folder"]
    if winner is None:
        return f"no trial was finished; see {folder}/results.csv"
    lines = [f"lowest validation error {winner['val_error']:.2f} %: {winner['name']} (trial {winner['trial']})"]
    if control and control != winner:
        lines[0] += f"; without dropout {control['val_error']:.2f} %"
    if "retrain" in found:
        lines.append(found["retrain"]["verdict"])
    else:
        lines.append("chosen for being low, so too low: --resume --retrain 10 compares it with none on the test part")
    lines += [f"picture {folder}/rate.png", f"table   {folder}/results.csv", f"winner  {folder}/best.json"]
    return "\n".join([*lines, f"export  python -m zoo export {winner['run']}"])


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
