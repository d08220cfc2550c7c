# SPDX-License-Identifier: Apache-2.0
"""`RecentLoads`: the last hours of each workload in memory, for charts; fed by the tick, so no queries are needed."""

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

import attrs
import numpy as np
from numpy.typing import NDArray

from kedastral.core.forecast import Forecast
from kedastral.core.planning.snapshot import Snapshot, replicas_at
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.series import EPOCH, HOUR, MINUTE, Series, epoch_seconds
from kedastral.serving.told import OtherAnswers, answers_between

SPAN = 6 * HOUR
"""How many seconds of load are kept."""
MAX_POINTS = 720
"""How many points of each kind are kept: six hours with 30-second steps. One workload takes at most about 26 kB, and
9 kB with one-minute steps and a plan that changes every ten minutes."""
PAUSE = 300.0
"""Seconds without a plan, at a restart, that are shown as a gap: what KEDA was told meanwhile is not known here."""


BY_DEFAULT = StalePolicy()


@attrs.define(eq=False)
class RecentLoad:
    """One workload: its newest loads, what was planned when, and what was expected one lead time ahead.

    ``loads[i]`` was measured at ``start + i * step`` (seconds); NaN is a gap, but the first is a value. ``planned_at``
    are the epoch seconds at which the plan changed to ``planned``, NaN where a pause began. ``expected_at`` are those
    for which ``expected`` was forecast: the ends of its steps, by which measured loads are dated, too.
    ``restored_until`` is when the process before this one made its last plan. ``other_answers`` is what KEDA was told
    where that was not the plan. ``newest`` is the newest plan of this process, followed until ``followed``.
    """

    start: datetime = EPOCH
    step: float = MINUTE
    loads: NDArray[np.float32] = attrs.field(factory=lambda: np.empty(0, dtype=np.float32))
    planned_at: "array[float]" = attrs.field(factory=lambda: array("d"))
    planned: "array[float]" = attrs.field(factory=lambda: array("d"))
    expected_at: "array[float]" = attrs.field(factory=lambda: array("d"))
    expected: "array[float]" = attrs.field(factory=lambda: array("f"))
    restored_until: float | None = None
    other_answers: OtherAnswers = attrs.field(factory=OtherAnswers)
    newest: Snapshot | None = None
    followed: datetime = EPOCH

    def record(
        self, history: Series | None, snapshot: Snapshot, now: datetime, policy: StalePolicy = BY_DEFAULT
    ) -> None:
        """Record the end of ``history``, and the plan and forecast of ``snapshot``, published at ``now``.

        While the model fails, that may be an older plan, kept with another floor; without a history, only the floor of
        the newest plan is new. By ``policy`` KEDA was told what the plan before it said.
        """
        self.follow(now, policy)
        self.newest = snapshot
        if history is not None:
            self._record_loads(history)
        moment, says = epoch_seconds(now), replicas_at(snapshot, now)
        _cut_after(moment, self.planned_at, self.planned)
        if self.restored_until is not None and moment - self.restored_until > PAUSE:
            _append(self.planned_at, self.restored_until, self.planned, math.nan)
        self.restored_until = None
        if not self.planned or self.planned[-1] != says:
            _append(self.planned_at, moment, self.planned, says)
        if history is not None:
            self._record_expected(snapshot.forecast, snapshot.lead_time)

    def _record_loads(self, history: Series) -> None:
        count = min(max(round(SPAN / history.step), 1), MAX_POINTS)
        kept = history.values[-count:]
        known = np.flatnonzero(np.isfinite(kept))
        kept = kept[known[0] if len(known) else len(kept) :]  # the hours before a new workload are no gap to show
        self.loads = np.minimum(kept, np.finfo(np.float32).max).astype(np.float32)
        self.start, self.step = history.time_at(len(history) - len(kept)), history.step

    def _record_expected(self, forecast: Forecast, lead_time: float) -> None:
        index = forecast.index_at(lead_time)
        if index is None:
            return
        at = epoch_seconds(forecast.made_at) + (index + 1) * forecast.step
        _cut_after(at, self.expected_at, self.expected)
        if not self.expected_at or at - self.expected_at[-1] >= forecast.step * 0.99:
            load = float(forecast.values[index])
            _append(self.expected_at, at, self.expected, min(load, float(np.finfo(np.float32).max)))

    def follow(self, now: datetime, policy: StalePolicy) -> None:
        """Record what the newest plan has said until ``now``, and what KEDA was told by ``policy`` instead."""
        self.other_answers.cut(epoch_seconds(now))
        begin, self.followed = self.followed, now
        if self.newest is None:
            return
        begin = max(begin, self.newest.made_at, now - timedelta(seconds=SPAN))
        answers = list(answers_between(self.newest, begin, now, policy))
        ends = [*(one.at for one in answers[1:]), epoch_seconds(now)]
        for answer, until in zip(answers, ends, strict=False):  # there may be no answers
            self.other_answers.note(answer, until)
            if self.planned and self.planned[-1] != answer.planned and answer.at > self.planned_at[-1]:
                _append(self.planned_at, answer.at, self.planned, answer.planned)

    def restore(self, planned: Sequence[tuple[datetime, int]]) -> None:
        """Continue from what another process ``planned``, oldest first; what is known of that time is replaced."""
        self.newest = None  # another process has told KEDA since
        for at, replicas in planned:
            moment = epoch_seconds(at)
            if self.restored_until is None:
                _cut_after(moment, self.planned_at, self.planned)
            if not self.planned or self.planned[-1] != replicas:
                _append(self.planned_at, moment, self.planned, replicas)
            self.restored_until = moment

    @property
    def bytes_used(self) -> int:
        """The bytes of all values kept."""
        arrays = (self.planned_at, self.planned, self.expected_at, self.expected)
        return self.loads.nbytes + self.other_answers.bytes_used + sum(len(each) * each.itemsize for each in arrays)


@attrs.define(eq=False)
class RecentLoads:
    """The `RecentLoad` of each workload; when a new one is added, those that ``is_known`` rejects are dropped.

    ``policy_of`` says by what policy KEDA is told.
    """

    is_known: Callable[[str], bool]
    policy_of: Callable[[str], StalePolicy] = lambda _: BY_DEFAULT
    _kept: dict[str, RecentLoad] = attrs.field(factory=dict, init=False)

    def record(self, history: Series | None, snapshot: Snapshot, now: datetime) -> None:
        """See `RecentLoad.record`."""
        if snapshot.workload not in self._kept:
            self._drop(key for key in list(self._kept) if not self.is_known(key))
            self._kept[snapshot.workload] = RecentLoad()
        self._kept[snapshot.workload].record(history, snapshot, now, self.policy_of(snapshot.workload))

    def restore(self, snapshot: Snapshot, told: Sequence[tuple[datetime, int]]) -> None:
        """Continue from the last plan of another process, ``snapshot``, and what was ``told`` by it lately."""
        made_at = snapshot.made_at
        planned = [one for one in told if one[0] < made_at] + [(made_at, replicas_at(snapshot, made_at))]
        self._kept.setdefault(snapshot.workload, RecentLoad()).restore(planned)

    def get(self, workload: str) -> RecentLoad | None:
        """What is recorded for ``workload``."""
        return self._kept.get(workload)

    def get_until(self, snapshot: Snapshot | None, now: datetime) -> RecentLoad | None:
        """What is recorded for the workload of ``snapshot``, its newest, with what KEDA was told until ``now``."""
        recent = None if snapshot is None else self._kept.get(snapshot.workload)
        if recent is None or snapshot is None:
            return None
        if recent.newest is not None and recent.newest.made_at == snapshot.made_at:  # else another process tells KEDA
            recent.follow(now, self.policy_of(snapshot.workload))
        return recent

    def _drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            del self._kept[key]


def _append(times: "array[float]", at: float, values: "array[float]", value: float) -> None:
    times.append(at)
    values.append(value)
    del times[:-MAX_POINTS], values[:-MAX_POINTS]


def _cut_after(moment: float, times: "array[float]", values: "array[float]") -> None:
    """Remove what is now in the future, because the clock was set back."""
    while times and times[-1] > moment:
        times.pop()
        values.pop()
