# SPDX-License-Identifier: Apache-2.0
"""One call, from its headers to its trailers: reads the request, runs its handler, sends the status."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, cast

import attrs
import grpclib.protocol
import trio
from grpclib.const import Handler, Status
from grpclib.encoding.base import GRPC_CONTENT_TYPE
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError
from grpclib.metadata import Deadline, decode_metadata, encode_grpc_message
from grpclib.server import Stream
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from kedastral.grpclib_trio.messages import DetailsCodec, MessageCodec
from kedastral.grpclib_trio.transport import TransportStream

Headers = list[tuple[str, str]]

MAX_STATUS_MESSAGE = 1500
"""The most characters of a grpc-message: encoding a header takes quadratic time."""

MAX_ENCODED_MESSAGE = 6000
"""The most bytes of a grpc-message as it is sent, with three for each byte beyond ASCII: clients accept about 8 KiB of
trailers, and show nothing of longer ones."""

# A deadline further away than this counts as none: clients without one send years, which would overflow clocks.
_MAX_TIMEOUT = 365 * 24 * 3600.0

# The most characters of a path that a response repeats: clients accept about 8 KiB of trailers.
_MAX_ECHO = 200

_log = logging.getLogger(__name__)

_current_call_id: ContextVar[str | None] = ContextVar("grpclib_trio_call_id", default=None)


def current_call_id() -> str | None:
    """The ``FinishedCall.call_id`` of the call whose handler is running; None outside of handlers.

    Tasks started by a handler inherit it, so that log lines can be matched to their call.
    """
    return _current_call_id.get()


@attrs.frozen(kw_only=True)
class FinishedCall:
    """The outcome of one call, including refused and cancelled ones."""

    method: str
    """The path as the client sent it, such as ``/package.Service/Method``; it may be anything if not ``known``."""

    known: bool
    """Whether a service of this server has that method; only then use the path as a metric label."""

    status: Status
    """The status sent to the client; CANCELLED if the client or the connection went away before that."""

    duration: float
    """Seconds from the headers to the end."""

    peer: str
    """The client as ``host:port``."""

    call_id: str
    """Unique within a server: number of the connection, then number of the stream, as in ``3-17``."""


@attrs.frozen
class Services:
    """What the calls of all connections share: handlers by path, grpclib's interceptors, codecs, and ``on_call``.

    ``on_call`` is called synchronously in the server's task and must be quick. An exception it raises is logged with
    its traceback and changes nothing for the call or the server.
    """

    handlers: Mapping[str, Handler]
    dispatch: _DispatchServerEvents
    on_call: Callable[[FinishedCall], None] | None = None
    codec: MessageCodec = attrs.field(factory=MessageCodec)
    details_codec: DetailsCodec = attrs.field(factory=DetailsCodec)

    def may_be_endless(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a call with these headers may have many responses, and so may never end by itself."""
        path = next((value for name, value in headers if name == b":path"), b"")
        handler = self.handlers.get(path.decode("ascii", "replace"))
        return handler is not None and handler.cardinality.server_streaming

    def report(self, finished: FinishedCall) -> None:
        """Log the end of a call and tell ``on_call``."""
        _log.debug("%s ended with %s after %.3f s", finished.method, finished.status.name, finished.duration)
        if self.on_call is None:
            return
        try:
            self.on_call(finished)
        except Exception:  # noqa: BLE001  # the embedding application's bug must not end calls
            _log.exception("on_call failed for %r", finished)


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
        """Seconds from now until the deadline, infinite if there is none."""
        return math.inf if self.deadline is None else self.deadline.time_remaining()


@attrs.frozen
class Refusal:
    """A call that is answered with a trailers-only response: its HTTP status, and its gRPC status and message."""

    path: str
    known: bool
    http_status: int
    status: Status
    message: str
    extra: tuple[tuple[str, str], ...] = ()

    def to_headers(self) -> Headers:
        """The complete response. Without its content-type, grpc-go reports UNKNOWN instead of the status."""
        return [
            (":status", str(self.http_status)),
            ("content-type", GRPC_CONTENT_TYPE),
            ("grpc-status", str(self.status.value)),
            ("grpc-message", encode_grpc_message(self.message)),
            *self.extra,
        ]


def read_request(raw: Iterable[tuple[bytes, bytes]], handlers: Mapping[str, Handler]) -> Request | Refusal:
    """Read the headers of a call, for which ``handlers`` may have no method. Never raises, whatever the headers."""
    # any value may hold hostile bytes; the names are ASCII, and so are the values that matter here
    headers = [(name.decode("ascii", "replace"), value.decode("utf-8", "replace")) for name, value in raw]
    fields = dict(headers)
    path = fields.get(":path", "")
    if refusal := _check_fields(fields, path, known=path in handlers):
        return refusal
    try:
        deadline = _read_deadline(headers)
        metadata = decode_metadata(headers)
    except (ValueError, OverflowError):
        text = "the grpc-timeout header or a -bin header is malformed"
        return Refusal(path, path in handlers, 200, Status.INVALID_ARGUMENT, text)
    return Request(path, handlers[path], metadata, deadline, fields["content-type"], fields.get("user-agent"))


def _check_fields(fields: Mapping[str, str], path: str, *, known: bool) -> Refusal | None:
    if fields.get(":method") != "POST":
        return Refusal(path, known, 405, Status.UNKNOWN, "gRPC calls are POST requests", (("allow", "POST"),))
    if not _is_protobuf(fields.get("content-type", "")):
        return Refusal(path, known, 415, Status.UNKNOWN, f"content-type must be {GRPC_CONTENT_TYPE}+proto")
    if fields.get("grpc-encoding", "identity") != "identity":
        text = "compressed requests are not supported"
        return Refusal(path, known, 200, Status.UNIMPLEMENTED, text, (("grpc-accept-encoding", "identity"),))
    if not known:
        return Refusal(path, known, 200, Status.UNIMPLEMENTED, f"there is no method {path[:_MAX_ECHO]}")
    return None


def _is_protobuf(content_type: str) -> bool:
    base, _, subtype = content_type.partition(";")[0].strip().lower().partition("+")
    return base == GRPC_CONTENT_TYPE and subtype in {"", "proto"}


def _read_deadline(headers: Headers) -> Deadline | None:
    deadline: Deadline | None = Deadline.from_headers(headers)
    return None if deadline is None or deadline.time_remaining() > _MAX_TIMEOUT else deadline


def shorten_message(message: str) -> str:
    """``message``, with its end replaced by an ellipsis if it is longer than a client accepts."""
    size = 0
    for place, character in enumerate(message):
        is_plain = " " <= character <= "~" and character != "%"
        size += 1 if is_plain else 3 * len(character.encode("utf-8", "replace"))
        if place >= MAX_STATUS_MESSAGE or size > MAX_ENCODED_MESSAGE:
            return message[: place - 1] + "…"
    return message


class Call:
    """Answers one request. :meth:`run` is its task; the other methods may be called from other tasks at any time."""

    def __init__(
        self, services: Services, stream: TransportStream, call_id: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self.stream = stream
        self._services = services
        self._id = call_id
        self._request = read_request(headers, services.handlers)
        self._started_at = trio.current_time()
        self._handler_scope = trio.CancelScope()
        self._call_scope = trio.CancelScope()
        # what to send if the handler is cancelled; unless `end` says otherwise, its deadline expired
        self._cancel_status: GRPCError | None = GRPCError(Status.DEADLINE_EXCEEDED, "the deadline expired")
        self._unsent_status = Status.CANCELLED

    @property
    def streams_responses(self) -> bool:
        """Whether the call may have many responses, and so may never end by itself."""
        return isinstance(self._request, Request) and self._request.handler.cardinality.server_streaming

    def end(self, error: GRPCError | None) -> None:
        """Cancel the handler and send ``error``, or OK if it is None."""
        self._cancel_status = error
        self._handler_scope.cancel()

    def abandon(self) -> None:
        """Cancel everything: the client no longer waits for a response."""
        self._call_scope.cancel()

    async def run(self) -> None:
        """Answer the call and report it. Raises nothing but cancellation: any failure only affects this call."""
        _current_call_id.set(self._id)
        try:
            with self._call_scope:
                await self._answer(self._request)
        except ProtocolError:
            _log.debug("call %s: the stream ended before its answer", self._id, exc_info=True)
        except Exception:  # noqa: BLE001  # whatever it was, the other calls continue
            _log.exception("call %s: no answer could be sent", self._id)
            self._unsent_status = Status.INTERNAL  # clients read the RST_STREAM that follows as this
        finally:
            self._close()

    async def _answer(self, request: Request | Refusal) -> None:
        if isinstance(request, Refusal):
            await self.stream.send_headers(request.to_headers(), end_stream=True)
            return
        stream = self._make_stream(request)
        error = await self._run_handler(request, stream)
        if self.stream.sent_status is None and not self.stream.was_reset:
            await self._send_status(request.path, stream, error)

    def _make_stream(self, request: Request) -> Stream[Any, Any]:
        handler = request.handler
        self.stream.request.required = not handler.cardinality.client_streaming
        stream: Stream[Any, Any] = Stream(
            cast("grpclib.protocol.Stream", self.stream),  # it has the same shape, see test_private_names.py
            request.path,
            handler.cardinality,
            handler.request_type,
            handler.reply_type,
            codec=self._services.codec,
            status_details_codec=self._services.details_codec,
            dispatch=self._services.dispatch,
            deadline=request.deadline,
            user_agent=request.user_agent,
        )
        return stream

    async def _run_handler(self, request: Request, stream: Stream[Any, Any]) -> GRPCError | None:
        """Run the handler to its end. Returns the status for the client, None for OK."""
        self._handler_scope.deadline = trio.current_time() + request.timeout
        try:
            with self._handler_scope:
                stream.metadata, handler = await self._services.dispatch.recv_request(
                    request.metadata,
                    request.handler.func,
                    method_name=request.path,
                    deadline=request.deadline,
                    content_type=request.content_type,
                    user_agent=request.user_agent,
                    peer=stream.peer,
                )
                await handler(stream)
        except Exception as error:  # noqa: BLE001  # a handler's bug must not reach the other calls
            return self._to_status(request.path, error)
        return self._cancel_status if self._handler_scope.cancelled_caught else None

    def _to_status(self, path: str, error: Exception) -> GRPCError:
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]  # raised inside a handler's own nursery
        if isinstance(error, GRPCError):
            return error
        if isinstance(error, ProtocolError) and not self.stream.closable:
            raise error  # the client left while the handler was shielded
        _log.error("call %s: the handler of %s failed", self._id, path, exc_info=error)
        return GRPCError(Status.INTERNAL, "internal error")

    async def _send_status(self, path: str, stream: Stream[Any, Any], error: GRPCError | None) -> None:
        error = error or GRPCError(Status.OK)
        message = None if error.message is None else shorten_message(error.message)
        try:
            await stream.send_trailing_metadata(
                status=error.status, status_message=message, status_details=error.details
            )
        except ProtocolError:
            raise
        except Exception:  # noqa: BLE001  # no response from a unary method, or bad details: bugs of the handler too
            _log.exception("call %s: %s ended without a valid answer", self._id, path)
            await stream.send_trailing_metadata(status=Status.INTERNAL, status_message="internal error")

    def _close(self) -> None:
        status = self.stream.sent_status or self._unsent_status
        try:
            # trailers are out: the client need not send the rest; otherwise there will be no answer
            answered = self.stream.sent_status is not None
            self.stream.reset_nowait(ErrorCodes.NO_ERROR if answered else ErrorCodes.INTERNAL_ERROR)
            self.stream.request.close()
        except ProtocolError:
            _log.debug("call %s: the connection is closed", self._id, exc_info=True)
        known = isinstance(self._request, Request) or self._request.known
        self._services.report(
            FinishedCall(
                method=self._request.path,
                known=known,
                status=status,
                duration=trio.current_time() - self._started_at,
                peer=str(self.stream.connection.get_peer()),
                call_id=self._id,
            )
        )
