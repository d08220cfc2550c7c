# SPDX-License-Identifier: Apache-2.0
"""The user's own model over HTTP: what it is asked, and which answers are valid forecasts."""

import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from kedastral.adapters.http_model import HttpForecaster, open_model_client
from kedastral.core.forecast import Forecast
from kedastral.core.series import Series
from kedastral.errors import ConfigError, ModelError
from kedastral.wire import write_predict_request
from tests.adapters.answers import Server, failure, reply

MADE_AT = datetime(2024, 1, 1, 0, 2, 30, tzinfo=UTC)
HISTORY = Series(datetime(2023, 12, 31, 23, 58, tzinfo=UTC), 60.0, [math.nan, 10, math.nan, 30.5])
STEPS = 3


async def ask(server: Any, url: str = "http://model.example", **more: Any) -> Forecast:
    async with open_model_client(url, transport=httpx.MockTransport(server)) as client:
        return await HttpForecaster(client, **more).forecast(HISTORY, MADE_AT, STEPS)


async def raised_by(server: Any, url: str = "http://model.example", **more: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await ask(server, url, **more)
    assert "\n" not in str(caught.value)
    return caught.value


def values(*given: Any, **more: Any) -> Any:
    return reply(json={"values": given, **more})


async def test_the_question_is_the_one_that_was_promised() -> None:
    server = Server(values(1, 2, 3))
    await ask(server)
    [request] = server.requests
    assert (request.method, str(request.url)) == ("POST", "http://model.example/predict")
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.content) == {
        "now": "2024-01-01T00:02:30Z",
        "horizonSeconds": 180,
        "stepSeconds": 60,
        "features": [
            {"ts": "2023-12-31T23:59:00Z", "value": 10.0, "hour": 23, "dayOfWeek": 6},
            {"ts": "2024-01-01T00:00:00Z", "value": 10.0, "hour": 0, "dayOfWeek": 0},
            {"ts": "2024-01-01T00:01:00Z", "value": 30.5, "hour": 0, "dayOfWeek": 0},
        ],
    }


@pytest.mark.parametrize("url", ["http://h/models/a", "http://h/models/a/"])
async def test_a_prefix_of_the_models_url_is_kept(url: str) -> None:
    server = Server(values(1, 2, 3))
    await ask(server, url)
    assert server.requests[0].url.path == "/models/a/predict"


def test_a_history_of_gaps_has_no_rows() -> None:
    assert json.loads(write_predict_request(Series(MADE_AT, 60.0, [math.nan] * 3), MADE_AT, 1))["features"] == []


def test_a_step_of_a_fraction_of_a_second_keeps_it() -> None:
    question = json.loads(write_predict_request(Series(MADE_AT, 0.5, [1, 2]), MADE_AT, 3))
    assert (question["stepSeconds"], question["horizonSeconds"]) == (0.5, 1.5)
    assert question["features"][1]["ts"] == "2024-01-01T00:02:30.500000Z"


@given(st.lists(st.one_of(st.floats(min_value=0, allow_infinity=False), st.just(math.nan)), max_size=20))
def test_rows_are_one_per_step_without_gaps_from_the_first_value_on(loads: list[float]) -> None:
    rows = json.loads(write_predict_request(Series(MADE_AT, 60.0, loads), MADE_AT, 1))["features"]
    leading = next((index for index, load in enumerate(loads) if math.isfinite(load)), len(loads))
    assert len(rows) == len(loads) - leading
    times = [datetime.fromisoformat(row["ts"]) for row in rows]
    assert all((later - earlier).total_seconds() == 60 for earlier, later in pairwise(times))


async def test_a_good_answer_is_the_forecast() -> None:
    got = await ask(Server(values(1, 2.5, 0, metric="rps", model="mine")))
    assert (got.made_at, got.step) == (MADE_AT, 60.0)
    np.testing.assert_array_equal(got.values, [1, 2.5, 0])


@pytest.mark.parametrize(
    "body",
    [
        b'{"values":[1,2]}',
        b'{"values":[1,2,3,4]}',
        b'{"values":[]}',
        b'{"values":[1,-0.1,3]}',
        b'{"values":[1,true,3]}',
        b'{"values":[1,"5",3]}',
        b'{"values":[1,null,3]}',
        b'{"values":[1,[2],3]}',
        b'{"values":[1,NaN,3]}',
        b'{"values":[1,Infinity,3]}',
        b'{"values":[1,1e999,3]}',
        b'{"values":[1,' + b"9" * 400 + b",3]}",
        b'{"values":[1,' + b"9" * 5000 + b",3]}",
        b'{"values":"123"}',
        b'{"values":{"0":1,"1":2,"2":3}}',
        b'{"metric":5,"values":[1,2,3]}',
        b'{"metric":null,"values":[1,2,3]}',
        b"{}",
        b"[1,2,3]",
        b"null",
        b"",
        b"<html>",
        b"\xff\xff",
        b"[" * 100_000,
    ],
)
async def test_what_is_no_forecast_is_refused(body: bytes) -> None:
    caught = await raised_by(Server(reply(content=body)))
    assert caught.reason == "bad_answer"
    assert caught.__cause__ is not None
    assert len(str(caught)) < 400


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 404, 413, 429, 500, 503])
async def test_an_error_status_or_a_redirect_is_an_error_and_never_asked_again(status: int) -> None:
    server = Server(reply(status, json={"values": [1, 2, 3]}, headers={"Location": "/elsewhere"}), values(1, 2, 3))
    caught = await raised_by(server)
    assert caught.reason == "http_status"
    assert f"HTTP {status}" in str(caught)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "error", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError, httpx.ProxyError]
)
async def test_a_broken_connection_is_an_error_and_never_tried_again(error: type[httpx.TransportError]) -> None:
    server = Server(failure(error), values(1, 2, 3))
    caught = await raised_by(server)
    assert caught.reason == "unreachable"
    assert isinstance(caught.__cause__, error)
    assert len(server.requests) == 1


async def test_a_redirect_to_what_is_no_address_is_an_error_and_no_bug() -> None:
    caught = await raised_by(Server(reply(302, headers={"Location": "mailto:x"})))
    assert caught.reason == "http_status"
    assert "a redirect to what is no URL" in str(caught)


async def test_a_host_name_that_dns_cannot_express_is_an_error_and_no_bug() -> None:
    def lookup(_request: httpx.Request) -> httpx.Response:
        raise UnicodeError("label empty or too long")

    assert (await raised_by(Server(lookup))).reason == "unreachable"


async def test_a_slow_model_is_given_up_after_its_timeout(autojump_clock: MockClock) -> None:
    async def slow(_request: httpx.Request) -> httpx.Response:
        await trio.sleep(60)
        raise AssertionError

    began = trio.current_time()
    caught = await raised_by(slow, timeout=3.0)
    assert trio.current_time() - began == pytest.approx(3)
    assert caught.reason == "timeout"
    assert "within 3 s" in str(caught)


async def test_a_model_that_drips_is_given_up_after_its_timeout(autojump_clock: MockClock) -> None:
    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await trio.sleep(1)
                yield b" "

    caught = await raised_by(Server(lambda _request: httpx.Response(200, stream=Dripping())))
    assert caught.reason == "timeout"


@pytest.mark.parametrize(("padding", "accepted"), [(1024 * 1024 - 18, True), (1024 * 1024 - 17, False)])
async def test_an_answer_over_one_mebibyte_is_refused(padding: int, accepted: bool) -> None:
    body = b'{"values":[1,2,3]}' + b" " * padding
    server = Server(reply(content=body))
    if accepted:
        assert len((await ask(server)).values) == STEPS
    else:
        assert (await raised_by(server)).reason == "too_large"


async def test_a_login_page_is_named_as_one() -> None:
    server = Server(reply(content=b"<!DOCTYPE html><html><title>Sign in</title></html>"))
    assert "the answer is not a forecast: it is an HTML page ('Sign in'): is a login" in str(await raised_by(server))


async def test_a_compressed_answer_is_refused_before_it_is_inflated() -> None:
    def bomb(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"\x1f\x8b"))

    assert (await raised_by(Server(bomb))).reason == "bad_answer"


async def test_no_error_shows_the_password_of_the_url() -> None:
    server = Server(reply(500))
    caught = await raised_by(server, "http://me:hush@h/p?key=hush")
    assert server.requests[0].headers["Authorization"].startswith("Basic ")
    assert str(caught) == "model at http://h/p: HTTP 500"


def test_what_is_no_url_is_refused_in_a_line() -> None:
    with pytest.raises(ConfigError, match="the URL cannot be used"):
        open_model_client("model:8080")


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf])
def test_a_timeout_that_never_comes_cannot_be_set(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        HttpForecaster(httpx.AsyncClient(), timeout)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\n  KeyError: 'ts'\n  File model.py", "HTTP 500; it says: KeyError: 'ts'"),
        (b'{"detail":"no model for shop"}', 'HTTP 500; it says: {"detail":"no model for shop"}'),
        (b"<html><title>Oops</title><p>", "HTTP 500; it says: Oops"),
        (
            b"cannot serve hush-of-the-user at key=hush-of-the-url",
            "HTTP 500; it says: cannot serve (hidden) at key=(hidden)",
        ),
        (b"", "HTTP 500"),
        (b"x" * 5000, "HTTP 500; it says: " + "x" * 199 + "…"),
        (b"x" * 2**21, "HTTP 500"),
    ],
)
async def test_the_first_line_of_an_error_is_shown_cut_and_without_secrets(body: bytes, said: str) -> None:
    url = "http://joe:hush-of-the-user@model.example/?key=hush-of-the-url"
    caught = await raised_by(Server(reply(500, content=body)), url)
    assert str(caught).endswith(f": {said}")


@pytest.mark.parametrize("end", [httpx.ReadError("cut"), None], ids=["cut", "endless"])
async def test_the_body_of_an_error_that_does_not_end_leaves_its_status(
    autojump_clock: MockClock, end: Exception | None
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"Internal"
        if end is not None:
            raise end
        await trio.sleep_forever()

    caught = await raised_by(Server(reply(500, content=body())))
    assert (caught.reason, str(caught).endswith("HTTP 500")) == ("http_status", True)
