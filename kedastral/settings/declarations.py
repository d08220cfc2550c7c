# SPDX-License-Identifier: Apache-2.0
"""Settings of one workload: what is forecast, and how load becomes replicas."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

import attrs

from kedastral.core.capacity import MAX_REPLICAS, PlanPolicy, ReplicaBounds, Rounding
from kedastral.core.serving import OnStale, StalePolicy
from kedastral.core.snapshot import Mode
from kedastral.models import MODELS
from kedastral.secrets import Secret
from kedastral.settings.schema import above, at_least, between, file_setting, group, setting
from kedastral.settings.types import (
    Header,
    HttpUrl,
    ListenAddress,
    Name,
    Seconds,
    read_boolean,
    read_choice,
    read_config_path,
    read_duration,
    read_file_paths,
    read_headers,
    read_integer,
    read_listen_address,
    read_name,
    read_names,
    read_number,
    read_output_path,
    read_secret,
    read_text,
    read_url,
    read_zone,
)
from kedastral.tls import TlsFiles

HTTP_MODEL = "http"
DEFAULT_HEADROOM = 1.2
ModelName = StrEnum("ModelName", {name: name for name in (*MODELS, HTTP_MODEL)})  # type: ignore[misc]


@attrs.frozen(kw_only=True)
class WorkloadName:
    """Which workload is forecast."""

    workload: Name = setting(
        "--workload",
        "WORKLOAD",
        read_name,
        "key of the workload; a ScaledObject names it in its trigger metadata",
        required=True,
        kind="name",
    )


@attrs.frozen(kw_only=True)
class FlagWorkload:
    """The workload that flags and the environment describe, where they describe one."""

    workload: Name | None = setting(
        "--workload",
        "WORKLOAD",
        read_name,
        "key of the workload that the settings here describe; a ScaledObject names it in its trigger metadata",
        required=True,
        unless=("config", "allow_scaledobject_workloads"),
        kind="name",
    )


@attrs.frozen(kw_only=True)
class DefaultWorkload:
    """Which workload the split scaler answers for when a ScaledObject names none."""

    workload: Name | None = setting(
        "--workload",
        "WORKLOAD",
        read_name,
        "the workload of a ScaledObject that names none",
        kind="name",
    )


@attrs.frozen(kw_only=True)
class ForecastSettings:
    """What is forecast, how far, and by which model."""

    metric: Name = setting(
        "--metric", "METRIC", read_name, "name of the metric that is forecast", default="http_rps", kind="name"
    )
    horizon: Seconds = setting(
        "--horizon",
        "HORIZON",
        read_duration,
        "how far the forecast reaches; a whole multiple of the step",
        default="30m",
        check=above(0),
        kind="duration",
    )
    step: Seconds = setting(
        "--step",
        "STEP",
        read_duration,
        "grid of history and forecast; finer is noisier, not better",
        default="1m",
        check=above(0),
        kind="duration",
    )
    interval: Seconds = setting(
        "--interval",
        "INTERVAL",
        read_duration,
        "time between two forecasts; KEDA polls every 30 s by default",
        default="30s",
        check=above(0),
        kind="duration",
    )
    window: Seconds | None = setting(
        "--window",
        "WINDOW",
        read_duration,
        "how much history the model sees; by default what the model wants: 14d for auto, 30m for baseline and http",
        check=above(0),
        kind="duration",
    )
    model: ModelName = setting(
        "--model",
        "MODEL",
        read_choice(ModelName),
        "which model forecasts; http asks the one at --model-url",
        default="auto",
        kind="choice",
    )
    timezone: ZoneInfo = setting(
        "--timezone",
        "TIMEZONE",
        read_zone,
        "whose days and weeks the load follows, changes of the clock included; auto looks at it",
        default="UTC",
        kind="time zone",
    )
    model_url: HttpUrl | None = setting(
        "--model-url", "MODEL_URL", read_url, "address of your own model; {model-url}/predict is asked", kind="URL"
    )
    model_timeout: Seconds = setting(
        "--model-timeout",
        "MODEL_TIMEOUT",
        read_duration,
        "how long your own model may take to answer",
        default="5s",
        check=above(0),
        kind="duration",
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
        kind = MODELS.get(str(self.model), MODELS["baseline"])
        return max(kind.default_window, self.step)


@attrs.frozen(kw_only=True)
class PlanSettings:
    """How load becomes replicas."""

    target_per_pod: float = setting(
        "--target-per-pod",
        "TARGET_PER_POD",
        read_number,
        "load that one pod sustains, in the unit of the query",
        default="200",
        check=above(0),
        kind="number",
    )
    headroom: float | None = setting(
        "--headroom",
        "HEADROOM",
        read_number,
        "multiplier on the forecast load: 1.2 leaves a sixth of each pod free. auto is steered to the service level "
        "instead, unless this is given; then it multiplies the upper quantile",
        default_words="1.2",
        check=at_least(1),
        kind="number",
    )
    min_replicas: int = setting(
        "--min",
        "MIN_REPLICAS",
        read_integer,
        "fewest replicas ever planned; two survive the loss of one",
        default="2",
        check=between(0, MAX_REPLICAS),
        kind="integer",
    )
    max_replicas: int = setting(
        "--max",
        "MAX_REPLICAS",
        read_integer,
        "most replicas ever planned; 0 means no maximum",
        default="50",
        check=between(0, MAX_REPLICAS),
        kind="integer",
    )
    up_max_factor: float = setting(
        "--up-max-factor",
        "UP_MAX_FACTOR",
        read_number,
        "how many times larger the plan may get from step to step",
        default="2.0",
        check=above(1),
        kind="number",
    )
    down_max_pct: float = setting(
        "--down-max-pct",
        "DOWN_MAX_PCT",
        read_number,
        "how much smaller the plan may get from step to step, percent",
        default="50",
        check=between(0, 100),
        kind="number",
    )
    prewarm_steps: int = setting(
        "--prewarm-steps",
        "PREWARM_STEPS",
        read_integer,
        "how many steps ahead each step of the plan also covers, against a forecast that is a little late",
        default="2",
        check=at_least(0),
        kind="integer",
    )
    rounding: Rounding = setting(
        "--rounding",
        "ROUNDING",
        read_choice(Rounding),
        "how a fraction of a pod becomes a whole one",
        default="ceil",
        kind="choice",
    )

    @property
    def fixed_headroom(self) -> float:
        """The headroom of models that are not steered."""
        return DEFAULT_HEADROOM if self.headroom is None else self.headroom

    def policy(self) -> PlanPolicy:
        """The planner's own value."""
        return PlanPolicy(
            self.target_per_pod,
            self.fixed_headroom,
            ReplicaBounds(self.min_replicas, self.max_replicas),
            self.up_max_factor,
            self.down_max_pct,
            self.prewarm_steps,
            self.rounding,
        )


# --- Settings of what KEDA is told: the service level, the lead time, the floor, and what holds when data is stale.


@attrs.frozen(kw_only=True)
class ServiceLevel:
    """What is promised."""

    service_level: float = setting(
        "--service-level",
        "SERVICE_LEVEL",
        read_number,
        "share of minutes that is to have enough pods, 0.5 to 0.9999; steers auto, unless --headroom is given. 0.999 "
        "is a promise over weeks",
        default="0.99",
        check=between(0.5, 0.9999),
        kind="number",
    )


@attrs.frozen(kw_only=True)
class LeadSettings:
    """How the plan is read for KEDA."""

    lead_time: Seconds = setting(
        "--lead-time",
        "LEAD_TIME",
        read_duration,
        "from asking for a pod to the pod Ready, KEDA's and the HPA's delays included; replicas are told this early",
        default="5m",
        check=above(0),
        kind="duration",
    )
    reactive_floor: bool = setting(
        "--reactive-floor",
        "REACTIVE_FLOOR",
        read_boolean,
        "never tell KEDA less than the newest measured load needs, whatever the forecast says",
        default="true",
        kind="boolean",
    )
    reactive_headroom: float = setting(
        "--reactive-headroom",
        "REACTIVE_HEADROOM",
        read_number,
        "multiplier on the newest load for that floor. It counts under a fixed headroom: with --headroom, or a model "
        "other than auto; a steered floor follows the steering",
        default="1.1",
        check=at_least(1),
        kind="number",
    )


@attrs.frozen(kw_only=True)
class ServingSettings(LeadSettings):
    """How the plan is read for KEDA, and whether KEDA is told."""

    mode: Mode = setting(
        "--mode",
        "MODE",
        read_choice(Mode),
        "what KEDA is told: by scale what is planned; by observe always 0, while all is forecast, planned, measured "
        "and shown: a second trigger then decides alone, and without one the workload would go to its minimum",
        default="scale",
        kind="choice",
    )


@attrs.frozen(kw_only=True)
class FreshnessSettings:
    """When a forecast is stale, for those who only report it."""

    stale_after: Seconds = setting(
        "--stale-after",
        "STALE_AFTER",
        read_duration,
        "age at which a forecast, or the newest measurement, is stale",
        default="2m",
        check=above(0),
        kind="duration",
    )


@attrs.frozen(kw_only=True)
class StaleSettings(FreshnessSettings):
    """When a forecast is stale, and what KEDA is told then."""

    on_stale: OnStale = setting(
        "--on-stale",
        "ON_STALE",
        read_choice(OnStale),
        "what KEDA is told then: the default minimum, the old plan while it lasts, or an error so that KEDA holds",
        default="default-min",
        kind="choice",
    )
    default_min: int = setting(
        "--default-min",
        "DEFAULT_MIN",
        read_integer,
        "replicas told when stale under default-min",
        default="2",
        check=between(0, MAX_REPLICAS),
        kind="integer",
    )

    def policy(self) -> StalePolicy:
        """The serving rule's own value."""
        return StalePolicy(self.stale_after, self.on_stale, self.default_min)


# --- Settings of the metric source: where Prometheus is, and how to log in there.


@attrs.frozen(kw_only=True, slots=False)  # of two bases only one may have slots
class PrometheusQuery:
    """Where the load is read; both are there unless files or ScaledObjects name the workloads."""

    url: HttpUrl | None = setting(
        "--prom-url",
        "PROM_URL",
        read_url,
        "base address of Prometheus; a path prefix is kept",
        required=True,
        unless=("config",),
        kind="URL",
    )
    query: str | None = setting(
        "--prom-query",
        "PROM_QUERY",
        read_text,
        "PromQL whose value is the load; several series are summed",
        required=True,
        unless=("config", "allow_scaledobject_workloads"),
        kind="PromQL",
    )


@attrs.frozen(kw_only=True)
class PrometheusLogin:
    """How to log in at Prometheus."""

    username: Name | None = setting(
        "--prom-username", "PROM_USERNAME", read_name, "user for basic authentication", kind="name"
    )
    password_file: Path | None = file_setting(
        "--prom-password-file", "PROM_PASSWORD_FILE", "file that holds the password, read again as it is rotated"
    )
    password: Secret | None = setting(None, "PROM_PASSWORD", read_secret, "the password", kind="secret")
    token_file: Path | None = file_setting(
        "--prom-token-file", "PROM_TOKEN_FILE", "file that holds a bearer token, read again as it is rotated"
    )
    token: Secret | None = setting(None, "PROM_TOKEN", read_secret, "the bearer token", kind="secret")
    headers: tuple[Header, ...] = setting(
        "--prom-header",
        "PROM_HEADER",
        read_headers,
        "a header 'Name: value' to send, such as a tenant; repeatable (in the variable one a line)",
        default="",
        kind="header",
    )
    ca_file: Path | None = file_setting(
        "--prom-ca-file",
        "PROM_CA_FILE",
        "certificates to trust instead of the system's, read again as they are rotated",
    )
    cert_file: Path | None = file_setting(
        "--prom-cert-file", "PROM_CERT_FILE", "client certificate, for mutual TLS, read again as it is rotated"
    )
    key_file: Path | None = file_setting("--prom-key-file", "PROM_KEY_FILE", "key of the client certificate")


@attrs.frozen(kw_only=True)
class PrometheusSettings(PrometheusLogin, PrometheusQuery):
    """Where the load is read, and how to log in there."""


# --- Settings of TLS and of the token: who our servers are, whom they let in, and how the split scaler asks.


@attrs.frozen(kw_only=True)
class GrpcTls:
    """TLS of the gRPC server."""

    grpc_cert_file: Path | None = file_setting(
        "--grpc-tls-cert-file",
        "GRPC_TLS_CERT_FILE",
        "certificate of the gRPC server with its chain, read again as it is rotated; without it gRPC is plain text",
    )
    grpc_key_file: Path | None = file_setting("--grpc-tls-key-file", "GRPC_TLS_KEY_FILE", "key of that certificate")
    grpc_client_ca_file: Path | None = file_setting(
        "--grpc-tls-client-ca-file",
        "GRPC_TLS_CLIENT_CA_FILE",
        "authorities of which a gRPC client must have a certificate (mutual TLS); without it any client is served",
    )

    @property
    def files(self) -> TlsFiles | None:
        """What the server needs for TLS; None where it is to be plain text."""
        if self.grpc_cert_file is None:
            return None
        return TlsFiles(self.grpc_cert_file, self.grpc_key_file, self.grpc_client_ca_file)


@attrs.frozen(kw_only=True)
class HttpAccess:
    """TLS of the HTTP server, and the token that its clients need."""

    http_cert_file: Path | None = file_setting(
        "--http-tls-cert-file",
        "HTTP_TLS_CERT_FILE",
        "certificate of the HTTP server with its chain, read again as it is rotated; without it HTTP is plain text",
    )
    http_key_file: Path | None = file_setting("--http-tls-key-file", "HTTP_TLS_KEY_FILE", "key of that certificate")
    http_token_file: Path | None = file_setting(
        "--http-token-file",
        "HTTP_TOKEN_FILE",
        "file that holds the bearer token that all HTTP but the probes asks for, read again as it is rotated",
    )
    http_token: Secret | None = setting(None, "HTTP_TOKEN", read_secret, "that token itself", kind="secret")

    @property
    def files(self) -> TlsFiles | None:
        """What the server needs for TLS; None where it is to be plain text."""
        return None if self.http_cert_file is None else TlsFiles(self.http_cert_file, self.http_key_file)


@attrs.frozen(kw_only=True)
class RemoteAccess:
    """How the split scaler makes sure of its forecaster, and proves who it is."""

    forecaster_ca_file: Path | None = file_setting(
        "--forecaster-ca-file",
        "FORECASTER_CA_FILE",
        "certificates to trust instead of the system's, read again as they are rotated",
    )
    forecaster_cert_file: Path | None = file_setting(
        "--forecaster-cert-file",
        "FORECASTER_CERT_FILE",
        "client certificate, for mutual TLS, read again as it is rotated",
    )
    forecaster_key_file: Path | None = file_setting(
        "--forecaster-key-file", "FORECASTER_KEY_FILE", "key of the client certificate"
    )
    forecaster_token_file: Path | None = file_setting(
        "--forecaster-token-file",
        "FORECASTER_TOKEN_FILE",
        "file that holds the bearer token of the forecaster, read again as it is rotated",
    )
    forecaster_token: Secret | None = setting(
        None, "FORECASTER_TOKEN", read_secret, "the bearer token of the forecaster", kind="secret"
    )

    @property
    def files(self) -> TlsFiles:
        """What the client uses for TLS, beside what it has by itself."""
        return TlsFiles(self.forecaster_cert_file, self.forecaster_key_file, self.forecaster_ca_file)


# --- Settings of the process itself: where it listens, what it logs, where the split scaler reads.

LogLevel = StrEnum("LogLevel", {name: name for name in ("debug", "info", "warn", "error")})  # type: ignore[misc]
LogFormat = StrEnum("LogFormat", {name: name for name in ("text", "json")})  # type: ignore[misc]


@attrs.frozen(kw_only=True)
class RunListeners:
    """Where `run` and `demo` listen."""

    http_listen: ListenAddress = setting(
        "--http-listen",
        "FORECASTER_LISTEN",
        read_listen_address,
        "where the snapshot server (HTTP) listens",
        default=":8081",
        kind="address",
    )
    grpc_listen: ListenAddress = setting(
        "--grpc-listen",
        "SCALER_LISTEN",
        read_listen_address,
        "where KEDA's external scaler (gRPC) listens",
        default=":8080",
        kind="address",
    )
    grpc_reflection: bool = setting(
        "--grpc-reflection",
        "GRPC_REFLECTION",
        read_boolean,
        "serve gRPC reflection, so that grpcurl can list the services; off, since production has no use for it",
        default="false",
        kind="boolean",
    )


@attrs.frozen(kw_only=True)
class ForecasterListener:
    """Where `forecaster` listens."""

    http_listen: ListenAddress = setting(
        "--listen",
        "FORECASTER_LISTEN",
        read_listen_address,
        "where the snapshot server (HTTP) listens",
        default=":8081",
        kind="address",
    )


@attrs.frozen(kw_only=True)
class ScalerListeners:
    """Where `scaler` listens."""

    grpc_listen: ListenAddress = setting(
        "--listen",
        "SCALER_LISTEN",
        read_listen_address,
        "where KEDA's external scaler (gRPC) listens",
        default=":8080",
        kind="address",
    )
    http_listen: ListenAddress = setting(
        "--http-listen",
        "SCALER_HTTP_LISTEN",
        read_listen_address,
        "where /healthz, /readyz and /metrics are served",
        default=":8082",
        kind="address",
    )
    grpc_reflection: bool = setting(
        "--grpc-reflection",
        "GRPC_REFLECTION",
        read_boolean,
        "serve gRPC reflection, so that grpcurl can list the services; off, since production has no use for it",
        default="false",
        kind="boolean",
    )


@attrs.frozen(kw_only=True)
class RemoteSettings:
    """Where the split scaler reads snapshots."""

    forecaster_url: HttpUrl = setting(
        "--forecaster-url",
        "FORECASTER_URL",
        read_url,
        "address of the forecaster's snapshot server",
        required=True,
        kind="URL",
    )


@attrs.frozen(kw_only=True)
class ConfigFiles:
    """Where workloads and data sources are configured beside flags and the environment."""

    config: Path | None = setting(
        "--config",
        "KEDASTRAL_CONFIG",
        read_config_path,
        "file, or folder of *.yaml and *.yml, with DataSource and ForecastPolicy documents",
        kind="path",
    )


@attrs.frozen(kw_only=True)
class ScaledObjectSettings:
    """Whether ScaledObjects may bring workloads of their own, how many, and from where."""

    allow_scaledobject_workloads: bool = setting(
        "--allow-scaledobject-workloads",
        "ALLOW_SCALEDOBJECT_WORKLOADS",
        read_boolean,
        "let trigger metadata describe workloads: its query runs with the rights of the data source it names; off, "
        "since whoever may write a ScaledObject could then read every metric there",
        default="false",
        kind="boolean",
    )
    max_scaledobject_workloads: int = setting(
        "--max-scaledobject-workloads",
        "MAX_SCALEDOBJECT_WORKLOADS",
        read_integer,
        "most workloads that ScaledObjects may bring, all together; each costs memory and requests to Prometheus",
        default="1000",
        check=between(1, 1_000_000),
        kind="integer",
    )
    scaledobject_namespaces: tuple[Name, ...] = setting(
        "--scaledobject-namespaces",
        "SCALEDOBJECT_NAMESPACES",
        read_names,
        "namespaces whose ScaledObjects may bring workloads, separated by commas; none given: all",
        default="",
        kind="names",
    )


@attrs.frozen(kw_only=True)
class LogSettings:
    """What is logged, and how."""

    level: LogLevel = setting(
        "--log-level", "LOG_LEVEL", read_choice(LogLevel), "least level that is logged", default="info", kind="choice"
    )
    format: LogFormat = setting(
        "--log-format",
        "LOG_FORMAT",
        read_choice(LogFormat),
        "text for people, json for machines",
        default="text",
        kind="choice",
    )


@attrs.frozen(kw_only=True)
class DemoPace:
    """How the demo's day passes."""

    speed: float = setting(
        "--speed",
        "DEMO_SPEED",
        read_number,
        "how many times faster than real time; 480 is a day in three minutes",
        default="480",
        check=between(1, 3600),
        kind="number",
    )
    duration: Seconds = setting(
        "--duration",
        "DEMO_DURATION",
        read_duration,
        "how much of the demo's time to show before it ends",
        default="1d",
        check=above(0),
        kind="duration",
    )


# --- Settings that `backtest` has beside those of `run`: which history, by which rules, and where the results go.


class Auto(float):
    """A pod as large as the history says; infinite, so that no plan takes it for a number."""

    def __repr__(self) -> str:
        return "auto"


AUTO = Auto("inf")


class HpaKind(StrEnum):
    """How the HPA around every policy behaves."""

    UNLIMITED = "unlimited"
    KUBERNETES = "kubernetes"


def read_target(text: str) -> float:
    """A number above 0, or ``auto``."""
    if text == "auto":
        return AUTO
    try:
        return read_number(text)
    except ValueError:
        raise ValueError("a finite number, or auto") from None


@attrs.frozen(kw_only=True)
class HistorySettings:
    """Which history is replayed: CSV files, or a query to Prometheus."""

    csv: tuple[Path, ...] = setting(
        "--csv",
        "BACKTEST_CSV",
        read_file_paths,
        "history as timestamp,value, gzipped or not; repeatable (in the variable one a line), a workload each",
        default="",
        kind="files",
    )
    url: HttpUrl | None = setting(
        "--prom-url", "PROM_URL", read_url, "base address of Prometheus; a path prefix is kept", kind="URL"
    )
    query: str | None = setting(
        "--prom-query",
        "PROM_QUERY",
        read_text,
        "PromQL whose value is the load; several series are summed",
        kind="PromQL",
    )
    days: float = setting(
        "--days",
        "BACKTEST_DAYS",
        read_number,
        "how many days of history to read from Prometheus, up to now",
        default="14",
        check=between(1, 400),
        kind="number",
    )
    workload: Name | None = setting(
        "--workload",
        "WORKLOAD",
        read_name,
        "with --config the ForecastPolicy that is replayed, by default each of them; else what the tables call a "
        "single workload, by default the name of its file, or prometheus",
        kind="name",
    )


@attrs.frozen(kw_only=True)
class BacktestPlan(PlanSettings):
    """How load becomes replicas; a pod's share may be found from the history."""

    target_per_pod: float = setting(
        "--target-per-pod",
        "TARGET_PER_POD",
        read_target,
        "load that one pod sustains, in the unit of the query",
        default="auto",
        check=above(0),
        kind="number",
    )


@attrs.frozen(kw_only=True)
class BacktestRules:
    """How policies are judged."""

    evaluated: float = setting(
        "--evaluated",
        "BACKTEST_EVALUATED",
        read_number,
        "share of the history, at its end, that is replayed; what lies before is what policies know",
        default="0.3",
        check=between(0.01, 1),
        kind="number",
    )
    warm_up: Seconds = setting(
        "--warm-up",
        "BACKTEST_WARM_UP",
        read_duration,
        "begin of the replay that does not count, so that no policy is judged by how it starts",
        default="1d",
        check=at_least(0),
        kind="duration",
    )
    hpa: HpaKind = setting(
        "--hpa",
        "BACKTEST_HPA",
        read_choice(HpaKind),
        "HPA around the policies: kubernetes has its default behavior for all, unlimited no limits of rate",
        default="unlimited",
        kind="choice",
    )
    sync_period: Seconds | None = setting(
        "--sync-period",
        "BACKTEST_SYNC_PERIOD",
        read_duration,
        "time between two decisions of the HPA; by default 1m, and 15s with --hpa kubernetes",
        check=above(0),
        kind="duration",
    )
    polling_interval: Seconds | None = setting(
        "--polling-interval",
        "BACKTEST_POLLING_INTERVAL",
        read_duration,
        "time between two polls of KEDA; by default 1m, and 30s with --hpa kubernetes",
        check=above(0),
        kind="duration",
    )


@attrs.frozen(kw_only=True)
class BacktestOutput:
    """Where results go beside the tables in the terminal."""

    json: Path | None = setting(
        "--json", "BACKTEST_JSON", read_output_path, "file for every figure, as JSON", kind="file"
    )
    timeline: Path | None = setting(
        "--timeline",
        "BACKTEST_TIMELINE",
        read_output_path,
        "file for what every policy did, step by step, as CSV",
        kind="file",
    )
    report: Path | None = setting(
        "--report",
        "BACKTEST_REPORT",
        read_output_path,
        "file for a report with plots, as one HTML page that needs nothing else; wants matplotlib",
        kind="file",
    )


# --- What one process forecasts: its workloads and the data sources they read, however they were configured.

DEFAULT_SOURCE = "default"
"""The data source that flags and the environment describe."""
BY_FLAGS = "flags and variables"


def key_of(workload: str, namespace: str | None = None) -> str:
    """What a workload is known by everywhere: ``namespace/name``, or the name alone where it has no namespace."""
    return f"{namespace}/{workload}" if namespace else workload


@attrs.frozen(kw_only=True)
class WorkloadSettings:
    """One workload: what is forecast, from where, and how it is planned and served.

    ``data_source`` is the name of one of the fleet's sources; ``origin`` says where it was configured. A setting in
    one of the groups is a key of ForecastPolicy documents and of trigger metadata, without more ado. ``by_default``
    are the names of those that nobody gave; ``warnings`` are lines about what is odd in metadata it was read from.
    """

    workload: Name
    namespace: Name | None = None
    data_source: str = DEFAULT_SOURCE
    query: str
    origin: str = attrs.field(default=BY_FLAGS, eq=False)
    by_default: frozenset[str] = attrs.field(default=frozenset(), eq=False, repr=False)
    warnings: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)
    forecast: ForecastSettings = group(ForecastSettings)
    plan: PlanSettings = group(PlanSettings)
    level: ServiceLevel = group(ServiceLevel)
    serving: ServingSettings = group(ServingSettings)
    stale: StaleSettings = group(StaleSettings)

    @property
    def key(self) -> str:
        """See `key_of`."""
        return key_of(self.workload, self.namespace)

    def policy(self) -> StalePolicy:
        """What KEDA is told when the forecast is stale, and whether it is told what is planned at all."""
        return attrs.evolve(self.stale.policy(), mode=self.serving.mode)


@attrs.frozen(kw_only=True, slots=False)  # of two bases only one may have slots
class SourceLimits:
    """How hard a data source may be asked. These have no flags; in their place stands the path in a document."""

    timeout: Seconds = setting(
        "timeout",
        "",
        read_duration,
        "how long one request may take, its retries included",
        default="10s",
        check=above(0),
        kind="duration",
    )
    max_concurrent: int = setting(
        "limits.maxConcurrent",
        "",
        read_integer,
        "most requests at a time",
        default="8",
        check=between(1, 1000),
        kind="integer",
    )
    max_per_second: float = setting(
        "limits.maxPerSecond",
        "",
        read_number,
        "most requests a second, on average",
        default="50",
        check=between(0.01, 10_000),
        kind="number",
    )


@attrs.frozen(kw_only=True)
class DataSourceSettings(SourceLimits):
    """One Prometheus: where it is, how to log in, and how hard it may be asked.

    ``timeout`` bounds one request, in seconds. ``namespaces`` are those whose ScaledObjects may use it; None is all.
    """

    name: str = DEFAULT_SOURCE
    url: HttpUrl
    login: PrometheusLogin = attrs.field(factory=PrometheusLogin)
    namespaces: frozenset[str] | None = None
    origin: str = attrs.field(default=BY_FLAGS, eq=False)


def _frozen_sources(given: Mapping[str, DataSourceSettings]) -> Mapping[str, DataSourceSettings]:
    return MappingProxyType(dict(given))


def _frozen_workloads(given: Mapping[str, WorkloadSettings]) -> Mapping[str, WorkloadSettings]:
    return MappingProxyType(dict(given))


@attrs.frozen(kw_only=True)
class FleetSettings:
    """All of it: sources by name, workloads by key. Every workload's data source is among the sources."""

    sources: Mapping[str, DataSourceSettings] = attrs.field(converter=_frozen_sources)
    workloads: Mapping[str, WorkloadSettings] = attrs.field(converter=_frozen_workloads)
