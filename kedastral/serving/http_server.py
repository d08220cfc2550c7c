# SPDX-License-Identifier: Apache-2.0
"""Serves an ASGI application on one socket, over HTTP/1.1 or HTTPS, with Hypercorn's code for each connection.

Hypercorn's own ``serve`` is not used: an exception in one connection ends them all (a broken chunk that arrives while
the response is being written is enough), and its shutdown waits forever for a client that does not read.
"""

import logging
import socket
import ssl
from collections.abc import Collection
from contextlib import suppress
from http import HTTPStatus

import attrs
import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ConnectionState
from hypercorn.utils import wrap_app

from kedastral.trio_connections import (
    Acceptor,
    ConnectionLimiter,
    ConnectionSlot,
    FailureLog,
    Peer,
    complete_handshake,
    peek,
    starts_tls,
)
from kedastral.wire import dump_json

HTTP_GRACE = 1.5
"""Seconds that requests in flight may take once the server closes; a response takes milliseconds."""
SEND_BUFFER = 2**16
"""Bytes of responses that the kernel buffers for one client; Linux doubles it."""
HANDSHAKE_TIMEOUT = 5.0
"""Seconds for a TLS handshake: enough for a slow link, too little to hoard connections."""
RESERVED = 16
"""One connection in this many, and at least two, is reserved for the probes: a connection that takes a reserved place
may only send a probe, and is closed after one response."""

# Seconds for Hypercorn's bookkeeping after a response; only a lost connection needs any.
_BOOKKEEPING = 1.0

log = logging.getLogger("kedastral.http")


@attrs.frozen
class HttpLimits:
    """How many seconds a connection may wait for its client, and how many connections there may be."""

    keep_alive: float = 10.0
    """For the next request. It is longer than httpx keeps a connection, so that our own clients never write to one that
    is just closing."""
    write: float = 10.0
    """For the client to read a response; Prometheus gives up on a scrape after that time, too."""
    max_connections: int = 512
    """At once, including those for the probes."""


async def serve_http(
    app: ASGIFramework,
    listener: socket.socket,
    may_close: trio.Event,
    *,
    limits: HttpLimits = HttpLimits(),
    probes: Collection[str] = (),
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` on ``listener`` until ``may_close`` is set, then drain, close the listener and return.

    With ``tls`` it serves HTTPS. Either way it is HTTP/1.1 only: Hypercorn's HTTP/2 does not respect these limits. A
    failed handshake is one log line.

    A connection is closed when its client takes longer than ``limits`` allow. Half of all connections may be idle, and
    half may come from one host; beyond that, a new connection replaces one that waits for its client
    (`kedastral.trio_connections.ConnectionLimiter`). If none does, new connections may only request the paths in
    ``probes``, once each.

    Draining: no new connection is accepted, idle connections close at once, requests in flight have `HTTP_GRACE`
    seconds. Cancelling closes every connection. Raises what ``accept`` raises, unless the system is short of resources,
    which is logged and retried.
    """
    # the kernel would buffer megabytes of responses for a client that does not read
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    trio_listener = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as timers:
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            session = _HttpSession(wrap_app(app, 0, "asgi"), limits, tls, frozenset(probes), connections)
            timers.start_soon(session.enforce_grace, may_close)
            accepting.start_soon(Acceptor(trio_listener, session.start_connection, log).run)
            task_status.started()
            await may_close.wait()
            accepting.cancel_scope.cancel()
            await session.context.terminated.set()
            session.end_silent()
        timers.cancel_scope.cancel()


def _make_config(keep_alive: float) -> Config:
    config = Config()
    config.keep_alive_timeout = keep_alive
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    return config


def _make_limiter(places: int) -> ConnectionLimiter:
    reserve = max(places // RESERVED, 2)
    half = max(places // 2, 1)
    return ConnectionLimiter(log, max(places - reserve, 1), half, max_per_host=half, reserve=reserve)


@attrs.define(eq=False)
class _HttpSession:
    """One run of a server: what Hypercorn needs for each connection, and the open connections."""

    app: AppWrapper
    limits: HttpLimits
    tls: ssl.SSLContext | None
    probes: frozenset[str]
    connections: trio.Nursery
    config: Config = attrs.field(init=False)
    limiter: ConnectionLimiter = attrs.field(init=False)
    context: WorkerContext = attrs.field(factory=lambda: WorkerContext(None), init=False)
    failures: FailureLog = attrs.field(factory=lambda: FailureLog(log), init=False)
    not_reading: FailureLog = attrs.field(
        factory=lambda: FailureLog(
            log, logging.INFO, "%s %s", "%d more clients in the same minute did not read their answers"
        ),
        init=False,
    )
    _open: set[trio.SocketStream] = attrs.field(factory=set, init=False)
    _silent: set[trio.CancelScope] = attrs.field(factory=set, init=False)

    @config.default
    def _default_config(self) -> Config:
        return _make_config(self.limits.keep_alive)

    @limiter.default
    def _default_limiter(self) -> ConnectionLimiter:
        return _make_limiter(self.limits.max_connections)

    def start_connection(self, stream: trio.SocketStream) -> None:
        """Serve a new connection in its own task, or close it if there is no slot for it."""
        peer = Peer(stream)
        slot = self.limiter.admit(peer.host)
        if slot is None:
            stream.socket.close()
            return
        self._open.add(stream)
        self.connections.start_soon(self._serve_connection, stream, peer, slot)

    async def _serve_connection(self, stream: trio.SocketStream, peer: Peer, slot: ConnectionSlot) -> None:
        """Serve one connection. Whatever goes wrong on it is logged here and affects no other."""
        try:
            with slot.scope:
                if (transport := await self._secure(stream, peer)) is not None:
                    await _HttpConnection(self, transport, peer, slot).run()
        except* Exception:  # whatever bytes caused it, the other connections continue
            log.warning("a connection failed", exc_info=True)
        finally:
            self._open.discard(stream)
            slot.release()
            stream.socket.close()

    async def _secure(self, stream: trio.SocketStream, peer: Peer) -> trio.abc.Stream | None:
        """The stream for HTTP; None if the client is silent or the handshake failed."""
        if self.tls is None:
            return stream if await self._has_spoken(stream) else None
        # https_compatible: closing does not wait for the client's close_notify
        transport = trio.SSLStream(stream, self.tls, server_side=True, https_compatible=True)
        return transport if await complete_handshake(transport, peer, HANDSHAKE_TIMEOUT, self.failures) else None

    async def _has_spoken(self, stream: trio.SocketStream) -> bool:
        """Wait for the first byte: until then a connection costs a third of what Hypercorn's code does."""
        with trio.move_on_after(self.limits.keep_alive) as scope:
            self._silent.add(scope)
            try:
                return bool(await peek(stream, 1))
            finally:
                self._silent.discard(scope)
        return False

    def end_silent(self) -> None:
        """Close the connections that wait for their first byte."""
        for scope in self._silent:
            scope.cancel()

    async def enforce_grace(self, may_close: trio.Event) -> None:
        """End what still runs `HTTP_GRACE` seconds after ``may_close``, or at once if cancelled.

        Hypercorn shields its writes from cancellation; closing the socket ends even those.
        """
        try:
            await may_close.wait()
            await trio.sleep(HTTP_GRACE)
        finally:
            for stream in self._open:
                stream.socket.close()
            self.connections.cancel_scope.cancel()


class _HttpConnection(TCPServer):
    """A connection that closes when it should, keeps its slot up to date, and answers errors in JSON.

    Quart-Trio cancels its own task while Hypercorn, in that task, is telling the connection that the request is over.
    If the client has gone, Hypercorn would wait for the next request for as long as it keeps idle connections; for a
    client that does not read, it would wait forever.
    """

    def __init__(self, session: _HttpSession, stream: trio.abc.Stream, peer: Peer, slot: ConnectionSlot) -> None:
        # its annotation asks for TLS, its code accepts both
        super().__init__(session.app, session.config, session.context, ConnectionState({}), stream)  # type: ignore[arg-type]
        self._session = session
        self._peer = peer
        self._slot = slot
        self._client_is_gone = False

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._write(event.data)
            return
        with trio.move_on_after(_BOOKKEEPING) as scope:
            scope.shield = True
            await super().protocol_send(event)
            if isinstance(event, Updated):
                (self._slot.mark_idle if event.idle else self._slot.mark_busy)()
            if self._client_is_gone:
                await self.idle_task.stop()

    async def _write(self, data: bytes) -> None:
        """Write a response, shielded as in Hypercorn; gives up on the connection if the client does not read."""
        within = self._session.limits.write
        async with self.send_lock:
            self._slot.mark_idle()
            with trio.move_on_after(within) as scope:
                scope.shield = True
                self._slot.on_dropped = scope.cancel
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self.stream.send_all(data)
                    self._slot.mark_busy()
                    return
        if scope.cancelled_caught:
            if not self._slot.scope.cancel_called:
                self._session.not_reading.report(self._peer, f"did not read an answer within {within:g} s")
            await trio.aclose_forcefully(self.stream)
        await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        self._use_own_protocol()
        if starts_tls(await peek(self.stream, 2)):  # only a port without TLS sees those bytes
            self._session.failures.report(self._peer, "the client speaks TLS, but this port does not")
        await super()._read_data()
        self._client_is_gone = True
        await self.idle_task.stop()

    def _use_own_protocol(self) -> None:
        """Replace the protocol that Hypercorn has just made: there is no setting for it (docs/upstream.md)."""
        made = self.protocol
        own = made.protocol = _StrictHttp1(
            made.app,
            made.config,
            made.context,
            made.task_group,
            made.state,
            made.ssl,
            made.client,
            made.server,
            made.send,
        )
        if self._slot.is_reserved:
            own.only = self._session.probes
            own.keep_alive_requests = made.config.keep_alive_max_requests  # the first request is the last


# The headers of a response that Hypercorn makes itself, without the application.
_OWN_HEADERS = [(b"content-length", b"0"), (b"connection", b"close")]


class _StrictHttp1(H11Protocol):
    """HTTP/1.1 only; its own error responses have a JSON body, like those of the application.

    Hypercorn makes them for bytes that are not HTTP, and for requests that the application did not answer.
    """

    only: frozenset[str] | None = None
    """The paths that are answered; None means all."""
    _is_over = False

    async def _check_protocol(self, event: h11.Request) -> None:
        """Hypercorn would switch to HTTP/2 here. An ``Upgrade`` may be ignored (RFC 9110, 7.8)."""

    async def _create_stream(self, request: h11.Request) -> None:
        status = self._refuse(request)
        if status is None:
            await super()._create_stream(request)
        else:
            await self._send_error_response(status)
            await self.send(Closed())

    def _refuse(self, request: h11.Request) -> int | None:
        """The status with which to refuse a request, None if it is fine."""
        if not request.http_version.startswith(b"1."):
            return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
        names = {name for name, _ in request.headers}
        if b"transfer-encoding" in names and (b"content-length" in names or request.http_version == b"1.0"):
            return HTTPStatus.BAD_REQUEST  # maybe a request smuggled past a proxy (RFC 9112, 6.1)
        if self.only is not None and request.target.partition(b"?")[0].decode("ascii") not in self.only:
            return HTTPStatus.SERVICE_UNAVAILABLE
        return None

    async def _send_error_response(self, status_code: int) -> None:
        body, headers = _make_error(status_code)
        headers += self.config.response_headers("h11")
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and event.headers == _OWN_HEADERS:
            self._is_over = True
            body, headers = _make_error(event.status_code)
            await super().stream_send(Response(event.stream_id, headers, event.status_code))
            if self.stream is not None and self.stream.scope.get("method") != "HEAD":
                await super().stream_send(Body(event.stream_id, body))
        else:
            await super().stream_send(event)
            if isinstance(event, EndBody) and self._is_over:
                await self.send(Closed())  # otherwise a refused websocket handshake would stay open


def _make_error(status: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body of an error, and the headers that go with it."""
    body = dump_json({"error": HTTPStatus(status).phrase.lower()}).encode() + b"\n"
    return body, [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
