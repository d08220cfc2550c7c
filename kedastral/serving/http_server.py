# SPDX-License-Identifier: Apache-2.0
"""Serves an ASGI application on one socket: Hypercorn's HTTP, connection by connection, each apart from the others.

Hypercorn's own ``serve`` lets an exception of one connection end them all (a broken chunk sent while the answer is
being written is enough), and waits for ever at the end for a client that does not read. So it accepts and ends here.
"""

import errno
import logging
import os
import socket
import ssl
from http import HTTPStatus

import attrs
import h11
import hypercorn.protocol
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

from kedastral.grpclib_trio.tls import FailureLog, HandshakeError, peek, shake_hands, speaks_tls, tell_failure
from kedastral.grpclib_trio.transport import Peer
from kedastral.trio_connections import ConnectionLimiter, ConnectionSlot
from kedastral.wire import dump_json

HTTP_GRACE = 1.5
"""Seconds that requests have to be answered once the server closes; an answer takes milliseconds."""
KEEP_ALIVE = 10.0
"""Seconds that a connection may stay open with no request on it; longer than httpx keeps one, so that no client of
ours writes to a connection that closes under it."""
HANDSHAKE_WITHIN = 5.0
"""Seconds for a TLS handshake: enough for a slow link, too little to hoard connections."""
MOST_CONNECTIONS = 512
"""Connections at once; they share the limit of open files with gRPC, which must not starve for them."""
MOST_WAITING = 256
"""Of them, those without a request; one more, and the one that has waited longest is dropped."""

# Seconds for a connection's bookkeeping once its request is answered; only a connection that is lost needs any.
_BOOKKEEPING = 1.0

# What accept() says when the machine, not the listener, is at its end; it gets better when connections close.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_EXHAUSTED_PAUSE = 0.1

log = logging.getLogger("kedastral.http")


async def serve_http(
    app: ASGIFramework,
    listener: socket.socket,
    may_close: trio.Event,
    *,
    keep_alive: float = KEEP_ALIVE,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` on ``listener``, which it closes, until ``may_close`` is set, then drain and return.

    With ``tls`` it serves HTTPS, HTTP/1.1 only. A client that will not agree on TLS is one line in the log.

    A connection is closed when it has been idle for ``keep_alive`` seconds. Beyond `MOST_WAITING` idle ones, or
    `MOST_CONNECTIONS` of all, the one that has been idle for longest makes room for a new one; where none is idle, that
    is turned away.

    Draining: nothing new is accepted, idle connections close at once, requests in flight have `HTTP_GRACE` seconds.
    Cancelling it cuts every connection off. Raises what ``accept`` raises, except where the system is short of
    resources, which is logged and tried again.
    """
    session = _HttpSession(wrap_app(app, 0, "asgi"), _make_config(keep_alive), tls)
    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as timers:
        async with trio.open_nursery() as connections, trio.open_nursery() as acceptors:
            timers.start_soon(session.cut_off, may_close, connections.cancel_scope)
            acceptors.start_soon(_accept, session, accepting, connections)
            task_status.started()
            await may_close.wait()
            acceptors.cancel_scope.cancel()
            await session.context.terminated.set()
        timers.cancel_scope.cancel()


async def _accept(session: "_HttpSession", listener: trio.SocketListener, connections: trio.Nursery) -> None:
    """Accept until cancelled; a machine at its end is one line in the log, and another when it has recovered."""
    exhausted = False
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                if not exhausted:
                    log.error("no connection can be accepted: %s", os.strerror(error.errno))  # noqa: TRY400 - it says all
                exhausted = True
                await trio.sleep(_EXHAUSTED_PAUSE)
            else:
                if exhausted:
                    log.info("connections are accepted again")
                exhausted = False
                session.take(stream, connections)


def _make_config(keep_alive: float) -> Config:
    config = Config()
    config.keep_alive_timeout = keep_alive
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    return config


# How Hypercorn answers by itself, without the application.
_BODILESS = [(b"content-length", b"0"), (b"connection", b"close")]


class _JsonErrors(H11Protocol):
    """HTTP/1.1 whose own answers, to what is no HTTP or never got to the application, have the shape of all errors."""

    _is_over = False

    async def _send_error_response(self, status_code: int) -> None:
        body, headers = _make_error(status_code)
        headers += self.config.response_headers("h11")
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and event.headers == _BODILESS:
            self._is_over = True
            body, headers = _make_error(event.status_code)
            await super().stream_send(Response(event.stream_id, headers, event.status_code))
            if self.stream is not None and self.stream.scope.get("method") != "HEAD":
                await super().stream_send(Body(event.stream_id, body))
        else:
            await super().stream_send(event)
            if isinstance(event, EndBody) and self._is_over:
                await self.send(Closed())  # a handshake that it refuses would else stay open


def _make_error(status: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body of an error, and the headers that go with it."""
    body = dump_json({"error": HTTPStatus(status).phrase.lower()}).encode() + b"\n"
    return body, [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]


# Hypercorn offers no other way in than the name it makes its connections by; the pin on its version guards both names.
setattr(hypercorn.protocol, "H11Protocol", _JsonErrors)  # noqa: B010 - it is no public name, so types forbid it


class _HttpConnection(TCPServer):
    """A connection that hears of the end of each request, and so closes when it should.

    Quart-Trio cancels its own task while Hypercorn, in that task, is telling the connection that the request is over.
    And Hypercorn would wait for a next request, for as long as it keeps idle connections, where the client has gone.
    """

    _client_is_gone = False

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):  # shields itself where it must, and may wait for the client
            await super().protocol_send(event)
            return
        with trio.move_on_after(_BOOKKEEPING) as scope:
            scope.shield = True
            await super().protocol_send(event)
            if isinstance(event, Updated) and self.guest is not None:
                (self.guest.wait if event.idle else self.guest.hear)()
            if self._client_is_gone:
                await self.idle_task.stop()

    failures: FailureLog | None = None
    """Where a client is told of that speaks TLS though this is plain HTTP."""
    guest: ConnectionSlot | None = None
    """Its place, which is safe while there is a request."""

    async def _read_data(self) -> None:
        if self.failures is not None and speaks_tls(await peek(self.stream, 2)):
            self.failures.tell(Peer(self.stream), "the client speaks TLS, and this port does not")
        await super()._read_data()
        self._client_is_gone = True
        await self.idle_task.stop()


@attrs.define(eq=False)
class _HttpSession:
    """One run of a server: what Hypercorn wants for each connection, and the connections that are open."""

    app: AppWrapper
    config: Config
    tls: ssl.SSLContext | None = None
    failures: FailureLog = attrs.field(factory=lambda: FailureLog(log))
    context: WorkerContext = attrs.field(factory=lambda: WorkerContext(None))
    _open: set[trio.SocketStream] = attrs.field(factory=set, init=False)
    _room: ConnectionLimiter = attrs.field(
        factory=lambda: ConnectionLimiter(log, MOST_CONNECTIONS, MOST_WAITING), init=False
    )

    def take(self, stream: trio.SocketStream, connections: trio.Nursery) -> None:
        """Serve a new connection in ``connections``, or close it where there is no room."""
        while_there_is_room = trio.CancelScope()
        guest = self._room.take(Peer(stream).host, while_there_is_room.cancel)
        if guest is None:
            stream.socket.close()
            return
        self._open.add(stream)
        connections.start_soon(self.serve_connection, stream, guest, while_there_is_room)

    async def serve_connection(
        self, stream: trio.SocketStream, guest: ConnectionSlot, while_there_is_room: trio.CancelScope
    ) -> None:
        """Serve one connection. Whatever goes wrong on it is logged here and ends with it."""
        try:
            with while_there_is_room:
                if (transport := await self._secure(stream)) is not None:
                    # its type asks for TLS, its code takes both
                    connection = _HttpConnection(self.app, self.config, self.context, ConnectionState({}), transport)  # type: ignore[arg-type]
                    connection.failures, connection.guest = None if self.tls else self.failures, guest
                    await connection.run()
        except* Exception:  # whatever bytes did it, the other connections go on
            log.warning("a connection failed", exc_info=True)
        finally:
            self._open.discard(stream)
            guest.leave()
            stream.socket.close()

    async def _secure(self, stream: trio.SocketStream) -> trio.abc.Stream | None:
        """What to talk HTTP on; None where the client will not be served."""
        if self.tls is None:
            return stream
        # compatible: without a goodbye, for which closing would have to wait
        transport = trio.SSLStream(stream, self.tls, server_side=True, https_compatible=True)
        peer = Peer(stream)
        try:
            await shake_hands(transport, HANDSHAKE_WITHIN)
        except HandshakeError as error:
            tell_failure(error, peer, self.failures)
            return None
        return transport

    async def cut_off(self, may_close: trio.Event, connections: trio.CancelScope) -> None:
        """End what still runs `HTTP_GRACE` seconds after ``may_close``, or at once when cancelled.

        Hypercorn shields its writes from cancellation; closing the socket ends even those.
        """
        try:
            await may_close.wait()
            await trio.sleep(HTTP_GRACE)
        finally:
            for stream in self._open:
                stream.socket.close()
            connections.cancel()
