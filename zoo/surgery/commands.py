"""`python -m zoo sites` and `place`, and how commands open a MODEL."""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from zoo import checks
from zoo.checks import MOST
from zoo.cli import integer, print_json
from zoo.errors import BadInput
from zoo.placement.drop import KINDS
from zoo.placement.placement import Placement, unique_keys


def add_sites(commands: argparse._SubParsersAction) -> None:
    """Adds the command `sites`."""
    parser = commands.add_parser("sites", help="show where dropout can go in any Keras model, and what is there now")
    add_model(parser)
    parser.set_defaults(call=_sites)


def add_place(commands: argparse._SubParsersAction) -> None:
    """Adds the command `place`."""
    parser = commands.add_parser("place", help="write a model with other dropout, its weights kept")
    add_model(parser)
    parser.add_argument(
        "--drop",
        action="append",
        metavar="SITE=RATE[:KIND]",
        help="dropout at this site and at no other; SITE=own keeps the masks that are there; repeatable; "
        f"kinds: {', '.join(KINDS)}",
    )
    parser.add_argument(
        "--placement", metavar="NAME|FILE.json", help="none, own, everywhere, or a placement file such as best.json"
    )
    parser.add_argument("--scaling", metavar="NAME", help="inverted (default) or original")
    parser.add_argument("--seed", type=integer(0, MOST["seed"]), default=0, metavar="N", help="seed of the masks (0)")
    parser.add_argument("--out", metavar="NEW.keras", required=True, help="file to write")
    parser.set_defaults(call=_place)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name a MODEL and say how it is opened, and `--json`."""
    from zoo.surgery.opening import FORMS

    parser.add_argument("model", metavar="MODEL", help=FORMS)
    parser.add_argument("--input-shape", metavar="N,N,N", help="shape of one example, for a MODEL that is not a file")
    parser.add_argument("--classes", type=integer(2, MOST["classes"]), metavar="N", help="number of classes, likewise")
    parser.add_argument(
        "--vocabulary",
        type=integer(3, MOST["vocabulary"]),
        metavar="N",
        help="token ids, for a transformer over tokens",
    )
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="package that registers custom layers; its code is run; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")


def opened(arguments: argparse.Namespace) -> Any:
    """Returns the model that the options of `add_model` name."""
    from zoo.surgery.opening import open_model

    given = arguments.model, arguments.input_shape, arguments.classes, arguments.vocabulary
    return open_model(*given, imports=arguments.imports)


def _sites(arguments: argparse.Namespace) -> None:
    model = opened(arguments)
    from zoo.surgery.recognise import sites

    recognised = sites(model)
    if arguments.json:
        return print_json(recognised.to_json())
    print(_table(recognised))


def _table(recognised: Any) -> str:
    lines = [f"{'site':<14}{'no.':>4}{'block':>6}  {'after':<36}mask"]
    for row in recognised:
        lines.append(f"{row.site:<14}{row.occurrence:>4}{row.block:>6}  {row.after:<36}{_mask(row.mask)}".rstrip())
    if not recognised:
        lines = ["no site is recognised"]
    if recognised.elsewhere:
        lines += ["", "dropout at no recognised site (it stays)"]
        lines += [f"  {_mask(row)}: {row['why']}" for row in recognised.elsewhere]
    if recognised.unplaced:
        lines += ["", "looked at, but not placed"]
        lines += [f"  {row['site']} after {row['after']}: {row['why']}" for row in recognised.unplaced]
    return "\n".join(lines)


def _mask(mask: Any) -> str:
    return f"{mask['rate']:g} {mask['kind']} ({mask['layer']})" if mask else ""


def _place(arguments: argparse.Namespace) -> None:
    out = _checked_target(arguments.out)
    placement = chosen(arguments.placement, arguments.drop, arguments.scaling)
    model = opened(arguments)
    from zoo.surgery import written
    from zoo.surgery.place import place, resolved
    from zoo.surgery.recognise import sites

    before = sites(model)
    if arguments.drop and isinstance(placement, tuple):  # a name, with sites replaced
        name, extra = placement
        placement = resolved(name, before, model.name).replaced(extra)
    placed = place(model, placement, arguments.seed)
    report = written.write(model, placed, out)
    after = sites(placed)
    if arguments.json:
        return print_json({"file": str(out), **report, **after.to_json()})
    print(_table(after))
    print(f"\n{report['inference']}\n{out}")


def chosen(placement: str | None, drop: list[str] | None, scaling: str | None) -> Any:
    """Returns what `--placement`, `--drop` and `--scaling` ask for together.

    Args:
        placement: a name, or the path of a placement file.
        drop: items of `--drop`.
        scaling: `inverted` or `original`.

    Returns:
        A `Placement`, a name, or a name and the `Placement` whose sites replace those of the name.

    Raises:
        BadInput: none of them is given, or a bad value.
    """
    if placement is None and not drop:
        raise BadInput("place must be told what to place: give --drop SITE=RATE, or --placement NAME|FILE.json")
    dropped = Placement.parse(drop or [], scaling)
    if placement is None:
        return dropped
    if placement.endswith(".json"):
        from zoo.reading import parse_json, read_text
        from zoo.schema import require

        path, way = checks.path("--placement", placement), "give a placement file, or a name"
        contents = parse_json(path, read_text(path, way=way), way, unique_keys)
        require(path, contents, lambda name, value: Placement.from_json(value), way)
        if isinstance(contents, dict) and contents.get("recipe"):
            print(f"{placement} also holds a recipe, which is not used here", file=sys.stderr)
        read = Placement.from_json(contents)
        return dataclasses.replace(read.replaced(dropped), scaling=scaling or read.scaling)
    from zoo.surgery.place import NAMED

    if placement not in NAMED:
        way = checks.way_to_rates(placement)
        raise BadInput(f"--placement must be one of {', '.join(NAMED)}, or a .json file, got {placement!r}{way}")
    if scaling == "original" and not drop:
        raise BadInput(f"--scaling must be left out with --placement {placement} alone; give the sites with --drop")
    return (placement, dropped) if drop else placement


def _checked_target(out: str) -> Path:
    path = checks.path("--out", out)
    if path.suffix != ".keras":
        raise BadInput(f"--out must end in .keras, got {out!r}")
    if not path.parent.is_dir():
        raise BadInput(f"--out must be in a folder that exists, got {out!r}; create {path.parent} first")
    return path
