# SPDX-License-Identifier: Apache-2.0
"""gRPC by hand over a blocking socket, so that a request can be started now and finished later."""

import socket
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import attrs
import h2.config
import h2.connection
import h2.events

from tests.keda_client import SERVICE
from tests.waiting import PATIENCE


@attrs.define
class Stream:
    """What came back on one stream."""

    body: bytearray = attrs.field(factory=bytearray)
    fields: dict[str, str] = attrs.field(factory=dict)
    ended: bool = False
    reset: bool = False

    def messages(self, kind: Any) -> list[Any]:
        """The complete messages so far."""
        found, rest = [], bytes(self.body)
        while len(rest) >= 5:
            size = int.from_bytes(rest[1:5], "big")
            found.append(kind.FromString(rest[5 : 5 + size]))
            rest = rest[5 + size :]
        return found


class RawClient:
    """One HTTP/2 connection; it reads only in `until`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._flush()
        self.streams: defaultdict[int, Stream] = defaultdict(Stream)
        self.closed = False
        self._unread = b""

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def begin(self, method: str, data: bytes = b"", *, end: bool = False) -> int:
        """Send the headers of a call, and ``data``."""
        stream = self._h2.get_next_available_stream_id()
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": SERVICE + method,
            ":authority": "test",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        self._h2.send_headers(stream, list(fields.items()))
        self._flush()
        if data or end:
            self.send(stream, data, end=end)
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send bytes of a request, even after the server has said GOAWAY."""
        self._h2.send_data(stream, data, end_stream=end)
        self._flush()

    def until(self, condition: Callable[[], bool]) -> None:
        """Read until ``condition`` holds; fails if the server hangs up first."""
        while not condition():
            assert not self.closed, "the server closed the connection"
            self.read()

    def read(self) -> None:
        """Read once, and take in whole frames one by one: `_note` must see a GOAWAY before h2 sees what follows it."""
        data = self._socket.recv(2**16)
        self.closed = not data
        self._unread += data
        while len(self._unread) >= (size := 9 + int.from_bytes(self._unread[:3])) and len(self._unread) >= 9:
            frame, self._unread = self._unread[:size], self._unread[size:]
            for event in self._h2.receive_data(frame):
                self._note(event)
        self._flush()

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                self.streams[event.stream_id].fields.update(event.headers)  # type: ignore[arg-type]
            case h2.events.DataReceived():
                self.streams[event.stream_id].body += event.data
            case h2.events.StreamEnded():
                self.streams[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.streams[event.stream_id].reset = True
            case h2.events.ConnectionTerminated():
                # h2 would refuse to send on streams that are still open, which HTTP/2 allows
                self._h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._socket.sendall(data)


def frame(message: Any) -> bytes:
    """A gRPC message as in DATA frames."""
    body = message.SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + bytes(body)
