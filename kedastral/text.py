# SPDX-License-Identifier: Apache-2.0
"""Text from elsewhere, made safe for one line of a message: without line breaks and control characters."""

SHOWN = 500
"""The most characters of a server's own words that a message shows."""


def one_line(text: str, limit: int | None = SHOWN) -> str:
    """``text`` with a single space for all that would break the line or move the cursor.

    Anything beyond ``limit`` characters is cut off, and shown as an ellipsis; nothing if it is None.
    """
    read = text if limit is None else text[: 4 * limit]
    line = " ".join("".join(char if char.isprintable() else " " for char in read).split())
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def printable(text: str, limit: int = 300) -> str:
    """The first ``limit`` characters of ``text``, such as a name, with ``?`` for those that cannot be shown."""
    return "".join(char if char.isprintable() else "?" for char in text[:limit])
