# SPDX-License-Identifier: Apache-2.0
"""Reads the JSON of Prometheus' query API; pure. Format: https://prometheus.io/docs/prometheus/latest/querying/api/"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import attrs
import numpy as np

from kedastral.core.series import Series, series_from_points

Points = Sequence[tuple[float, float]]
"""One series: ``(epoch seconds, value)``, a value that cannot be parsed being NaN."""


@attrs.frozen
class Answer:
    """A successful answer of ``size`` bytes, its result not yet looked into."""

    result_type: str
    result: Any
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    size: int = attrs.field(default=0, eq=False)


class RefusedError(Exception):
    """Prometheus said ``status: error``; the message is its own."""


def parse_answer(body: bytes) -> Answer:
    """Raises RefusedError for ``status: error``, ValueError or worse for what is no answer."""
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("the JSON is no object")
    if document.get("status") == "error":
        raise RefusedError(_error_words(document))
    data = document.get("data")
    if document.get("status") != "success" or not isinstance(data, dict) or "result" not in data:
        raise ValueError("the JSON holds no result")
    return Answer(
        str(data.get("resultType")),
        data["result"],
        _texts(document.get("warnings")),
        _texts(document.get("infos")),
        len(body),
    )


def error_words(body: bytes) -> str | None:
    """Prometheus' own words in the body of an error status, or None where there are none."""
    try:
        parse_answer(body)
    except RefusedError as error:
        return str(error)
    except (ValueError, RecursionError):
        pass
    return None


def range_series(answer: Answer) -> list[Points]:
    """The series of a range query; raises ValueError."""
    if answer.result_type != "matrix":
        raise ValueError(f"its result is a {answer.result_type}, where a range query gives a matrix")
    return [[_point(pair) for pair in _samples(entry)] for entry in _entries(answer.result)]


def instant_series(answer: Answer) -> list[Points]:
    """The series of an instant query, one point each; raises ValueError."""
    if answer.result_type == "scalar":
        return [[_point(answer.result)]]
    if answer.result_type != "vector":
        raise ValueError(f"its result is a {answer.result_type}, where a load is a vector or a scalar")
    return [
        [_point(entry["value"])] for entry in _entries(answer.result) if "value" in entry or "histogram" not in entry
    ]


def sum_series(several: Iterable[Points], start: datetime, end: datetime, step: float) -> Series:
    """The sum of ``several`` on the grid from ``start`` to ``end``: absent values are skipped, all absent is a gap.

    What is no measurement is absent, and so is a point outside the range: `kedastral.core.series.series_from_points`.
    """
    grid = series_from_points((), start, end, step)
    total, seen = np.zeros(len(grid)), np.zeros(len(grid), dtype=bool)
    for points in several:
        values = series_from_points(points, start, end, step).values
        known = np.isfinite(values)
        with np.errstate(over="ignore"):
            total[known] += values[known]
        seen |= known
    return Series(start, step, np.where(seen & np.isfinite(total), total, np.nan))


def _entries(result: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(result, list):
        raise ValueError("its result is no list")
    for entry in result:
        if not isinstance(entry, dict):
            raise ValueError("a series is no object")
        yield entry


def _samples(entry: dict[str, Any]) -> list[Any]:
    # A series of native histograms has no values, and is no load.
    samples = entry.get("values", [] if "histograms" in entry else None)
    if not isinstance(samples, list):
        raise ValueError("a series holds no list of values")
    return samples


def _point(pair: Any) -> tuple[float, float]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("a sample is no pair of time and value")
    at, value = pair
    if isinstance(at, bool) or not isinstance(at, int | float):
        raise ValueError("the time of a sample is no number")
    return float(at), _number(value)


def _number(value: Any) -> float:
    """Prometheus writes numbers as text, so that NaN and infinities survive JSON."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    if isinstance(value, str) and (not value.isascii() or "_" in value):
        return math.nan  # Python's float() takes 1_000 and other scripts' digits; Prometheus writes neither
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _error_words(document: dict[str, Any]) -> str:
    words = [str(document[key]) for key in ("errorType", "error") if document.get(key)]
    return ": ".join(words) or "an error without words"
