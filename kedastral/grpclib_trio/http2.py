# SPDX-License-Identifier: Apache-2.0
"""The server's side of HTTP/2: the task that writes, the limits on abuse, and h2 with its corrections."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import trio
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import DenialOfServiceError, FrameTooLargeError, ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings

from kedastral.grpclib_trio.limits import Limits, MemoryAccount

# By RFC 9113, 4.1 and 6.
FRAME_HEADER_BYTES = 9
DATA, HEADERS, CONTINUATION = 0, 1, 9
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_MAX_PADDING = 2**8

IDLE_FRAMES_PER_ANSWER = 8
"""How many idle frames each HEADERS or DATA frame of ours excuses: window updates and PINGs answer them."""

IDLE_FRAMES_PER_CALL = 2
"""How many idle frames each call excuses: grpcio opens the window of a call before there is a response."""

# The frame size that every peer accepts, even if it allows larger ones: calls take turns between frames.
_FRAME_BYTES = 2**14

# RFC 7541's default. A peer may offer 4 GiB, and the encoder would fill them with our headers.
_ENCODER_TABLE_BYTES = 4096

# Closed streams are removed from h2 when it has a quarter more streams than after the last sweep, plus this many.
_SWEEP_SLACK = 64

# For how many closed streams h2 remembers how they were closed; its default of 65,536 takes 7 MiB per connection. It
# only matters for repeated request headers, which are an error either way.
_REMEMBERED_STREAMS = 1_000


class Writer:
    """Collects bytes from all tasks of a connection and sends them from a single one.

    Nothing else may call ``send_all``: two callers would collide, and one cancelled halfway leaves half a frame on the
    wire. Unsent bytes are charged to ``account``.
    """

    def __init__(self, transport: trio.abc.SendStream, limits: Limits, account: MemoryAccount) -> None:
        self._transport = transport
        self._high_water = limits.send_buffer_bytes
        self._timeout = limits.write_timeout
        self._account = account
        self._waiting = bytearray()
        self._in_flight = 0
        self._filled = trio.Event()
        self._sent = trio.Event()

    @property
    def backlog(self) -> int:
        """Bytes that were pushed and have not been sent yet."""
        return len(self._waiting) + self._in_flight

    def push(self, data: bytes) -> None:
        """Queue ``data``; never blocks. Tasks that produce much await :meth:`wait_room` first."""
        if data:
            self._waiting += data
            self._filled.set()
            self._account.charge(len(data))

    async def wait_room(self, marks: int = 1) -> None:
        """Return once the backlog is at most ``marks`` times the high-water mark."""
        # a full checkpoint per frame would cost more than the frame: the task yields when the buffer is full
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.backlog > marks * self._high_water:
            await self._wait_below(marks * self._high_water)

    async def wait_flushed(self) -> None:
        """Return once everything that was pushed has been handed to the transport."""
        await self._wait_below(0)

    async def _wait_below(self, size: int) -> None:
        while self.backlog > size:
            await self._sent.wait()

    async def run(self) -> None:
        """Write until cancelled.

        Raises ``trio.TooSlowError`` if the peer stopped reading, and what ``send_all`` raises if it is gone.
        """
        while True:
            await self._filled.wait()
            self._filled = trio.Event()
            data, self._waiting = self._waiting, bytearray()
            self._in_flight = len(data)
            with trio.fail_after(self._timeout):
                await self._transport.send_all(data)
            self._in_flight = 0
            self._account.give_back(len(data))
            sent, self._sent = self._sent, trio.Event()
            sent.set()


class AbuseError(Exception):
    """The peer did something more often than any honest client would; its connection must end."""


class AbuseMeter:
    """Counts the cheap actions of the peer of one connection, in windows of ``limits.abuse_window`` seconds.

    Windows do not overlap. At worst a peer gets twice the limit around a border; in return the meter needs only a few
    integers instead of a history that an attacker could grow. ``count_open`` returns the number of open streams.
    """

    def __init__(self, limits: Limits, count_open: Callable[[], int]) -> None:
        self._limits = limits
        self._count_open = count_open
        self._frames_sent = self._sent_before = 0
        self._max_open = 0
        self._begin_window()

    def count_opening(self) -> None:
        """Note that a stream was opened: all streams that are open at the same time may later be reset together."""
        self._roll()
        self._opened += 1
        self._max_open = max(self._max_open, self._count_open())

    def count_reset(self) -> None:
        """Note a stream that ended with RST_STREAM, or was refused."""
        self._roll()
        self._resets += 1
        if self._resets > self._limits.max_resets + self._max_open:
            raise AbuseError(f"{self._resets} streams reset within {self._limits.abuse_window:g} s")

    def count_ping(self, frames_sent: int) -> None:
        """Note a PING; ``frames_sent`` is the number of HEADERS and DATA frames ever sent to the peer."""
        self._roll()
        if frames_sent != self._frames_sent:
            self._frames_sent, self._pings = frames_sent, 0
        self._pings += 1
        if self._pings > self._limits.max_pings:
            raise AbuseError(f"{self._pings} PINGs in a row within {self._limits.abuse_window:g} s")

    def count_idle_frame(self, frames_sent: int) -> None:
        """Note a frame that costs work without requesting any; ``frames_sent`` is as for :meth:`count_ping`."""
        self._roll()
        if not self._idle_frames:
            self._sent_before = frames_sent
        self._idle_frames += 1
        answered = frames_sent - self._sent_before
        allowed = self._limits.max_idle_frames + IDLE_FRAMES_PER_ANSWER * answered + IDLE_FRAMES_PER_CALL * self._opened
        if self._idle_frames > allowed:
            raise AbuseError(f"{self._idle_frames} frames that ask for nothing within {self._limits.abuse_window:g} s")

    def _roll(self) -> None:
        if trio.current_time() - self._since >= self._limits.abuse_window:
            self._begin_window()

    def _begin_window(self) -> None:
        self._since = trio.current_time()
        self._max_open = self._count_open()
        self._resets = self._pings = self._idle_frames = self._opened = 0


class ReceivedFrame(NamedTuple):
    """A complete frame as received: its type, its stream, and how many bytes it carries."""

    type: int
    stream_id: int
    size: int
    raw: bytes


class FrameQueue:
    """Splits received bytes into frames. h2 could do this, but would then process all of them at once.

    Raises ``ProtocolError`` as soon as a frame or headers begin that are too long: h2 would collect 1 MiB first.
    """

    def __init__(self, max_frame: int, max_headers: int) -> None:
        self._max_frame = max_frame
        self._max_headers = max_headers + _MAX_PADDING
        self._headers = 0
        self._waiting = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """Append received bytes."""
        self._waiting += data

    def next(self) -> ReceivedFrame | None:
        """The next frame; None while it is incomplete."""
        waiting = self._waiting
        if len(waiting) < FRAME_HEADER_BYTES:
            return None
        size, kind = waiting[0] << 16 | waiting[1] << 8 | waiting[2], waiting[3]
        if size > self._max_frame:
            raise FrameTooLargeError(f"a frame is longer than {self._max_frame} bytes")
        has_headers = kind in {HEADERS, CONTINUATION}
        headers = size + self._headers if kind == CONTINUATION else size
        if has_headers and headers > self._max_headers:
            raise DenialOfServiceError("the request headers are too long")
        end = FRAME_HEADER_BYTES + size
        if len(waiting) < end:
            return None
        if has_headers:
            self._headers = headers
        raw = bytes(waiting[:end])
        del waiting[:end]
        return ReceivedFrame(kind, int.from_bytes(raw[5:9], "big") & 0x7FFFFFFF, size, raw)


class _StateMachine(H2ConnectionStateMachine):
    """Keeps a connection open after a GOAWAY, in either direction.

    h2 refuses to send anything after it. By RFC 9113, 6.8, a GOAWAY only ends *new* streams, and open ones run to their
    end: this is a graceful shutdown.
    """

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        if input_ in {ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY}:
            return []
        return super().process_input(input_)


class _ServerH2(H2Connection):
    MAX_CLOSED_STREAMS = _REMEMBERED_STREAMS

    def __init__(self, limits: Limits) -> None:
        # Headers stay bytes: in h2's own decoding, one bad byte in a value raises UnicodeDecodeError, which would
        # cost the whole connection. Our own headers need no validation: grpclib builds and checks them.
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.state_machine = _StateMachine()
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_header_list_bytes,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.stream_window_bytes,
                SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self.max_inbound_frame_size = self.local_settings.max_frame_size
        self.decoder.max_header_list_size = limits.max_header_list_bytes
        self._sweep_at = _SWEEP_SLACK

    @property
    def open_inbound_streams(self) -> int:
        """Always 0, so that h2 refuses no stream itself.

        h2 reads this for every request and walks over all streams, including thousands of idle ones; if there are too
        many, it ends the connection with all of them. Our connection counts its calls anyway and only refuses the
        excess stream. What remains is the walk's side effect: it forgets closed streams.
        """
        if len(self.streams) >= self._sweep_at:
            super().open_inbound_streams  # noqa: B018  # for its side effect
            self._sweep_at = len(self.streams) * 5 // 4 + _SWEEP_SLACK
        return 0

    def clear_outbound_data_buffer(self) -> None:
        """Keep what is queued: h2 would drop it when the peer sends GOAWAY, although the peer still reads."""


class Http2:
    """Turns received bytes into h2 events, and calls into bytes for the writer.

    Every method passes the bytes it caused to the writer, so that nothing waits in h2 unsent. Methods that name a
    stream raise ``h2.exceptions.ProtocolError`` (mostly ``StreamClosedError``) if that stream is over.
    """

    def __init__(self, limits: Limits, writer: Writer) -> None:
        self._h2 = _ServerH2(limits)
        self._limits = limits
        self._writer = writer
        self._blocked: dict[int, trio.Event] = {}
        self._over = False
        self._preface_left = len(_PREFACE)
        self._frames = FrameQueue(self._h2.max_inbound_frame_size, limits.max_header_list_bytes)
        self.frames_sent = 0
        """HEADERS and DATA frames handed to the writer so far."""

    def start(self) -> None:
        """Send the server's preface: its settings, and a window for the connection as a whole."""
        self._h2.initiate_connection()
        extra = self._limits.connection_window_bytes - self._h2.inbound_flow_control_window
        if extra > 0:
            self._h2.increment_flow_control_window(extra)
        self._flush()

    def discard(self) -> None:
        """Free h2, which refers to itself: otherwise its 20 KB would stay until a full garbage collection."""
        vars(self._h2).clear()
        self._blocked.clear()

    def feed(self, data: bytes | bytearray) -> None:
        """Take received bytes; :meth:`next_frame` returns the frames that they complete.

        Raises ``ProtocolError`` if a client does not begin with the HTTP/2 preface.
        """
        if left := self._preface_left:
            self._preface_left -= len(data[:left])
            self._receive(data[:left])
            data = data[left:]
        self._frames.feed(data)

    def next_frame(self) -> ReceivedFrame | None:
        """The next frame, None if it is incomplete. Raises ``ProtocolError`` if it is too long."""
        try:
            return self._frames.next()
        except ProtocolError as error:
            self.announce_end(error.error_code)
            raise

    def receive(self, frame: ReceivedFrame) -> list[Event]:
        """The events that ``frame`` causes, in order."""
        return self._receive(frame.raw)

    def _receive(self, data: bytes | bytearray) -> list[Event]:
        try:
            return self._h2.receive_data(data)
        finally:
            self._flush()

    def is_open(self, stream_id: int) -> bool:
        """Whether the stream can still be written to or reset."""
        stream = self._h2.streams.get(stream_id)
        return stream is not None and not stream.closed and not self._over

    def end_streams(self) -> None:
        """Send nothing more on any stream, because the connection ends now.

        To every client, a call that ends with its connection is UNAVAILABLE and may be retried. A reset of its stream
        would make it an error of this call.
        """
        self._over = True

    async def send_headers(self, stream_id: int, headers: Iterable[tuple[str, str]], *, end_stream: bool) -> None:
        """Send response headers or trailers, once the writer has room."""
        await self._writer.wait_room()
        if self._over or stream_id not in self._h2.streams:  # h2 would think that we open this stream
            raise StreamClosedError(stream_id)
        self._h2.send_headers(stream_id, list(headers), end_stream=end_stream)
        self._count_sent()

    async def send_frame(self, stream_id: int, data: memoryview, *, end_stream: bool) -> int:
        """Send as much of ``data`` as fits into one DATA frame now; returns the number of bytes sent.

        Waits for room in the writer and for the peer's flow-control windows. ``end_stream`` applies if all fits.
        """
        while True:
            await self._writer.wait_room()
            if self._over:
                raise StreamClosedError(stream_id)
            room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size, _FRAME_BYTES)
            if room > 0:  # a window can be negative after the peer made it smaller
                break
            await self._wait_for_window(stream_id)
        size = min(room, len(data))
        self._h2.send_data(stream_id, data[:size].tobytes(), end_stream=end_stream and size == len(data))
        self._count_sent()
        return size

    async def _wait_for_window(self, stream_id: int) -> None:
        event = self._blocked[stream_id] = trio.Event()
        try:
            await event.wait()
        finally:
            del self._blocked[stream_id]

    def open_windows(self, stream_id: int | None) -> None:
        """Wake the call that waits for the window of ``stream_id``; all calls if that is 0 or None."""
        if not stream_id:
            for event in self._blocked.values():
                event.set()
        elif stream_id in self._blocked:
            self._blocked[stream_id].set()

    def limit_encoder(self) -> None:
        """Keep the header compressor small, whatever the peer's settings allow."""
        encoder = self._h2.encoder
        encoder.header_table_size = min(encoder.header_table_size, _ENCODER_TABLE_BYTES)

    def reset(self, stream_id: int, code: ErrorCodes) -> None:
        """End a stream at once, in both directions; nothing happens if it is over."""
        if self.is_open(stream_id):
            self._h2.reset_stream(stream_id, error_code=code)
            self._flush()

    def acknowledge(self, size: int, stream_id: int) -> None:
        """Let the peer send ``size`` more bytes, on this stream and on the connection."""
        self._h2.acknowledge_received_data(size, stream_id)
        self._flush()

    def ping(self, payload: bytes) -> None:
        """Send a PING; ``payload`` has 8 bytes."""
        self._h2.ping(payload)
        self._flush()

    def announce_end(self, code: ErrorCodes = ErrorCodes.NO_ERROR, reason: str = "") -> None:
        """Send GOAWAY: streams above the highest one seen so far will not be served, the others continue."""
        self._h2.close_connection(code, additional_data=reason.encode())
        self._flush()

    def _count_sent(self) -> None:
        self.frames_sent += 1
        self._flush()

    def _flush(self) -> None:
        if data := self._h2.data_to_send():
            self._writer.push(data)
