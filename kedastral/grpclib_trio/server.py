# SPDX-License-Identifier: Apache-2.0
"""The server: accepts connections, serves each in its own task, and drains all of them at the end."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import trio
from grpclib.const import Handler, Status
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError

from kedastral.grpclib_trio.calls import FinishedCall, Services
from kedastral.grpclib_trio.connection import Connection, Shared
from kedastral.grpclib_trio.limits import Limits
from kedastral.trio_connections import Acceptor, ConnectionLimiter, FailureLog, complete_handshake

_log = logging.getLogger(__name__)

# Seconds after the grace limit for writing the last trailers; calls that still hang then are cancelled.
_TRAILERS_GRACE = 2.0

# Seconds for closing a transport, which with TLS sends close_notify; the peer may no longer read.
_CLOSE_TIMEOUT = 1.0

Listener = trio.abc.Listener[Any]


class Servable(Protocol):
    """A service: an instance of a subclass of the ``...Base`` class that grpclib's protoc plugin generates."""

    def __mapping__(self) -> Mapping[str, Handler]:
        """Handlers by path."""
        ...


class Server:
    """A gRPC server for services written against grpclib's generated base classes.

    Raises ``ValueError`` if two ``services`` claim the same method. ``on_call`` is called with every finished call, see
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
        self._services = Services(_collect_handlers(services), self.__dispatch__, on_call)
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
        ``trio.SSLListener``. They are closed at the end in any case. ``nursery.start`` returns them.

        Draining: connections that the kernel has accepted by then are still served, later ones are not. Every client
        gets a GOAWAY, and REFUSED_STREAM for new calls, which it may safely retry elsewhere. Streaming calls end with
        OK, unary calls run to their end. ``grace`` seconds after ``shutdown``, the remaining calls end with
        UNAVAILABLE, and this returns at most two seconds later.

        Cancelling ends everything at once: handlers are cancelled and clients see a broken connection. Calls cut off
        like this are reported as CANCELLED. A handler that shields itself from cancellation delays either end.

        Raises what ``accept`` raises, unless the system is short of resources, which is logged and retried.
        """
        session = _Session(self._services, self._limits, self._numbers)
        async with trio.open_nursery() as timers:
            async with trio.open_nursery() as connections:
                timers.start_soon(session.enforce_grace, shutdown, grace, connections.cancel_scope)
                await session.accept_until(shutdown, listeners, connections, task_status)
            timers.cancel_scope.cancel()


def _collect_handlers(services: Iterable[Servable]) -> dict[str, Handler]:
    handlers: dict[str, Handler] = {}
    for service in services:
        mapping = service.__mapping__()
        if twice := handlers.keys() & mapping.keys():
            raise ValueError(f"more than one service has {min(twice)}")
        handlers.update(mapping)
    return handlers


class _Session:
    """One run of a server: the open connections, and whether they are being drained."""

    def __init__(self, services: Services, limits: Limits, numbers: Iterator[int]) -> None:
        self._services = services
        self._limits = limits
        self._numbers = numbers
        self._open: set[Connection] = set()
        self._draining = False
        self._shared = Shared(limits)
        self._limiter = ConnectionLimiter(
            _log, limits.max_connections, limits.max_waiting, max_per_host=limits.max_per_host
        )
        self._handshake_failures = FailureLog(_log)
        self._not_http2 = FailureLog(
            _log, logging.INFO, "%s %s", "%d more connections in the same minute did not speak HTTP/2"
        )

    async def accept_until(
        self,
        shutdown: trio.Event,
        listeners: Sequence[Listener],
        connections: trio.Nursery,
        task_status: trio.TaskStatus[Sequence[Listener]],
    ) -> None:
        """Accept until ``shutdown``, start draining, and return when the backlogs are empty."""

        def start_connection(transport: trio.abc.Stream) -> None:
            connections.start_soon(self._serve_connection, transport)

        acceptors = [Acceptor(listener, start_connection, _log) for listener in listeners]
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
        """``grace`` seconds after ``shutdown``, end the remaining calls, then cancel what still runs."""
        await shutdown.wait()
        await trio.sleep(grace)
        _log.warning("%d connections are still busy after %g s of grace", len(self._open), grace)
        for connection in self._open:
            connection.end_calls(GRPCError(Status.UNAVAILABLE, "the server is shutting down"))
        await trio.sleep(_TRAILERS_GRACE)
        connections.cancel()

    async def _serve_connection(self, transport: trio.abc.Stream) -> None:
        connection = Connection(transport, self._services, self._limits, self._shared, next(self._numbers))
        slot = self._limiter.admit(connection.peer.host)
        if slot is None:
            await trio.aclose_forcefully(transport)
            return
        connection.on_resting, connection.on_busy = slot.mark_resting, slot.mark_busy
        self._open.add(connection)
        if self._draining:
            connection.drain()
        try:
            with slot.scope:
                await self._serve_or_log(connection, transport)
        finally:
            self._open.discard(connection)
            slot.release()
            if slot.scope.cancelled_caught:
                await trio.aclose_forcefully(transport)
            # to send close_notify Trio finishes even a handshake that never began, which fails if the client is gone
            with trio.move_on_after(_CLOSE_TIMEOUT), suppress(trio.BrokenResourceError):
                await transport.aclose()

    async def _serve_or_log(self, connection: Connection, transport: trio.abc.Stream) -> None:
        """Serve one connection. Whatever goes wrong on it is logged here and affects no other."""
        try:
            if await self._agree_on_http2(connection, transport):
                await connection.serve()
                if connection.was_silent:
                    within = self._limits.handshake_timeout
                    self._not_http2.report(connection.peer, f"did not speak HTTP/2 within {within:g} s")
                if connection.spoke_tls:
                    self._handshake_failures.report(connection.peer, "the client speaks TLS, but this port does not")
        except* trio.TooSlowError:
            _log.info("%s stopped reading and is disconnected", connection.peer)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            _log.debug("%s broke the connection", connection.peer)
        except* Exception:  # noqa: BLE001  # even hostile bytes that confuse h2 only cost one connection
            _log.exception("the connection of %s failed", connection.peer)

    async def _agree_on_http2(self, connection: Connection, transport: trio.abc.Stream) -> bool:
        """With TLS, agree on HTTP/2 in the handshake. Without TLS, gRPC clients assume HTTP/2."""
        if not isinstance(transport, trio.SSLStream):
            return True
        within = self._limits.handshake_timeout
        return await complete_handshake(transport, connection.peer, within, self._handshake_failures, alpn="h2")
