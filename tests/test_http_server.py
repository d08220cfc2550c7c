# SPDX-License-Identifier: Apache-2.0
"""The HTTP server on real sockets: hostile bytes cost one connection, and the server stops whatever clients do."""

import errno
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypercorn.trio.tcp_server import TCPServer

from kedastral import trio_connections
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.serving.http_server import HTTP_GRACE, HttpLimits, serve_http
from kedastral.serving.listening import open_listener
from kedastral.serving.metrics import Metrics
from kedastral.serving.readiness import Readiness
from kedastral.serving.snapshot_api import SnapshotView, create_app
from kedastral.serving.store import MemoryStore
from kedastral.settings.types import ListenAddress
from tests.parts import wall_clock

GOOD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEAD = b" HTTP/1.1\r\nHost: x\r\n"
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""The preface of a client with prior knowledge that the server speaks HTTP/2 (RFC 9113, 3.4)."""
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"

SLOWED = 0.1
"""A clock rate at which `HTTP_GRACE` is long enough for immediate work even on a busy machine."""
BIG = b"x" * 2**26
DEFAULTS = HttpLimits()

HOSTILE = {
    "no request": b"GARBAGE\r\n\r\n",
    "binary": b"\x00\xff\xfe\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "bad host": b"GET /healthz HTTP/1.1\r\nHost: [::1\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/9.9": b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
    "raw bytes in the path": b"GET /\xff" + HEAD + b"\r\n",
    "raw bytes in headers": b"GET /healthz" + HEAD + b"X-Request-Id: \xff\r\nCookie: \xff\r\n\r\n",
    "path too long": b"GET /" + b"a" * 70_000 + HEAD + b"\r\n",
    "headers too long": b"GET /healthz" + HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "bad chunk": b"POST /healthz" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    "bad chunk after a good one": b"POST /healthz" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nZZ\r\n",
    "two lengths": b"POST /healthz" + HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "endless body": b"POST /healthz" + HEAD + b"Content-Length: 99999999999\r\n\r\nxx",
    "half a request": b"GET /healthz HT",
    "websocket": b"GET /healthz" + HEAD + UPGRADE + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    "websocket without a key": b"GET /healthz" + HEAD + UPGRADE + b"\r\n",
    "CONNECT": b"CONNECT x:1" + HEAD + b"\r\n",
    "OPTIONS *": b"OPTIONS *" + HEAD + b"\r\n",
    "h2c upgrade": b"GET /healthz" + HEAD + b"Upgrade: h2c\r\nHTTP2-Settings: !!!\r\nConnection: Upgrade\r\n\r\n",
    "HTTP/2 nonsense": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
    "a second request in pieces": b"GET /healthz" + HEAD + b"\r\nGARBAGE\r\n\r\n",
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, ``/big`` with 64 MiB, ``/none`` not at all, and ``/slow`` as soon as the test allows."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/slow":
        scope["app_state"].asked.set()
        await scope["app_state"].allowed.wait()
    if scope["path"] == "/none":
        return
    body = BIG if scope["path"] == "/big" else b"fine\n"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@attrs.define
class Site:
    """A running server."""

    port: int
    limits: HttpLimits = DEFAULTS
    probes: set[str] = attrs.field(factory=lambda: {"/healthz"})
    may_close: trio.Event = attrs.field(factory=trio.Event)
    closed: trio.Event = attrs.field(factory=trio.Event)
    asked: trio.Event = attrs.field(factory=trio.Event)
    allowed: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    clients: list[trio.SocketStream] = attrs.field(factory=list)

    async def run(self, listener: Any, task_status: Any) -> None:
        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "app_state": self}, receive, send)

        with self.scope:
            async with trio.open_nursery() as nursery:
                serve = partial(serve_http, limits=self.limits, probes=self.probes)
                await nursery.start(serve, with_state, listener, self.may_close)
                task_status.started()
        self.closed.set()

    async def say(self, request: bytes, host: str = "127.0.0.1") -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=host)
        self.clients.append(stream)
        await stream.send_all(request)
        return stream


async def read_all(stream: trio.SocketStream) -> bytes:
    answer = b""
    with trio.fail_after(30):
        try:
            while chunk := await stream.receive_some():
                answer += chunk
        except trio.BrokenResourceError:
            pass
    return answer


@asynccontextmanager
async def open_site(nursery: trio.Nursery, limits: HttpLimits = DEFAULTS, **more: Any) -> AsyncIterator[Site]:
    listener = open_listener(ListenAddress("127.0.0.1", 0), "--http-listen")
    made = Site(listener.getsockname()[1], limits, **more)
    await nursery.start(made.run, listener)
    yield made
    for client in made.clients:
        client.socket.close()
    made.scope.cancel()
    await made.closed.wait()


@pytest.fixture
async def site(nursery: trio.Nursery) -> AsyncIterator[Site]:
    async with open_site(nursery) as made:
        yield made


@pytest.mark.parametrize("request_bytes", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_bytes_cost_at_most_their_connection(site: Site, request_bytes: bytes) -> None:
    hostile = await site.say(request_bytes)
    with trio.move_on_after(0.1):  # give it time to do harm; its output does not matter here
        await read_all(hostile)
    with trio.fail_after(30):
        assert (await read_all(await site.say(GOOD))).endswith(b"\r\n\r\nfine\n")
    assert not site.closed.is_set()


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [("no request", 400, "bad request"), ("no host", 400, "bad request"), ("headers too long", 431, "request header")],
)
async def test_what_is_no_http_is_answered_in_the_shape_of_all_errors(
    site: Site, kind: str, status: int, words: str
) -> None:
    head, _, body = (await read_all(await site.say(HOSTILE[kind]))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert b"content-type: application/json" in head
    assert json.loads(body)["error"].startswith(words)


SETTINGS = b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: Upgrade, HTTP2-Settings\r\n"


async def test_http2_is_not_spoken(site: Site) -> None:
    assert (await read_all(await site.say(HTTP2))).startswith(b"HTTP/1.1 505 ")
    upgrade = b"GET /healthz" + HEAD + b"Upgrade: h2c\r\n" + SETTINGS.replace(b"Upgrade,", b"close, Upgrade,") + b"\r\n"
    answer = await read_all(await site.say(upgrade))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nfine\n")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /healthz" + HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /healthz HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["beside a length", "HTTP/1.0"],
)
async def test_a_body_whose_end_two_servers_may_see_apart_is_refused_and_nothing_after_it_is_read(
    site: Site, request_bytes: bytes
) -> None:
    answer = await read_all(await site.say(request_bytes + GOOD))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(HOSTILE["websocket without a key"], 400), (HOSTILE["websocket"], 403), (GOOD.replace(b"healthz", b"none"), 500)],
)
async def test_what_hypercorn_answers_by_itself_has_the_shape_of_all_errors(
    site: Site, request_bytes: bytes, status: int
) -> None:
    head, _, body = (await read_all(await site.say(request_bytes))).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert b"content-type: application/json" in head
    assert list(json.loads(body)) == ["error"]
    head, _, body = (await read_all(await site.say(GOOD.replace(b"GET /healthz", b"HEAD /none")))).partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 500")
    assert body == b""


async def test_a_connection_that_raises_is_logged_and_the_others_go_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_self: TCPServer) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BusyResourceError("another task is currently sending")

    with monkeypatch.context() as broken:
        broken.setattr(TCPServer, "run", fail)
        assert await read_all(await site.say(GOOD)) == b""
    assert (await read_all(await site.say(GOOD))).endswith(b"fine\n")
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info is not None
    assert "currently sending" in caplog.text


async def test_head_has_no_body(site: Site) -> None:
    head, _, body = (await read_all(await site.say(GOOD.replace(b"GET", b"HEAD")))).partition(b"\r\n\r\n")
    assert b"content-length: 5" in head
    assert body == b""


async def test_a_request_in_flight_is_answered_and_new_connections_are_refused(site: Site) -> None:
    slow = await site.say(GOOD.replace(b"healthz", b"slow"))
    await site.asked.wait()
    site.may_close.set()
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(OSError, match="failed"):
        await trio.open_tcp_stream("127.0.0.1", site.port)
    site.allowed.set()
    assert (await read_all(slow)).endswith(b"fine\n")
    with trio.fail_after(30):
        await site.closed.wait()


async def test_idle_connections_are_closed_at_once(site: Site, mock_clock: trio.testing.MockClock) -> None:
    mock_clock.rate = SLOWED
    idle = await site.say(GOOD.replace(b"Connection: close\r\n", b""))
    assert (await idle.receive_some()).startswith(b"HTTP/1.1 200")
    site.may_close.set()
    began = trio.current_time()
    await read_all(idle)
    with trio.fail_after(30):
        await site.closed.wait()
    assert trio.current_time() - began < HTTP_GRACE


@pytest.mark.parametrize("end", [lambda site: site.may_close.set(), lambda site: site.scope.cancel()])
@pytest.mark.parametrize("request_bytes", [b"/big", b"/slow"])
async def test_a_client_that_does_not_read_or_an_answer_that_never_comes_cannot_delay_the_end(
    site: Site, request_bytes: bytes, end: Callable[[Site], None]
) -> None:
    stuck = await site.say(GOOD.replace(b"/healthz", request_bytes))
    if request_bytes == b"/slow":
        await site.asked.wait()
    else:
        assert await stuck.receive_some(10)
    end(site)
    began = trio.current_time()
    with trio.fail_after(30):
        await site.closed.wait()
    assert trio.current_time() - began < HTTP_GRACE + 5  # and the server gives up a write after 10 s


# --- with the application itself: Quart-Trio ends its own task with each request ---

KEEPING = GOOD.replace(b"Connection: close\r\n", b"")


@attrs.define
class RealSite:
    """A server of the real application, controlled only through sockets and ``may_close``."""

    listener: Any
    limits: HttpLimits
    may_close: trio.Event = attrs.field(factory=trio.Event)
    closed: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, task_status: Any) -> None:
        view = SnapshotView(MemoryStore(), lambda _: StalePolicy(), wall_clock())
        application: Any = create_app(view, Readiness.of(()), Metrics().registry)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_http, application, self.listener, self.may_close, limits=self.limits))
            task_status.started()
        self.closed.set()

    async def say(self, request: bytes) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.listener.getsockname()[1])
        await stream.send_all(request)
        return stream


async def start_real(nursery: trio.Nursery, **limits: Any) -> RealSite:
    made = RealSite(open_listener(ListenAddress("127.0.0.1", 0), "--http-listen"), HttpLimits(**limits))
    await nursery.start(made.run)
    return made


@pytest.mark.parametrize(
    "request_bytes",
    [GOOD, GOOD.replace(b"GET", b"HEAD"), b"GET /healthz HTTP/1.0\r\n\r\n", GOOD.replace(b"healthz", b"nope")],
)
async def test_the_connection_closes_when_the_request_asked_for_that(
    nursery: trio.Nursery, request_bytes: bytes
) -> None:
    site = await start_real(nursery, keep_alive=3600)
    async with await site.say(request_bytes) as client:
        assert (await read_all(client)).startswith(b"HTTP/1.1 ")
    site.may_close.set()


async def test_a_connection_serves_many_requests_and_closes_once_it_was_idle_for_long(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 1.0
    site = await start_real(nursery, keep_alive=60)
    async with await site.say(KEEPING * 20) as client:
        answers = b""
        while answers.count(b"HTTP/1.1 200") < 20:
            answer = await client.receive_some()
            assert answer, "closed while it was served"
            answers += answer
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(60)
        assert b"HTTP/1.1 200" not in await read_all(client)
    site.may_close.set()


async def test_clients_that_keep_their_connections_do_not_delay_the_end(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = SLOWED
    site = await start_real(nursery, keep_alive=3600)
    clients = [await site.say(KEEPING) for _ in range(20)]
    for client in clients:
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200")
    began = trio.current_time()
    site.may_close.set()
    with trio.fail_after(30):
        await site.closed.wait()
    assert trio.current_time() - began < HTTP_GRACE
    for client in clients:
        await client.aclose()


async def occupy(site: Site, times: int) -> None:
    """Send ``times`` requests that are not answered until ``site.allowed`` is set."""
    for _ in range(times):
        await site.say(b"GET /slow" + HEAD + b"\r\n")
        with trio.fail_after(30):
            await site.asked.wait()
        site.asked = trio.Event()


async def test_too_many_busy_connections_are_refused_with_one_line_and_room_comes_back(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_site(nursery, HttpLimits(max_connections=4), probes={"/slow"}) as site:
        await occupy(site, 4)  # half of all, and the two that are reserved for probes
        for _ in range(5):
            assert await read_all(await site.say(b"")) == b""
        words = "new connections are refused: 4 are open; the newest is from 127.0.0.1"
        assert [record.getMessage() for record in caplog.records] == [words]
        site.allowed.set()
        answer = b""
        with trio.fail_after(30):
            while not answer.startswith(b"HTTP/1.1 200"):  # until the earlier ones have been answered
                answer = await read_all(await site.say(GOOD))


async def test_while_all_are_busy_probes_are_answered_and_nothing_else(nursery: trio.Nursery) -> None:
    async with open_site(nursery, HttpLimits(max_connections=64)) as site:
        await occupy(site, 32)  # half of all may come from one host
        answer = await read_all(await site.say(b"GET /none" + HEAD + b"\r\n"))
        assert answer.startswith(b"HTTP/1.1 503")
        for _ in range(20):
            answer = await read_all(await site.say(KEEPING))  # which ends, as the server closes
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
        assert (await read_all(await site.say(GOOD, host="127.0.0.2"))).startswith(b"HTTP/1.1 200")


async def test_an_answer_that_is_not_read_in_time_is_given_up(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.http")
    async with open_site(nursery, HttpLimits(write=0.1)) as site:
        lazy = await site.say(b"GET /big" + HEAD + b"\r\n")
        with trio.fail_after(30):
            while not caplog.messages:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert re.fullmatch(r"127\.0\.0\.1:\d+ did not read an answer within 0\.1 s", caplog.messages[0])
        assert len(await read_all(lazy)) < len(BIG)


@pytest.mark.parametrize("attacker", ["127.0.0.1", "127.0.0.2"], ids=["same host", "another host"])
async def test_clients_that_read_no_answer_and_come_again_keep_no_probe_out(
    nursery: trio.Nursery, attacker: str
) -> None:
    async with open_site(nursery, HttpLimits(max_connections=32)) as site:

        async def attack() -> None:
            while True:
                stream = await site.say(b"GET /big" + HEAD + b"\r\n", host=attacker)
                await wait_until_closed(stream)

        async with trio.open_nursery() as crowd:
            for _ in range(100):
                crowd.start_soon(attack)
            with trio.fail_after(60):
                for _ in range(20):
                    assert (await read_all(await site.say(GOOD))).startswith(b"HTTP/1.1 200")
            crowd.cancel_scope.cancel()


async def wait_until_closed(stream: trio.SocketStream) -> None:
    """Wait until the server has closed a connection from which nothing is read."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await stream.send_all(b"\r\n")
            await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.mark.parametrize("idle", [b"", b"GET /healthz HTT", KEEPING], ids=["silent", "half a request", "answered"])
async def test_connections_without_a_request_keep_nobody_out(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture, idle: bytes
) -> None:
    site = await start_real(nursery, keep_alive=3600, max_connections=40)
    crowd = []
    for _ in range(100):
        crowd.append(await site.say(idle))
        if idle == KEEPING:
            assert (await crowd[-1].receive_some()).startswith(b"HTTP/1.1 200")
    async with await site.say(GOOD) as client:
        assert (await read_all(client)).startswith(b"HTTP/1.1 200")
    [line] = [record.getMessage() for record in caplog.records]
    assert re.match(r"idle connections are dropped for new ones, the longest idle first: (19|20) are idle, 20 ", line)
    for stream in crowd[:80]:
        await read_all(stream)  # until the server hangs up
    for stream in crowd:
        await stream.aclose()
    site.may_close.set()


async def test_a_machine_out_of_files_is_one_line_and_another_when_it_has_recovered(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.http")
    monkeypatch.setattr(trio_connections, "ACCEPT_PAUSE", 0.001)
    good, refusals = trio.SocketListener.accept, iter([OSError(errno.EMFILE, "")] * 5)

    async def accept(self: trio.SocketListener) -> trio.SocketStream:
        for error in refusals:
            raise error
        return await good(self)

    monkeypatch.setattr(trio.SocketListener, "accept", accept)
    site = await start_real(nursery, keep_alive=3600)
    async with await site.say(GOOD) as client:
        assert (await read_all(client)).startswith(b"HTTP/1.1 200")
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == [
        "no connection can be accepted: Too many open files",
        "connections are accepted again",
    ]
    site.may_close.set()
