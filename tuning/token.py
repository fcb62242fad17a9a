"""The secret that a chief and its workers share.

It never travels. Each call carries a nonce and a proof made from it, and so does the answer, so
that neither side talks to a stranger. The calls themselves are not encrypted.
"""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from zoo.errors import BadInput

VARIABLE = "DROPOUT_ZOO_TOKEN"
FILE = "worker-token"  # in the folder of a search
_LEAST, _MOST = 16, 4096  # characters


def of_chief(file: str | Path | None, out: str | Path) -> tuple[str, Path | None]:
    """Returns the token of a chief and the file that holds it, which is written if it is not there.

    Args:
        file: the file; if None, the token is that of `DROPOUT_ZOO_TOKEN`, or stands in `out`.
        out: the folder of the search.

    Returns:
        The token, and its file; None for a token of the environment.

    Raises:
        BadInput: the file cannot be used, or its token is too short.
    """
    if file is None and os.environ.get(VARIABLE):
        return _checked(os.environ[VARIABLE], VARIABLE), None
    path = Path(out) / FILE if file is None else Path(file)
    try:
        # Nobody else can open the file at any moment, not even before it has its contents.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path), path
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}; choose another --token-file") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as written:
        token = made()
        written.write(token + "\n")
    return token, path


def of_worker(file: str | Path | None) -> str:
    """Returns the token in `file`, or that of `DROPOUT_ZOO_TOKEN` if `file` is None.

    Raises:
        BadInput: there is none, or the file cannot be read.
    """
    if file is not None:
        return _read(Path(file))
    if not os.environ.get(VARIABLE):
        raise BadInput(
            f"--token-file must be a copy of the chief's file {FILE}, got none; the chief prints where it is. The "
            f"variable {VARIABLE} can hold the token instead"
        )
    return _checked(os.environ[VARIABLE], VARIABLE)


def made() -> str:
    """Returns a new token."""
    return secrets.token_hex(32)


def proof(token: str, *parts: str) -> str:
    """Returns what only a holder of the token can make from `parts`.

    Examples:
        >>> proof("a token of 16 characters", "chief", "1") == proof("a token of 16 characters", "chief", "1")
        True
    """
    return hmac.new(token.encode(), "\0".join(parts).encode(), hashlib.sha256).hexdigest()


def same(given: str | bytes, expected: str) -> bool:
    """Returns whether two proofs are equal, in a time that does not depend on where they differ."""
    given = given if isinstance(given, bytes) else given.encode()
    return hmac.compare_digest(given, expected.encode())


def _read(path):
    try:
        details = path.stat()
        if not stat.S_ISREG(details.st_mode):
            raise BadInput(f"cannot read the token in {path}: it is not a file; copy the file of the chief")
        with open(path, encoding="utf-8") as file:
            text = file.read(_MOST + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise BadInput(f"cannot read the token in {path}: {why}; copy the file of the chief") from error
    if os.name == "posix" and details.st_mode & 0o077:
        raise BadInput(
            f"{path} must be readable by its owner alone, got the mode {stat.S_IMODE(details.st_mode):o}; use "
            f"chmod 600 {path}"
        )
    return _checked(text, path)


def _checked(text, where):
    token = text.strip()
    if not _LEAST <= len(token) <= _MOST or not token.isascii() or not token.isprintable():
        raise BadInput(
            f"the token in {where} must have at least {_LEAST} printable ASCII characters, got {len(token)} "
            "characters; remove the file, so that the chief writes a new one"
        )
    return token
