# SPDX-License-Identifier: Apache-2.0
"""The time grid: what is on it, what is a gap, and that it is immutable."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.series import (
    DataQuality,
    Observation,
    Series,
    align_down,
    fill_gaps,
    frozen_floats,
    frozen_ints,
    largest_neighbours,
    median_without_gaps,
    same_array,
    series_from_points,
    smallest_neighbours,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
T0 = NOON.timestamp()
NAN = math.nan
NOT_UTC = [datetime(2026, 3, 1, 12), NOON.astimezone(timezone(timedelta(hours=1)))]  # noqa: DTZ001 - the subject


def on_minutes(*points: tuple[float, float], minutes: int = 4) -> list[float | None]:
    """Points given in seconds from noon, laid on ``minutes`` + 1 minutes; None is a gap."""
    laid = series_from_points(
        ((T0 + at, value) for at, value in points), NOON, NOON + minutes * timedelta(minutes=1), 60
    )
    return [None if math.isnan(value) else value for value in laid.values.tolist()]


def test_points_lie_on_the_grid_from_start_to_end() -> None:
    made = series_from_points([(T0, 1), (T0 + 60, 2), (T0 + 120, 3)], NOON, NOON + timedelta(minutes=2), 60)

    assert made == Series(NOON, 60, [1, 2, 3])
    assert [made.time_at(i) for i in (0, 2)] == [NOON, NOON + timedelta(minutes=2)]


def test_a_missing_point_is_a_gap() -> None:
    assert on_minutes((0, 1), (120, 3)) == [1, None, 3, None, None]


def test_no_points_are_all_gaps() -> None:
    assert on_minutes() == [None] * 5


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, -1.0, -1e-9])
def test_what_is_no_measurement_is_a_gap(value: float) -> None:
    assert on_minutes((0, 1), (60, value), (120, 3)) == [1, None, 3, None, None]


def test_zero_is_a_measurement() -> None:
    assert on_minutes((0, 0.0)) == [0, None, None, None, None]


def test_points_outside_the_range_are_left_out() -> None:
    assert on_minutes((-3600, 9), (-60, 9), (-20, 9), (0, 1), (240, 5), (260, 9), (300, 9), (1e9, 9)) == [
        1,
        None,
        None,
        None,
        5,
    ]


@pytest.mark.parametrize("at", [NAN, math.inf, -math.inf, 1e308, -1e308])
def test_a_point_at_no_time_is_left_out(at: float) -> None:
    assert on_minutes((at, 9), (0, 1)) == [1, None, None, None, None]


def test_a_millisecond_beyond_the_range_is_rounding() -> None:
    assert on_minutes((-0.0009, 1), (240.0009, 5)) == [1, None, None, None, 5]
    assert on_minutes((-0.0011, 1), (240.0011, 5)) == [None] * 5


def test_a_point_between_grid_times_goes_to_the_nearer() -> None:
    assert on_minutes((29, 1), (91, 2), (179.5, 3)) == [1, None, 2, 3, None]


def test_of_duplicates_the_last_given_counts() -> None:
    assert on_minutes((60, 1), (0, 7), (60, 2)) == [7, 2, None, None, None]
    assert on_minutes((60, 1), (60, NAN)) == [None] * 5


def test_order_does_not_matter() -> None:
    assert on_minutes((240, 5), (0, 1), (120, 3)) == [1, None, 3, None, 5]


def test_a_range_of_one_point() -> None:
    assert on_minutes((0, 1), (60, 2), minutes=0) == [1]


@pytest.mark.parametrize("step", [0.001, 60, 3600])
def test_a_range_that_ends_before_it_begins_is_empty(step: float) -> None:
    assert len(series_from_points([(T0, 1)], NOON, NOON - timedelta(seconds=step), step)) == 0
    assert len(series_from_points([(T0, 1)], NOON, NOON - timedelta(seconds=9 * step), step)) == 0


@given(st.integers(1, 300), st.sampled_from([0.1, 0.25, 1, 7, 15, 60, 300, 3600]))
def test_every_grid_time_finds_its_place(size: int, step: float) -> None:
    start = align_down(NOON, step)
    times = [(start + i * timedelta(seconds=step)).timestamp() for i in range(size)]

    made = series_from_points(
        zip(times, range(size), strict=True), start, start + (size - 1) * timedelta(seconds=step), step
    )

    assert made.values.tolist() == list(range(size))


def test_the_least_step_is_a_microsecond() -> None:
    assert Series(NOON, 1e-6, [1, 2]).time_at(1) == NOON + timedelta(microseconds=1)


def test_the_newest_value_is_the_last_that_is_no_gap() -> None:
    assert Series(NOON, 60, [1, 2, NAN]).newest == Observation(NOON + timedelta(minutes=1), 2.0)
    assert Series(NOON, 60, [1, 0]).newest == Observation(NOON + timedelta(minutes=1), 0.0)


@pytest.mark.parametrize("values", [[], [NAN], [NAN, NAN]])
def test_where_all_are_gaps_nothing_is_newest(values: list[float]) -> None:
    assert Series(NOON, 60, values).newest is None


@pytest.mark.parametrize(
    ("values", "at_least", "unsettled", "least"),
    [
        ([3, 5], None, None, 5.0),
        ([3, NAN], None, None, 3.0),
        ([3, 5], 4.0, None, 5.0),
        ([3, 5], 6.0, None, 6.0),
        ([3, 5, NAN], None, [6, 7], 7.0),
        ([3, 5, NAN], 9.0, [6, NAN], 9.0),
        ([3, 5, NAN], None, [6, 2], 5.0),
        ([NAN], None, [2], 2.0),
        ([NAN], None, [NAN], 0.0),
        ([NAN], 1.0, None, 1.0),
        ([], None, None, 0.0),
    ],
)
def test_the_least_load_is_the_newest_value_or_what_is_known_to_be_more(
    values: list[float], at_least: float | None, unsettled: list[float] | None, least: float
) -> None:
    quality = DataQuality(
        at_least=None if at_least is None else Observation(NOON, at_least),
        unsettled=None if unsettled is None else Series(NOON, 60, unsettled),
    )
    assert Series(NOON, 60, values, quality).least_load == least


@pytest.mark.parametrize(
    ("values", "first", "known"),
    [([NAN, 2, NAN, 4, NAN], (1, 2.0), 4), ([1, 2], (0, 1.0), 2), ([NAN], None, 0), ([], None, 0)],
)
def test_a_series_begins_with_its_first_value_and_may_end_with_its_newest(
    values: list[float], first: tuple[int, float] | None, known: int
) -> None:
    made = Series(NOON, 60, values)
    assert made.first == (None if first is None else Observation(made.time_at(first[0]), first[1]))
    assert made.without_gaps_at_the_end() == Series(NOON, 60, values[:known])


def test_times_may_lie_outside_the_series() -> None:
    made = Series(NOON, 30, [1])

    assert made.time_at(-2) == NOON - timedelta(minutes=1)
    assert made.time_at(10) == NOON + timedelta(minutes=5)


def test_series_with_equal_gaps_are_equal() -> None:
    assert Series(NOON, 60, [1, NAN]) == Series(NOON, 60, [1, NAN])
    assert Series(NOON, 60, [1, NAN]) != Series(NOON, 60, [1, 0])
    assert Series(NOON, 60, [1, NAN]) != Series(NOON, 60, [1])
    assert Series(NOON, 60, [1]) != Series(NOON, 30, [1])
    assert Series(NOON, 60, [1]) != Series(NOON + timedelta(minutes=1), 60, [1])


def test_arrays_of_whole_numbers_are_compared_too() -> None:
    assert same_array(frozen_ints([1, 2]), frozen_ints([1, 2]))
    assert not same_array(frozen_ints([1, 2]), frozen_ints([1, 3]))


def test_values_are_read_only_and_a_copy() -> None:
    given_values = np.array([1.0, 2.0])
    made = Series(NOON, 60, given_values)
    given_values[0] = 99

    assert made.values.tolist() == [1, 2]
    assert given_values.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        made.values[0] = 5


@pytest.mark.parametrize("freeze", [frozen_floats, frozen_ints])
def test_frozen_arrays_are_copies_in_one_dimension(freeze: Any) -> None:
    source = np.array([1, 2, 3])
    frozen = freeze(source)
    source[0] = 9

    assert frozen.tolist() == [1, 2, 3]
    assert not frozen.flags.writeable
    assert freeze([]).shape == (0,)
    for wrong in (5, [[1], [2]], np.zeros((2, 0), dtype=np.int64)):
        with pytest.raises(ValueError, match="one-dimensional"):
            freeze(wrong)


@pytest.mark.parametrize("values", [[5.9], [5.0], [NAN], [math.inf], np.array([NAN]), ["5"], [None], [2**70], [2**63]])
def test_what_is_no_whole_number_is_not_cut_to_one(values: Any) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        frozen_ints(values)


@pytest.mark.parametrize("moment", NOT_UTC)
def test_times_must_be_aware_and_in_utc(moment: datetime) -> None:
    with pytest.raises(ValueError, match="start must be an aware UTC datetime"):
        Series(moment, 60, [1])
    with pytest.raises(ValueError, match="at must be an aware UTC datetime"):
        Observation(moment, 1)


@pytest.mark.parametrize("step", [0, -1, NAN, math.inf, 1e-7])
def test_a_step_must_be_a_span_that_wall_time_can_tell(step: float) -> None:
    with pytest.raises(ValueError, match="step must be a finite number above 0"):
        Series(NOON, step, [1])


@pytest.mark.parametrize(
    ("moment", "step", "aligned"),
    [
        ("12:34:56.789012", 60, "12:34:00"),
        ("12:34:56.789012", 1, "12:34:56"),
        ("12:34:56.789012", 0.1, "12:34:56.7"),
        ("12:34:56.789012", 0.25, "12:34:56.75"),
        ("12:34:56.789012", 300, "12:30:00"),
        ("12:34:56.789012", 3600, "12:00:00"),
        ("12:34:56.789012", 86_400, "00:00:00"),
        ("12:34:00", 60, "12:34:00"),
        ("12:33:59.999999", 60, "12:33:00"),
        ("12:59:59.999999", 3600, "12:00:00"),
        ("23:59:59.999999", 86_400, "00:00:00"),
        ("00:00:00.3", 0.1, "00:00:00.3"),
    ],
)
def test_a_moment_is_aligned_down(moment: str, step: float, aligned: str) -> None:
    expected = datetime.fromisoformat(f"2026-03-01T{aligned}+00:00")

    assert align_down(datetime.fromisoformat(f"2026-03-01T{moment}+00:00"), step) == expected


def test_the_grid_of_an_odd_step_is_counted_from_the_epoch() -> None:
    aligned = align_down(NOON, 7)  # 1772366400 = 7 * 253195200

    assert aligned.timestamp() == 253_195_200 * 7
    assert align_down(NOON - timedelta(microseconds=1), 7) == NOON - timedelta(seconds=7)
    assert align_down(NOON, 11).timestamp() == T0 - T0 % 11


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - UTC is added
    st.sampled_from([0.1, 0.3, 0.7, 1, 7, 13.7, 60, 97, 3600, 86_400]),
)
def test_an_aligned_moment_is_the_newest_of_its_grid_and_stays(moment: datetime, step: float) -> None:
    aligned = align_down(moment, step)

    assert timedelta(0) <= moment - aligned < timedelta(seconds=step)
    assert align_down(aligned, step) == aligned
    assert align_down(aligned - timedelta(microseconds=1), step) == aligned - timedelta(seconds=step)
    assert aligned.utcoffset() == timedelta(0)


def test_gaps_carry_the_value_before_them() -> None:
    filled = fill_gaps(np.array([NAN, NAN, 1, NAN, 2, NAN, NAN]))

    np.testing.assert_array_equal(filled, [NAN, NAN, 1, 1, 2, 2, 2])


@given(st.lists(st.floats(0, 100) | st.just(NAN)))
def test_filling_gaps_equals_walking_along(values: list[float]) -> None:
    expected, carried = [], NAN
    for value in values:
        carried = carried if math.isnan(value) else value
        expected.append(carried)
    array = np.array(values, dtype=np.float64)

    np.testing.assert_array_equal(fill_gaps(array), expected)
    np.testing.assert_array_equal(array, values)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40), st.integers(1, 40))
def test_the_largest_and_smallest_neighbours_equal_those_of_each_window(values: list[float], width: int) -> None:
    array, width = np.array(values), min(width, len(values))
    windows = np.lib.stride_tricks.sliding_window_view(array, width)

    np.testing.assert_array_equal(largest_neighbours(array, width), windows.max(axis=1))
    np.testing.assert_array_equal(smallest_neighbours(array, width), windows.min(axis=1))


@pytest.mark.filterwarnings("ignore:All-NaN slice")
@given(st.lists(st.lists(st.floats(-100, 100) | st.just(NAN), min_size=3, max_size=3), min_size=1, max_size=8))
def test_the_median_without_gaps_equals_that_of_numpy(rows: list[list[float]]) -> None:
    array = np.array(rows)

    np.testing.assert_allclose(median_without_gaps(array), np.nanmedian(array, axis=0))
