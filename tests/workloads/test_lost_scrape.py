# SPDX-License-Identifier: Apache-2.0
"""A target that Prometheus no longer scrapes, or a renamed counter: `rate()` falls over its range and then disappears.

What KEDA is told meanwhile, by the plan of the last tick before the values are too old, and when samples are back.
"""

import math
from collections.abc import Callable
from datetime import datetime, timedelta

import attrs
import pytest

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.serving import decide
from kedastral.errors import WorkloadError
from kedastral.models import MODELS
from kedastral.serving.recent import RecentLoad
from kedastral.serving.store import MemoryStore
from kedastral.workloads.guarded_tick import GuardedTick
from kedastral.workloads.tick import ForecastLoop
from tests.adapters.answers import client_of
from tests.adapters.test_data_quality import LateServer

LOAD, NEEDED = 2000.0, 20
SCRAPED_EVERY = 15.0
POLICY = PlanPolicy(100.0, 1.0, ReplicaBounds(1, 500))
RIDING = StalePolicy(120.0, OnStale.RIDE_FORECAST, 2)
MINUTE = 60.0


def scraped_until(lost: float, back: float, window: float, load: Callable[[float], float]) -> LateServer:
    """``rate(x[window])`` of ``load``, of which there are no samples from ``lost`` to ``back`` (epoch seconds)."""

    def seen(at: float, now: float) -> float:
        if at > now:
            return math.nan
        covered = max(min(at, lost) - (at - window), 0.0) + max(at - max(back, at - window), 0.0)
        if covered < SCRAPED_EVERY:
            return math.nan  # rate() needs two samples
        return load(at) * min(covered + SCRAPED_EVERY / 2, window) / window

    return LateServer(seen)


@attrs.define
class Site:
    """One workload whose Prometheus is ``server``, ticked every minute, a few seconds after the minute."""

    server: LateServer
    query: str
    model: str = "auto"
    floor: bool = True
    step: float = MINUTE
    interval: float = MINUTE
    errors: list[str] = attrs.field(factory=list)
    speed: float = 1.0
    store: MemoryStore = attrs.field(factory=MemoryStore)
    recent: RecentLoad = attrs.field(factory=RecentLoad)
    """What charts show."""
    tick: GuardedTick = attrs.field(init=False)

    @tick.default
    def _make_tick(self) -> GuardedTick:
        floor, goal = 1.0 if self.floor else None, ServiceLevelGoal() if self.model == "auto" else None
        workload = Workload("shop", "rps", 30, 300.0, POLICY, floor, goal, RIDING, self.interval)
        source = PrometheusSource(client_of(self.server), RangeQuery(self.query, 6 * 3600, self.step, 120.0))
        loop = ForecastLoop(
            workload,
            source,
            InProcessForecaster(MODELS[self.model].make(), None),
            self.store,
            self,  # type: ignore[arg-type]
            remember=self.recent.record,
        )
        return GuardedTick(loop, self._note)

    def _note(self, error: WorkloadError) -> None:
        self.errors.append(error.reason)

    def now(self) -> datetime:
        """See `kedastral.clock.WallClock.now`: the clock of the scripted server."""
        return self.server.now

    async def run(self, until: float) -> list[int | None]:
        """Tick until ``until`` (epoch seconds); what KEDA is told, every ten seconds."""
        told: list[int | None] = []
        while self.server.now.timestamp() < until:
            self.server.now += timedelta(seconds=10)
            if self.server.now.timestamp() % self.interval < 10:
                await self.tick.tick()
            told.append(decide(self.store.get("shop"), self.server.now, RIDING).replicas)
        return told


@pytest.mark.parametrize("model", ["auto", "baseline"])
@pytest.mark.parametrize(("window", "step"), [(60.0, 300.0), (300.0, 300.0), (600.0, 60.0), (60.0, 15.0)])
async def test_other_ranges_and_steps_are_no_different(window: float, step: float, model: str) -> None:
    site = Site(scraped_until(math.inf, math.inf, window, steady), f"sum(rate(x[{window:g}s]))", model, step=step)
    begin = site.server.now.timestamp()
    await site.run(begin + 600)
    site.server.seen = scraped_until(begin + 640, math.inf, window, steady).seen
    await site.run(begin + 640 + window + 2 * step)
    assert min(told_numbers(await site.run(begin + 640 + window + 2 * step + 360))) >= NEEDED


def told_numbers(told: list[int | None]) -> list[int]:
    return [each for each in told if each is not None]


def steady(_at: float) -> float:
    return LOAD


@pytest.mark.parametrize("model", ["auto", "baseline"])
@pytest.mark.parametrize("floor", [True, False], ids=["floor", "no floor"])
@pytest.mark.parametrize("second", [3.0, 52.0])
@pytest.mark.parametrize("window", [60.0, 120.0, 300.0])
async def test_while_nothing_is_scraped_the_plan_of_before_is_ridden(
    window: float, second: float, floor: bool, model: str
) -> None:
    site = Site(scraped_until(math.inf, math.inf, window, steady), f"sum(rate(x[{window:g}s]))", model, floor)
    begin = site.server.now.timestamp()
    await site.run(begin + 600)
    lost = begin + 600 + second
    site.server.seen = scraped_until(lost, math.inf, window, steady).seen
    await site.run(lost + window + 2 * MINUTE)  # the range has passed: the values have disappeared
    ridden = await site.run(lost + window + 30 * MINUTE)
    assert site.errors
    assert set(site.errors) <= {"stale", "empty"}
    assert min(told_numbers(ridden)) >= NEEDED, "the plan of the last tick is for the load of before"
    assert ridden[-1] is None, "in the end the plan no longer covers the lead time"


@pytest.mark.parametrize("model", ["auto", "baseline"])
async def test_a_load_that_falls_is_followed(model: str) -> None:
    site = Site(scraped_until(math.inf, math.inf, 300.0, steady), "sum(rate(x[5m]))", model)
    begin = site.server.now.timestamp()
    await site.run(begin + 600)
    site.server.seen = lambda at, now: max(LOAD - max(at - begin - 600, 0.0), 500.0) if at <= now else math.nan
    told = await site.run(begin + 2 * 3600)
    assert told[-1] is not None
    assert told[-1] < NEEDED / 2
    assert not site.errors


async def test_the_last_values_of_a_gauge_are_its_load_however_it_ends() -> None:
    site = Site(scraped_until(math.inf, math.inf, 300.0, steady), "sum(queue_length)", "baseline")
    begin = site.server.now.timestamp()
    await site.run(begin + 600)
    ends = begin + 900
    site.server.seen = lambda at, now: (
        max(LOAD - max(at - begin - 600, 0.0) * 5, 500.0) if at <= min(now, ends) else math.nan
    )
    ridden = await site.run(begin + 1300)
    assert ridden[-1] is not None
    assert ridden[-1] <= NEEDED / 2
    assert set(site.errors) <= {"stale", "empty"}


@pytest.mark.parametrize("model", ["auto", "baseline"])
@pytest.mark.parametrize("minutes", [1, 8, 15])
async def test_when_samples_are_back_they_raise_the_floor_before_there_is_a_new_plan(minutes: int, model: str) -> None:
    """The load has doubled meanwhile: three minutes of samples of five show six fifths of the load of before."""
    site = Site(scraped_until(math.inf, math.inf, 300.0, steady), "sum(rate(x[5m]))", model)
    begin = site.server.now.timestamp()
    await site.run(begin + 600)
    lost = begin + 605
    back = lost + 300 + minutes * MINUTE
    site.server.seen = scraped_until(lost, back, 300.0, lambda at: LOAD if at < back else 2 * LOAD).seen
    before = told_numbers(await site.run(back))[-1]
    told = told_numbers(await site.run(back + 240))
    assert min(told) >= min(before, NEEDED)
    assert max(told) >= NEEDED * 6 / 5
    assert told[-1] >= NEEDED * 7 / 5
    snapshot = site.store.get("shop")
    assert snapshot is not None
    assert snapshot.observed is not None
    assert max(site.recent.planned[-2:]) == max(told), "charts show the raised floor"
    told = told_numbers(await site.run(back + 420))
    assert told[-1] >= 2 * NEEDED
    assert set(site.errors) <= {"stale", "empty"}


async def test_a_lower_bound_without_a_floor_raises_nothing() -> None:
    site = Site(scraped_until(math.inf, math.inf, 300.0, steady), "sum(rate(x[5m]))", "baseline", floor=False)
    begin = site.server.now.timestamp()
    await site.run(begin + 600)
    site.server.seen = scraped_until(
        begin + 605, begin + 1500, 300.0, lambda at: LOAD if at < begin + 1500 else 9e3
    ).seen
    await site.run(begin + 1740)
    snapshot = site.store.get("shop")
    assert snapshot is not None
    assert snapshot.floor is None
