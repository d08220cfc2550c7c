# SPDX-License-Identifier: Apache-2.0
"""Late points, partial answers and a start in a dip, through the whole tick: what KEDA is told."""

import math
from collections.abc import Callable
from datetime import timedelta

import attrs
import httpx
import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.errors import SourceError
from kedastral.models import MODELS
from kedastral.serving.store import MemoryStore
from kedastral.wire import dump_json, read_snapshot, write_snapshot
from kedastral.workloads.tick import ForecastLoop
from tests.adapters.answers import client_of, matrix
from tests.adapters.test_data_quality import START, LateServer
from tests.core.test_settling import rate_seen

LOAD, NEEDED = 2000.0, 20
POLICY = PlanPolicy(100.0, 1.0, ReplicaBounds(1, 500))


class CountedServer(LateServer):
    """Prometheus with ``pods(at)`` series of 100 each, of which ``share(at)`` are present."""

    def __init__(self, pods: Callable[[float], int], share: Callable[[float], float] = lambda _at: 1.0) -> None:
        super().__init__(lambda _at, _now: 0.0)
        self.begin = self.now.timestamp()
        self.pods, self.share = pods, share

    def __call__(self, request: httpx.Request) -> httpx.Response:
        start, end, step = (float(request.url.params[name]) for name in ("start", "end", "step"))
        times = (start + np.arange(round((end - start) / step) + 1) * step).tolist()
        seen = [(at, round(self.pods(at) * self.share(at))) for at in times]
        most = max(count for _, count in seen)
        return matrix(*([(at, "100") for at, count in seen if count > pod] for pod in range(most)))(request)

    def after(self, minutes: float, then: float, usual: float = 1.0, *, until: float = math.inf) -> None:
        """The share ``then`` of the series is present from some minutes after the start until others."""
        self.share = lambda at: then if minutes * 60 < at - self.begin <= until * 60 else usual


def suspicions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in (record.getMessage() for record in caplog.records) if "together with its series" in text]


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
        goal = ServiceLevelGoal() if self.model == "auto" else None
        workload = Workload("shop", "rps", 30, 300.0, POLICY, 1.0, goal, interval=30.0)
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
        """What KEDA is told after each tick.

        In the first ten minutes points may be absent for longer than the stale limit, until the delay is learned.
        """
        told = []
        for _ in range(round(minutes * 2)):
            self.server.now += timedelta(seconds=30)
            try:
                await self.loop.tick()
            except SourceError as error:
                if error.reason != "stale" or self.server.now > START + timedelta(minutes=10):
                    raise
                continue
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


@pytest.mark.parametrize("lag", [60.0, 120.0, 180.0, 300.0])
@pytest.mark.parametrize("window", [60.0, 300.0, 600.0])
@pytest.mark.parametrize("step", [15.0, 60.0, 300.0])
async def test_at_every_lag_window_and_step_a_steady_load_has_its_pods(lag: float, window: float, step: float) -> None:
    """A load of 2000 at 100 per pod: 20; points that count as load too early would make it 13 to 15."""
    told = await Site(late(lag, window), "baseline", step=step, points=240).run(25)
    assert min(told[len(told) // 2 :]) == max(told[len(told) // 2 :]) == NEEDED


async def test_a_lag_that_grows_for_an_hour_and_shrinks_again_is_followed() -> None:
    begin = LateServer(late(0.0).seen).now.timestamp()

    def lag_at(now: float) -> float:
        return 60.0 + 240.0 * max(1 - abs(now - begin - 4800.0) / 3600.0, 0.0)

    site = Site(LateServer(lambda at, now: rate_seen(at, now, lag_at(now), 300.0, LOAD)), "baseline")
    told = await site.run(80)
    assert site.snapshot.quality.settling >= 290.0
    told += await site.run(110)
    assert site.snapshot.quality.settling <= 120.0
    assert min(told) >= NEEDED - 1
    assert np.mean(np.array(told) < NEEDED) < 0.1


@settings(max_examples=6, phases=(Phase.explicit, Phase.generate))
@given(st.lists(st.floats(0, 300), min_size=4, max_size=4))
@example([0.0, 0.0, 0.0, 181.0])
@example([300.0, 0.0, 300.0, 300.0])
async def test_in_whatever_order_series_arrive_they_are_counted_when_all_are_there(lags: list[float]) -> None:
    def seen(at: float, now: float) -> float:
        arrived = sum(at <= now - lag for lag in lags)
        return LOAD / len(lags) * arrived if arrived else float("nan")

    told = await Site(LateServer(seen), "baseline").run(20)
    assert min(told) >= NEEDED - 1
    assert min(told[-10:]) == max(told[-10:]) == NEEDED


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
async def test_a_workload_without_load_for_a_while_sleeps(model: str) -> None:
    policy = attrs.evolve(POLICY, bounds=ReplicaBounds(0, 50))
    server = LateServer(lambda _at, _now: 0.0)
    begin = server.now.timestamp()
    server.seen = lambda at, _now: 0.0 if at > begin else 300.0 + 20 * np.sin(at)
    site = Site(server, model)
    site.loop = attrs.evolve(site.loop, workload=attrs.evolve(site.loop.workload, policy=policy))
    told = await site.run(90)
    assert min(told[:20]) >= 1, "not at once"
    assert told[-1] == 0
    server.seen = lambda at, _now: 300.0 if at > server.now.timestamp() - 60 else 0.0
    assert (await site.run(1))[-1] >= 3, "load wakes it at once"


@pytest.mark.parametrize(("step", "model"), [(15.0, "baseline"), (60.0, "auto"), (300.0, "baseline")])
async def test_a_sum_that_falls_with_its_series_is_said_once(
    step: float, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = CountedServer(lambda _at: 20)
    server.after(40, 0.5)
    site = Site(server, model, step, 240)
    await site.run(40)
    assert site.snapshot.findings.lost_series is None
    await site.run(20)
    lost = site.snapshot.findings.lost_series
    assert lost is not None
    assert lost.lost == lost.left == 10
    [said] = suspicions(caplog)
    assert f"20 -> 10 since {lost.since:%Y-%m-%dT%H:%M:%SZ}, while the pods stayed" in said
    assert read_snapshot(dump_json(write_snapshot(site.snapshot))).findings == site.snapshot.findings


async def test_a_raw_counter_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    server = LateServer(lambda at, _now: 5.0 * at)
    site = Site(server, "baseline")
    await site.run(90)
    assert site.snapshot.findings.raw_counter
    said = [record.getMessage() for record in caplog.records if "raw counter" in record.getMessage()]
    assert len(said) == 1
    assert "take rate() of it" in said[0]


async def test_series_that_come_back_and_go_again_are_said_again(caplog: pytest.LogCaptureFixture) -> None:
    server = CountedServer(lambda _at: 20)
    site = Site(server, "baseline")
    server.after(40, 0.5, until=60)
    await site.run(70)
    assert site.snapshot.findings.lost_series is None
    server.after(110, 0.6)
    await site.run(60)
    assert len(suspicions(caplog)) == 2


async def test_a_loss_that_stays_is_all_there_is_after_an_hour() -> None:
    server = CountedServer(lambda _at: 20)
    server.after(40, 0.5)
    site = Site(server, "baseline")
    await site.run(90)
    assert site.snapshot.findings.lost_series is not None
    await site.run(30)
    assert site.snapshot.findings.lost_series is None


@pytest.mark.parametrize("model", ["auto", "baseline"])
async def test_pods_that_kedastral_takes_away_are_no_suspicion(model: str, caplog: pytest.LogCaptureFixture) -> None:
    """There are as many pods as KEDA was told two minutes ago; each has a series with an equal part of the load."""
    server = CountedServer(lambda _at: 0)
    site = Site(server, model)
    told: dict[float, int] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        start, end, step = (float(request.url.params[name]) for name in ("start", "end", "step"))
        times = (start + np.arange(round((end - start) / step) + 1) * step).tolist()
        pods = {at: next((told[t] for t in sorted(told, reverse=True) if t <= at - 120), 20) for at in times}
        load = {
            at: 2000.0 if at < server.begin + 2400 else max(2000.0 - (at - server.begin - 2400), 500.0) for at in times
        }
        most = max(pods.values())
        return matrix(*([(at, str(load[at] / pods[at])) for at in times if pods[at] > n] for n in range(most)))(request)

    site.loop = attrs.evolve(
        site.loop, source=PrometheusSource(client_of(answer), RangeQuery("x", 21600.0, 60.0, 120.0))
    )
    for _ in range(160):
        await site.run(0.5)
        told[server.now.timestamp()] = replicas_at(site.snapshot, server.now)
    assert told[server.now.timestamp()] <= 8, "it has scaled down"
    assert not suspicions(caplog)


async def test_pods_that_another_autoscaler_takes_away_in_mode_observe_are_no_suspicion(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = CountedServer(lambda _at: 20)
    server.after(40, 0.4)
    site = Site(server, "baseline")
    workload = attrs.evolve(site.loop.workload, stale=StalePolicy(mode=Mode.OBSERVE))
    site.loop = attrs.evolve(site.loop, workload=workload)
    await site.run(60)
    assert site.snapshot.findings.lost_series is None
    assert not suspicions(caplog)
    assert len(site.loop.series.told) == 119, "what was planned is known to charts after a restart"


@pytest.mark.parametrize(("on_stale", "known"), [(OnStale.DEFAULT_MIN, 0), (OnStale.RIDE_FORECAST, 41)])
async def test_what_keda_was_told_is_unknown_once_it_was_told_the_default_minimum(
    on_stale: OnStale, known: int
) -> None:
    site = Site(CountedServer(lambda _at: 20), "baseline")
    workload = attrs.evolve(site.loop.workload, stale=StalePolicy(on_stale=on_stale))
    site.loop = attrs.evolve(site.loop, workload=workload)
    await site.run(20.5)
    site.server.now += timedelta(seconds=150)
    await site.run(0.5)
    assert len(site.loop.series.told) == known


async def test_a_rolling_update_is_no_suspicion(caplog: pytest.LogCaptureFixture) -> None:
    """Twice the series for five minutes, and a load that dips by a third as pods restart."""
    server = CountedServer(lambda _at: 20)
    server.after(60, 2.0, until=65)
    site = Site(server, "baseline")
    await site.run(64)
    server.after(65, 0.65, until=66)
    await site.run(60)
    assert not suspicions(caplog)


async def test_one_series_whose_load_falls_is_no_suspicion(caplog: pytest.LogCaptureFixture) -> None:
    server = LateServer(lambda _at, _now: LOAD)
    site = Site(server, "baseline")
    await site.run(40)
    begin = server.now.timestamp()
    server.seen = lambda at, _now: LOAD / 4 if at > begin else LOAD
    await site.run(20)
    assert not suspicions(caplog)


async def test_a_load_that_falls_while_its_series_stay_is_no_suspicion(caplog: pytest.LogCaptureFixture) -> None:
    server = CountedServer(lambda _at: 20)
    site = Site(server, "baseline")
    await site.run(40)
    begin = server.now.timestamp()

    def answer(request: httpx.Request) -> httpx.Response:
        start, end, step = (float(request.url.params[name]) for name in ("start", "end", "step"))
        times = (start + np.arange(round((end - start) / step) + 1) * step).tolist()
        return matrix(*([(at, "25" if at > begin else "100") for at in times] for _ in range(20)))(request)

    site.loop = attrs.evolve(
        site.loop, source=PrometheusSource(client_of(answer), RangeQuery("x", 21600.0, 60.0, 120.0))
    )
    await site.run(20)
    assert not suspicions(caplog)


@pytest.mark.parametrize("model", ["auto", "baseline"])
@pytest.mark.parametrize("before", [0.0, 3.0], ids=["at once", "partial before"])
async def test_a_wild_point_of_a_partial_answer_is_no_lower_bound(model: str, before: float) -> None:
    server = LateServer(lambda _at, _now: LOAD)
    site = Site(server, model)
    usual = max(await site.run(20))
    server.more = {"isPartial": True}
    await site.run(before)
    begin = server.now.timestamp()
    server.seen = lambda at, _now: LOAD * 1000 if begin < at <= begin + 60 else LOAD / 2
    told = await site.run(30)
    assert NEEDED <= min(told) <= max(told) <= usual
    assert site.snapshot.quality.at_least is not None, "the answer is still partial"


@pytest.mark.parametrize("model", ["auto", "baseline"])
async def test_a_partial_answer_whose_jump_lasts_is_believed(model: str) -> None:
    server = LateServer(lambda _at, _now: LOAD)
    site = Site(server, model)
    await site.run(20)
    begin = server.now.timestamp()
    server.more, server.seen = {"isPartial": True}, lambda at, _now: LOAD * 20 if at > begin else LOAD
    told = await site.run(5)
    assert max(told[:2]) < 20 * NEEDED
    assert told[-1] >= 20 * NEEDED


# readings that differ though nothing is late


def quadrupled(server: LateServer, minutes: float) -> Callable[[float], float]:
    """The load, four times as high from the given minute after the start."""
    begin = server.now.timestamp() + minutes * 60
    return lambda at: LOAD * 4 if at >= begin else LOAD


@pytest.mark.parametrize("model", ["auto", "baseline"])
async def test_a_failover_to_a_server_that_reads_less_is_no_lag(model: str) -> None:
    site = Site(LateServer(lambda _at, _now: LOAD), model)
    failover = site.server.now.timestamp() + 1200
    load = quadrupled(site.server, 25)
    site.server.seen = lambda at, now: load(at) * (0.95 if now >= failover else 1.0)
    await site.run(25)
    assert site.snapshot.quality.settling == 0
    told = await site.run(5)
    assert told[-1] >= NEEDED * 4 * 0.95


@pytest.mark.parametrize("model", ["auto", "baseline"])
@pytest.mark.parametrize("apart", [0.03, 0.06, 0.2])
async def test_two_servers_that_answer_in_turn_hide_no_load(model: str, apart: float) -> None:
    """Even if their differences look like a lag: a point that has not settled is a lower bound."""
    site = Site(LateServer(lambda _at, _now: LOAD), model)
    load = quadrupled(site.server, 25)
    site.server.seen = lambda at, now: load(at) * (1 + apart * (round(now / 30) % 2) * (round(at / 60) % 3 > 0))
    await site.run(25)
    told = await site.run(6)
    assert told[-1] >= NEEDED * 4


async def test_one_empty_answer_is_no_lag() -> None:
    site = Site(LateServer(lambda _at, _now: LOAD), "baseline")
    await site.run(20)
    site.server.seen = lambda _at, _now: float("nan")
    with pytest.raises(SourceError):
        await site.run(0.5)
    site.server.seen = lambda _at, _now: LOAD
    assert set(await site.run(5)) == {NEEDED}
    assert site.snapshot.quality.settling == 0


@pytest.mark.parametrize("wild", [20.0, 1e9])
async def test_a_wild_point_that_has_not_settled_raises_nothing(wild: float) -> None:
    site = Site(late(120.0), "baseline")
    await site.run(30)
    bad = site.server.now.timestamp() + 60
    usual = site.server.seen
    site.server.seen = lambda at, now: usual(at, now) * (wild if abs(at - bad) < 30 else 1.0)
    assert max(await site.run(10)) == NEEDED


@pytest.mark.parametrize("model", ["auto", "baseline"])
async def test_a_start_while_answers_are_partial_waits_for_a_complete_one(model: str) -> None:
    site = Site(LateServer(lambda _at, _now: LOAD * 0.3), model)
    site.server.more = {"isPartial": True}
    await site.run(5)
    assert site.snapshot.withheld
    site.server.seen, site.server.more = (lambda _at, _now: LOAD), {}
    told = await site.run(2)
    assert not site.snapshot.withheld
    assert told[-1] >= NEEDED
