# SPDX-License-Identifier: Apache-2.0
"""Turns the JSON of Prometheus' query API into numbers; pure.

Format: https://prometheus.io/docs/prometheus/latest/querying/api/

An answer is read one series at a time, and the unneeded parts stay text: as Python objects, an answer of 16 MiB would
take up to 850 MiB. ``tests/adapters/test_answer_memory.py`` measures the peak.
"""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import attrs
import msgspec
import numpy as np

from kedastral.core.series import Floats, Ints, Series, series_from_arrays

Points = Sequence[tuple[float, float]] | Floats
"""One series: rows of ``(epoch seconds, value)``, with NaN for a value that cannot be parsed."""

NO_SERIES = "the query matched nothing"
TWIN_POINTS = 10
"""With at least this many points, two equal series are no coincidence."""
TWIN_VALUES = 5
"""The fewest distinct values among them: those of idle pods are all 0."""


PROMQL_ANNOTATIONS = ("PromQL warning:", "PromQL info:")
"""Prefixes of the annotations of Prometheus' own engine. They are about the query; no series is missing."""
MAX_SERIES = 100_000
"""The most series of one answer, native histograms included; with more, the query should sum in PromQL."""
MAX_POINTS = 50_000
"""The most points of one series. At most 11,000 are requested."""
MAX_TEXT = 2**18
"""The most bytes of the warnings, and of the text of an error."""
MAX_TWIN_LABELS = 2**20
"""The most bytes of all labels for which duplicate series are searched."""

Json = msgspec.Raw
"""An unparsed part of a document: a view of its bytes."""
_NONE = Json()


@attrs.frozen(eq=False)
class LabelledPoints:
    """One series of an answer, with its labels as JSON."""

    labels: Json
    points: Points


@attrs.frozen(eq=False)
class QueryResponse:
    """A successful answer of ``size`` bytes; `range_series` and `instant_series` give its ``series``."""

    result_type: str
    series: Sequence[LabelledPoints]
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    size: int = 0
    is_partial: bool = False
    """Whether series may be missing: part of a distributed store did not answer."""


class RefusedError(Exception):
    """Prometheus answered ``status: error``; the message is its own."""


class _Answer(msgspec.Struct, rename="camel"):
    status: str = ""
    data: Json = _NONE
    warnings: Json = _NONE
    infos: Json = _NONE
    is_partial: Json = _NONE
    error_type: Json = _NONE
    error: Json = _NONE


class _Data(msgspec.Struct, rename="camel"):
    result: Json
    result_type: str = "None"


class _Entry(msgspec.Struct, gc=False):
    metric: Json = _NONE
    values: Json = _NONE
    value: Json = _NONE
    histograms: Json = _NONE
    histogram: Json = _NONE


_answers = msgspec.json.Decoder(_Answer)
_data = msgspec.json.Decoder(_Data)
_entries = msgspec.json.Decoder(list[_Entry])
_pairs = msgspec.json.Decoder(list[tuple[float, str]])


def parse_answer(body: bytes) -> QueryResponse:
    """Parse a body. Raises RefusedError for ``status: error``; ValueError or RecursionError if it is not an answer.

    Each series becomes an array as soon as it is read: keeping them as lists would take ten times the memory.
    """
    try:
        answer = _answers.decode(body)
        if answer.status == "error":
            raise RefusedError(_error_words(answer))
        if answer.status != "success" or not bytes(answer.data):
            raise ValueError("the JSON holds no result")
        data = _data.decode(answer.data)
        series = _read_series(data)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the JSON is not an answer: {error}") from error
    warnings = _texts(answer.warnings)
    return QueryResponse(
        data.result_type,
        series,
        warnings,
        _texts(answer.infos),
        len(body),
        is_partial=bytes(answer.is_partial) == b"true" or any(map(_tells_of_missing_series, warnings)),
    )


def _read_series(data: _Data) -> list[LabelledPoints]:
    match data.result_type:
        case "scalar":
            return [LabelledPoints(_NONE, [_point(json.loads(_short(data.result)))])]
        case "matrix":
            read = _read_values
        case "vector":
            read = _read_value
        case _:
            return []
    if bytes(data.result).count(b"{") > 2 * MAX_SERIES:  # one for each series and one for its labels
        raise ValueError(f"it holds more than {MAX_SERIES} series or histograms")
    read_ones = [(entry.metric, read(entry)) for entry in _entries.decode(data.result)]
    return [LabelledPoints(labels, points) for labels, points in read_ones if points is not None]


def _read_values(entry: _Entry) -> Points | None:
    """The points of a range; None for a series of native histograms, which has no load."""
    text = bytes(entry.values)
    if not text:
        if bytes(entry.histograms):
            return []
        raise ValueError("a series holds no list of values")
    if text.count(b"[") + text.count(b"{") > MAX_POINTS + 1 or text.count(b",") > 2 * MAX_POINTS:
        raise ValueError(f"a series holds more than {MAX_POINTS} values")
    return _read_points(text)


def _read_points(text: bytes) -> Points:
    """The samples of one series.

    The same as `_point` for each, but five times faster for samples as Prometheus writes them.
    """
    try:
        pairs = _pairs.decode(text)
    except msgspec.MsgspecError:
        pass
    else:
        texts = [value for _, value in pairs]
        if _is_plain("".join(texts)):
            try:
                return np.array([[at for at, _ in pairs], list(map(float, texts))], dtype=np.float64).T
            except ValueError:
                pass
    samples = json.loads(text)
    if not isinstance(samples, list):
        raise ValueError("a series holds no list of values")
    return [_point(pair) for pair in samples]


def _read_value(entry: _Entry) -> Points | None:
    """The point of an instant, None if it is a native histogram."""
    if not bytes(entry.value):
        if bytes(entry.histogram):
            return None
        raise ValueError("a series holds no value")
    return [_point(json.loads(_short(entry.value)))]


def _short(text: Json) -> bytes:
    """A part of a document that must be short."""
    short = bytes(text)
    if len(short) > MAX_TEXT:
        raise ValueError(f"a value is longer than {MAX_TEXT >> 10} KiB")
    return short


def _tells_of_missing_series(warning: str) -> bool:
    """Whether a warning is about the data, like those of Thanos, Mimir and remote read, and not about the PromQL."""
    return not warning.startswith(PROMQL_ANNOTATIONS)


def error_words(body: bytes) -> str | None:
    """Prometheus' own message in the body of an error status, or None if there is none."""
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
    return [one.points for one in answer.series]


def instant_series(answer: QueryResponse) -> list[Points]:
    """The series of an instant query, one point each; raises ValueError."""
    if answer.result_type not in ("vector", "scalar"):
        raise ValueError(f"its result is a {answer.result_type}, but a load is a vector or a scalar")
    return [one.points for one in answer.series]


def sum_series(several: Iterable[Points], start: datetime, end: datetime, step: float) -> Series:
    """The sum of ``several`` on the grid from ``start`` to ``end`` with ``step`` in seconds.

    Absent values are skipped; if all are absent, there is a gap. A sum too large for a float is the largest float.
    Negative and infinite values, and points outside the range, also count as absent: see
    `kedastral.core.series.series_from_points`.
    """
    return Series(start, step, _add_up(several, start, end, step)[0])


def _add_up(several: Iterable[Points], start: datetime, end: datetime, step: float) -> tuple[Floats, Ints]:
    """For each point of the grid, the sum (NaN for a gap), and how many series have a value there."""
    size = len(series_from_arrays(np.empty(0), np.empty(0), start, end, step))
    total, counts = np.zeros(size), np.zeros(size, dtype=np.int64)
    for points in several:
        laid = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        values = series_from_arrays(laid[:, 0], laid[:, 1], start, end, step).values
        known = np.isfinite(values)
        with np.errstate(over="ignore"):
            total[known] += values[known]
        counts += known
    return np.where(counts > 0, np.minimum(total, sys.float_info.max), np.nan), counts


@attrs.frozen
class Load:
    """The load in an answer: one value for each requested point of the grid, NaN for a gap.

    ``counts`` are the numbers of series that each value sums. ``why_none`` says in words why all are gaps; empty if
    they are not. ``twins`` are as `find_twins` returns them.
    """

    values: Floats = attrs.field(eq=attrs.cmp_using(eq=np.array_equal))
    counts: Ints = attrs.field(eq=attrs.cmp_using(eq=np.array_equal))
    why_none: str = ""
    twins: tuple[str, str] | None = None


def sum_load(several: Sequence[Points], start: datetime, end: datetime, step: float) -> Load:
    """The sum of ``several``, as in `sum_series`, how many series it sums, and why there is none."""
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
    """The labels of two series that seem to be the same one, written by an HA pair of Prometheus.

    Either their labels differ only in that of the Prometheus replica, or they have many equal values that vary. Also
    None if all labels together are longer than `MAX_TWIN_LABELS`.
    """
    texts = [bytes(one.labels) for one in answer.series]
    if len(texts) < 2 or sum(map(len, texts)) > MAX_TWIN_LABELS:
        return None
    seen: dict[frozenset[tuple[str, str]] | bytes, str] = {}
    for text, one in zip(texts, answer.series, strict=True):
        labels = json.loads(text or "null")
        if not isinstance(labels, dict):
            continue
        shown = json.dumps(labels)
        for key in (_without_replica(labels), _fingerprint(one.points)):
            if key is not None and seen.setdefault(key, shown) is not shown:
                return seen[key], shown
    return None


def _without_replica(labels: dict[str, Any]) -> frozenset[tuple[str, str]] | None:
    """The labels without the replica label, None if there is none; one named ``replica`` may be the workload's own."""
    replicas = {name for name in labels if "replica" in name and name != "replica"}
    return frozenset((name, str(value)) for name, value in labels.items() if name not in replicas) if replicas else None


def _fingerprint(points: Points) -> bytes | None:
    """The same for series with the same values; None if those may be a coincidence."""
    laid = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return laid.tobytes() if len(laid) >= TWIN_POINTS and len(np.unique(laid[:, 1])) >= TWIN_VALUES else None


def _point(pair: Any) -> tuple[float, float]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise ValueError("a sample is not a pair of time and value")
    at, value = pair
    if isinstance(at, bool) or not isinstance(at, int | float):
        raise ValueError("the time of a sample is not a number")
    return float(at), _number(value)


def _number(value: Any) -> float:
    """A value; Prometheus writes numbers as text, since JSON has no NaN or infinity."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    if isinstance(value, str) and not _is_plain(value):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _is_plain(text: str) -> bool:
    """False if ``text`` is something that float() accepts but Prometheus never writes: 1_000, or non-ASCII digits."""
    return text.isascii() and "_" not in text


def _texts(value: Json) -> tuple[str, ...]:
    text = bytes(value)
    if len(text) > MAX_TEXT:
        return (f"more than {MAX_TEXT >> 10} KiB of warnings",)
    texts = json.loads(text or "null")
    return tuple(text for text in texts if isinstance(text, str)) if isinstance(texts, list) else ()


def _error_words(answer: _Answer) -> str:
    """What an answer says about its error, truncated if it is too long to read."""
    words = []
    for part in map(bytes, (answer.error_type, answer.error)):
        if len(part) > MAX_TEXT:
            words.append(part[:MAX_TEXT].decode(errors="replace"))
        elif part and (said := json.loads(part)):
            words.append(str(said))
    return ": ".join(words) or "an error without words"
