# SPDX-License-Identifier: Apache-2.0
"""Hostile gRPC clients: ``python -m tests.faults.grpc_attacks NAME PORT SECONDS``, from 127.0.0.2.

Each function is one connection, which is reopened when the server has cut it off. A line on standard output says that
all of them have connected.
"""

import sys
from collections.abc import Awaitable, Callable, Iterator

import attrs
import trio
from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from kedastral._proto.externalscaler_pb2 import GetMetricsRequest, ScaledObjectRef

HOST = "127.0.0.2"
PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize() + SettingsFrame(0, flags=["ACK"]).serialize()
)
PAUSE = 0.01


@attrs.define
class Attacker:
    """One connection: its header compression, and the numbers of its streams."""

    socket: trio.SocketStream
    encoder: Encoder = attrs.field(factory=Encoder)
    _numbers: Iterator[int] = attrs.field(factory=lambda: iter(range(1, 2**31, 2)))

    def headers(self, method: str, *extra: tuple[str, str]) -> tuple[int, bytes]:
        """The next stream and its HEADERS frame."""
        stream_id = next(self._numbers)
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/externalscaler.ExternalScaler/{method}"),
            (":authority", "x"),
            ("content-type", "application/grpc"),
            *extra,
        ]
        frame = HeadersFrame(stream_id, bytes(self.encoder.encode(fields)), flags=["END_HEADERS"])
        return stream_id, frame.serialize()

    def call(self, method: str, body: bytes) -> bytes:
        """A whole request."""
        stream_id, headers = self.headers(method)
        message = b"\0" + len(body).to_bytes(4, "big") + body
        pieces = [message[i : i + 2**14] for i in range(0, len(message), 2**14)]
        frames = [DataFrame(stream_id, piece).serialize() for piece in pieces]
        last = DataFrame(stream_id, b"", flags=["END_STREAM"]).serialize()
        return headers + b"".join(frames) + last


REF = ScaledObjectRef(name="web", namespace="prod", scalerMetadata={"workload": "web"})


async def unfinished_calls(attacker: Attacker) -> None:
    """StreamIsActive without a message, each with 15 KB of headers that are a few bytes on the wire."""
    while True:
        many = [attacker.headers("StreamIsActive", *[("x-huge", "h" * 3_500)] * 4)[1] for _ in range(50)]
        await attacker.socket.send_all(b"".join(many))
        await trio.sleep(PAUSE)


async def long_metadata(attacker: Attacker) -> None:
    """StreamIsActive with 60 KB of metadata that stays open."""
    ref = ScaledObjectRef(name="web", namespace="prod", scalerMetadata={"workload": "web", "query": "q" * 60_000})
    await attacker.socket.send_all(WindowUpdateFrame(0, window_increment=2**30).serialize())
    while True:
        await attacker.socket.send_all(attacker.call("StreamIsActive", ref.SerializeToString()))


async def unfinished_messages(attacker: Attacker) -> None:
    """Messages that never end, as many as the windows allow."""
    while True:
        stream_id, headers = attacker.headers("GetMetrics")
        begun = b"\0" + (60_000).to_bytes(4, "big") + bytes(15_000)
        await attacker.socket.send_all(headers + DataFrame(stream_id, begun).serialize())
        await trio.sleep(PAUSE)


async def pipelined_calls(attacker: Attacker) -> None:
    """GetMetrics as fast as the server takes it, without reading an answer."""
    body = GetMetricsRequest(scaledObjectRef=REF, metricName="desired_replicas").SerializeToString()
    while True:
        await attacker.socket.send_all(b"".join(attacker.call("GetMetrics", body) for _ in range(50)))


async def resets(attacker: Attacker) -> None:
    """95 calls a second that are reset at once."""
    while True:
        stream_id, headers = attacker.headers("StreamIsActive")
        await attacker.socket.send_all(headers + RstStreamFrame(stream_id, error_code=8).serialize())
        await trio.sleep(1 / 95)


async def window_updates(attacker: Attacker) -> None:
    """Frames that request nothing."""
    flood = WindowUpdateFrame(0, window_increment=1).serialize() * 1_000
    while True:
        await attacker.socket.send_all(flood)


async def idle(attacker: Attacker) -> None:
    """Nothing at all after the greeting."""
    del attacker
    await trio.sleep_forever()


Attack = Callable[[Attacker], Awaitable[None]]
ATTACKS: dict[str, tuple[Attack, int]] = {
    "unfinished_calls": (unfinished_calls, 1),
    "long_metadata": (long_metadata, 4),
    "unfinished_messages": (unfinished_messages, 12),
    "pipelined_calls": (pipelined_calls, 10),
    "resets": (resets, 100),
    "window_updates": (window_updates, 50),
    "idle": (idle, 1_000),
}


async def keep_attacking(attack: Attack, port: int, came: Callable[[], None]) -> None:
    """Attack on one connection after another; ``came`` is called for each."""
    while True:
        try:
            raw = trio.socket.socket()
            await raw.bind((HOST, 0))
            await raw.connect(("127.0.0.1", port))
            socket = trio.SocketStream(raw)
            await socket.send_all(PREFACE)
            came()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attack, Attacker(socket))
                if attack is not pipelined_calls:
                    nursery.start_soon(read_to_the_end, socket)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            await trio.sleep(0.05)


async def read_to_the_end(socket: trio.SocketStream) -> None:
    """Read and forget; raises when the server hangs up."""
    while await socket.receive_some(2**16):
        pass
    raise trio.ClosedResourceError


async def main(name: str, port: int, seconds: float) -> None:
    """Attack for the given time."""
    attack, connections = ATTACKS[name]
    yet_to_come = iter(range(connections - 1, -1, -1))

    def count_down() -> None:
        if next(yet_to_come, None) == 0:
            sys.stdout.write("all have come\n")
            sys.stdout.flush()

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(keep_attacking, attack, port, count_down)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
