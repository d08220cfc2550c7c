# SPDX-License-Identifier: Apache-2.0
"""The tick: history -> forecast -> plan -> snapshot -> store, for one workload."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import attrs

from kedastral.clock import WallClock
from kedastral.core.data_quality.lost_series import LostSeries, SeriesWatch
from kedastral.core.data_quality.outliers import Outliers, screen
from kedastral.core.data_quality.raw_counter import CounterWatch, RawCounter
from kedastral.core.explain import find_reason
from kedastral.core.forecast import Forecast
from kedastral.core.planning.planner import Workload, plan_step, plan_step_without_model
from kedastral.core.planning.status import OK, StatusCode, model_failed
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.ports import Forecaster, MetricSource, SnapshotStore
from kedastral.core.series import Series
from kedastral.core.serving import Mode, OnStale, Snapshot, decide, replicas_at
from kedastral.errors import ModelError, StoreError, WorkloadError
from kedastral.logs import of_many
from kedastral.serving.metrics import Metrics, observe_seconds
from kedastral.tracing import NO_TRACING, Tracing

log = logging.getLogger("kedastral.forecaster")

STARTING = {StatusCode.LEARNING, StatusCode.TOO_LITTLE_HISTORY}
"""Statuses that are normal after a start and go away by themselves."""


QUIET = timedelta(hours=1)
"""Outliers no further apart than this are logged once."""


def _nothing_learnt() -> None:
    pass


def _nobody_knows() -> None:
    pass


def _ignore(_seconds: float) -> None:
    pass


def _forget(_history: Series, _snapshot: Snapshot) -> None:
    pass


@attrs.frozen
class Planner:
    """`plan_step` for one workload, timed, with a log line when the forecast's status changes.

    ``learnt`` returns the uncertainty found when the model was fitted. ``observe`` gets the seconds that each plan
    took. ``served`` returns what KEDA was last told before the process started; None if unknown. ``tracing`` gets a
    span for each plan.
    """

    workload: Workload
    learnt: Callable[[], UncertaintyState | None] = _nothing_learnt
    observe: Callable[[float], None] = _ignore
    served: Callable[[], int | None] = _nobody_knows
    tracing: Tracing = NO_TRACING

    def plan(self, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
        """The snapshot to publish after ``previous``."""
        with self.tracing.span("plan", {}), observe_seconds(self.observe):
            snapshot = plan_step(self.workload, history, forecast, previous, self.learnt(), self.served())
            self._log_change(previous, snapshot)
        return snapshot

    def plan_without_model(
        self, history: Series, made_at: datetime, failure: ModelError, previous: Snapshot | None
    ) -> Snapshot | None:
        """The snapshot to publish while the model fails; None: publish nothing."""
        status = model_failed(failure)
        snapshot = plan_step_without_model(
            self.workload, history, made_at, status, previous, self.learnt(), self.served()
        )
        self._log_change(previous, snapshot)
        return snapshot

    def _log_change(self, previous: Snapshot | None, snapshot: Snapshot | None) -> None:
        """Log when a plan by service level stops using the forecast, and when it resumes."""
        before = OK if previous is None else previous.status
        if self.workload.service_level is None or snapshot is None or snapshot.status.code is before.code:
            return
        now = snapshot.status
        fields = of_many(self.workload.name, status=now.code)
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


@attrs.frozen
class _Findings:
    """What is odd about a workload's history; each is explained at `Snapshot`."""

    outliers: Outliers | None
    lost_series: LostSeries | None
    raw_counter: bool


@attrs.frozen
class ForecastLoop:
    """One workload's tick and its parts.

    ``remember`` gets the inputs of each published plan, for charts; ``tracing`` gets a span for each publication.
    ``series`` watches how many series are summed; ``counter`` recognises a raw counter by its values.
    """

    workload: Workload
    source: MetricSource
    forecaster: Forecaster
    store: SnapshotStore
    clock: WallClock
    planner: Planner = attrs.field()
    remember: Callable[[Series, Snapshot], None] = _forget
    tracing: Tracing = NO_TRACING
    series: SeriesWatch = attrs.field(factory=SeriesWatch)
    counter: CounterWatch = attrs.field(factory=CounterWatch)

    @planner.default
    def _default_planner(self) -> Planner:
        return Planner(self.workload)

    async def tick(self) -> None:
        """Publish one new snapshot. Raises WorkloadError on an expected failure.

        Then nothing is published, unless it was the model that failed: then what can be planned without it. If that
        cannot be published either, the model's error has the store's beside it.
        """
        now = self.clock.now()
        read = await self.source.history(now)
        previous = self.store.previous(self.workload.name)
        history, found = self._examine(read, previous, now)
        try:
            forecast = await self.forecaster.forecast(history, now, self.workload.steps)
        except ModelError as error:  # the floor needs no forecast
            fallback = self.planner.plan_without_model(history, now, error, previous)
            error.followed_by = await self._try_to_publish(fallback, found)
            raise
        snapshot = self.planner.plan(history, forecast, previous)
        await self._publish(snapshot, found)
        self.remember(history, snapshot)

    def _examine(self, read: Series, previous: Snapshot | None, now: datetime) -> tuple[Series, _Findings]:
        """The history without outliers, and what is odd about it; logs what is new."""
        counter = self.counter.observe(read, now)
        self._log_counter(counter)
        screened = screen(read)
        self._log_outliers(screened.outliers, None if previous is None else previous.outliers)
        lost = self._watch_series(screened.history, previous, now)
        return screened.history, _Findings(screened.outliers, lost, counter is not None)

    async def _publish(self, snapshot: Snapshot | None, found: _Findings) -> None:
        if snapshot is None:
            return
        with self.tracing.span("publish", {"kedastral.status": snapshot.status.code}):
            is_newest = await self.store.put(attrs.evolve(snapshot, **attrs.asdict(found, recurse=False)))
        if not is_newest:
            words = "the store has a newer forecast already: another pod made it, or a clock was set back a little"
            raise StoreError(words, reason="older")

    async def _try_to_publish(self, snapshot: Snapshot | None, found: _Findings) -> StoreError | None:
        """`_publish`, but an error is returned: raised, it would take the place of the one that is being dealt with."""
        try:
            await self._publish(snapshot, found)
        except StoreError as error:
            return error
        return None

    def _watch_series(self, history: Series, previous: Snapshot | None, now: datetime) -> LostSeries | None:
        """The series that have disappeared with their load; logs one line each time some disappear."""
        before = self.series.lost
        told = None if previous is None else replicas_at(previous, now)
        lost = self.series.observe(history, told, now)
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
        if counter is not None and not self.counter.is_told:
            self.counter.is_told = True
            log.warning("%s", counter.words, extra=of_many(self.workload.name))

    def _log_outliers(self, now: Outliers | None, before: Outliers | None) -> None:
        """Log one line for outliers after a while without any."""
        if now is None or (before is not None and now.newest.at - before.newest.at < QUIET):
            return
        words = "values far beyond all that this workload does are left out: %d in all, the newest %.6g at %s"
        at = f"{now.newest.at:%Y-%m-%dT%H:%M:%SZ}"
        log.warning(words, now.points, now.newest.value, at, extra=of_many(self.workload.name))


QUIET_CHANGES = timedelta(seconds=30)
"""Changes of what KEDA is told that are no further apart are logged together."""


@attrs.define
class ToldLog:
    """Logs each change of what KEDA is told about a workload, with the reason; at most once in `QUIET_CHANGES`."""

    workload: Workload
    _told: int | None = attrs.field(default=None, init=False)
    _newest: int | None = attrs.field(default=None, init=False)
    _changes: int = attrs.field(default=0, init=False)
    _told_at: datetime | None = attrs.field(default=None, init=False)

    def note(self, snapshot: Snapshot, now: datetime) -> None:
        """Log a change in the answer that ``snapshot`` gives at ``now``; the first answer is not logged.

        The reason is worded as in `kedastral explain`. If KEDA is told no number, nothing has changed for it.
        """
        replicas = decide(snapshot, now, self.workload.stale).replicas
        if replicas is None:
            return
        if self._told is None:
            self._told = self._newest = replicas
        if replicas != self._newest:
            self._newest = replicas
            self._changes += 1
        if self._told_at is not None and abs(now - self._told_at) < QUIET_CHANGES:
            return
        if replicas != self._told:
            others = f" ({self._changes} changes)" if self._changes > 1 else ""
            why = find_reason(snapshot, now, self.workload.stale)
            fields = {"workload": self.workload.name}
            log.info("replicas for KEDA %d -> %d%s: %s", self._told, replicas, others, why, extra=fields)
            self._told, self._told_at = replicas, now
        self._changes = 0


TELL_AGAIN = 600.0
"""Seconds after which a lasting failure is logged again; at each tick, a thousand workloads would flood the log."""


def _nothing() -> None:
    pass


@attrs.define
class GuardedTick:
    """The only place where expected failures of a workload are caught: logged, counted, and left to the next tick.

    ``answers_keda`` says whether this process applies the workload's stale policy, so that it warns about it.
    """

    loop: ForecastLoop
    count_error: Callable[[WorkloadError], None]
    note_success: Callable[[], None] = _nothing
    answers_keda: bool = False
    _failing_since: datetime | None = attrs.field(default=None, init=False)
    _told: dict[tuple[str, str], datetime] = attrs.field(factory=dict, init=False)
    """When each failure of the components that fail now, by component and reason, was last logged as a warning. An
    overloaded source fails for two reasons in turn."""
    _published: bool = attrs.field(default=False, init=False)
    _began: bool = attrs.field(default=False, init=False)
    _warned: bool = attrs.field(default=False, init=False)
    _changes: ToldLog = attrs.field(init=False)

    @_changes.default
    def _make_changes(self) -> ToldLog:
        return ToldLog(self.loop.workload)

    async def tick(self) -> None:
        """`ForecastLoop.tick`, with WorkloadError turned into a log line."""
        name = self.loop.workload.name
        self._begin()
        try:
            await self.loop.tick()
        except WorkloadError as error:
            self.count_error(error)
            self._failing_since = self._failing_since or self.loop.clock.now()
            self._tell_failures(error.chain)
        else:
            self.note_success()
            log.debug("published a forecast", extra={"workload": name})
            if self._failing_since is not None:
                since = f"{self._failing_since:%Y-%m-%dT%H:%M:%SZ}"
                log.info("forecasts again, after failing since %s", since, extra=of_many(name))
                self._failing_since, self._told = None, {}
            self._note_first()
            self._warn_of_default_min()
            self._note_change()

    def _tell_failures(self, errors: Sequence[WorkloadError]) -> None:
        """Log one line for each of ``errors`` when it begins or its reason is new, and every `TELL_AGAIN` seconds."""
        now, failing = self.loop.clock.now(), {error.component for error in errors}
        self._told = {what: at for what, at in self._told.items() if what[0] in failing}
        for error in errors:
            what = (error.component, error.reason)
            told_at = self._told.get(what)
            news = told_at is None or (now - told_at).total_seconds() >= TELL_AGAIN
            if news:
                self._told[what] = now
            self._tell_failure(error, news=news)

    def _tell_failure(self, error: WorkloadError, *, news: bool) -> None:
        name = self.loop.workload.name
        fields = of_many(name, component=error.component, reason=error.reason, err=str(error))
        level = logging.WARNING if news else logging.DEBUG
        log.log(level, "no new forecast", extra=fields, exc_info=_shown(error) if news else None)

    def _begin(self) -> None:
        if self._began:
            return
        self._began = True
        self._published = self._has_published()  # by a predecessor, replaced when the settings changed
        if self.loop.workload.mode is Mode.OBSERVE:
            words = (
                "mode observe: KEDA is told 0, whatever is planned. Alone this trigger would scale to the minimum: "
                "the ScaledObject needs a second one, which then decides alone"
            )
            log.warning(words, extra=of_many(self.loop.workload.name))

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
        log.info(words, load, replicas, extra=of_many(snapshot.workload))

    def _note_change(self) -> None:
        """Log a change of what KEDA is told, if this process answers KEDA."""
        snapshot = self.loop.store.get(self.loop.workload.name)
        if self.answers_keda and snapshot is not None and self._published and snapshot.mode is Mode.SCALE:
            self._changes.note(snapshot, self.loop.clock.now())

    def _warn_of_default_min(self) -> None:
        """Log one line as soon as a plan asks for more than KEDA would be told during a Prometheus outage."""
        workload, snapshot = self.loop.workload, self.loop.store.get(self.loop.workload.name)
        stale, is_observed = workload.stale, workload.mode is Mode.OBSERVE
        if self._warned or snapshot is None or not self.answers_keda or is_observed:
            return
        replicas = replicas_at(snapshot, self.loop.clock.now())
        if stale.on_stale is OnStale.DEFAULT_MIN and replicas > stale.default_min:
            self._warned = True
            words = (
                "on-stale is default-min: without a new forecast for %g s KEDA is told %d replicas, and the plan says "
                "%d now; ride-forecast would keep to the plan (--on-stale, or onStale where the workload is described)"
            )
            log.warning(words, stale.stale_after, stale.default_min, replicas, extra=of_many(workload.name))


def _shown(error: WorkloadError) -> WorkloadError | None:
    """``error`` if its traceback should be shown: for a bug in a model. An expected failure's message says it all."""
    return error if error.reason == "exception" else None


# The ports, timed, so that the tick itself need not know about metrics.


@attrs.define
class MeasuredSource:
    """A metric source whose reads are timed, including failed ones; it knows whether one is in progress."""

    source: MetricSource
    metrics: Metrics
    tracing: Tracing = NO_TRACING
    is_reading: bool = attrs.field(default=False, init=False)

    @property
    def name(self) -> str:
        """The source's own name."""
        return self.source.name

    async def history(self, now: datetime) -> Series:
        """See `MetricSource.history`."""
        self.is_reading = True
        try:
            span = self.tracing.span("query", {"kedastral.source": self.name})
            with span, observe_seconds(self.metrics.collect_seconds.labels(self.name).observe):
                return await self.source.history(now)
        finally:
            self.is_reading = False


@attrs.frozen
class MeasuredForecaster:
    """A forecaster whose forecasts are timed, including failed ones."""

    forecaster: Forecaster
    metrics: Metrics
    tracing: Tracing = NO_TRACING

    @property
    def name(self) -> str:
        """The forecaster's own name."""
        return self.forecaster.name

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `Forecaster.forecast`."""
        span = self.tracing.span("forecast", {"kedastral.model": self.name})
        with span, observe_seconds(self.metrics.predict_seconds.labels(self.name).observe):
            return await self.forecaster.forecast(history, made_at, steps)
