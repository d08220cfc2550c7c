# SPDX-License-Identifier: Apache-2.0
"""What reaches the planner is the load, or is known not to be: late points and partial answers."""

import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest

from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.series import Observation, Series
from kedastral.errors import SourceError
from tests.adapters.answers import client_of, matrix
from tests.core.test_settling import rate_seen

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
LOAD = 2000.0


class LateServer:
    """Prometheus with samples that arrive ``lag`` seconds late; ``seen(at, now)`` is what a query at ``now`` reads."""

    def __init__(self, seen: Callable[[float, float], float]) -> None:
        self.now = START
        self.seen = seen
        self.more: dict[str, object] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        start, end, step = (float(request.url.params[name]) for name in ("start", "end", "step"))
        times = start + np.arange(round((end - start) / step) + 1) * step
        values = [(at, self.seen(at, self.now.timestamp())) for at in times.tolist()]
        points = [(at, str(value)) for at, value in values if math.isfinite(value)]
        return matrix(points, **self.more)(request)

    async def run(self, source: PrometheusSource, minutes: float, interval: float = 30.0) -> Series:
        """Tick for so many minutes; returns the newest history.

        In the first ten minutes points may be absent for longer than ``stale_after``, until that is learned.
        """
        for _ in range(round(minutes * 60 / interval)):
            self.now += timedelta(seconds=interval)
            try:
                history = await source.history(self.now)
            except SourceError as error:
                if error.reason != "stale" or self.now > START + timedelta(minutes=10):
                    raise
        return history


def source_of(server: LateServer, step: float = 60.0, settle_after: float | None = None) -> PrometheusSource:
    query = RangeQuery("sum(rate(x[5m]))", 120 * step, step, 120.0, settle_after)
    return PrometheusSource(client_of(server), query)


def late(lag: float, window: float = 300.0) -> LateServer:
    return LateServer(lambda at, now: rate_seen(at, now, lag, window, LOAD))


async def test_the_history_knows_the_range_of_its_query() -> None:
    server = late(0.0)
    assert (await server.run(source_of(server), 1)).quality.range == 300.0


@pytest.mark.parametrize("lag", [60.0, 120.0, 180.0, 300.0])
@pytest.mark.parametrize("window", [60.0, 300.0, 600.0])
@pytest.mark.parametrize("step", [15.0, 60.0, 300.0])
async def test_points_that_still_rise_are_not_the_load(lag: float, window: float, step: float) -> None:
    server = late(lag, window)
    source = source_of(server, step)
    history = await server.run(source, 60 if step < 300 else 240)
    assert history.newest is not None
    assert history.newest.value >= LOAD * 0.97
    assert history.time_at(len(history) - 1) > server.now - timedelta(seconds=step), "the grid ends now"
    assert (server.now - history.newest.at).total_seconds() <= lag + 30 + 2 * step


async def test_what_is_learned_is_said_once_and_is_in_the_history(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kedastral.source")
    server = late(120.0)
    history = await server.run(source_of(server), 60)
    assert 120.0 <= history.quality.settling <= 150.0
    told = [record.getMessage() for record in caplog.records if "settle" in record.getMessage()]
    assert told[-1].startswith(
        f"points settle after {history.quality.settling:.0f} s; younger ones only raise the floor"
    )
    assert told[-1].endswith("query: sum(rate(x[5m]))")
    assert len(told) <= 3


async def test_three_of_four_series_that_are_late_are_waited_for() -> None:
    server = LateServer(lambda at, now: 500.0 + (1500.0 if at <= now - 150.0 else 0.0))
    history = await server.run(source_of(server), 30)
    assert history.newest is not None
    assert history.newest.value == LOAD


async def test_a_settling_time_that_is_set_is_not_learned() -> None:
    server = late(120.0)
    history = await server.run(source_of(server, settle_after=0.0), 30)
    assert history.newest is not None
    assert history.newest.value < LOAD * 0.9, "the user has said that points are right at once"


async def test_late_points_are_not_stale_for_being_late() -> None:
    server = late(300.0)
    await server.run(source_of(server), 30)


async def test_a_source_that_stops_is_stale_all_the_same() -> None:
    server = late(120.0)
    source = source_of(server)
    await server.run(source, 30)
    stopped = server.now.timestamp()
    server.seen = lambda at, now: rate_seen(at, min(now, stopped), 120.0, 300.0) if at <= stopped else math.nan
    with pytest.raises(SourceError, match="old, more than the") as caught:
        await server.run(source, 15)
    assert caught.value.reason == "stale"


@pytest.mark.parametrize(
    "more",
    [
        {"isPartial": True},
        {"warnings": ["No StoreAPIs matched for this query"]},
        {"warnings": ["receive series from Addr: store-1: rpc error: code = Unavailable"]},
    ],
)
async def test_a_partial_answer_is_a_lower_bound_and_nothing_else(more: dict[str, object]) -> None:
    server = LateServer(lambda _at, _now: LOAD)
    source = source_of(server)
    whole = await server.run(source, 30)
    server.seen, server.more = (lambda _at, _now: LOAD / 2), more
    history = await server.run(source, 10)
    assert history.newest is not None
    assert history.newest.value == LOAD, "what was known before stays"
    assert whole.newest is not None
    assert history.newest.at == whole.newest.at
    assert history.quality.at_least == Observation(history.time_at(len(history) - 1), LOAD / 2)
    assert np.isnan(history.values[-10:]).all()
    server.seen, server.more = (lambda _at, _now: LOAD), {}
    history = await server.run(source, 1)
    assert (history.values[-30:] == LOAD).all(), "the minutes that were partial are read again"
    assert history.quality.at_least is None


@pytest.mark.parametrize(
    "more",
    [
        {"warnings": ["PromQL warning: encountered a mix of histograms and floats"]},
        {"infos": ['PromQL info: metric might not be a counter: "x"']},
        {"isPartial": False},
    ],
)
async def test_annotations_of_the_query_are_not_taken_for_a_partial_answer(more: dict[str, object]) -> None:
    server = LateServer(lambda _at, _now: LOAD)
    source = source_of(server)
    await server.run(source, 5)
    server.more = more
    history = await server.run(source, 5)
    assert history.quality.at_least is None
    assert np.isfinite(history.values).all()


async def test_answers_that_stay_partial_are_an_error_after_an_hour() -> None:
    server = LateServer(lambda _at, _now: LOAD)
    source = source_of(server)
    await server.run(source, 30)
    server.more = {"isPartial": True}
    await server.run(source, 55)
    with pytest.raises(SourceError, match="have been partial for") as caught:
        await server.run(source, 10)
    assert caught.value.reason == "partial"


async def test_where_nothing_is_known_a_partial_answer_is_better_than_none() -> None:
    server = LateServer(lambda _at, _now: LOAD)
    server.more = {"isPartial": True}
    history = await server.run(source_of(server), 0.5)
    assert history.newest is not None
    assert history.quality.at_least is not None


RANGES = {
    "sum(rate(x[5m]))": 300.0,
    'sum(increase(x{a="[9m]"}[90s])) / 60': 90.0,
    "max(sum_over_time ( y[8m20s:1m] ))": 500.0,
    "rate(x[1h])": 600.0,
    "rate(x[1m]) + rate(x[10m])": 600.0,
    "avg_over_time(y[5m])": 0.0,
    "job:requests:rate5m": 0.0,
    "sum(rate(x[1m])) # rate(x[5m]) isn't": 60.0,
}


@pytest.mark.parametrize("query", RANGES)
def test_the_range_over_which_a_query_adds_up_is_read_from_it(query: str) -> None:
    assert RangeQuery(query, 3600, 60, 120).range == RANGES[query]


@pytest.mark.parametrize("query", ['"' + '\\"' * 32_000, "rate([" * 10_000, "rate(x[" + "1" * 60_000 + "])"])
def test_the_range_of_a_hostile_query_is_read_at_once(query: str) -> None:
    began = time.perf_counter()
    assert RangeQuery(query, 3600, 60, 120).range == 0
    assert time.perf_counter() - began < 1


def after_an_outage(begin: float, end: float, window: float) -> LateServer:
    """``rate(x[window])`` of a load of `LOAD` where nothing was scraped from ``begin`` to ``end``."""

    def seen(at: float, now: float) -> float:
        scraped = max(0.0, min(at, begin) - (at - window)) + max(0.0, at - max(end, at - window))
        return LOAD * scraped / window if scraped > 0 and at <= now else math.nan

    return LateServer(seen)


@pytest.mark.parametrize("window", [120.0, 300.0])
async def test_the_first_points_after_an_outage_are_lower_bounds(window: float) -> None:
    begin = START.timestamp() + 600
    server = after_an_outage(begin, begin + 1200, window)
    server.now = START + timedelta(seconds=1800 + window - 1)
    source = PrometheusSource(client_of(server), RangeQuery(f"sum(rate(x[{window:g}s]))", 7200, 60, 120))
    with pytest.raises(SourceError, match=f"rest on a range of {window:g} s that reaches into an outage"):
        await source.history(server.now)
    server.now += timedelta(seconds=61)
    history = await source.history(server.now)
    known = history.values[np.isfinite(history.values)]
    assert known.min() == known.max() == LOAD


@pytest.mark.parametrize("window", [120.0, 300.0])
async def test_the_last_points_before_an_outage_are_lower_bounds_as_soon_as_one_is_missing(window: float) -> None:
    begin = START.timestamp() + 3615
    server = after_an_outage(begin, math.inf, window)
    source = PrometheusSource(client_of(server), RangeQuery(f"sum(rate(x[{window:g}s]))", 7200, 60, 120))
    server.now = START + timedelta(seconds=3605 + window)
    falling = await source.history(server.now)
    assert falling.least_load < LOAD, "it may fall: no value is missing yet"
    server.now += timedelta(minutes=1)
    history = await source.history(server.now)
    known = history.values[np.isfinite(history.values)]
    assert known.min() == known.max() == LOAD
    assert history.quality.unsettled is not None
    assert 0 < np.nanmax(history.quality.unsettled.values) <= LOAD
    server.now += timedelta(minutes=2, seconds=1)
    with pytest.raises(
        SourceError, match=f"those before it rest on a range of {window:g} s that reaches into an outage"
    ):
        await source.history(server.now)


@pytest.mark.parametrize("window", [60.0, 300.0])
async def test_a_short_outage_is_bridged(window: float) -> None:
    begin = START.timestamp() + 3600
    server = after_an_outage(begin, begin + window + 30, window)
    server.now = START + timedelta(seconds=3600)
    source = PrometheusSource(client_of(server), RangeQuery(f"sum(rate(x[{window:g}s]))", 7200, 60, 120))
    history = await server.run(source, 2 * window / 60 + 10)
    known = history.values[np.isfinite(history.values)]
    assert known.min() == known.max() == LOAD


async def test_the_first_points_of_a_new_workload_are_better_than_nothing() -> None:
    server = after_an_outage(0, START.timestamp(), 300)
    server.now = START + timedelta(seconds=125)
    history = await PrometheusSource(client_of(server), RangeQuery("rate(x[5m])", 7200, 60, 120)).history(server.now)
    assert history.newest is not None
    assert 0 < history.newest.value < LOAD
