# SPDX-License-Identifier: Apache-2.0
"""Accepts connections, gives each a task of its own, and lets all of them go when it is told to."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

import trio
from grpclib.const import Handler, Status
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError

from kedastral.grpclib_trio.calls import FinishedCall, Services
from kedastral.grpclib_trio.connection import Connection
from kedastral.grpclib_trio.limits import Limits
from kedastral.grpclib_trio.tls import FailureLog, SilenceLog, agree_on_http2
from kedastral.trio_connections import Acceptor, ConnectionLimiter

_log = logging.getLogger(__name__)

# Seconds after the grace limit for the last trailers to be written; what hangs even then is cancelled.
_LAST_WORDS = 2.0

# Seconds for closing a transport politely (TLS says goodbye); the peer may not listen any more.
_CLOSING = 1.0

Listener = trio.abc.Listener[Any]


class Servable(Protocol):
    """A service: an instance of a subclass of the ``...Base`` class that grpclib's protoc plugin generates."""

    def __mapping__(self) -> dict[str, Handler]:
        """Handlers by path."""
        ...


class Server:
    """A gRPC server for services written against grpclib's generated base classes.

    Two ``services`` that claim the same method are a ``ValueError``. ``on_call`` hears of every finished call, see
    :class:`FinishedCall`; it must not block, and an exception it raises is logged with its traceback. Interceptors
    register with ``grpclib.events.listen(server, ...)``.
    """

    def __init__(
        self,
        services: Iterable[Servable],
        *,
        limits: Limits | None = None,
        on_call: Callable[[FinishedCall], None] | None = None,
    ) -> None:
        self.__dispatch__ = _DispatchServerEvents()  # the name under which grpclib.events.listen looks for it
        self._services = Services(_collect_routes(services), self.__dispatch__, on_call)
        self._limits = limits or Limits()
        self._numbers = itertools.count(1)

    async def serve(
        self,
        listeners: Sequence[Listener],
        *,
        shutdown: trio.Event,
        grace: float = 8.0,
        task_status: trio.TaskStatus[Sequence[Listener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve on ``listeners`` until ``shutdown`` is set, then drain and return.

        Listeners are ``trio.SocketListener`` or, with an ``SSLContext`` that offers the ALPN protocol ``h2``,
        ``trio.SSLListener``. They are closed in the end, however it comes. ``nursery.start`` returns them.

        Draining: connections that the kernel has accepted by then are still taken, later ones are not. Every client
        gets a GOAWAY, and REFUSED_STREAM for new calls, which it may safely repeat elsewhere. Streaming calls end with
        OK, unary calls run to their end. ``grace`` seconds after ``shutdown``, what is left ends with UNAVAILABLE, and
        it returns at most two seconds later.

        Cancelling it ends everything at once: handlers are cancelled and clients see a broken connection. Calls cut
        off like this are reported as CANCELLED. A handler that shields itself from cancellation delays either end.

        Raises what ``accept`` raises, except when the system is short of resources, which is logged and tried again.
        """
        session = _Session(self._services, self._limits, self._numbers)
        async with trio.open_nursery() as timers:
            async with trio.open_nursery() as connections:
                timers.start_soon(session.enforce_grace, shutdown, grace, connections.cancel_scope)
                await session.accept_until(shutdown, listeners, connections, task_status)
            timers.cancel_scope.cancel()


def _collect_routes(services: Iterable[Servable]) -> dict[str, Handler]:
    routes: dict[str, Handler] = {}
    for service in services:
        mapping = service.__mapping__()
        if twice := routes.keys() & mapping.keys():
            raise ValueError(f"more than one service has {min(twice)}")
        routes |= mapping
    return routes


class _Session:
    """One run of a server: the connections that are open, and whether they are being drained."""

    def __init__(self, services: Services, limits: Limits, numbers: Iterator[int]) -> None:
        self._services = services
        self._limits = limits
        self._numbers = numbers
        self._open: set[Connection] = set()
        self._draining = False
        self._failures, self._silences = FailureLog(_log), SilenceLog(_log)
        self._room = ConnectionLimiter(_log, limits.max_connections, limits.max_waiting)

    async def accept_until(
        self,
        shutdown: trio.Event,
        listeners: Sequence[Listener],
        connections: trio.Nursery,
        task_status: trio.TaskStatus[Sequence[Listener]],
    ) -> None:
        """Accept until ``shutdown``, start draining, and return when the backlogs are empty."""

        def take(transport: trio.abc.Stream) -> None:
            connections.start_soon(self._serve_connection, transport)

        acceptors = [Acceptor(listener, take) for listener in listeners]
        async with trio.open_nursery() as nursery:
            for acceptor in acceptors:
                nursery.start_soon(acceptor.run)
            task_status.started(listeners)
            await shutdown.wait()
            _log.info("draining %d connections", len(self._open))
            self._draining = True
            for connection in self._open:
                connection.drain()
            for acceptor in acceptors:
                acceptor.stop()

    async def enforce_grace(self, shutdown: trio.Event, grace: float, connections: trio.CancelScope) -> None:
        """``grace`` seconds after ``shutdown`` end what is left, politely at first."""
        await shutdown.wait()
        await trio.sleep(grace)
        _log.warning("%d connections are still busy after %g s of grace", len(self._open), grace)
        for connection in self._open:
            connection.end_calls(GRPCError(Status.UNAVAILABLE, "the server is shutting down"))
        await trio.sleep(_LAST_WORDS)
        connections.cancel()

    async def _serve_connection(self, transport: trio.abc.Stream) -> None:
        connection = Connection(transport, self._services, self._limits, next(self._numbers))
        while_there_is_room = trio.CancelScope()
        guest = self._room.take(connection.peer.host, while_there_is_room.cancel)
        if guest is None:
            await trio.aclose_forcefully(transport)
            return
        connection.on_greeting = guest.hear
        self._open.add(connection)
        if self._draining:
            connection.drain()
        try:
            with while_there_is_room:
                await self._talk(connection, transport)
        finally:
            self._open.discard(connection)
            guest.leave()
            if while_there_is_room.cancelled_caught:
                await trio.aclose_forcefully(transport)
            # to say goodbye Trio finishes even a handshake that was never begun, which fails where the client is gone
            with trio.move_on_after(_CLOSING), suppress(trio.BrokenResourceError):
                await transport.aclose()

    async def _talk(self, connection: Connection, transport: trio.abc.Stream) -> None:
        """Serve one connection. Whatever goes wrong on it is logged here and ends with it."""
        try:
            if await agree_on_http2(transport, connection.peer, self._limits, self._failures):
                await connection.serve()
                if connection.was_silent:
                    within = self._limits.handshake_timeout
                    self._silences.tell(connection.peer, f"did not speak HTTP/2 within {within:g} s")
                if connection.spoke_tls:
                    self._failures.tell(connection.peer, "the client speaks TLS, and this port does not")
        except* trio.TooSlowError:
            _log.info("%s stopped reading and is cut off", connection.peer)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            _log.debug("%s broke the connection", connection.peer)
        except* Exception:  # noqa: BLE001  # hostile bytes that confuse h2, too, cost one connection
            _log.exception("the connection of %s failed", connection.peer)
