# SPDX-License-Identifier: Apache-2.0
"""Properties: chunking does not matter, and random bytes do no harm."""

from __future__ import annotations

from itertools import pairwise

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.grpclib_trio import Server
from kedastral.grpclib_trio.limits import MemoryBudget
from kedastral.grpclib_trio.messages import ReceiveBudget, RequestReader

from ._proto import sample_pb2 as pb
from .peers import Answer, Client, Rig, SampleService, frame_message

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


def write_three_calls(client: Client) -> bytes:
    """The bytes of a preface and three calls."""
    client.start(message=pb.Name(name="one"))
    client.start("/no/such", message=b"abc")
    client.start("Measure", message=b"\xff\xff")
    return bytes(client.h2.data_to_send())


VALID = write_three_calls(Client(trio.testing.memory_stream_pair()[0]))


async def send_in_chunks(borders: list[int]) -> list[Answer]:
    """The answers to the three calls, cut into pieces at ``borders``."""
    rig = Rig(server=Server([SampleService()]), finished=[])
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.run)
        client = rig.connect()
        data = write_three_calls(client)
        for begin, end in pairwise(borders):
            await client.stream.send_all(data[begin:end])
            await trio.testing.wait_all_tasks_blocked()
        answers = [await client.finish(i) for i in (1, 3, 5)]
        nursery.cancel_scope.cancel()
    return answers


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, len(VALID) - 1), max_size=12, unique=True))
def test_any_chunking_of_the_clients_bytes_gives_the_same_answers(cuts: list[int]) -> None:
    answers = trio.run(send_in_chunks, [0, *sorted(cuts), len(VALID)])
    assert answers == trio.run(send_in_chunks, [0, len(VALID)])
    assert [a.status.name for a in answers] == ["OK", "UNIMPLEMENTED", "INTERNAL"]


async def serve_bytes(data: bytes) -> bool:
    """Send ``data`` to a server; returns whether it still serves others and has released the connection."""
    rig = Rig(server=Server([SampleService()]), finished=[])
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.run)
        stream = rig.listener.connect()
        await stream.send_all(data)
        await trio.testing.wait_all_tasks_blocked()
        await stream.aclose()
        other = await rig.connect().call()
        rig.shutdown.set()
        await rig.stopped.wait()
    return other.status.value == 0


frames = st.builds(
    lambda kind, flags, stream, body: len(body).to_bytes(3, "big") + bytes([kind, flags, 0, 0, 0, stream]) + body,
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF]),
    st.integers(0, 7),
    st.binary(max_size=40),
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.lists(frames, max_size=12).map(lambda f: PREFACE + b"".join(f))))
def test_random_bytes_never_kill_the_server(data: bytes) -> None:
    assert trio.run(serve_bytes, data, clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_one_flipped_byte_never_kills_the_server(data: st.DataObject) -> None:
    valid = bytearray(VALID)
    valid[data.draw(st.integers(0, len(valid) - 1))] ^= data.draw(st.integers(1, 255))
    assert trio.run(serve_bytes, bytes(valid), clock=trio.testing.MockClock(autojump_threshold=0))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=5), st.lists(st.integers(0, 300), max_size=8), st.integers(0, 10))
def test_messages_survive_any_cutting_and_every_byte_is_acknowledged(
    bodies: list[bytes], cuts: list[int], padding: int
) -> None:
    async def main() -> None:
        acknowledged: list[int] = []
        account = MemoryBudget(2**20).open_account("test", acknowledged.clear)
        budget = ReceiveBudget(10_000, account, max_message=50, request_timeout=10)
        messages = RequestReader(budget, acknowledged.append)
        data = b"".join(frame_message(body) for body in bodies)
        borders = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
        received: list[bytes] = []

        async def read() -> None:
            while prefix := await messages.read(5):
                received.append(await messages.read(int.from_bytes(prefix[1:], "big")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for a, b in pairwise(borders):
                messages.feed(data[a:b], b - a + padding)
                await trio.testing.wait_all_tasks_blocked()
            messages.end()
        messages.close()
        assert received == bodies
        assert sum(acknowledged) == len(data) + padding * (len(borders) - 1)
        assert budget.take(10_000)

    trio.run(main)
