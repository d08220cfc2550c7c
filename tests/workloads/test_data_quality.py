# SPDX-License-Identifier: Apache-2.0
"""Late points, partial answers and a start in a dip, through the whole tick: what KEDA is told of them."""

from collections.abc import Callable
from datetime import timedelta

import attrs
import numpy as np
import pytest

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelSettings, SteeringSettings
from kedastral.core.serving import Snapshot, replicas_at
from kedastral.models import MODELS
from kedastral.serving.store import MemoryStore
from kedastral.workloads.tick import ForecastLoop
from tests.adapters.answers import client_of
from tests.adapters.test_data_quality import LateServer
from tests.core.test_settling import rate_seen

LOAD, NEEDED = 2000.0, 20
POLICY = PlanPolicy(100.0, 1.0, ReplicaBounds(1, 500))


@attrs.frozen
class ServerClock:
    """The wall clock of the scripted server."""

    server: LateServer
    speed: float = 1.0

    def now(self):
        return self.server.now


@attrs.define
class Site:
    """One workload whose Prometheus is ``server``, ticked every 30 seconds."""

    server: LateServer
    model: str = "auto"
    step: float = 60.0
    points: int = 360
    store: MemoryStore = attrs.field(factory=MemoryStore)
    loop: ForecastLoop = attrs.field(init=False)

    @loop.default
    def _loop(self) -> ForecastLoop:
        query = RangeQuery("sum(rate(x[5m]))", self.points * self.step, self.step, 120.0)
        settings = ServiceLevelSettings(SteeringSettings(POLICY, 0.99, 300.0), interval=30.0)
        by_level = settings if self.model == "auto" else None
        workload = Workload("shop", "rps", 30, 300.0, POLICY, 1.0, by_level)
        source = PrometheusSource(client_of(self.server), query)
        model = InProcessForecaster(MODELS[self.model].make(), None)
        return ForecastLoop(workload, source, model, self.store, ServerClock(self.server))

    @property
    def snapshot(self) -> Snapshot:
        """The newest."""
        snapshot = self.store.get("shop")
        assert snapshot is not None
        return snapshot

    async def run(self, minutes: float) -> list[int]:
        """What KEDA is told after each tick."""
        told = []
        for _ in range(round(minutes * 2)):
            self.server.now += timedelta(seconds=30)
            await self.loop.tick()
            told.append(replicas_at(self.snapshot, self.server.now))
        return told


def late(lag: float, window: float = 300.0) -> LateServer:
    return LateServer(lambda at, now: rate_seen(at, now, lag, window, LOAD))


@pytest.mark.parametrize("model", ["auto", "baseline"])
@pytest.mark.parametrize("lag", [60.0, 120.0, 180.0, 300.0])
async def test_a_steady_load_that_is_seen_late_has_its_pods_from_the_first_tick(lag: float, model: str) -> None:
    site = Site(late(lag), model)
    told = await site.run(40)
    assert min(told) >= NEEDED * (1 if model == "auto" else 0.95)
    assert site.snapshot.quality.settling >= lag


@pytest.mark.parametrize(("window", "step"), [(60.0, 15.0), (600.0, 60.0), (300.0, 300.0)])
async def test_other_rate_windows_and_steps_are_no_different(window: float, step: float) -> None:
    told = await Site(late(120.0, window), step=step, points=240).run(40)
    assert min(told) >= NEEDED


async def test_three_of_four_series_that_are_late_are_counted_when_they_are_there() -> None:
    server = LateServer(lambda at, now: 500.0 + (1500.0 if at <= now - 150.0 else 0.0))
    assert min(await Site(server).run(40)) >= NEEDED


async def test_a_rise_that_is_seen_late_is_followed_from_when_it_is_seen() -> None:
    """The lead time is counted from now: the forecast bridges the minutes that have not settled."""
    start = LateServer(late(120.0).seen).now.timestamp()

    def ramp(at: float) -> float:
        return 1000.0 + max(at - start, 0.0) / 60 * 20.0

    server = LateServer(lambda at, now: rate_seen(at, now, 120.0, 60.0, 1.0) * ramp(at))
    site = Site(server)
    await site.run(60)
    forecast, now = site.snapshot.forecast, server.now.timestamp()
    assert forecast.values[5] == pytest.approx(ramp(now + 330.0), rel=0.05)


@pytest.mark.parametrize("model", ["auto", "baseline"])
@pytest.mark.parametrize("minutes", [5, 20, 50])
async def test_half_an_answer_lowers_nothing(model: str, minutes: int) -> None:
    server = LateServer(lambda _at, _now: LOAD)
    site = Site(server, model)
    await site.run(20)
    server.seen, server.more = (lambda _at, _now: LOAD / 2), {"isPartial": True}
    told = await site.run(minutes)
    assert min(told) >= NEEDED
    assert site.snapshot.quality.at_least is not None


@pytest.mark.parametrize("model", ["auto", "baseline"])
async def test_a_partial_answer_raises_what_is_told(model: str) -> None:
    server = LateServer(lambda _at, _now: LOAD)
    site = Site(server, model)
    await site.run(20)
    server.seen, server.more = (lambda _at, _now: 2 * LOAD), {"warnings": ["store-1 is unavailable"]}
    assert (await site.run(1))[-1] >= 2 * NEEDED


async def test_a_partial_answer_neither_steers_nor_is_judged() -> None:
    server = LateServer(lambda _at, _now: LOAD)
    site = Site(server)
    await site.run(20)
    before = site.snapshot.service_level
    server.seen, server.more = (lambda _at, _now: LOAD / 2), {"isPartial": True}
    await site.run(20)
    after = site.snapshot.service_level
    assert before is not None
    assert after is not None
    assert after.state.steering.minutes - before.state.steering.minutes <= 2
    assert after.state.uncertainty.model.windows - before.state.uncertainty.model.windows <= 2


@pytest.mark.parametrize("model", ["auto", "baseline"])
async def test_a_start_in_the_dip_of_a_rollout_keeps_the_pods_of_before(model: str) -> None:
    def dipping(begin: float) -> Callable[[float, float], float]:
        return lambda at, _now: LOAD / 4 if at > begin - 180.0 else LOAD

    server = LateServer(lambda _at, _now: LOAD)
    server.seen = dipping(server.now.timestamp())
    told = await Site(server, model).run(0.5)
    assert told[0] >= NEEDED


@pytest.mark.parametrize("model", ["auto", "baseline"])
async def test_a_workload_without_load_for_a_quarter_of_an_hour_sleeps(model: str) -> None:
    policy = attrs.evolve(POLICY, bounds=ReplicaBounds(0, 50))
    server = LateServer(lambda _at, _now: 0.0)
    begin = server.now.timestamp()
    server.seen = lambda at, _now: 0.0 if at > begin else 300.0 + 20 * np.sin(at)
    site = Site(server, model)
    workload = attrs.evolve(site.loop.workload, policy=policy)
    if workload.service_level is not None:
        steering = SteeringSettings(policy, 0.99, 300.0)
        workload = attrs.evolve(workload, service_level=ServiceLevelSettings(steering, interval=30.0))
    site.loop = ForecastLoop(workload, site.loop.source, site.loop.forecaster, site.store, site.loop.clock)
    told = await site.run(90)
    assert min(told[:20]) >= 1, "not at once"
    assert told[-1] == 0
    server.seen = lambda at, _now: 300.0 if at > server.now.timestamp() - 60 else 0.0
    assert (await site.run(1))[-1] >= 3, "load wakes it at once"
