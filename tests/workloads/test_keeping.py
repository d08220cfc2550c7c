# SPDX-License-Identifier: Apache-2.0
"""One process ends, the next one continues: what is saved, what is queried again, and what new settings discard."""

import logging
import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import httpx
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from kedastral import __version__
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.clock import AcceleratedClock
from kedastral.compose import Common, Storage, make_forecasting, services_of
from kedastral.core.kept_state import KeptHistory, KeptModel, KeptState, SourceState, adapt_state, starts_afresh
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stale_policy import OnStale
from kedastral.core.planning.steering import SteeringState
from kedastral.core.planning.uncertainty import Calibration, UncertaintyState
from kedastral.core.ports import StateStore
from kedastral.core.series import Series
from kedastral.core.serving import decide
from kedastral.core.trigger import ObjectRef
from kedastral.errors import StoreError
from kedastral.logs import REPEAT_AFTER
from kedastral.models import MODELS
from kedastral.models.auto import AutoModel
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.settings.commands import RunSettings
from kedastral.settings.declarations import (
    ForecastSettings,
    ModelName,
    PlanSettings,
    PrometheusLogin,
    ScaledObjectSettings,
    ServiceLevel,
    ServingSettings,
    StaleSettings,
)
from kedastral.settings.fleet import ConfiguredFleet, DataSourceSettings, FleetSettings, WorkloadSettings
from kedastral.settings.load import load
from kedastral.settings.types import Header, HttpUrl, Name, QueryParam
from kedastral.workloads import keeping, planning_settings
from kedastral.workloads.data_sources import DataSources
from kedastral.workloads.fleet import Fleet
from kedastral.workloads.forecasting import Forecasting
from kedastral.workloads.keeping import FORGET_AFTER, HISTORY_EVERY, SWEEP_EVERY, StateKeeper
from kedastral.workloads.runner import RunnerBuilder, WorkloadRunner
from kedastral.workloads.scaledobject_workloads import REMOVE_AFTER, TriggerReader
from kedastral.workloads.training import TrainedForecaster
from tests.adapters.answers import Reply, Server, client_of, counting, matrix, reply
from tests.docs.pages import ROOT
from tests.kept import MemoryStates, make_kept_history, make_kept_state
from tests.parts import START, make_history, make_snapshot

GONE = reply(503)
INTERVAL = 30.0


def shop(name: str = "shop", **changes: Any) -> WorkloadSettings:
    """A workload with the model baseline, which needs no thread; ``changes`` are keyed by the field of their group."""

    def group(kind: type[Any], **defaults: Any) -> Any:
        known = {field.name for field in attrs.fields(kind)}
        return kind(**{**defaults, **{key: value for key, value in changes.items() if key in known}})

    return WorkloadSettings(
        workload=Name(name),
        query=changes.get("query", "up"),
        forecast=group(ForecastSettings, model=ModelName("baseline"), window=7200.0, settle_after=0.0),
        plan=group(PlanSettings),
        level=group(ServiceLevel),
        serving=group(ServingSettings),
        stale=group(StaleSettings, on_stale=OnStale.RIDE_FORECAST),
    )


@attrs.define
class Process:
    """A process that forecasts from ``server``, by the wall clock of the test."""

    forecasting: Forecasting
    metrics: Metrics
    clock: AcceleratedClock
    server: Server

    def told(self, workload: str = "shop") -> int | None:
        fleet = self.forecasting.fleet
        return decide(fleet.store.get(workload), self.clock.now(), fleet.runners[workload].workload.stale).replicas

    def made_at(self, workload: str = "shop") -> datetime:
        snapshot = self.forecasting.fleet.store.get(workload)
        assert snapshot is not None
        return snapshot.made_at

    @property
    def asked(self) -> list[tuple[datetime, datetime]]:
        """The ranges asked for, oldest first."""
        return [(at(request.url.params["start"]), at(request.url.params["end"])) for request in self.server.requests]

    def saved(self, kind: str) -> float:
        return self.metrics.saved.labels(kind)._value.get()


def constant(load: int) -> Reply:
    """Answers that the load has always been ``load``."""
    return lambda request: httpx.Response(200, text=re.sub(r'"\d+(\.\d+)?"\]', f'"{load}"]', counting(request).text))


def at(seconds: str) -> datetime:
    return datetime.fromtimestamp(float(seconds), START.tzinfo)


@asynccontextmanager
async def process(
    states: StateStore | None,
    clock: AcceleratedClock,
    *workloads: WorkloadSettings,
    server: Server | None = None,
    scaled_objects: bool = False,
) -> AsyncIterator[Process]:
    """A process while the block runs; then it is stopped normally."""
    prometheus = server or Server(counting)

    def open_source(settings: WorkloadSettings) -> PrometheusSource:
        forecast, stale = settings.forecast, settings.stale.stale_after
        query = RangeQuery(settings.query, forecast.history_window, forecast.step, stale, forecast.settle_after)
        return PrometheusSource(client_of(prometheus), query)

    async with AsyncExitStack() as stack:
        common = Common(clock, stack)
        fleet = FleetSettings(sources={}, workloads={one.key: one for one in workloads or (shop(),)})
        forecasting = make_forecasting(fleet, common, open_source, Storage(states=states))
        if scaled_objects:
            forecasting.resolver.reader = BringsShops(CONFIGURED, ScaledObjectSettings())
        await forecasting.restore_all()
        made = Process(forecasting, common.metrics, clock, prometheus)
        async with trio.open_nursery() as nursery:
            for service in (*services_of(forecasting), forecasting.resolver.run):
                await nursery.start(service)
            yield made
            nursery.cancel_scope.cancel()


CONFIGURED: ConfiguredFleet = load(
    RunSettings, {}, {"WORKLOAD": "other", "PROM_URL": "http://prometheus:9090", "PROM_QUERY": "up"}
).settings.fleet


@attrs.define
class BringsShops(TriggerReader):
    """Reads the workload that a ScaledObject describes: a shop with its name."""

    def read(self, ref: ObjectRef) -> WorkloadSettings:
        return shop(ref.workload, query=ref.metadata["query"])


@pytest.fixture
def clock() -> AcceleratedClock:
    return AcceleratedClock(START, origin=0.0)


@pytest.fixture
def states() -> MemoryStates:
    """The storage that the processes of a test share."""
    return MemoryStates()


async def run_for(seconds: float, states: StateStore, clock: AcceleratedClock, *workloads: WorkloadSettings) -> None:
    async with process(states, clock, *workloads):
        await trio.sleep(seconds)


# --- the next process continues ---


async def test_the_next_process_answers_by_the_kept_plan_before_it_asks_for_anything(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    async with process(states, clock) as first:
        await trio.sleep(301)
        before = first.forecasting.fleet.store.get("shop")
    async with process(states, clock) as second:
        assert second.asked == []
        found = second.forecasting.fleet.store.get("shop")
        assert before is not None
        assert found is not None
        assert found == attrs.evolve(before, quality=found.quality)


async def test_the_chart_of_what_was_planned_goes_on(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    async with process(states, clock) as first:
        await trio.sleep(301)
        before = first.forecasting.builder.recent.get("shop")
    async with process(states, clock) as second:
        restored = second.forecasting.builder.recent.get("shop")
        assert before is not None
        assert restored is not None
        assert restored.restored_until == first.made_at().timestamp()
        assert set(restored.planned) == set(before.planned)
        await trio.sleep(61)
        assert restored.restored_until is None
        assert second.forecasting.builder.recent.get("shop") is restored


async def test_it_asks_only_for_what_is_new(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    async with process(states, clock) as first:
        await trio.sleep(1)
        [(start, end)] = first.asked
        assert end - start == timedelta(minutes=119)
        kept_until = end
    await trio.sleep(1200)
    async with process(states, clock) as second:
        await trio.sleep(1)
        [(start, end)] = second.asked
        assert kept_until - timedelta(minutes=4) <= start < kept_until
        assert end == kept_until + timedelta(minutes=20)
        assert second.forecasting.fleet.runners["shop"].failed.value is None


async def test_a_history_read_in_two_halves_is_the_one_that_is_read_at_once(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    await run_for(1, states, clock)
    await trio.sleep(1200)
    async with process(states, clock) as second, process(None, clock) as fresh:
        await trio.sleep(1)
        halves, whole = (
            one.forecasting.fleet.runners["shop"].parts.source.kept_history()  # type: ignore[attr-defined]
            for one in (second, fresh)
        )
        assert halves == whole


async def test_with_prometheus_gone_it_answers_what_the_plan_says_by_the_clock(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    async with process(states, clock) as first:
        await trio.sleep(301)
        plan = first.forecasting.fleet.store.get("shop")
        assert plan is not None
    async with process(states, clock, server=Server(GONE)) as second:
        for _ in range(40):
            assert second.told() == replicas_at(plan, clock.now())
            await trio.sleep(INTERVAL)
        assert second.made_at() == plan.made_at, "nothing new was made"
        await trio.sleep(600)
        assert second.told() is None, "the plan has ended"


async def test_without_a_place_to_keep_it_nothing_is_kept(autojump_clock: MockClock, clock: AcceleratedClock) -> None:
    async with process(None, clock) as first:
        await trio.sleep(31)
    async with process(None, clock) as second:
        assert second.told() is None
        await trio.sleep(1)
        assert len(second.asked) == len(first.asked) - 1 == 1


@pytest.mark.parametrize("on_stale", [OnStale.DEFAULT_MIN, OnStale.RIDE_FORECAST, OnStale.ERROR])
async def test_after_a_pause_nothing_below_what_was_told_before_is_recommended(
    autojump_clock: MockClock, clock: AcceleratedClock, on_stale: OnStale
) -> None:
    """Under default-min too: nobody told KEDA the minimum while the process was gone."""
    states, settings = MemoryStates(), shop(on_stale=on_stale)
    async with process(states, clock, settings, server=Server(constant(2000))) as first:
        await trio.sleep(31)
        told = first.told()
        assert told == 12
    await trio.sleep(600)
    async with process(states, clock, settings, server=Server(constant(1))) as second:
        for _ in range(9):
            await trio.sleep(INTERVAL)
            assert second.told() == told
        await trio.sleep(600)
        assert (second.told() or 0) < told


@pytest.mark.parametrize(("mode", "known"), [(Mode.OBSERVE, 11), (Mode.SCALE, 1)])
async def test_what_was_planned_in_mode_observe_was_not_told_to_keda(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates, mode: Mode, known: int
) -> None:
    await run_for(301, states, clock, shop(mode=Mode.OBSERVE))
    async with process(states, clock, shop(mode=mode)) as second:
        await trio.sleep(1)
        assert len(second.forecasting.fleet.runners["shop"].series.told) == known


async def test_a_quick_restart_is_no_pause(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    await run_for(31, states, clock)
    async with process(states, clock) as second:
        await trio.sleep(1)
        snapshot = second.forecasting.fleet.store.get("shop")
        assert snapshot is not None
        assert snapshot.made_at == START + timedelta(seconds=31)
        assert snapshot.resumption is not None
        assert snapshot.resumption.since == START, "that of the first start goes on"


async def test_a_workload_that_comes_later_goes_on_too(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    await run_for(31, states, clock)
    async with process(states, clock, shop("other")) as second:
        await trio.sleep(1)
        assert "shop" not in second.forecasting.fleet.runners
        second.server.requests.clear()
        fleet = second.forecasting.fleet
        fleet.put(second.forecasting.builder.build(shop()))
        await trio.sleep(1)
        [(start, end)] = second.asked
        assert end - start < timedelta(minutes=10)


# --- workloads from ScaledObjects ---


REF = ObjectRef("web", "default", {"workload": "brought", "query": "up", "model": "baseline"}, "10.1.2.3")


async def test_a_workload_that_a_scaledobject_brought_is_back_before_keda_asks(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    async with process(states, clock, scaled_objects=True) as first:
        key = await first.forecasting.resolver.find(REF)
        await trio.sleep(31)
        told = first.told(key)
    async with process(states, clock, scaled_objects=True) as second:
        assert key in second.forecasting.fleet.runners
        assert second.told(key) == told
        assert second.forecasting.resolver.trigger_of(key) == REF
        assert await second.forecasting.resolver.find(REF) == key
        await trio.sleep(REMOVE_AFTER + 120)
        assert key not in second.forecasting.fleet.runners, "KEDA asks for it no more"


async def test_one_that_nobody_asked_for_within_an_hour_is_not_brought_back(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    async with process(states, clock, scaled_objects=True) as first:
        await first.forecasting.resolver.find(REF)
        await trio.sleep(31)
    await trio.sleep(REMOVE_AFTER)
    async with process(states, clock, scaled_objects=True) as second:
        assert set(second.forecasting.fleet.runners) == {"shop"}
        key = await second.forecasting.resolver.find(REF)
        [*_, (start, end)] = second.asked
        assert end - start < timedelta(minutes=70), "once KEDA asks for it, it goes on"
        assert key in second.forecasting.fleet.runners


async def test_where_scaledobjects_may_no_longer_bring_workloads_none_comes_back(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    async with process(states, clock, scaled_objects=True) as first:
        await first.forecasting.resolver.find(REF)
        await trio.sleep(31)
    async with process(states, clock) as second:
        assert set(second.forecasting.fleet.runners) == {"shop"}


# --- how often, and when it fails ---


async def test_the_state_is_saved_after_each_tick_and_the_history_once_an_hour(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    async with process(states, clock) as first:
        await trio.sleep(1)
        assert (first.saved("state"), first.saved("history")) == (1, 1)
        await trio.sleep(HISTORY_EVERY - 60)
        assert first.saved("history") == 1
        assert first.saved("state") == pytest.approx(HISTORY_EVERY / INTERVAL, abs=3)
        await trio.sleep(120)
        assert first.saved("history") == 2


@attrs.define
class YoungPrometheus:
    """A Prometheus that has the load since ``begin`` only, until it gets the load before by a backfill."""

    begin: datetime

    def __call__(self, request: httpx.Request) -> httpx.Response:
        start, end, step = (float(request.url.params[name]) for name in ("start", "end", "step"))
        times = [start + n * step for n in range(round((end - start) / step) + 1)]
        return matrix([(moment, "7") for moment in times if moment >= self.begin.timestamp()])(request)


def known_of(made: Process) -> int:
    kept = made.forecasting.fleet.runners["shop"].parts.source.kept_history()  # type: ignore[attr-defined]
    return int(np.isfinite(kept[0].values).sum())


@pytest.mark.parametrize("is_filled", [True, False], ids=["backfilled", "not backfilled"])
async def test_the_load_from_before_the_saved_history_is_asked_for_again_by_the_next_process(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates, is_filled: bool
) -> None:
    prometheus = YoungPrometheus(START - timedelta(minutes=5))
    async with process(states, clock, server=Server(prometheus)) as first:
        await trio.sleep(61)
        assert first.saved("history") == 1
    prometheus.begin -= timedelta(hours=3 if is_filled else 0)
    async with process(states, clock, server=Server(prometheus)) as second:
        await trio.sleep(121)
        assert known_of(second) == (120 if is_filled else 9)
        apart = [end - start for start, end in second.asked]
        assert len([one for one in apart if one > timedelta(minutes=10)]) == 1, "once, and not at each tick"


async def test_a_history_that_a_reload_has_read_again_is_saved_at_once(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    async with process(states, clock) as first:
        await trio.sleep(61)
        fleet, builder = first.forecasting.fleet, first.forecasting.builder
        assert first.saved("history") == 1
        fleet.put(builder.build(shop(window=3 * 7200.0), fleet.runners["shop"]))
        await trio.sleep(61)
        assert first.saved("history") == 2
        kept = await states.load_history("shop")
        assert kept is not None
        assert len(kept.values) == 360
        fleet.put(builder.build(shop(window=3 * 7200.0, target_per_pod=7.0), fleet.runners["shop"]))
        await trio.sleep(61)
        assert first.saved("history") == 2, "the same source goes on"


async def test_after_a_restart_histories_are_saved_at_a_time_of_their_own(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    workloads = [shop(f"shop-{number}", interval=300.0) for number in range(20)]
    await run_for(31, states, clock, *workloads)
    async with process(states, clock, *workloads) as second:
        await trio.sleep(HISTORY_EVERY / 4)
        assert 0 < second.saved("history") < 15
        await trio.sleep(HISTORY_EVERY)
        assert second.saved("history") >= 20


async def test_a_history_that_cannot_be_read_in_full_is_saved_as_far_as_it_goes(
    autojump_clock: MockClock, clock: AcceleratedClock
) -> None:
    def newest_alone(request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        return counting(request) if float(asked["end"]) - float(asked["start"]) < 3600 * 20 else httpx.Response(422)

    states, settings = MemoryStates(), shop(window=86400.0 * 20)
    async with process(states, clock, settings, server=Server(newest_alone)) as first:
        await trio.sleep(120)
        assert first.saved("history") == 0
        await trio.sleep(600)
    history = await states.load_history("shop")
    assert (history is None) == (first.saved("history") == 0)


@attrs.define
class FailingStates(MemoryStates):
    """Reading, saving and removing fail for the reasons in ``reading``, ``saving`` and ``removing``, while set."""

    reading: str = ""
    saving: str = ""
    removing: str = ""

    async def load_all(self) -> Mapping[str, KeptState]:
        fail(self.reading)
        return await super().load_all()

    async def load(self, workload: str) -> KeptState | None:
        fail(self.reading)
        return await super().load(workload)

    async def save(self, state: KeptState) -> int:
        fail(self.saving)
        return await super().save(state)

    async def remove_unsaved(self, since: datetime, current: Collection[str]) -> int:
        fail(self.removing)
        return await super().remove_unsaved(since, current)


def fail(reason: str) -> None:
    if reason:
        raise StoreError(f"it is {reason}", reason=reason)


NOT_READ = "what a restart needs cannot be read, and is not overwritten until it can be: it is "


@pytest.mark.parametrize(
    ("access", "fails", "works"),
    [
        ("reading", NOT_READ, "what a restart needs is read again"),
        ("saving", "what a restart needs cannot be saved: it is ", "what a restart needs is saved again"),
    ],
)
async def test_where_saving_fails_forecasts_go_on_and_it_is_said_once_and_when_it_is_over(
    access: str,
    fails: str,
    works: str,
    autojump_clock: MockClock,
    clock: AcceleratedClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kedastral.state")
    states = FailingStates(**{access: "disk_full"})
    async with process(states, clock, shop("a"), shop("b")) as first:
        await trio.sleep(REPEAT_AFTER - 60)
        assert first.made_at("a") > START + timedelta(seconds=REPEAT_AFTER - 100)
        assert said(caplog) == [f"{fails}disk_full"]
        assert first.metrics.errors.labels("store", "disk_full")._value.get() > 30
        setattr(states, access, "read_only")
        await trio.sleep(31)
        assert said(caplog)[1:] == [f"{fails}read_only"]
        await trio.sleep(REPEAT_AFTER + 60)
        assert len(said(caplog)) == 3, "every ten minutes"
        setattr(states, access, "")
        await trio.sleep(61)
        assert said(caplog)[3:] == [works]
    assert set(await states.load_all()) == {"a", "b"}


async def test_two_reasons_in_turn_are_said_no_more_often_than_one(
    autojump_clock: MockClock, clock: AcceleratedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.state")
    states = FailingStates(saving="slow")
    async with process(states, clock):
        for reason in ("away", "slow") * 9:  # nine minutes
            await trio.sleep(INTERVAL)
            states.saving = reason
        words = "what a restart needs cannot be saved: it is "
        assert said(caplog) == [f"{words}slow", f"{words}away"]
        await trio.sleep(180)
        assert said(caplog)[2:] == [f"{words}slow"], "again after ten minutes"


async def test_what_can_be_read_again_is_not_said_to_be_saved(
    autojump_clock: MockClock, clock: AcceleratedClock, caplog: pytest.LogCaptureFixture
) -> None:
    states = FailingStates()
    await run_for(61, states, clock)
    caplog.set_level(logging.INFO, "kedastral.state")
    states.reading, states.saving = "away", "full"
    async with process(states, clock):
        await trio.sleep(300)
        assert said(caplog) == [f"{NOT_READ}away"], "nothing is saved before it has been read"
        states.reading = ""
        await trio.sleep(61)
        assert said(caplog)[1:] == [
            "what a restart needs is read again",
            "what a restart needs cannot be saved: it is full",
        ]
        states.saving = ""
        await trio.sleep(31)
        assert said(caplog)[3:] == ["what a restart needs is saved again"]


@pytest.mark.parametrize("access", ["reading", "saving"])
async def test_what_could_not_be_saved_is_shown_until_it_is(
    access: str, autojump_clock: MockClock, clock: AcceleratedClock
) -> None:
    states = FailingStates(**{access: "away"})
    async with process(states, clock, shop("a"), shop("b")) as first:
        unsaved = first.metrics.unsaved_states._value.get
        await trio.sleep(300)
        assert unsaved() == 2
        first.forecasting.fleet.remove("b")
        await trio.sleep(61)
        assert unsaved() == 1
        setattr(states, access, "")
        await trio.sleep(61)
        assert unsaved() == 0


async def test_where_removing_fails_it_is_said_as_such(
    autojump_clock: MockClock, clock: AcceleratedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.state")
    states = FailingStates(removing="away")
    async with process(states, clock):
        await trio.sleep(SWEEP_EVERY + 60)
        assert said(caplog) == ["the saved state of workloads that are gone cannot be removed: it is away"]
        states.removing = ""
        await trio.sleep(SWEEP_EVERY)
        assert said(caplog)[1:] == ["the saved state of workloads that are gone is removed again"]


async def test_one_workload_that_cannot_be_saved_is_said_once(
    autojump_clock: MockClock, clock: AcceleratedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.state")

    class FailingForOne(MemoryStates):
        broken = True

        async def save(self, state: KeptState) -> int:
            if state.workload == "b" and self.broken:
                raise StoreError("Is a directory", reason="io")
            return await super().save(state)

    states = FailingForOne()
    async with process(states, clock, shop("a"), shop("b"), shop("c")):
        await trio.sleep(300)
        assert said(caplog) == ["what a restart needs cannot be saved: Is a directory"]
        states.broken = False
        await trio.sleep(61)
        assert said(caplog)[1:] == ["what a restart needs is saved again"]


@pytest.mark.parametrize("access", ["reading", "saving"])
async def test_a_workload_removed_while_its_state_is_waited_for_does_not_hide_that_it_works_again(
    access: str, autojump_clock: MockClock, clock: AcceleratedClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.state")
    waiting = trio.Event()

    class Slow(FailingStates):
        async def _fail_late(self, workload: str, reason: str) -> None:
            if reason and workload == "b":
                waiting.set()
                await trio.sleep(2)
            fail(reason)

        async def load(self, workload: str) -> KeptState | None:
            await self._fail_late(workload, self.reading)
            return await super().load(workload)

        async def save(self, state: KeptState) -> int:
            await self._fail_late(state.workload, self.saving)
            return await super().save(state)

    states = Slow(**{access: "away"})
    async with process(states, clock, shop("a"), shop("b")) as first:
        await trio.sleep(200)
        waiting = trio.Event()
        await waiting.wait()
        first.forecasting.fleet.remove("b")
        await trio.sleep(10)
        setattr(states, access, "")
        await trio.sleep(61)
        assert said(caplog)[-1] == f"what a restart needs is {'read' if access == 'reading' else 'saved'} again"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "kedastral.state"]


async def test_what_was_not_saved_yet_is_saved_at_the_end(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(states, clock) as first:
        await trio.sleep(31)
        keeper = first.forecasting.fleet.keeper
        assert keeper is not None
        monkeypatch.setattr(keeper, "_news", trio.Event())  # the saving task gets no more events
        await trio.sleep(60)
        newest = first.made_at()
    kept = await states.load("shop")
    assert kept is not None
    assert kept.snapshot.made_at == newest


async def test_what_is_being_saved_at_the_end_is_saved(autojump_clock: MockClock, clock: AcceleratedClock) -> None:
    saving = trio.Event()

    class Slow(MemoryStates):
        async def save(self, state: KeptState) -> int:
            saving.set()
            await trio.sleep(0.5)
            return await super().save(state)

    states = Slow()
    async with process(states, clock) as first:
        await saving.wait()
        newest = first.made_at()
    kept = await states.load("shop")
    assert kept is not None
    assert kept.snapshot.made_at == newest


@attrs.define(eq=False)
class SlowStates(FailingStates):
    """Once it can be read, reading a state takes a second; ``began`` is set when that begins."""

    began: trio.Event = attrs.field(factory=trio.Event)

    async def load(self, workload: str) -> KeptState | None:
        if not self.reading:
            self.began.set()
            await trio.sleep(1)
        return await super().load(workload)


async def test_what_is_read_late_at_the_end_is_saved(autojump_clock: MockClock, clock: AcceleratedClock) -> None:
    states = SlowStates(reading="away")
    async with process(states, clock) as first:
        await trio.sleep(31)
        states.reading = ""
        await states.began.wait()
        newest = first.made_at()
    kept = await MemoryStates.load(states, "shop")
    assert kept is not None
    assert kept.snapshot.made_at == newest


async def test_what_was_handed_over_while_it_is_read_late_is_not_saved_at_the_end(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    """The next process has nothing of what was read, so this one's must not take its place."""
    await run_for(31, states, clock)
    kept = await states.load("shop")
    slow = SlowStates(reading="away")
    slow._states = states._states
    async with process(slow, clock) as second:
        await trio.sleep(31)
        slow.reading = ""
        await slow.began.wait()
        keeper = second.forecasting.fleet.keeper
        assert keeper is not None
        keeper.hand_over("shop", to_another=False)
    assert await states.load("shop") == kept


async def test_workloads_that_are_gone_for_a_week_are_removed(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    await run_for(31, states, clock, shop("gone"), shop("new"))
    await states.save(attrs.evolve(make_kept_state("old"), saved_at=START - FORGET_AFTER + timedelta(minutes=30)))
    async with process(states, clock, server=Server(GONE)):
        await trio.sleep(SWEEP_EVERY + 60)
        assert set(await states.load_all()) == {"gone", "new"}


# --- other settings: the table in docs/operations.md ---

MAIN = DataSourceSettings(url=HttpUrl("http://prometheus:9090"))
AUTO = {"model": ModelName("auto"), "window": None, "settle_after": None}
PARTS = (
    "history",
    "model",
    "late samples",
    "errors of the forecast",
    "factor and hold",
    "error budget",
    "held plans",
)
BOUNDED = "; the plan stays within the new bounds"
CHANGES: dict[str, list[Callable[[], tuple[DataSourceSettings, WorkloadSettings]]]] = {
    "nothing": [
        lambda: (MAIN, shop(**AUTO)),
        lambda: (
            attrs.evolve(MAIN, login=PrometheusLogin(username=Name("ned"), headers=(Header(("Authorization", "b")),))),
            shop(**AUTO),
        ),
        lambda: (attrs.evolve(MAIN, timeout=3.0), shop(**AUTO, interval=15.0, horizon=3600.0, stale_after=60.0)),
    ],
    "the query": [lambda: (MAIN, shop(**AUTO, query="down"))],
    "the data source's address, tenant headers or parameters": [
        lambda: (attrs.evolve(MAIN, url=HttpUrl("http://other:9090")), shop(**AUTO)),
        lambda: (attrs.evolve(MAIN, login=PrometheusLogin(headers=(Header(("X-Scope-OrgID", "b")),))), shop(**AUTO)),
        lambda: (attrs.evolve(MAIN, login=PrometheusLogin(query_params=(QueryParam("tenant", "b"),))), shop(**AUTO)),
    ],
    "`--step`": [lambda: (MAIN, shop(**AUTO, step=30.0))],
    "`--settle-after`": [lambda: (MAIN, shop(**{**AUTO, "settle_after": 60.0}))],
    "`--window`": [lambda: (MAIN, shop(**{**AUTO, "window": 3600.0}))],
    "`--model`, `--model-url`, `--timezone`": [
        lambda: (MAIN, shop(**{**AUTO, "model": ModelName("seasonal-naive")})),
        lambda: (MAIN, shop(**{**AUTO, "model": ModelName("http"), "model_url": HttpUrl("http://model")})),
        lambda: (MAIN, shop(**AUTO, timezone=ZoneInfo("Europe/Berlin"))),
    ],
    "`--lead-time`": [lambda: (MAIN, shop(**AUTO, lead_time=120.0))],
    "`--prewarm`": [lambda: (MAIN, shop(**AUTO, prewarm=60.0))],
    "`--target-per-pod`": [lambda: (MAIN, shop(**AUTO, target_per_pod=50.0))],
    "`--headroom`": [lambda: (MAIN, shop(**AUTO, headroom=1.5))],
    "`--service-level`": [lambda: (MAIN, shop(**AUTO, service_level=0.999))],
    "`--min`, `--max`": [lambda: (MAIN, shop(**AUTO, min_replicas=4, max_replicas=7))],
    "`--mode`": [lambda: (MAIN, shop(**AUTO, mode=Mode.OBSERVE))],
}


def with_windows(state: KeptState, windows: int) -> KeptState:
    """``state`` whose uncertainty has judged so many forecasts."""
    report = state.snapshot.service_level
    assert report is not None
    uncertainty = attrs.evolve(report.state.uncertainty, model=Calibration(windows=windows))
    report = attrs.evolve(report, state=attrs.evolve(report.state, uncertainty=uncertainty))
    return attrs.evolve(state, snapshot=attrs.evolve(state.snapshot, service_level=report))


@pytest.mark.parametrize(
    ("lead_time", "windows", "anew"),
    [(300.0, 180, False), (1200.0, 180, True), (300.0, 0, True), (300.0, 179, True)],
    ids=["as before", "other lead time", "cut short by the restart before", "too few"],
)
async def test_a_restart_finds_the_errors_of_the_forecast_anew_where_none_or_few_go_on(
    lead_time: float, windows: int, anew: bool
) -> None:
    before, runner = build(MAIN, shop(**AUTO)), build(MAIN, shop(**{**AUTO, "lead_time": lead_time}))
    forecaster, asked = runner.parts.forecaster, list[Series]()
    assert isinstance(forecaster, TrainedForecaster)

    def calibrate(history: Series, _made_at: datetime, _steps: int) -> UncertaintyState:
        asked.append(history)
        return UncertaintyState()

    states, memory = MemoryStates(), LEARNT.memory()
    assert memory is not None
    model = KeptModel(forecaster=runner.basis.forecaster, version=__version__, memory=memory)
    await states.save(attrs.evolve(with_windows(make_kept_state(), windows), basis=before.basis))
    await states.save_history(attrs.evolve(make_kept_history(), source=runner.basis.source, query="up", model=model))
    forecaster.calibrate = calibrate
    async with trio.open_nursery() as nursery:
        await nursery.start(forecaster.queue.run)
        await StateKeeper(states, MemoryStore(), AcceleratedClock(START), Metrics()).recall(runner)
        for _ in range(2):
            assert (await forecaster.forecast(make_history(*range(1, 60)), START, 30)).status.is_ok
        nursery.cancel_scope.cancel()
    assert len(asked) == anew
    assert (forecaster.uncertainty() is not None) == anew


def read_table() -> dict[str, str]:
    """The table of docs/operations.md: which parts start again, by what has changed."""
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = page.partition("| changed | starts afresh |")[2].partition("\n\n")[0].splitlines()[2:]
    pairs = [row.strip("| ").split(" | ") for row in rows]
    return {changed.strip(): afresh.strip() for changed, afresh in pairs}


def make_builder(store: MemoryStore | None = None) -> RunnerBuilder:
    return RunnerBuilder(store or MemoryStore(), AcceleratedClock(START, origin=None), Metrics(), DataSources())


def build(source: DataSourceSettings, settings: WorkloadSettings) -> WorkloadRunner:
    builder = make_builder()
    builder.sources.replace({"default": source})
    return builder.build(settings)


def test_the_table_has_a_row_for_each_change_that_is_tested_and_no_other() -> None:
    table = read_table()
    assert set(table) == set(CHANGES)


each_change = pytest.mark.parametrize(
    ("changed", "number"), [(changed, number) for changed, all_of in CHANGES.items() for number in range(len(all_of))]
)


@each_change
async def test_other_settings_leave_of_the_state_what_the_table_says(changed: str, number: int) -> None:
    before, now = build(MAIN, shop(**AUTO)), build(*CHANGES[changed][number]())
    state = attrs.evolve(make_kept_state(), basis=before.basis)
    found = adapt_state(state, now.basis, now.workload)

    assert state.snapshot.service_level is not None
    assert found.snapshot.service_level is not None
    was, left = state.snapshot.service_level.state, found.snapshot.service_level.state
    bounds = now.workload.policy.bounds
    clamped = [bounds.clamp(each) for each in state.snapshot.replicas.tolist()]
    kept = {
        "history": now.basis.history == before.basis.history and found.told_lately == state.told_lately,
        "model": now.basis.history == before.basis.history and now.basis.forecaster == before.basis.forecaster,
        "late samples": found.source == state.source,
        "errors of the forecast": left.uncertainty == was.uncertainty,
        "factor and hold": (left.steering.factor, left.steering.peak_hold, left.steering.bridged_at)
        == (was.steering.factor, was.steering.peak_hold, was.steering.bridged_at),
        "error budget": (left.steering.spent, left.steering.account, left.steering.published)
        == (was.steering.spent, was.steering.account, was.steering.published),
        "held plans": (left.unstabilized, left.last_model_plan, left.before_stabilization)
        == (was.unstabilized, was.last_model_plan, was.before_stabilization),
    }
    assert tuple(kept) == PARTS
    row = read_table()[changed]
    assert row.removesuffix(BOUNDED) == (", ".join(part for part in PARTS if not kept[part]) or "nothing")
    named = starts_afresh(before.basis, now.basis, same_source=True, same_model=True)
    assert named == [part for part in PARTS if not kept[part]], "what the log of a reload names"
    assert found.snapshot.replicas.tolist() == clamped
    assert left.last_recommendation == was.last_recommendation
    assert found.told == bounds.clamp(8)
    assert (found.snapshot.lead_time, found.snapshot.mode) == (
        now.settings.serving.lead_time, now.settings.serving.mode,
    )  # fmt: skip
    if not row.endswith(BOUNDED):
        assert clamped == state.snapshot.replicas.tolist()


@each_change
async def test_a_reload_leaves_of_the_state_what_a_restart_leaves(
    changed: str, number: int, autojump_clock: MockClock
) -> None:
    """The successor of a running workload and the next process begin with the same plan and the same state."""
    store, taken = MemoryStore(), list[Snapshot | None]()
    builder, fleet = make_builder(store), Fleet(store, Metrics())
    source, settings = CHANGES[changed][number]()
    builder.sources.replace({"default": MAIN})
    before = builder.build(shop(**AUTO))
    builder.sources.replace({"default": source})
    now = builder.build(settings, before)

    async def publish() -> None:
        await store.put(make_kept_state().snapshot)

    async def look() -> None:
        await trio.lowlevel.checkpoint()
        taken.append(store.previous("shop"))

    async with trio.open_nursery() as nursery:
        await nursery.start(fleet.run)
        fleet.put(attrs.evolve(before, tick=publish))
        await trio.sleep(1)
        told = decide(store.get("shop"), START, before.workload.stale).replicas
        fleet.put(attrs.evolve(now, tick=look))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    state = attrs.evolve(make_kept_state(told=told), basis=before.basis)
    restarted = adapt_state(state, now.basis, now.workload).snapshot
    assert taken == [restarted]
    assert (now.series is before.series) == (now.basis.history == before.basis.history)
    assert replicas_at(restarted, START) >= min(told or 0, settings.plan.max_replicas), "KEDA is told no less meanwhile"


def by_query(request: httpx.Request) -> httpx.Response:
    """A load of 5000 for the query `up`, and of 200 for any other."""
    return constant(5000 if request.url.params["query"] == "up" else 200)(request)


@pytest.mark.parametrize("how", ["reload", "restart"])
async def test_under_another_query_nothing_goes_on_but_what_keda_is_told(
    how: str,
    autojump_clock: MockClock,
    clock: AcceleratedClock,
    states: MemoryStates,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the model baseline, by service level: it needs no thread, for which the clock would not wait."""
    steered = {**MODELS, "baseline": attrs.evolve(MODELS["baseline"], plans_by_service_level=True)}
    monkeypatch.setattr(planning_settings, "MODELS", steered)
    settings = shop(window=14400.0, target_per_pod=100.0, max_replicas=100)
    other = attrs.evolve(settings, query="down")

    async def follow(process: Process, told: int) -> None:
        """From the first tick under the other query on."""
        for seconds in range(0, 271, 30):
            await trio.sleep(30)
            snapshot = process.forecasting.fleet.store.get("shop")
            assert snapshot is not None
            assert snapshot.service_level is not None
            assert snapshot.service_level.state.steering.minutes <= seconds / 60 + 1
            assert snapshot.service_level.upper[0] < 400
            assert process.told() == told
        await trio.sleep(2700)
        assert (process.told() or 0) < 10

    async with process(states, clock, settings, server=Server(by_query)) as first:
        await trio.sleep(1815)
        told, fleet = first.told(), first.forecasting.fleet
        assert told is not None
        assert told >= 50
        if how == "reload":
            fleet.put(first.forecasting.builder.build(other, fleet.runners["shop"]))
            await follow(first, told)
    if how == "restart":
        async with process(states, clock, other, server=Server(by_query)) as second:
            await follow(second, told)
    kept = await states.load("shop")
    assert kept is not None
    assert kept.basis.query == "down"
    assert kept.snapshot.service_level is not None
    assert 40 < kept.snapshot.service_level.state.steering.minutes <= 51


async def test_a_runner_replaced_before_its_first_tick_leaves_its_successor_what_still_holds(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    """A reload right after the start: the state was restored for the settings before it."""
    store = MemoryStore()
    builder, keeper = make_builder(store), StateKeeper(states, store, clock, Metrics())
    builder.sources.replace({"default": MAIN})
    first = builder.build(shop(**AUTO))
    kept = attrs.evolve(make_kept_state(), basis=first.basis)
    for changes, left in (({}, kept.source), ({"settle_after": 60.0}, None)):
        now = builder.build(shop(**{**AUTO, **changes}), first)
        given: list[SourceState | None] = []

        class Source(PrometheusSource):
            def restore(self, state: SourceState | None, history: KeptHistory | None) -> None:
                given.append(state)  # noqa: B023 - called below

        await keeper.restore(first, kept)
        source = Source(client_of(Server(counting)), now.parts.source_identity.query)
        await keeper.recall(attrs.evolve(now, parts=attrs.evolve(now.parts, source=source)))
        keeper.release("shop")
        assert given == [left]


LEARNT = AutoModel()
LEARNT.forecast(make_history(*range(1, 60)), START, 30)


@pytest.mark.parametrize(
    ("change", "used"),
    [
        ({}, True),
        ({"version": "0.0.9"}, False),
        ({"forecaster": ("another", "load", "auto", "UTC")}, False),
        ({"memory": {"knots": np.zeros(3)}}, False),
    ],
)
async def test_what_a_model_has_learnt_is_used_by_the_same_model_of_the_same_version(
    change: dict[str, Any], used: bool, caplog: pytest.LogCaptureFixture
) -> None:
    runner, states, memory = build(MAIN, shop(**AUTO)), MemoryStates(), LEARNT.memory()
    assert memory is not None
    model = KeptModel(forecaster=runner.basis.forecaster, version=__version__, memory=memory)
    history = attrs.evolve(
        make_kept_history(), source=runner.basis.source, query="up", model=attrs.evolve(model, **change)
    )
    await states.save_history(history)
    await StateKeeper(states, MemoryStore(), AcceleratedClock(START), Metrics()).recall(runner)
    assert isinstance(runner.parts.forecaster, TrainedForecaster)
    assert (runner.parts.forecaster.memory() is not None) == used
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == (
        ["the model is trained again"] if "memory" in change else []
    )


async def test_what_could_not_be_read_at_the_start_is_not_overwritten_but_gone_on_from_later(
    autojump_clock: MockClock, clock: AcceleratedClock
) -> None:
    runner, states, snapshots = build(MAIN, shop(**AUTO)), FailingStates(), MemoryStore()
    kept = attrs.evolve(make_kept_state(), basis=runner.basis)
    assert kept.snapshot.service_level is not None
    await states.save(kept)
    states.reading = "unreachable"
    keeper = StateKeeper(states, snapshots, clock, Metrics())
    began = attrs.evolve(kept.snapshot.service_level.state, steering=SteeringState(), last_recommendation=5)
    fresh = attrs.evolve(
        make_snapshot(made_at=START + timedelta(seconds=60)),
        service_level=attrs.evolve(kept.snapshot.service_level, state=began),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(keeper.run)

        async def tick() -> KeptState | None:
            await keeper.recall(runner)
            await snapshots.put(snapshots.get("shop") or fresh)
            keeper.note(runner)
            await trio.sleep(30)
            return await MemoryStates.load(states, "shop")

        assert await tick() == await tick() == kept, "neither while it cannot be read"
        states.reading = ""
        assert await tick() == kept, "nor before it has been gone on from"
        saved = await tick()
        nursery.cancel_scope.cancel()
    assert saved is not None
    assert saved.snapshot.made_at == fresh.made_at
    assert saved.snapshot.service_level is not None
    state = saved.snapshot.service_level.state
    assert state.steering == kept.snapshot.service_level.state.steering, "weeks of error budget"
    assert state.last_recommendation == 5, "the plan stays"


async def test_a_query_that_has_changed_is_read_from_its_beginning(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    await run_for(31, states, clock)
    async with process(states, clock, shop(query="down")) as second:
        assert second.told() is not None, "KEDA is told what it was told"
        await trio.sleep(1)
        [(start, end)] = second.asked
        assert end - start == timedelta(minutes=119)


async def test_a_longer_window_reads_the_part_that_is_missing(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates
) -> None:
    await run_for(31, states, clock)
    async with process(states, clock, shop(window=14400.0)) as second:
        await trio.sleep(1)
        asked = second.asked
        assert len(asked) == 2
        assert sum((end - start for start, end in asked), timedelta()) < timedelta(hours=2, minutes=10)


def test_what_the_page_says_of_times_is_what_the_code_does() -> None:
    page = " ".join((ROOT / "docs" / "operations.md").read_text().split())
    assert HISTORY_EVERY == 3600
    assert timedelta(days=7) == FORGET_AFTER
    assert REPEAT_AFTER == keeping.INCOMPLETE_AFTER == 600
    for words in (
        "then once an hour",
        "removed seven days after",
        "every ten minutes",
        "after ten minutes in any case",
    ):
        assert words in page
    assert Path(ROOT / "docs" / "operations.md").is_file()


async def test_a_start_counts_also_the_states_that_it_cannot_read(
    autojump_clock: MockClock, clock: AcceleratedClock, states: MemoryStates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.config")
    async with process(states, clock):
        await trio.sleep(1)
    states.unreadable = 1
    async with process(states, clock):
        words = "continues from the state of 1 of 2 saved workloads; the state of 1 cannot be read"
        assert words in [record.getMessage() for record in caplog.records]
