# SPDX-License-Identifier: Apache-2.0
"""Whole processes in the environment of a cluster: proxies and certificate authorities from environment variables."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.waiting import wait_for

from .running import ANY_PORT, QUICK, ProcessInput, fetch
from .stand_in import StandIn, open_stand_in

pytestmark = pytest.mark.process

PASSWORD = "hush-of-the-proxy"


class _Proxy(ThreadingHTTPServer):
    """A proxy that records the first line of each request and lets nothing through."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Refuse)
        self.asked: list[str] = []
        self.logins: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://joe:{PASSWORD}@127.0.0.1:{self.server_address[1]}"


class _Refuse(BaseHTTPRequestHandler):
    server: _Proxy

    def do_GET(self) -> None:
        self.server.asked.append(self.requestline)
        self.server.logins.add(self.headers["Proxy-Authorization"])
        self.send_error(503)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[_Proxy]:
    server = _Proxy()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def prometheus() -> Iterator[StandIn]:
    with open_stand_in() as server:
        yield server


def address_beyond_loopback(server: StandIn) -> str:
    """An address of this machine that is not a loopback address, so that proxies apply to it."""
    return f"http://0.0.0.0:{server.server_address[1]}"


def flags(url: str) -> dict[str, str]:
    listen = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT}
    return {**listen, "--workload": "shop", "--prom-url": url, "--prom-query": "up", **QUICK}


@contextmanager
def running(url: str, **env: str) -> Iterator[tuple[ProcessInput, int]]:
    """`kedastral run` in the given environment, and its HTTP port."""
    with ProcessInput("run", flags(url), env) as process:
        [port] = process.ports("HTTP")
        yield process, port


def has_forecast(port: int) -> bool:
    return fetch(port, "/forecast/current?workload=shop").status == 200


def test_requests_take_the_proxy_and_the_log_says_so_once_without_its_password(
    prometheus: StandIn, proxy: _Proxy
) -> None:
    with running(address_beyond_loopback(prometheus), http_proxy=proxy.url) as (process, _):
        wait_for(lambda: len(proxy.asked) > 3, "several requests through the proxy")
        assert proxy.asked[0].startswith(f"GET {address_beyond_loopback(prometheus)}/api/v1/")
        assert proxy.logins == {"Basic am9lOmh1c2gtb2YtdGhlLXByb3h5"}
        shown = proxy.url.replace(f"joe:{PASSWORD}@", "")
        said = f"requests to {address_beyond_loopback(prometheus)} go through the proxy {shown} of http_proxy"
        assert [event["msg"] for event in process.log if "proxy" in event["msg"]] == [said]
        assert PASSWORD not in "".join(process.lines)
    assert not prometheus.asked.is_set()


@pytest.mark.parametrize("exempt", ["0.0.0.0/8", "[::1],fd00::/8,0.0.0.0", "*", "no/network,0.0.0.0/0"])
def test_an_exempt_network_is_reached_directly(prometheus: StandIn, proxy: _Proxy, exempt: str) -> None:
    env = {"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url, "NO_PROXY": exempt}
    with running(address_beyond_loopback(prometheus), **env) as (process, port):
        wait_for(lambda: has_forecast(port), "a forecast")
        assert not any("proxy" in event["msg"] for event in process.log)
    assert proxy.asked == []


@pytest.mark.parametrize(
    "env",
    [
        {"NO_PROXY": "fd00::/8,[::1],10.0.0.0/8"},
        {"ALL_PROXY": "socks5://proxy.invalid:1080", "NO_PROXY": "0.0.0.0/8"},
        {"HTTPS_PROXY": "gopher://proxy.invalid"},
        {"SSL_CERT_FILE": "/missing.pem", "SSL_CERT_DIR": "/missing"},
    ],
)
def test_what_does_not_concern_the_address_does_not_stop_the_start(prometheus: StandIn, env: dict[str, str]) -> None:
    with running(address_beyond_loopback(prometheus), **env) as (_, port):
        wait_for(lambda: has_forecast(port), "a forecast")


def test_authorities_that_are_missing_end_the_start_with_a_line() -> None:
    with ProcessInput("run", flags("https://prometheus.example"), {"SSL_CERT_FILE": "/missing.pem"}) as process:
        assert process.wait() == 2
        [line] = process.lines
        assert line.startswith("kedastral: SSL_CERT_FILE cannot be used: /missing.pem: No such file or directory; ")
