# SPDX-License-Identifier: Apache-2.0
"""Reads the headers of a call: what is asked for, until when, or why it cannot be answered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from grpclib.const import Handler, Status
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.metadata import Deadline, decode_metadata, encode_grpc_message

Headers = list[tuple[str, str]]

# A deadline further away than this is none: clients without one send years, and clocks overflow on them.
_FAR_AWAY = 365 * 24 * 3600.0

# Characters of a peer's own words that an answer repeats: clients accept about 8 KiB of trailers.
_ECHOED = 200


@attrs.frozen
class Request:
    """A call that a handler can answer."""

    path: str
    handler: Handler
    metadata: Any
    deadline: Deadline | None
    content_type: str
    user_agent: str | None

    @property
    def timeout(self) -> float:
        """Seconds from now until the deadline, infinite where there is none."""
        return math.inf if self.deadline is None else self.deadline.time_remaining()


@attrs.frozen
class Refusal:
    """A call that ends with its headers: the HTTP status, and the gRPC status for those who speak it."""

    path: str
    known: bool
    http_status: int
    status: Status
    message: str
    extra: tuple[tuple[str, str], ...] = ()

    def to_headers(self) -> Headers:
        """The complete answer. Without its content-type, grpc-go reports UNKNOWN and not the status."""
        return [
            (":status", str(self.http_status)),
            ("content-type", GRPC_CONTENT_TYPE),
            ("grpc-status", str(self.status.value)),
            ("grpc-message", encode_grpc_message(self.message)),
            *self.extra,
        ]


def read_request(raw: Iterable[tuple[bytes, bytes]], routes: Mapping[str, Handler]) -> Request | Refusal:
    """Tell from the headers whether ``routes`` has an answer. Never raises: headers come from anybody."""
    # hostile bytes may be in any value; those that matter here are ASCII, and the rest is for reading only
    headers = [(name.decode("ascii", "replace"), value.decode("utf-8", "replace")) for name, value in raw]
    fields = dict(headers)
    path = fields.get(":path", "")
    if refusal := _check_fields(fields, path, known=path in routes):
        return refusal
    try:
        deadline = _read_deadline(headers)
        metadata = decode_metadata(headers)
    except (ValueError, OverflowError):
        text = "the grpc-timeout header or a -bin header is malformed"
        return Refusal(path, path in routes, 200, Status.INVALID_ARGUMENT, text)
    return Request(path, routes[path], metadata, deadline, fields["content-type"], fields.get("user-agent"))


def _check_fields(fields: Mapping[str, str], path: str, *, known: bool) -> Refusal | None:
    if fields.get(":method") != "POST":
        return Refusal(path, known, 405, Status.UNKNOWN, "gRPC calls are POST requests", (("allow", "POST"),))
    if not _is_protobuf(fields.get("content-type", "")):
        return Refusal(path, known, 415, Status.UNKNOWN, f"content-type must be {GRPC_CONTENT_TYPE}+proto")
    if fields.get("grpc-encoding", "identity") != "identity":
        text = "compressed requests are not supported"
        return Refusal(path, known, 200, Status.UNIMPLEMENTED, text, (("grpc-accept-encoding", "identity"),))
    if not known:
        return Refusal(path, known, 200, Status.UNIMPLEMENTED, f"there is no method {path[:_ECHOED]}")
    return None


def _is_protobuf(content_type: str) -> bool:
    base, _, subtype = content_type.partition(";")[0].strip().lower().partition("+")
    return base == GRPC_CONTENT_TYPE and subtype in {"", "proto"}


def _read_deadline(headers: Headers) -> Deadline | None:
    deadline: Deadline | None = Deadline.from_headers(headers)
    return None if deadline is None or deadline.time_remaining() > _FAR_AWAY else deadline
