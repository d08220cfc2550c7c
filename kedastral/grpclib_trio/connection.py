# SPDX-License-Identifier: Apache-2.0
"""One connection: reads its frames, starts its calls, checks that the client is alive, and drains it at the end."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any
from weakref import WeakValueDictionary

import trio
from grpclib.exceptions import GRPCError
from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from kedastral.grpclib_trio.calls import Call, Services
from kedastral.grpclib_trio.http2 import DATA, HEADERS, AbuseError, AbuseMeter, Http2, ReceivedFrame, Writer
from kedastral.grpclib_trio.limits import CALL_BYTES, CONNECTION_BYTES, HEADER_COPIES, Limits, MemoryBudget
from kedastral.grpclib_trio.messages import ReceiveBudget, RequestReader
from kedastral.grpclib_trio.transport import ConnectionRecord, TransportStream
from kedastral.trio_connections import Peer, starts_tls

_log = logging.getLogger(__name__)

# The most bytes of one read: they stay in memory while the connection waits for its turn.
_RECEIVE_BYTES = 2**14

# How many frames one turn may process before others have theirs, and how many a new call counts as. Two calls, or 32
# other frames, take half a millisecond.
_TURN = 32
_CALL_COST = 16

# A DATA frame of fewer bytes that does not end a request carries next to nothing.
_SMALL_DATA = 2**8

# Reading pauses when this many times the send buffer is unsent: replies to control frames cannot wait like handlers. It
# does not pause earlier, since a peer may be unable to read before it has written.
_CONTROL_BACKLOG = 4

# Seconds at the end for writing what is queued, and for the client to hang up after a GOAWAY. Closing a socket that has
# unread bytes destroys what is on its way to the client, including the GOAWAY.
_CLOSE_TIMEOUT = 1.0


def _do_nothing() -> None:
    pass


class Shared:
    """What the connections of a server share: the memory budget, and the turns of each host."""

    def __init__(self, limits: Limits) -> None:
        self.budget = MemoryBudget(limits.memory_bytes)
        self._turns: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    def turns_of(self, host: str) -> trio.Lock:
        """The lock that the connections of ``host`` queue for, so that Trio runs one task of each host in turn."""
        return self._turns.setdefault(host, trio.Lock())


class Connection:
    """Serves HTTP/2 on ``transport`` until either side ends it. ``number`` is the first part of its calls' ids.

    Its memory is charged to ``shared.budget``, and the connection ends if others need that memory more. If it has much
    to do, it takes turns with the other connections of its host.

    Once the client's preface is complete, ``on_resting`` is called when it has no calls, and ``on_busy`` when it has
    some again. If the preface never came, ``spoke_tls`` and ``was_silent`` give the reason afterwards.
    """

    def __init__(
        self, transport: trio.abc.Stream, services: Services, limits: Limits, shared: Shared, number: int
    ) -> None:
        self.peer = Peer(transport)
        self.on_resting: Callable[[], None] = _do_nothing
        self.on_busy: Callable[[], None] = _do_nothing
        self.spoke_tls = self.was_silent = False
        self._transport = transport
        self._services = services
        self._limits = limits
        self._number = number
        self._record = ConnectionRecord(self.peer)
        self._turns = shared.turns_of(self.peer.host)
        self._account = shared.budget.open_account(self.peer.host, self._give_way)
        self._writer = Writer(transport, limits, self._account)
        self._http2 = Http2(limits, self._writer)
        self._received = ReceiveBudget(
            limits.max_buffered_bytes,
            self._account,
            max_message=limits.max_message_bytes,
            request_timeout=limits.request_timeout,
        )
        self._calls: dict[int, Call] = {}
        self._meter = AbuseMeter(limits, self._calls.__len__)
        self._reading = trio.CancelScope()
        self._received_at = trio.current_time()
        self._preface_received = self._settings_acknowledged = self._draining = self._goaway_received = False
        self._on_event: dict[type[events.Event], Callable[[Any], None]] = {
            events.RequestReceived: self._start_call,
            events.DataReceived: self._receive_data,
            events.StreamEnded: self._end_request,
            events.StreamReset: self._abandon_call,
            events.WindowUpdated: lambda event: self._http2.open_windows(event.stream_id),
            events.RemoteSettingsChanged: self._apply_settings,
            events.SettingsAcknowledged: self._note_settings_ack,
            events.PingReceived: lambda _: self._meter.count_ping(self._http2.frames_sent),
            events.ConnectionTerminated: self._note_goaway,
        }

    async def serve(self) -> None:
        """Speak HTTP/2 until the peer is gone or misbehaves, or :meth:`drain` has finished.

        Does not close the transport. Cancelling it cancels all calls and sends nothing more. Raises what the
        transport raises when it breaks, and ``trio.TooSlowError`` if the peer stops reading, in exception groups.
        """
        try:
            if self._account.take(CONNECTION_BYTES, urgent=True):
                await self._serve()
            else:
                _log.info("%s is refused: the memory for clients is used up", self.peer)
        finally:
            self._account.close()
            self._break_cycles()

    def _break_cycles(self) -> None:
        """Break reference cycles: full garbage collections are rare, and connections may be many."""
        self._on_event.clear()
        self._calls.clear()
        self._http2.discard()
        self.on_resting = self.on_busy = _do_nothing
        vars(self).pop("_nursery", None)

    async def _serve(self) -> None:
        self._http2.start()
        async with trio.open_nursery() as self._nursery:
            nursery = self._nursery
            nursery.start_soon(self._writer.run)
            nursery.start_soon(self._keep_alive, nursery.cancel_scope)
            with self._reading:
                self._reading.deadline = trio.current_time() + self._limits.handshake_timeout
                self._close_if_idle()
                await self._read()
            self.was_silent = not self._preface_received and self._reading.cancelled_caught
            self._http2.end_streams()
            for call in self._calls.values():
                call.abandon()
            with trio.move_on_after(_CLOSE_TIMEOUT):
                await self._writer.wait_flushed()
            nursery.cancel_scope.cancel()

    def drain(self) -> None:
        """Send GOAWAY and refuse new streams. Streaming calls end with OK, unary calls continue."""
        if self._draining:
            return
        self._draining = True
        if self._settings_acknowledged:
            self._http2.announce_end()
        for call in self._calls.values():
            if call.streams_responses:
                call.end(None)
        self._close_if_idle()

    def end_calls(self, error: GRPCError) -> None:
        """End every remaining call with ``error``."""
        for call in self._calls.values():
            call.end(error)

    def _give_way(self) -> None:
        """End the connection, because clients that hold less need its memory."""
        _log.warning("%s is disconnected: it holds most of the memory for clients", self.peer)
        self._http2.announce_end(ErrorCodes.ENHANCE_YOUR_CALM, "out of memory")
        self._reading.cancel()

    async def _read(self) -> None:
        while data := await self._transport.receive_some(_RECEIVE_BYTES):
            self._received_at = trio.current_time()
            try:
                self._http2.feed(data)
                while not self._work():  # the first turn is free; after that it takes turns with others of the host
                    async with self._turns:
                        pass
            except AbuseError as error:
                _log.warning("%s is disconnected: %s", self.peer, error)
                self._http2.announce_end(ErrorCodes.ENHANCE_YOUR_CALM, str(error))
                return
            except ProtocolError as error:  # the GOAWAY is queued
                self.spoke_tls = not self._preface_received and starts_tls(data)
                if not self.spoke_tls:
                    _log.info("%s is disconnected: %s", self.peer, error)
                return
            await self._writer.wait_room(_CONTROL_BACKLOG)

    def _work(self) -> bool:
        """Take one turn: process a few frames, however many wait. Returns whether all are done."""
        left = _TURN
        while left > 0:
            frame = self._http2.next_frame()
            if frame is None:
                return True
            left -= _CALL_COST if frame.type == HEADERS else 1
            reactions = self._http2.receive(frame)
            if self._is_idle(frame, reactions):
                self._meter.count_idle_frame(self._http2.frames_sent)
            for event in reactions:
                if react := self._on_event.get(type(event)):
                    react(event)
        return False

    def _is_idle(self, frame: ReceivedFrame, reactions: Sequence[events.Event]) -> bool:
        """Whether a frame costs work without requesting any. New calls and resets are counted elsewhere."""
        kinds = [type(event) for event in reactions]
        if frame.type == DATA:
            ends = events.StreamEnded in kinds
            return frame.stream_id not in self._calls or (frame.size < _SMALL_DATA and not ends)
        return events.RequestReceived not in kinds and events.StreamReset not in kinds

    def _start_call(self, event: events.RequestReceived) -> None:
        if self._draining:
            self._http2.reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        header_bytes = sum(map(len, chain.from_iterable(event.headers))) + 32 * len(event.headers)
        size = CALL_BYTES + HEADER_COPIES * header_bytes
        urgent = not self._services.may_be_endless(event.headers)
        if len(self._calls) >= self._limits.max_streams or not self._account.take(size, urgent=urgent):
            self._http2.reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
            self._meter.count_reset()
            return
        acknowledge = partial(self._http2.acknowledge, stream_id=event.stream_id)
        request = RequestReader(self._received, acknowledge)
        stream = TransportStream(event.stream_id, self._http2, self._record, request)
        call = Call(self._services, stream, f"{self._number}-{event.stream_id}", event.headers)
        if not self._calls:
            self.on_busy()
        self._calls[event.stream_id] = call
        self._meter.count_opening()
        self._nursery.start_soon(self._run_call, event.stream_id, call, size)

    async def _run_call(self, stream_id: int, call: Call, size: int) -> None:
        try:
            await call.run()
        finally:
            self._account.give_back(size)
            self._calls.pop(stream_id, None)
            self._note_end_of_call()

    def _note_end_of_call(self) -> None:
        if not self._calls:
            self.on_resting()
        self._close_if_idle()

    def _receive_data(self, event: events.DataReceived) -> None:
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
        if not self._preface_received:  # the client's preface ends with its first SETTINGS; now it may be silent
            self._preface_received = True
            if not self._calls:
                self.on_resting()
            self._reading.deadline = math.inf
            self._close_if_idle()
        self._http2.limit_encoder()
        self._http2.open_windows(None)

    def _note_settings_ack(self, _: events.SettingsAcknowledged) -> None:
        """The client has read the server's preface: a GOAWAY may follow.

        If it came earlier, grpcio would find the connection ready and over at the same time and reconnect in a loop,
        which takes 200 MB of memory a second until the connection closes.
        """
        if self._draining and not self._settings_acknowledged:
            self._http2.announce_end()
        self._settings_acknowledged = True

    def _note_goaway(self, _: events.ConnectionTerminated) -> None:
        self._goaway_received = True
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if (self._draining or self._goaway_received) and not self._calls:
            self._reading.deadline = min(self._reading.deadline, trio.current_time() + _CLOSE_TIMEOUT)

    async def _keep_alive(self, connection: trio.CancelScope) -> None:
        while True:
            await trio.sleep_until(self._received_at + self._limits.keepalive_time)
            # written like the sum above, so that rounding cannot differ
            if trio.current_time() < self._received_at + self._limits.keepalive_time:
                continue
            received_at = self._received_at
            self._http2.ping(b"areyouup")
            await trio.sleep(self._limits.keepalive_timeout)
            if self._received_at == received_at:
                _log.info("%s did not answer a PING within %g s", self.peer, self._limits.keepalive_timeout)
                connection.cancel()
