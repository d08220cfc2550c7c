# SPDX-License-Identifier: Apache-2.0
"""One HTTP/2 stream and its connection, with the members that ``grpclib.server.Stream`` needs of its transport."""

from __future__ import annotations

from collections.abc import Iterable

import trio
from grpclib.const import Status
from h2.errors import ErrorCodes

from kedastral.grpclib_trio.http2 import Http2
from kedastral.grpclib_trio.messages import RequestReader
from kedastral.trio_connections import Peer


class ConnectionRecord:
    """The members of a connection that ``grpclib.server.Stream`` reads, and its counters."""

    messages_sent = 0
    messages_received = 0
    last_message_sent: float | None = None
    last_message_received: float | None = None

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def get_peer(self) -> Peer:
        """The peer, for handlers and interceptors."""
        return self._peer


class TransportStream:
    """Passes messages and headers of one call between grpclib and the connection.

    Its public members have grpclib's names, except ``id``, ``request``, ``sent_status`` and ``was_reset``.
    """

    def __init__(self, stream_id: int, http2: Http2, connection: ConnectionRecord, request: RequestReader) -> None:
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
        """The next piece of the request; see :meth:`RequestReader.read`."""
        return await self.request.read(size)

    async def send_headers(self, headers: Iterable[tuple[str, str]], end_stream: bool = False) -> None:
        """Send initial metadata, or trailers with ``end_stream``."""
        headers = list(headers)
        await self._http2.send_headers(self.id, headers, end_stream=end_stream)
        if end_stream:
            self.sent_status = next(
                (Status(int(value)) for name, value in headers if name == "grpc-status"), Status.UNKNOWN
            )

    async def send_data(self, data: bytes, end_stream: bool = False) -> None:
        """Send one message, waiting for the peer as flow control requires.

        Raises ``trio.BusyResourceError`` if another task is sending on this call, or if an earlier message was
        cut short by a cancellation: in both cases the peer would read the pieces as one garbled message.
        """
        if self._sending:
            raise trio.BusyResourceError("another message is being sent on this call, or was cut short on it")
        self._sending, unsent = True, memoryview(data)
        try:
            while unsent:
                unsent = unsent[await self._http2.send_frame(self.id, unsent, end_stream=end_stream) :]
        finally:
            self._sending = 0 < len(unsent) < len(data)

    async def reset(self, error_code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """End the call without a status, which the client sees as a cancellation."""
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
