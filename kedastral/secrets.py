# SPDX-License-Identifier: Apache-2.0
"""Secrets: text that never appears in a log, a traceback or a page, and the files that hold it."""

from pathlib import Path

import attrs


@attrs.frozen(repr=False, str=False)
class Secret:
    """Text that only the server that needs it may see. Raises ValueError if it is empty."""

    _text: str = attrs.field(validator=attrs.validators.min_len(1))

    def reveal(self) -> str:
        """The text itself; only for sending it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(hidden)"


MAX_SECRET = 64 * 1024
"""The most bytes of a file that holds a password or a token."""


def read_secret_file(file: Path) -> str:
    """The secret, without a trailing newline; raises ValueError with a message about the file, never with the text."""
    try:
        with file.open("rb") as source:
            content = source.read(MAX_SECRET + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None  # the cause holds the secret
    if not text or len(content) > MAX_SECRET:
        raise ValueError("is empty" if not text else f"is larger than {MAX_SECRET >> 10} KiB")
    return text


def fits_header(token: str) -> bool:
    """Whether a header can carry a token as it is."""
    return token.isascii() and token.isprintable() and token == token.strip()


def find_fault_of_secret(file: Path, *, in_header: bool) -> str | None:
    """Why a password file, or a token file (``in_header``), cannot be used, in words; None if it can."""
    try:
        text = read_secret_file(file)
    except ValueError as error:
        return str(error)
    return "holds characters that no header can carry" if in_header and not fits_header(text) else None
