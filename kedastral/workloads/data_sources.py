# SPDX-License-Identifier: Apache-2.0
"""`DataSources` holds the connections to every Prometheus, which workloads share."""

import hashlib
from collections.abc import Callable, Mapping

import attrs
import httpx

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.adapters.prometheus.limits import RequestLimits
from kedastral.settings.fleet import DataSourceSettings


@attrs.define(eq=False)
class DataSourceConnection:
    """An HTTP client and the request limits of one Prometheus, shared by the ``users`` workloads that read it."""

    settings: DataSourceSettings
    client: httpx.AsyncClient
    limits: RequestLimits
    users: int = 0

    @classmethod
    def open(cls, settings: DataSourceSettings) -> "DataSourceConnection":
        """Open a connection. Raises ConfigError if the settings cannot be used."""
        limits = RequestLimits(settings.max_concurrent, settings.max_per_second)
        return cls(settings, open_prometheus_client(settings.url, settings.login), limits)


@attrs.define(eq=False)
class DataSources:
    """The connections to every Prometheus. One whose settings change is closed when its last user is gone."""

    _named: dict[str, DataSourceConnection] = attrs.field(factory=dict, init=False)
    _replaced: list[DataSourceConnection] = attrs.field(factory=list, init=False)
    _retired: list[DataSourceConnection] = attrs.field(factory=list, init=False)

    def replace(self, settings: Mapping[str, DataSourceSettings]) -> Callable[[], None]:
        """Use ``settings`` from now on. Returns a function that undoes this until `close_unused` is called.

        Raises ConfigError, and changes nothing, if one of them cannot be used.
        """
        before = self._named
        self._named = {
            name: _unchanged(before.get(name), one) or DataSourceConnection.open(one) for name, one in settings.items()
        }
        gone = [connection for name, connection in before.items() if self._named.get(name) is not connection]
        self._replaced += gone

        def undo() -> None:
            self._replaced = [one for one in self._replaced if one not in gone]
            self._replaced += [one for name, one in self._named.items() if before.get(name) is not one]
            self._named = before

        return undo

    def find(self, name: str) -> DataSourceConnection:
        """The connection to the data source ``name``. Raises KeyError if there is none."""
        return self._named[name]

    def use(self, name: str) -> DataSourceConnection:
        """Like `find`, and count one more user."""
        connection = self.find(name)
        connection.users += 1
        return connection

    def is_current(self, name: str, connection: DataSourceConnection) -> bool:
        """Whether ``connection`` matches the current configuration of the data source ``name``."""
        return self._named.get(name) is connection

    async def release(self, connection: DataSourceConnection) -> None:
        """Count one user of ``connection`` less; the last one closes it if it is no longer configured."""
        connection.users -= 1
        await self._close_retired()

    async def close_unused(self) -> None:
        """Close connections that are no longer configured, now or with their last user. This makes `replace` final."""
        self._retired, self._replaced = [*self._retired, *self._replaced], []
        await self._close_retired()

    async def _close_retired(self) -> None:
        unused = [one for one in self._retired if not one.users]
        self._retired = [one for one in self._retired if one.users]
        for connection in unused:
            await connection.client.aclose()

    async def close(self) -> None:
        """Close all connections, used or not."""
        everyone = [*self._named.values(), *self._replaced, *self._retired]
        self._named, self._replaced, self._retired = {}, [], []
        for connection in everyone:
            await connection.client.aclose()


def _unchanged(connection: DataSourceConnection | None, settings: DataSourceSettings) -> DataSourceConnection | None:
    return connection if connection is not None and connection.settings == settings else None


def identify_source(settings: DataSourceSettings) -> str:
    """Identifies a data source: its address, and what is sent to choose a tenant. Contains no secret."""
    headers = sorted(header for header in settings.login.headers if header[0].lower() != "authorization")
    chosen = repr((headers, settings.login.query_params)).encode()
    return f"{settings.url} {hashlib.blake2b(chosen, digest_size=16).hexdigest()}"
