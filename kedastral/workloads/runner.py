# SPDX-License-Identifier: Apache-2.0
"""`RunnerBuilder`: one workload's settings -> the parts of its tick; what still fits is taken over from before."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

import attrs
import httpx
import trio

from kedastral.adapters.http_model import HttpForecaster, open_model_client
from kedastral.adapters.in_process import InferenceOnly, InProcessForecaster
from kedastral.adapters.prometheus.access import PrometheusAccess, open_prometheus_client
from kedastral.adapters.prometheus.limits import RequestLimits
from kedastral.adapters.prometheus.source import PrometheusSource, RangeQuery
from kedastral.clock import WallClock
from kedastral.core.planning.calibration import warm_up
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelSettings, SteeringSettings
from kedastral.core.planning.status import LastFailure
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.ports import Forecaster, MetricSource, SnapshotStore, TrainableModel
from kedastral.core.series import Series
from kedastral.core.snapshot import Mode
from kedastral.errors import WorkloadError
from kedastral.models import MODELS
from kedastral.serving.metrics import Metrics, observe_seconds
from kedastral.settings.declarations import HTTP_MODEL, DataSourceSettings, PrometheusLogin, WorkloadSettings
from kedastral.workloads.fleet import WorkloadRunner
from kedastral.workloads.tick import (
    ForecastLoop,
    GuardedTick,
    HeadroomPlanner,
    MeasuredForecaster,
    MeasuredPlanner,
    MeasuredSource,
    Planner,
    ServiceLevelPlanner,
)
from kedastral.workloads.training import TrainedForecaster, TrainingQueue

COMPUTING = 1
"""Models that compute at once, in a thread: more would only wait for the interpreter, and the event loop for them."""

OpenSource = Callable[[WorkloadSettings], MetricSource]


def no_source(settings: WorkloadSettings) -> MetricSource:
    """Stands for: read the data source that the settings name."""
    raise NotImplementedError


@attrs.define(eq=False)
class DataSourceConnection:
    """The way to one Prometheus, shared by ``users`` members that read it."""

    settings: DataSourceSettings
    client: httpx.AsyncClient
    limits: RequestLimits
    users: int = 0

    @classmethod
    def open(cls, settings: DataSourceSettings) -> "DataSourceConnection":
        """A new one. Raises ConfigError where the settings cannot be used."""
        limits = RequestLimits(settings.max_concurrent, settings.max_per_second)
        return cls(settings, open_prometheus_client(prometheus_access(settings.url, settings.login)), limits)


@attrs.define(eq=False)
class DataSources:
    """The connections to every Prometheus; one that is configured otherwise is kept until its last user is gone."""

    _named: dict[str, DataSourceConnection] = attrs.field(factory=dict, init=False)
    _left_out: list[DataSourceConnection] = attrs.field(factory=list, init=False)
    _retired: list[DataSourceConnection] = attrs.field(factory=list, init=False)

    def replace(self, settings: Mapping[str, DataSourceSettings]) -> Callable[[], None]:
        """Use ``settings`` from now on; what is given back undoes it, until `close_unused` is called.

        Raises ConfigError, and changes nothing, where one of them cannot be used.
        """
        before = self._named
        self._named = {
            name: _same(before.get(name), one) or DataSourceConnection.open(one) for name, one in settings.items()
        }
        gone = [connection for name, connection in before.items() if self._named.get(name) is not connection]
        self._left_out += gone

        def undo() -> None:
            self._left_out = [one for one in self._left_out if one not in gone]
            self._left_out += [one for name, one in self._named.items() if before.get(name) is not one]
            self._named = before

        return undo

    def find(self, name: str) -> DataSourceConnection:
        """The connection called ``name``. Raises KeyError where there is none."""
        return self._named[name]

    def use(self, name: str) -> DataSourceConnection:
        """`find`, for one more user."""
        connection = self.find(name)
        connection.users += 1
        return connection

    def is_current(self, name: str, connection: DataSourceConnection) -> bool:
        """Whether ``connection`` is the one that is called ``name`` now."""
        return self._named.get(name) is connection

    async def leave(self, connection: DataSourceConnection) -> None:
        """One user of ``connection`` is gone."""
        connection.users -= 1
        await self._close_retired()

    async def close_unused(self) -> None:
        """Close what is configured no more, now or with its last user; the newest replacement stays."""
        self._retired, self._left_out = [*self._retired, *self._left_out], []
        await self._close_retired()

    async def _close_retired(self) -> None:
        unused = [one for one in self._retired if not one.users]
        self._retired = [one for one in self._retired if one.users]
        for connection in unused:
            await connection.client.aclose()

    async def close(self) -> None:
        """Close all of them, used or not."""
        everyone = [*self._named.values(), *self._left_out, *self._retired]
        self._named, self._left_out, self._retired = {}, [], []
        for connection in everyone:
            await connection.client.aclose()


@attrs.frozen(eq=False)
class Parts:
    """What a member is made of: what its successor may take over, and what that depends on."""

    read_from: tuple[object, ...]
    source: MetricSource
    forecast_by: tuple[object, ...]
    forecaster: Forecaster
    connection: DataSourceConnection | None
    model_client: httpx.AsyncClient | None


@attrs.frozen(eq=False)
class RunnerBuilder:
    """Makes members that publish to ``store``."""

    store: SnapshotStore
    clock: WallClock
    metrics: Metrics
    sources: DataSources = attrs.field(factory=DataSources)
    open_source: OpenSource = no_source
    computing: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(COMPUTING))
    learning: TrainingQueue = attrs.field(factory=TrainingQueue)

    def build(self, settings: WorkloadSettings, before: WorkloadRunner | None = None) -> WorkloadRunner:
        """A member for ``settings`` that goes on where ``before`` was. Raises ConfigError, and then nothing is open.

        History is kept while what is read stays the same; what the model has learnt while its settings do as well.
        """
        parts = self._parts_of(settings, None if before is None else before.parts)
        workload, source = workload_of(settings), MeasuredSource(parts.source, self.metrics)
        loop = ForecastLoop(
            workload=workload,
            source=source,
            forecaster=MeasuredForecaster(parts.forecaster, self.metrics),
            store=self.store,
            clock=self.clock,
            planner=MeasuredPlanner(make_planner(workload, parts.forecaster), self.metrics),
        )

        asks_the_same = before is not None and before.parts.source is parts.source
        failed = LastFailure(before is not None and asks_the_same and before.failed.answered)

        def note(error: WorkloadError) -> None:
            self.metrics.count_error(error)
            failed.note(error, self.clock.now())

        return WorkloadRunner(
            key=settings.key,
            settings=settings,
            tick=GuardedTick(loop, note, failed.note_success).tick,
            interval=settings.forecast.interval,
            policy=settings.policy(),
            close=partial(self._close, parts),
            parts=parts,
            failed=failed,
            reads_in_vain=lambda successor: source.is_reading and not _passes_on(parts, "source", successor),
        )

    def fits(self, member: WorkloadRunner, settings: WorkloadSettings) -> bool:
        """Whether ``member`` is what `build` would make: of equal settings, and reading the source as it is now."""
        connection = member.parts.connection
        same = connection is None or self.sources.is_current(settings.data_source, connection)
        return bool(member.settings == settings and same)

    async def _close(self, parts: Parts, successor: WorkloadRunner | None) -> None:
        if isinstance(parts.forecaster, TrainedForecaster) and not _passes_on(parts, "forecaster", successor):
            parts.forecaster.drop_lesson()
        if parts.connection is not None:
            await self.sources.leave(parts.connection)
        if parts.model_client is not None and not _passes_on(parts, "model_client", successor):
            await parts.model_client.aclose()

    def _parts_of(self, settings: WorkloadSettings, before: Parts | None) -> Parts:
        forecast = settings.forecast
        connection = self.sources.find(settings.data_source) if self.open_source is no_source else None
        asked = RangeQuery(settings.query, forecast.history_window, forecast.step, settings.stale.stale_after)
        read_from = (connection, asked)
        forecast_by = (forecast.model, forecast.model_url, forecast.model_timeout, forecast.timezone, read_from)
        if before is not None and before.read_from == read_from:
            source = before.source
        elif connection is not None:
            timeout = connection.settings.timeout
            source = PrometheusSource(connection.client, asked, limits=connection.limits, timeout=timeout)
        else:
            source = self.open_source(settings)
        if before is not None and before.forecast_by == forecast_by:
            forecaster, client = before.forecaster, before.model_client
        else:
            forecaster, client = self._open_forecaster(settings)
        if connection is not None:  # nothing can fail any more
            self.sources.use(settings.data_source)
        return Parts(read_from, source, forecast_by, forecaster, connection, client)

    def _open_forecaster(self, settings: WorkloadSettings) -> tuple[Forecaster, httpx.AsyncClient | None]:
        forecast = settings.forecast
        if forecast.model == HTTP_MODEL and forecast.model_url is not None:
            client = open_model_client(forecast.model_url)
            return HttpForecaster(client, forecast.model_timeout), client
        kind = MODELS[str(forecast.model)]
        model, steered = kind.make(forecast.timezone), workload_of(settings).service_level
        if steered is not None and isinstance(model, TrainableModel):
            return self._begin_learning(model, steered), None
        return InProcessForecaster(model, self.computing if kind.heavy else None), None

    def _begin_learning(self, model: TrainableModel, steered: ServiceLevelSettings) -> Forecaster:
        def learn(history: Series, made_at: datetime, steps: int) -> UncertaintyState:
            window, lead_steps = steered.window(history.step), steered.lead_steps(history.step)
            with observe_seconds(self.metrics.learn_seconds.labels(model.name).observe):
                return warm_up(model, history, steps, window, lead_steps=lead_steps, made_at=made_at)

        return TrainedForecaster(InProcessForecaster(InferenceOnly(model), self.computing), learn, self.learning)


def prometheus_access(url: str, login: PrometheusLogin) -> PrometheusAccess:
    """The way to the Prometheus at ``url``, as the settings say."""
    return PrometheusAccess(
        url=url,
        username=login.username,
        password=login.password,
        password_file=login.password_file,
        token=login.token,
        token_file=login.token_file,
        headers=login.headers,
        ca_file=login.ca_file,
        cert_file=login.cert_file,
        key_file=login.key_file,
    )


def _same(connection: DataSourceConnection | None, settings: DataSourceSettings) -> DataSourceConnection | None:
    return connection if connection is not None and connection.settings == settings else None


def _passes_on(parts: Parts, name: str, successor: WorkloadRunner | None) -> bool:
    """Whether the ``successor`` of a member has its part of that ``name`` too."""
    return successor is not None and getattr(successor.parts, name) is getattr(parts, name)


def workload_of(settings: WorkloadSettings) -> Workload:
    """The core's own value of one workload's settings."""
    serving, policy = settings.serving, settings.plan.policy()
    floor = serving.reactive_headroom if serving.reactive_floor else None
    steering = SteeringSettings(
        policy,
        settings.level.service_level,
        serving.lead_time,
        settings.stale.stale_after,
        observing=serving.mode is Mode.OBSERVE,
    )
    steered = ServiceLevelSettings(steering, settings.plan.headroom, floor, interval=settings.forecast.interval)
    kind = MODELS.get(str(settings.forecast.model))
    return Workload(
        name=settings.key,
        metric=settings.forecast.metric,
        steps=settings.forecast.steps,
        lead_time=serving.lead_time,
        policy=policy,
        reactive_headroom=floor,
        service_level=steered if kind is not None and kind.plans_by_service_level else None,
        mode=serving.mode,
    )


def make_planner(workload: Workload, forecaster: Forecaster) -> Planner:
    """How the workload's forecasts become plans: steered to a service level, or by a fixed headroom."""
    if workload.service_level is not None and isinstance(forecaster, TrainedForecaster):
        return ServiceLevelPlanner(workload, forecaster.learnt)
    return HeadroomPlanner(workload)
