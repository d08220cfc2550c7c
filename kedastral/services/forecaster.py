# SPDX-License-Identifier: Apache-2.0
"""The tick: history -> forecast -> plan -> snapshot -> store, for one workload."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import attrs

from kedastral.clock import WallClock
from kedastral.core.capacity import PlanPolicy, plan_replicas, reactive_replicas
from kedastral.core.forecast import Forecast
from kedastral.core.ports import Forecaster, MetricSource, SnapshotStore
from kedastral.core.series import Floats, Ints, Observation
from kedastral.core.serving import replicas_at, wanted_for
from kedastral.core.snapshot import Snapshot
from kedastral.errors import WorkloadError

log = logging.getLogger("kedastral.forecaster")


@attrs.frozen
class Workload:
    """What is forecast and how it is planned.

    ``steps`` is the length of the forecast, ``lead_time`` in seconds; ``reactive_headroom`` None turns the floor off.
    """

    name: str
    metric: str
    steps: int
    lead_time: float
    policy: PlanPolicy
    reactive_headroom: float | None = 1.1


class Planner(Protocol):
    """`kedastral.core.capacity.plan_replicas`, or the same with something around it."""

    def __call__(self, values: Floats, policy: PlanPolicy, *, previous: int | None) -> Ints:
        """See `plan_replicas`."""
        ...


@attrs.frozen
class ForecastLoop:
    """One workload's tick and the parts it works with."""

    workload: Workload
    source: MetricSource
    forecaster: Forecaster
    store: SnapshotStore
    clock: WallClock
    plan: Planner = plan_replicas

    async def tick(self) -> None:
        """Publish one new snapshot. Raises WorkloadError where something expected fails; then nothing is published."""
        now = self.clock.now()
        history = await self.source.history(now)
        forecast = await self.forecaster.forecast(history, now, self.workload.steps)
        previous = wanted_for(self.store.get(self.workload.name), now)
        replicas = self.plan(forecast.values, self.workload.policy, previous=previous)
        await self.store.put(self._snapshot(forecast, replicas, history.newest))

    def _snapshot(self, forecast: Forecast, replicas: Ints, observed: Observation | None) -> Snapshot:
        workload, floor = self.workload, None
        if observed is not None and workload.reactive_headroom is not None:
            floor = reactive_replicas(observed.value, workload.reactive_headroom, workload.policy)
        return Snapshot(workload.name, workload.metric, forecast, replicas, workload.lead_time, observed, floor)


@attrs.define
class ForgivingTick:
    """The one place where expected failures of a workload are caught: logged, counted, and left to the next tick."""

    loop: ForecastLoop
    count_error: Callable[[WorkloadError], None]
    _failing_since: datetime | None = attrs.field(default=None, init=False)
    _published: bool = attrs.field(default=False, init=False)

    async def tick(self) -> None:
        """`ForecastLoop.tick`, with WorkloadError turned into a line in the log."""
        name = self.loop.workload.name
        try:
            await self.loop.tick()
        except WorkloadError as error:
            self.count_error(error)
            self._failing_since = self._failing_since or self.loop.clock.now()
            fields = {"component": error.component, "workload": name, "reason": error.reason, "err": str(error)}
            log.warning("no new forecast", extra=fields, exc_info=_shown(error))
        else:
            log.debug("published a forecast", extra={"workload": name})
            if self._failing_since is not None:
                since = f"{self._failing_since:%Y-%m-%dT%H:%M:%SZ}"
                log.info("forecasts again, after failing since %s", since, extra={"workload": name})
                self._failing_since = None
            self._note_first()

    def _note_first(self) -> None:
        snapshot = self.loop.store.get(self.loop.workload.name)
        if self._published or snapshot is None:
            return
        self._published = True
        load, replicas = snapshot.forecast.values[0], replicas_at(snapshot, self.loop.clock.now())
        words = "first forecast: load %.6g, replicas for KEDA %d"
        log.info(words, load, replicas, extra={"workload": snapshot.workload})


def _shown(error: WorkloadError) -> WorkloadError | None:
    """A model's own bug is shown with its traceback; an expected failure says all in its message."""
    return error if error.reason == "exception" else None
