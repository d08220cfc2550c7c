# SPDX-License-Identifier: Apache-2.0
"""Every setting, each declared once: default, meaning and bounds.

The annotation says how a value is read. The flag, the variable and the key in documents follow from the attribute's
name unless stated: ``lead_time`` is ``--lead-time``, ``LEAD_TIME`` and ``leadTime``. docs/configuration.md shows the
same as tables, and a test keeps them equal. `kedastral.settings.commands` says which command has which.
"""

from enum import StrEnum
from zoneinfo import ZoneInfo

import attrs

from kedastral.core.capacity import MAX_REPLICAS, PlanPolicy, ReplicaBounds, Rounding
from kedastral.core.planning.snapshot import Mode
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.steps import steps_within
from kedastral.models import MODELS
from kedastral.secrets import Secret
from kedastral.settings.schema import above, at_least, between, declare, group, like, setting
from kedastral.settings.types import (
    ConfigPath,
    DirectoryPath,
    Header,
    HttpUrl,
    InputFile,
    KeyPrefix,
    ListenAddress,
    Name,
    OutputFile,
    PodTarget,
    PromQL,
    QueryParam,
    RedisAddress,
    Seconds,
)
from kedastral.tls import TlsFiles

HTTP_MODEL = "http"
DEFAULT_HEADROOM = 1.2
MAX_HEADROOM = 100
"""A larger one is probably a percentage."""
ModelName = StrEnum("ModelName", {name: name for name in (*MODELS, HTTP_MODEL)})  # type: ignore[misc]
LogLevel = StrEnum("LogLevel", {name: name for name in ("debug", "info", "warn", "error")})  # type: ignore[misc]
LogFormat = StrEnum("LogFormat", {name: name for name in ("text", "json")})  # type: ignore[misc]


class StorageKind(StrEnum):
    """Where the newest snapshots are kept besides the memory of the process."""

    MEMORY = "memory"
    REDIS = "redis"


class HpaKind(StrEnum):
    """How the HPA around every policy of a backtest behaves."""

    UNLIMITED = "unlimited"
    KUBERNETES = "kubernetes"


# Settings that commands share, each with its own variation.

WORKLOAD = setting(None, "key of the workload; a ScaledObject names it in its trigger metadata", required=True)
PROM_URL = setting(
    None, "base address of Prometheus; a path prefix is kept", flag="--prom-url", path="url", required=True,
    unless=("config",),
)  # fmt: skip
PROM_QUERY = setting(
    None, "PromQL whose value is the load; several series are summed", flag="--prom-query", path="query",
    required=True, unless=("config", "allow_scaledobject_workloads"),
)  # fmt: skip
TARGET_PER_POD = setting("200", "load that one pod sustains, in the unit of the query", above(0))
STALE_AFTER = setting("2m", "age at which a forecast, or the newest measurement, is stale", above(0))
HTTP_LISTEN = setting(":8081", "where the snapshot server (HTTP) listens", env="FORECASTER_LISTEN")
GRPC_LISTEN = setting(":8080", "where KEDA's external scaler (gRPC) listens", env="SCALER_LISTEN")
GRPC_REFLECTION = setting("false", "serve gRPC reflection, so that grpcurl can list the services")


# One workload: what is forecast, how load becomes replicas, and what KEDA is told.


@attrs.frozen(kw_only=True, field_transformer=declare)
class ForecastSettings:
    """What is forecast, how far, and by which model."""

    metric: Name = setting("http_rps", "name of the metric that is forecast")
    horizon: Seconds = setting("30m", "how far the forecast reaches; a whole multiple of the step", above(0))
    step: Seconds = setting("1m", "grid of history and forecast; finer is noisier, not better", above(0))
    interval: Seconds = setting("30s", "time between two forecasts; KEDA polls every 30 s by default", above(0))
    window: Seconds | None = setting(
        None,
        "how much history the model sees; by default 14d for auto, 30m for baseline and http",
        above(0),
    )
    model: ModelName = setting("auto", "which model forecasts; http asks the one at --model-url")
    timezone: ZoneInfo = setting("UTC", "time zone of the load's days and weeks; used by auto")
    model_url: HttpUrl | None = setting(None, "address of your own model; requests go to {model-url}/predict")
    model_timeout: Seconds = setting("5s", "how long your own model may take to answer", above(0))

    settle_after: Seconds | None = setting(
        None,
        "age after which late samples no longer change a point of the query; younger points are not used",
        at_least(0),
        default_note="learned",
    )

    @property
    def steps(self) -> int:
        """How many values a forecast has."""
        return round(self.horizon / self.step)

    @property
    def history_window(self) -> float:
        """Seconds of history the model sees."""
        if self.window is not None:
            return self.window
        return default_window(str(self.model), self.step)


def default_window(model: str, step: float) -> float:
    """Seconds of history that ``model`` wants, at least one step."""
    kind = MODELS.get(model, MODELS["baseline"])
    return max(kind.default_window, step)


@attrs.frozen(kw_only=True, field_transformer=declare)
class PlanSettings:
    """How load becomes replicas."""

    target_per_pod: float = TARGET_PER_POD
    headroom: float | None = setting(
        None,
        "multiplier on the forecast load: 1.2 leaves a sixth of each pod free; with auto it replaces the steering",
        between(1, MAX_HEADROOM),
        default_note="1.2",
    )
    min_replicas: int = setting(
        "2", "fewest replicas ever planned", between(0, MAX_REPLICAS),
        flag="--min", env="MIN_REPLICAS",
    )  # fmt: skip
    max_replicas: int = setting(
        "50", "most replicas ever planned; 0 means no maximum", between(0, MAX_REPLICAS),
        flag="--max", env="MAX_REPLICAS",
    )  # fmt: skip
    up_max_factor: float = setting("2.0", "how many times larger the plan may get from step to step", above(1))
    down_max_pct: float = setting("50", "how much smaller the plan may get from step to step, percent", between(0, 100))
    prewarm: Seconds = setting(
        "2m",
        "how far ahead each step of the plan also covers the load, in whole steps, in case the forecast is late",
        at_least(0),
    )
    prewarm_steps: int | None = setting(
        None,
        "the same as a number of steps; replaces --prewarm",
        at_least(0),
        default_note="as many as --prewarm covers: 2 with a step of 1m",
    )
    rounding: Rounding = setting("ceil", "how a fraction of a pod becomes a whole one")

    @property
    def fixed_headroom(self) -> float:
        """The headroom of models that are not steered."""
        return DEFAULT_HEADROOM if self.headroom is None else self.headroom

    def prewarm_at(self, step: float) -> int:
        """The steps of ``step`` seconds that each step of the plan also covers."""
        return steps_within(self.prewarm, step) if self.prewarm_steps is None else self.prewarm_steps

    def policy(self, step: float) -> PlanPolicy:
        """The policy for the planner, for a forecast with steps of ``step`` seconds."""
        return PlanPolicy(
            self.target_per_pod,
            self.fixed_headroom,
            ReplicaBounds(self.min_replicas, self.max_replicas),
            self.up_max_factor,
            self.down_max_pct,
            self.prewarm_at(step),
            self.rounding,
        )


@attrs.frozen(kw_only=True, field_transformer=declare)
class ServiceLevel:
    """The service level to keep."""

    service_level: float = setting(
        "0.99",
        "share of minutes that must have enough pods, 0.5 to 0.9999; steers auto, unless --headroom is given",
        between(0.5, 0.9999),
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class LeadSettings:
    """How the plan is read for KEDA."""

    lead_time: Seconds = setting(
        "5m",
        "time from asking for a pod until it is Ready, including the delays of KEDA and the HPA",
        above(0),
    )
    reactive_floor: bool = setting("true", "never tell KEDA less than the newest measured load needs")
    reactive_headroom: float = setting(
        "1.1",
        "multiplier on the newest load for that floor; no effect where auto is steered",
        between(1, MAX_HEADROOM),
    )

    @property
    def floor_headroom(self) -> float | None:
        """The headroom of the reactive floor; None if there is none."""
        return self.reactive_headroom if self.reactive_floor else None


@attrs.frozen(kw_only=True, field_transformer=declare)
class ServingSettings(LeadSettings):
    """How the plan is read for KEDA, and whether the plan is sent to KEDA."""

    mode: Mode = setting(
        "scale",
        "scale tells KEDA the plan; observe tells it 0, so that a second trigger decides alone",
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class FreshnessSettings:
    """When a forecast is stale, for a command that does not answer KEDA."""

    stale_after: Seconds = STALE_AFTER


@attrs.frozen(kw_only=True, field_transformer=declare)
class StaleSettings(FreshnessSettings):
    """When a forecast is stale, and what KEDA is told then."""

    on_stale: OnStale = setting(
        "default-min",
        "what KEDA is told when stale: the default minimum, the old plan while it lasts, or an error, so that KEDA "
        "holds",
    )
    default_min: int = setting(
        "2", "what KEDA is told when stale, with --on-stale default-min", between(0, MAX_REPLICAS)
    )

    def policy(self) -> StalePolicy:
        """The policy for the serving rule."""
        return StalePolicy(self.stale_after, self.on_stale, self.default_min)


# Where the load is read from: Prometheus, its login, and how heavily it may be queried.


@attrs.frozen(kw_only=True, slots=False, field_transformer=declare)  # of two bases only one may have slots
class PrometheusQuery:
    """Where the load is read from; both are required unless files or ScaledObjects define the workloads."""

    url: HttpUrl | None = PROM_URL
    query: PromQL | None = PROM_QUERY


@attrs.frozen(kw_only=True, field_transformer=declare)
class PrometheusLogin:
    """How to log in to Prometheus."""

    username: Name | None = setting(None, "user for basic authentication", flag="--prom-username", path="auth.username")
    password_file: InputFile | None = setting(
        None, "file that holds the password", flag="--prom-password-file",
        path="auth.passwordFile",
    )  # fmt: skip
    password: Secret | None = setting(None, "the password", env="PROM_PASSWORD", path="auth.passwordEnv")
    token_file: InputFile | None = setting(
        None, "file that holds a bearer token", flag="--prom-token-file",
        path="auth.tokenFile",
    )  # fmt: skip
    token: Secret | None = setting(None, "the bearer token", env="PROM_TOKEN", path="auth.tokenEnv")
    headers: tuple[Header, ...] = setting(
        "", "a header 'Name: value' to send, such as a tenant; repeatable (in the variable, one per line)",
        flag="--prom-header", path="headers",
    )  # fmt: skip
    query_params: tuple[QueryParam, ...] = setting(
        "", "a parameter 'name=value' to send with each query, such as partial_response=false; repeatable (in the "
        "variable, one per line)", flag="--prom-query-param", path="queryParams",
    )  # fmt: skip
    ca_file: InputFile | None = setting(
        None, "certificates to trust instead of the system's", flag="--prom-ca-file",
        path="tls.caFile",
    )  # fmt: skip
    cert_file: InputFile | None = setting(
        None, "client certificate, for mutual TLS", flag="--prom-cert-file",
        path="tls.certFile",
    )  # fmt: skip
    key_file: InputFile | None = setting(
        None, "key of the client certificate", flag="--prom-key-file", path="tls.keyFile"
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class PrometheusSettings(PrometheusLogin, PrometheusQuery):
    """Where the load is read from, and how to log in there."""


@attrs.frozen(kw_only=True, slots=False, field_transformer=declare)  # of two bases only one may have slots
class SourceLimits:
    """How heavily a data source may be queried; only documents can set this."""

    timeout: Seconds = setting(
        "10s", "how long one request may take, its retries included", above(0), flag="", env="", path="timeout"
    )
    max_concurrent: int = setting(
        "8", "most requests at a time", between(1, 1000), flag="", env="", path="limits.maxConcurrent"
    )
    max_per_second: float = setting(
        "50", "most requests a second, on average", between(0.01, 10_000), flag="", env="", path="limits.maxPerSecond"
    )


# The process: where it listens, TLS and tokens, its files, its logs, where the split scaler reads from.


@attrs.frozen(kw_only=True, field_transformer=declare)
class RunListeners:
    """Where `run` and `demo` listen."""

    http_listen: ListenAddress = HTTP_LISTEN
    grpc_listen: ListenAddress = GRPC_LISTEN
    grpc_reflection: bool = GRPC_REFLECTION


@attrs.frozen(kw_only=True, field_transformer=declare)
class ForecasterListener:
    """Where `forecaster` listens."""

    http_listen: ListenAddress = like(HTTP_LISTEN, flag="--listen")


@attrs.frozen(kw_only=True, field_transformer=declare)
class ScalerListeners:
    """Where `scaler` listens."""

    grpc_listen: ListenAddress = like(GRPC_LISTEN, flag="--listen")
    http_listen: ListenAddress = setting(
        ":8082", "where /healthz, /readyz and /metrics are served", env="SCALER_HTTP_LISTEN"
    )
    grpc_reflection: bool = GRPC_REFLECTION


@attrs.frozen(kw_only=True, field_transformer=declare)
class GrpcTls:
    """TLS of the gRPC server."""

    grpc_cert_file: InputFile | None = setting(
        None,
        "certificate of the gRPC server with its chain; without it gRPC is plain text",
        flag="--grpc-tls-cert-file",
    )
    grpc_key_file: InputFile | None = setting(None, "key of that certificate", flag="--grpc-tls-key-file")
    grpc_client_ca_file: InputFile | None = setting(
        None,
        "authorities that sign the certificates of clients (mutual TLS); without it any client is served",
        flag="--grpc-tls-client-ca-file",
    )

    @property
    def files(self) -> TlsFiles | None:
        """What the server needs for TLS; None for plain text."""
        if self.grpc_cert_file is None:
            return None
        return TlsFiles(self.grpc_cert_file, self.grpc_key_file, self.grpc_client_ca_file)


@attrs.frozen(kw_only=True, field_transformer=declare)
class HttpAccess:
    """TLS of the HTTP server, and the token that its clients need."""

    http_cert_file: InputFile | None = setting(
        None,
        "certificate of the HTTP server with its chain; without it HTTP is plain text",
        flag="--http-tls-cert-file",
    )
    http_key_file: InputFile | None = setting(None, "key of that certificate", flag="--http-tls-key-file")
    http_token_file: InputFile | None = setting(
        None, "file that holds the bearer token, which all HTTP requests but the probes need"
    )
    http_token: Secret | None = setting(None, "that token itself")

    @property
    def files(self) -> TlsFiles | None:
        """What the server needs for TLS; None for plain text."""
        return None if self.http_cert_file is None else TlsFiles(self.http_cert_file, self.http_key_file)


STORAGE = setting(
    "memory",
    "where forecasts are kept: redis lets several pods share them, a new pod find them, and a scaler read them",
)


@attrs.frozen(kw_only=True, field_transformer=declare)
class RedisAccess:
    """Where Redis is, how to log in there, and how its keys begin."""

    redis_url: RedisAddress | None = setting(
        None,
        "Redis to use: redis:// or rediss:// (TLS), unix://, redis+sentinel://HOSTS/PRIMARY, redis+cluster://HOSTS",
    )
    redis_username: Name | None = setting(None, "ACL user of Redis; the default user if not given")
    redis_password_file: InputFile | None = setting(None, "file that holds the password of Redis")
    redis_password: Secret | None = setting(None, "the password of Redis")
    redis_prefix: KeyPrefix = setting("kedastral", "prefix of all keys in Redis; each fleet needs its own")
    redis_ca_file: InputFile | None = setting(None, "certificates to trust for Redis instead of the system's")
    redis_cert_file: InputFile | None = setting(None, "client certificate for Redis, for mutual TLS")
    redis_key_file: InputFile | None = setting(None, "key of the client certificate for Redis")

    @property
    def files(self) -> TlsFiles:
        """What the client uses for TLS besides its defaults."""
        return TlsFiles(self.redis_cert_file, self.redis_key_file, self.redis_ca_file)


@attrs.frozen(kw_only=True, field_transformer=declare)
class StorageSettings:
    """Where forecasts are kept besides this process's memory, and how to connect to it."""

    storage: StorageKind = STORAGE
    redis: RedisAccess = group(RedisAccess)
    redis_ttl: Seconds = setting("1d", "how long Redis keeps a forecast that no newer one replaces", at_least(60))
    redis_lease: Seconds = setting(
        "10s", "how long a pod may be silent before others take over its workloads",
        between(0.5, 3600),
    )  # fmt: skip


@attrs.frozen(kw_only=True, field_transformer=declare)
class RemoteSettings:
    """Where the split scaler reads snapshots: from forecasters over HTTP, or where those share them."""

    forecaster_url: tuple[HttpUrl, ...] | None = setting(
        None,
        "address of the forecaster's snapshot server; several (repeated, or separated by commas) back each other up",
        required=True,
        unless=("redis_url",),
    )
    storage: StorageKind = STORAGE
    redis: RedisAccess = group(RedisAccess)


@attrs.frozen(kw_only=True, field_transformer=declare)
class ExplainedProcess:
    """Which process `explain` asks."""

    forecaster_url: HttpUrl = setting(
        "http://localhost:8081", "address of the HTTP server of run or forecaster", flag="--url", env="FORECASTER_URL"
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class AskedProcess:
    """Which process `doctor` asks, if any."""

    forecaster_url: HttpUrl | None = setting(
        None, "address of the HTTP server of a running Kedastral, to be asked about its workloads",
        flag="--url", env="FORECASTER_URL",
    )  # fmt: skip


@attrs.frozen(kw_only=True, field_transformer=declare)
class RemoteAccess:
    """How a client verifies its forecaster, and authenticates itself."""

    forecaster_ca_file: InputFile | None = setting(None, "certificates to trust instead of the system's")
    forecaster_cert_file: InputFile | None = setting(None, "client certificate, for mutual TLS")
    forecaster_key_file: InputFile | None = setting(None, "key of the client certificate")
    forecaster_token_file: InputFile | None = setting(None, "file that holds the bearer token of the forecaster")
    forecaster_token: Secret | None = setting(None, "the bearer token of the forecaster")

    @property
    def files(self) -> TlsFiles:
        """What the client uses for TLS besides its defaults."""
        return TlsFiles(self.forecaster_cert_file, self.forecaster_key_file, self.forecaster_ca_file)


@attrs.frozen(kw_only=True, field_transformer=declare)
class ConfigFiles:
    """Where workloads and data sources are configured besides flags and the environment."""

    config: ConfigPath | None = setting(
        None, "file, or folder of *.yaml and *.yml, with DataSource and ForecastPolicy documents",
        env="KEDASTRAL_CONFIG",
    )  # fmt: skip


@attrs.frozen(kw_only=True, field_transformer=declare)
class BroughtWorkloads:
    """Whether ScaledObjects may define workloads of their own."""

    allow_scaledobject_workloads: bool = setting(
        "false",
        "let trigger metadata describe workloads; whoever may write a ScaledObject can then read all metrics of the "
        "data sources",
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class ScaledObjectSettings(BroughtWorkloads):
    """Whether ScaledObjects may define workloads of their own, how many, and from where."""

    max_scaledobject_workloads: int = setting(
        "1000",
        "most workloads that ScaledObjects may define, in total",
        between(1, 1_000_000),
    )
    max_scaledobject_workloads_per_namespace: int = setting(
        "0",
        "most workloads that the ScaledObjects of one namespace may define; 0 means a quarter of the total",
        between(0, 1_000_000),
    )
    scaledobject_namespaces: tuple[Name, ...] = setting(
        "", "namespaces whose ScaledObjects may define workloads, separated by commas; all if none is given"
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class StateSettings:
    """Where a restart finds what was learnt, and what KEDA was told."""

    state_dir: DirectoryPath | None = setting(
        None,
        "directory for what a restart must not lose: steering, error budget, plan and history; each process needs its "
        "own",
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class LogSettings:
    """What is logged, and how."""

    level: LogLevel = setting("info", "lowest level that is logged", flag="--log-level")
    format: LogFormat = setting("text", "text for people, json for machines", flag="--log-format")


# Which workload flags and the environment are about: each command has its own variation.


@attrs.frozen(kw_only=True, field_transformer=declare)
class WorkloadName:
    """Which workload is forecast."""

    workload: Name = WORKLOAD


@attrs.frozen(kw_only=True, field_transformer=declare)
class FlagWorkload:
    """The workload that flags and the environment describe, if any."""

    workload: Name | None = like(
        WORKLOAD,
        meaning="key of the workload that the settings here describe; a ScaledObject names it in its trigger metadata",
        unless=("config", "allow_scaledobject_workloads"),
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class DefaultWorkload:
    """Which workload the split scaler answers for when a ScaledObject names none."""

    workload: Name | None = like(WORKLOAD, meaning="the workload of a ScaledObject that names none", required=False)


# What `demo` and `backtest` have besides the settings of `run`.


@attrs.frozen(kw_only=True, field_transformer=declare)
class DemoPace:
    """How the demo's day passes."""

    speed: float = setting(
        "480", "how many times faster than real time; 480 is a day in three minutes", between(1, 3600),
        env="DEMO_SPEED",
    )  # fmt: skip
    duration: Seconds = setting(
        "1d", "how much of the demo's time to show before it ends", above(0), env="DEMO_DURATION"
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class HistorySettings:
    """Which history is replayed: CSV files, or a query to Prometheus."""

    csv: tuple[InputFile, ...] = setting(
        "",
        "history in a file: a table or an answer of Prometheus, gzipped or not; repeatable (in the variable, one "
        "per line); each file is a workload",
        env="BACKTEST_CSV",
    )
    time_zone: ZoneInfo = setting(
        "UTC", "time zone of times in these files that name none",
        env="BACKTEST_TIME_ZONE",
    )  # fmt: skip
    column: Name | None = setting(
        None, "which load of these files: the name or number of a column, or a series",
        env="BACKTEST_COLUMN", default_note="the only one",
    )  # fmt: skip
    time_column: Name | None = setting(
        None, "which column of these files is the time, by name or number", env="BACKTEST_TIME_COLUMN",
        default_note="found by its cells",
    )  # fmt: skip
    url: HttpUrl | None = like(PROM_URL, required=False, unless=())
    query: PromQL | None = like(PROM_QUERY, required=False, unless=())
    days: float = setting(
        "14", "how many days of history to read from Prometheus, up to now", between(1, 400), env="BACKTEST_DAYS"
    )
    workload: Name | None = like(
        WORKLOAD,
        meaning="with --config, the ForecastPolicy to replay, by default all; otherwise the name of the workload in "
        "the tables",
        required=False,
    )


@attrs.frozen(kw_only=True, field_transformer=declare)
class BacktestPlan(PlanSettings):
    """How load becomes replicas; the target per pod may be derived from the history."""

    target_per_pod: PodTarget = like(TARGET_PER_POD, default="auto")


@attrs.frozen(kw_only=True, field_transformer=declare)
class BacktestRules:
    """How policies are judged."""

    evaluated: float | None = setting(
        None, "share of the history, at its end, that is replayed",
        between(0.01, 1), env="BACKTEST_EVALUATED", default_note="0.3, or half of a short history",
    )  # fmt: skip
    warm_up: Seconds | None = setting(
        None, "start of the replay that does not count", at_least(0),
        env="BACKTEST_WARM_UP", default_note="1d, or a tenth of a short history",
    )  # fmt: skip
    hpa: HpaKind = setting(
        "unlimited",
        "HPA around the policies: kubernetes has the default behavior of Kubernetes, unlimited has no rate limits",
        env="BACKTEST_HPA",
    )
    sync_period: Seconds | None = setting(
        None, "time between two decisions of the HPA; by default 1m, and 15s with --hpa kubernetes", above(0),
        env="BACKTEST_SYNC_PERIOD",
    )  # fmt: skip
    polling_interval: Seconds | None = setting(
        None, "time between two polls of KEDA; by default 1m, and 30s with --hpa kubernetes", above(0),
        env="BACKTEST_POLLING_INTERVAL",
    )  # fmt: skip
    late: Seconds = setting(
        "0s", "how late policies see the load; pods serve it at once",
        at_least(0), env="BACKTEST_LATE",
    )  # fmt: skip
    noise: float = setting(
        "0", "noise of the load that policies see, as a relative standard deviation; 0.05 is 5 %",
        between(0, 1), env="BACKTEST_NOISE",
    )  # fmt: skip


@attrs.frozen(kw_only=True, field_transformer=declare)
class BacktestProcesses:
    """What the replays take of the machine."""

    jobs: int | None = setting(
        None, "processes that replay side by side; each takes about 100 MB of memory",
        between(1, 256), env="BACKTEST_JOBS", default_note="one for each core, 8 at most",
    )  # fmt: skip


@attrs.frozen(kw_only=True, field_transformer=declare)
class BacktestOutput:
    """Where results go besides the tables in the terminal."""

    json: OutputFile | None = setting(None, "file for every figure, as JSON", env="BACKTEST_JSON")
    timeline: OutputFile | None = setting(
        None, "file for what every policy did at each step, as CSV", env="BACKTEST_TIMELINE"
    )
    report: OutputFile | None = setting(None, "file for a report with charts, as one HTML page", env="BACKTEST_REPORT")
