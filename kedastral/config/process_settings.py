# SPDX-License-Identifier: Apache-2.0
"""Settings of the process itself: where it listens, what it logs, where the split scaler reads."""

from enum import StrEnum

import attrs

from kedastral.config.fields import above, between, setting
from kedastral.config.units import (
    HttpUrl,
    ListenAddress,
    Seconds,
    read_boolean,
    read_choice,
    read_duration,
    read_listen_address,
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
