# SPDX-License-Identifier: Apache-2.0
"""The replayed tick against that of the service: the same history gives the same snapshot and answer to KEDA."""

import contextlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import attrs
import httpx
import numpy as np
import pytest

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.series import Series
from kedastral.core.serving import decide
from kedastral.errors import SourceError
from kedastral.models.baseline import Baseline
from kedastral.serving.store import MemoryStore
from kedastral.simulation.policies import ForecastSchedule, Kedastral, Serving
from kedastral.simulation.trial import Scaling, View, scale_trace
from kedastral.workloads.tick import ForecastLoop, Workload
from tests.adapters.answers import client_of, matrix
from tests.simulation.demands import START, series_of

PLAN = PlanPolicy(10.0, headroom=1.2, bounds=ReplicaBounds(1, 400), up_max_factor=1.5, down_max_pct=20.0)


@attrs.define
class Now:
    """A clock set by the test, and a source that reads what the replay's policy is shown at that moment."""

    view: View
    name: str = "shown"
    speed: float = 1.0

    def now(self) -> datetime:
        return self.view.at

    async def history(self, now: datetime) -> Series:
        return self.view.history(1800.0)


async def test_the_replay_answers_what_the_service_would() -> None:
    minutes = np.arange(240)
    demand = 100 + 80 * np.sin(minutes / 20) + np.where(minutes % 60 < 5, 150.0, 0.0)
    policy = Kedastral(Baseline(), PLAN, ForecastSchedule(1800.0, 1800.0), Serving(300.0, 1.1))
    shown, store = Now(View(START, 60.0, 60.0, demand[:1], 1)), MemoryStore()
    loop = ForecastLoop(Workload("w", "m", 30, 300.0, PLAN, 1.1), shown, InProcessForecaster(Baseline()), store, shown)
    for ended in range(1, len(demand) + 1):
        shown.view = View(START, 60.0, 60.0 * ended, demand[:ended], 1)
        await loop.tick()
        served = decide(store.get("w"), shown.now(), StalePolicy()).replicas
        assert [metric.value for metric in policy.ask(shown.view)] == [served]


@attrs.define
class Prometheus:
    """A clock set by the test, and a server with the points of ``trace`` up to it, dated by the ends of their steps."""

    trace: Series
    at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    speed: float = 1.0

    def now(self) -> datetime:
        return self.at

    async def answer(self, request: httpx.Request) -> httpx.Response:
        known = {self.trace.time_at(i + 1).timestamp(): value for i, value in enumerate(self.trace.values.tolist())}
        start, end = (float(request.url.params[name]) for name in ("start", "end"))
        now = min(end, self.at.timestamp())
        points = [(at, str(value)) for at, value in known.items() if start <= at <= now and not math.isnan(value)]
        return matrix(points)(request)


async def told_by_the_service(trace: Series, steps: Sequence[int], stale: StalePolicy) -> list[float | None]:
    server, store, told = Prometheus(trace), MemoryStore(), []
    query = RangeQuery("load", WINDOW, trace.step, stale.stale_after, settle_after=0.0)
    loop = ForecastLoop(
        Workload("w", "m", 30, 300.0, PLAN, 1.1, stale=stale, interval=60.0),
        PrometheusSource(client_of(server.answer), query),
        InProcessForecaster(Baseline()),
        store,
        server,
    )
    for step in steps:
        server.at = trace.start + timedelta(seconds=(step + 1) * trace.step)
        with contextlib.suppress(SourceError):
            await loop.tick()
        told.append(decide(store.get("w"), server.at, stale).replicas)
    return told


WINDOW, BEGIN = 1800.0, 60
GAPS = (*range(100, 102), *range(150, 210), 260, *range(300, 304))
"""Shorter than `StalePolicy.stale_after`, longer than the horizon, of one minute, and a little longer than the age."""


@pytest.mark.parametrize("on_stale", OnStale)
async def test_a_gap_is_planned_as_the_service_plans_it(on_stale: OnStale) -> None:
    minutes = np.arange(400)
    loads = 100 + 80 * np.sin(minutes / 20) + np.where(minutes % 60 < 5, 150.0, 0.0)
    loads[list(GAPS)] = np.nan
    trace, stale = series_of(loads.astype(np.float32).tolist()), StalePolicy(120.0, on_stale, 7)  # kept in 32 bits
    trial = attrs.evolve(scale_trace(trace, Scaling(1 - BEGIN / 400, warm_up=0.0)), target_per_pod=10.0)
    policy = Kedastral(Baseline(), PLAN, ForecastSchedule(WINDOW, 1800.0), Serving(300.0, 1.1, stale))
    steps = range(trial.begin, 400)
    replayed = [policy.ask(trial.view((step + 1) * trace.step, ordered=1))[0].value for step in steps]
    told = await told_by_the_service(trace, steps, stale)
    just_started = 15  # the service's floor is higher until it has watched its query for a while
    assert replayed[just_started:] == told[just_started:]
    in_a_gap = 205 - BEGIN
    assert replayed[in_a_gap] == (7.0 if on_stale is OnStale.DEFAULT_MIN else None)
