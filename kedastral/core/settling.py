# SPDX-License-Identifier: Apache-2.0
"""`SettlingTime`: how long the newest points of a query keep changing, learned by reading them again.

With ``rate(x[5m])`` and samples that arrive two minutes late (remote write, a federated or sidecar-fed store), the
newest points are too low at first and rise as samples come in. A point that still changes is not the load yet.
"""

import math
from collections.abc import Iterator

import attrs
import numpy as np

from kedastral.core.series import Floats, require_positive

MAX_SETTLING = 600.0
"""Seconds. What changes for longer than this is no lag but a correction, and would cost more than it explains."""
CHANGED = 0.02
"""A smaller relative change is not worth waiting for: it is a fraction of a pod."""
JUDGED = 30
"""Points that the estimate rests on: half an hour of minutes. A lag that has gone is forgotten within that time."""
QUANTILE = 0.9
"""Of the ages at the last change. Three late points of thirty move it, so that it follows a lag that grows."""
CATCH_UP = 3
"""When so many more gaps are filled in one reading than steps have passed, a pipeline catches up after an outage. That
is not its lag."""


@attrs.define
class _Point:
    """The newest value read of one point, the age at which it was first read and at which it last changed."""

    value: float
    first_age: float
    changed_age: float = 0.0


@attrs.define(eq=False)
class SettlingTime:
    """What is known of one query whose points lie ``step`` seconds apart; ``fixed`` seconds are not learned.

    Memory and time per reading are O(`MAX_SETTLING` / step), whatever the window.
    """

    step: float = attrs.field(validator=require_positive)
    fixed: float | None = None
    _points: dict[int, _Point] = attrs.field(factory=dict, init=False)
    _seconds: float = attrs.field(default=0.0, init=False)
    _read_at: float = attrs.field(default=-math.inf, init=False)

    @property
    def seconds(self) -> float:
        """The age from which on a point counts as load; 0 until a point has been seen to change."""
        return self._seconds if self.fixed is None else self.fixed

    @property
    def reread(self) -> int:
        """How many of the newest points to read again, so that a lag twice as long as the known one is noticed."""
        return math.ceil(min(2 * self.seconds, MAX_SETTLING) / self.step) + 1

    def observe(self, first: int, values: Floats, now: float) -> None:
        """Compare a reading with those before.

        ``values[i]`` is the value of point ``first + i``, dated ``(first + i) * step`` (epoch seconds), NaN for a gap;
        ``now`` is when it was read (epoch seconds).
        """
        oldest = math.ceil((now - MAX_SETTLING) / self.step)
        read = {first + i: float(value) for i, value in enumerate(values) if first + i >= oldest}
        filled = [n for n, value in read.items() if n in self._points and _is_filled(self._points[n].value, value)]
        catches_up = len(filled) > CATCH_UP + (now - self._read_at) / self.step
        self._read_at = now
        for number, value in read.items():
            self._note(number, value, now - number * self.step, counts=not (catches_up and number in filled))
        self._forget()
        self._seconds = self._estimate(now)

    def mask(self, first: int, values: Floats, now: float) -> Floats:
        """``values`` of the points from number ``first`` on, with gaps for those that have not settled at ``now``."""
        ages = now - (first + np.arange(len(values))) * self.step
        return np.where(ages < self.seconds - 1e-6, np.nan, values)

    def _note(self, number: int, value: float, age: float, *, counts: bool) -> None:
        point = self._points.get(number)
        if point is None:
            self._points[number] = _Point(value, age)
            return
        if counts and _differs(point.value, value):
            point.changed_age = age
        point.value = value

    def _forget(self) -> None:
        """Keep `JUDGED` points beyond those that may still change."""
        kept = JUDGED + math.ceil(MAX_SETTLING / self.step)
        for number in sorted(self._points)[:-kept]:
            del self._points[number]

    def _estimate(self, now: float) -> float:
        ages = list(self._last_changes(now))[-JUDGED:]
        return float(np.quantile(ages, QUANTILE, method="higher")) if ages else 0.0

    def _last_changes(self, now: float) -> Iterator[float]:
        """The age at the last change of each point, oldest first, of those whose last change is known well enough.

        A young point may change yet, and says nothing unless it changed later than the estimate allows. A point that
        was old when it was first read may have changed before.
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
