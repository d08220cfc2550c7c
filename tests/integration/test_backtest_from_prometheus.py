# SPDX-License-Identifier: Apache-2.0
"""`kedastral backtest` on the history of a real Prometheus, made with promtool."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.adapters.prometheus.range_queries import PrometheusHistory, RangeQuery
from tests.backtest.loads import SHORT, call, wave
from tests.integration.conftest import PrometheusServer, prometheus_holding

pytestmark = pytest.mark.integration

STEP = 600
DAYS = 3
QUERY = "sum(load)"


@pytest.fixture
def end() -> datetime:
    """The newest sample: some hours ago, so that blocks are all there is."""
    now = int(datetime.now(UTC).timestamp())
    return datetime.fromtimestamp((now - 4 * 3600) // STEP * STEP, UTC)


@pytest.fixture
def server(tmp_path: Path, end: datetime) -> Iterator[PrometheusServer]:
    """A Prometheus that holds three days of two series, one sample every ten minutes."""
    values = wave(DAYS * 86400 // STEP, STEP)
    first = end.timestamp() - (len(values) - 1) * STEP
    half = [(first + i * STEP, value / 2) for i, value in enumerate(values)]
    with prometheus_holding(tmp_path / "prometheus", {'load{pod="a"}': half, 'load{pod="b"}': half}) as server:
        yield server


async def test_history_is_read_in_chunks_and_summed(server: PrometheusServer, end: datetime) -> None:
    asked = RangeQuery(QUERY, DAYS * 86400.0, float(STEP), float(STEP))
    async with open_prometheus_client(server.url) as client:
        series = await PrometheusHistory(client, asked, points_per_request=100).read(end + timedelta(seconds=30))
    assert len(series) == DAYS * 86400 // STEP
    assert series.values.tolist() == pytest.approx(wave(len(series), STEP))


def test_prometheus_history_is_replayed(
    server: PrometheusServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = tmp_path / "figures.json"
    flags = ("--prom-url", server.url, "--prom-query", QUERY, "--days", "4", "--json", target)
    ended = call(monkeypatch, *flags, *SHORT)
    assert (ended.code, ended.err) == (0, "")
    (one,) = json.loads(target.read_text())["workloads"]
    assert one["workload"] == "prometheus"
    assert np.isfinite(one["policies"][0]["costAgainstOracle"])


def test_a_prometheus_without_that_range_is_one_clear_line(
    server: PrometheusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for query, said in (("sum(absent_metric)", "the query matched nothing, from "), ("sum(((", "HTTP 400: bad_data")):
        ended = call(monkeypatch, "--prom-url", server.url, "--prom-query", query, *SHORT)
        assert ended.code == 2
        assert len(ended.err.splitlines()) == 1
        assert said in ended.err


def test_a_prometheus_that_is_not_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = call(monkeypatch, "--prom-url", "http://127.0.0.1:9", "--prom-query", QUERY, *SHORT)
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("kedastral: Prometheus at http://127.0.0.1:9 (query_range): ")
