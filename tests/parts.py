# SPDX-License-Identifier: Apache-2.0
"""Small parts shared by many tests."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import attrs
import numpy as np
import trio

from kedastral.clock import AcceleratedClock
from kedastral.core.failures import Failure
from kedastral.core.forecast import Forecast
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.series import Observation, Series
from kedastral.core.trigger import ObjectRef
from kedastral.workloads.resolver import pick_workload

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def wall_clock() -> AcceleratedClock:
    """Wall time that shows `START` now and then runs with Trio's clock."""
    return AcceleratedClock(START)


def make_snapshot(
    replicas: Sequence[int] = (3, 5, 8, 6, 9, 9),
    *,
    workload: str = "shop",
    made_at: datetime = START,
    lead: float = 180,
    floor: int | None = 4,
    values: Sequence[float] | None = None,
) -> Snapshot:
    """A plan in steps of a minute; at first, its largest element within the default lead time is 8."""
    loads = np.array(values if values is not None else [100.0 * n for n in replicas])
    seen = Observation(made_at, 375.5) if floor is not None else None
    return Snapshot(workload, "http_rps", Forecast(made_at, 60.0, loads), np.array(replicas), lead, seen, floor)


@attrs.define
class StubSource:
    """A source that returns or raises the given results, one per read, and then the last one forever."""

    readings: list[Series | Exception]
    asked: list[datetime] = attrs.field(factory=list)
    name: str = "stub"

    async def history(self, now: datetime) -> Series:
        await trio.lowlevel.checkpoint()
        self.asked.append(now)
        reading = self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]
        if isinstance(reading, Exception):
            raise reading
        return reading


@attrs.define
class StubForecaster:
    """A forecaster whose values, or failure, ``say`` chooses."""

    say: Callable[[int], Sequence[float]]
    asked: list[tuple[Series, datetime, int]] = attrs.field(factory=list)
    name: str = "stub"

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        await trio.lowlevel.checkpoint()
        self.asked.append((history, made_at, steps))
        return Forecast(made_at, history.step, np.array(self.say(steps), dtype=float))


def make_history(*values: float) -> Series:
    """Load per minute; the newest is a minute before `START`."""
    return Series(datetime(2026, 3, 1, 11, 60 - len(values), tzinfo=UTC), 60.0, np.array(values))


@attrs.frozen
class FixedResolver:
    """A `kedastral.core.ports.WorkloadResolver` of workloads known from the start, with one answer for all."""

    keys: frozenset[str]
    policy: StalePolicy = attrs.field(factory=StalePolicy)

    @classmethod
    def of(cls, *keys: str, policy: StalePolicy | None = None) -> "FixedResolver":
        return cls(frozenset(keys), policy or StalePolicy())

    async def find(self, ref: ObjectRef) -> str:
        await trio.lowlevel.checkpoint()
        return pick_workload(ref, self.keys)

    def keep_alive(self, workload: str) -> None:
        pass

    def policy_of(self, workload: str) -> StalePolicy:
        return self.policy

    def failure_of(self, workload: str) -> Failure | None:
        return None

    def current_key(self, workload: str, namespace: str) -> str:
        return workload
