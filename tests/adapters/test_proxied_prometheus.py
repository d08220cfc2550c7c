# SPDX-License-Identifier: Apache-2.0
"""A Prometheus behind TLS that is reached through a proxy, on real sockets: the tunnel is TLS from end to end."""

import gc
import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.series import align_down
from kedastral.errors import SourceError
from kedastral.serving.http_server import serve_http
from kedastral.serving.listening import open_listener
from kedastral.settings.declarations import PrometheusLogin
from kedastral.settings.types import ListenAddress
from kedastral.tls import RotatingContext, make_server_context
from tests.certificates import Authority

NOW = align_down(datetime.now(UTC), 60.0)
"""The server dates its answers by the real clock."""
HOST = "prometheus.test"
"""No resolver knows it: only the proxy does."""
QUERY = RangeQuery("up", 300.0, 60.0, 120.0)
PATIENCE = 30.0
SOCKS_PASSWORD, SOCKS_CONNECT, SOCKS_NAME = 2, 1, 3
"""A method, a command and a kind of address in RFC 1928."""


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module may be imported long before its tests run."""
    monkeypatch.setitem(globals(), "NOW", align_down(datetime.now(UTC), 60.0))


async def app(scope: Any, _receive: Any, send: Any) -> None:
    """One series whose values are all 7, and the path it was asked at."""
    assert scope["path"] == "/api/v1/query_range"
    values = [[NOW.timestamp() - 60 * n, "7"] for n in reversed(range(5))]
    data = {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}
    body = json.dumps({"status": "success", "data": data}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@attrs.define
class ConnectProxy:
    """A proxy that opens every tunnel to one port of this machine, or answers with ``refusal``."""

    target: int
    refusal: bytes = b""
    asked: list[bytes] = attrs.field(factory=list)
    tunnelled: bytearray = attrs.field(factory=bytearray)

    async def serve(self, client: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await client.receive_some()
        self.asked.append(head)
        if self.refusal:
            await client.send_all(self.refusal)
            return
        await self._tunnel(client, b"HTTP/1.1 200 OK\r\n\r\n")

    async def serve_socks(self, client: trio.SocketStream) -> None:
        """The same in SOCKS 5 with a user and a password (RFC 1928, RFC 1929), for an address given as a name."""
        methods = await read_exactly(client, (await read_exactly(client, 2))[1])
        assert SOCKS_PASSWORD in methods
        await client.send_all(bytes([5, SOCKS_PASSWORD]))
        user = await read_exactly(client, (await read_exactly(client, 2))[1])
        password = await read_exactly(client, (await read_exactly(client, 1))[0])
        self.asked.append(user + b":" + password)
        if self.refusal:
            await client.send_all(self.refusal)
            return
        await client.send_all(b"\x01\x00")
        *head, length = await read_exactly(client, 5)
        assert head == [5, SOCKS_CONNECT, 0, SOCKS_NAME]
        name, port = await read_exactly(client, length), int.from_bytes(await read_exactly(client, 2), "big")
        self.asked.append(b"%s:%d" % (name, port))
        await self._tunnel(client, bytes([5, 0, 0, 1, 127, 0, 0, 1, 0, 0]))

    async def _tunnel(self, client: trio.SocketStream, granted: bytes) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self.target) as server, trio.open_nursery() as nursery:
            await client.send_all(granted)
            nursery.start_soon(self._copy, client, server, nursery.cancel_scope)
            nursery.start_soon(self._copy, server, client, nursery.cancel_scope)

    async def _copy(self, read: trio.SocketStream, write: trio.SocketStream, whole: trio.CancelScope) -> None:
        async for part in read:
            self.tunnelled += part
            await write.send_all(part)
        whole.cancel()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def proxy(authority: Authority, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> ConnectProxy:
    """A proxy in front of a Prometheus, which the environment names."""
    listener = open_listener(ListenAddress("127.0.0.1", 0), "--http-listen")
    context = RotatingContext("HTTP", authority.issue(HOST), partial(make_server_context, alpn=["http/1.1"]))
    await nursery.start(partial(serve_http, app, listener, trio.Event(), tls=context))
    made = ConnectProxy(listener.getsockname()[1])
    [tunnels] = await nursery.start(partial(trio.serve_tcp, made.serve, 0, host="127.0.0.1"))
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    port = tunnels.socket.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://joe:hush-of-the-proxy@127.0.0.1:{port}")
    return made


async def read_exactly(client: trio.SocketStream, count: int) -> bytes:
    """The next ``count`` bytes."""
    got = b""
    while len(got) < count:
        part = await client.receive_some(count - len(got))
        assert part, "the client hung up"
        got += part
    return got


@pytest.fixture
async def socks(proxy: ConnectProxy, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> ConnectProxy:
    """The same proxy, spoken to in SOCKS, which is named for every address."""
    [tunnels] = await nursery.start(partial(trio.serve_tcp, proxy.serve_socks, 0, host="127.0.0.1"))
    monkeypatch.delenv("HTTPS_PROXY")
    port = tunnels.socket.getsockname()[1]
    monkeypatch.setenv("ALL_PROXY", f"socks5h://joe:hush-of-the-proxy@127.0.0.1:{port}")
    return proxy


async def read(authority: Authority) -> list[float]:
    login = PrometheusLogin(ca_file=authority.file)
    async with open_prometheus_client(f"https://{HOST}:9090", login) as client:
        with trio.fail_after(PATIENCE):
            history = await PrometheusSource(client, QUERY).history(NOW)
    return history.values.tolist()


async def failure_of(authority: Authority) -> tuple[str, str]:
    """The reason and message of the SourceError, without the error, which would keep its traceback alive."""
    try:
        await read(authority)
    except SourceError as error:
        return error.reason, str(error)
    raise AssertionError("it was read")


async def test_a_prometheus_behind_tls_is_asked_through_a_tunnel(proxy: ConnectProxy, authority: Authority) -> None:
    assert await read(authority) == [7.0] * 5
    assert proxy.asked[0].startswith(b"CONNECT prometheus.test:9090 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic am9lOmh1c2gtb2YtdGhlLXByb3h5" in proxy.asked[0]
    assert b"query_range" not in proxy.tunnelled, "the proxy reads nothing"


async def test_a_tunnel_that_ends_elsewhere_is_not_trusted(
    proxy: ConnectProxy, authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="its certificate is refused") as caught:
        await read(Authority(tmp_path / "other"))
    assert caught.value.reason == "unreachable"


async def test_a_proxy_that_refuses_the_tunnel_is_one_line_without_its_password(
    proxy: ConnectProxy, authority: Authority
) -> None:
    proxy.refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(SourceError, match="407 Proxy Authentication Required") as caught:
        await read(authority)
    assert caught.value.reason == "unreachable"
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_socks_proxy_resolves_the_name_and_reads_nothing(socks: ConnectProxy, authority: Authority) -> None:
    assert await read(authority) == [7.0] * 5
    assert socks.asked == [b"joe:hush-of-the-proxy", b"prometheus.test:9090"]
    assert b"query_range" not in socks.tunnelled


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_socks_proxy_that_refuses_the_password_is_one_line_without_it(
    socks: ConnectProxy, authority: Authority
) -> None:
    socks.refusal = b"\x01\x01"
    reason, words = await failure_of(authority)
    gc.collect()  # httpcore leaves these connections open: see docs/upstream.md
    assert reason == "unreachable"
    assert "hush" not in words
    assert "\n" not in words
