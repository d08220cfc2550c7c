# SPDX-License-Identifier: Apache-2.0
"""The JSON of Prometheus' query API becomes numbers; pure.

Format: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import attrs
import numpy as np

from kedastral.core.series import Floats, Ints, Series, series_from_arrays

Points = Sequence[tuple[float, float]] | Floats
"""One series: rows of ``(epoch seconds, value)``, with NaN for a value that cannot be parsed."""

NO_SERIES = "the query matched nothing"
TWIN_POINTS = 10
"""The fewest points of two series that are equal by more than chance."""
TWIN_VALUES = 5
"""And the fewest different values among them: those of idle pods are all 0."""


PROMQL_ANNOTATIONS = ("PromQL warning:", "PromQL info:")
"""How the annotations of Prometheus' own engine begin. They are about the query; no series is missing."""


@attrs.frozen
class QueryResponse:
    """A successful answer of ``size`` bytes; `range_series` and `instant_series` read its ``result``."""

    result_type: str
    result: Any
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    size: int = attrs.field(default=0, eq=False)
    is_partial: bool = False
    """Whether series may be missing: part of a distributed store did not answer."""


class RefusedError(Exception):
    """Prometheus answered ``status: error``; the message is its own."""


def parse_answer(body: bytes) -> QueryResponse:
    """Parse a body. Raises RefusedError for ``status: error``; ValueError or RecursionError for what is not an answer.

    Each series becomes an array as soon as it is read: lists of all of them would take ten times the memory.
    """
    document = json.loads(body, object_hook=_pack_values)
    if not isinstance(document, dict):
        raise ValueError("the JSON is not an object")
    if document.get("status") == "error":
        raise RefusedError(_error_words(document))
    data = document.get("data")
    if document.get("status") != "success" or not isinstance(data, dict) or "result" not in data:
        raise ValueError("the JSON holds no result")
    warnings = _texts(document.get("warnings"))
    return QueryResponse(
        str(data.get("resultType")),
        data["result"],
        warnings,
        _texts(document.get("infos")),
        len(body),
        is_partial=document.get("isPartial") is True or any(map(_tells_of_missing_series, warnings)),
    )


def _tells_of_missing_series(warning: str) -> bool:
    """Whether a warning is about the data, as Thanos, Mimir and remote read give them, and not about the PromQL."""
    return not warning.startswith(PROMQL_ANNOTATIONS)


def error_words(body: bytes) -> str | None:
    """Prometheus' own words in the body of an error status, or None where there are none."""
    try:
        parse_answer(body)
    except RefusedError as error:
        return str(error)
    except (ValueError, RecursionError):
        pass
    return None


def range_series(answer: QueryResponse) -> list[Points]:
    """The series of a range query; raises ValueError."""
    if answer.result_type != "matrix":
        raise ValueError(f"its result is a {answer.result_type}, but a range query gives a matrix")
    return [_points(_samples(entry)) for entry in _entries(answer.result)]


def instant_series(answer: QueryResponse) -> list[Points]:
    """The series of an instant query, one point each; raises ValueError."""
    if answer.result_type == "scalar":
        return [[_point(answer.result)]]
    if answer.result_type != "vector":
        raise ValueError(f"its result is a {answer.result_type}, but a load is a vector or a scalar")
    return [
        [_point(entry["value"])] for entry in _entries(answer.result) if "value" in entry or "histogram" not in entry
    ]


def sum_series(several: Iterable[Points], start: datetime, end: datetime, step: float) -> Series:
    """The sum of ``several`` on the grid from ``start`` to ``end`` with ``step`` in seconds.

    Absent values are skipped; where all are absent is a gap. Absent are also negative and infinite values, and points
    outside the range: `kedastral.core.series.series_from_points`.
    """
    return Series(start, step, _add_up(several, start, end, step)[0])


def _add_up(several: Iterable[Points], start: datetime, end: datetime, step: float) -> tuple[Floats, Ints]:
    """For each point of the grid the sum, NaN for a gap, and how many series have a value there."""
    size = len(series_from_arrays(np.empty(0), np.empty(0), start, end, step))
    total, counts = np.zeros(size), np.zeros(size, dtype=np.int64)
    for points in several:
        laid = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        values = series_from_arrays(laid[:, 0], laid[:, 1], start, end, step).values
        known = np.isfinite(values)
        with np.errstate(over="ignore"):
            total[known] += values[known]
        counts += known
    return np.where((counts > 0) & np.isfinite(total), total, np.nan), counts


@attrs.frozen
class Load:
    """The load that an answer gives: one value for each point of the grid asked for, NaN for a gap.

    ``counts`` are the series that each value sums. ``why_none`` says in words why all are gaps; empty where they are
    not. ``twins`` are as `find_twins` gives them.
    """

    values: Floats = attrs.field(eq=attrs.cmp_using(eq=np.array_equal))
    counts: Ints = attrs.field(eq=attrs.cmp_using(eq=np.array_equal))
    why_none: str = ""
    twins: tuple[str, str] | None = None


def sum_load(several: Sequence[Points], start: datetime, end: datetime, step: float) -> Load:
    """The sum of ``several``, as `sum_series` gives it, of how many, and why there is none."""
    values, counts = _add_up(several, start, end, step)
    return Load(values, counts, "" if np.isfinite(values).any() else describe_no_load(several))


def describe_no_load(several: Sequence[Points]) -> str:
    """Why ``several`` series hold no load, in words for an error."""
    if not several:
        return NO_SERIES
    samples = np.concatenate([np.asarray(points, dtype=np.float64).reshape(-1, 2)[:, 1] for points in several])
    kinds = ((np.isnan(samples), "NaN"), (np.isinf(samples), "infinite"), (samples < 0, "negative"))
    counts = [f"{np.count_nonzero(of_kind)} {word}" for of_kind, word in kinds if of_kind.any()]
    why = f"of {len(samples)} values {', '.join(counts)}" if counts else "no value in the time asked for"
    return f"the query matched {len(several)} series without a load: {why}"


def find_twins(answer: QueryResponse) -> tuple[str, str] | None:
    """The labels of two series that seem to be one and the same, as an HA pair of Prometheus writes it.

    Their labels differ in that of a replica of Prometheus only, or their values are equal, vary, and are many.
    """
    if not isinstance(answer.result, list) or len(answer.result) < 2:
        return None
    seen: dict[frozenset[tuple[str, str]] | bytes, str] = {}
    for entry in _entries(answer.result):
        labels = entry.get("metric")
        if not isinstance(labels, dict):
            continue
        shown = json.dumps(labels)
        for key in (_without_replica(labels), _fingerprint(_points(_samples(entry)))):
            if key is not None and seen.setdefault(key, shown) is not shown:
                return seen[key], shown
    return None


def _without_replica(labels: dict[str, Any]) -> frozenset[tuple[str, str]] | None:
    """None where no label is that of a replica; one named ``replica`` may be the workload's own."""
    replicas = {name for name in labels if "replica" in name and name != "replica"}
    return frozenset((name, str(value)) for name, value in labels.items() if name not in replicas) if replicas else None


def _fingerprint(points: Points) -> bytes | None:
    """The same for series of the same values; None where these may well be the same by chance."""
    laid = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return laid.tobytes() if len(laid) >= TWIN_POINTS and len(np.unique(laid[:, 1])) >= TWIN_VALUES else None


def _entries(result: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(result, list):
        raise ValueError("its result is not a list")
    for entry in result:
        if not isinstance(entry, dict):
            raise ValueError("a series is not an object")
        yield entry


def _samples(entry: dict[str, Any]) -> "list[Any] | Floats":
    # A series of native histograms has no values, and no load.
    samples = entry.get("values", [] if "histograms" in entry else None)
    if not isinstance(samples, list | np.ndarray):
        raise ValueError("a series holds no list of values")
    return samples


def _points(samples: "list[Any] | Floats") -> Points:
    if isinstance(samples, np.ndarray):
        return samples
    packed = _pack(samples)
    return [_point(pair) for pair in samples] if packed is None else packed


def _pack_values(entry: dict[str, Any]) -> dict[str, Any]:
    samples = entry.get("values")
    if isinstance(samples, list):
        packed = _pack(samples)
        if packed is not None:
            entry["values"] = packed
    return entry


def _pack(samples: list[Any]) -> Floats | None:
    """``samples`` as an array of shape (n, 2), or None where one of them is not as Prometheus writes it.

    The same as `_point` for each, in a fifth of the time.
    """
    if not samples or set(map(type, samples)) != {list} or set(map(len, samples)) != {2}:
        return None
    times, texts = [sample[0] for sample in samples], [sample[1] for sample in samples]
    if not set(map(type, times)) <= {int, float} or set(map(type, texts)) != {str} or not _is_plain("".join(texts)):
        return None
    try:
        return np.array([times, list(map(float, texts))], dtype=np.float64).T
    except (ValueError, OverflowError):
        return None


def _point(pair: Any) -> tuple[float, float]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("a sample is not a pair of time and value")
    at, value = pair
    if isinstance(at, bool) or not isinstance(at, int | float):
        raise ValueError("the time of a sample is not a number")
    return float(at), _number(value)


def _number(value: Any) -> float:
    """A value; Prometheus writes numbers as text, since JSON has no NaN and no infinities."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    if isinstance(value, str) and not _is_plain(value):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _is_plain(text: str) -> bool:
    """False where Python's float() accepts what Prometheus never writes: 1_000, or digits of other scripts."""
    return text.isascii() and "_" not in text


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _error_words(document: dict[str, Any]) -> str:
    words = [str(document[key]) for key in ("errorType", "error") if document.get(key)]
    return ": ".join(words) or "an error without words"
