# SPDX-License-Identifier: Apache-2.0
"""The source against a real Prometheus, and with real sockets, TLS and passwords."""

import base64
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import h11
import numpy as np
import pytest
import trio
import trustme

from kedastral.adapters.prometheus.api import PrometheusApi, QueryRequest, open_prometheus_client
from kedastral.adapters.prometheus.limits import TimeBudget
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.series import Series
from kedastral.errors import SourceError
from kedastral.secrets import Secret
from kedastral.settings.declarations import PrometheusLogin
from kedastral.settings.types import Name
from tests.integration.conftest import PrometheusServer, free_port

pytestmark = pytest.mark.integration


TIME = "time() % 1000000"
"""A load that encodes the time: the seconds of 12 days, which 24 bits of float32 hold exactly."""


def times_of(series: Series) -> list[float]:
    return [series.time_at(index).timestamp() % 1_000_000 for index in range(len(series))]


async def read(url: str, query: str, *, window: float = 10.0, now: datetime | None = None) -> Series:
    asked = RangeQuery(query, window, step=1.0, stale_after=60.0)
    async with open_prometheus_client(url) as client:
        return await PrometheusSource(client, asked).history(now or datetime.now(UTC))


async def eventually(read_it: Callable[[], Awaitable[Series]], within: float = 60.0) -> Series:
    """The first answer without an error; a server that has just started has scraped nothing yet."""
    deadline = time.monotonic() + within
    while True:
        try:
            return await read_it()
        except SourceError:
            if time.monotonic() > deadline:
                raise
        await trio.sleep(0.05)


async def read_a_scrape(url: str) -> Series:
    """``up``, whose newest scrape did not fail, as one may on a busy machine. Raises SourceError."""
    series = await read(url, "up")
    if series.newest is None or series.newest.value != 1:
        raise SourceError("the newest scrape failed", reason="empty")
    return series


async def test_what_prometheus_scraped_becomes_a_series(prometheus_server: PrometheusServer) -> None:
    series = await eventually(partial(read_a_scrape, prometheus_server.url))
    assert len(series) == 10


async def test_every_point_is_where_prometheus_put_it(prometheus_server: PrometheusServer) -> None:
    now = datetime.now(UTC)
    series = await read(prometheus_server.url, TIME, window=30.0, now=now)
    np.testing.assert_array_equal(series.values, times_of(series))
    assert timedelta(0) <= now - series.time_at(29) < timedelta(seconds=1)


async def test_several_series_are_summed(prometheus_server: PrometheusServer) -> None:
    query = 'label_replace(vector(1), "x", "1", "", "") or label_replace(vector(2), "x", "2", "", "")'
    np.testing.assert_array_equal((await read(prometheus_server.url, query)).values, [3.0] * 10)


async def test_a_window_above_what_one_request_gives_is_whole(prometheus_server: PrometheusServer) -> None:
    points = 25_000
    series = await read(prometheus_server.url, TIME, window=float(points))
    assert len(series) == points
    np.testing.assert_array_equal(series.values, times_of(series))


async def test_prometheus_itself_refuses_that_window_in_one_request(prometheus_server: PrometheusServer) -> None:
    request = QueryRequest("query_range", {"query": "time()", "start": "0", "end": "11001", "step": "1"})
    async with open_prometheus_client(prometheus_server.url) as client:
        with pytest.raises(SourceError, match="exceeded maximum resolution of 11,000 points per timeseries"):
            await PrometheusApi(client).ask(request, TimeBudget(10.0), urgent=True)


@pytest.mark.parametrize("query", ["scalar(vector(5))", "5"])
async def test_a_scalar_query_is_a_series_too(prometheus_server: PrometheusServer, query: str) -> None:
    np.testing.assert_array_equal((await read(prometheus_server.url, query)).values, [5.0] * 10)


@pytest.mark.parametrize(
    ("query", "reason", "words"),
    [
        ("sum(", "refused", "HTTP 400: bad_data: .*1:5: parse error: unclosed left paren"),
        ('"text"', "refused", "HTTP 400: bad_data"),
        ("up[5m]", "refused", "HTTP 400: bad_data"),
        ("absent(vector(1))", "empty", "the query matched nothing"),
        ("vector(-1)", "no_load", "1 series without a load: of 10 values 10 negative"),
        ("vector(1) / 0", "no_load", "1 series without a load: of 10 values 10 infinite"),
        ("sqrt(vector(-1))", "no_load", "1 series without a load: of 10 values 10 NaN"),
    ],
)
async def test_a_query_without_a_load_is_an_error_in_plain_words(
    prometheus_server: PrometheusServer, query: str, reason: str, words: str
) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        await read(prometheus_server.url, query)
    assert caught.value.reason == reason


async def test_a_long_query_is_served(prometheus_server: PrometheusServer) -> None:
    query = " + ".join(["vector(1)"] * 1500)
    assert len(query) > 16_000
    np.testing.assert_array_equal((await read(prometheus_server.url, query)).values, [1500.0] * 10)


async def test_instant_answers_have_the_shape_that_the_fallback_reads(prometheus_server: PrometheusServer) -> None:
    async with open_prometheus_client(prometheus_server.url) as client:
        api = PrometheusApi(client)
        for query, kind in (("vector(5)", "vector"), ("5", "scalar"), ("up[5s]", "matrix"), ('"x"', "string")):
            request = QueryRequest("query", {"query": query, "time": "1700000000"})
            assert (await api.ask(request, TimeBudget(10.0), urgent=True)).result_type == kind


async def test_an_outage_is_an_error_and_the_history_is_there_again_after_it(
    prometheus_server: PrometheusServer,
) -> None:
    await eventually(partial(read, prometheus_server.url, "up"))
    await trio.to_thread.run_sync(prometheus_server.stop)
    before = datetime.now(UTC)
    with pytest.raises(SourceError, match=": connection refused") as caught:
        await read(prometheus_server.url, "up")
    assert caught.value.reason == "unreachable"
    await trio.to_thread.run_sync(prometheus_server.start)
    series = await eventually(partial(read, prometheus_server.url, "up", now=before))
    assert series.newest is not None


async def test_a_port_that_was_taken_meanwhile_is_given_up_for_another(prometheus_server: PrometheusServer) -> None:
    await trio.to_thread.run_sync(prometheus_server.stop)
    old = prometheus_server.url
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", int(old.rpartition(":")[2])))
        thief.listen()
        await trio.to_thread.run_sync(prometheus_server.start)
    assert prometheus_server.url != old
    await read(prometheus_server.url, "time()")


@attrs.frozen
class StandIn:
    """A server in Prometheus' place that requires a login, over TLS."""

    port: int
    authority: trustme.CA
    seen: list[str | None]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/prefix"


@pytest.fixture
async def fallback_forecast(nursery: trio.Nursery) -> AsyncIterator[StandIn]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    seen: list[str | None] = []
    [listener] = await nursery.start(
        partial(trio.serve_ssl_over_tcp, partial(answer_one, seen), 0, context, host="127.0.0.1")
    )
    port = listener.transport_listener.socket.getsockname()[1]
    yield StandIn(port, authority, seen)
    nursery.cancel_scope.cancel()


async def answer_one(seen: list[str | None], stream: trio.SSLStream[trio.SocketStream]) -> None:
    """Answer one request: 1 at its ``end`` to ``me`` with ``right``, and 401 to anyone else."""
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError:
        return
    client = stream.getpeercert() or {}
    seen.append(next((value for kind, value in client.get("subjectAltName", ()) if kind == "email"), None))
    connection = h11.Connection(h11.SERVER)
    while not isinstance(event := connection.next_event(), h11.Request):
        connection.receive_data(bytes(await stream.receive_some()))
    allowed = "Basic " + base64.b64encode(b"me:right").decode()
    status, body = 401, b"Unauthorized\n"
    if dict(event.headers).get(b"authorization") == allowed.encode():
        end = event.target.decode().rpartition("end=")[2].partition("&")[0]
        result = [{"metric": {}, "values": [[int(end), "1"]]}]
        document = {"status": "success", "data": {"resultType": "matrix", "result": result}}
        status, body = 200, json.dumps(document).encode()
    head = h11.Response(status_code=status, headers=[("Content-Length", str(len(body))), ("Connection", "close")])
    for part in (head, h11.Data(body), h11.EndOfMessage()):
        await stream.send_all(connection.send(part) or b"")
    await stream.aclose()


async def read_with(url: str, **login: Any) -> Series:
    async with open_prometheus_client(url, PrometheusLogin(**login)) as client:
        source = PrometheusSource(client, RangeQuery("up", window=600.0, step=60.0, stale_after=120.0))
        return await source.history(datetime.now(UTC))


@pytest.fixture
def ca_file(fallback_forecast: StandIn, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    fallback_forecast.authority.cert_pem.write_to_path(str(path))
    return path


async def test_the_right_password_over_tls_is_let_in(fallback_forecast: StandIn, ca_file: Path) -> None:
    series = await read_with(fallback_forecast.url, username="me", password=Secret("right"), ca_file=ca_file)
    assert series.values[-1] == 1
    assert fallback_forecast.seen == [None]


async def test_a_wrong_password_is_refused_without_showing_it(fallback_forecast: StandIn, ca_file: Path) -> None:
    with pytest.raises(SourceError, match="HTTP 401: the credentials were not accepted") as caught:
        await read_with(fallback_forecast.url, username="me", password=Secret("hush"), ca_file=ca_file)
    assert caught.value.reason == "refused"
    assert "hush" not in str(caught.value)
    assert len(fallback_forecast.seen) == 1


async def test_a_password_file_that_was_rotated_is_read_again(
    fallback_forecast: StandIn, ca_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    login = PrometheusLogin(username=Name("me"), password_file=file, ca_file=ca_file)
    async with open_prometheus_client(fallback_forecast.url, login) as client:
        source = PrometheusSource(client, RangeQuery("up", window=600.0, step=60.0, stale_after=120.0))
        with pytest.raises(SourceError, match="HTTP 401"):
            await source.history(datetime.now(UTC))
        file.write_text("right\n")
        assert (await source.history(datetime.now(UTC))).values[-1] == 1


async def test_a_server_whose_authority_is_not_trusted_is_not_talked_to(fallback_forecast: StandIn) -> None:
    with pytest.raises(SourceError, match="its certificate is refused: ") as caught:
        await read_with(fallback_forecast.url, username="me", password=Secret("right"))
    assert caught.value.reason == "unreachable"
    assert fallback_forecast.seen == []


async def test_our_own_certificate_is_shown(fallback_forecast: StandIn, ca_file: Path, tmp_path: Path) -> None:
    ours = fallback_forecast.authority.issue_cert("kedastral@example.org")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    ours.cert_chain_pems[0].write_to_path(str(cert))
    ours.private_key_pem.write_to_path(str(key))
    files = {"ca_file": ca_file, "cert_file": cert, "key_file": key}
    await read_with(fallback_forecast.url, username="me", password=Secret("right"), **files)
    assert fallback_forecast.seen == ["kedastral@example.org"]


async def test_nobody_listening_is_one_clear_line() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SourceError) as caught:
        await read(url, "up")
    assert caught.value.reason == "unreachable"
    assert str(caught.value).startswith(f"Prometheus at {url} (query_range): ")
    assert str(caught.value).endswith(": connection refused; query: up")


async def test_a_host_name_too_long_for_dns_is_an_error_and_no_bug() -> None:
    with pytest.raises(SourceError) as caught:
        await read(f"http://{'a' * 70}.example", "up")
    assert caught.value.reason == "unreachable"
