# SPDX-License-Identifier: Apache-2.0
"""The composition root: settings -> parts -> `App`. Every part is made here, and gets what it needs."""

import logging
import os
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import attrs
import httpx

from kedastral.adapters.http import BearerAuth, find_token, open_client, read_token
from kedastral.adapters.state_directory import StateDirectory
from kedastral.app import App, GrpcPart, HttpPart, Service
from kedastral.clock import SystemClock, WallClock
from kedastral.core.ports import SnapshotStore, StateStore
from kedastral.serving.listening import open_listener
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.readiness import Readiness
from kedastral.serving.remote import KEEP_ALIVE, RemoteSnapshots, SnapshotServer
from kedastral.serving.scaler import ExternalScaler, Scaler
from kedastral.serving.shared_store import SharedSnapshots, SharedStore, Terms
from kedastral.serving.snapshot_api import create_app
from kedastral.serving.store import MemoryStore
from kedastral.serving.token_gate import TokenGate
from kedastral.serving.traced_scaler import TracedScaler
from kedastral.serving.view import SnapshotView
from kedastral.serving.workloads_api import SettingInForce, WorkloadsView
from kedastral.settings.commands import DemoSettings, ForecasterSettings, RunSettings, ScalerSettings
from kedastral.settings.declarations import (
    GrpcTls,
    HttpAccess,
    RemoteAccess,
    StateSettings,
    StorageKind,
    StorageSettings,
)
from kedastral.settings.effect import show_in_effect
from kedastral.settings.files import look_at
from kedastral.settings.fleet import ConfiguredFleet, FleetSettings, WorkloadSettings
from kedastral.settings.schema import Setting, remedy_of, settings_of
from kedastral.tls import RotatingContext, TlsFiles, make_client_context, make_server_context
from kedastral.tracing import NO_TRACING, Tracing
from kedastral.workloads.data_sources import DataSources
from kedastral.workloads.division import Division
from kedastral.workloads.fleet import Fleet
from kedastral.workloads.forecasting import Forecasting
from kedastral.workloads.keeping import StateKeeper
from kedastral.workloads.reload import Reloader
from kedastral.workloads.resolver import RemoteResolver
from kedastral.workloads.runner import OpenSource, RunnerBuilder
from kedastral.workloads.scaledobject_workloads import FleetResolver, TriggerReader

log = logging.getLogger("kedastral.compose")

ForecastingSettings = RunSettings | ForecasterSettings | DemoSettings
"""The settings of the commands that forecast."""


@attrs.frozen
class Common:
    """What the parts of one process share, and the stack that closes them at the end."""

    clock: WallClock
    stack: AsyncExitStack
    metrics: Metrics = attrs.field(factory=Metrics)
    tracing: Tracing = NO_TRACING


def _open_common(stack: AsyncExitStack) -> Common:
    """What the parts of a process that serves a cluster share."""
    tracing = open_tracing(os.environ)
    stack.push_async_callback(tracing.close)
    return Common(SystemClock(), stack, tracing=tracing)


def open_tracing(environ: Mapping[str, str]) -> Tracing:
    """Traces if OpenTelemetry's variables say where to send them and `kedastral[otel]` is installed."""
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = next((name for name in endpoints if environ.get(name)), None)
    is_off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    if endpoint is None or is_off:
        return NO_TRACING
    protocols = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((environ[name] for name in protocols if environ.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        log.warning("no traces: %s is set, but Kedastral exports only http/protobuf, not %s", endpoint, protocol)
        return NO_TRACING
    try:
        from kedastral.adapters.otel import make_tracing  # noqa: PLC0415 - an extra
    except ImportError:
        log.warning("no traces: %s is set, but kedastral[otel] is not installed", endpoint)
        return NO_TRACING
    return make_tracing()


@asynccontextmanager
async def open_run(settings: RunSettings) -> AsyncIterator[App]:
    """`kedastral run`: forecaster, snapshot server and scaler in one process. Raises BindError, ConfigError."""
    async with AsyncExitStack() as stack:
        common = _open_common(stack)
        storage = _make_storage(settings.storage, settings.kept, common)
        forecasting = make_forecasting(settings.fleet.settings, common, storage=storage, answers_keda=True)
        if settings.scaled_objects.allow_scaledobject_workloads:
            forecasting.resolver.reader = TriggerReader(settings.fleet, settings.scaled_objects)
        await restore_all(forecasting, storage)
        app = make_run_app(settings, forecasting, common, storage)
        yield reload_files(app, forecasting, settings.fleet)


@asynccontextmanager
async def open_forecaster(settings: ForecasterSettings) -> AsyncIterator[App]:
    """`kedastral forecaster`: forecasts and shows them over HTTP. Raises BindError, ConfigError."""
    async with AsyncExitStack() as stack:
        common = _open_common(stack)
        storage = _make_storage(settings.storage, settings.kept, common)
        forecasting = make_forecasting(settings.fleet.settings, common, storage=storage)
        await restore_all(forecasting, storage)
        fleet, readiness = forecasting.fleet, Readiness.of({"http"})
        view = SnapshotView(fleet.store, forecasting.resolver.policy_of, common.clock)
        app = App(
            clock=common.clock,
            readiness=readiness,
            http=_make_http(view, readiness, common, settings, settings.http_access, show_workloads(view, forecasting)),
            background=[*storage.services, *services_of(forecasting)],
            connections=storage.connections,
        )
        yield reload_files(app, forecasting, settings.fleet)


@asynccontextmanager
async def open_scaler(settings: ScalerSettings) -> AsyncIterator[App]:
    """`kedastral scaler`: answers KEDA from the snapshots of forecasters. Raises BindError, ConfigError."""
    async with AsyncExitStack() as stack:
        common = _open_common(stack)
        policy, readiness = settings.stale.policy(), Readiness.of({"http", "grpc"})
        reader, connections = await _open_reader(settings, common)
        scaler = Scaler(reader, common.clock, RemoteResolver(reader, policy, settings.name.workload))
        grpc = _make_grpc(scaler, common, settings, settings.grpc_tls.files)
        view = SnapshotView(reader, scaler.resolver.policy_of, common.clock)
        http = _make_http(view, readiness, common, settings, settings.http_access)
        yield App(
            clock=common.clock,
            readiness=readiness,
            http=http,
            grpc=grpc,
            background=[reader.run],
            connections=connections,
        )


async def _open_reader(
    settings: ScalerSettings, common: Common
) -> tuple[RemoteSnapshots | SharedSnapshots, Sequence[Service]]:
    """What a split scaler reads from, and the connections that this needs. Raises ConfigError."""
    remote, policy, default = settings.remote, settings.stale.policy(), settings.name.workload
    always = () if default is None else (default,)
    if remote.storage is StorageKind.REDIS:
        from kedastral.adapters.redis.client import RedisLogin  # noqa: PLC0415 - an extra
        from kedastral.adapters.redis.connection import RedisConnection  # noqa: PLC0415 - an extra
        from kedastral.adapters.redis.snapshots import RedisSnapshots  # noqa: PLC0415 - an extra

        connection = RedisConnection(RedisLogin.of(remote.redis))
        exchange = RedisSnapshots(connection, remote.redis.redis_prefix)
        store = SharedStore(exchange, common.metrics, StorageMetrics(common.metrics.registry), common.clock)
        store.terms = lambda _: Terms(stale_after=policy.stale_after)
        return SharedSnapshots(store, always, policy), [connection.run]
    clients = [
        await common.stack.enter_async_context(open_remote(url, settings.remote_access, KEEP_ALIVE))
        for url in remote.forecaster_url or ()
    ]
    servers = list(map(SnapshotServer, clients))
    return RemoteSnapshots(servers, common.metrics, always, common.clock, policy), ()


@attrs.frozen
class Storage:
    """Where forecasts are kept, and the services that this needs; they start before any workload is forecast.

    ``connections`` outlive the services. ``states`` keeps what a restart must not lose; None if nothing is kept. With a
    ``division`` the workloads are shared with other pods.
    """

    store: SnapshotStore = attrs.field(factory=MemoryStore)
    services: Sequence[Service] = ()
    connections: Sequence[Service] = ()
    states: StateStore | None = None
    division: Division | None = None


def _make_storage(settings: StorageSettings, kept: StateSettings, common: Common) -> Storage:
    """The storage of a process; ConfigError if the certificates for Redis, or the directory, cannot be used."""
    if settings.storage is StorageKind.MEMORY:
        states = None if kept.state_dir is None else StateDirectory.open(kept.state_dir)
        if states is not None:
            common.stack.callback(states.close)
        return Storage(states=states)
    from kedastral.adapters.redis.client import RedisLogin  # noqa: PLC0415 - an extra
    from kedastral.adapters.redis.connection import RedisConnection  # noqa: PLC0415 - an extra
    from kedastral.adapters.redis.members import RedisMembers  # noqa: PLC0415 - an extra
    from kedastral.adapters.redis.snapshots import RedisSnapshots  # noqa: PLC0415 - an extra
    from kedastral.adapters.redis.states import RedisStates  # noqa: PLC0415 - an extra

    connection, shown = RedisConnection(RedisLogin.of(settings.redis)), StorageMetrics(common.metrics.registry)
    exchange = RedisSnapshots(connection, settings.redis.redis_prefix, settings.redis_ttl)
    store = SharedStore(exchange, common.metrics, shown, common.clock)
    division = Division(
        RedisMembers(connection, settings.redis.redis_prefix, settings.redis_ttl),
        f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        store,
        common.clock,
        common.metrics,
        shown,
        settings.redis_lease,
    )
    store.token = division.token
    kept_there = RedisStates(connection, common.clock, settings.redis.redis_prefix)
    return Storage(store, [store.run, division.run], [connection.run], kept_there, division)


async def restore_all(forecasting: Forecasting, storage: Storage) -> None:
    """Continue where the previous process ended; pods that share the work do so for each workload they take over."""
    if storage.division is None:
        await forecasting.restore_all()


def make_forecasting(
    configured: FleetSettings,
    common: Common,
    open_source: OpenSource | None = None,
    storage: Storage | None = None,
    *,
    answers_keda: bool = False,
) -> Forecasting:
    """The forecasting half of a process; ``open_source`` opens a source other than Prometheus for a workload."""
    storage = storage or Storage()
    store, metrics = storage.store, common.metrics
    keeper = None if storage.states is None else StateKeeper(storage.states, store, common.clock, metrics)
    builder = RunnerBuilder(store, common.clock, metrics, DataSources(), open_source, answers_keda=answers_keda)
    builder = attrs.evolve(builder, tracing=common.tracing)
    if keeper is not None:
        builder = attrs.evolve(builder, last_served=keeper.told_before)
        keeper.show = builder.recent.restore
    common.stack.push_async_callback(builder.sources.close)
    fleet = Fleet(store, metrics, common.clock.speed, keeper, storage.division)
    if isinstance(store, SharedStore):
        store.terms = fleet.terms
    metrics.show_failures(fleet.failing)
    resolver = FleetResolver(fleet, builder)
    builder.recent.policy_of = resolver.policy_of
    if storage.division is not None:
        storage.division.known = resolver.known
    if keeper is not None:
        keeper.trigger_of = resolver.trigger_of
    forecasting = Forecasting(fleet, resolver, builder)
    forecasting.start(configured)
    return forecasting


def services_of(forecasting: Forecasting) -> list[Service]:
    """The services that forecast in the background, in start order."""
    keeper = forecasting.fleet.keeper
    saving = [] if keeper is None else [keeper.run]
    return [forecasting.builder.training.run, *saving, forecasting.fleet.run]


def make_run_app(
    settings: RunSettings | DemoSettings, forecasting: Forecasting, common: Common, storage: Storage | None = None
) -> App:
    """`kedastral run` around its forecasting half; the demo uses it with its own metric source."""
    storage = storage or Storage()
    fleet, resolver, readiness = forecasting.fleet, forecasting.resolver, Readiness.of({"http", "grpc"})
    # the demo has neither TLS nor a token
    tls, access = (
        (settings.grpc_tls, settings.http_access) if isinstance(settings, RunSettings) else (GrpcTls(), HttpAccess())
    )
    grpc = _make_grpc(Scaler(fleet.store, common.clock, resolver), common, settings, tls.files)
    view = SnapshotView(fleet.store, resolver.policy_of, common.clock)
    return App(
        clock=common.clock,
        readiness=readiness,
        http=_make_http(view, readiness, common, settings, access, show_workloads(view, forecasting)),
        grpc=grpc,
        background=[*storage.services, *services_of(forecasting), resolver.run],
        connections=storage.connections,
    )


def show_workloads(view: SnapshotView, forecasting: Forecasting) -> WorkloadsView:
    """What the web page shows about the workloads that this process forecasts."""
    fleet = forecasting.fleet

    def find_settings(key: str) -> Sequence[SettingInForce]:
        settings = fleet.settings.get(key)
        return () if settings is None else settings_in_force(settings)

    return WorkloadsView(view, forecasting.builder.recent, fleet.runners.keys, fleet.failing, find_settings)


def settings_in_force(settings: WorkloadSettings) -> Sequence[SettingInForce]:
    """The settings of one workload, given ones first; without its query, which may be long or come from a Secret."""
    values = {one.name: value for one, value in _values_of(settings)}
    found = [
        SettingInForce(
            one.flag or one.key,
            show_in_effect(one, values),
            "default" if one.name in settings.by_default else settings.origin,
        )
        for one, _ in _values_of(settings)
    ]
    return sorted(found, key=lambda one: one.origin == "default")


def _values_of(settings: WorkloadSettings | DemoSettings) -> Iterator[tuple[Setting, object]]:
    """The settings about what is forecast and how it is planned and served, with their values."""
    for group in (settings.forecast, settings.plan, settings.level, settings.serving, settings.stale):
        values = attrs.asdict(group, recurse=False)
        yield from ((one, values[one.name]) for one in settings_of(type(group)))


def reload_files(app: App, forecasting: Forecasting, configured: ConfiguredFleet) -> App:
    """``app`` with a reloader that applies changes of its configuration files, if it has any."""
    path, forecasting.warnings = configured.path, configured.warnings
    if path is None:
        return app
    metrics = forecasting.fleet.metrics
    reloader = Reloader(partial(look_at, path), configured.read_again, forecasting.apply, metrics, app.readiness)
    return attrs.evolve(app, background=[*app.background, reloader.run], request_reload=reloader.request)


def demo_fleet(settings: DemoSettings) -> FleetSettings:
    """The single workload of the demo; it reads no data source."""
    defaults = {one.name: one.default_value for one in settings_of(DemoSettings)}
    workload = WorkloadSettings(
        workload=settings.name.workload,
        query="the demo's own load",
        forecast=settings.forecast,
        plan=settings.plan,
        level=settings.level,
        serving=settings.serving,
        stale=settings.stale,
        by_default=frozenset(one.name for one, value in _values_of(settings) if value == defaults[one.name]),
    )
    return FleetSettings(sources={}, workloads={workload.key: workload})


def _make_grpc(
    scaler: Scaler, common: Common, settings: RunSettings | DemoSettings | ScalerSettings, files: TlsFiles | None
) -> GrpcPart:
    tls = _make_server_tls("gRPC", files, "h2")
    listener = open_listener(settings.listeners.grpc_listen, remedy_of(settings, "grpc_listen"))
    common.stack.callback(listener.close)
    tracing, metrics = common.tracing, common.metrics
    service = TracedScaler(scaler, metrics, tracing) if tracing.is_on else ExternalScaler(scaler, metrics)
    return GrpcPart(service, listener, settings.listeners.grpc_reflection, tls)


def _make_server_tls(server: str, files: TlsFiles | None, protocol: str) -> ssl.SSLContext | None:
    return None if files is None else RotatingContext(server, files, partial(make_server_context, alpn=[protocol]))


def _make_http(
    view: SnapshotView,
    readiness: Readiness,
    common: Common,
    settings: ForecastingSettings | ScalerSettings,
    access: HttpAccess,
    workloads: WorkloadsView | None = None,
) -> HttpPart:
    """The HTTP server; without ``workloads`` it has no forecasts to show."""
    tls = _make_server_tls("HTTP", access.files, "http/1.1")
    token = find_token("HTTP token", access.http_token, access.http_token_file)
    gate = None if token is None else TokenGate(partial(read_token, token))
    listener = open_listener(settings.listeners.http_listen, remedy_of(settings, "http_listen"))
    common.stack.callback(listener.close)
    common.metrics.show_snapshots(view.reader, common.clock)
    app = create_app(
        view,
        readiness,
        common.metrics.registry,
        serves_forecasts=workloads is not None,
        gate=gate,
        workloads=workloads,
    )
    return HttpPart(app, listener, tls)


def open_remote(url: str, access: RemoteAccess, keep_alive: float | None = None) -> httpx.AsyncClient:
    """A client for the HTTP server of `run` or `forecaster`; see `open_client`. Raises ConfigError."""
    token = find_token("forecaster token", access.forecaster_token, access.forecaster_token_file)
    return open_client(
        url,
        auth=None if token is None else BearerAuth(token),
        tls=None
        if access.files == TlsFiles()
        else RotatingContext("the forecaster", access.files, make_client_context),
        keep_alive=keep_alive,
    )
