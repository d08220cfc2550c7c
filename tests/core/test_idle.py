# SPDX-License-Identifier: Apache-2.0
"""A workload without any load sleeps, wakes up in time, and is not put to sleep and woken by the minute."""

from datetime import UTC, datetime

import numpy as np
import pytest

from kedastral.core.capacity import IDLE_SHARE, PlanPolicy, ReplicaBounds, drop_idle_need, is_idle, plan_replicas
from kedastral.core.series import Series

START = datetime(2026, 3, 2, tzinfo=UTC)
POLICY = PlanPolicy(100.0, 1.0, ReplicaBounds(0, 50), prewarm_steps=2)


def series(*values: float, step: float = 60.0) -> Series:
    return Series(START, step, np.array(values))


def nights(days: int) -> list[float]:
    """Load at 8 to 20 h, and none for the rest of each day."""
    return ([0.0] * 480 + [500.0] * 720 + [0.0] * 240) * days


@pytest.mark.parametrize(("zeros", "idle"), [(14, False), (15, True), (600, True)])
def test_no_load_for_a_quarter_of_an_hour_is_idle(zeros: int, idle: bool) -> None:
    assert is_idle(series(*[500.0] * 60, *[0.0] * zeros)) is idle


def test_any_load_at_all_is_not_idle() -> None:
    assert not is_idle(series(*[0.0] * 100, 0.001))
    assert not is_idle(series(*[0.0] * 95, 0.001, *[0.0] * 5))


def test_gaps_are_neither_load_nor_rest() -> None:
    assert is_idle(series(*[0.0] * 100, np.nan, np.nan)), "points that have not settled say nothing"
    assert not is_idle(series(*[np.nan] * 100))
    assert not is_idle(series(*[500.0] * 60, *[np.nan] * 100)), "an outage is no rest"


def test_a_workload_that_sleeps_at_night_is_idle_at_night() -> None:
    assert is_idle(series(*nights(7)))
    assert not is_idle(series(*nights(7)[:-300]))


def test_a_request_every_twenty_minutes_is_sparse_and_not_idle() -> None:
    sparse = ([1.0] + [0.0] * 19) * 72 * 3
    assert not is_idle(series(*sparse))


def plan(needed: float | np.ndarray, expected: float | np.ndarray) -> list[int]:
    needed, expected = np.broadcast_to(needed, 30).astype(float), np.broadcast_to(expected, 30).astype(float)
    return plan_replicas(drop_idle_need(needed, expected, POLICY, 8), POLICY, previous=1).tolist()


def test_an_idle_workload_needs_no_pod_for_a_small_share_of_one() -> None:
    assert max(plan(90.0, 100 * IDLE_SHARE * 0.99)) == 0
    assert min(plan(90.0, 100 * IDLE_SHARE * 1.01)) == 1


def test_where_more_than_one_pod_may_be_needed_it_stays_awake() -> None:
    assert min(plan(101.0, 1.0)) == 2


def test_it_wakes_up_a_whole_window_before_the_load() -> None:
    load = np.concatenate([np.full(20, 4.0), np.full(10, 900.0)])
    kept = drop_idle_need(load, load, POLICY, 8)
    assert np.flatnonzero(kept)[0] == 13, "seven steps before the first that needs pods"
