# SPDX-License-Identifier: Apache-2.0
"""A pod that takes over a workload continues the steering of the previous one, which snapshots do not contain."""

from datetime import timedelta

import attrs
from trio.testing import MockClock

from kedastral.core.kept_state import KeptState
from kedastral.core.ports import SharedWrite
from kedastral.core.serving import Snapshot
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.shared_store import SharedStore
from kedastral.serving.store import MemoryStates
from kedastral.settings.declarations import ModelName
from kedastral.workloads.keeping import StateKeeper
from kedastral.workloads.runner import RunnerBuilder, WorkloadRunner
from tests.exchange import MemoryExchange
from tests.kept import make_kept_state
from tests.parts import StubSource, make_history, wall_clock
from tests.workloads.test_keeping import shop


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
    own = attrs.evolve(state.snapshot, service_level=None, forecast=earlier, fingerprint=runner.fingerprint)
    found, _ = await take_over(state, own)
    assert found is not None
    assert found.made_at == own.made_at
    assert_steering_is_kept(found, state)
