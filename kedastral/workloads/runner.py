# SPDX-License-Identifier: Apache-2.0
"""`RunnerBuilder` makes a `WorkloadRunner`, a running workload, from its settings, and reuses parts that still fit."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, tzinfo
from functools import partial

import attrs
import httpx
import trio

from kedastral.adapters.http_model import HttpForecaster, open_model_client
from kedastral.adapters.in_process import InferenceOnly, InProcessForecaster
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.clock import WallClock
from kedastral.core.data_quality.lost_series import SeriesWatch
from kedastral.core.data_quality.raw_counter import CounterWatch
from kedastral.core.failures import LastFailure
from kedastral.core.kept_state import SettingsChange, StateBasis, starts_afresh
from kedastral.core.model import Model, TrainableModel
from kedastral.core.planning.calibration import warm_up
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelSettings
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.ports import Forecaster, MetricSource, SnapshotStore
from kedastral.core.series import Series
from kedastral.core.serving import told_by_plan
from kedastral.errors import WorkloadError
from kedastral.logs import of_many
from kedastral.models import MODELS
from kedastral.serving.metrics import Metrics, observe_seconds
from kedastral.serving.recent import RecentLoads
from kedastral.settings.declarations import HTTP_MODEL, ForecastSettings
from kedastral.settings.effect import describe_changes
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.promql import find_raw_counter
from kedastral.tracing import NO_TRACING, Tracing
from kedastral.workloads.data_sources import DataSourceConnection, DataSources
from kedastral.workloads.guarded_tick import GuardedTick, log_mode
from kedastral.workloads.measured import MeasuredForecaster, MeasuredSource
from kedastral.workloads.planning_settings import basis_of, workload_of
from kedastral.workloads.tick import ForecastLoop, Planner
from kedastral.workloads.training import Train, TrainedForecaster, TrainingQueue

MAX_COMPUTING_THREADS = 1
"""Models that run at once, in a thread: more would only compete with each other and the event loop for the GIL."""

CHANGES_SHOWN = 6
"""Changed settings that the log names."""

log = logging.getLogger("kedastral.config")

LastServed = Callable[[str], int | None]
"""What KEDA was last told for the workload with this key before the process started; None if unknown."""

OpenSource = Callable[[WorkloadSettings], MetricSource]
"""Opens a metric source other than Prometheus, as in the demo."""


@attrs.frozen
class SourceIdentity:
    """All that a metric source and its history depend on."""

    connection: DataSourceConnection | None
    query: RangeQuery


@attrs.frozen
class ForecasterIdentity:
    """All that a forecaster and what it has learnt depend on."""

    model: str
    url: str | None
    timeout: float
    timezone: tzinfo
    source: SourceIdentity


@attrs.frozen(eq=False)
class RunnerParts:
    """The parts of a running workload, each with its identity: a successor with an equal one takes over the part."""

    source_identity: SourceIdentity
    source: MetricSource
    forecaster_identity: ForecasterIdentity
    forecaster: Forecaster
    model_client: httpx.AsyncClient | None = None


@attrs.frozen(eq=False)
class WorkloadRunner:
    """A running workload, made from ``settings``; a change of settings makes a successor.

    ``workload`` is what planning uses of them; its fingerprint goes with the plans.
    ``close(successor)`` releases what the successor (None: there is none) does not take over.
    ``reads_unused_history(successor)`` says whether a running tick is still reading a history that the successor does
    not use: then it may be cancelled. ``take_over(before)`` adapts what ``before`` has published to this runner's
    settings: it is called after the last tick of ``before`` and before the first one of this runner. ``series`` watches
    how many series are summed. ``failed`` is why the newest tick gave no forecast; ``ticked`` is set when the first
    tick has ended.
    """

    settings: WorkloadSettings
    workload: Workload
    parts: RunnerParts
    tick: Callable[[], Awaitable[None]]
    close: Callable[["WorkloadRunner | None"], Awaitable[None]]
    reads_unused_history: Callable[["WorkloadRunner | None"], bool]
    take_over: Callable[["WorkloadRunner"], None] = lambda _before: None
    series: SeriesWatch = attrs.field(factory=SeriesWatch)
    failed: LastFailure = attrs.field(factory=LastFailure)
    ticked: trio.Event = attrs.field(factory=trio.Event)

    @property
    def key(self) -> str:
        """The workload's key: ``namespace/name``, or a name alone."""
        return self.settings.key

    @property
    def interval(self) -> float:
        """Seconds of wall time between two ticks."""
        return self.settings.forecast.interval

    @property
    def basis(self) -> StateBasis:
        """What the meaning of this workload's state depends on."""
        return basis_of(self.settings, self.parts.source_identity.connection)

    async def tick_once(self) -> None:
        """`tick`, and set ``ticked`` however it ends."""
        try:
            await self.tick()
        finally:
            self.ticked.set()


@attrs.frozen(eq=False)
class RunnerBuilder:
    """Makes runners that publish to ``store``. They read Prometheus, or what ``open_source`` opens.

    If ``store`` has no snapshot of a workload made since the start, ``last_served`` returns what KEDA was told before.
    ``answers_keda`` says whether this process tells KEDA what the runners plan. ``recent`` keeps the last hours.
    ``tracing`` gets a span for each tick and its parts.
    """

    store: SnapshotStore
    clock: WallClock
    metrics: Metrics
    sources: DataSources = attrs.field(factory=DataSources)
    open_source: OpenSource | None = None
    computing: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(MAX_COMPUTING_THREADS))
    training: TrainingQueue = attrs.field(factory=TrainingQueue)
    last_served: LastServed = lambda _key: None
    answers_keda: bool = False
    tracing: Tracing = NO_TRACING
    recent: RecentLoads = attrs.field()

    @recent.default
    def _keep_recent_loads(self) -> RecentLoads:
        return RecentLoads(lambda workload: self.store.get(workload) is not None)

    def build(self, settings: WorkloadSettings, before: WorkloadRunner | None = None) -> WorkloadRunner:
        """A runner for ``settings`` that continues from ``before``. Raises ConfigError, and then leaves nothing open.

        History is kept if the query, its data source and its window stay the same; what the model has learnt is kept if
        the model does as well.
        """
        connection = self.sources.find(settings.data_source) if self.open_source is None else None
        workload, basis = workload_of(settings, connection), basis_of(settings, connection)
        parts = self._make_parts(settings, workload, connection, None if before is None else before.parts)
        source = MeasuredSource(parts.source, self.metrics, self.tracing)
        same_load = before is not None and before.basis.history == basis.history
        series = before.series if before is not None and same_load else SeriesWatch()
        answered = before is not None and before.parts.source is parts.source and before.failed.answered
        failed = LastFailure(answered)
        loop = self._make_loop(settings, workload, source, parts.forecaster, series)
        guarded = GuardedTick(loop, partial(self._note_failure, failed), failed.note_success, self.answers_keda)
        return WorkloadRunner(
            settings=settings,
            workload=workload,
            parts=parts,
            tick=self._traced(workload.name, guarded),
            close=partial(self._close, parts),
            reads_unused_history=partial(_reads_unused_history, source, parts),
            take_over=partial(self._take_over, settings, parts, workload),
            series=series,
            failed=failed,
        )

    def _traced(self, workload: str, guarded: GuardedTick) -> Callable[[], Awaitable[None]]:
        """The tick inside a span; without tracing, the tick itself."""
        if not self.tracing.is_on:
            return guarded.tick

        async def tick() -> None:
            with self.tracing.span("tick", {"kedastral.workload": workload}):
                await guarded.tick()

        return tick

    def is_current(self, runner: WorkloadRunner, settings: WorkloadSettings) -> bool:
        """Whether ``runner`` is what `build` would make: with equal settings and the source as configured now."""
        connection = runner.parts.source_identity.connection
        same_source = connection is None or self.sources.is_current(settings.data_source, connection)
        return same_source and runner.settings == settings

    def _note_failure(self, failed: LastFailure, error: WorkloadError) -> None:
        """Count ``error``, and keep it as the reason why the newest tick gave no forecast."""
        self.metrics.count_error(error)
        failed.note(error, self.clock.now())
        for one in error.chain:
            self.tracing.note_failure(one)

    def _take_over(
        self, settings: WorkloadSettings, parts: RunnerParts, workload: Workload, before: WorkloadRunner
    ) -> None:
        """Adapt what ``before`` has published to ``settings``, with their ``parts`` and ``workload``."""
        now, basis = self.clock.now(), basis_of(settings, parts.source_identity.connection)
        told = told_by_plan(self.store.get(workload.name), now, before.workload.stale)
        self.store.revise(workload.name, SettingsChange(before.basis, basis, workload, told, now).adapt)
        afresh = starts_afresh(
            before.basis,
            basis,
            same_source=parts.source is before.parts.source,
            same_model=parts.forecaster is before.parts.forecaster,
        )
        if parts.forecaster is before.parts.forecaster and not basis.same_calibration(before.basis):
            self._recalibrate(parts.forecaster, settings.forecast, workload.service_level)
        _log_settings(before.settings, settings, afresh)
        log_mode(before.settings.serving.mode, workload, self.store.get(workload.name), now)

    def _recalibrate(
        self, forecaster: Forecaster, forecast: ForecastSettings, service_level: ServiceLevelSettings | None
    ) -> None:
        """Let a forecaster that was taken over find its uncertainty over the windows of ``service_level``."""
        if isinstance(forecaster, TrainedForecaster) and forecaster.model is not None and service_level is not None:
            forecaster.replace_training(*self._training_of(forecaster.model, forecast, service_level))

    async def _close(self, parts: RunnerParts, successor: WorkloadRunner | None) -> None:
        kept = None if successor is None else successor.parts
        if isinstance(parts.forecaster, TrainedForecaster) and (
            kept is None or kept.forecaster is not parts.forecaster
        ):
            parts.forecaster.cancel_training()
        if parts.source_identity.connection is not None:
            await self.sources.release(parts.source_identity.connection)
        client = parts.model_client
        if client is not None and (kept is None or kept.model_client is not client):
            await client.aclose()

    def _make_loop(
        self,
        settings: WorkloadSettings,
        workload: Workload,
        source: MetricSource,
        forecaster: Forecaster,
        series: SeriesWatch,
    ) -> ForecastLoop:
        return ForecastLoop(
            workload=workload,
            source=source,
            forecaster=MeasuredForecaster(forecaster, self.metrics, self.tracing),
            store=self.store,
            clock=self.clock,
            planner=self._make_planner(workload.name, forecaster),
            remember=self.recent.record,
            tracing=self.tracing,
            series=series,
            counter=CounterWatch(is_logged=find_raw_counter(settings.query) is not None),  # by a warning at the start
        )

    def _make_planner(self, workload: str, forecaster: Forecaster) -> Planner:
        observe, served = self.metrics.plan_seconds.observe, partial(self.last_served, workload)
        if isinstance(forecaster, TrainedForecaster):
            return Planner(forecaster.uncertainty, observe, served, self.tracing)
        return Planner(observe=observe, served=served, tracing=self.tracing)

    def _make_parts(
        self,
        settings: WorkloadSettings,
        workload: Workload,
        connection: DataSourceConnection | None,
        before: RunnerParts | None,
    ) -> RunnerParts:
        forecast = settings.forecast
        query = RangeQuery(
            settings.query, forecast.history_window, forecast.step, settings.stale.stale_after, forecast.settle_after
        )
        source_identity = SourceIdentity(connection, query)
        forecaster_identity = ForecasterIdentity(
            forecast.model, forecast.model_url, forecast.model_timeout, forecast.timezone, source_identity
        )
        if before is not None and before.source_identity == source_identity:
            source = before.source
        else:
            source = self._open_source(settings, source_identity)
        if before is not None and before.forecaster_identity == forecaster_identity:
            forecaster, client = before.forecaster, before.model_client
        else:
            forecaster, client = self._open_forecaster(settings, workload.service_level)
        if connection is not None:  # counted last, when nothing can fail anymore
            self.sources.use(settings.data_source)
        return RunnerParts(source_identity, source, forecaster_identity, forecaster, client)

    def _open_source(self, settings: WorkloadSettings, identity: SourceIdentity) -> MetricSource:
        connection = identity.connection
        if connection is not None:
            timeout = connection.settings.timeout
            return PrometheusSource(connection.client, identity.query, limits=connection.limits, timeout=timeout)
        assert self.open_source is not None  # noqa: S101 - without one there is a connection
        return self.open_source(settings)

    def _open_forecaster(
        self, settings: WorkloadSettings, service_level: ServiceLevelSettings | None
    ) -> tuple[Forecaster, httpx.AsyncClient | None]:
        forecast = settings.forecast
        if forecast.model == HTTP_MODEL and forecast.model_url is not None:
            client = open_model_client(forecast.model_url)
            return HttpForecaster(client, forecast.model_timeout), client
        kind = MODELS[str(forecast.model)]
        model = kind.make(forecast.timezone)
        if service_level is not None and isinstance(model, TrainableModel):
            inference = InProcessForecaster(InferenceOnly(model), self.computing)
            train, calibrate = self._training_of(model, forecast, service_level)
            return TrainedForecaster(inference, train, self.training, model, calibrate), None
        return InProcessForecaster(model, self.computing if kind.heavy else None), None

    def _training_of(
        self, model: TrainableModel, forecast: ForecastSettings, service_level: ServiceLevelSettings
    ) -> tuple[Train, Train]:
        """How ``model`` is trained, and how its uncertainty alone is found, with another model that is then dropped."""

        def learn(learner: Model, history: Series, made_at: datetime, steps: int) -> UncertaintyState:
            window, lead_steps = service_level.window(history.step), service_level.lead_steps(history.step)
            with observe_seconds(self.metrics.learn_seconds.labels(model.name).observe):
                return warm_up(learner, history, steps, window, lead_steps=lead_steps, made_at=made_at)

        def calibrate(history: Series, made_at: datetime, steps: int) -> UncertaintyState:
            return learn(MODELS[model.name].make(forecast.timezone), history, made_at, steps)

        return partial(learn, model), calibrate


def _log_settings(before: WorkloadSettings, now: WorkloadSettings, afresh: Sequence[str]) -> None:
    """Log which settings of a workload have changed, and what starts ``afresh``; a change of mode has its own line."""
    same_mode = attrs.evolve(before, serving=attrs.evolve(before.serving, mode=now.serving.mode))
    changes = describe_changes(same_mode, now)
    if not changes and not afresh:
        return
    more = f" and {len(changes) - CHANGES_SHOWN} more" if len(changes) > CHANGES_SHOWN else ""
    what = ", ".join(changes[:CHANGES_SHOWN]) + more or "its data source has changed"
    words = "new settings: %s; %s"
    goes_on = f"afresh: {', '.join(afresh)}" if afresh else "nothing starts afresh"
    log.info(words, what, goes_on, extra=of_many(now.key))


def _reads_unused_history(source: MeasuredSource, parts: RunnerParts, successor: WorkloadRunner | None) -> bool:
    """Whether a history is being read from ``source`` that the successor does not use."""
    return source.is_reading and (successor is None or successor.parts.source is not parts.source)
