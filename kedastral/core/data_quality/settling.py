# SPDX-License-Identifier: Apache-2.0
"""Which points of a history are the load already: those that have settled, and that were computed without a gap.

`SettlingTime` learns how long the newest points of a query keep changing, by reading them again. With ``rate(x[5m])``
and samples that arrive two minutes late (remote write, a federated or sidecar-fed store), the newest points are too low
at first and rise as samples come in. A point that still changes is not the load yet.

`find_partial_windows` finds the points next to an outage. There ``rate(x[5m])`` is too low: it divides by five minutes
but has seen fewer.
"""

import math
from collections.abc import Iterator

import attrs
import numpy as np

from kedastral.core.series import Bools, Floats, require_positive

MAX_SETTLING = 600.0
"""Seconds. A point that changes for longer than this is corrected, not late; waiting for it would cost too much."""
MIN_REREAD = 360.0
"""Seconds: slightly more than five minutes, the largest lag that a remote write or a sidecar commonly has."""
CHANGED = 0.02
"""The least relative change that counts: a smaller one is a fraction of a pod and not worth waiting for."""
JUDGED = 30
"""The number of points in the estimate: half an hour with one-minute steps. A past lag is forgotten in that time."""
QUANTILE = 0.9
"""The quantile of the ages at the last change. Three late points of thirty move it, so it follows a growing lag."""
FEWEST_REPLACED = 4
"""The least number of points that must all differ before a reading counts as coming from another server."""
CATCH_UP = 3
"""If one reading fills this many more gaps than steps have passed, the pipeline is catching up after an outage. This is
not its lag."""


@attrs.define
class _Point:
    """The newest reading of one point, and its ages when it was first read and when it last changed."""

    value: float
    first_age: float
    changed_age: float = 0.0


@attrs.frozen
class SettlingPoint:
    """One point as last read: its ``value`` (None for a gap), and ages in seconds as in `_Point`."""

    number: int
    value: float | None
    first_age: float
    changed_age: float


@attrs.frozen
class SettlingState:
    """What `SettlingTime` has learnt, as plain numbers that can be stored; ``read_at`` is in epoch seconds."""

    points: tuple[SettlingPoint, ...] = ()
    seconds: float = 0.0
    read_at: float | None = None


@attrs.define(eq=False)
class SettlingTime:
    """The settling time of one query with points ``step`` seconds apart; ``fixed`` seconds replace the learnt value.

    Memory and time per reading are O(`MAX_SETTLING` / step), whatever the window.
    """

    step: float = attrs.field(validator=require_positive)
    fixed: float | None = None
    _points: dict[int, _Point] = attrs.field(factory=dict, init=False)
    _seconds: float = attrs.field(default=0.0, init=False)
    _read_at: float = attrs.field(default=-math.inf, init=False)

    @property
    def seconds(self) -> float:
        """The age from which a point counts as load; 0 until a point has been seen to change."""
        return self._seconds if self.fixed is None else self.fixed

    @property
    def reread(self) -> int:
        """How many of the newest points to read again, so that a lag twice as long as the known one is noticed.

        While the lag is learnt, at least those of `MIN_REREAD`: if a series suddenly lagged by more than is read again,
        nobody would notice.
        """
        if self.fixed is not None:
            return math.ceil(min(self.fixed, MAX_SETTLING) / self.step) + 1
        return math.ceil(min(max(2 * self.seconds, MIN_REREAD), MAX_SETTLING) / self.step) + 1

    @property
    def state(self) -> SettlingState:
        """All that has been learnt, to be stored."""
        points = (
            SettlingPoint(number, None if math.isnan(one.value) else one.value, one.first_age, one.changed_age)
            for number, one in sorted(self._points.items())
        )
        return SettlingState(tuple(points), self._seconds, self._read_at if math.isfinite(self._read_at) else None)

    def restore(self, state: SettlingState) -> None:
        """Continue from ``state``."""
        self._points = {
            one.number: _Point(math.nan if one.value is None else one.value, one.first_age, one.changed_age)
            for one in state.points
        }
        self._seconds = state.seconds
        self._read_at = -math.inf if state.read_at is None else state.read_at

    def observe(self, first: int, values: Floats, now: float) -> None:
        """Compare a reading with the previous ones.

        ``values[i]`` is the value of point ``first + i``, dated ``(first + i) * step`` (epoch seconds), NaN for a gap;
        ``now`` is when it was read (epoch seconds). Late samples only change points up to a certain age. If every point
        differs, whatever its age, the reading comes from another server or the query failed, and it is not used.
        """
        oldest = math.ceil((now - MAX_SETTLING) / self.step)
        read = {first + i: float(value) for i, value in enumerate(values) if first + i >= oldest}
        filled = [n for n, value in read.items() if n in self._points and _is_filled(self._points[n].value, value)]
        catches_up = len(filled) > CATCH_UP + (now - self._read_at) / self.step
        again = [number for number in read if number in self._points]
        replaced = len(again) >= FEWEST_REPLACED and all(_differs(self._points[n].value, read[n]) for n in again)
        self._read_at = now
        for number, value in read.items():
            is_late = not replaced and not (catches_up and number in filled)
            self._note(number, value, now - number * self.step, counts=is_late)
        self._forget()
        self._seconds = self._estimate(now)

    def mask(self, first: int, values: Floats, now: float) -> Floats:
        """``values`` of the points from number ``first`` on; those not settled at ``now`` become gaps."""
        ages = now - (first + np.arange(len(values))) * self.step
        return np.where(ages < self.seconds - 1e-6, np.nan, values)

    def count_settled(self, first: int, size: int, now: float) -> int:
        """How many of ``size`` points from number ``first`` on have settled at ``now``; they are the oldest."""
        ages = now - (first + np.arange(size)) * self.step
        return int(np.count_nonzero(ages >= self.seconds - 1e-6))

    def _note(self, number: int, value: float, age: float, *, counts: bool) -> None:
        point = self._points.get(number)
        if point is None:
            self._points[number] = _Point(value, age)
            return
        if counts and _differs(point.value, value):
            point.changed_age = age
        point.value = value

    def _forget(self) -> None:
        """Drop all but the points that may still change and `JUDGED` older ones."""
        kept = JUDGED + math.ceil(MAX_SETTLING / self.step)
        for number in sorted(self._points)[:-kept]:
            del self._points[number]

    def _estimate(self, now: float) -> float:
        ages = list(self._last_changes(now))[-JUDGED:]
        return float(np.quantile(ages, QUANTILE, method="higher")) if ages else 0.0

    def _last_changes(self, now: float) -> Iterator[float]:
        """The ages at the last change, oldest first, of the points whose last change is known well enough.

        A young point may still change, so it only counts if it changed later than the estimate allows. A point that was
        old when first read may have changed before.
        """
        for number, point in sorted(self._points.items()):
            settled = now - number * self.step >= self._seconds
            seen_young = point.first_age <= max(self._seconds, 2 * self.step)
            if point.changed_age > self._seconds or (settled and seen_young):
                yield point.changed_age


def _is_filled(before: float, value: float) -> bool:
    return math.isnan(before) and not math.isnan(value)


def _differs(before: float, value: float) -> bool:
    if math.isnan(before) or math.isnan(value):
        return math.isnan(before) != math.isnan(value)
    return abs(value - before) > CHANGED * max(before, value)


def stale_age(stale_after: float, step: float, settling: float = 0.0) -> float:
    """The age in seconds from which the newest value of a history is too old to forecast from.

    A point may be up to a ``step`` old when it is read, and those that are still ``settling`` are gaps.
    """
    return stale_after + step + settling


def outlasts_a_missing_value(stale_after: float, step: float) -> bool:
    """Whether forecasts go on if one value is missing: the newest then gets two steps old (`stale_age`)."""
    return 2 * step <= stale_age(stale_after, step)


def find_partial_windows(values: Floats, width: int, settled: int = 0) -> Bools:
    """Which ``values`` were computed over a range of ``width`` steps that reaches into a gap, so that they are too low.

    Those are the ``width`` points before and after each gap. Missing points at the end may be late, and the points
    before them stay; but any of the first ``settled`` points would have come by now, so a gap there is an outage that
    lasts, such as a target that is no longer scraped. The gaps themselves are not marked. Linear in the length.
    """
    known = np.flatnonzero(np.isfinite(values))
    if width <= 0 or not len(known):
        return np.zeros(len(values), dtype=np.bool_)
    missing = np.isnan(values)
    missing[max(int(known[-1]), settled) :] = False
    before = np.concatenate([[0], np.cumsum(missing)])
    places = np.arange(len(values))
    near = before[np.minimum(places + width + 1, len(values))] > before[np.maximum(places - width, 0)]
    partial: Bools = near & ~np.isnan(values)
    return partial
