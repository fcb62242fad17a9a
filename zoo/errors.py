"""The exceptions of this project. Imports nothing."""

_LONGEST = 4000  # characters of a message, which can quote what came


class BadInput(ValueError):
    """An argument, a file or a data set is not what is needed. The message says what is.

    Raised before anything is built or written. Commands print the message and exit with code 2. The middle of a
    very long message is left out.
    """

    def __init__(self, message: str = "") -> None:
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
        super().__init__(message)


class OtherData(BadInput):
    """A data set is not the one that the runs of a folder were trained on."""


class RunFailed(RuntimeError):
    """Work was started but could not be finished.

    Commands print the message and exit with code 1.
    """


class CannotWrite(RunFailed):
    """The system does not let something be written: the disk is full, or the place cannot be written.

    Commands print the message and exit with code 2, because another place is all that is needed.
    """
