# SPDX-License-Identifier: Apache-2.0
"""The tick: history -> forecast -> plan -> snapshot -> store, for one workload."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import attrs

from kedastral.clock import WallClock
from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.planning.planner import Workload, keep_plan, plan_by_headroom, plan_by_service_level
from kedastral.core.planning.status import OK, ForecastStatus, StatusCode, model_failed
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.ports import Forecaster, MetricSource, SnapshotStore
from kedastral.core.series import Series
from kedastral.core.serving import replicas_at
from kedastral.core.snapshot import Mode, Snapshot
from kedastral.errors import ModelError, StoreError, WorkloadError
from kedastral.serving.metrics import Metrics, observe_seconds

log = logging.getLogger("kedastral.forecaster")

STARTING = {StatusCode.LEARNING, StatusCode.TOO_LITTLE_HISTORY}
"""What is no cause for worry: it passes."""


class Planner(Protocol):
    """Turns a forecast into the snapshot to publish."""

    async def plan(self, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """The snapshot that follows ``previous``, the one published before, if there is one."""
        ...

    async def plan_without_model(
        self, history: Series, made_at: datetime, failure: ModelError, previous: Snapshot | None
    ) -> Snapshot | None:
        """What to publish while the model fails; None for nothing."""
        ...


@attrs.frozen
class HeadroomPlanner:
    """Plans with a fixed headroom."""

    workload: Workload

    async def plan(self, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """See `Planner.plan`."""
        return plan_by_headroom(self.workload, history, forecast, previous)

    async def plan_without_model(
        self, history: Series, made_at: datetime, failure: ModelError, previous: Snapshot | None
    ) -> Snapshot | None:
        """See `Planner.plan_without_model`: the floor rises with the load, over a plan that grows old."""
        return None if previous is None else keep_plan(self.workload, history, previous, model_failed(failure))


@attrs.frozen
class ServiceLevelPlanner:
    """Plans by uncertainty, steered to a service level. ``learnt`` is what the model's past tells of the former."""

    workload: Workload
    learnt: Callable[[], UncertaintyState | None]

    async def plan(self, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """See `Planner.plan`."""
        snapshot = plan_by_service_level(self.workload, history, forecast, previous, self.learnt())
        self._tell_change(OK if previous is None else previous.status, snapshot.status)
        return snapshot

    async def plan_without_model(
        self, history: Series, made_at: datetime, failure: ModelError, previous: Snapshot | None
    ) -> Snapshot | None:
        """See `Planner.plan_without_model`: the last value is planned for, with a margin of its own."""
        forecast = fallback_forecast(history, made_at, self.workload.steps, model_failed(failure))
        return await self.plan(history, forecast, previous)

    def _tell_change(self, before: ForecastStatus, now: ForecastStatus) -> None:
        """Say when the forecast stops being used, and when it is used again."""
        if now.code is before.code:
            return
        fields = {"workload": self.workload.name, "status": now.code}
        if now.is_ok:
            log.info("the forecast is what is planned for now", extra=fields)
            return
        level = logging.INFO if now.code in STARTING else logging.WARNING
        log.log(level, "%s: %s; the last value is planned for until then", now.code, now.reason, extra=fields)


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
        """Publish one new snapshot. Raises WorkloadError where something expected fails.

        Then nothing is published; only where it was the model that failed, what can be planned without it.
        """
        now = self.clock.now()
        history = await self.source.history(now)
        previous = self.store.get(self.workload.name)
        try:
            forecast = await self.forecaster.forecast(history, now, self.workload.steps)
        except ModelError as error:  # the floor needs no forecast
            await self._publish(await self.planner.plan_without_model(history, now, error, previous))
            raise
        await self._publish(await self.planner.plan(history, forecast, previous))

    async def _publish(self, snapshot: Snapshot | None) -> None:
        if snapshot is not None and not await self.store.put(snapshot):
            raise StoreError("the store has a newer forecast already: the clock was set back a little", reason="older")


TELL_AGAIN = 600.0
"""Seconds after which a failure that lasts is told again; of a thousand workloads each tick it would be a flood."""


def _nothing() -> None:
    pass


@attrs.define
class GuardedTick:
    """The one place where expected failures of a workload are caught: logged, counted, and left to the next tick."""

    loop: ForecastLoop
    count_error: Callable[[WorkloadError], None]
    note_success: Callable[[], None] = _nothing
    _failing_since: datetime | None = attrs.field(default=None, init=False)
    _told: tuple[tuple[str, str], datetime] | None = attrs.field(default=None, init=False)
    _published: bool = attrs.field(default=False, init=False)
    _began: bool = attrs.field(default=False, init=False)

    async def tick(self) -> None:
        """`ForecastLoop.tick`, with WorkloadError turned into a line in the log."""
        name = self.loop.workload.name
        self._begin()
        try:
            await self.loop.tick()
        except WorkloadError as error:
            self.count_error(error)
            self._failing_since = self._failing_since or self.loop.clock.now()
            self._tell_failure(error)
        else:
            self.note_success()
            log.debug("published a forecast", extra={"workload": name})
            if self._failing_since is not None:
                since = f"{self._failing_since:%Y-%m-%dT%H:%M:%SZ}"
                log.info("forecasts again, after failing since %s", since, extra={"workload": name})
                self._failing_since = self._told = None
            self._note_first()

    def _tell_failure(self, error: WorkloadError) -> None:
        """One line when a failure begins or becomes another, and one every `TELL_AGAIN` seconds while it lasts."""
        name, now = self.loop.workload.name, self.loop.clock.now()
        what = (error.component, error.reason)
        told = self._told
        news = told is None or told[0] != what or (now - told[1]).total_seconds() >= TELL_AGAIN
        if news:
            self._told = (what, now)
        fields = {"component": error.component, "workload": name, "reason": error.reason, "err": str(error)}
        level = logging.WARNING if news else logging.DEBUG
        log.log(level, "no new forecast", extra=fields, exc_info=_shown(error) if news else None)

    def _begin(self) -> None:
        if self._began:
            return
        self._began = True
        self._published = self._has_published()  # as another, which made way for this one as the settings changed
        if self.loop.workload.mode is Mode.OBSERVE:
            words = (
                "mode observe: KEDA is told 0, whatever is planned. Alone this trigger would scale to the minimum: "
                "the ScaledObject needs a second one, which then decides alone"
            )
            log.warning(words, extra={"workload": self.loop.workload.name})

    def _has_published(self) -> bool:
        snapshot = self.loop.store.get(self.loop.workload.name)
        return snapshot is not None and snapshot.status.code is not StatusCode.LEARNING

    def _note_first(self) -> None:
        snapshot = self.loop.store.get(self.loop.workload.name)
        if self._published or snapshot is None or not self._has_published():
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


# --- The ports with a stopwatch around them, so that the tick itself need not know metrics.


@attrs.define
class MeasuredSource:
    """A metric source whose readings are timed, the failed ones too; it knows whether one is under way."""

    source: MetricSource
    metrics: Metrics
    is_reading: bool = attrs.field(default=False, init=False)

    @property
    def name(self) -> str:
        """The source's own name."""
        return self.source.name

    async def history(self, now: datetime) -> Series:
        """See `MetricSource.history`."""
        self.is_reading = True
        try:
            with observe_seconds(self.metrics.collect_seconds.labels(self.name).observe):
                return await self.source.history(now)
        finally:
            self.is_reading = False


@attrs.frozen
class MeasuredForecaster:
    """A forecaster whose forecasts are timed, the failed ones too."""

    forecaster: Forecaster
    metrics: Metrics

    @property
    def name(self) -> str:
        """The forecaster's own name."""
        return self.forecaster.name

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `Forecaster.forecast`."""
        with observe_seconds(self.metrics.predict_seconds.labels(self.name).observe):
            return await self.forecaster.forecast(history, made_at, steps)


@attrs.frozen
class MeasuredPlanner:
    """A planner whose plans are timed."""

    planner: Planner
    metrics: Metrics

    async def plan(self, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """See `Planner.plan`."""
        with observe_seconds(self.metrics.plan_seconds.observe):
            return await self.planner.plan(history, forecast, previous)

    async def plan_without_model(
        self, history: Series, made_at: datetime, failure: ModelError, previous: Snapshot | None
    ) -> Snapshot | None:
        """See `Planner.plan_without_model`."""
        return await self.planner.plan_without_model(history, made_at, failure, previous)
