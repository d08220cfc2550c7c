# SPDX-License-Identifier: Apache-2.0
"""Both ends for the tests: services to call, and an HTTP/2 client on any Trio stream that can also misbehave."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio
import trio.testing
from grpclib.const import Status
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from kedastral.grpclib_trio import FinishedCall, Server

from ._proto import sample_pb2 as pb
from ._proto.sample_grpc import SampleBase

SERVICE = "/sample.Sample/"

Handler = Callable[[Any], Awaitable[None]]


async def echo_name(stream: Any) -> None:
    """Answer Echo with the requested name, as often as the metadata say."""
    request = await stream.recv_message()
    name = request.name * int(request.options.get("repeat", "1"))
    await stream.send_message(pb.Items(items=[pb.Item(text=name)]))


async def never_end(stream: Any) -> None:
    """Send one state, and stay open forever, like WatchState."""
    await stream.recv_message()
    await stream.send_message(pb.State(result=True))
    await trio.sleep_forever()


async def never_begin(stream: Any) -> None:
    """Read the request, and never answer."""
    await stream.recv_message()
    await trio.sleep_forever()


class SampleService(SampleBase):
    """The sample service: handlers are given by method name, others behave sensibly."""

    def __init__(self, **handlers: Handler) -> None:
        self._handlers = handlers

    async def _run(self, method: str, default: Handler, stream: Any) -> None:
        await self._handlers.get(method, default)(stream)

    async def Ask(self, stream: Any) -> None:
        await self._run("Ask", send_state, stream)

    async def WatchState(self, stream: Any) -> None:
        await self._run("WatchState", never_end, stream)

    async def Echo(self, stream: Any) -> None:
        await self._run("Echo", echo_name, stream)

    async def Measure(self, stream: Any) -> None:
        await self._run("Measure", send_item, stream)

    async def WatchItems(self, stream: Any) -> None:
        await self._run("WatchItems", never_begin, stream)


async def send_state(stream: Any) -> None:
    await stream.recv_message()
    await stream.send_message(pb.State(result=True))


async def send_item(stream: Any) -> None:
    request = await stream.recv_message()
    await stream.send_message(pb.Items(items=[pb.Item(text=request.text)]))


def frame_message(message: Any, flag: int = 0) -> bytes:
    """A gRPC message as in DATA frames; bytes are used unchanged."""
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return bytes([flag]) + len(body).to_bytes(4, "big") + body


@attrs.define
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = attrs.field(factory=dict)
    trailers: dict[str, str] = attrs.field(factory=dict)
    body: bytearray = attrs.field(factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> Status:
        """The gRPC status, from headers or trailers."""
        return Status(int((self.trailers or self.headers)["grpc-status"]))

    @property
    def message(self) -> str:
        """The gRPC message, from headers or trailers."""
        return (self.trailers or self.headers).get("grpc-message", "")

    def read(self, kind: Any) -> list[Any]:
        """All complete messages so far."""
        messages, rest = [], bytes(self.body)
        while len(rest) >= 5 and len(rest) >= 5 + (size := int.from_bytes(rest[1:5], "big")):
            messages.append(kind.FromString(rest[5 : 5 + size]))
            rest = rest[5 + size :]
        return messages


class Client:
    """The client's side of an HTTP/2 connection, driven only by the test: it reads only when a test waits."""

    def __init__(self, stream: trio.abc.Stream, *, service: str = SERVICE, acknowledges: bool = True) -> None:
        self.stream = stream
        self._service = service
        self.h2 = H2Connection(
            H2Configuration(client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False)
        )
        self.answers: defaultdict[int, Answer] = defaultdict(Answer)
        self.goaways: list[ConnectionTerminated] = []
        self.pongs = 0
        self.closed = False
        self._acknowledges = acknowledges
        # GOAWAY must not stop the test's client from sending
        self.h2.state_machine._transitions = {  # type: ignore[misc]
            key: value for key, value in self.h2.state_machine._transitions.items() if "GOAWAY" not in key[1].name
        } | {
            (state, input_): (None, state)
            for state, input_ in self.h2.state_machine._transitions
            if "GOAWAY" in input_.name
        }
        self.h2.initiate_connection()

    async def flush(self) -> None:
        """Send what is queued; if the server has hung up, that shows at the next read."""
        if data := self.h2.data_to_send():
            with contextlib.suppress(trio.BrokenResourceError):
                await self.stream.send_all(data)

    def open(self, method: str = "Echo", *, end: bool = False, **headers: str | bytes) -> int:
        """Queue the headers of a call; keyword ``grpc_timeout`` becomes header ``grpc-timeout``, None drops one."""
        stream_id = self.h2.get_next_available_stream_id()
        fields: dict[str, Any] = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method if method.startswith("/") else self._service + method,
            ":authority": "test",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        for name, value in headers.items():
            fields[{"http_method": ":method"}.get(name, name.replace("_", "-"))] = value
        chosen = [(name, value) for name, value in fields.items() if value is not None]
        self.h2.send_headers(stream_id, chosen, end_stream=end)
        return stream_id

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Queue DATA in frames of at most 16 KiB, as far as the windows allow."""
        while len(data) > 2**14:
            self.h2.send_data(stream_id, data[: 2**14])
            data = data[2**14 :]
        self.h2.send_data(stream_id, data, end_stream=end)

    def start(self, method: str = "Echo", message: Any = None, **headers: str | bytes) -> int:
        """Queue a whole unary request."""
        stream_id = self.open(method, **headers)
        default = pb.Question() if method == "Measure" else pb.Name(name="web")
        self.send(stream_id, frame_message(default if message is None else message), end=True)
        return stream_id

    async def call(self, method: str = "Echo", message: Any = None, **headers: str | bytes) -> Answer:
        """A whole unary call."""
        return await self.finish(self.start(method, message, **headers))

    async def finish(self, stream_id: int) -> Answer:
        """Wait for the end of one stream."""
        answer = self.answers[stream_id]
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until ``condition`` holds; fails if the server hangs up first."""
        await self.flush()
        while not condition():
            if not await self.read():
                raise EOFError("the server closed the connection")

    async def until_closed(self) -> None:
        """Read until the server hangs up."""
        while await self.read():
            pass

    async def read(self) -> bool:
        """Read once; False at the end."""
        try:
            data = await self.stream.receive_some(2**16)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.closed = True
            return False
        for event in self.h2.receive_data(bytes(data)):
            self._note(event)
        await self.flush()
        return True

    def _note(self, event: Event) -> None:
        match event:
            case ResponseReceived():
                self.answers[event.stream_id].headers = _to_text(event.headers)
            case TrailersReceived():
                self.answers[event.stream_id].trailers = _to_text(event.headers)
            case DataReceived():
                self.answers[event.stream_id].body += event.data
                if self._acknowledges:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case StreamEnded():
                self.answers[event.stream_id].ended = True
            case StreamReset():
                self.answers[event.stream_id].reset = int(event.error_code)
            case ConnectionTerminated():
                self.goaways.append(event)
            case PingAckReceived():
                self.pongs += 1


def _to_text(headers: Any) -> dict[str, str]:
    return {bytes(name).decode(): bytes(value).decode() for name, value in headers}


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Connections without a network; ``backlog`` holds those that are not accepted yet."""

    def __init__(self) -> None:
        self._offer, self._backlog = trio.open_memory_channel[trio.abc.Stream](1000)
        self.closed = False

    async def accept(self) -> trio.abc.Stream:
        return await self._backlog.receive()

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()

    def connect(self, pair: Any = trio.testing.memory_stream_pair) -> trio.abc.Stream:
        """The client's end of a new connection."""
        ours, theirs = pair()
        self._offer.send_nowait(theirs)
        return ours


@attrs.define
class Rig:
    """A server under test."""

    server: Server
    finished: list[FinishedCall]
    listener: MemoryListener = attrs.field(factory=MemoryListener)
    shutdown: trio.Event = attrs.field(factory=trio.Event)
    stopped: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    grace: float = 8.0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on the memory listener."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                serve = self.server.serve
                await nursery.start(
                    lambda task_status: serve(
                        [self.listener], shutdown=self.shutdown, grace=self.grace, task_status=task_status
                    )
                )
                task_status.started()
        self.stopped.set()

    def connect(self, pair: Any = trio.testing.memory_stream_pair, **options: bool) -> Client:
        """A new client, its preface queued."""
        return Client(self.listener.connect(pair), **options)
