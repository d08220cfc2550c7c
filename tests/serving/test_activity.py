# SPDX-License-Identifier: Apache-2.0
"""What a stream of an external-push trigger tells KEDA, and when it checks again."""

from datetime import datetime, timedelta

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.serving import Activity, decide, seconds_unchanged
from kedastral.serving.scaler import MAX_SILENCE, ActivityUpdates, Scaler
from kedastral.serving.store import MemoryStore
from tests.parts import FixedResolver, make_snapshot, wall_clock

ACTIVE, INACTIVE, ASSUMED, HELD = Activity.ACTIVE, Activity.INACTIVE, Activity.ASSUMED, Activity.HELD


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ((INACTIVE,), [False]),
        ((HELD, ACTIVE, ACTIVE, HELD, ACTIVE, INACTIVE, HELD, INACTIVE, ACTIVE), [True, False, True]),
        ((ASSUMED, HELD, ASSUMED), []),
        ((ASSUMED, ACTIVE, ASSUMED, ACTIVE), [True, True]),
        ((INACTIVE, ASSUMED, INACTIVE, ASSUMED, ACTIVE), [False, True]),
        ((ACTIVE, ASSUMED, INACTIVE, ACTIVE), [True, False, True]),
        ((ACTIVE, ASSUMED, HELD, ACTIVE, HELD, ACTIVE), [True, True]),
    ],
)
@pytest.mark.parametrize("looks", [1, 3])
def test_every_change_is_told_once_however_often_it_is_looked_at_and_nothing_for_want_of_a_plan(
    states: tuple[Activity, ...], told: list[bool], looks: int
) -> None:
    updates = ActivityUpdates()
    notes = [updates.note(state) for state in states for _ in range(looks)]
    assert [note for note in notes if note is not None] == told


@given(
    on_stale=st.sampled_from(OnStale),
    replicas=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    lead=st.sampled_from([30.0, 60.0, 100.0, 180.0, 1000.0]),
    stale_after=st.sampled_from([30.0, 95.0, 120.0, 3600.0]),
    second=st.floats(-200, 800),
    part=st.floats(0, 0.999),
)
def test_until_then_the_decision_is_the_same(
    on_stale: OnStale, replicas: list[int], lead: float, stale_after: float, second: float, part: float
) -> None:
    snapshot, policy = make_snapshot(replicas, lead=lead, floor=None), StalePolicy(stale_after, on_stale)
    now = snapshot.made_at + timedelta(seconds=second)
    seconds = min(seconds_unchanged(snapshot, now, policy), 1000.0)
    assert seconds >= 0

    def told(moment: datetime) -> tuple[int | None, bool, bool]:
        decision = decide(snapshot, moment, policy)
        return decision.replicas, decision.stale, decision.trusted

    assert told(now + timedelta(seconds=part * seconds)) == told(now)


@pytest.mark.parametrize("on_stale", OnStale)
async def test_a_stream_looks_again_as_soon_as_the_decision_changes_by_the_passing_of_time(
    autojump_clock: MockClock, on_stale: OnStale
) -> None:
    clock, store, policy = wall_clock(), MemoryStore(), StalePolicy(95.0, on_stale)
    await store.put(make_snapshot([3, 5, 1, 6, 9, 9, 2, 8], lead=100.0, floor=None))
    scaler = Scaler(store, clock, FixedResolver.of("shop", policy=policy))
    seen = scaler.decide("shop").replicas
    changed: list[tuple[float, int | None]] = []
    while trio.current_time() < 600:
        await scaler.wait_for_change("shop", "prod")
        if scaler.decide("shop").replicas != seen:
            seen = scaler.decide("shop").replicas
            changed.append((round(trio.current_time(), 1), seen))
    ridden = [(80.0, 6), (140.0, 9), (360.0, 8), (380.0, None)]
    expected = {
        OnStale.DEFAULT_MIN: [(80.0, 6), (95.0, 2)],
        OnStale.ERROR: [(80.0, 6), (95.0, None)],
        OnStale.RIDE_FORECAST: ridden,
    }
    assert changed == expected[on_stale]


async def test_a_silent_stream_looks_once_a_minute_in_any_case(autojump_clock: MockClock) -> None:
    scaler = Scaler(MemoryStore(), wall_clock(), FixedResolver.of("shop"))
    began = trio.current_time()
    await scaler.wait_for_change("shop", "prod")
    assert trio.current_time() - began == pytest.approx(MAX_SILENCE)
