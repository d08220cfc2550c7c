# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a connection, in the shape that grpclib shows to handlers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trio
from grpclib.const import Status
from h2.errors import ErrorCodes

from kedastral.grpclib_trio.http2 import Http2
from kedastral.grpclib_trio.messages import Messages


class Peer:
    """What ``grpclib.server.Stream.peer`` offers, and a name for the log.

    The address is read once: a socket forgets it as soon as the other side hangs up.
    """

    def __init__(self, transport: trio.abc.Stream) -> None:
        self._tls = transport if isinstance(transport, trio.SSLStream) else None
        inner = transport.transport_stream if isinstance(transport, trio.SSLStream) else transport
        self._address = _read_address(inner)

    def addr(self) -> Any:
        """The remote address as the socket gives it, ``(host, port)`` first; None where there is no socket."""
        return self._address

    @property
    def host(self) -> str:
        """The remote address without its port; ``unknown`` where there is none."""
        match self._address:
            case (str(host), *_):
                return host
        return "unknown"

    def cert(self) -> dict[str, Any] | None:
        """The client's certificate as ``ssl.SSLSocket.getpeercert`` gives it; None without TLS."""
        return None if self._tls is None else self._tls.getpeercert()

    def __str__(self) -> str:
        """``host:port``, or ``unknown``."""
        match self._address:
            case (str(host), int(port), *_):
                return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            case str(path) if path:
                return path
        return "unknown"


def _read_address(transport: trio.abc.Stream) -> Any:
    if not isinstance(transport, trio.SocketStream):
        return None
    try:
        return transport.socket.getpeername()
    except OSError:  # hung up between accept and now; reading will say so
        return None


class ConnectionRecord:
    """The part of a connection that ``grpclib.server.Stream`` reads and counts in."""

    messages_sent = 0
    messages_received = 0
    last_message_sent: float | None = None
    last_message_received: float | None = None

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def get_peer(self) -> Peer:
        """The peer, for handlers and interceptors."""
        return self._peer


# --- One HTTP/2 stream, in the shape that ``grpclib.server.Stream`` expects of its transport.


class TransportStream:
    """Moves messages and headers of one call between grpclib and the connection.

    The names of its public members, beside ``request``, ``sent_status`` and ``was_reset``, are grpclib's.
    """

    def __init__(self, stream_id: int, http2: Http2, connection: ConnectionRecord, request: Messages) -> None:
        self.id = stream_id
        self.connection = connection
        self.request = request
        self.sent_status: Status | None = None
        """The status in the trailers, once they are on their way."""
        self.was_reset = False
        """Whether this side ended the stream with RST_STREAM before trailers were sent."""
        self._http2 = http2
        self._sending = False

    async def recv_data(self, size: int) -> bytes:
        """The next piece of the request; see :meth:`Messages.read`."""
        return await self.request.read(size)

    async def send_headers(self, headers: Iterable[tuple[str, str]], end_stream: bool = False) -> None:
        """Send initial metadata, or trailers with ``end_stream``."""
        headers = list(headers)
        await self._http2.send_headers(self.id, headers, end_stream=end_stream)
        if end_stream:
            self.sent_status = next((Status(int(v)) for k, v in headers if k == "grpc-status"), Status.UNKNOWN)

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:
        """Send one message, waiting for the peer as flow control demands.

        Raises ``trio.BusyResourceError`` if another task is sending on this call, or if an earlier message was
        cut short by a cancellation: in both cases the peer would read the pieces as one garbled message.
        """
        if self._sending:
            raise trio.BusyResourceError("another message is being sent on this call, or was cut short on it")
        self._sending, rest = True, memoryview(data)
        try:
            while rest:
                rest = rest[await self._http2.send_some(self.id, rest, end_stream=end_stream) :]
        finally:
            self._sending = 0 < len(rest) < len(data)

    async def reset(self, error_code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """End the call without a status, which the client sees as its cancellation."""
        await trio.lowlevel.checkpoint()
        self.reset_nowait(error_code)

    def reset_nowait(self, error_code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """End the stream if it is not over: NO_ERROR after trailers tells the client to stop sending."""
        if self.closable:
            self.was_reset = self.sent_status is None
            self._http2.reset(self.id, error_code)

    @property
    def closable(self) -> bool:
        """Whether the stream is still open in either direction."""
        return self._http2.is_open(self.id)
