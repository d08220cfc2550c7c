# SPDX-License-Identifier: Apache-2.0
"""What a query's text says by itself, without Prometheus: whether it is a raw counter."""

import re

QUOTED = re.compile(r"""\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`""")
MAX_NAME_SHOWN = 100
"""Characters of a metric's name that a message shows."""
_COMMENT = re.compile(r"#[^\n]*")
_LABELS = re.compile(
    r"\{[^{}]*\}|\[[^\[\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)", re.IGNORECASE
)
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
    bare = _COMMENT.sub("", QUOTED.sub('""', query))
    bare = _LABELS.sub("", _HARMLESS.sub("", bare))
    found = _COUNTER.search(bare)
    if found is None or _OPERATION.search(bare):
        return None
    functions = {call[1].lower() for call in _CALL.finditer(bare)}
    return found[0] if functions <= _STILL_COUNTS else None


def remedy_for(counter: str) -> str:
    """What to write instead of ``counter``."""
    return f"take rate() of it, such as sum(rate({counter[:MAX_NAME_SHOWN]}[1m]))"


def describe_raw_counter(counter: str) -> str:
    """What is wrong with a query that takes ``counter`` as it is, and the remedy."""
    return f"takes the counter {counter[:MAX_NAME_SHOWN]} as it is; {remedy_for(counter)}"


def warn_of_raw_counter(workload: str, query: str, *, hidden: bool = False) -> tuple[str, ...]:
    """A line about the ``query`` of a ``workload`` if it is a raw counter, else none.

    A ``hidden`` query may be secret, so that nothing of it is shown.
    """
    counter = find_raw_counter(query)
    if counter is None:
        return ()
    words = (
        f"takes a counter as it is; {remedy_for('http_requests_total')}" if hidden else describe_raw_counter(counter)
    )
    return (f"the query of workload {workload} {words}",)
