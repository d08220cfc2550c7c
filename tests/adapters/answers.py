# SPDX-License-Identifier: Apache-2.0
"""A minimal Prometheus for the tests of its source: scripted answers, and the requests it received."""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import trio

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.adapters.prometheus.limits import RequestLimits, RequestSlot, TimeBudget
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.settings.declarations import PrometheusLogin

STEP = 60.0
END = datetime(2023, 11, 14, 22, 20, tzinfo=UTC)
"""A point of the grid of one minute."""

Reply = Callable[[httpx.Request], httpx.Response]


def reply(status: int = 200, **content: Any) -> Reply:
    return lambda _request: httpx.Response(status, **content)


def failure(error: type[httpx.TransportError]) -> Reply:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("a wire was cut", request=request)

    return fail


def success(result: Any, kind: str = "matrix", **more: Any) -> Reply:
    return reply(json={"status": "success", "data": {"resultType": kind, "result": result}, **more})


def matrix(*series: list[tuple[float, Any]], **more: Any) -> Reply:
    return success([{"metric": {}, "values": [list(point) for point in points]} for points in series], **more)


def error(status: int, words: str = "no such thing", kind: str = "bad_data") -> Reply:
    return reply(status, json={"status": "error", "errorType": kind, "error": words})


def counting(request: httpx.Request) -> httpx.Response:
    """Answers the range asked for; the value of each point is its minute of the epoch, modulo 1000."""
    asked = request.url.params
    start, end, step = (float(asked[key]) for key in ("start", "end", "step"))
    times = [start + index * step for index in range(round((end - start) / step) + 1)]
    return matrix([(at, str(at // 60 % 1000)) for at in times])(request)


class Server:
    """Gives its replies in turn and then repeats the last one; records the requests and their times."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []
        self.asked_at: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.asked_at.append(trio.current_time())
        answer = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return answer(request)

    @property
    def endpoints(self) -> list[str]:
        return [request.url.path.rpartition("/")[2] for request in self.requests]


def client_of(
    server: Any, url: str = "http://prom.example:9090", login: PrometheusLogin | None = None
) -> httpx.AsyncClient:
    return open_prometheus_client(url, login or PrometheusLogin(), transport=httpx.MockTransport(server))


def source_of(
    server: Any, *, query: str = "sum(rate(http_requests_total[2m]))", points: int = 10, **more: Any
) -> PrometheusSource:
    asked = RangeQuery(query, window=points * STEP, step=STEP, stale_after=120.0, settle_after=0.0)
    return PrometheusSource(client_of(server), asked, **more)


async def ask_within(
    limits: RequestLimits, request: Callable[[RequestSlot], Awaitable[None]], *, urgent: bool = True
) -> None:
    """Make ``request`` in a slot, and once more if it has to give way, as the API does."""
    time = TimeBudget(math.inf)
    async with limits.slot(time, urgent=urgent) as slot:
        with slot.scope:
            return await request(slot)
    async with limits.slow_slot(time, urgent=urgent) as slot:
        return await request(slot)
