# SPDX-License-Identifier: Apache-2.0
"""A query that returns a raw counter, which only ever rises. This is only reported."""

from datetime import datetime

import attrs
import numpy as np

from kedastral.core.series import HOUR, Series

COUNTED_FOR = HOUR
"""The least seconds of history needed to recognise a counter; a load seldom rises for that long without a break."""
FEWEST_COUNTED = 30
"""The least number of points in it."""
NEVER_FALLS = 0.995
"""The least share of the differences that are not falls; resets are not counted."""
RESET_TO = 0.1
"""A fall to less than this share of the previous value is a reset: the counting process restarted."""
MAX_RESETS = 5
RISING = 0.2
"""The least share of the differences that are rises: a level set by hand rises only now and then. A large, slow counter
may stand still in between, because values are kept in 32 bits."""
GROWTH = 20.0
"""A counter's rises must add up to at least this many times its falls, not counting resets."""
FALLING = 0.3
"""The share of the changes from which falls show that this is no counter, whatever its name."""
LOOK_AGAIN = 600.0
"""Seconds between two checks of a workload's history."""


@attrs.frozen
class RawCounter:
    """A series that only ever rises, from ``first`` to ``last`` in ``seconds``, except for ``resets``."""

    first: float
    last: float
    seconds: float
    resets: int

    @property
    def words(self) -> str:
        """What was seen, and the remedy."""
        resets = f", but for {self.resets} resets" if self.resets > 1 else ", but for a reset" if self.resets else ""
        return (
            f"the values only ever rise, from {self.first:,.6g} to {self.last:,.6g} in {self.seconds / HOUR:,.3g} hours"
            f"{resets}: this looks like a raw counter and not like a load; take rate() of it, such as "
            "sum(rate(http_requests_total[1m]))"
        )


def find_counter(history: Series) -> RawCounter | None:
    """The evidence that ``history`` is a raw counter; None if it may be a load. Linear in its length.

    A load has noise and falls at night, even a growing one. A counter, or a sum of counters, only falls on a reset.
    """
    known = np.flatnonzero(np.isfinite(history.values))
    if len(known) < FEWEST_COUNTED or (known[-1] - known[0]) * history.step < COUNTED_FOR:
        return None
    values = history.values[known]
    differences = np.diff(values)
    fell = differences < 0
    reset = fell & (values[1:] < RESET_TO * values[:-1])
    resets, risen = int(reset.sum()), float(differences[differences > 0].sum())
    fallen = -float(differences[fell & ~reset].sum())
    never_falls = int((fell & ~reset).sum()) <= (1 - NEVER_FALLS) * len(differences)
    rises = int((differences > 0).sum()) >= RISING * len(differences)
    if not never_falls or not rises or resets > MAX_RESETS or risen < GROWTH * fallen:
        return None
    return RawCounter(float(values[0]), float(values[-1]), float(known[-1] - known[0]) * history.step, resets)


def falls_often(history: Series) -> bool:
    """Whether ``history`` cannot be a raw counter, whatever its name: a gauge may be called ``jobs_waiting_total``."""
    differences = np.diff(history.values[np.isfinite(history.values)])
    changes = int((differences != 0).sum())
    return changes >= FEWEST_COUNTED and int((differences < 0).sum()) >= FALLING * changes


@attrs.define(eq=False)
class CounterWatch:
    """Looks for a raw counter in a workload's history, every `LOOK_AGAIN` seconds; ``is_logged`` once it was logged."""

    is_logged: bool = False
    _found: RawCounter | None = attrs.field(default=None, init=False)
    _looked_at: datetime | None = attrs.field(default=None, init=False)

    def observe(self, history: Series, now: datetime) -> RawCounter | None:
        """The raw counter that was in ``history`` when it was last searched."""
        if self._looked_at is None or abs((now - self._looked_at).total_seconds()) >= LOOK_AGAIN:
            self._looked_at, self._found = now, find_counter(history)
        return self._found
