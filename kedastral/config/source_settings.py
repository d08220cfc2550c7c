# SPDX-License-Identifier: Apache-2.0
"""Settings of the metric source: where Prometheus is, and how to log in there."""

from pathlib import Path

import attrs

from kedastral.config.fields import file_setting, setting
from kedastral.config.units import (
    Header,
    HttpUrl,
    Name,
    read_headers,
    read_name,
    read_secret,
    read_text,
    read_url,
)
from kedastral.core.secret import Secret


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
