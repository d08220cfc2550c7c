# SPDX-License-Identifier: Apache-2.0
"""A Redis client for each kind of address, with its login: a server, Sentinels or a cluster."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

import attrs
from coredis import Redis, RedisCluster, Sentinel
from coredis.connection import TCPLocation
from coredis.credentials import AbstractCredentialProvider, UserPass
from coredis.retry import NoRetryPolicy, RetryPolicy

from kedastral.adapters.http import SecretText
from kedastral.settings.declarations import RedisAccess
from kedastral.settings.types import RedisAddress, RedisKind
from kedastral.tls import TlsFiles, make_client_context

ANSWER_WITHIN = 2.0
"""Seconds for one batch of requests, and for a connection."""
MAX_CONNECTIONS = 4
"""To each server. One is enough for sequential batches; a second is needed while the first is being replaced."""


@attrs.frozen
class RedisLogin:
    """Where Redis is, and how to log in there. The ``tls`` files are read for each client that is opened."""

    address: RedisAddress
    username: str | None = None
    password: SecretText | None = None
    tls: TlsFiles | None = None

    @classmethod
    def of(cls, settings: RedisAccess) -> "RedisLogin":
        """The login from settings that have an address."""
        address = settings.redis_url
        assert address is not None  # noqa: S101 - the settings' rules ensure it
        given = settings.redis_password is not None or settings.redis_password_file is not None
        password = SecretText("Redis password", settings.redis_password, settings.redis_password_file)
        tls = settings.files if address.tls else None
        return cls(address, settings.redis_username, password if given else None, tls)

    def make_context(self) -> ssl.SSLContext | None:
        """The TLS context, from the files as they are now. Raises ConfigError if they are invalid."""
        return None if self.tls is None else make_client_context(self.tls)


@attrs.frozen
class RotatingPassword(AbstractCredentialProvider):
    """Gives each new connection the current password."""

    username: str
    password: SecretText

    async def get_credentials(self) -> UserPass:
        """Raises SourceError if the password cannot be read."""
        return UserPass(self.username, self.password.read())


Client = Redis[bytes] | RedisCluster[bytes]


class ConnectionSettings(TypedDict):
    """The arguments of every connection to a Redis server, including Sentinels."""

    ssl_context: ssl.SSLContext | None
    credential_provider: AbstractCredentialProvider | None
    connect_timeout: float
    stream_timeout: float


class PoolSettings(TypedDict):
    """The arguments of every client of a server or a cluster, besides its connections."""

    pool_timeout: float
    max_connections: int
    retry_policy: RetryPolicy
    verify_version: bool


POOL: PoolSettings = {
    "pool_timeout": ANSWER_WITHIN,
    "max_connections": MAX_CONNECTIONS,
    "retry_policy": NoRetryPolicy(),
    "verify_version": False,
}


def make_connection_settings(login: RedisLogin, username: str | None = None) -> ConnectionSettings:
    """Those of ``login``, as its user or as ``username``. Raises ConfigError if its files are invalid."""
    credentials = None
    if login.password is not None:
        credentials = RotatingPassword(username or login.username or "default", login.password)
    return {
        "ssl_context": login.make_context(),
        "credential_provider": credentials,
        "connect_timeout": ANSWER_WITHIN,
        "stream_timeout": ANSWER_WITHIN,
    }


@asynccontextmanager
async def open_redis(login: RedisLogin) -> AsyncIterator[Client]:
    """A client for ``login``; a cluster is asked for its servers at once. Raises RedisError and ConfigError."""
    address = login.address
    if address.kind is RedisKind.SENTINEL:
        async with _open_sentinel(login) as client:
            yield client
    elif address.kind is RedisKind.CLUSTER:
        nodes = [TCPLocation(*node) for node in address.nodes]
        async with RedisCluster[bytes](
            startup_nodes=nodes,
            max_connections_per_node=True,
            skip_full_coverage_check=True,
            decode_responses=False,
            **make_connection_settings(login),
            **POOL,
        ) as cluster:
            yield cluster
    else:
        host, port = address.nodes[0] if address.nodes else (None, None)
        path = address.path or None
        connection = make_connection_settings(login)
        async with Redis(host, port, address.database, unix_socket_path=path, **connection, **POOL) as server:
            yield server


@asynccontextmanager
async def _open_sentinel(login: RedisLogin) -> AsyncIterator[Client]:
    """A client for the primary that the Sentinels name.

    They get the same password, as the default user: a Sentinel without a password accepts any.
    """
    sentinels = Sentinel(
        [TCPLocation(*node) for node in login.address.nodes],
        sentinel_kwargs={**make_connection_settings(login, "default"), "verify_version": False},
        decode_responses=False,
        db=login.address.database,
        timeout=ANSWER_WITHIN,
        max_connections=MAX_CONNECTIONS,
        **make_connection_settings(login),
    )
    async with sentinels, sentinels.primary_for(login.address.primary) as primary:
        yield primary
