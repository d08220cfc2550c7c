# SPDX-License-Identifier: Apache-2.0
"""PromQL as text: its strings and comments, which may hold anything, apart from the rest; and its durations."""

import re
from collections.abc import Sequence

_STRING_OR_COMMENT = re.compile(r"""#[^\n]*|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|`[^`]*+`?""", re.DOTALL)
"""Each alternative matches where it begins, even without its end, so that any text is read in linear time. One pass,
because a comment may hold an apostrophe, and a string a ``#``."""

_DURATION_PART = re.compile(r"(?<!\d)(\d+)(ms|[smhdwy])")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}


def read_duration(text: str) -> float:
    """The seconds of a PromQL duration, such as ``1h30m``; 0 if it is none."""
    return sum(float(amount) * _UNITS[unit] for amount, unit in _DURATION_PART.findall(text))


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
