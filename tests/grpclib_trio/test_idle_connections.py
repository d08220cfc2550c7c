# SPDX-License-Identifier: Apache-2.0
"""Idle connections lock nobody out, and cause one line in the log."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from grpclib.const import Status

from kedastral.grpclib_trio import Limits

from .conftest import StartServer
from .test_tls import Authority, StartTls, authority, connect, start_tls

__all__ = ["authority", "start_tls"]

LOGGER = "kedastral.grpclib_trio"
IDLE = "idle connections are dropped for new ones, the longest idle first"


@pytest.mark.parametrize("said", [b"", b"PRI * HTTP/2.0\r\n"], ids=["nothing", "half a preface"])
async def test_connections_without_a_preface_keep_nobody_out(
    start_server: StartServer, mock_clock: object, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    rig = await start_server(limits=Limits(max_connections=50, max_waiting=20))
    early = rig.connect()
    stream_id = early.start("WatchState")
    await early.until(lambda: bool(early.answers[stream_id].body))
    crowd = [rig.listener.connect() for _ in range(200)]
    for stream in crowd[-20:]:
        await stream.send_all(said)
    await trio.testing.wait_all_tasks_blocked()

    assert (await rig.connect().call()).status is Status.OK
    assert (await early.call()).status is Status.OK
    assert not early.answers[stream_id].ended
    assert len(caplog.messages) == 1
    assert await count_closed(crowd) == 181


async def count_closed(crowd: list[trio.abc.Stream]) -> int:
    """How many the server has closed; data before that are discarded."""
    closed = 0

    async def read(stream: trio.abc.Stream) -> None:
        nonlocal closed
        while await stream.receive_some(2**16):
            pass
        closed += 1

    async with trio.open_nursery() as nursery:
        for stream in crowd:
            nursery.start_soon(read, stream)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return closed


async def test_handshakes_that_are_never_finished_keep_nobody_out(
    authority: Authority, start_tls: StartTls, mock_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    rig = await start_tls(authority.server())
    for _ in range(1000):
        await rig.listener.connect().send_all(b"\x16\x03\x01")
        await trio.testing.wait_all_tasks_blocked()

    assert (await connect(rig, authority.client()).call()).status is Status.OK
    assert [line for line in caplog.messages if not line.startswith(IDLE)] == []
    assert len(caplog.messages) == 1


async def test_those_that_time_out_are_one_line(
    start_server: StartServer, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    rig = await start_server()
    crowd = [rig.listener.connect() for _ in range(100)]
    await trio.sleep(6)
    assert await count_closed(crowd) == 100
    assert caplog.messages == ["unknown did not speak HTTP/2 within 5 s"]


async def test_greeted_connections_without_calls_keep_nobody_out(start_server: StartServer, mock_clock: object) -> None:
    rig = await start_server(limits=Limits(max_connections=50, max_waiting=20))
    early = rig.connect()
    stream_id = early.start("WatchState")
    await early.until(lambda: bool(early.answers[stream_id].body))
    crowd = []
    for _ in range(200):
        crowd.append(rig.connect())
        assert (await crowd[-1].call()).status is Status.OK
    assert (await rig.connect().call()).status is Status.OK
    assert (await early.call()).status is Status.OK
    assert await count_closed([client.stream for client in crowd]) == 152  # the oldest


async def test_of_all_that_are_idle_those_go_first_that_never_said_anything(
    start_server: StartServer, mock_clock: object
) -> None:
    rig = await start_server(limits=Limits(max_connections=5))
    quiet = rig.connect()
    assert (await quiet.call()).status is Status.OK
    crowd = [rig.listener.connect() for _ in range(20)]
    await trio.testing.wait_all_tasks_blocked()
    assert await count_closed(crowd) == 16
    assert (await quiet.call()).status is Status.OK


async def test_a_host_has_its_share_of_connections(start_server: StartServer, mock_clock: object) -> None:
    rig = await start_server(limits=Limits(max_per_host=3))
    busy = [rig.connect() for _ in range(3)]
    for client in busy:
        stream_id = client.start("WatchState")
        await client.until(lambda client=client, i=stream_id: bool(client.answers[i].body))  # type: ignore[misc]
    await rig.connect().until_closed()
    busy[0].h2.reset_stream(1)
    await busy[0].flush()
    await trio.testing.wait_all_tasks_blocked()
    assert (await rig.connect().call()).status is Status.OK
    await busy[0].until_closed()


async def test_two_in_turn_take_the_place_of_the_one_that_is_idle_longest(
    start_server: StartServer, mock_clock: object
) -> None:
    rig = await start_server(limits=Limits(max_connections=2))
    first, second = rig.connect(), rig.connect()
    for client in (first, second, first):
        assert (await client.call()).status is Status.OK
    assert (await rig.connect().call()).status is Status.OK
    await second.until_closed()
    assert (await first.call()).status is Status.OK
