# SPDX-License-Identifier: Apache-2.0
"""PromQL as text: its strings and comments, which may hold anything, apart from the rest."""

import re
from collections.abc import Sequence

_STRING_OR_COMMENT = re.compile(r"""#[^\n]*|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|`[^`]*+`?""", re.DOTALL)
"""Each alternative matches where it begins, even without its end, so that any text is read in linear time. One pass,
because a comment may hold an apostrophe, and a string a ``#``."""


def without_strings(query: str) -> str:
    """``query`` without comments, and with empty strings."""
    return _STRING_OR_COMMENT.sub(lambda found: "" if found[0].startswith("#") else '""', query)


def number_strings(query: str) -> tuple[str, Sequence[str]]:
    """``query`` without comments, and with ``"0"``, ``"1"`` and so on for its strings; and these, without quotes."""
    strings: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[0].startswith("#"):
            return ""
        strings.append(found[0][1:-1])
        return f'"{len(strings) - 1}"'

    return _STRING_OR_COMMENT.sub(number, query), strings
