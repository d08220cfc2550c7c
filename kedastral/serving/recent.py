# SPDX-License-Identifier: Apache-2.0
"""`RecentLoads`: the last hours of each workload in memory, for charts; fed by the tick, so that nothing is queried."""

from array import array
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import attrs
import numpy as np
from numpy.typing import NDArray

from kedastral.core.series import EPOCH, Series
from kedastral.core.serving import Snapshot, replicas_at

SPAN = 6 * 3600.0
"""Seconds of load that are kept."""
MAX_POINTS = 720
"""Points of each kind that are kept: six hours at steps of 30 seconds. All of a workload are about 23 kB at the most,
and 9 kB at steps of a minute with a plan that changes every ten."""


@attrs.define(eq=False)
class RecentLoad:
    """One workload: its newest loads, what was planned when, and what was expected a lead time ahead.

    ``loads[i]`` was measured at ``start + i * step`` (seconds); NaN is a gap. ``planned_at`` are epoch seconds at which
    the plan began to say ``planned``; ``expected_at`` those for which ``expected`` was forecast.
    """

    start: datetime = EPOCH
    step: float = 60.0
    loads: NDArray[np.float32] = attrs.field(factory=lambda: np.empty(0, dtype=np.float32))
    planned_at: "array[float]" = attrs.field(factory=lambda: array("d"))
    planned: "array[float]" = attrs.field(factory=lambda: array("d"))
    expected_at: "array[float]" = attrs.field(factory=lambda: array("d"))
    expected: "array[float]" = attrs.field(factory=lambda: array("f"))

    def record(self, history: Series, snapshot: Snapshot) -> None:
        """Keep the end of ``history``, and what ``snapshot``, made from it, says."""
        count = min(max(round(SPAN / history.step), 1), MAX_POINTS)
        kept = history.values[-count:]
        self.loads = np.minimum(kept, np.finfo(np.float32).max).astype(np.float32)
        self.start, self.step = history.time_at(len(history) - len(kept)), history.step
        now, says = _epoch(snapshot.made_at), replicas_at(snapshot, snapshot.made_at)
        _cut_after(now, self.planned_at, self.planned)
        if not self.planned or self.planned[-1] != says:
            _append(self.planned_at, now, self.planned, says)
        ahead, load = now + snapshot.lead_time, snapshot.forecast.value_at(snapshot.lead_time)
        _cut_after(ahead, self.expected_at, self.expected)
        if load is not None and (not self.expected_at or ahead - self.expected_at[-1] >= history.step * 0.99):
            _append(self.expected_at, ahead, self.expected, min(load, float(np.finfo(np.float32).max)))

    @property
    def bytes_used(self) -> int:
        """The bytes of all values kept."""
        arrays = (self.planned_at, self.planned, self.expected_at, self.expected)
        return self.loads.nbytes + sum(len(each) * each.itemsize for each in arrays)


@attrs.define(eq=False)
class RecentLoads:
    """The `RecentLoad` of each workload; those that ``is_known`` knows no more are dropped as another one comes."""

    is_known: Callable[[str], bool]
    _kept: dict[str, RecentLoad] = attrs.field(factory=dict, init=False)

    def record(self, history: Series, snapshot: Snapshot) -> None:
        """See `RecentLoad.record`."""
        if snapshot.workload not in self._kept:
            self._drop(key for key in list(self._kept) if not self.is_known(key))
            self._kept[snapshot.workload] = RecentLoad()
        self._kept[snapshot.workload].record(history, snapshot)

    def get(self, workload: str) -> RecentLoad | None:
        """What is kept of ``workload``."""
        return self._kept.get(workload)

    def _drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            del self._kept[key]


def _append(times: "array[float]", at: float, values: "array[float]", value: float) -> None:
    times.append(at)
    values.append(value)
    del times[:-MAX_POINTS], values[:-MAX_POINTS]


def _cut_after(moment: float, times: "array[float]", values: "array[float]") -> None:
    """Take away what a clock that was set back has made the future."""
    while times and times[-1] > moment:
        times.pop()
        values.pop()


def _epoch(moment: datetime) -> float:
    return (moment - EPOCH) / timedelta(seconds=1)
