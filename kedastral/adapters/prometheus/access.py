# SPDX-License-Identifier: Apache-2.0
"""`PrometheusAccess`: where Prometheus is and how we prove who we are; `open_prometheus_client` opens the way to it."""

import re
import ssl
from functools import partial
from pathlib import Path

import attrs
import httpx

from kedastral.adapters.http import BasicAuth, BearerAuth, SecretText, open_client
from kedastral.errors import ConfigError
from kedastral.secrets import Secret
from kedastral.tls import RotatingContext, TlsFiles, make_client_context

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token of RFC 9110, section 5.6.2."""


def _optional_path(path: "str | Path | None") -> Path | None:
    return None if path is None else Path(path)


@attrs.frozen
class PrometheusAccess:
    """Address and authentication of a Prometheus; its repr shows no secret.

    ``url`` is the base URL, a path prefix included. Of each secret give the text or the file it is read from at every
    request; a user or a token, not both. ``headers`` are sent with each request. ``ca_file`` replaces the public
    authorities; ``cert_file`` and ``key_file`` are our own side of mutual TLS, both PEM, taken up as they are rotated.
    """

    url: str = attrs.field(repr=False)
    username: str | None = None
    password: Secret | None = None
    password_file: Path | None = attrs.field(default=None, converter=_optional_path)
    token: Secret | None = None
    token_file: Path | None = attrs.field(default=None, converter=_optional_path)
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=False)
    ca_file: Path | None = attrs.field(default=None, converter=_optional_path)
    cert_file: Path | None = attrs.field(default=None, converter=_optional_path)
    key_file: Path | None = attrs.field(default=None, converter=_optional_path)

    def problems(self) -> list[str]:
        """One line for each thing that cannot be used, without secrets; says nothing about the content of files."""
        has_password = self.password is not None or self.password_file is not None
        has_token = self.token is not None or self.token_file is not None
        rules = (
            (self.password is not None and self.password_file is not None, "give a password or its file, not both"),
            (self.token is not None and self.token_file is not None, "give a token or its file, not both"),
            (has_password and self.username is None, "a password needs a username"),
            (has_token and self.username is not None, "give a username or a token, not both"),
            (":" in (self.username or ""), "a username cannot hold a colon"),
            (self.key_file is not None and self.cert_file is None, "a key file needs a certificate file"),
        )
        found = [f"Prometheus: {line}" for broken, line in rules if broken]
        found += [
            f"Prometheus: header {name!r} has a name or a value that HTTP cannot carry"
            for name, value in self.headers
            if not _HEADER_NAME.fullmatch(name) or not (value.isascii() and (value.isprintable()))
        ]
        return found


def open_prometheus_client(
    access: PrometheusAccess, *, transport: httpx.AsyncBaseTransport | None = None
) -> httpx.AsyncClient:
    """A client for the API below ``access.url``, to be closed or used in ``async with``; ``transport`` is for tests.

    Raises ConfigError: settings that contradict each other, certificates that cannot be loaded. Password and token
    files are read later, at each request.
    """
    found = access.problems()
    if found:
        raise ConfigError(found)
    return open_client(
        access.url,
        auth=_auth_of(access),
        headers=dict(access.headers),
        verify=_tls_of(access),
        transport=transport,
    )


def _auth_of(access: PrometheusAccess) -> httpx.Auth | None:
    if access.username is not None:
        return BasicAuth(access.username, SecretText("Prometheus password", access.password, access.password_file))
    if access.token is not None or access.token_file is not None:
        return BearerAuth(SecretText("Prometheus token", access.token, access.token_file))
    return None


def _tls_of(access: PrometheusAccess) -> ssl.SSLContext | bool:
    if access.ca_file is None and access.cert_file is None:
        return True
    files = TlsFiles(access.cert_file, access.key_file, access.ca_file)
    return RotatingContext("Prometheus", files, partial(make_client_context, public=httpx.create_ssl_context))
