# SPDX-License-Identifier: Apache-2.0
"""What a query's text says by itself, without Prometheus: whether it is a raw counter."""

import re
from collections.abc import Sequence

from kedastral.core.promql_text import number_strings
from kedastral.settings.rules import Finding

MAX_NAME_SHOWN = 100
"""Characters of a metric's name that a message shows."""
_SELECTOR = re.compile(r"\{[^{}]*\}")
_NAME_IN_BRACES = re.compile(r'[{,]\s*"([0-9]+)"\s*(?=[,}])|\b__name__\s*=\s*"([0-9]+)"')
"""The number of the string that is a metric's name: ``{"my.counter_total"}``, ``{__name__="my_counter_total"}``."""
_QUOTED_COUNTER = re.compile(r"[^:\\]+_total")
_PLAIN_NAME = re.compile(r"[a-zA-Z_]\w*", re.ASCII)
_LABELS = re.compile(r"\[[^\[\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)", re.IGNORECASE)
_COUNTER = re.compile(r"(?<![\w:])[a-zA-Z_]\w*_total(?![\w:])")
"""A counter by its name. One with a colon is that of a recording rule, which may hold a rate."""
_CALL = re.compile(r"\b([a-zA-Z_]\w*)\s*\(")
_STILL_COUNTS = frozenset(
    (
        "sum", "max", "min", "avg", "topk", "bottomk", "limitk", "abs", "ceil", "floor", "round", "clamp", "clamp_max",
        "clamp_min", "sort", "sort_desc", "scalar", "vector", "label_join", "label_replace", "last_over_time",
        "max_over_time", "min_over_time", "avg_over_time",
    )
)  # fmt: skip
"""Functions and aggregations that give a counter for a counter."""
_NUMBER = r"[0-9.]+(?:e[+-]?[0-9]+)?\b"
_HARMLESS = re.compile(
    rf"(?:[*/<>]|[<>=!]=)\s*{_NUMBER}|\bor\s+(?:on\s*\(\s*\)\s*)?vector\s*\(\s*{_NUMBER}\s*\)", re.IGNORECASE
)
"""What follows a counter and leaves it one: ``/ 60``, ``> 0``, ``or vector(0)``."""
_OPERATION = re.compile(r"[-/%^<>=!]|\b(?:and|or|unless|atan2|bool)\b", re.IGNORECASE)
"""Operations whose result may be no counter: a difference of two counters is what one of them rose by."""


def find_raw_counter(query: str) -> str | None:
    """The counter that ``query`` takes without ``rate()``, judging by its name; None if unsure."""
    numbered, strings = number_strings(query)
    quoted: list[str] = []

    def read_selector(selector: re.Match[str]) -> str:
        name = _name_in(selector[0], strings)
        if name is None:
            return ""
        quoted.append(name)
        return " quoted_total "

    bare = _SELECTOR.sub(read_selector, numbered)
    bare = _LABELS.sub("", _HARMLESS.sub("", bare))
    found = _COUNTER.search(bare)
    if found is None or _OPERATION.search(bare):
        return None
    functions = {call[1].lower() for call in _CALL.finditer(bare)}
    if not functions <= _STILL_COUNTS:
        return None
    return quoted[0] if quoted else found[0]


def _name_in(selector: str, strings: Sequence[str]) -> str | None:
    """The counter whose name stands in quotes in the braces of ``selector``; its strings are numbers."""
    found = _NAME_IN_BRACES.search(selector)
    if found is None:
        return None
    name = strings[int(found[1] or found[2])]
    return name if name.isprintable() and _QUOTED_COUNTER.fullmatch(name) else None


def remedy_for(counter: str) -> str:
    """What to write instead of ``counter``."""
    shown = counter[:MAX_NAME_SHOWN]
    selector = shown if _PLAIN_NAME.fullmatch(shown) else f'{{"{shown}"}}'
    return f"take rate() of it, such as sum(rate({selector}[1m]))"


def describe_raw_counter(counter: str) -> str:
    """What is wrong with a query that takes ``counter`` as it is, and the remedy."""
    return f"takes the counter {counter[:MAX_NAME_SHOWN]} as it is; {remedy_for(counter)}"


def warn_of_raw_counter(workload: str, query: str, *, hidden: bool = False) -> tuple[Finding, ...]:
    """What to say about the ``query`` of a ``workload`` if it is a raw counter, else none.

    A ``hidden`` query may be secret, so that nothing of it is shown.
    """
    counter = find_raw_counter(query)
    if counter is None:
        return ()
    words = (
        f"takes a counter as it is; {remedy_for('http_requests_total')}" if hidden else describe_raw_counter(counter)
    )
    return (Finding("query", f"the query of workload {workload} {words}"),)
