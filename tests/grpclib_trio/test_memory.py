# SPDX-License-Identifier: Apache-2.0
"""One memory budget for all clients: those who use it up are refused or cut off, and the others are served."""

from __future__ import annotations

import logging
import re

import pytest
import trio
import trio.testing
from grpclib.const import Status
from hyperframe.frame import DataFrame, HeadersFrame

from kedastral.grpclib_trio import Limits
from kedastral.grpclib_trio.limits import CALL_BYTES, CONNECTION_BYTES

from ._proto import sample_pb2 as pb
from .conftest import StartServer
from .peers import Client, Rig, SampleService, frame_message, never_begin
from .test_abuse import ENHANCE_YOUR_CALM, REFUSED_STREAM, assert_cut_off, header_block, read_what_there_is, send_raw

MIB = 2**20


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[trio.abc.Stream, str]:
    """The host of memory streams; "unknown" unless a test sets it."""
    known: dict[trio.abc.Stream, str] = {}
    monkeypatch.setattr("kedastral.trio_connections._read_address", lambda stream: (known.get(stream, "unknown"), 1))
    return known


def connect_from(rig: Rig, host: str, hosts: dict[trio.abc.Stream, str]) -> Client:
    def pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        ours, theirs = trio.testing.memory_stream_pair()
        hosts[theirs] = host
        return ours, theirs

    return rig.connect(pair)


async def open_watches(client: Client, count: int, *, first: int = 1) -> int:
    """Open endless calls in turn, as an attacker could; returns how many were refused."""
    for i in range(first, first + 2 * count, 2):
        headers = HeadersFrame(i, header_block(client), flags=["END_HEADERS"])
        await send_raw(client, headers, DataFrame(i, frame_message(pb.Name()), flags=["END_STREAM"]))
        await trio.testing.wait_all_tasks_blocked()
    refusal = re.compile(b"\0\0\4\3\0.{4}\0\0\0\7", re.DOTALL)  # RST_STREAM with REFUSED_STREAM
    return len(refusal.findall(await read_what_there_is(client)))


async def test_calls_for_which_there_is_no_memory_are_refused_and_short_ones_go_on(
    start_server: StartServer, mock_clock: object
) -> None:
    rig = await start_server(SampleService(WatchState=never_begin), limits=Limits(memory_bytes=MIB))
    good, greedy = rig.connect(), rig.connect()
    assert (await good.call()).status is Status.OK
    refused = await open_watches(greedy, 100)
    room = MIB * 7 // 8 - 2 * CONNECTION_BYTES
    assert room // CALL_BYTES - 10 < 100 - refused <= room // CALL_BYTES
    assert (await good.call()).status is Status.OK
    watch = good.start("WatchState")
    assert (await good.finish(watch)).reset == REFUSED_STREAM
    await greedy.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    watch = good.start("WatchState")
    await good.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert (await good.call()).status is Status.OK
    assert good.answers[watch].reset is None


async def test_headers_that_are_an_index_on_the_wire_are_counted_as_what_they_become(
    start_server: StartServer, mock_clock: object
) -> None:
    rig = await start_server(SampleService(WatchState=never_begin), limits=Limits(memory_bytes=MIB, max_resets=50))
    good, greedy = rig.connect(), rig.connect()
    assert (await good.call()).status is Status.OK
    huge = header_block(greedy, ("x-huge", "h" * 3_000))
    repeated = header_block(greedy, *[("x-huge", "h" * 3_000)] * 4)
    assert len(repeated) < 200
    await send_raw(greedy, HeadersFrame(1, huge, flags=["END_HEADERS"]))
    calls = [HeadersFrame(i, repeated, flags=["END_HEADERS"]) for i in range(3, 20_001, 2)]
    await send_raw(greedy, *calls)
    await trio.testing.wait_all_tasks_blocked()
    assert b"streams reset within 10 s" in await read_what_there_is(greedy)
    assert len(rig.finished) < 1 + MIB // (2 * 4 * 3_000)
    assert (await good.call()).status is Status.OK


async def test_a_host_that_holds_most_gives_way_to_others(
    start_server: StartServer,
    mock_clock: object,
    hosts: dict[trio.abc.Stream, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "kedastral.grpclib_trio")
    rig = await start_server(SampleService(WatchState=never_begin), limits=Limits(memory_bytes=MIB))
    good = connect_from(rig, "10.0.0.1", hosts)
    assert (await good.call()).status is Status.OK
    greedy = [connect_from(rig, "10.0.0.2", hosts) for _ in range(2)]
    for client in greedy:
        await client.call()
        await open_watches(client, 40, first=3)
    ids = [good.start("WatchState") for _ in range(20)]
    assert (await good.call()).status is Status.OK
    await trio.testing.wait_all_tasks_blocked()
    assert [good.answers[i].reset for i in ids] == [None] * 20
    await assert_cut_off(greedy[0], ENHANCE_YOUR_CALM)
    [line] = caplog.messages
    assert line == "10.0.0.2 is disconnected: it holds most of the memory for clients" or line.startswith("10.0.0.2:1 ")


async def test_a_request_that_does_not_come_ends_its_call(start_server: StartServer, autojump_clock: object) -> None:
    client = (await start_server()).connect()
    silent, half = client.open("WatchState"), client.open("WatchState")
    client.send(half, frame_message(pb.Name(name="web"))[:7])
    await client.flush()
    answers = [await client.finish(i) for i in (silent, half)]
    assert trio.current_time() == pytest.approx(10)
    assert [a.status for a in answers] == [Status.DEADLINE_EXCEEDED] * 2
    assert answers[0].message == "the request message did not arrive within 10 s"


async def test_unfinished_requests_give_their_memory_back(start_server: StartServer, autojump_clock: object) -> None:
    limits = Limits(memory_bytes=MIB, max_message_bytes=2**16, max_buffered_bytes=2**20)
    rig = await start_server(limits=limits)
    greedy, good = [rig.connect() for _ in range(4)], rig.connect()
    assert (await good.call()).status is Status.OK
    half = frame_message(pb.Name(name="x" * 60_000))[:16_000]
    for client in greedy:
        await client.until(lambda client=client: client.h2.outbound_flow_control_window > 2**20)  # type: ignore[misc]
        for _ in range(16):
            client.send(client.open("Echo"), half)
        await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    await trio.sleep(11)
    assert {call.status for call in rig.finished[1:]} == {Status.DEADLINE_EXCEEDED, Status.RESOURCE_EXHAUSTED}
    assert (await good.call(message=pb.Name(name="y" * 60_000))).status is Status.OK


async def test_answers_that_nobody_reads_are_part_of_the_budget(start_server: StartServer, mock_clock: object) -> None:
    async def pour(stream: object) -> None:
        await stream.recv_message()  # type: ignore[attr-defined]
        while True:
            await stream.send_message(pb.Items(items=[pb.Item(text="x" * 30_000)]))  # type: ignore[attr-defined]

    rig = await start_server(SampleService(WatchItems=pour), limits=Limits(memory_bytes=MIB, send_buffer_bytes=2 * MIB))
    client = rig.connect(trio.testing.lockstep_stream_pair)
    client.h2.increment_flow_control_window(2**30)
    client.h2.update_settings({4: 2**30})
    client.start("WatchItems")
    await client.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert [call.status for call in rig.finished] == [Status.CANCELLED]
    await client.stream.aclose()
    assert (await rig.connect().call()).status is Status.OK
