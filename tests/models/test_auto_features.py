# SPDX-License-Identifier: Apache-2.0
"""The features of the ridge of the auto model: against a slow implementation, and zero for a steady load."""

import math
import statistics
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.series import Floats, Series
from kedastral.models.auto.features import (
    Seasons,
    compute_common_features,
    compute_horizon_features,
    compute_increments,
    count_features,
    find_seasons,
    mean_by_similarity,
    mean_known,
    median_known,
)
from kedastral.models.auto.signal import make_signal

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY, HOUR, MINUTE = 1440, 60, 60.0
NAN = math.nan
CLOCK = 20
"""The last features that are the same for all horizons: sine and cosine of four periods of the day and six of the hour.
"""


def seasons_of(values: Floats, start: datetime = START, zone: str = "UTC", step: float = MINUTE) -> Seasons:
    history = Series(start, step, values)
    signal = make_signal(history, start + timedelta(seconds=len(values) * step))
    assert signal is not None
    return find_seasons(signal, UTC if zone == "UTC" else ZoneInfo(zone))


def noise(size: int, seed: int = 1) -> Floats:
    return 100 * np.exp(np.random.default_rng(seed).normal(0, 0.5, size))


# -- means and medians of what is known --


def kernel_regression(values: list[float], distances: list[float]) -> float:
    """The formula of Nadaraya and Watson, for the values that are known."""
    pairs = [(value, distance) for value, distance in zip(values, distances, strict=True) if not math.isnan(value)]
    width = statistics.fmean(distance for _, distance in pairs)
    weights = [math.exp(-3 * distance / width) for _, distance in pairs]
    return sum(weight * value for weight, (value, _) in zip(weights, pairs, strict=True)) / sum(weights)


rows_of_some = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(st.floats(-9, 9) | st.just(NAN), min_size=width, max_size=width), min_size=1)
)


@given(rows_of_some)
def test_means_and_medians_are_those_of_the_values_that_are_known(rows: list[list[float]]) -> None:
    known = [[value for value in row if not math.isnan(value)] for row in rows]
    assert mean_known(np.array(rows)) == pytest.approx([statistics.fmean(row) if row else 0 for row in known], abs=1e-9)
    medians = [statistics.median(row) if row else 0 for row in known]
    assert median_known(np.array(rows)) == pytest.approx(medians, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-9, 9) | st.just(NAN), st.floats(1e-3, 9)), min_size=1))
def test_a_mean_by_similarity_is_the_kernel_regression_of_the_values_that_are_known(
    pairs: list[tuple[float, float]],
) -> None:
    values, distances = [value for value, _ in pairs], [distance for _, distance in pairs]
    found = mean_by_similarity(np.array([values]), np.array([distances]))
    unknown = all(math.isnan(value) for value in values)
    assert found == pytest.approx([0.0 if unknown else kernel_regression(values, distances)], abs=1e-9)


def test_without_any_distance_a_mean_by_similarity_is_the_mean() -> None:
    assert mean_by_similarity(np.array([[1.0, 2.0, NAN]]), np.zeros((1, 3))) == pytest.approx([1.5])


# -- how the load went on --


@pytest.mark.parametrize(("span", "around"), [(60.0, 0), (180.0, 1), (900.0, 7)])
def test_an_increment_is_the_mean_around_the_later_step_less_the_level_before(span: float, around: int) -> None:
    values = noise(200)
    values[60:80] = NAN  # known for five minutes more
    signal = seasons_of(values).signal
    origins, ahead = np.array([[-1, 0, 50, 64, 66, 100], [3, 40, 55, 150, 180, 199]]), np.array([10, 25])
    gains, levels = compute_increments(signal, origins, ahead, span)
    for i, row in enumerate(origins.tolist()):
        for j, at in enumerate(row):
            later = at + int(ahead[i])
            unknown = at < 0 or later >= 200 or not (signal.known[at] and signal.known[later])
            assert np.isnan(gains[i, j]) == np.isnan(levels[i, j]) == unknown
            if not unknown:
                level = signal.logs[max(at - 4, 0) : at + 1].mean()
                gain = signal.logs[max(later - around, 0) : later + around + 1].mean() - level
                assert (gains[i, j], levels[i, j]) == pytest.approx((gain, level))
    assert np.isnan(gains).tolist() == [
        [True, False, False, True, True, False],
        [False, True, False, False, True, True],
    ]


# -- the same time of other days and hours --


def test_days_are_counted_by_the_local_clock_and_hours_by_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 3, 25, tzinfo=UTC)  # four days before the clock is put forward
    seasons = seasons_of(noise(9 * DAY), start, "Europe/Berlin")

    def local(row: int) -> datetime:
        return (start + timedelta(minutes=row)).astimezone(berlin)

    rows = np.arange(5 * DAY, 9 * DAY, 77)
    for days in (1, 3, 5):
        back = seasons.days_back(rows, np.array([days]))[:, 0]
        for row, then in zip(rows.tolist(), back.tolist(), strict=True):
            if then >= 0:
                same = local(row).time() == local(then).time()
                assert same or local(row).hour == 2, "the hour that one day lacks"
                assert local(row).date() - local(then).date() == timedelta(days=days)
    assert seasons.hours_back(rows, np.array([3]))[:, 0].tolist() == (rows - 180).tolist()


def test_without_a_change_of_the_clock_a_day_is_a_day() -> None:
    seasons = seasons_of(noise(3 * DAY))
    assert seasons.days_back(np.array([2 * DAY]), np.array([1, 2, 3])).tolist() == [[DAY, 0, -DAY]]
    coarse = seasons_of(noise(200), step=1800.0)
    assert coarse.days_back(np.array([100]), np.array([1, 2])).tolist() == [[52, 4]]
    assert coarse.hours_back(np.array([100]), np.array([1, 2])).tolist() == [[98, 96]]


def test_the_phase_is_that_of_the_local_time_at_the_end_of_a_step() -> None:
    at_midnight = np.array([DAY - 1])
    assert seasons_of(noise(2 * DAY)).phase(at_midnight, 86400.0) == pytest.approx([0.0])
    tokyo = seasons_of(noise(2 * DAY), zone="Asia/Tokyo")
    assert tokyo.phase(at_midnight, 86400.0) == pytest.approx([2 * np.pi * 9 / 24])
    assert tokyo.phase(at_midnight + 15, 3600.0) == pytest.approx([np.pi / 2])
    assert tokyo.phase(at_midnight + 15, 1800.0) == pytest.approx([np.pi])


@pytest.mark.parametrize("minutes", [1, 59, 60, 61, 119])
def test_a_zone_is_known_for_every_step_of_a_history_that_ends_within_an_hour(minutes: int) -> None:
    seasons = seasons_of(noise(minutes), zone="Asia/Tokyo")
    assert seasons.offsets.tolist() == [9 * 60] * minutes


def test_a_period_of_less_than_four_steps_is_no_season() -> None:
    seasons = seasons_of(noise(100), step=900.0)
    assert [seasons.has(period) for period in (3600.0, 3599.0)] == [True, False]


# -- the features --


@pytest.mark.parametrize("step", [60.0, 300.0, 3600.0, 43200.0])
def test_a_steady_load_has_no_features_but_those_of_the_clock(step: float) -> None:
    seasons = seasons_of(np.full(2000, 70.0), step=step)
    rows = np.array([3, len(seasons.signal) // 2, len(seasons.signal) - 1])
    common, own = compute_common_features(seasons, rows), compute_horizon_features(seasons, rows, np.array([1, 8, 50]))
    periods = [*(86400 / k for k in range(1, 5)), *(3600 / k for k in (1, 2, 3, 4, 6, 12))]
    clock = 2 * sum(period >= 4 * step for period in periods)
    assert np.abs(common[:, : common.shape[1] - clock]).max(initial=0) < 1e-6
    assert np.abs(own).max(initial=0) < 1e-6
    circles = common[:, common.shape[1] - clock :].reshape(3, -1, 2)
    assert np.hypot(circles[..., 0], circles[..., 1]) == pytest.approx(np.ones((3, clock // 2)))
    assert count_features(step) == common.shape[1] + own.shape[1]


def test_the_recent_features_are_means_less_the_level_and_the_spread() -> None:
    seasons = seasons_of(noise(3 * DAY))
    logs, row = seasons.signal.logs, 2 * DAY
    level = logs[row - 4 : row + 1].mean()
    spans = [1, 2, 3, 8, 12, 20, 30, 45, 60, 120, 240, 1440]
    expected = [logs[row - span + 1 : row + 1].mean() - level for span in spans]
    features = compute_common_features(seasons, np.array([row]))[0]
    assert features[:12] == pytest.approx(expected)
    assert features[12] == pytest.approx(logs[row - 29 : row + 1].std())
    assert len(features) == 12 + 1 + 2 + CLOCK


def test_the_level_is_compared_with_yesterdays_and_with_that_of_a_week_ago() -> None:
    values = np.full(9 * DAY, 100.0)
    row = 8 * DAY + 600
    for back, feature in ((1, 13), (7, 14)):
        raised = values.copy()
        raised[row - back * DAY - 4 : row - back * DAY + 1] = 300.0
        seasons = seasons_of(raised)
        logs = seasons.signal.logs
        features = compute_common_features(seasons, np.array([row]))[0]
        assert features[feature] == pytest.approx(logs[row] - logs[row - back * DAY])
        assert features[27 - feature] == pytest.approx(0.0, abs=1e-9)
    assert compute_common_features(seasons, np.array([5 * DAY]))[0, 14] == 0.0, "a week ago is not known"


def test_what_followed_at_the_same_time_of_other_days_is_told_by_its_mean_and_median_and_day_by_day() -> None:
    row, ahead = 8 * DAY, 20
    values = np.full(8 * DAY + 1, 100.0)
    for days, factor in zip(range(1, 8), (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 9.0), strict=True):
        at = row - days * DAY + ahead
        values[at - 7 : at + 8] *= factor
    values[row - 3 * DAY + ahead - 20 : row - 3 * DAY + ahead + 8] = NAN  # that day is not known
    seasons = seasons_of(values)
    base, unit = 100.0, seasons.signal.unit
    gains = [math.log1p(base * factor / unit) - math.log1p(base / unit) for factor in (2.0, 3.0, 5.0, 6.0, 7.0, 9.0)]
    mean, median = statistics.fmean(gains), statistics.median(gains)
    own = compute_horizon_features(seasons, np.array([row]), np.array([ahead]))[0]
    assert own[:6] == pytest.approx([mean, median, mean, median, gains[0], gains[-1]])


def test_days_whose_load_came_the_same_way_decide_what_follows() -> None:
    row, ahead, ramp = 8 * DAY, 20, np.linspace(1.0, 2.0, HOUR)
    values = np.full(8 * DAY + 1, 100.0)
    for days in (0, 2, 5):  # three days rise before this time, and two of them go on to rise
        values[row - days * DAY - HOUR + 1 : row - days * DAY + 1] *= ramp
    for days in (2, 5):
        values[row - days * DAY + 1 : row - days * DAY + HOUR] = 600.0
    seasons = seasons_of(values)
    gain = math.log1p(600.0 / seasons.signal.unit) - seasons.signal.trailing_mean(np.array([row - 2 * DAY]), 5)[0]
    own = compute_horizon_features(seasons, np.array([row]), np.array([ahead]))[0]
    assert own[0] == pytest.approx(2 * gain / 7), "the mean counts all days alike"
    assert own[6] == pytest.approx(gain, rel=0.1)


def test_with_a_period_of_many_steps_the_day_that_reached_the_same_level_decides() -> None:
    row, ahead, step = 8 * 24, 1, 3600.0
    values = np.full(8 * 24 + 1, 100.0)
    values[[row, row - 3 * 24]] = 800.0
    values[row - 3 * 24 + ahead] = 1600.0
    seasons = seasons_of(values, step=step)
    gain = math.log1p(1600.0 / seasons.signal.unit) - math.log1p(800.0 / seasons.signal.unit)
    own = compute_horizon_features(seasons, np.array([row]), np.array([ahead]))[0]
    assert own[0] == pytest.approx(gain / 7), "the mean counts all days alike"
    assert own[6] == pytest.approx(gain, rel=0.2)


def test_one_minute_that_differs_counts_for_a_fifteenth_where_days_are_compared_smoothly() -> None:
    row, ahead = 8 * DAY, 20
    values = np.full(8 * DAY + 1, 100.0)
    values[[row - days * DAY + ahead for days in range(1, 8)]] = 400.0
    seasons = seasons_of(values)
    gain = math.log1p(400.0 / seasons.signal.unit) - math.log1p(100.0 / seasons.signal.unit)
    own = compute_horizon_features(seasons, np.array([row]), np.array([ahead]))[0]
    assert own[:6] == pytest.approx([gain, gain, *[gain / 15] * 4])


def test_what_followed_in_earlier_hours_is_told_as_far_as_it_is_known() -> None:
    row, ahead = 13 * HOUR, 20
    values = np.full(row + 1, 100.0)
    for hours in range(1, 13):
        values[row - hours * HOUR + ahead] *= 1 + hours
    seasons = seasons_of(values)
    unit = seasons.signal.unit
    gains = [math.log1p(100.0 * (1 + hours) / unit) - math.log1p(100.0 / unit) for hours in range(1, 13)]
    own = compute_horizon_features(seasons, np.array([row]), np.array([ahead]))[0]
    assert own[7:] == pytest.approx([gains[0], statistics.fmean(gains[:6]), statistics.median(gains)])
    later = compute_horizon_features(seasons, np.array([row]), np.array([HOUR]))[0]
    assert later[7] == pytest.approx(0.0), "that ends now and is known"
    assert later[8:] == pytest.approx([0.0, 0.0])


def test_the_hour_that_has_not_ended_yet_says_nothing() -> None:
    row, ahead = 13 * HOUR, HOUR + 1
    values = np.full(row + 2, 100.0)
    values[row + 1] = values[1 + ahead] = 900.0
    seasons = seasons_of(values)
    own = compute_horizon_features(seasons, np.array([row]), np.array([ahead]))[0]
    assert own[7:] == pytest.approx([0.0, 0.0, 0.0])
