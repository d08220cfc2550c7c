# SPDX-License-Identifier: Apache-2.0
"""The composition root: settings -> parts -> `App`. Every part is made here, and handed what it needs."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import attrs
import httpx

from kedastral.adapters.http_auth import BearerAuth, find_token, read_token
from kedastral.adapters.http_client import open_client
from kedastral.adapters.http_model import HttpForecaster, open_model_client
from kedastral.adapters.in_process import InProcessForecaster
from kedastral.adapters.prometheus import PrometheusSource, RangeQuery
from kedastral.adapters.prometheus_access import PrometheusAccess, open_prometheus_client
from kedastral.app import App, GrpcPart, HttpPart, Ticking
from kedastral.client import RemoteSnapshots
from kedastral.clock import SystemClock, WallClock
from kedastral.config.fields import remedy_of
from kedastral.config.fleet_settings import WorkloadSettings
from kedastral.config.settings import DemoSettings, ForecasterSettings, RunSettings, ScalerSettings
from kedastral.config.source_settings import PrometheusLogin
from kedastral.config.tls_settings import GrpcTls, HttpAccess
from kedastral.config.workload_settings import HTTP_MODEL, ForecastSettings
from kedastral.core.ports import Forecaster, MetricSource
from kedastral.core.series import Series
from kedastral.core.serving import StalePolicy
from kedastral.core.steered import SteeredSettings
from kedastral.core.steering import SteeringSettings
from kedastral.core.uncertainty import UncertaintyState
from kedastral.core.warm_up import warm_up
from kedastral.core.workload import Workload
from kedastral.errors import ConfigError
from kedastral.listening import open_listener
from kedastral.metrics import Metrics
from kedastral.models import MODELS
from kedastral.services.directory import FixedDirectory, RemoteDirectory
from kedastral.services.external_scaler import ExternalScaler
from kedastral.services.forecaster import ForecastLoop, ForgivingTick, HeadroomPlanner, Planner, ServiceLevelPlanner
from kedastral.services.measured import MeasuredForecaster, MeasuredPlanner, MeasuredSource
from kedastral.services.readiness import Readiness
from kedastral.services.scaler import Scaler
from kedastral.services.snapshot_api import SnapshotView, create_app
from kedastral.services.token_gate import TokenGate
from kedastral.storage.memory import MemoryStore
from kedastral.tls import RotatingContext, TlsFiles, make_client_context, make_server_context

ForecastingSettings = RunSettings | ForecasterSettings | DemoSettings
"""The settings of the commands that forecast."""


@attrs.frozen
class Common:
    """What every part of one process shares, and the stack that closes it all in the end."""

    clock: WallClock
    stack: AsyncExitStack
    metrics: Metrics = attrs.field(factory=Metrics)


@asynccontextmanager
async def open_run(settings: RunSettings) -> AsyncIterator[App]:
    """`kedastral run`: forecaster, snapshot server and scaler in one. Raises BindError, ConfigError."""
    async with AsyncExitStack() as stack:
        common = Common(SystemClock(), stack)
        source = await _open_prometheus(settings, stack)
        yield await assemble_run(settings, source, common)


@asynccontextmanager
async def open_forecaster(settings: ForecasterSettings) -> AsyncIterator[App]:
    """`kedastral forecaster`: forecasts and shows them over HTTP. Raises BindError, ConfigError."""
    async with AsyncExitStack() as stack:
        common = Common(SystemClock(), stack)
        source = await _open_prometheus(settings, stack)
        store = MemoryStore()
        readiness = Readiness.of({"http"})
        stale = StalePolicy(settings.stale.stale_after)
        view = SnapshotView(store, lambda _: stale, common.clock)
        yield App(
            clock=common.clock,
            metrics=common.metrics,
            readiness=readiness,
            http=_make_http(view, readiness, common, settings, settings.http_access),
            ticking=[await _make_ticking(settings, source, store, common)],
        )


@asynccontextmanager
async def open_scaler(settings: ScalerSettings) -> AsyncIterator[App]:
    """`kedastral scaler`: answers KEDA from a forecaster's snapshots. Raises BindError, ConfigError."""
    async with AsyncExitStack() as stack:
        common = Common(SystemClock(), stack)
        client = await stack.enter_async_context(_open_remote(settings))
        default = settings.name.workload
        reader = RemoteSnapshots(client, common.metrics, (default,) if default else ())
        policy, readiness = settings.stale.policy(), Readiness.of({"http", "grpc"})
        scaler = Scaler(reader, common.clock, RemoteDirectory(reader, policy, default))
        grpc = _make_grpc(scaler, common, settings, settings.grpc_tls.files)
        view = SnapshotView(reader, scaler.policy_of, common.clock)
        http = _make_http(view, readiness, common, settings, settings.http_access, serves_forecasts=False)
        yield App(
            clock=common.clock,
            metrics=common.metrics,
            readiness=readiness,
            http=http,
            grpc=grpc,
            background=[reader.run, grpc.service.board.run],
        )


async def assemble_run(settings: RunSettings | DemoSettings, source: MetricSource, common: Common) -> App:
    """The single process around any metric source; the demo uses it with one of its own."""
    store = MemoryStore()
    policy, readiness = settings.stale.policy(), Readiness.of({"http", "grpc"})
    scaler = Scaler(store, common.clock, FixedDirectory.of(_name_of(settings), policy=policy))
    # the demo is for looking at: plain text for everybody
    tls, access = (
        (settings.grpc_tls, settings.http_access) if isinstance(settings, RunSettings) else (GrpcTls(), HttpAccess())
    )
    grpc = _make_grpc(scaler, common, settings, tls.files)
    view = SnapshotView(store, scaler.policy_of, common.clock)
    return App(
        clock=common.clock,
        metrics=common.metrics,
        readiness=readiness,
        http=_make_http(view, readiness, common, settings, access),
        grpc=grpc,
        ticking=[await _make_ticking(settings, source, store, common)],
        background=[grpc.service.board.run],
    )


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


def _name_of(settings: ForecastingSettings) -> str:
    return settings.name.workload if isinstance(settings, DemoSettings) else _only_workload(settings).key


def _only_workload(settings: RunSettings | ForecasterSettings) -> WorkloadSettings:
    workloads = list(settings.fleet.settings.workloads.values())
    if len(workloads) != 1:
        raise ConfigError([f"--config names {len(workloads)} workloads; this version runs one"])
    return workloads[0]


async def _open_prometheus(settings: RunSettings | ForecasterSettings, stack: AsyncExitStack) -> MetricSource:
    workload = _only_workload(settings)
    data = settings.fleet.settings.sources[workload.data_source]
    client = await stack.enter_async_context(open_prometheus_client(prometheus_access(data.url, data.login)))
    forecast = workload.forecast
    query = RangeQuery(workload.query, forecast.history_window, forecast.step, workload.stale.stale_after)
    return PrometheusSource(client, query)


async def _open_forecaster(forecast: ForecastSettings, stack: AsyncExitStack) -> Forecaster:
    if forecast.model == HTTP_MODEL and forecast.model_url is not None:
        client = await stack.enter_async_context(open_model_client(forecast.model_url))
        return HttpForecaster(client, forecast.model_timeout)
    kind = MODELS[str(forecast.model)]
    return InProcessForecaster(kind.make(forecast.timezone), in_thread=kind.heavy)


async def _make_ticking(
    settings: ForecastingSettings, source: MetricSource, store: MemoryStore, common: Common
) -> Ticking:
    workload = _workload_of(settings)
    loop = ForecastLoop(
        workload=workload,
        source=MeasuredSource(source, common.metrics),
        forecaster=MeasuredForecaster(await _open_forecaster(settings.forecast, common.stack), common.metrics),
        store=store,
        clock=common.clock,
        planner=MeasuredPlanner(_make_planner(workload, settings.forecast), common.metrics),
    )
    return Ticking(ForgivingTick(loop, common.metrics.count_error), settings.forecast.interval)


def _workload_of(settings: ForecastingSettings) -> Workload:
    serving, policy = settings.serving, settings.plan.policy()
    floor = serving.reactive_headroom if serving.reactive_floor else None
    steering = SteeringSettings(policy, settings.level.service_level, serving.lead_time, settings.stale.stale_after)
    kind = MODELS.get(str(settings.forecast.model))
    return Workload(
        name=_name_of(settings),
        metric=settings.forecast.metric,
        steps=settings.forecast.steps,
        lead_time=serving.lead_time,
        policy=policy,
        reactive_headroom=floor,
        steered=SteeredSettings(steering, settings.plan.headroom, floor) if kind is not None and kind.steered else None,
    )


def _make_planner(workload: Workload, forecast: ForecastSettings) -> Planner:
    steered = workload.steered
    if steered is None:
        return HeadroomPlanner(workload)

    def learn_uncertainty(history: Series) -> UncertaintyState:
        model = MODELS[str(forecast.model)].make(forecast.timezone)
        return warm_up(model, history, workload.steps, steered.window(history.step))

    return ServiceLevelPlanner(workload, learn_uncertainty)


def _make_grpc(
    scaler: Scaler, common: Common, settings: RunSettings | DemoSettings | ScalerSettings, files: TlsFiles | None
) -> GrpcPart:
    tls = _make_server_tls("gRPC", files, "h2")
    listener = open_listener(settings.listeners.grpc_listen, remedy_of(settings, "grpc_listen"))
    common.stack.callback(listener.close)
    return GrpcPart(ExternalScaler(scaler, common.metrics), listener, settings.listeners.grpc_reflection, tls)


def _make_server_tls(server: str, files: TlsFiles | None, protocol: str) -> ssl.SSLContext | None:
    return None if files is None else RotatingContext(server, files, partial(make_server_context, alpn=[protocol]))


def _make_http(
    view: SnapshotView,
    readiness: Readiness,
    common: Common,
    settings: ForecastingSettings | ScalerSettings,
    access: HttpAccess,
    *,
    serves_forecasts: bool = True,
) -> HttpPart:
    tls = _make_server_tls("HTTP", access.files, "http/1.1")
    token = find_token("HTTP token", access.http_token, access.http_token_file)
    gate = None if token is None else TokenGate(partial(read_token, token))
    listener = open_listener(settings.listeners.http_listen, remedy_of(settings, "http_listen"))
    common.stack.callback(listener.close)
    common.metrics.show_snapshots(view.reader, common.clock)
    app = create_app(view, readiness, common.metrics.registry, serves_forecasts=serves_forecasts, gate=gate)
    return HttpPart(app, listener, tls)


def _open_remote(settings: ScalerSettings) -> httpx.AsyncClient:
    access = settings.remote_access
    token = find_token("forecaster token", access.forecaster_token, access.forecaster_token_file)
    make = partial(make_client_context, public=httpx.create_ssl_context)
    return open_client(
        settings.remote.forecaster_url,
        auth=None if token is None else BearerAuth(token),
        verify=RotatingContext("the forecaster", access.files, make) if access.files != TlsFiles() else True,
    )
