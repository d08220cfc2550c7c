# SPDX-License-Identifier: Apache-2.0
"""`OtherAnswers`: when KEDA was told something else than the plan, or no number; for charts, in memory."""

import math
from array import array
from collections.abc import Iterator
from datetime import datetime, timedelta

import attrs

from kedastral.core.planning.snapshot import Snapshot, replicas_at
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.series import epoch_seconds
from kedastral.core.serving import decide, seconds_unchanged

MAX_SPANS = 100
"""How many spans of time are kept for each workload."""
A_MOMENT = timedelta(microseconds=1)


@attrs.frozen
class TimedAnswer:
    """What ``planned`` said from ``at`` on, in epoch seconds, and what KEDA was ``told``; None for no number."""

    at: float
    planned: int
    told: int | None


def answers_between(snapshot: Snapshot, begin: datetime, end: datetime, policy: StalePolicy) -> Iterator[TimedAnswer]:
    """Each answer of `decide` from ``snapshot`` in ``[begin, end)``; the last one lasts until ``end``."""
    settled = max(snapshot.ends_at, snapshot.made_at + timedelta(seconds=policy.stale_after))
    while begin < end:
        yield TimedAnswer(epoch_seconds(begin), replicas_at(snapshot, begin), decide(snapshot, begin, policy).replicas)
        seconds = seconds_unchanged(snapshot, begin, policy)
        if begin > settled or not math.isfinite(seconds):  # the plan and its end are past: nothing changes anymore
            return
        begin += timedelta(seconds=seconds) + A_MOMENT


@attrs.define(eq=False)
class OtherAnswers:
    """Spans of time, in epoch seconds, in which KEDA was ``told`` something else than the plan; NaN for no number."""

    begins: "array[float]" = attrs.field(factory=lambda: array("d"))
    ends: "array[float]" = attrs.field(factory=lambda: array("d"))
    told: "array[float]" = attrs.field(factory=lambda: array("d"))

    def note(self, answer: TimedAnswer, until: float) -> None:
        """``answer`` was given until ``until``."""
        if answer.told == answer.planned:
            return
        told = math.nan if answer.told is None else float(answer.told)
        if self.ends and answer.at - self.ends[-1] < 1 and repr(self.told[-1]) == repr(told):  # NaN is NaN here
            self.ends[-1] = until
            return
        for kept, value in ((self.begins, answer.at), (self.ends, until), (self.told, told)):
            kept.append(value)
            del kept[:-MAX_SPANS]

    def cut(self, moment: float) -> None:
        """Remove what is after ``moment``: the clock was set back."""
        while self.begins and self.begins[-1] > moment:
            for kept in (self.begins, self.ends, self.told):
                kept.pop()
        if self.ends:
            self.ends[-1] = min(self.ends[-1], moment)

    @property
    def bytes_used(self) -> int:
        """The bytes of all values kept."""
        return sum(len(each) * each.itemsize for each in (self.begins, self.ends, self.told))
