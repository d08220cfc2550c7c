# SPDX-License-Identifier: Apache-2.0
"""How messages and error details become bytes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError


class MessageCodec(ProtoCodec):
    """grpclib's protobuf codec, with bytes that do not parse as the caller's mistake instead of a bug of ours."""

    def decode(self, data: bytes, message_type: Any) -> Any:
        """Parse ``data``; raises ``GRPCError`` with INTERNAL, as grpc-go answers, if it is no such message."""
        try:
            return super().decode(data, message_type)
        except DecodeError as error:
            raise GRPCError(Status.INTERNAL, f"the request is not a {message_type.DESCRIPTOR.full_name}") from error


def _field(number: int, payload: bytes) -> bytes:
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
        encoded = bytes([1 << 3, status.value]) + _field(2, (message or "").encode())
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            encoded += _field(3, packed.SerializeToString())
        return encoded

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:
        """Servers do not read details."""
        raise NotImplementedError
