# SPDX-License-Identifier: Apache-2.0
"""How much Kedastral asks of a real Prometheus, counted by Prometheus' own metrics."""

import math
import re
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.adapters.prometheus.limits import RequestLimits
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from tests.integration.conftest import PrometheusServer
from tests.process.running import ANY_PORT, ProcessInput, fetch
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.integration

QUERY = "vector(1)"
"""Every point of its answer has the same number of bytes, so that bytes count points."""
OVERLAP = 361
"""Points at a step of one second that may be late: those of six minutes are read again (`MIN_REREAD`)."""
WINDOW = 25_000
CALIBRATION = 2
"""Requests."""


@attrs.frozen
class Asked:
    """Range queries that Prometheus has answered, and the bytes and refusals of its answers."""

    requests: int
    refused: int
    size: int

    def since(self, before: "Asked") -> "Asked":
        return Asked(self.requests - before.requests, self.refused - before.refused, self.size - before.size)


def get(url: str) -> str:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def read_meter(url: str) -> Asked:
    text = get(f"{url}/metrics")
    handler = r'handler="/api/v1/query_range"'
    codes = re.findall(rf'^prometheus_http_requests_total{{code="(\d+)",{handler}}} (\S+)$', text, re.MULTILINE)
    sizes = re.findall(rf"^prometheus_http_response_size_bytes_sum{{{handler}}} (\S+)$", text, re.MULTILINE)
    return Asked(
        int(sum(float(count) for _, count in codes)),
        int(sum(float(count) for code, count in codes if code != "200")),
        int(sum(map(float, sizes))),
    )


@attrs.frozen
class PointMeter:
    """Computes points from bytes: ``around`` is the bytes of an answer without points, ``each`` those of a point."""

    url: str
    around: float
    each: float

    @classmethod
    def calibrated(cls, url: str) -> "PointMeter":
        """Calibrates with queries for 1 and for 101 points."""
        sizes = []
        for points in (1, 101):
            times = urllib.parse.urlencode({"query": QUERY, "start": 1_790_000_000, "end": 1_789_999_999 + points})
            sizes.append(len(get(f"{url}/api/v1/query_range?{times}&step=1")))
        each = (sizes[1] - sizes[0]) / 100
        return cls(url, sizes[0] - each, each)

    def points(self, asked: Asked) -> float:
        return (asked.size - asked.requests * self.around) / self.each


def meter_at(url: str, requests: int) -> Asked:
    """The counts, once that many requests are counted, which is a moment after they were answered."""
    wait_for(lambda: read_meter(url).requests >= requests, f"request {requests} is counted")
    return read_meter(url)


async def test_a_steady_tick_costs_the_new_points_and_the_overlap_and_a_backfill_the_window(
    prometheus_server: PrometheusServer,
) -> None:
    url = prometheus_server.url
    meter = PointMeter.calibrated(url)
    now, before = datetime.now(UTC), meter_at(url, CALIBRATION)
    async with open_prometheus_client(url) as client:
        source = PrometheusSource(client, RangeQuery(QUERY, WINDOW, 1.0, 60.0), limits=RequestLimits(8, 50))

        async def cost(*ticks: float, requests: int) -> tuple[int, float]:
            """The cost of ticks at these intervals: requests and points."""
            nonlocal now, before
            for apart in ticks:
                now += timedelta(seconds=apart)
                series = await source.history(now)
                np.testing.assert_array_equal(series.values, np.ones(WINDOW))
            total = meter_at(url, before.requests + requests)
            asked, before = total.since(before), total
            assert asked.refused == 0
            return asked.requests, meter.points(asked)

        assert await cost(0, requests=3) == (3, WINDOW)
        assert await cost(*[2] * 10, requests=10) == (10, 10 * (2 + OVERLAP))
        assert await cost(0, 0, requests=2) == (2, 2 * OVERLAP)
        assert await cost(500, requests=1) == (1, 500 + OVERLAP)
        assert await cost(12_000, requests=2) == (2, 12_000 + OVERLAP)
        assert await cost(WINDOW + 1, requests=3) == (3, WINDOW)


@pytest.mark.process
def test_a_running_kedastral_asks_for_no_more(prometheus_server: PrometheusServer) -> None:
    url = prometheus_server.url
    meter = PointMeter.calibrated(url)
    flags = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, "--workload": "w", "--prom-query": QUERY}
    flags |= {
        "--prom-url": url,
        "--step": "1s",
        "--interval": "1s",
        "--window": "30m",
        "--horizon": "60s",
        "--stale-after": "1m",
    }
    with ProcessInput("run", {**flags, "--lead-time": "10s"}) as kedastral:
        [port] = kedastral.ports("HTTP")

        def ticks() -> int:
            text = fetch(port, "/metrics").body
            found = re.search(r"^kedastral_adapter_collect_seconds_count\S* (\S+)$", text, re.MULTILINE)
            return int(float(found[1])) if found else 0

        wait_for(ticks, "a first tick")
        first, began = ticks(), time.monotonic()
        before = read_meter(url)
        since = ticks()  # the machine may have taken several ticks' time for the lines before
        wait_for(lambda: ticks() >= since + 7, "seven more ticks")
        asked = read_meter(url).since(before)
        most = ticks() - first + 2  # Prometheus may have counted the first of all late, and the last before us
        passed = math.ceil(time.monotonic() - began) + 2
    assert asked.refused == 0
    assert 5 <= asked.requests <= most
    assert meter.points(asked) <= most * OVERLAP + passed
