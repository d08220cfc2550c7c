# SPDX-License-Identifier: Apache-2.0
"""A pod that takes over a workload continues the steering of the previous one, which snapshots do not contain."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import attrs
import pytest
import trio
from trio.testing import MockClock

from kedastral.compose import Common, Storage, make_forecasting, services_of
from kedastral.core.kept_state import KeptState
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.ports import SharedWrite
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.shared_store import SharedStore, Terms
from kedastral.settings.declarations import ModelName
from kedastral.settings.fleet import FleetSettings
from kedastral.workloads.division import Division
from kedastral.workloads.keeping import StateKeeper
from kedastral.workloads.runner import RunnerBuilder, WorkloadRunner
from tests.exchange import MemoryExchange, MemoryRegistry
from tests.kept import MemoryStates, make_kept_state
from tests.parts import START, StubSource, make_history, wall_clock
from tests.workloads.test_division import Cable
from tests.workloads.test_keeping import FailingStates, shop


async def take_over(state: KeptState, served: Snapshot) -> tuple[Snapshot | None, WorkloadRunner]:
    """What a pod continues from if it finds ``state``, and ``served`` by the previous pod."""
    exchange, metrics, states = MemoryExchange(wall_clock()), Metrics(), MemoryStates()
    store = SharedStore(exchange, metrics, StorageMetrics(metrics.registry), exchange.clock)
    builder = RunnerBuilder(store, exchange.clock, metrics, open_source=lambda _: StubSource([make_history(1.0)]))
    runner = builder.build(shop(model=ModelName("auto")))
    store.follow("shop")
    await exchange.write([SharedWrite(served, 1)])
    await store._read_changes(0)
    await states.save(attrs.evolve(state, basis=runner.basis))
    await StateKeeper(states, store, exchange.clock, metrics).recall(runner)
    return store.previous("shop"), runner


def assert_steering_is_kept(found: Snapshot, state: KeptState) -> None:
    """``found`` continues with the saved steering."""
    assert found.service_level is not None
    assert state.snapshot.service_level is not None
    assert found.service_level.state.steering == state.snapshot.service_level.state.steering


async def test_it_goes_on_with_the_state_of_the_newest_snapshot(autojump_clock: MockClock) -> None:
    state = make_kept_state()
    found, _ = await take_over(state, attrs.evolve(state.snapshot, service_level=None))
    assert found is not None
    assert_steering_is_kept(found, state)


async def test_where_the_newest_snapshot_is_a_tick_ahead_of_the_state_it_has_both(autojump_clock: MockClock) -> None:
    state = make_kept_state()
    later = attrs.evolve(state.snapshot.forecast, made_at=state.snapshot.made_at + timedelta(seconds=30))
    newest = attrs.evolve(state.snapshot, service_level=None, forecast=later)
    found, _ = await take_over(state, newest)
    assert found is not None
    assert found.made_at == newest.made_at
    assert_steering_is_kept(found, state)


async def test_what_pods_of_other_settings_kept_last_replaces_no_forecast_of_its_own_settings(
    autojump_clock: MockClock,
) -> None:
    state = make_kept_state()
    state = attrs.evolve(state, snapshot=attrs.evolve(state.snapshot, fingerprint="theirs"))
    _, runner = await take_over(state, attrs.evolve(state.snapshot, service_level=None))
    earlier = attrs.evolve(state.snapshot.forecast, made_at=state.snapshot.made_at - timedelta(seconds=30))
    own = attrs.evolve(state.snapshot, service_level=None, forecast=earlier, fingerprint=runner.workload.fingerprint)
    found, _ = await take_over(state, own)
    assert found is not None
    assert found.made_at == own.made_at
    assert_steering_is_kept(found, state)


@pytest.mark.parametrize("taken_over", [False, True])
async def test_what_it_saved_itself_before_an_outage_replaces_no_newer_state_that_it_has(
    autojump_clock: MockClock, taken_over: bool
) -> None:
    """Without a lease it has forgotten that it continued from this state, and reads it once Redis is back."""
    exchange, metrics, states = MemoryExchange(wall_clock()), Metrics(), FailingStates()
    store = SharedStore(exchange, metrics, StorageMetrics(metrics.registry), exchange.clock)
    builder = RunnerBuilder(store, exchange.clock, metrics, open_source=lambda _: StubSource([make_history(1.0)]))
    runner, keeper = builder.build(shop(model=ModelName("auto"))), StateKeeper(states, store, exchange.clock, metrics)
    first = make_kept_state().snapshot
    await store.put(first)
    keeper.note(runner)
    await keeper._save_all()
    states.reading = "away"
    keeper.hand_over("shop", to_another=False)
    await keeper.recall(runner)
    newest = with_factor(first, 1.9, timedelta(seconds=30))
    await store.put(newest)
    keeper.note(runner)
    states.reading = ""
    if taken_over:
        theirs = with_factor(first, 1.4, timedelta(seconds=20))
        kept = attrs.evolve(make_kept_state(), basis=runner.basis, snapshot=theirs)
        await states.save(attrs.evolve(kept, saved_at=START + timedelta(seconds=20)))
    await keeper._save_all()
    await keeper.recall(runner)
    assert factor_of(store.previous("shop")) == (1.4 if taken_over else 1.9)
    keeper.note(runner)
    await keeper._save_all()
    saved = await states.load("shop")
    assert saved is not None
    assert factor_of(saved.snapshot) == (1.4 if taken_over else 1.9)


async def test_what_is_read_late_is_continued_from_while_a_better_forecast_of_another_pod_is_served(
    autojump_clock: MockClock,
) -> None:
    """After a change of settings, one that follows from the own plan would be refused as a new one."""
    exchange, metrics, states = MemoryExchange(wall_clock()), Metrics(), FailingStates()
    store = SharedStore(exchange, metrics, StorageMetrics(metrics.registry), exchange.clock)
    builder = RunnerBuilder(store, exchange.clock, metrics, open_source=lambda _: StubSource([make_history(1.0)]))
    runner, keeper = builder.build(shop(model=ModelName("auto"))), StateKeeper(states, store, exchange.clock, metrics)
    store.terms = lambda _: Terms(runner.workload.fingerprint)
    kept = with_factor(make_kept_state().snapshot, 1.9, timedelta())
    await states.save(attrs.evolve(make_kept_state(), basis=runner.basis, snapshot=kept))
    states.reading = "away"
    await keeper.recall(runner)
    own = with_factor(make_kept_state().snapshot, 1.1, timedelta(seconds=30))
    await store.put(attrs.evolve(own, fingerprint="older settings"))
    theirs = attrs.evolve(own, service_level=None, fingerprint=runner.workload.fingerprint)
    store.follow("shop")
    await exchange.write([SharedWrite(theirs, 1)])
    await store._read_changes(0)
    served = store.get("shop")
    assert served is not None
    assert served.fingerprint == runner.workload.fingerprint
    keeper.note(runner)
    states.reading = ""
    await keeper._save_all()
    await keeper.recall(runner)
    assert factor_of(store.previous("shop")) == 1.9


@attrs.define
class SlowStates(FailingStates):
    """Tells when reading began, and waits until it may end."""

    begun: trio.Event = attrs.field(factory=trio.Event)
    may_end: trio.Event = attrs.field(factory=trio.Event)

    async def load(self, workload: str) -> KeptState | None:
        found = await super().load(workload)
        self.begun.set()
        await self.may_end.wait()
        return found


@pytest.mark.parametrize("is_stored", [True, False])
async def test_what_is_read_late_is_not_overwritten_if_the_lease_ends_meanwhile(
    autojump_clock: MockClock, is_stored: bool
) -> None:
    metrics, states, clock = Metrics(), SlowStates(), wall_clock()
    store = SharedStore(MemoryExchange(clock), metrics, StorageMetrics(metrics.registry), clock)
    builder = RunnerBuilder(store, clock, metrics, open_source=lambda _: StubSource([make_history(1.0)]))
    runner, keeper = builder.build(shop(model=ModelName("auto"))), StateKeeper(states, store, clock, metrics)
    learnt = with_factor(make_kept_state().snapshot, 1.9, timedelta())
    if is_stored:
        await states.save(attrs.evolve(make_kept_state(), basis=runner.basis, snapshot=learnt))
    states.reading = "away"
    await keeper.recall(runner)
    await store.put(with_factor(learnt, 1.1, timedelta(seconds=30)))
    keeper.note(runner)
    states.reading = ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper._save_all)
        await states.begun.wait()
        keeper.hand_over("shop", to_another=False)
        states.may_end.set()
    saved = await states.load("shop")
    assert (None if saved is None else factor_of(saved.snapshot)) == (1.9 if is_stored else None)


@attrs.define
class HalfFailingStates(FailingStates):
    """Writes the state even where saving fails, as if only the answer were lost."""

    async def save(self, state: KeptState) -> int:
        reason, self.saving = self.saving, ""
        await super().save(state)
        self.saving = reason
        return await super().save(state)


async def test_what_it_wrote_itself_without_knowing_replaces_no_newer_state_either(autojump_clock: MockClock) -> None:
    metrics, states, clock = Metrics(), HalfFailingStates(), wall_clock()
    store = SharedStore(MemoryExchange(clock), metrics, StorageMetrics(metrics.registry), clock)
    builder = RunnerBuilder(store, clock, metrics, open_source=lambda _: StubSource([make_history(1.0)]))
    runner, keeper = builder.build(shop(model=ModelName("auto"))), StateKeeper(states, store, clock, metrics)
    first = make_kept_state().snapshot
    await store.put(first)
    states.saving = states.reading = "away"
    keeper.note(runner)
    await keeper._save_all()
    keeper.hand_over("shop", to_another=False)
    await keeper.recall(runner)
    await store.put(with_factor(first, 1.9, timedelta(seconds=30)))
    keeper.note(runner)
    states.saving = states.reading = ""
    await keeper._save_all()
    await keeper.recall(runner)
    assert factor_of(store.previous("shop")) == 1.9


def with_factor(snapshot: Snapshot, factor: float, later: timedelta) -> Snapshot:
    """``snapshot`` with another steering factor, made ``later``."""
    level = snapshot.service_level
    assert level is not None
    steering = attrs.evolve(level.state.steering, factor=factor)
    level = attrs.evolve(level, state=attrs.evolve(level.state, steering=steering))
    forecast = attrs.evolve(snapshot.forecast, made_at=snapshot.made_at + later)
    return attrs.evolve(snapshot, service_level=level, forecast=forecast)


def factor_of(snapshot: Snapshot | None) -> float:
    assert snapshot is not None
    assert snapshot.service_level is not None
    return snapshot.service_level.state.steering.factor


@attrs.define
class SharingPod:
    """A pod with workloads ``a`` to ``f`` that shares them through what the test can cut off, or let fail."""

    cable: Cable
    states: FailingStates
    metrics: Metrics
    division: Division

    @property
    def unsaved(self) -> float:
        return self.metrics.unsaved_states._value.get()

    @property
    def lost(self) -> float:
        return self.metrics.lost_states._value.get()

    def held_by_others(self) -> list[str]:
        return [name for name in WORKLOADS if self.division.has_other_owner(name)]


WORKLOADS = "abcdef"


@asynccontextmanager
async def sharing_pod() -> AsyncIterator[SharingPod]:
    clock = wall_clock()
    metrics, states = Metrics(), FailingStates()
    cable = Cable(MemoryExchange(clock), MemoryRegistry())
    shown = StorageMetrics(metrics.registry)
    store = SharedStore(cable, metrics, shown, clock)
    division = Division(cable, "this", store, clock, metrics, shown)
    store.token = division.token
    storage = Storage(store, [store.run, division.run], [], states, division)
    configured = FleetSettings(sources={}, workloads={name: shop(name) for name in WORKLOADS})
    async with AsyncExitStack() as stack:
        common = Common(clock, stack, metrics)
        source = StubSource([make_history(*[100.0] * 60)])
        forecasting = make_forecasting(configured, common, lambda _: source, storage)
        async with trio.open_nursery() as nursery:
            for service in (*storage.services, *services_of(forecasting)):
                await nursery.start(service)
            yield SharingPod(cable, states, metrics, division)
            nursery.cancel_scope.cancel()


async def test_without_a_lease_what_is_not_saved_still_counts_until_it_is(autojump_clock: MockClock) -> None:
    async with sharing_pod() as pod:
        await trio.sleep(45)
        assert pod.unsaved == 0
        pod.states.saving = "away"
        await trio.sleep(30)
        assert pod.unsaved == len(WORKLOADS)
        pod.cable.cut = True
        await trio.sleep(45)
        assert not pod.division.is_member
        assert pod.unsaved == len(WORKLOADS), "nobody has saved newer state"
        pod.cable.cut, pod.states.saving = False, ""
        await trio.sleep(45)
        assert (pod.unsaved, pod.lost) == (0, 0)


async def test_what_another_pod_takes_over_before_it_is_saved_is_told_as_lost(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "kedastral.state")
    async with sharing_pod() as pod:
        await trio.sleep(45)
        pod.states.saving = "away"
        await trio.sleep(30)
        pod.cable.cut = True
        await trio.sleep(20)
        await pod.cable.registry.renew("other", 1e6, 0)
        pod.cable.cut = False
        await trio.sleep(45)
        others = pod.held_by_others()
        assert 0 < len(others) < len(WORKLOADS)
        assert pod.lost == len(others)
        assert pod.unsaved == len(WORKLOADS) - len(others)
        lost = [record for record in caplog.records if "before the newest state was saved" in record.getMessage()]
        assert sorted(vars(record)["workload"] for record in lost) == others
        pod.states.saving = ""
        await trio.sleep(120)
        assert (pod.lost, pod.unsaved) == (len(others), 0), "once, not at each beat"


async def test_what_is_saved_is_handed_over_without_a_word(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with sharing_pod() as pod:
        await trio.sleep(45)
        await pod.cable.registry.renew("other", 1e6, 0)
        await trio.sleep(60)
        assert pod.held_by_others()
        assert (pod.lost, pod.unsaved, caplog.messages) == (0, 0, [])
