# SPDX-License-Identifier: Apache-2.0
"""Connections of a server: slots for the active ones, one log line a minute about the refused."""

from __future__ import annotations

import ast
import errno
import logging
import ssl
import sys
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from kedastral import trio_connections
from kedastral.trio_connections import Acceptor, ConnectionLimiter, ConnectionSlot, FailureLog, Peer

LOGGER = "kedastral.trio_connections"
IDLE = "idle connections are dropped for new ones, the longest idle first"


@attrs.define
class Crowd:
    """A limiter, the slots it has given by number, and the numbers of the dropped ones, in order."""

    limiter: ConnectionLimiter
    slots: list[ConnectionSlot | None] = attrs.field(factory=list)
    dropped: list[int] = attrs.field(factory=list)

    def come(self, times: int = 1) -> list[ConnectionSlot]:
        for _ in range(times):
            self.slots.append(self.limiter.admit("10.0.0.1"))
            self.dropped += [
                number
                for number, slot in enumerate(self.slots)
                if slot is not None and slot.scope.cancel_called and number not in self.dropped
            ]
        return [slot for slot in self.slots[-times:] if slot is not None]


def make_crowd(max_open: int, max_idle: int) -> Crowd:
    return Crowd(ConnectionLimiter(logging.getLogger(LOGGER), max_open, max_idle))


async def test_a_new_connection_takes_the_slot_of_the_one_idle_longest() -> None:
    crowd = make_crowd(5, 3)
    slots = crowd.come(3)
    slots[0].mark_busy()
    crowd.come(3)

    assert crowd.dropped == [1, 2]
    assert len(crowd.limiter.open) == 4


async def test_a_connection_that_is_idle_again_is_the_last_to_go() -> None:
    crowd = make_crowd(3, 3)
    first, *_ = crowd.come(3)
    first.mark_busy()
    first.mark_idle()
    crowd.come(3)

    assert crowd.dropped == [1, 2, 0]


async def test_where_all_are_busy_a_new_connection_is_refused() -> None:
    crowd = make_crowd(2, 2)
    slots = crowd.come(2)
    for slot in slots:
        slot.mark_busy()

    assert crowd.come() == []
    slots[0].release()
    assert len(crowd.come()) == 1
    assert crowd.dropped == []


async def test_a_released_slot_is_neither_idle_nor_dropped() -> None:
    crowd = make_crowd(2, 2)
    for slot in crowd.come(2):
        slot.release()
        slot.mark_idle()

    crowd.come(2)
    assert crowd.dropped == []


async def test_a_host_with_its_share_makes_room_among_its_own() -> None:
    limiter = ConnectionLimiter(logging.getLogger(LOGGER), 10, 10, max_per_host=2)
    other = limiter.admit("10.0.0.9")
    first, second = limiter.admit("10.0.0.1"), limiter.admit("10.0.0.1")
    assert first is not None
    assert second is not None
    assert limiter.admit("10.0.0.1") is not None
    assert first not in limiter.open
    assert {other, second} < limiter.open


async def test_a_host_whose_share_is_busy_is_refused() -> None:
    limiter = ConnectionLimiter(logging.getLogger(LOGGER), 10, 10, max_per_host=1)
    busy = limiter.admit("10.0.0.1")
    assert busy is not None
    busy.mark_busy()
    assert limiter.admit("10.0.0.1") is None
    assert limiter.admit("10.0.0.2") is not None
    busy.release()
    assert limiter.admit("10.0.0.1") is not None


async def test_the_host_with_most_connections_gives_way() -> None:
    limiter = ConnectionLimiter(logging.getLogger(LOGGER), 4, 4)
    lonely = limiter.admit("10.0.0.9")
    first, *others = [limiter.admit("10.0.0.1") for _ in range(3)]
    new = limiter.admit("10.0.0.2")
    assert limiter.open == {lonely, *others, new}
    assert first is not None
    assert first.scope.cancel_called


async def test_what_is_dropped_is_told_so() -> None:
    told = []
    limiter = ConnectionLimiter(logging.getLogger(LOGGER), 1, 1)
    slot = limiter.admit("10.0.0.1")
    assert slot is not None
    slot.on_dropped = lambda: told.append("dropped")
    limiter.admit("10.0.0.1")
    slot.release()
    assert told == ["dropped"]
    assert limiter.hosts == {"10.0.0.1": 1}


async def test_the_reserve_is_given_where_all_are_busy_and_its_idle_ones_give_way() -> None:
    limiter = ConnectionLimiter(logging.getLogger(LOGGER), 1, 1, reserve=1)
    busy = limiter.admit("10.0.0.1")
    assert busy is not None
    assert not busy.is_reserved
    busy.mark_busy()
    reserved = [limiter.admit("10.0.0.1") for _ in range(5)]
    assert [slot is not None and slot.is_reserved for slot in reserved] == [True] * 5
    assert limiter.open == {busy, reserved[-1]}
    assert reserved[-1] is not None
    reserved[-1].mark_busy()
    assert limiter.admit("10.0.0.1") is None


async def test_it_is_one_line_a_minute_with_the_number(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    crowd = make_crowd(9, 2)
    crowd.come(100)
    assert caplog.messages == [f"{IDLE}: 2 are idle, 2 are open; the newest is from 10.0.0.1"]
    mock_clock.jump(60)
    crowd.come(50)
    assert caplog.messages[1:] == [
        f"{IDLE}: 2 are idle, 2 are open; the newest is from 10.0.0.1, 98 since the last such line"
    ]


class BrokenListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener whose accept raises one error after another."""

    def __init__(self, *codes: int) -> None:
        self._codes = list(codes)

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self._codes:
            raise OSError(self._codes.pop(0), "no")
        return trio.testing.memory_stream_pair()[1]

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_system_short_of_resources_is_one_line_in_the_log_that_the_server_gave(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log = logging.getLogger("a.server")
    caplog.set_level(logging.INFO, log.name)
    listener = BrokenListener(errno.EMFILE, errno.ENFILE, errno.ENOBUFS)
    with trio.CancelScope() as scope:
        await Acceptor(listener, lambda _: scope.cancel(), log).run()
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        (log.name, "no connection can be accepted: Too many open files"),
        (log.name, "connections are accepted again"),
    ]
    assert trio.current_time() == pytest.approx(3 * trio_connections.ACCEPT_PAUSE)


async def test_another_error_of_accept_is_raised() -> None:
    with pytest.raises(OSError, match="no"):
        await Acceptor(BrokenListener(errno.EBADF), lambda _: None, logging.getLogger(LOGGER)).run()


class StubPeer(Peer):
    """A peer with an address."""

    def __init__(self, host: str, port: int = 1) -> None:
        self._tls, self._address = None, (host, port)


async def test_the_same_failure_of_the_same_host_is_one_line_a_minute(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    failures = FailureLog(logging.getLogger(LOGGER))
    for port in range(100):
        failures.report(StubPeer("10.0.0.1", port), "it does")
    failures.report(StubPeer("10.0.0.1"), "it does not")
    failures.report(StubPeer("10.0.0.2"), "it does")
    assert caplog.messages == [
        "TLS handshake with 10.0.0.1:0 failed: it does",
        "TLS handshake with 10.0.0.1:1 failed: it does not",
        "TLS handshake with 10.0.0.2:1 failed: it does",
    ]
    mock_clock.jump(60)
    failures.report(StubPeer("10.0.0.1"), "it does")
    assert caplog.messages[3:] == [
        "99 more TLS handshakes failed in the same minute",
        "TLS handshake with 10.0.0.1:1 failed: it does",
    ]


async def test_a_scan_from_everywhere_does_not_fill_the_log(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    failures = FailureLog(logging.getLogger(LOGGER))
    for host in range(10_000):
        failures.report(StubPeer(f"10.0.{host // 256}.{host % 256}"), "it does")
    assert len(caplog.records) == 20


def test_trio_keeps_what_tls_has_still_to_send_in_outgoing() -> None:
    stream = trio.SSLStream(trio.testing.memory_stream_pair()[0], ssl.create_default_context(), server_hostname="test")
    assert isinstance(stream._outgoing, ssl.MemoryBIO)


def test_it_imports_trio_and_the_standard_library_only() -> None:
    found = set()
    for node in ast.walk(ast.parse(Path(trio_connections.__file__).read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found |= {name.split(".")[0] for name in names}
    assert found - sys.stdlib_module_names == {"trio"}
