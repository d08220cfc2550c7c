# SPDX-License-Identifier: Apache-2.0
"""Fewer scale events: how far a plan goes down and up, how long it is kept, and which past plans count."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.stabilization import (
    SMALL_FALL_WINDOW,
    STABILIZATION_WINDOW,
    Recommendation,
    StabilizedPlan,
    UnstabilizedPlan,
    add_recommendations,
    highest_within,
    lowest_kept,
    project_falls,
    raise_plan,
    stabilize,
    steps_to_keep,
)

BOUNDS = ReplicaBounds(1, 400)
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PLAN = UnstabilizedPlan.of(START, 60.0, np.array([3, 5, 8, 6, 9, 2]))


def stabilized(last: int | None, *plan: int, recent: tuple[int, ...] = (), floor: int | None = None) -> StabilizedPlan:
    now = max(*plan[:2], floor or 0)
    recommendations = tuple(Recommendation(0.0, count) for count in (*recent, now))
    return stabilize(np.array(plan), floor, last, recommendations, BOUNDS, 60.0)


def planned(last: int | None, *plan: int) -> list[int]:
    return stabilized(last, *plan).replicas.tolist()


def test_the_first_plan_is_taken_as_it_is() -> None:
    assert planned(None, 7, 8, 9) == [7, 8, 9]
    assert stabilized(None, 7, 8, 9).minimum == 0


def fallen(last: int, *recommended: tuple[float, int]) -> int:
    """How far ``last`` falls after these replicas were recommended, each so many minutes ago."""
    recommendations = [Recommendation(-60.0 * minutes, count) for minutes, count in recommended]
    return stabilize(np.array([1, 1]), None, last, recommendations, BOUNDS, 60.0).minimum


def test_a_fall_within_the_tolerance_changes_nothing_however_long_it_lasts() -> None:
    assert stabilized(100, 92, 90, 50).minimum == 100
    assert planned(100, 92, 90, 50) == [92, 90, 50]
    assert fallen(100, (59, 92), (0, 92)) == 100


def test_a_small_fall_is_followed_once_it_has_lasted_for_an_hour() -> None:
    assert fallen(100, (59, 100), (4, 90), (0, 89)) == 100
    assert fallen(100, (60, 100), (4, 90), (0, 89)) == 90
    assert fallen(100, (59, 91), (4, 90), (0, 89)) == 91


def test_a_large_fall_goes_as_far_as_the_maximum_of_the_last_minutes_and_a_little_more() -> None:
    assert stabilized(100, 50, 50, 50, recent=(60, 80, 70)).minimum == 80
    assert stabilized(100, 50, 50, 50, recent=(95,)).minimum == 100
    assert fallen(100, (5, 100), (4, 75), (0, 50)) == 78
    assert fallen(100, (59, 76), (4, 75), (0, 50)) == 76  # never above what was asked for within the hour
    assert fallen(10, (5, 10), (0, 7)) == 7


@pytest.mark.parametrize(
    ("interval", "seconds"),
    [(30.0, 300.0), (60.0, 300.0), (150.0, 300.0), (200.0, 400.0), (300.0, 600.0), (900.0, 1800.0)],
)
def test_a_fall_is_followed_after_five_minutes_and_two_intervals(interval: int, seconds: int) -> None:
    """The HPA's stabilization window of 300 s is the five minutes; a single plan that asks for less changes nothing."""
    recommendations: tuple[Recommendation, ...] = ()
    for tick in range(40):
        recommendations = add_recommendations(recommendations, tick * interval, interval, 100)
    kept = []
    for tick in range(40, 80):
        recommendations = add_recommendations(recommendations, tick * interval, interval, 50)
        kept.append(lowest_kept(100, recommendations, interval))
    fallen = next(at for at, count in enumerate(kept) if count < 100)
    assert (fallen + 1) * interval == seconds


def test_a_constant_load_ends_at_its_need_within_an_hour() -> None:
    last, recommendations = 110, add_recommendations((), 0.0, 30.0, 110)
    told = []
    for minute in range(1, 90):
        recommendations = add_recommendations(recommendations, 60.0 * minute, 60.0, 100)
        last = stabilize(np.array([100, 100]), None, last, recommendations, BOUNDS, 60.0).minimum or last
        told.append(last)

    assert told == [110] * 59 + [100] * 30


def test_up_goes_a_little_further() -> None:
    assert planned(10, 30, 100, 10) == [31, 105, 10]
    assert planned(100, 200, 60, 101) == [210, 60, 106], "but not where it stays below"
    assert planned(10, 11, 12, 10) == [11, 12, 10]
    assert planned(10, 10, 10, 10) == [10, 10, 10]
    assert planned(10, 10, 10, 100) == [10, 10, 100], "what is asked for now is what was told"
    assert stabilized(10, 10, 10, 10, floor=100).floor == 105


def test_never_above_the_maximum() -> None:
    assert planned(10, 400, 399, 10) == [400, 400, 10]
    assert stabilized(430, 398, 10, 10).minimum == 400  # the maximum was lowered


# -- keeping a recommendation --


def test_the_steps_after_the_last_that_is_high_enough_are_raised() -> None:
    assert raise_plan(np.array([5, 5, 5, 5, 5, 5]), 9, lead_steps=2, steps=4).tolist() == [9, 9, 9, 9, 5, 5]
    assert raise_plan(np.array([9, 5, 5, 5, 5, 5]), 9, lead_steps=2, steps=4).tolist() == [9, 9, 9, 9, 5, 5]
    assert raise_plan(np.array([5, 9, 5, 5, 5, 5]), 9, lead_steps=2, steps=4).tolist() == [5, 9, 9, 9, 5, 5]
    assert raise_plan(np.array([5, 9, 5, 12, 5, 5]), 9, lead_steps=2, steps=4).tolist() == [5, 9, 9, 12, 5, 5]
    assert raise_plan(np.array([5, 5, 9, 5, 5, 5]), 9, lead_steps=2, steps=4).tolist() == [9, 9, 9, 9, 5, 5]
    assert raise_plan(np.array([5, 5, 5, 5, 9, 5]), 9, lead_steps=5, steps=4).tolist() == [5, 5, 5, 5, 9, 5]
    assert raise_plan(np.array([5, 5]), 9, lead_steps=2, steps=4).tolist() == [9, 9]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(1, 20), st.integers(1, 20), st.integers(0, 9))
def test_no_window_that_begins_while_it_is_kept_is_lower(
    plan: list[int], lead_steps: int, steps: int, more: int
) -> None:
    recommendation = max(plan[:lead_steps]) + more
    raised = raise_plan(np.array(plan), recommendation, lead_steps, steps)

    windows = [raised[i : i + lead_steps] for i in range(min(steps, len(plan)))]
    assert all(window.max() >= recommendation for window in windows)
    assert windows[0].max() == recommendation  # and nothing is added to the recommendation of now
    assert (raised >= plan).all()
    assert raised[steps:].tolist() == plan[steps:]


@pytest.mark.parametrize(
    ("step", "interval", "steps"),
    [(1.0, 30.0, 60), (60.0, 30.0, 1), (60.0, 60.0, 2), (60.0, 600.0, 20), (300.0, 30.0, 1), (3600.0, 30.0, 1)],
)
def test_it_is_kept_even_if_a_tick_is_missed(step: float, interval: float, steps: int) -> None:
    assert steps_to_keep(step, interval) == steps


# -- what later plans will keep --


def projected(*plan: int, kept: int, lead_steps: int = 1, low_for: int = 0, interval: float = 60.0) -> list[int]:
    """A plan in steps of a minute that keeps ``kept``, which was last needed ``low_for`` minutes before now."""
    recommendations = (Recommendation(-60.0 * low_for, kept), Recommendation(0.0, max(plan[:lead_steps])))
    recommendations = recommendations if low_for else recommendations[:1]
    return project_falls(np.array(plan), np.array(plan), kept, recommendations, lead_steps, 60.0, interval).tolist()


def test_a_fall_is_announced_for_when_it_will_be_followed() -> None:
    assert projected(20, *[10] * 7, kept=20) == [20, 20, 20, 20, 20, 10, 10, 10]
    assert projected(*[10] * 6, kept=20, low_for=2) == [10, 20, 20, 10, 10, 10]
    assert projected(*[50] * 6, kept=100, low_for=2) == [50, 100, 100, 52, 52, 52]
    assert projected(*[10] * 8, kept=20, low_for=2, interval=180.0) == [10, 20, 20, 20, 10, 10, 10, 10]


def test_a_fall_that_will_not_be_followed_is_not_announced() -> None:
    assert projected(100, *[93] * 80, kept=100) == [100] * 81
    assert projected(100, *[90] * 80, kept=100) == [100] * 60 + [90] * 21  # it is small: after an hour


def test_a_rise_ends_what_is_kept_and_a_step_that_is_read_anyway_stays_as_it_is() -> None:
    assert projected(20, 10, 10, 30, *[10] * 6, kept=20) == [20, 20, 20, 30, 30, 30, 30, 30, 10, 10]
    assert projected(10, 20, *[10] * 7, kept=20, lead_steps=2) == [10, 20, 20, 20, 20, 20, 10, 10, 10]


@given(st.lists(st.integers(1, 120), min_size=1, max_size=80), st.integers(1, 6), st.integers(0, 20))
def test_what_is_announced_is_what_later_plans_recommend_if_the_load_comes_as_forecast(
    loads: list[int], lead_steps: int, more: int
) -> None:
    plan = np.array(loads)
    first = int(plan[:lead_steps].max())
    kept, recommendations = first + more, (Recommendation(0.0, first),)
    announced = project_falls(plan, plan, kept, recommendations, lead_steps, 60.0, 60.0)

    assert (announced >= plan).all()
    for i in range(1, len(plan)):
        asked = int(plan[i : i + lead_steps].max())
        recommendations = add_recommendations(recommendations, 60.0 * i, 60.0, asked)
        kept = max(asked, stabilize(plan[i:], None, kept, recommendations, BOUNDS, 60.0).minimum)
        assert announced[i : i + lead_steps].max() >= kept
        assert announced[i] in (plan[i], kept)


# -- the recommendations of the last minutes --


def kept_after(*moments: float, interval: float = 30.0) -> list[int]:
    """The indices of the plans that are kept after plans at these moments, each lower than the one before."""
    recommendations: tuple[Recommendation, ...] = ()
    for place, at in enumerate(moments):
        recommendations = add_recommendations(recommendations, at, interval, 1000 - place)
    return [1000 - entry.replicas for entry in recommendations]


def test_a_recommendation_is_forgotten_after_the_longer_window() -> None:
    ticks = [300.0 * n for n in range(13)]

    assert SMALL_FALL_WINDOW == 3600.0
    assert kept_after(*ticks[:12], interval=300.0) == list(range(12))
    assert kept_after(*ticks, interval=300.0) == list(range(1, 13))


def test_what_a_later_recommendation_has_reached_is_not_kept() -> None:
    recommendations: tuple[Recommendation, ...] = ()
    for second, count in enumerate([5, 9, 7, 3, 4, 4]):
        recommendations = add_recommendations(recommendations, float(second), 1.0, count)

    assert recommendations == (Recommendation(1.0, 9), Recommendation(2.0, 7), Recommendation(5.0, 4))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=90))
def test_the_maximum_of_either_window_is_that_of_all_that_was_recommended(counts: list[int]) -> None:
    recommendations: tuple[Recommendation, ...] = ()
    for minute, count in enumerate(counts):
        recommendations = add_recommendations(recommendations, 60.0 * minute, 60.0, count)

    assert highest_within(recommendations, STABILIZATION_WINDOW) == max(counts[-5:])
    assert highest_within(recommendations, SMALL_FALL_WINDOW) == max(counts[-60:])


def test_a_missed_tick_is_time_like_any_other() -> None:
    assert kept_after(0, *range(60, 3600, 60), 3600) == list(range(1, 61))


@pytest.mark.parametrize("late", [0.0, 0.004, 10.0])
def test_a_tick_that_comes_late_after_a_missed_one_is_no_pause(late: float) -> None:
    [first, _] = add_recommendations([Recommendation(0.0, 10)], 60.0 + late, 30.0, 5)
    assert first.at == 0.0

    [first, _] = add_recommendations([Recommendation(0.0, 10)], 90.0 + late, 30.0, 5)
    assert first.at == pytest.approx(60.0 + late), "with two missed, nothing was known: it counts as one interval"


def test_a_pause_counts_as_one_interval() -> None:
    before = [300.0 * n for n in range(12)]

    assert kept_after(*before, 10000.0, interval=300.0) == list(range(1, 13))
    assert kept_after(*before, 10000.0, 10300.0, 20000.0, interval=300.0) == list(range(3, 15))


def test_a_clock_that_is_set_back_takes_nothing_away() -> None:
    before = [50000 + 300.0 * n for n in range(12)]

    assert kept_after(*before, 1000.0, interval=300.0) == list(range(1, 13))
    assert kept_after(*before, 53000.0, interval=300.0) == list(range(1, 13))


def test_several_may_be_recommended_at_once() -> None:
    assert add_recommendations((), 10.0, 30.0, 7, 5) == (Recommendation(10.0, 7), Recommendation(10.0, 5))


# -- the plan before stabilization --


def forecast_at(seconds: float, steps: int = 4, step: float = 60.0) -> Forecast:
    return Forecast(START + timedelta(seconds=seconds), step, np.ones(steps))


@pytest.mark.parametrize(
    ("seconds", "remaining"),
    [
        (0, [3, 5, 8, 6]),
        (60, [5, 8, 6, 9]),
        (90, [8, 8, 9, 9]),  # each step overlaps two of the plan's: the larger counts
        (180, [6, 9, 2, 0]),  # past its end it wants nothing
        (359, [2, 0, 0, 0]),
        (360, [0, 0, 0, 0]),
        (-120, [0, 0, 3, 5]),
    ],
)
def test_what_remains_is_read_by_wall_clock(seconds: float, remaining: list[int]) -> None:
    assert PLAN.remaining_for(forecast_at(seconds), BOUNDS).tolist() == remaining


def test_another_step_reads_the_same_times() -> None:
    assert PLAN.remaining_for(forecast_at(60, steps=2, step=180.0), BOUNDS).tolist() == [8, 9]
    assert PLAN.remaining_for(forecast_at(60, steps=4, step=30.0), BOUNDS).tolist() == [5, 5, 8, 8]


def test_bounds_that_are_new_hold() -> None:
    assert PLAN.remaining_for(forecast_at(0), ReplicaBounds(4, 7)).tolist() == [4, 5, 7, 6]


@pytest.mark.parametrize(("seconds", "desired"), [(-1, None), (0, 3), (59.999, 3), (60, 5), (359, 2), (360, None)])
def test_desired_replicas_are_those_of_the_step_that_contains_the_moment(seconds: float, desired: int | None) -> None:
    assert PLAN.desired_at(START + timedelta(seconds=seconds)) == desired
