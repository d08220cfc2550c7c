# SPDX-License-Identifier: Apache-2.0
"""The baseline model against numbers of pandas, and its hours, ramps and gaps against hand-worked numbers."""

import itertools
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.series import Series
from kedastral.errors import ModelError
from kedastral.models.baseline import Baseline, _ema

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NAN = math.nan

HILLS = [
    100.0, 115.87, 130.971, 144.582, 156.074, 164.949, 170.875, 149.199, 148.965, 145.904,
    140.424, 133.083, 124.556, 115.59, 82.461, 74.922, 69.16, 65.751, 65.123, 67.535,
    73.054, 57.053, 68.223, 81.586, 96.529, 112.341, 128.256, 143.502, 132.849, 144.654,
]  # fmt: skip
"""Half an hour of minutes, the input of pandas' numbers below."""


def forecast(values: Any, *, step: float = 60, steps: int = 30, at: datetime = MONDAY + 12 * HOUR) -> list[float]:
    """The forecast from ``at`` of a history that ends there."""
    history = Series(at - timedelta(seconds=(len(values) - 1) * step), step, values)
    made = Baseline().forecast(history, at, steps)
    assert (made.made_at, made.step, len(made.values)) == (at, step, steps)
    return [float(value) for value in made.values]


def minutes_of(hours: Mapping[datetime, float], until: datetime, recent: float = 100.0) -> Series:
    """Minutes up to ``until``: ``recent`` in the last half hour, a constant in each of ``hours``, otherwise gaps.

    Each value is dated by the end of its minute, as everywhere.
    """
    start = min(hours)
    values = np.full(round((until - start) / timedelta(minutes=1)), NAN)
    for begins, value in hours.items():
        first = round((begins - start) / timedelta(minutes=1))
        values[first : first + 60] = value
    values[-30:] = recent
    return Series(start + MINUTE, 60, values)


# ---- exponential means, checked against pandas 3.1.1: Series.ewm(span=n, adjust=False).mean().iloc[-1] ----


@pytest.mark.parametrize(
    ("values", "step", "short", "long"),
    [
        (HILLS, 60, 129.66881648099496, 107.59887017228482),  # spans 5 and 30
        (HILLS[:22], 60, 67.90005051487411, 100.71463691662626),  # spans 5 and 30
        (HILLS[::-1] * 4, 15, 125.45789548024162, 119.4244119450708),  # spans 20 and 120
        ([300.0, 260.0, 220.0, 210.0], 420, 210.0, 241.28087181410774),  # spans 1 and 30/7
        ([300.0, 260.0, 220.0, 210.0, 150.0, 120.0], 300, 120.0, 193.53483667519487),  # spans 1 and 6
    ],
)
def test_exponential_means_are_those_of_pandas(values: list[float], step: float, short: float, long: float) -> None:
    array = np.array(values)

    assert _ema(array, 300, step) == pytest.approx(short, rel=1e-12)
    assert _ema(array, 1800, step) == pytest.approx(long, rel=1e-12)


def test_a_falling_load_forecasts_the_blend_of_both_means() -> None:
    assert forecast(HILLS[:22]) == pytest.approx([77.74442643539975] * 30, rel=1e-12)


def test_a_rising_load_whose_blend_lies_above_its_last_value_forecasts_the_blend() -> None:
    assert forecast(HILLS[::-1]) == pytest.approx([123.9362902192982] * 30, rel=1e-12)


def test_a_rising_load_whose_blend_lags_forecasts_the_last_value() -> None:
    blend = 0.7 * 129.66881648099496 + 0.3 * 107.59887017228482

    assert blend == pytest.approx(123.04783258838191)
    assert forecast(HILLS) == [144.654] * 30


def test_only_the_last_half_hour_counts() -> None:
    older = [5000.0] * 8

    assert forecast([*older, *HILLS[::-1]]) == forecast(HILLS[::-1])


def test_a_second_grid_agrees_with_pandas() -> None:
    history = [200 - i / 20 + 10 * math.sin(i / 97) for i in range(1800)]

    assert forecast(history, step=1, steps=5) == pytest.approx([123.01729385607197] * 5, rel=1e-9)  # spans 300, 1800


def test_a_five_minute_grid_agrees_with_pandas() -> None:
    assert forecast([300, 260, 220, 210, 150, 120], step=300) == pytest.approx([142.06045100255847] * 30, rel=1e-12)


def test_an_odd_grid_agrees_with_pandas() -> None:
    assert forecast([9000, 300, 260, 220, 210], step=420) == pytest.approx([219.38426154423232] * 30, rel=1e-12)


def test_an_hourly_grid_forecasts_the_last_value() -> None:
    assert forecast([300, 260, 220], step=3600, steps=3) == pytest.approx([220.0] * 3)


def test_gaps_carry_the_value_before_them() -> None:
    gappy = HILLS[::-1]
    for i in (0, 3, 4, 11, 28, 29):
        gappy[i] = NAN

    # pandas: Series.ffill().dropna().ewm(span, adjust=False).mean(); its last value, 130.971, is below
    assert forecast(gappy) == pytest.approx([134.05349856732803] * 30, rel=1e-12)


def test_a_gap_at_the_start_of_the_half_hour_carries_what_was_before_it() -> None:
    filled = [200.0, 200.0, *[100.0] * 28]

    assert forecast([200.0, NAN, NAN, *[100.0] * 28]) == forecast(filled)
    assert forecast(filled)[0] > 100


def test_gaps_at_the_end_forecast_from_the_last_value() -> None:
    assert forecast([80.0] * 30 + [NAN] * 300) == pytest.approx([80.0] * 30)


# ---- ramps ----


def test_a_rising_load_is_never_forecast_to_fall() -> None:
    history = np.linspace(100, 200, 30).tolist()

    made = forecast(history)

    assert all(a <= b for a, b in itertools.pairwise(made))
    assert min(made) >= 200
    assert max(made) <= 300


def test_a_rising_forecast_is_its_own_running_maximum() -> None:
    at = MONDAY + 14 * DAY + 10 * HOUR
    hours = {at - days * DAY + hour * HOUR: load for days in (7, 14) for hour, load in ((0, 300), (1, 100))}
    history = minutes_of(hours, at, recent=100)
    values = history.values.copy()
    values[-5:] = 150  # rising, so that the hour of 100 may not pull the forecast down again

    made = Baseline().forecast(Series(history.start, 60, values), at, 120).values

    assert np.all(np.diff(made) >= 0)
    assert made[0] == made[-1] == pytest.approx(0.8 * base_of(values[-30:]) + 0.2 * 300)


def test_a_rising_forecast_ends_at_half_as_much_again() -> None:
    at = MONDAY + 14 * DAY + 10 * HOUR
    hours = {at - days * DAY: 100_000 for days in (7, 14)}
    values = minutes_of(hours, at).values.copy()
    values[-5:] = [110, 120, 130, 140, 150]

    made = Baseline().forecast(Series(at - 14 * DAY + MINUTE, 60, values), at, 30).values

    assert made.tolist() == [225.0] * 30


def test_a_load_that_does_not_rise_may_be_forecast_to_change_freely() -> None:
    at = MONDAY + 14 * DAY + 10 * HOUR
    hours = {at - days * DAY + hour * HOUR: load for days in (7, 14) for hour, load in ((0, 1100), (1, 50))}

    made = Baseline().forecast(minutes_of(hours, at), at, 120).values

    assert made.tolist() == pytest.approx([0.8 * 100 + 0.2 * 1100] * 60 + [0.8 * 100 + 0.2 * 50] * 60)


def base_of(recent: Any) -> float:
    """0.7 * EMA(5) + 0.3 * EMA(30), written as the recursion."""
    means = []
    for span in (5, 30):
        mean = recent[0]
        for value in recent[1:]:
            mean += 2 / (span + 1) * (value - mean)
        means.append(mean)
    return float(0.7 * means[0] + 0.3 * means[1])


# ---- hours of the day; a Monday is forecast, the last half hour is a constant 100 ----

AT = MONDAY + 21 * DAY + 10 * HOUR


@pytest.mark.parametrize(
    ("seen", "mean"),
    [
        ({1: 200, 2: 400}, 300),  # Sunday and Saturday: all days
        ({7: 200, 14: 400}, 300),  # two Mondays
        ({7: 200, 14: 400, 1: 9000}, 300),  # two Mondays, so the Sunday does not count
        ({7: 200, 1: 400}, 300),  # one Monday: all days
        ({7: 200, 14: 400, 21: 600}, 400),
        ({1: 200}, None),  # one day only
        ({7: 200}, None),
    ],
)
def test_an_hour_is_blended_in_where_two_days_had_it(seen: dict[int, float], mean: float | None) -> None:
    history = minutes_of({AT - days * DAY: load for days, load in seen.items()}, AT)

    made = Baseline().forecast(history, AT, 30).values

    assert made.tolist() == pytest.approx([100.0 if mean is None else 80 + 0.2 * mean] * 30)


def test_a_mean_is_of_points_not_of_days() -> None:
    values = minutes_of({AT - DAY: 200, AT - 2 * DAY: 400}, AT).values.copy()
    values[:30] = NAN  # half of the hour two days ago

    made = Baseline().forecast(Series(AT - 2 * DAY + MINUTE, 60, values), AT, 1).values

    assert made.tolist() == pytest.approx([80 + 0.2 * (60 * 200 + 30 * 400) / 90])


def test_an_hour_without_a_single_point_on_a_second_day_is_not_blended_in() -> None:
    values = minutes_of({AT - DAY: 200, AT - 2 * DAY: 400}, AT).values.copy()
    values[:60] = NAN
    history = Series(AT - 2 * DAY + MINUTE, 60, values)

    assert Baseline().forecast(history, AT, 1).values.tolist() == pytest.approx([100])

    values[59] = 400
    assert Baseline().forecast(Series(AT - 2 * DAY + MINUTE, 60, values), AT, 1).values[0] > 100


def test_each_step_takes_its_own_hour() -> None:
    begins = AT + timedelta(minutes=45)
    hours = {AT - days * DAY + hour * HOUR: load for days in (1, 2) for hour, load in ((0, 200), (1, 600))}

    # at 10:45 the last half hour, a 100, lies in the hour of 10 itself, on a third day
    made = Baseline().forecast(minutes_of(hours, begins), begins, 30).values

    ten = (120 * 200 + 30 * 100) / 150
    assert made.tolist() == pytest.approx([80 + 0.2 * ten] * 15 + [80 + 0.2 * 600] * 15)


def test_across_midnight_the_weekday_changes_too() -> None:
    sunday_late = MONDAY + 21 * DAY - timedelta(minutes=15)
    loads = {
        MONDAY - HOUR: 200, MONDAY + 7 * DAY - HOUR: 400,  # Sundays at 23
        MONDAY: 600, MONDAY + 7 * DAY: 800,  # Mondays at 0
        MONDAY + 3 * DAY - HOUR: 9000, MONDAY + 3 * DAY: 9000,  # another day that does not count
    }  # fmt: skip
    values = minutes_of(loads, sunday_late).values

    made = Baseline().forecast(Series(MONDAY - HOUR + MINUTE, 60, values), sunday_late, 30).values

    late = (60 * 200 + 60 * 400 + 30 * 100) / 150  # the last half hour lies in that hour, too
    assert made.tolist() == pytest.approx([80 + 0.2 * late] * 15 + [80 + 0.2 * 700] * 15)


def test_two_days_of_minutes_blend_their_hours() -> None:
    at = MONDAY + 2 * DAY
    values = np.repeat([100.0 + 10 * hour for hour in range(24)] * 2, 60)

    made = Baseline().forecast(Series(MONDAY + MINUTE, 60, values), at, 120).values

    # the load of 23 h, 330, is flat over the last half hour; 0 h has 100, 1 h has 110
    assert made.tolist() == pytest.approx([0.8 * 330 + 0.2 * 100] * 60 + [0.8 * 330 + 0.2 * 110] * 60)


@pytest.mark.parametrize("minutes", [1, 5, 15, 60])
def test_a_load_from_ten_to_eleven_is_forecast_from_ten_to_eleven(minutes: int) -> None:
    per_hour = 60 // minutes
    day = np.full(24 * per_hour, 100.0)
    day[10 * per_hour : 11 * per_hour] = 1000.0
    step, at = timedelta(minutes=minutes), MONDAY + 20 * DAY + 8 * HOUR
    values = np.tile(day, 21)[: round((at - MONDAY) / step)]

    made = Baseline().forecast(Series(MONDAY + step, step.total_seconds(), values), at, 5 * per_hour).values

    high = 0.8 * 100 + 0.2 * 1000
    assert made.tolist() == pytest.approx([100.0] * 2 * per_hour + [high] * per_hour + [100.0] * 2 * per_hour)


def test_the_step_that_ends_at_midnight_belongs_to_the_day_before() -> None:
    sunday_late = MONDAY + 14 * DAY - HOUR
    seen = {7: 200.0, 14: 400.0, 10: 9000.0}  # two Sundays, and the Thursday between them, from 23 to 24 h
    values = np.full(15 * 24, 100.0)
    for days, load in seen.items():
        values[(15 - days) * 24 - 1] = load
    history = Series(sunday_late - (len(values) - 2) * HOUR, 3600, values[:-1])
    assert history.start == MONDAY - DAY + HOUR

    assert Baseline().forecast(history, sunday_late, 1).values.tolist() == pytest.approx([80 + 0.2 * 300])


# ---- the rest ----


@pytest.mark.parametrize("values", [[], [NAN], [NAN] * 3000])
def test_without_a_value_there_is_no_forecast(values: list[float]) -> None:
    history = Series(MONDAY, 60, values)

    with pytest.raises(ModelError, match="no history") as caught:
        Baseline().forecast(history, MONDAY + DAY, 30)
    assert caught.value.reason == "no_history"


@pytest.mark.parametrize("step", [1, 60, 300, 3600])
def test_a_single_point_is_forecast_to_stay(step: float) -> None:
    assert forecast([42.0], step=step) == pytest.approx([42.0] * 30)


@pytest.mark.parametrize("load", [0.0, 0.1, 100.0, 1e12])
@pytest.mark.parametrize(("step", "points"), [(1, 1800), (60, 30), (60, 4320), (300, 600), (3600, 100)])
def test_a_constant_load_is_forecast_to_stay(load: float, step: float, points: int) -> None:
    assert forecast([load] * points, step=step) == pytest.approx([load] * 30, rel=1e-12)


@pytest.mark.parametrize("values", [[1e308] * 60 * 72, [1e308] * 60, [1e306 * n for n in range(110)]])
def test_loads_near_the_end_of_the_floats_are_forecast_without_a_warning(values: list[float]) -> None:
    assert min(forecast(values)) > 0.7e308


def test_the_history_is_left_alone() -> None:
    history = Series(MONDAY, 60, [1.0, NAN, 3.0])
    Baseline().forecast(history, MONDAY + HOUR, 5)

    np.testing.assert_array_equal(history.values, [1, NAN, 3])


@given(
    st.lists(st.floats(0, 1e9) | st.just(NAN), min_size=1, max_size=200),
    st.sampled_from([1.0, 7.0, 60.0, 300.0, 900.0, 3600.0, 7200.0]),
    st.integers(1, 40),
)
def test_a_forecast_stays_within_what_was_seen(values: list[float], step: float, steps: int) -> None:
    seen = [value for value in values if not math.isnan(value)]
    if not seen:
        return

    made = forecast(values, step=step, steps=steps)

    assert min(made) >= min(seen) * (1 - 1e-9) - 1e-9
    assert max(made) <= max(seen) * (1 + 1e-9) + 1e-9
