"""`python -m zoo`: list, sites, place, audit, export, predict, modes, uncertainty, verify."""

import argparse
import os
import sys
import threading
import time
from pathlib import Path

from zoo.artefacts.runtimes import FASTEST_FIRST, RUNTIMES
from zoo.checks import MOST
from zoo.cli import add_data_options, add_options, dispatch, fraction, integer, print_json, run
from zoo.data import announce
from zoo.data.options import DataOptions
from zoo.modes import MASKS, PREDICTING
from zoo.streams import Lossy
from zoo.surgery.commands import add_model, add_place, add_sites, opened

_MASKS = "per-example: each example has masks of its own; shared: each sample is one thinned network (per-example)"


def main(argv: list[str] | None = None) -> int | None:
    """Runs a command line and returns its exit code."""
    return dispatch(argv, "python -m zoo", "Lists models; exports, checks and runs trained ones.", add_commands)


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-commands of this package, see `zoo.cli.dispatch`."""
    for add in (_add_list, add_sites, add_place, _add_audit, _add_export, _add_predict, _add_modes, _add_uncertainty):
        add(commands)
    _add_verify(commands)


def _add_list(commands):
    models = commands.add_parser(
        "list", help="show models with their settings, sites and placements, and the shipped artefacts"
    )
    models.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="shell pattern of model names, such as '*net' (all)"
    )
    models.add_argument("--json", action="store_true", help="print the result as one JSON object")
    models.set_defaults(call=_list)


def _list(arguments):
    from zoo.artefacts.locate import shipped
    from zoo.errors import BadInput
    from zoo.models.catalogue import describe, list_models

    names = list_models(arguments.pattern)
    if not names:
        raise BadInput(f"PATTERN must match one of {', '.join(list_models())}, got {arguments.pattern!r}")
    described = [describe(name) for name in names]
    if arguments.json:
        print_json({"models": described, "shipped": shipped(arguments.pattern)})
    else:
        print("\n\n".join(_text(model) for model in described))
        rows = shipped(arguments.pattern)
        if rows:
            print("\ntrained models in saved_models/, with test error and placement")
        for row in rows:
            print(f"  {row['name']:<36}{row['test_error']:6.2f} %  {row['placement'] or 'no dropout'}")


def _text(model):
    lines = [f"{model['name']}: {model['about']}", "  configuration (--set KEY=VALUE)"]
    lines += [f"    {f['name']:<14}{f['default']:<14}{f['about']}" for f in model["configuration"]]
    lines.append("  sites, with the number of occurrences and the allowed kinds (--drop SITE=RATE[:KIND])")
    lines += [f"    {s['name']:<14}{s['occurrences']:<4}{s['about']}; {', '.join(s['kinds'])}" for s in model["sites"]]
    lines.append("  placements (--placement NAME)")
    lines += [f"    {name:<14}{text or 'no dropout'}" for name, text in model["placements"].items()]
    return "\n".join(lines)


def _add_audit(commands):
    about = "find what is wrong with the regularisation of a model or an exported file, and what fixes it"
    parser = commands.add_parser("audit", help=about, description=f"{about.capitalize()}.", epilog=_AUDITED)
    add_model(parser)
    parser.add_argument("--strict", action="store_true", help="exit with code 1 if there is a finding of level error")
    parser.set_defaults(call=_audit)


_AUDITED = (
    "In place of MODEL: an artefact, or the name of a shipped one; a run folder; FILE.onnx; or the folder of a "
    "SavedModel. These are read, not run."
)


def _audit(arguments):
    findings = _findings(arguments)
    if arguments.json:
        print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        print("\n\n".join(map(_finding, findings)) or "nothing found")
    return int(arguments.strict and any(finding.level == "error" for finding in findings))


def _findings(arguments):
    from zoo.artefacts import audit as files

    findings = files.of_files(arguments.model)
    if findings is not None:
        return findings
    model = opened(arguments)
    from zoo.surgery.audit import audit

    options = {
        "--input-shape": arguments.input_shape,
        "--classes": arguments.classes,
        "--vocabulary": arguments.vocabulary,
    }
    words = [f"{option} {value}" for option, value in options.items() if value is not None]
    return audit(model, " ".join([arguments.model, *words, *(f"--import {name}" for name in arguments.imports)]))


def _finding(finding):
    lines = [f"{finding.level:<8}{finding.layer}: {finding.reason} [{finding.rule}]"]
    lines += [f"        {finding.reference}", f"        {finding.remedy}"]
    return "\n".join(lines + ([f"        {finding.command}"] if finding.command else []))


def _add_export(commands):
    parser = commands.add_parser("export", help="export a finished run as an artefact: a folder that runs anywhere")
    parser.add_argument(
        "run",
        metavar="RUN_DIR",
        help="folder of a finished run; data comes from where the run read it. Of an artefact, whose run may be gone, "
        "the export keeps the files and adds the formats and the entries of the card that it lacks",
    )
    parser.add_argument("--name", help="name of the artefact (<model>-<dataset>-<placement>, or the next free name)")
    parser.add_argument("--formats", help=f"formats to write, separated by commas: {','.join(RUNTIMES)} (all)")
    parser.add_argument("--out", metavar="DIR", help="folder in which the artefact's folder is created (saved_models)")
    add_data_options(parser)
    parser.add_argument("--json", action="store_true", help="print the card as one JSON object")
    parser.set_defaults(call=_export)


def _export(arguments):
    from zoo.artefacts.contract import read
    from zoo.artefacts.export import export

    given = {key: getattr(arguments, key) for key in ("name", "formats", "out", "data_dir")}
    given = {key: value for key, value in given.items() if value is not None}
    with _Phase("starting") as phase:
        folder = export(arguments.run, download=bool(arguments.download), say=phase.say, **given)
    card = read(folder)
    if arguments.json:
        return print_json({"folder": str(folder), **card})
    size = sum(file["bytes"] for file in card["files"].values())
    print(f"artefact {folder}: {', '.join(card['formats'])}; modes {', '.join(card['modes'])}; {size / 1e3:,.0f} kB")
    print(f"card     {folder / 'README.md'}")


_INPUTS = """INPUT for an image model: image files of any size, folders of them, or .npy or .npz files of pixels
from 0 to 255. INPUT for a text model: texts, or files with one text per line, written @FILE or FILE.txt, or
folders of .txt files with one text each, written @DIR or with a slash. Put a space before a text that begins
with @. INPUT for a model over a table: .csv, .tsv or .jsonl files with its columns, or .npy or .npz files of rows.

Mode mc keeps dropout on and averages several passes (samples). It also prints the spread, which is the
standard deviation of the probability over the samples, the entropy of the average, and the mutual
information, which is the part of the entropy that comes from disagreement between the samples. Entropy
and mutual information are in nats.
"""


def _add_predict(commands):
    about = "predict the classes of images, texts or rows of numbers, in mode mc with uncertainty"
    parser = commands.add_parser("predict", help=about, description=f"{about.capitalize()}.", epilog=_INPUTS)
    parser.add_argument("artefact", metavar="ARTEFACT", help="folder of an artefact, or name of a shipped one")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files or texts, see below")
    runtimes = ("auto", *FASTEST_FIRST)
    parser.add_argument(
        "--runtime", choices=runtimes, default="auto", help="runtime to use (auto: the fastest that is installed)"
    )
    parser.add_argument(
        "--mode", choices=PREDICTING, default="inference", help="without dropout, or Monte-Carlo dropout (inference)"
    )
    parser.add_argument(
        "--samples", type=integer(1, MOST["samples"]), metavar="N", help="number of samples in mode mc (50)"
    )
    parser.add_argument(
        "--seed", type=integer(-(2**31), 2**31 - 1), metavar="N", help="seed of the masks in mode mc (random)"
    )
    parser.add_argument("--masks", choices=MASKS, default=MASKS[0], help=f"masks in mode mc, {_MASKS}")
    parser.add_argument(
        "--calibrated", action="store_true", help="scale probabilities by the temperature that the export fitted"
    )
    parser.add_argument(
        "--coverage", type=fraction, metavar="X", help="print the set of classes that holds the true one in a share X"
    )
    add_options(parser, DataOptions, ["value_range"])
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(call=_predict)


def _predict(arguments):
    from zoo.artefacts.inputs import read
    from zoo.artefacts.load import load
    from zoo.artefacts.predictions import as_json, as_table

    with _Phase(f"loading {arguments.artefact}"):
        artefact = load(arguments.artefact, arguments.runtime)
    with _Phase("reading the inputs"):
        names, x = read.read_inputs(arguments.inputs, artefact.card, arguments.value_range)
    samples = arguments.samples or (50 if arguments.mode == "mc" else 1)
    with _Phase(f"opening {artefact.name} ({artefact.runtime})"):
        artefact.open(arguments.mode)
    passes = f", {samples} samples each" if arguments.mode == "mc" else ""
    with _Phase(f"predicting {len(names):,} example{'s' if len(names) > 1 else ''}{passes}"):
        value_range = (0, 255) if artefact.card["input"]["kind"] == "image" else None  # images are pixels by now
        predictions = artefact.predict(
            x,
            arguments.mode,
            samples,
            arguments.seed,
            value_range=value_range,
            masks=arguments.masks,
            calibrated=arguments.calibrated,
            coverage=arguments.coverage,
        )
    if arguments.json:
        print_json(as_json(names, predictions))
    else:
        print(as_table(names, predictions))


class _Phase:
    """Shows on a terminal's stderr what a command is doing, with the seconds it takes, from the first second on.

    The line goes to a copy of stderr, because stderr itself is held back while TensorFlow starts. It disappears
    at the end.
    """

    def __init__(self, text: str) -> None:
        self._text, self._begun, self._drawn = text, time.monotonic(), False
        self._done, self._stream, self._writing = threading.Event(), None, threading.Lock()

    def __enter__(self) -> "_Phase":
        self._heard = announce.heard(self.say)
        self._heard.__enter__()
        if sys.stderr.isatty():
            self._stream = Lossy(os.fdopen(os.dup(sys.stderr.fileno()), "w"))
            self._thread = threading.Thread(target=self._show, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._heard.__exit__(*error)
        if self._stream:
            self._done.set()
            self._thread.join()
            self.clear()
            self._stream.close()

    def say(self, line: str) -> None:
        """Prints a line to stderr; it also is what the command is doing now."""
        self.clear()
        print(line, file=sys.stderr, flush=True)
        self._text, self._begun = line, time.monotonic()

    def clear(self) -> None:
        """Takes the line off the terminal."""
        with self._writing:
            if self._drawn:
                self._write("\r\x1b[K")
                self._drawn = False

    def _show(self):
        while not self._done.wait(1.0):
            with self._writing:
                self._write(f"\r\x1b[K{self._text[:60]}, {time.monotonic() - self._begun:.0f} s")
                self._drawn = True

    def _write(self, text):
        self._stream.write(text)
        self._stream.flush()


def _add_modes(commands):
    parser = commands.add_parser("modes", help="compare inference, training and mc of a model, layer by layer")
    parser.add_argument(
        "model",
        metavar="ARTEFACT|RUN_DIR|MODEL.keras",
        help="model to compare: an artefact or its shipped name, a run folder, or a .keras file",
    )
    parser.add_argument("--dataset", metavar="NAME", help="data set (that of the model); required for MODEL.keras")
    parser.add_argument("--masks", choices=MASKS, default=MASKS[0], help=f"masks in mode mc, {_MASKS}")
    parser.add_argument(
        "--samples", type=integer(1, MOST["samples"]), default=20, metavar="N", help="number of samples in mode mc (20)"
    )
    parser.add_argument("--seed", type=integer(0, MOST["seed"]), default=0, metavar="N", help="seed of the masks (0)")
    parser.add_argument(
        "--examples",
        type=integer(1, MOST["examples"]),
        default=1000,
        metavar="N",
        help="largest number of test examples (1000)",
    )
    add_data_options(parser)
    where = "folder for modes.json and modes.png (RUN_DIR itself; modes/<name> for an artefact or a file)"
    parser.add_argument("--out", metavar="DIR", help=where)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(call=_modes)


def _modes(arguments):
    from zoo import data
    from zoo.artefacts import locate

    subject = locate.subject(arguments.model, arguments.dataset, arguments.out)
    with _Phase(f"opening {subject.name}"):
        model, dataset = locate.opened(subject, arguments.data_dir, bool(arguments.download))
    from zoo.modes import figure, report
    from zoo.modes.compare import compare_modes

    for line in data.summary({**data.describe(dataset), "dataset": subject.dataset}):
        print(line, file=sys.stderr, flush=True)
    test = dataset.test.sample(arguments.examples)
    print(f"comparing the modes on {len(test):,} examples of {subject.dataset}", file=sys.stderr, flush=True)
    with _Phase("comparing"):
        result = compare_modes(model, test.x, test.y, arguments.samples, arguments.seed, arguments.masks)
    result |= {"model": subject.name, "dataset": subject.dataset, "notes": [*result["notes"], *subject.unknown]}
    paths = figure.write(result, subject.folder)
    if arguments.json:
        return print_json(result)
    print(report.text(result))
    print("\n" + "\n".join(map(str, paths)))


def _add_uncertainty(commands):
    about = "measure how far a model's predictions can be trusted, in inference and with dropout on"
    parser = commands.add_parser("uncertainty", help=about, description=f"{about.capitalize()}.")
    parser.add_argument(
        "model",
        metavar="ARTEFACT|RUN_DIR|MODEL.keras",
        help="classifier to measure: an artefact or its shipped name, a run folder, or a .keras file",
    )
    parser.add_argument("--dataset", metavar="NAME", help="data set (that of the model); required for MODEL.keras")
    parser.add_argument(
        "--ood", action="append", default=[], metavar="NAME", help="foreign data set that should be noticed; repeatable"
    )
    parser.add_argument("--samples", type=integer(), default=50, metavar="N", help="number of samples in mode mc (50)")
    parser.add_argument("--masks", choices=MASKS, default=MASKS[0], help=_MASKS)
    parser.add_argument(
        "--coverage", type=fraction, default=0.9, metavar="X", help="share of sets that hold the true class (0.9)"
    )
    parser.add_argument(
        "--corruptions", action="store_true", help="measure test images with noise, blur and other corruptions, too"
    )
    parser.add_argument("--seed", type=integer(0), default=0, metavar="N", help="seed of masks and resamples (0)")
    add_data_options(parser)
    where = (
        "new folder for uncertainty.json, uncertainty.png and per_example.csv (uncertainty/<name>, or the next free)"
    )
    parser.add_argument("--out", metavar="DIR", help=where)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(call=_uncertainty)


def _uncertainty(arguments):
    from zoo.errors import CannotWrite

    try:
        _measure(arguments)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted, nothing was written; run it again with\n  {arguments.line}") from None
    except CannotWrite as error:
        raise CannotWrite(f"{error}, then run it again with\n  {arguments.line}") from error


def _measure(arguments):
    from zoo import data, files
    from zoo.artefacts import locate
    from zoo.reliability import report

    folder = None if arguments.out is None else report.check_new(arguments.out)
    subject = locate.subject(arguments.model, arguments.dataset, folder)
    options = {"data_dir": arguments.data_dir or subject.data_dir, "download": bool(arguments.download)}
    for name in arguments.ood:
        data.check_ready(name, **options)
    folder = files.free(Path("uncertainty") / subject.name) if folder is None else folder
    with _Phase(f"opening {subject.name}") as phase:
        model, dataset = locate.opened(subject, **options)
        for line in data.summary({**data.describe(dataset), "dataset": subject.dataset}):
            phase.say(line)
        foreign = {}
        for name in arguments.ood:
            phase.say(f"reading {name}")
            foreign[name] = data.load_foreign(name, dataset, **options)
        from zoo.reliability.assess import uncertainty

        result = uncertainty(
            model,
            dataset,
            foreign,
            arguments.samples,
            arguments.coverage,
            arguments.seed,
            masks=arguments.masks,
            corrupt=arguments.corruptions,
            say=phase.say,
        )
        result |= {"model": subject.name, "dataset": subject.dataset, "notes": [*result["notes"], *subject.unknown]}
        phase.say("drawing the picture")
        paths = report.write(result, folder)
    if arguments.json:
        return print_json(result)
    print(report.text(result))
    print("\n" + "\n".join(map(str, paths)))


def _add_verify(commands):
    parser = commands.add_parser(
        "verify", help="check an artefact: its files, its card, and the logits of every runtime and mode"
    )
    parser.add_argument("artefact", metavar="ARTEFACT", help="folder of an artefact, or name of a shipped one")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.set_defaults(call=_verify)


def _verify(arguments):
    import dataclasses

    from zoo.artefacts.verify import verify

    checks = []
    with _Phase(f"checking {arguments.artefact}") as phase:
        for check in verify(arguments.artefact):
            checks.append(check)
            if not arguments.json:
                phase.clear()
                print(f"{'ok    ' if check.ok else 'FAILED'}  {check.name}: {check.found}", flush=True)
    failed = sum(not check.ok for check in checks)
    if arguments.json:
        print_json({"ok": not failed, "checks": [dataclasses.asdict(check) for check in checks]})
    else:
        print(f"{len(checks)} checks, {failed} failed" if failed else f"all {len(checks)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    run(main)
