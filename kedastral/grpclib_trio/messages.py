# SPDX-License-Identifier: Apache-2.0
"""Messages: joins the pieces from DATA frames, and converts bytes to protobuf messages and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import trio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError

from kedastral.grpclib_trio.limits import MemoryAccount

# Every gRPC message is preceded by one byte that says whether it is compressed, and four with its length.
PREFIX_BYTES = 5


class ReceiveBudget:
    """Bytes that all requests of one connection may occupy: at most ``limit``, and what ``account`` has room for.

    ``request_timeout`` is the time limit for the first message of each, in seconds; ``max_message`` is its size limit.
    """

    def __init__(self, limit: int, account: MemoryAccount, *, max_message: int, request_timeout: float) -> None:
        self.max_message = max_message
        self.request_timeout = request_timeout
        self._left = limit
        self._account = account

    def take(self, size: int) -> bool:
        """Reserve ``size`` bytes; False, reserving nothing, if that is too much."""
        if size > self._left or not self._account.take(size, urgent=True):
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """Free ``size`` bytes that were taken."""
        self._left += size
        self._account.give_back(size)


class RequestReader:
    """The request of one call, read like grpclib does: a prefix, then as many bytes as it announced.

    It waits for the whole message before it returns the prefix. So a handler that is cancelled while waiting has
    consumed nothing, and its next read begins at a message again. ``acknowledge(size)`` is called when the peer may
    send more: as soon as a handler waits for it, not when data arrive.
    """

    def __init__(self, budget: ReceiveBudget, acknowledge: Callable[[int], None]) -> None:
        self._budget = budget
        self._due = trio.current_time() + budget.request_timeout
        self._acknowledge = acknowledge
        self._buffer = bytearray()
        self._unacknowledged = 0
        self._arrived = trio.Event()
        self._prefix_read = False
        self._overflow = False
        self._none_read = True
        self.ended = False
        """Whether the peer has finished sending."""
        self.required = False
        """Whether ending without any message is an error, as for a method that takes exactly one."""

    def feed(self, data: bytes, flow_size: int) -> None:
        """Append received bytes; ``flow_size`` is what they use of the flow-control window, padding included."""
        self._unacknowledged += flow_size
        if self._budget.take(len(data)):
            self._buffer += data
        else:
            self._overflow = True
        self._arrived.set()

    def end(self) -> None:
        """Note that nothing more will come."""
        self.ended = True
        self._arrived.set()

    def close(self) -> None:
        """Drop what was not read, and free its memory for the connection's other calls."""
        self._take(len(self._buffer))
        self.acknowledge_arrived()

    async def read(self, size: int) -> bytes:
        """A prefix (``size`` 5) or the message it announced; ``b""`` for a prefix after the last message.

        Raises ``GRPCError`` for what is too large, compressed, cut short, or missing.
        """
        if not self._prefix_read and not await self._wait_for_message():
            return b""
        self._prefix_read = not self._prefix_read
        self._none_read = False
        return self._take(size)

    async def _wait_for_message(self) -> bool:
        await trio.lowlevel.checkpoint_if_cancelled()
        while len(self._buffer) < self._size_needed():
            if self.ended:
                return self._check_end()
            self.acknowledge_arrived()
            self._arrived = trio.Event()
            with trio.CancelScope(deadline=self._due if self._none_read else math.inf) as patience:
                await self._arrived.wait()
            if patience.cancelled_caught:
                text = f"the request message did not arrive within {self._budget.request_timeout:g} s"
                raise GRPCError(Status.DEADLINE_EXCEEDED, text)
        self.acknowledge_arrived()
        return True

    def _size_needed(self) -> int:
        if self._overflow:
            raise GRPCError(Status.RESOURCE_EXHAUSTED, "too much request data is waiting on this connection")
        if len(self._buffer) < PREFIX_BYTES:
            return PREFIX_BYTES
        if self._buffer[0]:
            raise GRPCError(Status.INTERNAL, "message marked as compressed without a grpc-encoding header")
        length = int.from_bytes(self._buffer[1:PREFIX_BYTES], "big")
        if length > self._budget.max_message:
            text = f"message of {length} bytes is larger than the limit of {self._budget.max_message}"
            raise GRPCError(Status.RESOURCE_EXHAUSTED, text)
        return PREFIX_BYTES + length

    def _check_end(self) -> bool:
        if self._buffer:
            raise GRPCError(Status.INTERNAL, "the request ended in the middle of a message")
        if self.required and self._none_read:
            # the status that gRPC's statuscodes.md specifies for a wrong number of requests
            raise GRPCError(Status.UNIMPLEMENTED, "the method takes one request message, none was sent")
        return False

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._budget.give_back(len(taken))
        return taken

    def acknowledge_arrived(self) -> None:
        """Open the peer's window by everything that has arrived since last time."""
        if self._unacknowledged:
            size, self._unacknowledged = self._unacknowledged, 0
            self._acknowledge(size)


class MessageCodec(ProtoCodec):
    """grpclib's protobuf codec, but bytes that do not parse are the client's mistake, not a bug of the server."""

    def decode(self, data: bytes, message_type: Any) -> Any:
        """Parse ``data``. Raises ``GRPCError`` with INTERNAL, like grpc-go, if it is not such a message."""
        try:
            return super().decode(data, message_type)
        except DecodeError as error:
            raise GRPCError(Status.INTERNAL, f"the request is not a {message_type.DESCRIPTOR.full_name}") from error


def _encode_field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of the protobuf wire format."""
    size, varint = len(payload), bytearray()
    while size > 0x7F:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *varint, size]) + payload


class DetailsCodec(StatusDetailsCodecBase):
    """Writes ``GRPCError.details``, a sequence of messages, as ``google.rpc.Status``.

    grpclib's own codec needs the package googleapis-common-protos for this single message of three fields
    (https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto).
    """

    def encode(self, status: Status, message: str | None, details: Sequence[Message]) -> bytes:
        """The bytes of ``google.rpc.Status{code = 1, message = 2, details = 3}``."""
        encoded = bytes([1 << 3, status.value]) + _encode_field(2, (message or "").encode())
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            encoded += _encode_field(3, packed.SerializeToString())
        return encoded

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:
        """Not implemented: only clients read details."""
        raise NotImplementedError
