# SPDX-License-Identifier: Apache-2.0
"""Which requests are retried, what is an error at once, and the messages of errors."""

import math
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from kedastral.adapters.prometheus import api as prometheus_api
from kedastral.adapters.prometheus.api import BODY_LIMIT, LARGE_BODY, PrometheusApi, QueryRequest
from kedastral.adapters.prometheus.limits import NoSlotError, TimeBudget
from kedastral.errors import NotServedError, QueryError, SourceError
from kedastral.secrets import Secret
from kedastral.settings.declarations import PrometheusLogin
from tests.adapters.answers import Reply, Server, client_of, error, failure, matrix, reply

EMPTY = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
REQUEST = QueryRequest("query_range", {"query": "rate(x[1m])"})


async def ask(server: Any, request: QueryRequest = REQUEST, login: PrometheusLogin | None = None) -> Any:
    async with client_of(server, login=login) as client:
        return await PrometheusApi(client).ask(request, TimeBudget(math.inf), urgent=True)


async def raised_by(server: Any, request: QueryRequest = REQUEST, login: PrometheusLogin | None = None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await ask(server, request, login)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "first",
    [failure(httpx.ConnectError), failure(httpx.ReadError), failure(httpx.ConnectTimeout)]
    + [failure(httpx.RemoteProtocolError)]
    + [reply(status) for status in (429, 500, 502, 503, 599)],
)
async def test_what_may_pass_is_asked_twice_again_after_100_and_300_ms(autojump_clock: MockClock, first: Reply) -> None:
    server = Server(first, first, matrix())
    assert (await ask(server)).series == []
    began = server.asked_at[0]
    assert [at - began for at in server.asked_at] == pytest.approx([0, 0.1, 0.4])


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (failure(httpx.ConnectError), "unreachable"),
        (failure(httpx.ReadError), "unreachable"),
        (failure(httpx.ConnectTimeout), "timeout"),
        (reply(429), "http_status"),
        (reply(500), "http_status"),
        (error(503, "query timed out", "timeout"), "http_status"),
    ],
)
async def test_after_three_attempts_it_is_an_error(autojump_clock: MockClock, last: Reply, reason: str) -> None:
    server = Server(last)
    assert (await raised_by(server)).reason == reason
    assert len(server.requests) == 3


async def test_the_last_cause_is_chained(autojump_clock: MockClock) -> None:
    caught = await raised_by(Server(failure(httpx.ConnectError)))
    assert isinstance(caught.__cause__, httpx.ConnectError)
    assert "a wire was cut" in str(caught)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 414, 422, 501, 301, 302, 307, 204, 206])
async def test_nothing_else_is_ever_asked_again(status: int) -> None:
    server = Server(reply(status), matrix())
    assert (await raised_by(server)).reason in ("refused", "http_status")
    assert len(server.requests) == 1


async def test_a_redirect_to_what_is_no_address_is_told_and_not_blamed_on_the_query() -> None:
    server = Server(reply(302, headers={"Location": "mailto:x"}))
    caught = await raised_by(server)
    assert caught.reason == "http_status"
    assert "a redirect to what is no URL" in str(caught)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_an_endpoint_that_is_not_served_can_be_told_from_other_errors(status: int) -> None:
    assert isinstance(await raised_by(Server(reply(status))), NotServedError)


async def test_a_404_that_is_not_prometheus_own_asks_for_the_base_address() -> None:
    assert "HTTP 404: is --prom-url the base address?; query" in str(await raised_by(Server(reply(404))))
    assert "base address" not in str(await raised_by(Server(error(404, "no such tenant"))))
    assert "base address" not in str(await raised_by(Server(reply(405))))


@pytest.mark.parametrize("status", [400, 401, 403, 422])
async def test_a_refusal_carries_prometheus_own_words_and_the_query(status: int) -> None:
    caught = await raised_by(Server(error(status, "parse error:\n unexpected end")))
    assert caught.reason == "refused"
    assert not isinstance(caught, NotServedError)
    assert str(caught) == (
        f"Prometheus at http://prom.example:9090 (query_range): HTTP {status}: bad_data: parse error: unexpected end; "
        "query: rate(x[1m])"
    )


@pytest.mark.parametrize(
    ("status", "is_about_it"), [(400, True), (422, True), (401, False), (404, False), (503, False)]
)
async def test_what_is_wrong_with_the_query_is_said_without_the_address(
    autojump_clock: MockClock, status: int, is_about_it: bool
) -> None:
    caught = await raised_by(Server(error(status, "parse error:\n unexpected end")))
    assert isinstance(caught, QueryError) is is_about_it
    if isinstance(caught, QueryError):
        assert caught.refusal == f"HTTP {status}: bad_data: parse error: unexpected end"


async def test_a_400_that_is_not_prometheus_own_is_not_about_the_query() -> None:
    assert not isinstance(await raised_by(Server(reply(400, text="<html>"))), QueryError)
    assert isinstance(await raised_by(Server(reply(414))), QueryError)


async def test_an_error_under_status_200_is_a_refusal() -> None:
    caught = await raised_by(Server(error(200, "too many samples", "execution")))
    assert caught.reason == "refused"
    assert "execution: too many samples" in str(caught)


async def test_words_of_a_5xx_reach_the_log(autojump_clock: MockClock) -> None:
    assert "HTTP 503: timeout: query timed out" in str(
        await raised_by(Server(error(503, "query timed out", "timeout")))
    )


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_without_words_names_the_credentials(status: int) -> None:
    assert "the credentials were not accepted" in str(await raised_by(Server(reply(status, text="Unauthorized"))))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("no org id\n", "the header X-Scope-OrgID must name a tenant; it says: no org id; query"),
        ("token of joe\nhas expired", "the credentials were not accepted; it says: token of joe has expired; query"),
        ("<html><title>403 Forbidden</title>", "the credentials were not accepted; it says: 403 Forbidden; query"),
        ("bad: Bearer open-sesame", "the credentials were not accepted; it says: bad: (hidden); query"),
        ("", "the credentials were not accepted; query"),
        ("x" * 10_000, "it says: " + "x" * 99 + "…; query"),
    ],
)
async def test_who_refuses_us_is_quoted_in_a_line_without_our_secrets(status: int, body: str, words: str) -> None:
    login = PrometheusLogin(token=Secret("open-sesame"))
    caught = await raised_by(Server(reply(status, text=body)), login=login)
    assert words in str(caught)


async def test_a_login_page_in_front_of_prometheus_is_named() -> None:
    page = "<!doctype html><html><head><title>Log in to SSO</title></head></html>"
    caught = await raised_by(Server(reply(200, text=page, headers={"Content-Type": "text/html"})))
    assert caught.reason == "bad_answer"
    assert "it is an HTML page ('Log in to SSO'): is a login in front of it" in str(caught)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            400,
            "you sent Authorization: Bearer open-sesame",
            "HTTP 400; it says: you sent Authorization: (hidden); query",
        ),
        (503, "<html><title>503 Down &amp; out</title>", "HTTP 503; it says: 503 Down & out; query"),
        (502, "<html><style>p{}</style><h1>no</h1>title", "HTTP 502; it says: no title; query"),
        (429, "slow\ndown " + "x" * 10_000, "HTTP 429; it says: slow down " + "x" * 89 + "…; query"),
        (404, "404 page not found\n", "HTTP 404: is --prom-url the base address?; it says: 404 page not found; query"),
    ],
)
async def test_a_page_that_is_not_prometheus_is_quoted_in_a_line_without_our_secrets(
    autojump_clock: MockClock, status: int, body: str, words: str
) -> None:
    caught = await raised_by(Server(reply(status, text=body)), login=PrometheusLogin(token=Secret("open-sesame")))
    assert words in str(caught)
    assert caught.status == status


async def test_a_redirect_is_not_followed_and_says_where_to() -> None:
    server = Server(reply(302, headers={"Location": "https://user:pw@sso.example/login?next=secret"}), matrix())
    caught = await raised_by(server)
    assert caught.reason == "http_status"
    assert "a redirect to https://sso.example/login: redirects are not followed" in str(caught)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("location", "shown"), [("/graph", "a redirect to http://prom.example:9090/graph:"), (None, "HTTP 302; query")]
)
async def test_a_redirect_without_a_host_or_a_target_is_an_error_all_the_same(location: str | None, shown: str) -> None:
    headers = {} if location is None else {"Location": location}
    caught = await raised_by(Server(reply(302, headers=headers)))
    assert caught.reason == "http_status"
    assert shown in str(caught)


async def test_a_redirect_to_what_is_no_url_is_an_error_and_no_bug(autojump_clock: MockClock) -> None:
    await raised_by(Server(reply(302, headers={"Location": "http://h:port"})))


async def test_queries_are_cut_at_200_characters_and_kept_on_one_line() -> None:
    query = "sum(\n" + "x" * 5000 + ")"
    caught = await raised_by(Server(error(400, f"cannot parse {query}")), QueryRequest("query", {"query": query}))
    assert "x" * 190 in str(caught)
    assert "x" * 200 not in str(caught)


async def test_long_words_of_prometheus_are_cut() -> None:
    assert len(str(await raised_by(Server(error(422, "m" * 100_000))))) < 700


async def test_a_query_that_fits_no_url_is_refused_and_not_sent() -> None:
    server = Server(matrix())
    caught = await raised_by(server, QueryRequest("query", {"query": "x" * 70_000}))
    assert caught.reason == "refused"
    assert "a query of 70000 characters" in str(caught)
    assert server.requests == []


async def test_a_query_too_long_for_a_proxy_says_so() -> None:
    assert "too long for a GET request" in str(await raised_by(Server(reply(414))))


async def test_a_host_name_that_dns_cannot_express_is_an_error_and_no_bug() -> None:
    def lookup(_request: httpx.Request) -> httpx.Response:
        raise UnicodeError("label empty or too long")

    assert (await raised_by(Server(lookup))).reason == "unreachable"


async def test_a_body_over_the_limit_is_not_read_to_its_end() -> None:
    given = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal given
            while True:
                given += 1
                yield b" " * (1024 * 1024)
                await trio.lowlevel.checkpoint()

    caught = await raised_by(Server(lambda _request: httpx.Response(200, stream=Endless())))
    assert caught.reason == "bad_answer"
    assert "larger than 16 MiB" in str(caught)
    assert given == BODY_LIMIT // (1024 * 1024) + 1


async def test_of_the_large_answers_of_a_data_source_one_at_a_time_is_read_and_small_ones_beside_it() -> None:
    mebibyte, begun, may_end = b" " * 2**20, list[int](), trio.Event()

    class Large(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            number = len(begun)
            begun.append(0)
            for _ in range(LARGE_BODY // 2**20 + 2):
                begun[number] += 1
                yield mebibyte
            await may_end.wait()
            yield EMPTY

    def answer(request: httpx.Request) -> httpx.Response:
        stream = httpx.ByteStream(EMPTY) if request.url.params["query"] == "small" else Large()
        return httpx.Response(200, stream=stream)

    async with client_of(Server(answer)) as client, trio.open_nursery() as nursery:
        api = PrometheusApi(client)
        for _ in range(3):
            nursery.start_soon(partial(api.ask, REQUEST, TimeBudget(60.0), urgent=True))
        await trio.testing.wait_all_tasks_blocked()
        whole, part = LARGE_BODY // 2**20 + 2, LARGE_BODY // 2**20 + 1
        assert sorted(begun) == [part, part, whole]
        small = QueryRequest("query", {"query": "small"})
        assert (await api.ask(small, TimeBudget(60.0), urgent=True)).series == []
        may_end.set()
    assert begun == [whole] * 3, "each has its turn"


async def test_large_answers_that_are_no_longer_wanted_leave_their_place_to_others() -> None:
    wanted = False

    class Hanging(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(LARGE_BODY // 2**20 + 1):
                yield b" " * 2**20
            if not wanted:
                await trio.sleep_forever()
            yield EMPTY

    async with client_of(Server(lambda _: httpx.Response(200, stream=Hanging()))) as client:
        api = PrometheusApi(client)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(partial(api.ask, REQUEST, TimeBudget(60.0), urgent=True))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        wanted = True
        with trio.fail_after(10):
            assert (await api.ask(REQUEST, TimeBudget(60.0), urgent=True)).series == []


async def test_the_wait_for_another_large_answer_spends_no_time_but_patience(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus_api, "LARGE", math.inf)  # no thread, during which virtual time would jump

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for _ in range(8):
                await trio.sleep(1)
                yield b" " * (LARGE_BODY // 4)

    async def ask_within(patience: float) -> None:
        try:
            await api.ask(REQUEST, TimeBudget(10.0, patience), urgent=True)
        except NoSlotError:
            ended.append((trio.current_time(), "patience"))
        except SourceError as caught:
            ended.append((trio.current_time(), caught.reason))

    ended: list[tuple[float, str]] = []
    async with client_of(Server(lambda _: httpx.Response(200, stream=Slow()))) as client:
        api, began = PrometheusApi(client), trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask_within, math.inf)
            await trio.sleep(0.5)
            nursery.start_soon(ask_within, 2.0)
    # each needs eight seconds, of which five pass before it proves to be large: of the others one at a time goes on
    assert [(at - began, reason) for at, reason in ended] == [
        (7.5, "patience"), (8, "bad_answer"), (11, "bad_answer"), (14, "bad_answer"), (17, "bad_answer"),
    ]  # fmt: skip


async def test_nothing_compressed_is_asked_for_and_nothing_compressed_is_inflated() -> None:
    def bomb(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"\x1f\x8b" * 100))

    server = Server(bomb)
    caught = await raised_by(server)
    assert server.requests[0].headers["Accept-Encoding"] == "identity"
    assert caught.reason == "bad_answer"
    assert "encoded as gzip" in str(caught)


async def test_an_error_status_whose_page_cannot_be_read_is_still_that_status() -> None:
    def page(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, headers={"Content-Encoding": "br"}, stream=httpx.ByteStream(b"?"))

    assert "HTTP 403" in str(await raised_by(Server(page)))


async def test_each_attempt_has_two_seconds_to_connect_and_nothing_else_of_its_own() -> None:
    server = Server(matrix())
    await ask(server)
    assert server.requests[0].extensions["timeout"] == {"connect": 2.0, "read": None, "write": None, "pool": None}
