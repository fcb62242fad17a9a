"""`python -m zoo`: list."""

import sys

from zoo.command import Parser, print_json, run


def main(argv=None):
    """Parse, and hand over; TensorFlow is imported only behind this."""
    parser = Parser(prog="python -m zoo", description="Keras models whose regularisation is a value you pass in.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    models = commands.add_parser("list", help="models, their configuration, their sites and named placements")
    models.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="a shell pattern, as in '*net'")
    models.add_argument("--json", action="store_true", help="print the result as one JSON object")
    arguments = parser.parse_args(argv)
    return {"list": _list}[arguments.command](arguments)


def _list(arguments):
    from zoo.catalogue import describe, list_models, shipped
    from zoo.errors import BadInput

    names = list_models(arguments.pattern)
    if not names:
        raise BadInput(
            f"received the pattern {arguments.pattern!r}, which no model matches; there are {', '.join(list_models())}"
        )
    described = [describe(name) for name in names]
    if arguments.json:
        print_json({"models": described, "shipped": shipped(arguments.pattern)})
    else:
        print("\n\n".join(_text(model) for model in described))
        rows = shipped(arguments.pattern)
        if rows:
            print("\ntrained models in saved_models/, with their test error")
        for row in rows:
            print(f"  {row['name']:<36}{row['test_error']:6.2f} %  {row['placement'] or 'no dropout'}")


def _text(model):
    lines = [f"{model['name']}: {model['about']}", "  configuration (--set KEY=VALUE)"]
    lines += [f"    {f['name']:<14}{f['default']:<14}{f['about']}" for f in model["configuration"]]
    lines.append("  sites, and how often each occurs (--drop SITE=RATE[:KIND])")
    lines += [f"    {s['name']:<14}{s['occurrences']:<4}{s['about']}; {', '.join(s['kinds'])}" for s in model["sites"]]
    lines.append("  placements (--placement NAME)")
    lines += [f"    {name:<14}{text or 'no dropout'}" for name, text in model["placements"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
