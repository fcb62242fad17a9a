"""What all commands share: options, errors, exit codes, JSON."""

import argparse
import dataclasses
import gc
import io
import json
import re
import shlex
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping

from zoo import checks, files, interrupts, startup, streams
from zoo.errors import BadInput, CannotWrite, RunFailed


class Parser(argparse.ArgumentParser):
    """Prints one message for a bad option, and exits with code 2."""

    def __init__(self, **kwargs: typing.Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> typing.NoReturn:
        """Prints the message, and exits with code 2."""
        message = re.sub(r"^argument (?:\S+/)?(\S+): must", r"\1 must", message)
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def dispatch(argv: list[str] | None, prog: str, description: str, *groups: Callable) -> int | None:
    """Parses a command line and runs the sub-command that it names.

    Args:
        argv: arguments; those of the process if None.
        prog: name of the command.
        description: first line of its help.
        *groups: functions that add sub-commands to argparse's sub-parsers. Each sub-command sets `call`
            to a function of the parsed arguments, which have the command line itself as `line`. Only that
            function imports TensorFlow.

    Returns:
        The exit code; None is 0.
    """
    parser = Parser(prog=prog, description=description)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add_commands in groups:
        add_commands(commands)
    arguments = parser.parse_args(argv)
    arguments.line = shlex.join([*prog.split(), *(sys.argv[1:] if argv is None else argv)])
    return arguments.call(arguments)


def integer(minimum: int = 1, maximum: int | None = None) -> Callable:
    """Returns an argparse type for integers from `minimum` to `maximum`."""
    return _typed(int, lambda name, value: checks.integer(name, value, minimum, maximum))


def _typed(convert: type, check: Callable | None) -> Callable:
    """Returns an argparse type that converts a text, then checks the value."""

    def parse(text):
        try:
            value = convert(text)
        except ValueError:
            value = text
        try:
            if check:
                check("", value)
        except BadInput as error:
            raise argparse.ArgumentTypeError(str(error).strip()) from None
        return value

    return parse


def fraction(text: str) -> float:
    """Parses a number between 0 and 1, without the limits; an argparse type."""
    return _typed(float, lambda name, value: checks.number(name, value, 0, 1, closed="neither"))(text)


def add_options(parser: argparse._ActionsContainer, kind: type, names: Iterable[str] | None = None) -> None:
    """Adds an option for each field of a dataclass (see `zoo.fields`). Options have no default of their own.

    `epochs: int` becomes `--epochs N`, a bool becomes a flag, and `bool | None` a pair of flags.

    Args:
        parser: the parser, or a group of its options.
        kind: the dataclass.
        names: fields to add, in this order; all if None.
    """
    hints, fields = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
    for name in names or fields:
        f, hint = fields[name], hints[name]
        optional = isinstance(hint, types.UnionType)
        plain = next(part for part in typing.get_args(hint) if part is not type(None)) if optional else hint
        about, option = f.metadata["about"], "--" + name.replace("_", "-")
        if plain is bool:
            action = argparse.BooleanOptionalAction if optional else "store_true"
            parser.add_argument(option, action=action, default=None, help=about)
            continue
        if f.default is not None:
            about += f" (default: {f.default:g})" if isinstance(f.default, float) else f" (default: {f.default})"
        metavar = f.metadata.get("metavar") or {int: "N", float: "X"}.get(plain, "NAME")
        parse = _typed(plain, f.metadata["check"])
        parser.add_argument(option, type=parse, metavar=metavar, help=about)


def add_data_options(parser: argparse._ActionsContainer) -> None:
    """Adds `--data-dir` and `--download`."""
    parser.add_argument("--data-dir", metavar="DIR", help="folder of prepared TFDS data sets (default: TFDS_DATA_DIR)")
    parser.add_argument(
        "--download", action="store_true", default=None, help="download the data set with TFDS if it is not prepared"
    )


def settings(pairs: Iterable[str] | None, option: str = "--set") -> dict[str, str]:
    """Returns the `KEY=VALUE` texts of an option as a dictionary.

    Raises:
        BadInput: a text of another form, or a key given twice.
    """
    values: dict[str, str] = {}
    for pair in checks.texts(option, () if pairs is None else pairs):
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise BadInput(f"{option} must be KEY=VALUE, got {pair!r}")
        if key in values:
            raise BadInput(f"{option} must name {key} once, got {values[key]} and {value}")
        values[key] = value
    return values


def words(options: Mapping[str, object]) -> list[str]:
    """Returns options as the words of a command, without those that are None or False.

    Examples:
        >>> words({"--seeds": 3, "--quick": True, "--workers": None})
        ['--seeds', '3', '--quick']
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    pairs = ([name] if value is True else [name, str(value)] for name, value in given.items())
    return [word for pair in pairs for word in pair]


def run(main: Callable) -> typing.NoReturn:
    """Calls `main` and exits.

    Exit codes: 0, 1 (`RunFailed`), 2 (`BadInput`, `CannotWrite`, a file that the system refuses), 130 (Ctrl-C),
    143 (SIGTERM), 129 (SIGHUP).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an encoding without some character of a name is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    startup.own_process()
    with streams.guarded(), interrupts.handled():
        code = _code(main)
        gc.freeze()  # or Python looks for cycles in TensorFlow, for a second, before it ends
        sys.exit(code)


def _code(main):
    """Calls `main`, prints the message of its exception, and returns the exit code."""
    try:
        try:
            code = main()
        except SystemExit as end:  # of argparse
            code = end.code
        sys.stdout.flush()
    except (BadInput, CannotWrite) as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except RunFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt as interrupt:  # its message says how to resume, where something can be
        newline = "\n" if sys.stderr.isatty() else ""  # the terminal has echoed ^C
        print(f"{newline}{str(interrupt) or 'interrupted'}", file=sys.stderr)
        code = interrupts.exit_code()
    except streams.ReaderGone:
        code = 0
    except OSError as error:
        why = f"{error.strerror}; use another file or folder" if error.strerror else str(error)
        why = files.refused(error) or why
        print(f"error: {'' if error.filename is None else f'cannot use {error.filename}: '}{why}", file=sys.stderr)
        code = 2
    return code or 0


def print_json(value: object) -> None:
    """Prints a value as JSON to stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))
