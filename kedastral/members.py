# SPDX-License-Identifier: Apache-2.0
"""`MemberBuilder`: one workload's settings -> the parts of its tick; what still fits is taken over from before."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

import attrs
import httpx
import trio

from kedastral.adapters.http_model import HttpForecaster, open_model_client
from kedastral.adapters.in_process import InProcessForecaster, Recalled
from kedastral.adapters.prometheus import PrometheusSource, RangeQuery
from kedastral.adapters.prometheus_access import PrometheusAccess, open_prometheus_client
from kedastral.adapters.request_limits import RequestLimits
from kedastral.clock import WallClock
from kedastral.config.fleet_settings import DataSourceSettings, WorkloadSettings
from kedastral.config.source_settings import PrometheusLogin
from kedastral.config.workload_settings import HTTP_MODEL
from kedastral.core.failure import LastFailure
from kedastral.core.ports import Forecaster, LearningModel, MetricSource, SnapshotStore
from kedastral.core.series import Series
from kedastral.core.snapshot import Mode
from kedastral.core.steered import SteeredSettings
from kedastral.core.steering import SteeringSettings
from kedastral.core.uncertainty import UncertaintyState
from kedastral.core.warm_up import warm_up
from kedastral.core.workload import Workload
from kedastral.errors import WorkloadError
from kedastral.metrics import Metrics, observe_seconds
from kedastral.models import MODELS
from kedastral.services.fleet import Member
from kedastral.services.forecaster import ForecastLoop, ForgivingTick, HeadroomPlanner, Planner, ServiceLevelPlanner
from kedastral.services.learning import LearningForecaster, LearningQueue
from kedastral.services.measured import MeasuredForecaster, MeasuredPlanner, MeasuredSource

COMPUTING = 1
"""Models that compute at once, in a thread: more would only wait for the interpreter, and the event loop for them."""

OpenSource = Callable[[WorkloadSettings], MetricSource]


def no_source(settings: WorkloadSettings) -> MetricSource:
    """Stands for: read the data source that the settings name."""
    raise NotImplementedError


@attrs.define(eq=False)
class Connection:
    """The way to one Prometheus, shared by ``users`` members that read it."""

    settings: DataSourceSettings
    client: httpx.AsyncClient
    limits: RequestLimits
    users: int = 0

    @classmethod
    def open(cls, settings: DataSourceSettings) -> "Connection":
        """A new one. Raises ConfigError where the settings cannot be used."""
        limits = RequestLimits(settings.max_concurrent, settings.max_per_second)
        return cls(settings, open_prometheus_client(prometheus_access(settings.url, settings.login)), limits)


@attrs.define(eq=False)
class DataSources:
    """The connections to every Prometheus; one that is configured otherwise is kept until its last user is gone."""

    _named: dict[str, Connection] = attrs.field(factory=dict, init=False)
    _left_out: list[Connection] = attrs.field(factory=list, init=False)
    _retired: list[Connection] = attrs.field(factory=list, init=False)

    def replace(self, settings: Mapping[str, DataSourceSettings]) -> Callable[[], None]:
        """Use ``settings`` from now on; what is given back undoes it, until `close_unused` is called.

        Raises ConfigError, and changes nothing, where one of them cannot be used.
        """
        before = self._named
        self._named = {name: _same(before.get(name), one) or Connection.open(one) for name, one in settings.items()}
        gone = [connection for name, connection in before.items() if self._named.get(name) is not connection]
        self._left_out += gone

        def undo() -> None:
            self._left_out = [one for one in self._left_out if one not in gone]
            self._left_out += [one for name, one in self._named.items() if before.get(name) is not one]
            self._named = before

        return undo

    def find(self, name: str) -> Connection:
        """The connection called ``name``. Raises KeyError where there is none."""
        return self._named[name]

    def use(self, name: str) -> Connection:
        """`find`, for one more user."""
        connection = self.find(name)
        connection.users += 1
        return connection

    def is_current(self, name: str, connection: Connection) -> bool:
        """Whether ``connection`` is the one that is called ``name`` now."""
        return self._named.get(name) is connection

    async def leave(self, connection: Connection) -> None:
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
    connection: Connection | None
    model_client: httpx.AsyncClient | None


@attrs.frozen(eq=False)
class MemberBuilder:
    """Makes members that publish to ``store``."""

    store: SnapshotStore
    clock: WallClock
    metrics: Metrics
    sources: DataSources = attrs.field(factory=DataSources)
    open_source: OpenSource = no_source
    computing: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(COMPUTING))
    learning: LearningQueue = attrs.field(factory=LearningQueue)

    def build(self, settings: WorkloadSettings, before: Member | None = None) -> Member:
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

        return Member(
            key=settings.key,
            settings=settings,
            tick=ForgivingTick(loop, note, failed.note_success).tick,
            interval=settings.forecast.interval,
            policy=settings.policy(),
            close=partial(self._close, parts),
            parts=parts,
            failed=failed,
            reads_in_vain=lambda successor: source.is_reading and not _passes_on(parts, "source", successor),
        )

    def fits(self, member: Member, settings: WorkloadSettings) -> bool:
        """Whether ``member`` is what `build` would make: of equal settings, and reading the source as it is now."""
        connection = member.parts.connection
        same = connection is None or self.sources.is_current(settings.data_source, connection)
        return bool(member.settings == settings and same)

    async def _close(self, parts: Parts, successor: Member | None) -> None:
        if isinstance(parts.forecaster, LearningForecaster) and not _passes_on(parts, "forecaster", successor):
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
        model, steered = kind.make(forecast.timezone), workload_of(settings).steered
        if steered is not None and isinstance(model, LearningModel):
            return self._begin_learning(model, steered), None
        return InProcessForecaster(model, self.computing if kind.heavy else None), None

    def _begin_learning(self, model: LearningModel, steered: SteeredSettings) -> Forecaster:
        def learn(history: Series, made_at: datetime, steps: int) -> UncertaintyState:
            window, touched = steered.window(history.step), steered.touched(history.step)
            with observe_seconds(self.metrics.learn_seconds.labels(model.name).observe):
                return warm_up(model, history, steps, window, touched=touched, made_at=made_at)

        return LearningForecaster(InProcessForecaster(Recalled(model), self.computing), learn, self.learning)


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


def _same(connection: Connection | None, settings: DataSourceSettings) -> Connection | None:
    return connection if connection is not None and connection.settings == settings else None


def _passes_on(parts: Parts, name: str, successor: Member | None) -> bool:
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
    steered = SteeredSettings(steering, settings.plan.headroom, floor, interval=settings.forecast.interval)
    kind = MODELS.get(str(settings.forecast.model))
    return Workload(
        name=settings.key,
        metric=settings.forecast.metric,
        steps=settings.forecast.steps,
        lead_time=serving.lead_time,
        policy=policy,
        reactive_headroom=floor,
        steered=steered if kind is not None and kind.steered else None,
        mode=serving.mode,
    )


def make_planner(workload: Workload, forecaster: Forecaster) -> Planner:
    """How the workload's forecasts become plans: steered to a service level, or by a fixed headroom."""
    if workload.steered is not None and isinstance(forecaster, LearningForecaster):
        return ServiceLevelPlanner(workload, forecaster.learnt)
    return HeadroomPlanner(workload)
