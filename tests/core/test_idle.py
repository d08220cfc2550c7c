# SPDX-License-Identifier: Apache-2.0
"""A workload without any load sleeps, wakes up in time, and does not fall asleep and wake up every minute."""

from datetime import UTC, datetime

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import DeadBand, PlanPolicy, ReplicaBounds
from kedastral.core.planning.idleness import (
    IDLE_SHARE,
    MAX_IDLE_PERIODS_A_DAY,
    Idleness,
    idleness_of,
    plan_with_idle_steps,
)
from kedastral.core.series import Series

START = datetime(2026, 3, 2, tzinfo=UTC)
POLICY = PlanPolicy(100.0, 1.0, ReplicaBounds(0, 50), prewarm_steps=2)


def series(*values: float, step: float = 60.0) -> Series:
    return Series(START, step, np.array(values))


def is_idle(history: Series) -> bool:
    return idleness_of(history) is Idleness.IDLE


def nights(days: int) -> list[float]:
    """Load at 8 to 20 h, and none for the rest of each day."""
    return ([0.0] * 480 + [500.0] * 720 + [0.0] * 240) * days


@pytest.mark.parametrize(("zeros", "idle"), [(4, False), (5, True), (600, True)])
def test_no_load_for_five_minutes_is_idle_where_that_is_rare(zeros: int, idle: bool) -> None:
    assert is_idle(series(*[500.0] * 60, *[0.0] * zeros)) is idle


@pytest.mark.parametrize(("step", "zeros"), [(15.0, 20), (60.0, 5), (300.0, 3)])
def test_the_length_of_a_step_changes_little(step: float, zeros: int) -> None:
    assert is_idle(series(*[500.0] * 60, *[0.0] * zeros, step=step))
    assert not is_idle(series(*[500.0] * 60, *[0.0] * (zeros - 1), step=step))


def test_where_idle_periods_are_common_it_takes_a_longer_one() -> None:
    pauses = ([500.0] * 50 + [0.0] * 10) * 48
    assert idleness_of(series(*pauses, *[500.0] * 60, *[0.0] * 10)) is Idleness.SPARSE
    assert idleness_of(series(*pauses, *[500.0] * 60, *[0.0] * 11)) is Idleness.IDLE


def test_any_load_at_all_is_not_idle() -> None:
    assert not is_idle(series(*[0.0] * 100, 0.001))
    assert not is_idle(series(*[0.0] * 96, 0.001, *[0.0] * 4))


def test_gaps_are_neither_load_nor_idle_time() -> None:
    assert is_idle(series(*[0.0] * 100, np.nan, np.nan)), "points that have not settled say nothing"
    assert not is_idle(series(*[np.nan] * 100))
    assert not is_idle(series(*[500.0] * 60, *[np.nan] * 100)), "an outage is no idle period"


def test_a_workload_that_sleeps_at_night_is_idle_at_night() -> None:
    assert is_idle(series(*nights(7)))
    assert not is_idle(series(*nights(7)[:-300]))


def test_a_request_every_twenty_minutes_is_sparse_and_not_idle() -> None:
    sparse = ([1.0] + [0.0] * 19) * 72 * 3
    assert not is_idle(series(*sparse))


@pytest.mark.parametrize("every", [10, 15, 20, 25])
@pytest.mark.parametrize("since", [5, 9, 15, 19])
def test_half_an_hour_of_history_shows_that_requests_are_sparse(every: int, since: int) -> None:
    """As `baseline` sees it: the window cuts the first idle period short, but it still counts."""
    if since < every:
        requests = ([0.0] * (every - 1) + [1.0]) * 9 + [0.0] * since
        assert idleness_of(series(*requests[-30:])) is Idleness.SPARSE


def test_a_sparse_workload_sleeps_once_an_idle_period_is_longer_than_usual() -> None:
    sparse = ([1.0] + [0.0] * 19) * 72 * 3
    assert idleness_of(series(*sparse)) is Idleness.SPARSE
    assert idleness_of(series(*sparse, 0.0)) is Idleness.IDLE


@given(st.lists(st.floats(1, 900), min_size=5, max_size=60), st.integers(0, 900))
def test_no_more_idle_periods_than_allowed_are_slept_through(periods: list[float], last: int) -> None:
    """However long the idle periods are, at most so many of those in the history are as long as the one slept."""
    values = [value for period in periods for value in (*[0.0] * round(period), 1.0)]
    history = series(*values, *[0.0] * last)
    if is_idle(history):
        allowed = max(MAX_IDLE_PERIODS_A_DAY * len(history) / 1440, 1)
        assert sum(round(period) >= last for period in periods) + 1 <= allowed


ASLEEP = series(*nights(7))
AWAKE = series(*nights(7)[:-300])
SPARSE = series(*([1.0] + [0.0] * 19) * 72 * 3)


def plan(needed: float | np.ndarray, expected: float | np.ndarray, history: Series = ASLEEP) -> list[int]:
    needed, expected = np.broadcast_to(needed, 30).astype(float), np.broadcast_to(expected, 30).astype(float)
    return plan_with_idle_steps(needed, expected, idleness_of(history), POLICY, previous=1).tolist()


def test_an_idle_workload_needs_no_pod_for_a_small_share_of_one() -> None:
    assert max(plan(90.0, 100 * IDLE_SHARE * 0.99)) == 0
    assert min(plan(90.0, 100 * IDLE_SHARE * 1.01)) == 1
    assert min(plan(90.0, 0.0, AWAKE)) == 1


def test_where_more_than_one_pod_may_be_needed_it_stays_awake() -> None:
    assert min(plan(101.0, 1.0)) == 2


def test_only_the_prewarm_steps_come_before_the_load_since_serving_adds_the_lead_time() -> None:
    load = np.concatenate([np.full(20, 4.0), np.full(10, 90.0)])
    assert np.flatnonzero(plan(load, load))[0] == 18


def test_a_sparse_workload_keeps_one_pod_though_no_load_is_expected() -> None:
    assert plan(0.0, 0.0, SPARSE) == [1] * 30
    assert plan(0.0, 0.0, AWAKE) == [0] * 30


def test_with_a_minimum_above_zero_idleness_changes_nothing() -> None:
    policy = attrs.evolve(POLICY, bounds=ReplicaBounds(1, 50))
    for history in (ASLEEP, SPARSE):
        assert (
            plan_with_idle_steps(np.full(30, 90.0), np.zeros(30), idleness_of(history), policy, previous=1).tolist()
            == [1] * 30
        )


@pytest.mark.parametrize("least", [0, 1])
def test_whether_or_not_there_may_be_no_pods_noise_of_the_load_changes_nothing(least: int) -> None:
    policy = PlanPolicy(10.0, 1.0, ReplicaBounds(least, 50), prewarm_steps=0)
    band, needed = DeadBand(12, up=0.01), np.array([115.0, 121.0, 125.0])
    plan = plan_with_idle_steps(needed, needed, Idleness.BUSY, policy, previous=None, dead_band=band)
    assert plan.tolist() == [12, 12, 13]


@pytest.mark.parametrize(("headroom", "planned"), [(1.0, 0), (2.0, 2)])
def test_with_the_headroom_that_was_set_one_pod_must_be_enough(headroom: float, planned: int) -> None:
    policy = PlanPolicy(100.0, headroom, ReplicaBounds(0, 50), prewarm_steps=0)
    plan = plan_with_idle_steps(np.array([60.0]), np.array([5.0]), Idleness.IDLE, policy, previous=None)
    assert plan.tolist() == [planned]
