# SPDX-License-Identifier: Apache-2.0
"""One client: reads its frames, starts its calls, makes sure that it is alive and behaves, and lets it go."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from grpclib.exceptions import GRPCError
from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from kedastral.grpclib_trio.calls import Call, Services
from kedastral.grpclib_trio.http2 import AbuseError, AbuseMeter, Http2, Writer
from kedastral.grpclib_trio.limits import Limits
from kedastral.grpclib_trio.messages import Messages, ReceiveBudget
from kedastral.grpclib_trio.tls import speaks_tls
from kedastral.grpclib_trio.transport import ConnectionRecord, Peer, TransportStream

_log = logging.getLogger(__name__)

_RECEIVE_BYTES = 2**16

# Replies to control frames cannot wait like handlers do. With this many times the send buffer of them unsent, reading
# pauses; not earlier, as a peer may be unable to read before it has written.
_READING_TOLERANCE = 4

# Seconds for the last words: writing what is queued, and hearing the client hang up after a GOAWAY. Closing a socket
# that has unread bytes destroys what is on its way to the client, the GOAWAY included.
_FAREWELL = 1.0


def _do_nothing() -> None:
    pass


class Connection:
    """Serves HTTP/2 on ``transport`` until either side ends it; ``number`` tells it from others in call ids.

    ``on_greeting`` is called when the client's preface is complete. ``spoke_tls`` and ``was_silent`` say afterwards why
    it never came.
    """

    def __init__(self, transport: trio.abc.Stream, services: Services, limits: Limits, number: int) -> None:
        self.peer = Peer(transport)
        self.on_greeting: Callable[[], None] = _do_nothing
        self.spoke_tls = self.was_silent = False
        self._transport = transport
        self._services = services
        self._limits = limits
        self._number = number
        self._record = ConnectionRecord(self.peer)
        self._writer = Writer(transport, limits.send_buffer_bytes, limits.write_timeout)
        self._http2 = Http2(limits, self._writer)
        self._budget = ReceiveBudget(limits.max_buffered_bytes)
        self._calls: dict[int, Call] = {}
        self._meter = AbuseMeter(limits, self._calls.__len__)
        self._reading = trio.CancelScope()
        self._heard_at = trio.current_time()
        self._greeted = self._settled = self._draining = self._leaving = False
        self._reactions: dict[type[events.Event], Callable[[Any], None]] = {
            events.RequestReceived: self._start_call,
            events.DataReceived: self._pass_data,
            events.StreamEnded: self._end_request,
            events.StreamReset: self._abandon_call,
            events.WindowUpdated: lambda event: self._http2.open_windows(event.stream_id),
            events.RemoteSettingsChanged: self._apply_settings,
            events.SettingsAcknowledged: lambda _: self._settle(),
            events.PingReceived: lambda _: self._meter.count_ping(self._http2.frames_sent),
            events.PriorityUpdated: lambda _: self._meter.count_idle_frame(),
            events.UnknownFrameReceived: lambda _: self._meter.count_idle_frame(),
            events.ConnectionTerminated: self._let_leave,
        }

    async def serve(self) -> None:
        """Talk HTTP/2 until the peer is gone, misbehaves, or :meth:`drain` has come to its end.

        Does not close the transport. Cancelling it cancels all calls and sends nothing more. Raises what the
        transport raises when it breaks, and ``trio.TooSlowError`` if the peer stops reading, in exception groups.
        """
        try:
            await self._serve()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Break the circles of references: full garbage collections are rare, and connections may be many."""
        self._reactions.clear()
        self._calls.clear()
        self._http2.forget()
        self.on_greeting = _do_nothing
        vars(self).pop("_nursery", None)

    async def _serve(self) -> None:
        self._http2.start()
        async with trio.open_nursery() as self._nursery:
            nursery = self._nursery
            nursery.start_soon(self._writer.run)
            nursery.start_soon(self._watch_silence, nursery.cancel_scope)
            with self._reading:
                self._reading.deadline = trio.current_time() + self._limits.handshake_timeout
                self._leave_if_idle()
                await self._read()
            self.was_silent = not self._greeted and self._reading.cancelled_caught
            for call in self._calls.values():
                call.abandon()
            with trio.move_on_after(_FAREWELL):
                await self._writer.wait_flushed()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Let the client go: GOAWAY, no new streams, streaming calls end with OK, unary ones go on."""
        if self._draining:
            return
        self._draining = True
        if self._settled:
            self._http2.announce_end()
        for call in self._calls.values():
            if call.streams_responses:
                call.end(None)
        self._leave_if_idle()

    def end_calls(self, error: GRPCError) -> None:
        """End every call that is left with ``error``."""
        for call in self._calls.values():
            call.end(error)

    async def _read(self) -> None:
        while data := await self._transport.receive_some(_RECEIVE_BYTES):
            self._heard_at = trio.current_time()
            try:
                for event in self._http2.receive(data):
                    if reaction := self._reactions.get(type(event)):
                        reaction(event)
            except AbuseError as error:
                _log.warning("%s is cut off: %s", self.peer, error)
                self._http2.announce_end(ErrorCodes.ENHANCE_YOUR_CALM, str(error))
                return
            except ProtocolError as error:  # h2 has queued the GOAWAY
                self.spoke_tls = not self._greeted and speaks_tls(data)
                if not self.spoke_tls:
                    _log.info("%s is cut off: %s", self.peer, error)
                return
            await self._writer.wait_room(_READING_TOLERANCE)

    def _start_call(self, event: events.RequestReceived) -> None:
        if self._draining:
            self._http2.reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        if len(self._calls) >= self._limits.max_streams:
            self._http2.reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
            self._meter.count_reset()
            return
        acknowledge = partial(self._http2.acknowledge, stream_id=event.stream_id)
        request = Messages(self._budget, self._limits.max_message_bytes, acknowledge)
        stream = TransportStream(event.stream_id, self._http2, self._record, request)
        call = Call(self._services, stream, f"{self._number}-{event.stream_id}", event.headers)
        self._calls[event.stream_id] = call
        self._meter.count_opening()
        self._nursery.start_soon(self._run_call, event.stream_id, call)

    async def _run_call(self, stream_id: int, call: Call) -> None:
        try:
            await call.run()
        finally:
            self._calls.pop(stream_id, None)
            self._leave_if_idle()

    def _pass_data(self, event: events.DataReceived) -> None:
        if not event.data and event.stream_ended is None:
            self._meter.count_idle_frame()
        if call := self._calls.get(event.stream_id):
            call.stream.request.feed(event.data, event.flow_controlled_length)
        else:
            self._http2.acknowledge(event.flow_controlled_length, event.stream_id)

    def _end_request(self, event: events.StreamEnded) -> None:
        if call := self._calls.get(event.stream_id):
            call.stream.request.end()

    def _abandon_call(self, event: events.StreamReset) -> None:
        if call := self._calls.pop(event.stream_id, None):
            call.abandon()
        self._meter.count_reset()

    def _apply_settings(self, _: events.RemoteSettingsChanged) -> None:
        if not self._greeted:  # the client's preface is complete, it may take its time from here on
            self._greeted = True
            self.on_greeting()
            self._reading.deadline = math.inf
            self._leave_if_idle()
        self._meter.count_idle_frame()
        self._http2.limit_encoder()
        self._http2.open_windows(None)

    def _settle(self) -> None:
        """The client has taken in the server's preface, and may be told to go.

        Earlier grpcio would find the connection ready and over at the same time, and try it again in a loop, which
        takes 200 MB of memory a second until the connection closes.
        """
        if self._draining and not self._settled:
            self._http2.announce_end()
        self._settled = True

    def _let_leave(self, _: Any) -> None:
        self._leaving = True
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if (self._draining or self._leaving) and not self._calls:
            self._reading.deadline = min(self._reading.deadline, trio.current_time() + _FAREWELL)

    async def _watch_silence(self, connection: trio.CancelScope) -> None:
        while True:
            await trio.sleep_until(self._heard_at + self._limits.keepalive_time)
            if trio.current_time() < self._heard_at + self._limits.keepalive_time:  # the very sum that was slept until
                continue
            heard_at = self._heard_at
            self._http2.ping(b"areyouup")
            await trio.sleep(self._limits.keepalive_timeout)
            if self._heard_at == heard_at:
                _log.info("%s did not answer a PING within %g s", self.peer, self._limits.keepalive_timeout)
                connection.cancel()
