# SPDX-License-Identifier: Apache-2.0
"""Series that disappear from the sum, with their load, while the pods stay. This is only reported."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs
import numpy as np

from kedastral.core.series import EPOCH, HOUR, Floats, Series, epoch_seconds

SHARE_LEFT = 2 / 3
"""Of the series, and of their load: at least a third must be gone."""
FEWEST_SERIES = 3
"""How many series there must have been: with fewer, a single one is a third or more."""
LOST_FOR = 120.0
"""Seconds, and at least `FEWEST_LOST` points, for which they must be gone: pods that just restart are back by then."""
FEWEST_LOST = 2
REFERENCE = 900.0
"""Seconds before the loss whose median is the reference: a rolling update doubles the series for less than half."""
TOLD_FOR = 1800.0
"""Seconds within which pods follow what KEDA was told: the HPA's stabilization, and pods finishing their work."""
FORGOTTEN_AFTER = HOUR
"""Seconds after which the remaining series count as complete."""
PAUSE = 300.0
"""Seconds without a tick after which it is unknown what KEDA was told."""
COUNTED = 2400.0
"""Seconds of counts that `SeriesWatch` reads: lag, loss and reference."""


@attrs.frozen
class LostSeries:
    """How many series have been ``lost`` from the sum ``since`` a time, with their load, and how many were ``left``."""

    lost: int
    left: int
    since: datetime


@attrs.define(eq=False)
class SeriesWatch:
    """Finds series that disappear with their load while the pods stay: the data source may miss part of the load.

    It knows what KEDA was told. A scale down by Kedastral removes as many series, and does not count as a loss. In mode
    observe others scale, so that nothing is known to be lost.
    """

    lost: LostSeries | None = attrs.field(default=None, init=False)
    _told: list[tuple[datetime, int]] = attrs.field(factory=list, init=False)
    _observes: bool = attrs.field(default=False, init=False)
    """Whether ``_told`` is what was planned, while KEDA was told 0."""

    @property
    def told(self) -> tuple[tuple[datetime, int], ...]:
        """What KEDA was told recently, in mode observe what was planned; oldest first, to be stored."""
        return tuple(self._told)

    def restore(self, lost: LostSeries | None, told: Sequence[tuple[datetime, int]], *, observes: bool = False) -> None:
        """Continue from earlier values of `lost` and `told`; ``observes`` says that the mode was observe."""
        self.lost, self._told, self._observes = lost, list(told), observes

    def observe(self, history: Series, told: int | None, now: datetime, *, observes: bool = False) -> LostSeries | None:
        """What is lost as of ``history``.

        ``told`` is what KEDA is told at ``now``, None if unknown; if ``observes``, for mode observe, what is planned.
        """
        paused = self._told and not 0 <= (now - self._told[-1][0]).total_seconds() <= PAUSE
        if told is None or paused or (self._observes and not observes):
            self._told.clear()
        self._observes = observes
        if told is not None:
            self._told.append((now, told))
        oldest = now - timedelta(seconds=TOLD_FOR + COUNTED)
        self._told = [one for one in self._told if one[0] >= oldest]
        counts = history.quality.counts
        if counts is not None and history.quality.at_least is None:
            self.lost = self._after(_CountedLoad.of(history, counts), now)
        return self.lost

    def _after(self, counted: "_CountedLoad", now: datetime) -> LostSeries | None:
        lost = self.lost
        if lost is None or not len(counted.counts):
            return self._newly_lost(counted)
        is_back = counted.counts[-1] > SHARE_LEFT * (lost.lost + lost.left)
        return None if is_back or (now - lost.since).total_seconds() > FORGOTTEN_AFTER else lost

    def _newly_lost(self, counted: "_CountedLoad") -> LostSeries | None:
        gone = max(FEWEST_LOST, math.floor(LOST_FOR / counted.step + 1e-9) + 1)
        if len(counted.counts) <= gone:
            return None
        first = counted.times[-gone]
        reference = (counted.times < first) & (counted.times >= first - max(REFERENCE, FEWEST_LOST * counted.step))
        if not reference.any():
            return None
        before, load = np.median(counted.counts[reference]), np.median(counted.loads[reference])
        left, since = counted.counts[-gone:].max(), EPOCH + timedelta(seconds=float(first))
        if before < FEWEST_SERIES or counted.loads[-gone:].max() > SHARE_LEFT * load:
            return None
        if left > SHARE_LEFT * before * self._share_told(since):
            return None
        return LostSeries(round(float(before - left)), round(float(left)), since)

    def _share_told(self, until: datetime) -> float:
        """The share that the largest fall of what KEDA was told left, within `TOLD_FOR` before ``until``.

        0 if less than `REFERENCE` of it is known, or others scale.
        """
        if self._observes:
            return 0.0
        told = [one for one in self._told if timedelta(0) <= until - one[0] <= timedelta(seconds=TOLD_FOR)]
        if not told or (until - told[0][0]).total_seconds() < REFERENCE:
            return 0.0
        replicas = np.array([each for _, each in told], dtype=np.float64)
        return float((replicas / np.maximum(np.maximum.accumulate(replicas), 1.0)).min())


@attrs.frozen(eq=False)
class _CountedLoad:
    """The newest loads whose number of series is known: ``times`` in epoch seconds, all of shape (n,)."""

    times: Floats
    loads: Floats
    counts: Floats
    step: float

    @classmethod
    def of(cls, history: Series, counts: Series) -> "_CountedLoad":
        """From the points that are in both, which share one grid."""
        apart = round((counts.start - history.start).total_seconds() / history.step)
        places = np.arange(len(counts)) + apart
        inside = (places >= 0) & (places < len(history))
        loads = np.where(inside, history.values[np.clip(places, 0, len(history) - 1)], np.nan)
        times = epoch_seconds(history.start) + places.astype(np.float64) * history.step
        known = np.isfinite(loads) & np.isfinite(counts.values)
        return cls(times[known], loads[known], counts.values[known], counts.step)
