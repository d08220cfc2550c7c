# SPDX-License-Identifier: Apache-2.0
"""Which points of a history count as measurement faults, and which as load."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kedastral.core.data_quality.outliers import screen
from kedastral.core.series import DataQuality, Floats, Observation, Series
from tests.core.service_level_runs import START

DAY, HOUR = 1440, 60


def daily(days: int = 3, seed: int = 1) -> Floats:
    """Minutes of a load between 200 and 1800 by the time of day, with noise."""
    minutes = np.arange(days * DAY)
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.05, len(minutes)))
    return np.asarray((1000 - 800 * np.cos(2 * np.pi * minutes / DAY)) * noise)


def left_out(loads: Floats, step: float = 60.0) -> list[int]:
    """The indices of ``loads`` that screening turned into gaps; all others are unchanged."""
    screened = screen(Series(START, step, loads))
    gone = np.isnan(screened.history.values) & np.isfinite(loads)
    kept = np.where(gone, np.nan, loads)
    assert np.array_equal(screened.history.values, kept, equal_nan=True)
    assert (0 if screened.outliers is None else screened.outliers.points) == gone.sum()
    return [int(place) for place in np.flatnonzero(gone)]


@pytest.mark.parametrize("factor", [20.0, 1e3, 1e9])
@pytest.mark.parametrize("points", [1, 2, 5, 10])
@pytest.mark.parametrize("ago", [60, 12, 300])
def test_a_few_points_many_times_too_large_are_gaps_once_the_load_has_come_back(
    factor: float, points: int, ago: int
) -> None:
    loads = daily()
    first = len(loads) - ago
    loads[first : first + points] *= factor
    loads[first : first + points] = np.maximum(loads[first : first + points], 4000)
    assert left_out(loads) == list(range(first, first + points))


def test_the_newest_outlier_and_their_number_are_told() -> None:
    loads = daily()
    loads[[-900, -100]] = 1e6, 2e6
    outliers = screen(Series(START, 60.0, loads)).outliers
    assert outliers is not None
    assert (outliers.points, outliers.newest.value) == (2, 2e6)
    assert outliers.newest.at == START + timedelta(minutes=len(loads) - 100)


def test_a_spike_of_a_size_that_once_lasted_is_load() -> None:
    loads = daily(7)
    loads[2 * DAY : 2 * DAY + 30] = 20_000  # half an hour in a week: far too rare to be usual
    loads[5 * DAY] = 15_000
    assert left_out(loads) == []


def test_a_history_without_outliers_is_handed_on_as_it_is() -> None:
    history = Series(START, 60.0, daily())
    assert screen(history).history is history


@pytest.mark.parametrize(("factor", "held_back"), [(2.0, 0), (5.0, 2), (9.0, 2), (1000.0, 5)])
def test_a_jump_that_lasts_is_believed_the_later_the_further_it_is(factor: float, held_back: int) -> None:
    loads = np.concatenate([np.full(2 * DAY, 500.0), np.full(30, 500.0 * factor)])
    seen = [left_out(loads[: 2 * DAY + minutes]) for minutes in range(1, 31)]
    assert [len(places) for places in seen] == [*range(1, held_back + 1), *[0] * (30 - held_back)]


@pytest.mark.parametrize(("step", "held_back"), [(15.0, 8), (30.0, 4), (60.0, 2), (300.0, 1)])
def test_what_a_jump_has_to_outlast_is_time_and_not_points(step: float, held_back: int) -> None:
    size = round(2 * 86400 / step)
    loads = np.concatenate([np.full(size, 500.0), np.full(12, 2500.0)])
    assert [len(left_out(loads[: size + n], step)) for n in range(1, 13)] == [
        *range(1, held_back + 1),
        *[0] * (12 - held_back),
    ]


def test_what_grows_on_from_a_jump_that_is_believed_is_believed_at_once() -> None:
    crowd = 500.0 * np.array([5, 5, 5, 6, 8, 9.5])
    loads = np.concatenate([np.full(2 * DAY, 500.0), crowd])
    assert left_out(loads[: 2 * DAY + 2]) == [2 * DAY, 2 * DAY + 1]
    assert all(left_out(loads[: 2 * DAY + minutes]) == [] for minutes in range(3, 7))


def test_a_load_that_climbs_step_by_step_is_load_however_far_it_gets() -> None:
    loads = np.concatenate([np.full(2 * DAY, 10.0), 10.0 * 1.9 ** np.arange(1, 15)])
    assert all(left_out(loads[: 2 * DAY + minutes]) == [] for minutes in range(1, 15))


def test_an_outlier_on_top_of_a_jump_that_is_believed_is_still_one() -> None:
    loads = np.concatenate([np.full(2 * DAY, 500.0), np.full(4, 2500.0), [2.5e6]])
    assert left_out(loads) == [len(loads) - 1]


@pytest.mark.parametrize("period", [HOUR, DAY])
@pytest.mark.parametrize("width", [1, 4])
def test_a_spike_at_the_same_time_of_each_hour_or_day_is_load(period: int, width: int) -> None:
    loads, random = daily(6), np.random.default_rng(2)
    begun = np.arange(7, len(loads) - width, period)
    for first in begun:
        loads[first : first + width] = 20000 * np.exp(random.normal(0, 0.1))
    assert left_out(loads) == []
    assert all(left_out(loads[: first + 1]) == [] for first in begun[-3:])


def test_the_job_of_each_week_is_load() -> None:
    loads = daily(14)
    loads[[2 * DAY + 5, 9 * DAY + 5]] = 30000
    assert left_out(loads) == []
    assert left_out(loads[: 9 * DAY + 6]) == [], "as the newest point"


def test_a_fault_at_the_time_of_a_regular_spike_is_none() -> None:
    loads = daily(6)
    loads[7::DAY] = 20000
    loads[5 * DAY + 7] = 2e7
    assert left_out(loads) == [5 * DAY + 7]


@pytest.mark.parametrize("share", [0.06, 0.3])
def test_bursts_that_come_all_the_time_are_load(share: float) -> None:
    loads, random = daily(5), np.random.default_rng(3)
    bursts = random.random(len(loads)) < share
    loads[bursts] *= 50 * np.exp(random.normal(0, 0.15, bursts.sum()))
    assert len(left_out(loads)) <= 0.001 * len(loads)


def test_a_load_that_is_hardly_ever_above_zero_is_measured_by_its_own_requests() -> None:
    loads, random = np.zeros(5 * DAY), np.random.default_rng(4)
    loads[random.choice(5 * DAY, 40, replace=False)] = random.uniform(0.5, 8, 40)
    assert left_out(loads) == []
    loads[3000] = 1e6
    assert left_out(loads) == [3000]


def test_the_first_load_ever_is_load() -> None:
    assert left_out(np.append(np.zeros(3 * DAY), 5000.0)) == []


def test_the_return_of_the_day_after_a_night_at_zero_is_load() -> None:
    night = np.zeros(12 * HOUR)
    loads = np.concatenate([np.concatenate([night, np.full(12 * HOUR, 900.0)])] * 3 + [night, [900.0]])
    assert left_out(loads) == []


def test_with_less_than_a_day_of_history_only_what_is_absurd_is_left_out() -> None:
    loads = np.full(4 * HOUR, 300.0)
    loads[100] = 300 * 9
    assert left_out(loads) == []
    assert left_out(np.append(np.full(2 * DAY, np.nan), loads)) == [], "what was not measured is no history"
    loads[100] = 300 * 11
    assert left_out(loads) == [100]


@pytest.mark.parametrize("loads", [[], [np.nan] * 20, [0.0] * 20, [5.0, 1e9], [np.nan, 3.0, 1e12, np.nan]])
def test_what_says_nothing_of_a_usual_load_is_left_alone(loads: list[float]) -> None:
    assert left_out(np.array(loads)) == []


def test_gaps_neither_lengthen_a_fault_nor_make_it_lasting() -> None:
    loads = daily()
    loads[-40:-20] = np.nan
    loads[-41] = 1e9
    assert left_out(loads) == [len(loads) - 41]


def test_rate_over_five_minutes_at_the_live_end_is_never_believed() -> None:
    loads = daily()
    loads[-6:-1] *= 1e4
    assert [len(left_out(loads[: len(loads) - back])) for back in range(6)] == [5, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("minutes", [1, 5, 10])
@pytest.mark.parametrize("step", [15.0, 60.0])
def test_two_bad_scrapes_are_never_believed_if_the_range_of_the_query_is_known(minutes: int, step: float) -> None:
    """Two bad scrapes, 15 s apart: Prometheus includes both ends of a range."""
    loads = np.repeat(daily(), round(60 / step))
    last = round((60 * minutes + (15 if step == 15 else 0)) / step) + 1
    seen = [np.append(loads, [loads[-1] * 1e4] * points) for points in range(1, last + 1)]
    seen.append(np.append(seen[-1], loads[-1]))
    quality = DataQuality(range=60.0 * minutes)
    found = [screen(Series(START, step, each, quality)).outliers for each in seen]
    assert [0 if one is None else one.points for one in found] == [*range(1, last + 1), last]


def test_a_history_that_is_too_short_to_have_jumped_holds_nothing_back() -> None:
    loads = [5000.0] * 10 + [10.0] * 5 + [5000.0] * 2
    assert left_out(np.array(loads)) == []


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.sampled_from([np.nan, 0.0, 5e-324, 1.0, 3.0, 50.0, 1e9, 1.7e308]), max_size=60),
    step=st.sampled_from([1.0, 15.0, 60.0, 300.0, 3600.0, 86400.0, 1e7]),
)
def test_whatever_the_history_all_but_outliers_stays_and_something_is_left(values: list[float], step: float) -> None:
    left_out(np.array(values), step)
    assert (screen(Series(START, step, values)).history.newest is None) == (not np.isfinite(values).any())


def test_a_jump_to_what_has_been_there_before_waits_where_the_load_never_jumps() -> None:
    loads = daily()
    night = 2 * DAY + 5
    assert [len(left_out(np.append(loads[:night], [1500.0] * minutes))) for minutes in range(1, 5)] == [1, 2, 0, 0]
    came_back = np.concatenate([loads[:night], [1500.0], loads[night + 1 : night + 5]])
    assert left_out(came_back) == []


@pytest.mark.parametrize(
    ("before", "load", "held_back"),
    [
        (slice(DAY + 200, DAY + 205), 1500.0, [1, 2, 0, 0]),
        (slice(DAY + 200, DAY + 210), 1500.0, [1, 2, 0, 0]),
        (slice(DAY + 200, DAY + 211), 1500.0, [0, 0, 0, 0]),
        (slice(DAY + 700, DAY + 701), 1.0, [1, 2, 0, 0]),
        (slice(DAY + 700, DAY + 704), 1.0, [1, 2, 0, 0]),
        (slice(DAY + 700, DAY + 705), 1.0, [0, 0, 0, 0]),
    ],
    ids=["five minutes", "ten minutes", "to stay", "a dip", "a longer dip", "a rest"],
)
def test_only_a_jump_to_stay_shows_that_the_load_jumps(before: slice, load: float, held_back: list[int]) -> None:
    """A jump to 1500 at night: the load did the same for a while at another time of the previous day."""
    loads = daily()[: 2 * DAY + 5]
    loads[before] = load
    assert [len(left_out(np.append(loads, [1500.0] * minutes))) for minutes in range(1, 5)] == held_back


def test_a_jump_that_reaches_the_time_of_a_regular_spike_is_believed() -> None:
    loads = daily()
    loads[7::HOUR] = np.maximum(loads[7::HOUR], 1500.0)
    assert [len(left_out(np.append(loads[: 2 * DAY + 5], [1500.0] * minutes))) for minutes in (1, 2, 3)] == [1, 0, 0]


def test_a_load_that_was_high_five_points_ago_has_not_jumped() -> None:
    steady = np.full(2 * DAY, 1000.0)
    assert left_out(np.concatenate([steady, np.full(4, 100.0), [450.0]])) == []
    assert left_out(np.concatenate([steady, np.full(5, 100.0), [450.0]])) == [2 * DAY + 5]
    young = np.concatenate([steady[:30], np.full(120, 100.0)])
    assert left_out(np.append(young, [450.0])) == [], "nobody knows yet what it does"
    assert left_out(np.append(young, [1500.0])) == [150]


@pytest.mark.parametrize("late", [-2, -1, 1, 2])
def test_a_regular_spike_may_come_a_step_earlier_or_later(late: int) -> None:
    loads = daily(6)
    loads[7::DAY] = 20000.0
    loads[[5 * DAY + 7, 5 * DAY + 7 + late]] = loads[5 * DAY + 3], 20000.0
    assert left_out(loads) == ([] if abs(late) == 1 else [5 * DAY + 7 + late])


def test_a_jump_is_measured_against_the_load_before_it_and_a_little_of_the_usual() -> None:
    loads = np.tile(np.repeat([1000.0, 220.0], 12 * HOUR), 2)[:-60]
    loads[-3] = 60.0  # of the last minutes the largest
    assert [len(left_out(np.append(loads, [2200.0] * minutes))) for minutes in range(1, 7)] == [1, 2, 0, 0, 0, 0]


def test_a_load_that_is_on_and_off_is_believed_at_once() -> None:
    loads = np.concatenate([np.full(97, 50.0), np.full(97, 1000.0)] * 20 + [np.full(97, 50.0), [1000.0]])
    assert left_out(loads) == []


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(1e-6, 1e6),
    shift=st.integers(0, 2 * DAY),
    factor=st.floats(3, 1e9),
    points=st.integers(1, 10),
)
def test_the_unit_of_the_load_does_not_matter_and_nothing_grows(
    scale: float, shift: int, factor: float, points: int
) -> None:
    loads = daily(2)
    loads[shift : shift + points] *= factor
    there = left_out(loads)
    assert left_out(loads * scale) == there
    assert set(there) <= set(range(shift, shift + points))
    assert screen(screen(Series(START, 60.0, loads)).history).outliers is None


def crowd_at(place: int, load: float) -> list[int]:
    """How many points are left out in each of the first eight minutes of a lasting jump to ``load``."""
    before = daily()[:place]
    return [len(left_out(np.append(before, [load] * minutes))) for minutes in range(1, 9)]


def test_a_jump_to_what_has_never_been_there_lasts_the_longer_the_less_there_was_before_it() -> None:
    noon, night = 2 * DAY + DAY // 2, 2 * DAY + 5
    assert crowd_at(noon, 4500.0) == [1, 2, 0, 0, 0, 0, 0, 0]
    assert crowd_at(night, 4500.0) == [1, 2, 3, 4, 5, 0, 0, 0]


@pytest.mark.parametrize("factor", [25.0, 100.0])
def test_five_points_of_rate_at_night_are_never_believed_though_the_day_is_large(factor: float) -> None:
    loads = daily()[: 2 * DAY + 60]
    loads[-5:] *= factor
    assert [len(left_out(loads[: len(loads) - 4 + n])) for n in range(5)] == [1, 2, 3, 4, 5]


@settings(max_examples=60, deadline=None)
@given(factors=st.lists(st.floats(0.5, 40), min_size=1, max_size=9))
@example([1.9, 3.7, 2.2, 7.0])  # not the newest that was accepted
@example([1.9, 3.7, 30.0, 20.0])  # and not what was not
def test_a_run_is_told_point_by_point_from_the_largest_that_was_accepted_before(factors: list[float]) -> None:
    loads = np.full(DAY + 2 * HOUR, 100.0)
    loads[DAY : DAY + len(factors)] *= factors
    expected, plausible = [], 100.0
    for place in range(DAY, DAY + len(factors)):
        load = float(loads[place])
        if load <= 200:
            plausible = max(load, 100.0)  # a run begins after it
        elif load > 2 * plausible:
            expected.append(place)
        else:
            plausible = max(plausible, load)
    assert left_out(loads) == expected


# -- lower bounds --


def with_bounds(*bounds: float, back: int = 0) -> tuple[Observation | None, list[float]]:
    """The least load, and the points that have not settled, as screened where both are ``bounds`` after a day's load.

    They begin ``back`` points before the gap of as many points that the history ends with.
    """
    known = daily()
    values = np.append(known, np.full(len(bounds) - back, np.nan))
    seen = Series(START + timedelta(minutes=len(known) - back), 60.0, bounds)
    quality = DataQuality(at_least=seen.newest, lower_bounds=seen, unsettled=seen)
    screened = screen(Series(START, 60.0, values, quality)).history
    assert np.array_equal(screened.values, values, equal_nan=True), "bounds are no points of the history"
    assert screened.quality.lower_bounds is seen
    assert screened.quality.unsettled is not None
    assert screened.quality.unsettled.start == seen.start
    return screened.quality.at_least, screened.quality.unsettled.values.tolist()


def test_a_lower_bound_that_is_no_load_says_nothing() -> None:
    end = START + timedelta(minutes=3 * DAY)
    assert with_bounds(250.0, 1e6) == (Observation(end, 250.0), [250.0, pytest.approx(np.nan, nan_ok=True)])
    assert with_bounds(1e6, 250.0)[0] == Observation(end + timedelta(minutes=1), 250.0)
    assert with_bounds(1e6)[0] == Observation(end, 0.0), "then nothing is known of the load"


def test_a_plausible_lower_bound_stays_and_one_that_lasts_is_believed() -> None:
    end = START + timedelta(minutes=3 * DAY)
    assert with_bounds(240.0, 250.0) == (Observation(end + timedelta(minutes=1), 250.0), [240.0, 250.0])
    assert with_bounds(*[1e6] * 7)[1] == [1e6] * 7


def test_a_least_load_without_the_points_that_it_ends_stays() -> None:
    quality = DataQuality(at_least=Observation(START, 7.0))
    assert screen(Series(START, 60.0, daily(), quality)).history.quality == quality


def test_a_partial_answer_of_gaps_is_no_bound() -> None:
    quality = DataQuality(lower_bounds=Series(START, 60.0, [np.nan] * 3))
    assert screen(Series(START, 60.0, daily(), quality)).history.quality == quality


def test_where_the_history_is_known_its_load_is_judged_and_not_the_bound() -> None:
    assert with_bounds(1e6, 1e6, 250.0, back=2)[1] == [1e6, 1e6, 250.0]


def test_bounds_that_reach_beyond_the_history_are_judged_where_it_has_a_place_for_them() -> None:
    known = daily()
    early = Series(START - timedelta(minutes=2), 60.0, [1e6, 1e6, *known])
    late = Series(START + timedelta(minutes=len(known) - 1), 60.0, [1.0, 1e6, 1e6])
    for unsettled in (early, late):
        screened = screen(Series(START, 60.0, known, DataQuality(unsettled=unsettled))).history
        assert screened.quality.unsettled == unsettled
