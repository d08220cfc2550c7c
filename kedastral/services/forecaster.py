# SPDX-License-Identifier: Apache-2.0
"""The tick: history -> forecast -> plan -> snapshot -> store, for one workload."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import attrs
import trio

from kedastral.clock import WallClock
from kedastral.core.forecast import Forecast
from kedastral.core.ports import Forecaster, MetricSource, SnapshotStore
from kedastral.core.series import Series
from kedastral.core.serving import replicas_at
from kedastral.core.snapshot import Mode, Snapshot
from kedastral.core.steered import SteeredState
from kedastral.core.uncertainty import UncertaintyState
from kedastral.core.workload import Workload, plan_by_headroom, plan_by_service_level
from kedastral.errors import StoreError, WorkloadError

log = logging.getLogger("kedastral.forecaster")


class Planner(Protocol):
    """Turns a forecast into the snapshot to publish."""

    async def plan(self, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """The snapshot that follows ``previous``, the one published before, if there is one."""
        ...


@attrs.frozen
class HeadroomPlanner:
    """Plans with a fixed headroom."""

    workload: Workload

    async def plan(self, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """See `Planner.plan`."""
        return plan_by_headroom(self.workload, history, forecast, previous)


@attrs.frozen
class ServiceLevelPlanner:
    """Plans by uncertainty, steered to a service level. ``warm_up`` learns the uncertainty from a history, slowly."""

    workload: Workload
    warm_up: Callable[[Series], UncertaintyState]

    async def plan(self, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """See `Planner.plan`; the very first plan takes seconds, in a thread, so that KEDA need not wait."""
        begun = SteeredState()
        if previous is None or previous.steered is None:
            learnt = await trio.to_thread.run_sync(self.warm_up, history, abandon_on_cancel=True)
            begun = SteeredState(learnt)
        snapshot = plan_by_service_level(self.workload, history, forecast, previous, lambda: begun)
        self._tell_change(previous, snapshot)
        return snapshot

    def _tell_change(self, previous: Snapshot | None, snapshot: Snapshot) -> None:
        """Say when the forecast stops being used, and when it is used again."""
        report = snapshot.steered
        before = previous.steered.status if previous is not None and previous.steered is not None else "ok"
        if report is None or report.status == before:
            return
        fields = {"workload": self.workload.name, "status": report.status}
        if report.reason:
            log.warning("standing down: %s; what was measured last is planned for instead", report.reason, extra=fields)
        else:
            log.info("the forecast wins against the last value again, and is used", extra=fields)


@attrs.frozen
class ForecastLoop:
    """One workload's tick and the parts it works with."""

    workload: Workload
    source: MetricSource
    forecaster: Forecaster
    store: SnapshotStore
    clock: WallClock
    planner: Planner = attrs.field()

    @planner.default
    def _plan_by_headroom(self) -> Planner:
        return HeadroomPlanner(self.workload)

    async def tick(self) -> None:
        """Publish one new snapshot. Raises WorkloadError where something expected fails; then nothing is published."""
        now = self.clock.now()
        history = await self.source.history(now)
        forecast = await self.forecaster.forecast(history, now, self.workload.steps)
        snapshot = await self.planner.plan(history, forecast, self.store.get(self.workload.name))
        if not await self.store.put(snapshot):
            raise StoreError("the store has a newer forecast already: the clock was set back a little", reason="older")


@attrs.define
class ForgivingTick:
    """The one place where expected failures of a workload are caught: logged, counted, and left to the next tick."""

    loop: ForecastLoop
    count_error: Callable[[WorkloadError], None]
    _failing_since: datetime | None = attrs.field(default=None, init=False)
    _published: bool = attrs.field(default=False, init=False)
    _began: bool = attrs.field(default=False, init=False)

    async def tick(self) -> None:
        """`ForecastLoop.tick`, with WorkloadError turned into a line in the log."""
        name = self.loop.workload.name
        self._tell_mode()
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

    def _tell_mode(self) -> None:
        if not self._began and self.loop.workload.mode is Mode.OBSERVE:
            words = (
                "mode observe: KEDA is told 0, whatever is planned. Alone this trigger would scale to the minimum: "
                "the ScaledObject needs a second one, which then decides alone"
            )
            log.warning(words, extra={"workload": self.loop.workload.name})
        self._began = True

    def _note_first(self) -> None:
        snapshot = self.loop.store.get(self.loop.workload.name)
        if self._published or snapshot is None:
            return
        self._published = True
        load, replicas = snapshot.forecast.values[0], replicas_at(snapshot, self.loop.clock.now())
        words = "first forecast: load %.6g, replicas for KEDA %d"
        if snapshot.mode is Mode.OBSERVE:
            words += ", which is only shown (observe)"
        log.info(words, load, replicas, extra={"workload": snapshot.workload})


def _shown(error: WorkloadError) -> WorkloadError | None:
    """A model's own bug is shown with its traceback; an expected failure says all in its message."""
    return error if error.reason == "exception" else None
