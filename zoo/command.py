"""What the command lines of all packages have in common: how they refuse, fail and stop."""

import argparse
import json
import sys

from zoo.errors import BadInput, RunFailed


class Parser(argparse.ArgumentParser):
    """Answers a bad option with one message and exit code 2."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message):
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def whole(least=1):
    """An argparse type: a whole number of at least `least`."""

    def parse(text):
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"received {text!r}; it is a whole number of at least {least}")
        return value

    return parse


def number(text):
    """An argparse type: a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"received {text!r}; it is a number") from None


def settings(pairs, option="--set"):
    """`KEY=VALUE` texts of an option as a dictionary."""
    found = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key or not value:
            raise BadInput(f"received {option} {pair!r}; it is written KEY=VALUE")
        if key in found:
            raise BadInput(f"received {option} {key} twice ({found[key]} and {value}); give it once")
        found[key] = value
    return found


def run(main):
    """Call `main`, and end the process as the command lines promise: 0, 1 (failed), 2 (refused)."""
    try:
        code = main()
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except RunFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept; --resume with the same --out goes on", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone, as `| head` does
        code = 0
    sys.exit(code or 0)


def print_json(value):
    """Print one JSON object to stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))
