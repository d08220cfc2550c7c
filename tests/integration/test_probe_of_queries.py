# SPDX-License-Identifier: Apache-2.0
"""What `kedastral doctor --check-queries` measures, on the history of a real Prometheus, made with promtool."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.adapters.prometheus.limits import RequestLimits
from kedastral.doctor.evidence import QueryAnswer
from kedastral.doctor.live import ask_query
from kedastral.settings.fleet import DataSourceSettings, WorkloadSettings
from kedastral.settings.types import HttpUrl, Name
from kedastral.workloads.data_sources import DataSourceConnection
from tests.integration.conftest import PrometheusServer, prometheus_holding

pytestmark = pytest.mark.integration

AHEAD = 600
"""Seconds of samples after now, for as long as a test may take."""
LAG = 360
"""Seconds: more than the five minutes in which a selector finds its newest sample."""


def samples(now: float, age: float, every: float, value: Callable[[int], float] = float) -> list[tuple[float, float]]:
    """One sample ``every`` seconds, from ``age`` seconds before ``now`` on."""
    return [(now - age + i * every, value(i)) for i in range(int((age + AHEAD) / every))]


def history(now: float) -> Mapping[str, list[tuple[float, float]]]:
    """Two hours of samples before ``now``; of ``young_total``, only two minutes; those of ``late_total`` end early."""
    return {
        'every_30_s_total{pod="a"}': samples(now, 7200, 30),
        'every_30_s_total{pod="b"}': samples(now, 3000, 30),
        'every_15_s_total{pod="a"}': samples(now, 7200, 15),
        'young_total{pod="a"}': samples(now, 130, 15),
        'late_total{pod="a"}': [point for point in samples(now, 7200, 15) if point[0] <= now - LAG],
        'requests_in_progress{pod="a"}': samples(now, 7200, 30, lambda i: float(2 * i % 5)),
        'restarted_total{pod="a"}': samples(now, 7200, 30, lambda i: float(i % 200)),
        'resting{pod="a"}': samples(now, 7200, 30, lambda _: 4.0),
        'memory_bytes{pod="a"}': samples(now, 7200, 30, lambda i: float(i % 12)),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """A Prometheus with a `history` up to its start: a whole run of the suite may lie before it."""
    home = Path(tmp_path_factory.mktemp("probe")) / "prometheus"
    with prometheus_holding(home, history(time.time())) as server:
        yield server


async def ask(server: PrometheusServer, query: str) -> QueryAnswer:
    async with open_prometheus_client(server.url) as client:
        settings = DataSourceSettings(url=HttpUrl(server.url))
        connection = DataSourceConnection(settings, client, RequestLimits(8, 1000.0))
        return await ask_query(WorkloadSettings(workload=Name("web"), query=query), connection, datetime.now(UTC))


@pytest.mark.parametrize(
    ("metric", "falls"),
    [
        ("requests_in_progress", True),
        ("every_30_s_total", False),
        ("restarted_total", None),
        ("resting", None),
        ("memory_bytes", None),
        ("young_total", None),
    ],
)
async def test_a_gauge_in_rate_is_known_by_its_falls(server: PrometheusServer, metric: str, falls: bool | None) -> None:
    answer = await ask(server, f"sum(rate({metric}[2m]))")
    assert (answer.rated_falls, answer.rated_kind) == (falls, ""), "what comes from a block has no type"


@pytest.mark.parametrize(
    ("metric", "seconds"), [("every_30_s_total", 30), ("every_15_s_total", 15), ("young_total", 15)]
)
async def test_the_interval_between_samples_is_that_of_the_scrapes(
    server: PrometheusServer, metric: str, seconds: float
) -> None:
    answer = await ask(server, f"sum(rate({metric}[2m]))")
    assert answer.scrape == pytest.approx(seconds, abs=0.5)


async def test_samples_that_are_very_late_are_seen_to_be(server: PrometheusServer) -> None:
    answer = await ask(server, "sum(rate(late_total[20m]))")
    assert answer.age is not None
    # samples are at whole seconds, and the tests before this one take some time
    assert LAG - 1 <= answer.age < LAG + AHEAD


@pytest.mark.parametrize(("metric", "apart"), [("every_15_s_total", 15), ("every_30_s_total", 30)])
async def test_the_age_of_the_newest_sample_is_less_than_the_time_between_two(
    server: PrometheusServer, metric: str, apart: float
) -> None:
    answer = await ask(server, f"sum(rate({metric}[2m]))")
    assert answer.age is not None
    assert 0 <= answer.age < apart + 0.5
