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


def test_the_need_of_an_idle_workload_is_none_below_a_share_of_a_pod() -> None:
    upper = np.full(30, 100 * IDLE_SHARE * 0.99)
    assert plan_replicas(drop_idle_need(upper, POLICY, 8), POLICY, previous=1).max() == 0
    upper = np.full(30, 100 * IDLE_SHARE * 1.01)
    assert plan_replicas(drop_idle_need(upper, POLICY, 8), POLICY, previous=1).min() == 1


def test_it_wakes_up_a_whole_window_before_the_load() -> None:
    upper = np.concatenate([np.full(20, 4.0), np.full(10, 900.0)])
    kept = drop_idle_need(upper, POLICY, 8)
    assert np.flatnonzero(kept)[0] == 13, "seven steps before the first that needs pods"
