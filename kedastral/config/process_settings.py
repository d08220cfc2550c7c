# SPDX-License-Identifier: Apache-2.0
"""Settings of the process itself: where it listens, what it logs, where the split scaler reads."""

from enum import StrEnum
from pathlib import Path

import attrs

from kedastral.config.fields import above, between, setting
from kedastral.config.units import (
    HttpUrl,
    ListenAddress,
    Name,
    Seconds,
    read_boolean,
    read_choice,
    read_config_path,
    read_duration,
    read_integer,
    read_listen_address,
    read_names,
    read_number,
    read_url,
)

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
