# SPDX-License-Identifier: Apache-2.0
"""The HTTP server on real sockets: hostile bytes cost one connection, and the end comes whatever clients do."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypercorn.trio.tcp_server import TCPServer

from kedastral.config.units import ListenAddress
from kedastral.http_server import HTTP_GRACE, serve_http
from kedastral.listening import open_listener

GOOD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HEAD = b" HTTP/1.1\r\nHost: x\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"

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
    """Answers at once, ``/big`` with 64 MiB, and ``/slow`` as soon as the test allows."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/slow":
        scope["app_state"].asked.set()
        await scope["app_state"].allowed.wait()
    body = b"x" * 2**26 if scope["path"] == "/big" else b"fine\n"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@attrs.define
class Site:
    """A server that runs."""

    port: int
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
                await nursery.start(serve_http, with_state, listener, self.may_close)
                task_status.started()
        self.closed.set()

    async def say(self, request: bytes) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
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


@pytest.fixture
async def site(nursery: trio.Nursery) -> AsyncIterator[Site]:
    listener = open_listener(ListenAddress("127.0.0.1", 0), "--http-listen")
    made = Site(listener.getsockname()[1])
    await nursery.start(made.run, listener)
    yield made
    for client in made.clients:
        client.socket.close()
    made.scope.cancel()
    await made.closed.wait()


@pytest.mark.parametrize("request_bytes", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_bytes_cost_at_most_their_connection(site: Site, request_bytes: bytes) -> None:
    hostile = await site.say(request_bytes)
    with trio.move_on_after(0.1):  # give it time to do harm; what it says does not matter here
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


async def test_idle_connections_are_closed_at_once(site: Site) -> None:
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
    assert trio.current_time() - began < HTTP_GRACE + 2
