"""The two ways in which a command can end badly. Imports nothing."""


class BadInput(ValueError):
    """What was asked for cannot be done; the message says what to ask for instead.

    Raised before anything is built or written. Command lines print the message
    and end with exit code 2.
    """


class RunFailed(RuntimeError):
    """A run was accepted, began, and could not be finished.

    Command lines print the message and end with exit code 1.
    """
