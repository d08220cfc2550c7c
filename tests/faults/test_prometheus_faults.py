# SPDX-License-Identifier: Apache-2.0
"""Everything that Prometheus may do wrong, and what KEDA is told meanwhile, second by second, under each policy."""

import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from kedastral.core.planning.stale_policy import OnStale
from tests.adapters.answers import Reply, error, failure, matrix, reply, success
from tests.parts import START

from .pair import STEP, Fault, Pair, answer_honestly, points_of
from .timelines import LOST, UNDISTURBED, Points


def at_once(say: Reply) -> Fault:
    """A Prometheus that answers ``say`` without delay."""

    async def answer(request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        return say(request)

    return answer


async def hang(_request: httpx.Request) -> httpx.Response:
    await trio.sleep_forever()
    raise AssertionError


async def drip(_request: httpx.Request) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        while True:
            await trio.sleep(1)
            yield b" "

    return httpx.Response(200, content=body())


async def reset_midway(request: httpx.Request) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        yield b'{"status":"success"'
        raise httpx.ReadError("connection reset by peer", request=request)

    return httpx.Response(200, content=body())


async def send_20_mib(_request: httpx.Request) -> httpx.Response:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(20):
            await trio.lowlevel.checkpoint()
            yield b" " * 2**20

    return httpx.Response(200, content=body())


async def answer_after_11_s(request: httpx.Request) -> httpx.Response:
    await trio.sleep(11)
    return answer_honestly(request)


def truncate(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=answer_honestly(request).content[:-20])


def with_points(change: Callable[[Points], list[tuple[float, Any]]]) -> Fault:
    """A Prometheus whose points are the right ones altered by ``change``."""
    return at_once(lambda request: matrix(change(points_of(request)))(request))


def moved(seconds: float) -> Fault:
    return with_points(lambda points: [(at + seconds, str(value)) for at, value in points])


def as_text(points: Points) -> list[tuple[float, Any]]:
    return [(at, str(value)) for at, value in points]


NO_PLAN: dict[str, Fault] = {
    "refuses the connection": at_once(failure(httpx.ConnectError)),
    "never answers": hang,
    "drips a byte a second": drip,
    "answers after 11 s": answer_after_11_s,
    "resets the connection": at_once(failure(httpx.ReadError)),
    "resets in the middle": reset_midway,
    "redirects": at_once(reply(302, headers={"Location": "http://elsewhere.example/"})),
    "answers 400": at_once(error(400)),
    "answers 401": at_once(reply(401, text="who are you?")),
    "answers 404": at_once(reply(404, text="no page here")),
    "answers 422": at_once(error(422, kind="execution")),
    "answers 429": at_once(reply(429, headers={"Retry-After": "3600"})),
    "answers 500": at_once(reply(500)),
    "answers 503": at_once(reply(503, headers={"Retry-After": "3600"})),
    "answers status error": at_once(error(200)),
    "answers HTML": at_once(reply(200, text="<!doctype html><title>Sign in</title>")),
    "answers half the JSON": at_once(truncate),
    "answers 20 MiB": send_20_mib,
    "answers nothing": at_once(reply(200)),
    "answers another type": at_once(success([], "vector")),
    "answers an object for a list": at_once(success({"metric": {}, "values": {}})),
    "answers points that are objects": at_once(success([{"metric": {}, "values": [{"at": 1}]}])),
    "answers times that are text": with_points(lambda points: [(str(at), str(value)) for at, value in points]),
    "has no series": at_once(success([])),
    "has a series without points": with_points(lambda _points: []),
    "has only NaN": with_points(lambda points: [(at, "NaN") for at, _ in points]),
    "has only infinities": with_points(lambda points: [(at, "+Inf") for at, _ in points]),
    "has only negative values": with_points(lambda points: [(at, "-1") for at, _ in points]),
    "has only words": with_points(lambda points: [(at, "many") for at, _ in points]),
    "has only points of tomorrow": moved(86_400),
    "has only points of yesterday": moved(-86_400),
}


@pytest.mark.parametrize("fault", NO_PLAN)
async def test_without_a_usable_answer_the_last_plan_is_read_by_each_policy(
    autojump_clock: MockClock, fault: str
) -> None:
    seen = await Pair(prometheus=NO_PLAN[fault]).play()
    assert {error.partition("/")[0] for error in seen.errors} == {"source"}
    for policy in OnStale:
        assert seen.runs(policy) == LOST[policy]
    assert seen.disturbed() == []
    assert seen.too_few(OnStale.RIDE_FORECAST) == seen.too_few(OnStale.ERROR) == []


async def fail_first_tries(request: httpx.Request, answer: httpx.Response, tries: dict[str, int]) -> httpx.Response:
    await trio.lowlevel.checkpoint()
    asked = str(request.url)
    tries[asked] = tries.get(asked, 0) + 1
    return answer_honestly(request) if tries[asked] % 3 == 0 else answer


def failing_twice(answer: httpx.Response) -> Fault:
    tries: dict[str, int] = {}
    return lambda request: fail_first_tries(request, answer, tries)


def day_around(points: Points) -> Points:
    """``points`` between unrequested ones of the day before and the day after."""
    return [(at - 86_400, 9e9) for at, _ in points] + points + [(at + 86_400, 9e9) for at, _ in points]


def gap_within(points: Points) -> list[tuple[float, Any]]:
    """Every second point NaN, but never the newest two."""
    newest = START.timestamp() + math.floor(trio.current_time() / STEP) * STEP
    return [(at, "NaN" if at < newest - STEP and at // STEP % 2 else str(value)) for at, value in points]


HARMLESS: dict[str, Fault] = {
    "points in reverse": with_points(lambda points: as_text(points)[::-1]),
    "each point twice": with_points(lambda points: as_text(points) * 2),
    "each point twice, the first wrong": with_points(
        lambda points: [(at, "7e7") for at, _ in points] + as_text(points)
    ),
    "points of the days before and after": with_points(lambda points: as_text(day_around(points))),
    "NaN in between": with_points(gap_within),
    "503 twice at each question": failing_twice(httpx.Response(503)),
    "429 twice at each question": failing_twice(httpx.Response(429, headers={"Retry-After": "1"})),
}


@pytest.mark.parametrize("fault", HARMLESS)
async def test_what_can_still_be_read_changes_no_answer(autojump_clock: MockClock, fault: str) -> None:
    seen = await Pair(prometheus=HARMLESS[fault]).play()
    assert seen.errors == []
    for policy in OnStale:
        assert seen.runs(policy) == UNDISTURBED
        assert seen.too_few(policy) == []
    assert seen.disturbed() == []
