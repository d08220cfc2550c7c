# SPDX-License-Identifier: Apache-2.0
"""Room for connections: who says nothing keeps nobody out, and all of that is one line a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing
from grpclib.const import Status

from kedastral.grpclib_trio import Limits
from kedastral.trio_connections import ConnectionLimiter, ConnectionSlot

from .conftest import StartServer
from .test_tls import Authority, StartTls, authority, connect, start_tls

__all__ = ["authority", "start_tls"]

LOGGER = "kedastral.grpclib_trio"
SILENT = "connections that wait for their client to speak are dropped for new ones, oldest first"


@attrs.define
class Crowd:
    """A room with who came, by number, and the numbers of those who were dropped, in order."""

    room: ConnectionLimiter
    guests: list[ConnectionSlot | None] = attrs.field(factory=list)
    dropped: list[int] = attrs.field(factory=list)

    def come(self, times: int = 1) -> list[ConnectionSlot]:
        come = [self.room.take("10.0.0.1", self._drop(len(self.guests) + number)) for number in range(times)]
        self.guests += come
        return [guest for guest in come if guest is not None]

    def _drop(self, number: int) -> Callable[[], None]:
        return lambda: self.dropped.append(number)


def make_crowd(most: int, most_waiting: int) -> Crowd:
    return Crowd(ConnectionLimiter(logging.getLogger(LOGGER), most, most_waiting))


async def test_the_one_that_has_waited_longest_makes_room() -> None:
    crowd = make_crowd(5, 3)
    guests = crowd.come(3)
    guests[0].hear()
    crowd.come(3)

    assert crowd.dropped == [1, 2]
    assert len(crowd.room.open) == 4


async def test_who_waits_again_is_the_last_to_go() -> None:
    crowd = make_crowd(3, 3)
    first, *_ = crowd.come(3)
    first.hear()
    first.wait()
    crowd.come(3)

    assert crowd.dropped == [1, 2, 0]


async def test_where_all_are_busy_the_newcomer_is_turned_away() -> None:
    crowd = make_crowd(2, 2)
    for guest in crowd.come(2):
        guest.hear()

    assert crowd.come() == []
    crowd.guests[0].leave()  # type: ignore[union-attr]
    assert len(crowd.come()) == 1
    assert crowd.dropped == []


async def test_who_has_left_is_neither_waited_for_nor_dropped() -> None:
    crowd = make_crowd(2, 2)
    for guest in crowd.come(2):
        guest.leave()
        guest.wait()

    crowd.come(2)
    assert crowd.dropped == []


async def test_it_is_one_line_a_minute_with_the_number(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    crowd = make_crowd(9, 2)
    crowd.come(100)
    assert caplog.messages == [f"{SILENT}: 2 wait, 2 are open; the newest is from 10.0.0.1"]
    mock_clock.jump(60)
    crowd.come(50)
    assert caplog.messages[1:] == [
        f"{SILENT}: 2 wait, 2 are open; the newest is from 10.0.0.1, 98 since the last such line"
    ]


# -- around the server --


@pytest.mark.parametrize("said", [b"", b"PRI * HTTP/2.0\r\n"], ids=["nothing", "half a preface"])
async def test_connections_without_a_preface_keep_nobody_out(
    start_server: StartServer, mock_clock: object, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    rig = await start_server(limits=Limits(max_connections=50, max_waiting=20))
    early = rig.connect()
    stream_id = early.start("StreamIsActive")
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
    """On how many the server has hung up; what it said before is read away."""
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
    assert [line for line in caplog.messages if not line.startswith(SILENT)] == []
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
