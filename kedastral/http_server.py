# SPDX-License-Identifier: Apache-2.0
"""Serves an ASGI application on one socket: Hypercorn's HTTP, connection by connection, each apart from the others.

Hypercorn's own ``serve`` lets an exception of one connection end them all (a broken chunk sent while the answer is
being written is enough), and waits for ever at the end for a client that does not read. So it accepts and ends here.
"""

import logging
import socket
from http import HTTPStatus

import attrs
import h11
import hypercorn.protocol
import trio
from hypercorn.config import Config
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ASGIFramework, ConnectionState
from hypercorn.utils import wrap_app

from kedastral.wire import dump_json

HTTP_GRACE = 1.5
"""Seconds that requests have to be answered once the server closes; an answer takes milliseconds."""

log = logging.getLogger("kedastral.http")


async def serve_http(
    app: ASGIFramework,
    listener: socket.socket,
    may_close: trio.Event,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` on ``listener``, which it closes, until ``may_close`` is set, then drain and return.

    Draining: nothing new is accepted, idle connections close at once, requests in flight have `HTTP_GRACE` seconds.
    Cancelling it cuts every connection off. Raises what ``accept`` raises, except where the system is short of
    resources, which is logged and tried again.
    """
    session = _Session(wrap_app(app, 0, "asgi"))
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


async def _accept(session: "_Session", listener: trio.SocketListener, connections: trio.Nursery) -> None:
    await trio.serve_listeners(session.serve_connection, [listener], handler_nursery=connections)


def _make_config() -> Config:
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.error")
    config.include_server_header = False
    return config


class _JsonErrors(H11Protocol):
    """HTTP/1.1 whose answer to what is no HTTP has the shape of all other errors."""

    async def _send_error_response(self, status_code: int) -> None:
        body = dump_json({"error": HTTPStatus(status_code).phrase.lower()}).encode() + b"\n"
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


# Hypercorn offers no other way in than the name it makes its connections by; the pin on its version guards both names.
setattr(hypercorn.protocol, "H11Protocol", _JsonErrors)  # noqa: B010 - it is no public name, so types forbid it


@attrs.define(eq=False)
class _Session:
    """One run of a server: what Hypercorn wants for each connection, and the connections that are open."""

    app: AppWrapper
    config: Config = attrs.field(factory=_make_config)
    context: WorkerContext = attrs.field(factory=lambda: WorkerContext(None))
    _open: set[trio.SocketStream] = attrs.field(factory=set, init=False)

    async def serve_connection(self, stream: trio.SocketStream) -> None:
        """Serve one connection. Whatever goes wrong on it is logged here and ends with it."""
        self._open.add(stream)
        try:
            # its type asks for TLS, its code takes both
            await TCPServer(self.app, self.config, self.context, ConnectionState({}), stream).run()  # type: ignore[arg-type]
        except* Exception:  # whatever bytes did it, the other connections go on
            log.warning("a connection failed", exc_info=True)
        finally:
            self._open.discard(stream)
            stream.socket.close()

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
