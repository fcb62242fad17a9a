"""The command `dropout-zoo` of an installed package: all sub-commands of `zoo`, `trainers` and `tuning`."""

from typing import NoReturn

import trainers.__main__
import tuning.__main__
import zoo.__main__
from zoo.cli import dispatch, run


def main() -> NoReturn:
    """Carries out the command line of this process, and ends the process with its exit code."""
    groups = [package.__main__.add_commands for package in (trainers, tuning, zoo)]
    run(lambda: dispatch(None, "dropout-zoo", "Keras models whose dropout placement is a value.", *groups))
