# SPDX-License-Identifier: Apache-2.0
"""The tick: history -> forecast -> plan -> snapshot -> store, for one workload."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import attrs

from kedastral.clock import WallClock
from kedastral.core.data_quality.findings import Findings
from kedastral.core.data_quality.lost_series import LostSeries, SeriesWatch
from kedastral.core.data_quality.outliers import Outliers, screen
from kedastral.core.data_quality.raw_counter import CounterWatch, RawCounter
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import OK, StatusCode, model_failed
from kedastral.core.planning.planner import Workload, plan_step, plan_step_without_model, raise_floor
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.ports import Forecaster, LowerBoundError, MetricSource, SnapshotStore
from kedastral.core.series import Series
from kedastral.core.serving import told_by_plan
from kedastral.errors import ModelError, StoreError
from kedastral.logs import of_many
from kedastral.serving.metrics import observe_seconds
from kedastral.tracing import NO_TRACING, Tracing

log = logging.getLogger("kedastral.forecaster")

STARTING = {StatusCode.LEARNING, StatusCode.TOO_LITTLE_HISTORY}
"""Statuses that are normal after a start and go away by themselves."""


QUIET = timedelta(hours=1)
"""Outliers no further apart than this are logged once."""


@attrs.frozen
class Planner:
    """`plan_step`, timed, with a log line when the forecast's status changes; one for each workload.

    ``learnt`` returns the uncertainty found when the model was fitted. ``observe`` gets the seconds that each plan
    took. ``served`` returns what KEDA was last told before the process started; None if unknown. ``tracing`` gets a
    span for each plan.
    """

    learnt: Callable[[], UncertaintyState | None] = lambda: None
    observe: Callable[[float], None] = lambda _seconds: None
    served: Callable[[], int | None] = lambda: None
    tracing: Tracing = NO_TRACING

    def plan(self, workload: Workload, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """The snapshot to publish after ``previous``."""
        with self.tracing.span("plan", {}), observe_seconds(self.observe):
            snapshot = plan_step(workload, history, forecast, previous, self.learnt(), self.served())
            _log_change(workload, previous, snapshot)
        return snapshot

    def plan_without_model(
        self, workload: Workload, history: Series, made_at: datetime, failure: ModelError, previous: Snapshot | None
    ) -> Snapshot | None:
        """The snapshot to publish while the model fails; None: publish nothing."""
        status = model_failed(failure)
        snapshot = plan_step_without_model(workload, history, made_at, status, previous, self.learnt(), self.served())
        _log_change(workload, previous, snapshot)
        return snapshot


@attrs.frozen
class ForecastLoop:
    """One workload's tick and its parts.

    ``remember`` gets each published plan, the history that it was made from, and the time of the tick, for charts; no
    history if only the floor of the newest plan was raised. ``tracing`` gets a span for each publication.
    ``series`` watches how many series are summed; ``counter`` recognises a raw counter by its values.
    """

    workload: Workload
    source: MetricSource
    forecaster: Forecaster
    store: SnapshotStore
    clock: WallClock
    planner: Planner = attrs.field(factory=Planner)
    remember: Callable[[Series | None, Snapshot, datetime], None] = lambda _history, _snapshot, _now: None
    tracing: Tracing = NO_TRACING
    series: SeriesWatch = attrs.field(factory=SeriesWatch)
    counter: CounterWatch = attrs.field(factory=CounterWatch)

    async def tick(self) -> None:
        """Publish one new snapshot. Raises WorkloadError on an expected failure.

        Then nothing is published, unless it was the model that failed: then what can be planned without it; or unless
        only a lower bound of the load is known: then a floor that rises to it. If that cannot be published either, the
        error has the store's beside it.
        """
        now = self.clock.now()
        try:
            read = await self.source.history(now)
        except LowerBoundError as error:
            error.followed_by = await self._raise_floor(error.history, now)
            raise
        previous = self.store.previous(self.workload.name)
        history, found = self._examine(read, previous, now)
        try:
            forecast = await self.forecaster.forecast(history, now, self.workload.steps)
        except ModelError as error:  # the floor needs no forecast
            fallback = self.planner.plan_without_model(self.workload, history, now, error, previous)
            error.followed_by = await self._try_to_publish(fallback, history, found, now)
            raise
        snapshot = self.planner.plan(self.workload, history, forecast, previous)
        await self._publish(snapshot, history, found, now)

    async def _raise_floor(self, read: Series, now: datetime) -> StoreError | None:
        """Publish the newest plan again with a higher floor, if the lower bounds in ``read`` need one.

        An error is returned, as it would take the place of the one that is being dealt with.
        """
        previous = self.store.previous(self.workload.name)
        raised = None if previous is None else raise_floor(self.workload, screen(read).history, previous)
        if raised is None:
            return None
        try:
            is_newest = await self.store.put(raised)  # of the same time: a newer one of another pod stays
        except StoreError as error:
            return error
        if is_newest:
            self.remember(None, raised, now)
        return None

    def _examine(self, read: Series, previous: Snapshot | None, now: datetime) -> tuple[Series, Findings]:
        """The history without outliers, and what is odd about it; logs what is new."""
        counter = self.counter.observe(read, now)
        self._log_counter(counter)
        screened = screen(read)
        self._log_outliers(screened.outliers, None if previous is None else previous.findings.outliers)
        lost = self._watch_series(screened.history, previous, now)
        return screened.history, Findings(screened.outliers, lost, counter is not None)

    async def _publish(self, snapshot: Snapshot, history: Series, found: Findings, now: datetime) -> None:
        with self.tracing.span("publish", {"kedastral.status": snapshot.status.code}):
            is_newest = await self.store.put(attrs.evolve(snapshot, findings=found))
        if not is_newest:
            words = "the store has a newer forecast already: another pod made it, or a clock was set back a little"
            raise StoreError(words, reason="older")
        self.remember(history, snapshot, now)

    async def _try_to_publish(
        self, snapshot: Snapshot | None, history: Series, found: Findings, now: datetime
    ) -> StoreError | None:
        """`_publish`, if there is a plan without the model.

        An error is returned: raised, it would take the place of the one that is being dealt with.
        """
        if snapshot is None:
            return None
        try:
            await self._publish(snapshot, history, found, now)
        except StoreError as error:
            return error
        return None

    def _watch_series(self, history: Series, previous: Snapshot | None, now: datetime) -> LostSeries | None:
        """The series that have disappeared with their load; logs one line each time some disappear."""
        before, observes = self.series.lost, self.workload.mode is Mode.OBSERVE
        told = told_by_plan(previous, now, self.workload.stale)
        if observes and previous is not None:
            told = replicas_at(previous, now)
        lost = self.series.observe(history, told, now, observes=observes)
        if lost is not None and before is None:
            words = (
                "the load fell together with its series, %d -> %d since %s, while the pods stayed: the data source may "
                "lack part of it"
            )
            since = f"{lost.since:%Y-%m-%dT%H:%M:%SZ}"
            log.warning(words, lost.lost + lost.left, lost.left, since, extra=of_many(self.workload.name))
        return lost

    def _log_counter(self, counter: RawCounter | None) -> None:
        """Log one line if the query returns a raw counter."""
        if counter is not None and not self.counter.is_logged:
            self.counter.is_logged = True
            log.warning("%s", counter.words, extra=of_many(self.workload.name))

    def _log_outliers(self, now: Outliers | None, before: Outliers | None) -> None:
        """Log one line for outliers after a while without any."""
        if now is None or (before is not None and now.newest.at - before.newest.at < QUIET):
            return
        words = "values far beyond all that this workload does are left out: %d in all, the newest %.6g at %s"
        at = f"{now.newest.at:%Y-%m-%dT%H:%M:%SZ}"
        log.warning(words, now.points, now.newest.value, at, extra=of_many(self.workload.name))


def _log_change(workload: Workload, previous: Snapshot | None, snapshot: Snapshot | None) -> None:
    """Log when a plan by service level stops using the forecast, and when it resumes."""
    before = OK if previous is None else previous.status
    if workload.goal is None or snapshot is None or snapshot.status.code is before.code:
        return
    now = snapshot.status
    fields = of_many(workload.name, status=now.code)
    if now.is_ok:
        log.info("the forecast is what is planned for now", extra=fields)
        return
    level = logging.INFO if now.code in STARTING else logging.WARNING
    log.log(
        level,
        "%s: %s; falls back to a naive forecast (the last value) until then",
        now.code,
        now.reason,
        extra=fields,
    )
