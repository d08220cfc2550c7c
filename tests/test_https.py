# SPDX-License-Identifier: Apache-2.0
"""HTTPS on real sockets: it answers like HTTP, and a client whose handshake fails is one line in the log."""

import logging
import socket
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
import trio.testing

from kedastral.serving.http_server import serve_http
from kedastral.serving.listening import open_listener
from kedastral.settings.types import ListenAddress
from kedastral.tls import RotatingContext, make_server_context
from tests.certificates import EXPIRED, Authority
from tests.test_http_server import HTTP2

PATIENCE = 30.0


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with how it was asked; ``/big`` gives a long answer."""
    body = b"x" * 2**22 if scope["path"] == "/big" else f"{scope['scheme']} {scope['http_version']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@attrs.define
class Site:
    """A running server, with TLS or without."""

    authority: Authority
    port: int
    may_close: trio.Event = attrs.field(factory=trio.Event)
    closed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> httpx.AsyncClient:
        context = ssl.create_default_context(cafile=self.authority.file)
        return httpx.AsyncClient(**{"verify": context, "trust_env": False, "timeout": PATIENCE, **options})

    async def run(
        self, listener: socket.socket, tls: ssl.SSLContext | None, *, task_status: trio.TaskStatus[None]
    ) -> None:
        await serve_http(app, listener, self.may_close, tls=tls, task_status=task_status)
        self.closed.set()


async def open_site(
    authority: Authority, nursery: trio.Nursery, *, tls: bool = True, **pair: Any
) -> AsyncIterator[Site]:
    listener = open_listener(ListenAddress("127.0.0.1", 0), "--http-listen")
    site = Site(authority, listener.getsockname()[1])
    make = partial(make_server_context, alpn=["http/1.1"])
    context = RotatingContext("HTTP", authority.issue("127.0.0.1", **pair), make) if tls else None
    await nursery.start(site.run, listener, context)
    yield site
    site.may_close.set()
    with trio.fail_after(PATIENCE):
        await site.closed.wait()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def site(authority: Authority, nursery: trio.Nursery) -> AsyncIterator[Site]:
    async for made in open_site(authority, nursery):
        yield made


@pytest.fixture
async def plain_site(authority: Authority, nursery: trio.Nursery) -> AsyncIterator[Site]:
    async for made in open_site(authority, nursery, tls=False):
        yield made


@pytest.fixture
async def expired_site(authority: Authority, nursery: trio.Nursery) -> AsyncIterator[Site]:
    async for made in open_site(authority, nursery, not_after=EXPIRED):
        yield made


async def test_it_answers_over_tls_and_keeps_the_connection(site: Site) -> None:
    async with site.client() as client:
        for _ in range(3):
            assert (await client.get(site.url)).text == "https 1.1"
        assert len((await client.get(f"{site.url}/big")).content) == 2**22


async def test_two_protocols_are_agreed_on_as_one(site: Site) -> None:
    context = ssl.create_default_context(cafile=site.authority.file)
    context.set_alpn_protocols(["h2", "http/1.1"])
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", site.port, ssl_context=context, https_compatible=True)
    await stream.do_handshake()
    assert stream.selected_alpn_protocol() == "http/1.1"
    await stream.aclose()


async def test_http2_is_neither_agreed_on_nor_spoken(site: Site) -> None:
    context = ssl.create_default_context(cafile=site.authority.file)
    context.set_alpn_protocols(["h2"])
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", site.port, ssl_context=context, https_compatible=True)
    async with stream:
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() is None
        await stream.send_all(HTTP2)
        with trio.fail_after(PATIENCE):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 505 ")


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_stay(
    authority: Authority, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.rate = 1.0
    async for site in open_site(authority, nursery):
        async with site.client() as client:
            assert (await client.get(site.url)).status_code == 200
            authority.issue("localhost")  # for another name, so that a new connection would fail
            mock_clock.jump(2.0)
            assert (await client.get(site.url)).status_code == 200
            async with site.client() as another:
                with pytest.raises(httpx.ConnectError):
                    await another.get(site.url)


async def wait_for_lines(caplog: pytest.LogCaptureFixture, number: int) -> list[str]:
    with trio.fail_after(PATIENCE):
        while len(lines := warnings_in(caplog)) < number:  # noqa: ASYNC110 - a log has no event
            await trio.sleep(0.01)
    return lines


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_who_does_not_trust_us_is_one_line(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stranger = ssl.create_default_context(cafile=Authority(tmp_path / "other").file)
    for _ in range(3):
        with pytest.raises(ssl.SSLCertVerificationError):
            await trio.to_thread.run_sync(shake_hands_like_openssl, site.port, stranger)
    async with site.client() as client:
        assert (await client.get(site.url)).status_code == 200
    [line] = await wait_for_lines(caplog, 1)
    assert line.startswith("TLS handshake with 127.0.0.1:")
    assert line.endswith("failed: the client refuses: unknown ca")


def shake_hands_like_openssl(port: int, context: ssl.SSLContext, name: str = "127.0.0.1") -> None:
    """Acts as a client that sends an alert as it leaves; Trio's does not."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=name),
    ):
        pass


async def test_an_expired_certificate_of_ours_is_one_line_on_either_side(
    expired_site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    trusting = ssl.create_default_context(cafile=expired_site.authority.file)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        await trio.to_thread.run_sync(shake_hands_like_openssl, expired_site.port, trusting)
    [line] = await wait_for_lines(caplog, 1)
    assert line.endswith("failed: the client refuses: certificate expired")


async def test_plain_http_to_a_tls_port_is_one_line(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            await stream.receive_some()
    [line] = await wait_for_lines(caplog, 1)
    assert line.endswith("failed: the client speaks HTTP without TLS")


async def test_tls_to_a_plain_port_is_one_line(plain_site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with plain_site.client() as client:
        for _ in range(3):
            with pytest.raises(httpx.ConnectError):
                await client.get(plain_site.url)
        assert (await client.get(plain_site.url.replace("https", "http"))).text == "http 1.1"
    [line] = await wait_for_lines(caplog, 1)
    assert line.endswith("failed: the client speaks TLS, but this port does not")


@pytest.mark.parametrize("reset", [False, True])
async def test_a_probe_that_only_connects_is_no_line(site: Site, reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()
    async with site.client() as client:
        assert (await client.get(site.url)).status_code == 200
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]


async def test_the_end_does_not_wait_for_a_handshake_that_never_comes(site: Site) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", site.port)
    await stream.send_all(b"\x16\x03")
    await trio.testing.wait_all_tasks_blocked()
    site.may_close.set()
    with trio.fail_after(PATIENCE):
        await site.closed.wait()
    stream.socket.close()


async def test_a_thousand_handshakes_that_are_never_finished_lock_nobody_out(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    crowd = []
    for number in range(1000):
        stream = await trio.open_tcp_stream("127.0.0.1", site.port)
        if number % 2:
            await stream.send_all(b"\x16\x03\x01")
        crowd.append(stream)
    async with site.client() as client:
        assert (await client.get(site.url)).text == "https 1.1"
    words = "idle connections are dropped for new ones"
    assert len([line for line in caplog.messages if line.startswith(words)]) == 1
    assert len(caplog.messages) <= 2  # the other is of handshakes that took too long
    for stream in crowd:
        stream.socket.close()
