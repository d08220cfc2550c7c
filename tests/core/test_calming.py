# SPDX-License-Identifier: Apache-2.0
"""Fewer scale events: what is held, how far down and up it goes, and what counts as time in which less was wanted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.planning.stabilization import (
    DOWN_AFTER,
    Recommendation,
    StabilizedPlan,
    hold,
    keep_wanted,
    stabilize,
    steps_held,
)

BOUNDS = ReplicaBounds(1, 400)


def calmed(served: int | None, *plan: int, recent: tuple[int, ...] = (), floor: int | None = None) -> StabilizedPlan:
    now = max(*plan[:2], floor or 0)
    wanted = tuple(Recommendation(0.0, count) for count in (*recent, now))
    return stabilize(np.array(plan), floor, served, wanted, BOUNDS)


def planned(served: int | None, *plan: int) -> list[int]:
    return calmed(served, *plan).replicas.tolist()


def test_the_first_plan_is_taken_as_it_is() -> None:
    assert planned(None, 7, 8, 9) == [7, 8, 9]
    assert calmed(None, 7, 8, 9).held == 0


def test_a_small_step_down_is_held() -> None:
    assert calmed(100, 92, 90, 50).held == 100
    assert calmed(100, 91, 90, 50).held == 91
    assert planned(100, 92, 90, 50) == [92, 90, 50]


def test_down_goes_as_far_as_the_last_minutes_wanted() -> None:
    assert calmed(100, 50, 50, 50, recent=(60, 80, 70)).held == 80
    assert calmed(100, 50, 50, 50, recent=(95,)).held == 100


def test_up_goes_a_little_further() -> None:
    assert planned(10, 30, 100, 10) == [31, 105, 10]
    assert planned(10, 11, 12, 10) == [11, 12, 10]
    assert planned(10, 10, 10, 10) == [10, 10, 10]
    assert calmed(10, 10, 10, 10, floor=100).floor == 105


def test_never_above_the_most() -> None:
    assert planned(10, 400, 399, 10) == [400, 400, 10]
    assert calmed(430, 398, 10, 10).held == 400  # the maximum was lowered


# -- holding --


def test_what_is_held_fills_up_the_steps_after_the_last_that_is_as_high() -> None:
    assert hold(np.array([5, 5, 5, 5, 5, 5]), 9, lead_steps=2, steps=4).tolist() == [9, 9, 9, 9, 5, 5]
    assert hold(np.array([9, 5, 5, 5, 5, 5]), 9, lead_steps=2, steps=4).tolist() == [9, 9, 9, 9, 5, 5]
    assert hold(np.array([5, 9, 5, 5, 5, 5]), 9, lead_steps=2, steps=4).tolist() == [5, 9, 9, 9, 5, 5]
    assert hold(np.array([5, 9, 5, 12, 5, 5]), 9, lead_steps=2, steps=4).tolist() == [5, 9, 9, 12, 5, 5]
    assert hold(np.array([5, 5, 5, 5, 9, 5]), 9, lead_steps=5, steps=4).tolist() == [5, 5, 5, 5, 9, 5]
    assert hold(np.array([5, 5]), 9, lead_steps=2, steps=4).tolist() == [9, 9]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(1, 20), st.integers(1, 20), st.integers(0, 9))
def test_no_window_that_begins_while_it_is_held_is_lower(
    plan: list[int], lead_steps: int, steps: int, kept: int
) -> None:
    served = max(plan[:lead_steps]) + kept
    held = hold(np.array(plan), served, lead_steps, steps)

    windows = [held[i : i + lead_steps] for i in range(min(steps, len(plan)))]
    assert all(window.max() >= served for window in windows)
    assert windows[0].max() == served  # and it adds nothing to what is served now
    assert (held >= plan).all()
    assert held[steps:].tolist() == plan[steps:]


@pytest.mark.parametrize(
    ("step", "interval", "steps"),
    [(1.0, 30.0, 300), (60.0, 30.0, 5), (60.0, 60.0, 5), (60.0, 600.0, 20), (300.0, 30.0, 1), (3600.0, 30.0, 1)],
)
def test_it_is_held_for_five_minutes_and_a_missed_beat(step: float, interval: float, steps: int) -> None:
    assert steps_held(step, interval) == steps


# -- what was wanted --


def wanted_over(*moments: float, interval: float = 30.0) -> list[int]:
    """What is kept after plans at these moments, which wanted 0, 1, 2, ..."""
    wanted: tuple[Recommendation, ...] = ()
    for count, at in enumerate(moments):
        wanted = keep_wanted(wanted, at, interval, count)
    return [entry.replicas for entry in wanted]


def test_what_was_wanted_is_forgotten_after_a_while() -> None:
    ticks = [30.0 * n for n in range(13)]

    assert DOWN_AFTER == 300.0
    assert wanted_over(*ticks[:10]) == list(range(10))
    assert wanted_over(*ticks) == list(range(3, 13))


def test_a_missed_beat_is_time_like_any_other() -> None:
    assert wanted_over(0, 30, 90, 150, 210, 270, 300) == [1, 2, 3, 4, 5, 6]


def test_a_pause_counts_as_one_interval() -> None:
    before = [30.0 * n for n in range(10)]

    assert wanted_over(*before, 10000.0) == list(range(1, 11))
    assert wanted_over(*before, 10000.0, 10030.0, 20000.0) == list(range(3, 13))


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    before = [5000 + 30.0 * n for n in range(10)]

    assert wanted_over(*before, 1000.0) == list(range(1, 11))
    assert wanted_over(*before, 5270.0) == list(range(1, 11))


def test_several_may_be_wanted_at_once() -> None:
    assert keep_wanted((), 10.0, 30.0, 7, 5) == (Recommendation(10.0, 7), Recommendation(10.0, 5))
