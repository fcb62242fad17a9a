"""`python -m zoo`: list, export, predict, modes, verify."""

import sys

from zoo.command import Parser, print_json, run, whole


def main(argv=None):
    """Parse, and hand over; TensorFlow is imported only behind this."""
    parser = Parser(prog="python -m zoo", description="Keras models whose regularisation is a value you pass in.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (_add_list, _add_export, _add_predict, _add_modes, _add_verify):
        add(commands)
    arguments = parser.parse_args(argv)
    return arguments.call(arguments)


def _add_list(commands):
    models = commands.add_parser("list", help="models, their configuration, their sites and named placements")
    models.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="a shell pattern, as in '*net'")
    models.add_argument("--json", action="store_true", help="print the result as one JSON object")
    models.set_defaults(call=_list)


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


def _add_export(commands):
    parser = commands.add_parser("export", help="a finished run as an artefact: a folder that runs anywhere")
    parser.add_argument("run", metavar="RUN_DIR", help="a run folder of python -m trainers train or compare")
    parser.add_argument("--name", help="name of the artefact (<model>-<dataset>-<placement>)")
    parser.add_argument("--formats", help="of keras,savedmodel,onnx,litert, joined by commas (all)")
    parser.add_argument("--out", metavar="DIR", help="the folder to put the artefact's folder in (saved_models)")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data; the test part makes the probe")
    parser.add_argument("--download", action="store_true", help="let TFDS fetch the data set")
    parser.add_argument("--json", action="store_true", help="print the card as one JSON object")
    parser.set_defaults(call=_export)


def _export(arguments):
    from zoo.artefacts.contract import read
    from zoo.artefacts.export import export

    given = {key: getattr(arguments, key) for key in ("name", "formats", "out", "data_dir")}
    given = {key: value for key, value in given.items() if value is not None}
    folder = export(
        arguments.run, download=arguments.download, say=lambda line: print(line, file=sys.stderr, flush=True), **given
    )
    card = read(folder)
    if arguments.json:
        return print_json({"folder": str(folder), **card})
    size = sum(file["bytes"] for file in card["files"].values())
    print(f"artefact {folder}: {', '.join(card['formats'])}; modes {', '.join(card['modes'])}; {size / 1e6:.1f} MB")
    print(f"card     {folder / 'README.md'}")


_INPUTS = """INPUT is, for a model of images, image files of any size, or .npy or .npz files of pixels from 0 to 255.
For a model of texts it is a text itself, or a file with one text a line, as @FILE or FILE.txt (a text
that begins with @ takes a space before it).

Mode mc leaves dropout on and averages the samples. It also prints the spread (the standard deviation over
the samples of the class's probability), the entropy of the average, and the mutual information, the part
of the entropy that the samples disagree about; both in nats.
"""


def _add_predict(commands):
    about = "what an exported model says of images or texts, and in mode mc how sure it is"
    parser = commands.add_parser("predict", help=about, description=f"Prints {about}.", epilog=_INPUTS)
    parser.add_argument("artefact", metavar="ARTEFACT", help="the folder of an artefact, or the name of a shipped one")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files or texts, see below")
    runtimes = ("auto", "keras", "savedmodel", "onnx", "litert")
    parser.add_argument("--runtime", choices=runtimes, default="auto", help="auto, the default: the fastest there is")
    parser.add_argument("--mode", choices=("inference", "mc"), default="inference", help="inference unless given")
    parser.add_argument("--samples", type=whole(), metavar="N", help="passes in mode mc (50)")
    parser.add_argument("--seed", type=whole(-(2**31)), metavar="N", help="decides what mode mc drops; else drawn anew")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(call=_predict)


def _predict(arguments):
    from zoo.artefacts import answers, inputs
    from zoo.artefacts.load import load

    artefact = load(arguments.artefact, arguments.runtime)
    names, x = inputs.read(arguments.inputs, artefact.card)
    samples = arguments.samples or (50 if arguments.mode == "mc" else 1)
    predictions = artefact.predict(x, arguments.mode, samples, arguments.seed)
    if arguments.json:
        print_json(answers.as_json(names, predictions))
    else:
        print(answers.as_table(names, predictions))


def _add_modes(commands):
    parser = commands.add_parser("modes", help="inference, training and mc of a model side by side, layer by layer")
    parser.add_argument("model", metavar="ARTEFACT|RUN_DIR|MODEL.keras", help="what to look at")
    parser.add_argument("--dataset", metavar="NAME", help="data to look at it with (its own); needed for MODEL.keras")
    parser.add_argument("--samples", type=whole(), default=20, metavar="N", help="samples in mc (20)")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="N", help="decides what is dropped (0)")
    parser.add_argument("--examples", type=whole(), default=1000, metavar="N", help="of the test part, at most (1000)")
    parser.add_argument("--data-dir", metavar="DIR", help="where TFDS keeps its data (default: TFDS_DATA_DIR)")
    parser.add_argument("--download", action="store_true", help="let TFDS fetch the data set")
    where = (
        "folder for modes.json and modes.png (RUN_DIR itself; modes/<name> for ARTEFACT, which is sealed, and MODEL)"
    )
    parser.add_argument("--out", metavar="DIR", help=where)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(call=_modes)


def _modes(arguments):
    from zoo import subject

    found = subject.find(arguments.model, arguments.dataset, arguments.out)
    model, dataset = subject.load(found, arguments.data_dir, arguments.download)
    from zoo import behaviour, behaviour_figure, behaviour_report

    test = dataset.test.head(arguments.examples)
    print(f"comparing the modes on {len(test):,} examples of {found.dataset}", file=sys.stderr, flush=True)
    result = behaviour.compare_modes(model, test.x, test.y, arguments.samples, arguments.seed)
    result |= {"model": found.name, "dataset": found.dataset, "notes": [*result["notes"], *found.unknown]}
    paths = behaviour_figure.write(result, found.folder)
    if arguments.json:
        return print_json(result)
    print(behaviour_report.text(result))
    print("\n" + "\n".join(map(str, paths)))


def _add_verify(commands):
    parser = commands.add_parser("verify", help="checksums, the probe in every runtime, what each mode promises")
    parser.add_argument("artefact", metavar="ARTEFACT", help="the folder of an artefact, or the name of a shipped one")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(call=_verify)


def _verify(arguments):
    import dataclasses

    from zoo.artefacts.verify import verify

    checks = []
    for check in verify(arguments.artefact):
        checks.append(check)
        if not arguments.json:
            print(f"{'ok    ' if check.ok else 'FAILED'}  {check.name}: {check.found}", flush=True)
    failed = sum(not check.ok for check in checks)
    if arguments.json:
        print_json({"ok": not failed, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        print(f"{len(checks)} checks, {failed} failed" if failed else f"all {len(checks)} checks hold")
    return 1 if failed else 0


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
