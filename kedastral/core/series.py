# SPDX-License-Identifier: Apache-2.0
"""`Series`: load on a regular time grid, with gaps as NaN."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
"""In seconds."""
NORMAL_MAD = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""
EDGE = 0.001
"""Seconds by which a point may lie outside the requested range: Prometheus rounds to milliseconds."""


def frozen_floats(values: Any) -> Floats:
    """A read-only, one-dimensional float64 copy of ``values``; raises ValueError for any other shape."""
    array = np.array(values, dtype=np.float64, copy=True)
    if array.ndim != 1:
        raise ValueError(f"values must be one-dimensional, got {array.ndim} dimensions")
    array.flags.writeable = False
    return array


def frozen_ints(values: Any) -> Ints:
    """A read-only, one-dimensional int64 copy of ``values``; raises ValueError for other shapes and for fractions."""
    array = np.array(values)
    if array.size and not np.can_cast(array.dtype, np.int64):
        raise ValueError("values must be whole numbers of at most 64 bits")
    array = array.astype(np.int64)
    if array.ndim != 1:
        raise ValueError(f"values must be one-dimensional, got {array.ndim} dimensions")
    array.flags.writeable = False
    return array


def same_array(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Equality for attrs fields that hold arrays; gaps are equal."""
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def require_utc(_instance: object, attribute: "attrs.Attribute[datetime]", value: datetime) -> None:
    """attrs validator: wall time is always aware and in UTC; raises ValueError."""
    if value.tzinfo is None or value.utcoffset() != timedelta(0):
        raise ValueError(f"{attribute.name} must be an aware UTC datetime, got {value!r}")


def require_positive(_instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    """attrs validator: a duration is finite and at least a microsecond; raises ValueError."""
    if not 1e-6 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be a finite number above 0 (a microsecond at least), got {value!r}")


def epoch_seconds(moment: datetime) -> float:
    """Seconds from the epoch to ``moment``."""
    return (moment - EPOCH).total_seconds()


def align_down(moment: datetime, step: float) -> datetime:
    """The newest point not after ``moment`` on the grid of ``step`` seconds (counted from the epoch)."""
    apart = timedelta(seconds=step)
    return EPOCH + (moment - EPOCH) // apart * apart


@attrs.frozen
class Observation:
    """One measured value of the load, and when it was measured."""

    at: datetime = attrs.field(validator=require_utc)
    value: float


@attrs.frozen
class DataQuality:
    """How far the end of a history can be trusted.

    Points younger than ``settling`` seconds still change, and are gaps; ``unsettled`` holds their values so far, which
    are lower bounds. ``at_least`` is the newest value of a partial answer: the load is at least that, and the history
    holds gaps since the last complete answer. ``lower_bounds`` holds all values of the partial answer, ending with
    ``at_least``. ``watched`` is for how many seconds new points have been read again: just after a start it is unknown
    whether they have settled. ``counts`` says how many series each of the newest points sums, NaN if unknown.
    ``range`` is for how many seconds a sample counts, as in ``rate(x[5m])``, at most ten minutes; 0 if unknown.
    """

    settling: float = 0.0
    at_least: Observation | None = None
    watched: float = math.inf
    counts: "Series | None" = None
    lower_bounds: "Series | None" = None
    unsettled: "Series | None" = None
    range: float = 0.0


COMPLETE = DataQuality()


@attrs.frozen
class Series:
    """Load on a regular grid: ``values[i]`` was observed at ``start + i * step``.

    ``values`` has shape (n,), float64, read-only; NaN marks a gap. ``step`` is in seconds.
    """

    start: datetime = attrs.field(validator=require_utc)
    step: float = attrs.field(validator=require_positive)
    values: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    quality: DataQuality = attrs.field(default=COMPLETE, eq=False)

    def __len__(self) -> int:
        return len(self.values)

    def time_at(self, index: int) -> datetime:
        """When ``values[index]`` was observed; ``index`` counts from 0 and may lie outside the series."""
        return self.start + timedelta(seconds=index * self.step)

    @property
    def first(self) -> Observation | None:
        """The first value that is not a gap, or None if all are gaps."""
        known = np.isfinite(self.values)
        if not known.any():
            return None
        index = int(known.argmax())
        return Observation(self.time_at(index), float(self.values[index]))

    @property
    def least_load(self) -> float:
        """The least that the load can be now, for a floor: the newest value, or a lower bound if that is higher.

        Lower bounds are the newest value of a partial answer and of the unsettled points. 0 if all are gaps.
        """
        unsettled = self.quality.unsettled
        bounds = (self.newest, self.quality.at_least, None if unsettled is None else unsettled.newest)
        return max((one.value for one in bounds if one is not None), default=0.0)

    def without_gaps_at_the_end(self) -> "Series":
        """The series up to its newest value."""
        size = self._known_size
        return self if size == len(self.values) else Series(self.start, self.step, self.values[:size], self.quality)

    @property
    def newest(self) -> Observation | None:
        """The newest value that is not a gap, or None if all are gaps."""
        last = self._known_size - 1
        return None if last < 0 else Observation(self.time_at(last), float(self.values[last]))

    @property
    def _known_size(self) -> int:
        """The number of steps up to the newest value, 0 if all are gaps."""
        if len(self.values) and math.isfinite(self.values[-1]):  # nearly always; a tick asks ten times
            return len(self.values)
        known = np.flatnonzero(np.isfinite(self.values))
        return int(known[-1]) + 1 if len(known) else 0


def series_from_points(points: Iterable[tuple[float, float]], start: datetime, end: datetime, step: float) -> Series:
    """Place ``(epoch seconds, value)`` points on the grid from ``start`` to ``end``, both included.

    NaN, infinite and negative values become gaps, never numbers. Points outside the range by more than `EDGE` are
    ignored. A point between two grid times goes to the nearer one; of several at one grid time, the last one counts.
    """
    laid = np.array(list(points), dtype=np.float64).reshape(-1, 2)
    return series_from_arrays(laid[:, 0], laid[:, 1], start, end, step)


def series_from_arrays(times: Floats, given: Floats, start: datetime, end: datetime, step: float) -> Series:
    """`series_from_points` with times and values in two arrays of the same length."""
    first, last = start.timestamp(), end.timestamp()
    size = max(round((last - first) / step) + 1, 0)
    values = np.full(size, np.nan)
    inside = (times >= first - EDGE) & (times <= last + EDGE)
    if size and inside.any():
        places = np.clip(np.rint((times[inside] - first) / step), 0, size - 1).astype(np.int64)
        kept = given[inside]
        if (np.diff(places) <= 0).any():  # maybe several in one place: numpy does not specify which one stays
            places, latest = np.unique(places[::-1], return_index=True)
            kept = kept[::-1][latest]
        values[places] = np.where((kept >= 0) & (kept < math.inf), kept, np.nan)
    return Series(start, step, values)


def fill_gaps(values: Floats) -> Floats:
    """``values`` with every gap forward-filled; gaps before the first value stay gaps."""
    known = np.isfinite(values)
    newest = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return np.where(newest >= 0, values[np.maximum(newest, 0)], np.nan)


def largest_neighbours(values: Floats, width: int) -> Floats:
    """The largest of each ``width`` neighbours, shape (n - width + 1,); combines windows of 1, 2, 4, ... values."""
    largest, reach = values, 1
    while reach < width:
        more = min(reach, width - reach)
        largest = np.maximum(largest[:-more], largest[more:])
        reach += more
    return largest


def smallest_neighbours(values: Floats, width: int) -> Floats:
    """The smallest of each ``width`` neighbours, like `largest_neighbours`."""
    return np.negative(largest_neighbours(np.negative(values), width))


def median_without_gaps(values: Floats) -> Floats:
    """The median of each column of ``values`` (m, r), ignoring NaN; NaN if all are NaN."""
    ordered, count = np.sort(values, axis=0), np.isfinite(values).sum(axis=0)  # NaN sorts last
    columns, low = np.arange(values.shape[1]), np.maximum(count - 1, 0) // 2
    high = np.minimum(count // 2, len(values) - 1)
    medians: Floats = np.where(count > 0, (ordered[low, columns] + ordered[high, columns]) / 2, np.nan)
    return medians
