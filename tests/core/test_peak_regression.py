# SPDX-License-Identifier: Apache-2.0
"""The peak regression: a quantile as other programs fit it, no look into the future, and a weight set by outcomes."""

import itertools
import math
import statistics
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.explanation.explain import explain, show_load
from kedastral.core.explanation.stages import StageName
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import learning_from
from kedastral.core.planning.calibration import calibrate_on
from kedastral.core.planning.peak_regression import (
    FEATURES,
    FIT_INTERVAL,
    QUANTILE,
    PeakRegression,
    _choose_rows,
    _Past,
    features_of,
    fit_peak_regression,
    fit_quantile,
    predict_peaks,
)
from kedastral.core.planning.planner import Workload, plan_step
from kedastral.core.planning.service_level import (
    ServiceLevelGoal,
    ServiceLevelSettings,
    ServiceLevelState,
    plan_for_service_level,
)
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.planning.steering import SteeringSettings
from kedastral.core.planning.uncertainty import (
    Calibration,
    IntervalForecast,
    PendingWindow,
    RegressionTrial,
    UncertaintyState,
    add_forecast,
    judge_windows,
    keep_regression,
    margin_of,
    predict_window,
)
from kedastral.core.series import Floats, Series

START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE, DAY, WINDOW = 60.0, 1440, 8


def series(values: Floats, step: float = MINUTE) -> Series:
    return Series(START, step, values)


def noise(size: int, seed: int = 5) -> Floats:
    return 100 * np.exp(np.random.default_rng(seed).normal(0, 0.2, size))


def hourly_bursts(size: int, seed: int = 3) -> Floats:
    """A noisy 100, and ten times as much in three minutes of each hour."""
    values = noise(size, seed)
    for at in range(30, size, 60):
        values[at : at + 3] *= 10
    return values


def same_every_hour(size: int) -> Floats:
    """About 500, the same every hour but for its last digits."""
    rng = np.random.default_rng(7)
    hour = 500 * (1 + rng.uniform(-0.03, 0.03, 60))
    return np.resize(hour, size) + rng.uniform(-2e-4, 2e-4, size)


def fitted(values: Floats, window: int = WINDOW, step: float = MINUTE) -> PeakRegression:
    regression = fit_peak_regression(series(values, step), window, float(values[np.isfinite(values)].mean()))
    assert regression is not None
    return regression


# -- the regression itself --


def test_the_coefficients_are_those_of_linear_quantile_regression() -> None:
    rng, size = np.random.default_rng(7), 4000
    features = rng.normal(size=(size, 2)) * np.array([1.0, 3.0]) + np.array([0.0, 5.0])
    target = 2 + 0.5 * features[:, 0] - 0.2 * features[:, 1]
    target += np.exp(0.3 * features[:, 0]) * rng.exponential(size=size)
    # scikit-learn 1.9.1: QuantileRegressor(quantile=0.95, alpha=0).fit(features, target)
    expected = [1.3563, -0.1868, 5.0137]
    assert fit_quantile(features, target, np.ones(size)).tolist() == pytest.approx(expected, abs=0.06)


def test_rows_of_no_weight_do_not_count() -> None:
    rng = np.random.default_rng(1)
    features, target = rng.normal(size=(500, 1)), rng.normal(size=500)
    spoilt, weights = target.copy(), np.ones(500)
    spoilt[::5], weights[::5] = 1e6, 0.0
    other = fit_quantile(np.delete(features, np.s_[::5], axis=0), np.delete(target, np.s_[::5]), np.ones(400))
    assert fit_quantile(features, spoilt, weights).tolist() == pytest.approx(other.tolist(), abs=0.02)


def test_a_feature_that_never_changes_has_no_part() -> None:
    target = np.random.default_rng(2).normal(size=300)
    assert fit_quantile(np.full((300, 1), 4.0), target, np.ones(300))[0] == 0.0


def test_the_stated_share_of_windows_stays_below() -> None:
    values = noise(12 * DAY)
    regression = fitted(values[: 10 * DAY])
    predicted = predict_peaks(regression, series(values), 2 * DAY)[: 2 * DAY - WINDOW]
    largest = np.array([values[i + 1 : i + 1 + WINDOW].max() for i in range(10 * DAY - 1, 12 * DAY - 1 - WINDOW)])
    assert (largest <= predicted).mean() == pytest.approx(QUANTILE, abs=0.02)


def test_a_burst_at_the_same_minute_of_each_hour_is_expected_before_it_comes() -> None:
    values = hourly_bursts(4 * DAY)
    regression = fitted(values)
    for minute, large in ((10, False), (26, True), (29, True), (45, False)):
        history = series(hourly_bursts(5 * DAY)[: 4 * DAY + 60 + minute])
        peak = float(predict_peaks(regression, history, 1)[0])
        assert (peak > 800) == large, (minute, peak)


@pytest.mark.parametrize("period", [17, 115, 240])
@pytest.mark.parametrize("jitter", [0, 2])
def test_a_burst_that_comes_at_no_time_of_the_hour_or_day_is_expected_by_its_period(period: int, jitter: int) -> None:
    rng = np.random.default_rng(8)
    values = noise(4 * DAY)
    for at in range(period, 4 * DAY, period):
        moved = at + int(rng.integers(-jitter, jitter + 1))
        values[moved : moved + 3] *= 10
    regression = fitted(values[: 3 * DAY])
    cycles = regression.period / (period * MINUTE)
    assert cycles == pytest.approx(round(cycles), rel=0.02), "a multiple is as good"
    assert cycles > 0.5
    predicted = predict_peaks(regression, series(values), DAY)[:-WINDOW]
    largest = np.array([values[i + 1 : i + 1 + WINDOW].max() for i in range(3 * DAY, 4 * DAY - WINDOW)])
    bursts, expected = largest > 500, predicted > 500
    assert expected[bursts].mean() > 0.9
    assert expected.mean() < bursts.mean() + (6 + 2 * jitter) / period, "and, but for some minutes around, only then"


# -- what it is fitted on and predicts from --


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.sampled_from([1, WINDOW, 70]))
def test_nothing_is_read_that_lies_after_the_moment(later: int, window: int) -> None:
    values = hourly_bursts(3 * DAY)
    regression = fitted(values[: 2 * DAY], window)
    seen = predict_peaks(regression, series(values), later + 1)[0]
    assert seen == pytest.approx(predict_peaks(regression, series(values[:-later]), 1)[0], rel=1e-9)


@settings(max_examples=10, deadline=None)
@given(st.floats(1e-6, 1e9))
def test_the_unit_of_the_load_does_not_matter(unit: float) -> None:
    values = hourly_bursts(2 * DAY)
    peak = predict_peaks(fitted(values), series(values), 30)
    scaled = predict_peaks(fitted(values * unit), series(values * unit), 30)
    assert scaled.tolist() == pytest.approx((peak * unit).tolist(), rel=1e-3)


@pytest.mark.parametrize("block", [4, 12])
def test_finer_steps_say_the_same(block: int) -> None:
    values = hourly_bursts(2 * DAY)
    finer = np.repeat(values, block)
    minutes = predict_peaks(fitted(values), series(values), 10)
    other = predict_peaks(fitted(finer, WINDOW * block, MINUTE / block), series(finer, MINUTE / block), 10 * block)
    assert other[block - 1 :: block].tolist() == pytest.approx(minutes.tolist(), rel=1e-3)
    for within in range(block - 1):  # a minute that has not ended does not count
        assert other[block + within :: block].tolist() == pytest.approx(minutes[:-1].tolist(), rel=1e-3)


@pytest.mark.parametrize("step", [300.0, 900.0, 3600.0])
def test_coarse_steps_have_a_regression_as_well(step: float) -> None:
    values = noise(round(14 * 86400 / step))
    predicted = predict_peaks(fitted(values, 2, step), series(values, step), 5)
    assert np.isfinite(predicted).all()
    assert 100 < predicted.min() <= predicted.max() < 300


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2 * DAY - 1), st.integers(1, 300)), max_size=5))
def test_gaps_make_no_peak_and_no_failure(gaps: list[tuple[int, int]]) -> None:
    values = noise(2 * DAY)
    for first, size in gaps:
        values[first : first + size] = np.nan
    if np.isfinite(values).sum() < DAY:
        return
    predicted = predict_peaks(fitted(values), series(values), 60)
    assert np.isfinite(predicted).all()
    assert predicted.max() < 1000


@pytest.mark.parametrize("hours", [2, 9, 11])
def test_the_daily_start_of_a_load_that_rests_for_most_of_the_day_is_expected_before_it_comes(hours: int) -> None:
    """Such as a batch at night: at the median nothing changes, and the start is in less than one row of a hundred."""
    size, start = 11 * DAY, 195
    minute = np.arange(size) % DAY
    values = np.where((minute >= start) & (minute < start + 60 * hours), 4 * noise(size), 0.0)
    regression = fitted(values[: 10 * DAY])
    before, after = (predict_peaks(regression, series(values[: 10 * DAY + start + at]), 1)[0] for at in (-30, -5))
    assert before < 40
    assert 350 < after < 900


def test_the_first_load_after_a_quiet_day_is_not_extrapolated() -> None:
    values = noise(3 * DAY)
    regression = fitted(values)
    jump = np.append(values, [1e7])
    assert predict_peaks(regression, series(jump), 1)[0] < 1e7 * 25


@pytest.mark.parametrize(
    ("says", "peak"), [(0.5, 150 * math.exp(0.5) - 50), (-9.0, 0.0), (9.0, 150 * math.exp(3) - 50)]
)
def test_what_it_says_is_added_to_the_level_up_to_a_factor_of_twenty(says: float, peak: float) -> None:
    regression = PeakRegression(0.0, MINUTE, WINDOW * MINUTE, 50.0, (0.0,) * FEATURES + (says,))
    assert predict_peaks(regression, series(np.full(DAY, 100.0)), 3).tolist() == pytest.approx([peak] * 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"coefficients": (0.0,) * FEATURES},
        {"coefficients": (float("nan"),) * (FEATURES + 1)},
        {"offset": 0.0},
        {"window": 0.0},
        {"step": -1.0},
    ],
)
def test_what_was_kept_by_another_version_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"coefficients|offset|window|step"):
        attrs.evolve(fitted(noise(DAY)), **wrong)


def test_a_young_workload_has_no_load_of_0_before_its_first_value() -> None:
    """The window of history is two weeks, however much of it exists."""
    values, before = hourly_bursts(2 * DAY), np.full(12 * DAY, np.nan)
    young, window = series(values), Series(START - timedelta(days=12), MINUTE, np.append(before, values))
    regression = fit_peak_regression(window, WINDOW, 100.0)
    assert regression == fit_peak_regression(young, WINDOW, 100.0)
    assert regression is not None
    assert predict_peaks(regression, window, 99).tolist() == predict_peaks(regression, young, 99).tolist()
    assert fit_peak_regression(series(np.append(before, values[: DAY - 1])), WINDOW, 100.0) is None


@pytest.mark.parametrize("days", [2, 7])
def test_a_day_that_was_seen_for_minutes_is_not_extrapolated(days: int) -> None:
    """Fitted minutes after the load was so many days old: the same time so long ago is known in a few rows."""
    size, rng = days * DAY + 20, np.random.default_rng(0)
    minutes = np.arange(size + 360)
    values = 1000 * (1 + 0.3 * np.sin(2 * np.pi * (minutes / DAY - 0.3))) * np.exp(rng.normal(0, 0.05, len(minutes)))
    values[minutes % DAY // 10 == 12] *= 8  # a daily job of ten minutes, at 02:00
    predicted = predict_peaks(fitted(values[:size]), series(values), 360)[:-WINDOW]
    largest = np.array([values[i + 1 : i + 1 + WINDOW].max() for i in range(size - 1, len(values) - 1 - WINDOW)])
    assert predicted.max() < 1.5 * values.max()
    assert (largest <= predicted).mean() > 0.8


@pytest.mark.parametrize(
    ("gap", "least"), [([407.0, 219.0], 400), ([407.0, 219.0, 500.0], 400), ([200.0], 400), ([0.0, 0.0, 0.0], 150)]
)
def test_what_has_hardly_changed_is_not_extrapolated(gap: list[float], least: float) -> None:
    """Like the roughness of a load that repeats every hour, except for rounding of its counter, when scrapes fail."""
    regression = fitted(same_every_hour(4 * DAY), window=4)
    assert least < predict_peaks(regression, series(np.append(same_every_hour(4 * DAY), gap)), 1)[0] < 650


@pytest.mark.parametrize(
    ("times", "least", "most"), [(3.0, 0.9, 1.3), (5.0, 0.9, 1.3), (0.2, 0.9, 2.5), (0.01, 0.9, 40)]
)
@pytest.mark.parametrize("since", [10, 45, 180])
def test_a_load_as_it_never_was_is_not_extrapolated(since: int, times: float, least: float, most: float) -> None:
    """For hours the slopes would pull it back to its old level: a third of the current load."""
    day = 1000 - 600 * np.cos(2 * np.pi * np.arange(14 * DAY + since) / DAY)
    values = day * noise(len(day)) ** 0.25 / 100**0.25
    regression = fitted(values[: 14 * DAY])
    values[14 * DAY :] *= times
    peak = float(predict_peaks(regression, series(values), 1)[0])
    assert least < peak / values[-5:].mean() < most


def test_its_bounds_are_what_the_fit_has_seen_of_each_feature() -> None:
    values = hourly_bursts(3 * DAY)
    regression, past = fitted(values), _Past.of(series(values), float(values.mean()))
    rows = _choose_rows(past, WINDOW)
    assert rows is not None
    features = features_of(past, rows, WINDOW, regression.period)
    seen = np.isfinite(features).mean(axis=0) >= 0.25  # features that are rarely known are left out
    assert np.allclose(np.array(regression.lowest)[seen], np.nanmin(features[:, seen], axis=0))
    assert np.allclose(np.array(regression.highest)[seen], np.nanmax(features[:, seen], axis=0))
    assert not np.any(np.array([regression.lowest, regression.highest])[:, ~seen])


def test_what_is_older_than_some_weeks_takes_no_rows_from_what_counts() -> None:
    """With rows spread over years, only some twenty with weight are left to fit all coefficients."""
    values = noise(4 * 365 * 24)
    newest = values[-100 * 24 :]
    coefficients = fitted(values, 2, 3600.0).coefficients
    assert coefficients == pytest.approx(fitted(newest, 2, 3600.0).coefficients, abs=0.02)


def test_a_long_window_takes_little_memory() -> None:
    values = noise(7 * DAY)
    tracemalloc.start()
    try:
        predicted = predict_peaks(fitted(values, DAY), series(values), 360)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.isfinite(predicted).all()
    assert most < 20e6


def test_too_little_history_gives_none() -> None:
    assert fit_peak_regression(series(noise(DAY - 1)), WINDOW, 100.0) is None
    assert fit_peak_regression(series(noise(DAY)), WINDOW, 100.0) is not None
    assert fit_peak_regression(series(noise(0)), WINDOW, 100.0) is None
    assert fit_peak_regression(series(noise(20), 86400.0), 1, 100.0) is None
    assert fit_peak_regression(series(noise(133), 3600.0), 1, 100.0) is None, "fewer rows than 120 after half a day"
    assert fit_peak_regression(series(noise(134), 3600.0), 1, 100.0) is not None


# -- its features of the past --


def features_by_walking(logs: list[float], row: int, ahead: int, period: int, at: float, floor: float) -> list[float]:
    """The features of the minute ``row``, dated ``at``, of logs of minutes, value by value; a period in minutes."""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else float("nan")

    def last(values: list[float], end: int, count: int) -> list[float]:
        return values[max(end - count + 1, 0) : end + 1] if end >= 0 else []

    def largest(then: int, count: int) -> float:
        """The feature of the minutes after ``then``, if they have all been seen by ``row``."""
        return max(logs[then + 1 : then + count + 1]) if then >= -1 and then + count <= row else float("nan")

    def known(values: list[float]) -> list[float]:
        return [value for value in values if not np.isnan(value)]

    def median(values: list[float]) -> float:
        return statistics.median(known(values)) if known(values) else float("nan")

    level = mean(last(logs, row, 5))
    changes = [0.0, *(abs(b - a) for a, b in itertools.pairwise(logs))]
    days = [row - DAY * day for day in range(1, 8)]
    there = [largest(then, ahead) for then in days]
    wider = [largest(then - 15, ahead + 30) for then in days]
    hours = [largest(row - 60 * hour, ahead) for hour in (1, 2, 3)]
    seen = math.ceil((ahead + 2) / period)
    cycles = [largest(row - period * (seen + n) - 2, ahead + 4) for n in range(3)]
    levels = [mean(last(logs, then, 5)) for then in days]
    differences = [
        logs[row] - level,
        *(mean(last(logs, row, span)) - level for span in (2, 10, 15, 30, 60, 120, 360)),
        *(max(last(logs, row, span)) - level if row + 1 >= span else float("nan") for span in (15, 60, 180)),
        *(mean(last(changes, row, span)) for span in (10, 30, 120)),
        *(there[day - 1] - levels[day - 1] for day in (1, 2, 3, 7)),
        *(levels[day - 1] - level for day in (1, 2, 3, 7)),
        median(there) - level,
        median(wider) - level,
        max(known(there), default=float("nan")) - level,
        median(hours) - level,
        max(known(hours), default=float("nan")) - level,
        median(cycles) - level,
        level - floor,
    ]
    angles = [2 * math.pi * at / length for length in (86400, 43200, 3600, 1800, 1200)]
    return [*np.clip(differences, -3, 3), *map(math.sin, angles), *map(math.cos, angles)]


@pytest.mark.parametrize("ahead", [1, WINDOW, 60, 70])
def test_features_are_the_past_as_one_would_tell_it_value_by_value(ahead: int) -> None:
    values = 100 * np.exp(np.random.default_rng(11).normal(0, 0.6, 8 * DAY + 100))
    values[5000:5003] *= 1000  # more than is trusted
    past, period = _Past.of(series(values), 50.0), 37
    rows = np.array([0, 3, 14, 90, 700, DAY + 5, 3 * DAY, 5000, 5010, 7 * DAY + 16, 8 * DAY + 99])
    found = features_of(past, rows, ahead, period * MINUTE)
    logs = np.log(values + 50.0).tolist()
    for row, features in zip(rows.tolist(), found.tolist(), strict=True):
        expected = features_by_walking(logs, row, ahead, period, START.timestamp() + 60 * row, math.log(50.0))
        assert features == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(features_of(past, rows, ahead, 0.0)[:, 27]).all(), "without a period there are no cycles"


def test_a_span_is_at_least_one_step() -> None:
    past = _Past.of(series(noise(100), 3600.0), 1.0)
    assert [past.steps_in(seconds) for seconds in (60.0, 3600.0, 7200.0)] == [1, 1, 2]


def test_several_steps_within_a_minute_count_by_their_largest_load() -> None:
    values = noise(40)
    values[4:8] = np.nan
    past = _Past.of(series(np.append([1e6, 1e6], values), 15.0), 1.0)
    largest = np.nanmax(np.where(np.isnan(values), 0.0, values).reshape(10, 4), axis=1)
    largest[1] = largest[0]
    assert np.exp(past.logs) - 1.0 == pytest.approx(largest)
    assert (past.step, past.begin) == (60.0, START.timestamp() + 41 * 15.0 - 9 * 60.0)
    newest = _Past.of(series(values, 15.0), 1.0, 20)
    assert newest.logs.tolist() == past.logs[5:].tolist()
    assert newest.begin == START.timestamp() + 39 * 15.0 - 4 * 60.0


def test_the_rows_of_a_fit_begin_after_half_a_day_and_end_where_a_window_has_ended() -> None:
    rows = _choose_rows(_Past.of(series(noise(2 * DAY)), 1.0), WINDOW)
    assert rows is not None
    assert rows.tolist() == list(range(DAY // 2, 2 * DAY - WINDOW))
    rows = _choose_rows(_Past.of(series(noise(9 * DAY)), 1.0), WINDOW)
    assert rows is not None
    assert (len(rows), rows[0], rows[-1]) == (3000, DAY // 2, 9 * DAY - 1 - WINDOW)
    assert set(np.diff(rows).tolist()) == {4, 5}
    hours = _choose_rows(_Past.of(series(noise(100 * 24), 3600.0), 1.0), 2)
    assert hours is not None
    assert (hours[0], hours[-1]) == (100 * 24 - 3 - 56 * 24, 100 * 24 - 3)


def test_what_is_weeks_old_counts_for_little_beside_the_last_days() -> None:
    """Eight weeks of a noisy load that has recently become calm."""
    hours, newest = 56 * 24, 8 * 24
    spread = np.where(np.arange(hours) < hours - newest, 0.5, 0.05)
    values = 100 * np.exp(np.random.default_rng(3).normal(0, 1.0, hours) * spread)
    predicted = predict_peaks(fitted(values, 1, 3600.0), series(values, 3600.0), 48)
    calm = predict_peaks(fitted(values[-newest:], 1, 3600.0), series(values, 3600.0), 48)
    assert predicted.mean() < 1.6 * calm.mean()


# -- kept from tick to tick --


def test_it_is_fitted_again_after_some_hours_for_other_windows_and_when_the_clock_is_set_back() -> None:
    history = series(noise(3 * DAY))
    state = keep_regression(UncertaintyState(), history, WINDOW)
    first = state.regressed.regression
    assert first is not None
    later = attrs.evolve(history, start=START + timedelta(seconds=FIT_INTERVAL - MINUTE))
    assert keep_regression(state, later, WINDOW) is state
    for other, window in (
        (attrs.evolve(history, start=START + timedelta(seconds=FIT_INTERVAL)), WINDOW),
        (attrs.evolve(history, start=START - timedelta(seconds=MINUTE)), WINDOW),
        (history, WINDOW + 1),
    ):
        again = keep_regression(state, other, window).regressed.regression
        assert again is not None
        assert again is not first


@pytest.mark.parametrize("points", [1, 59, 3600])
def test_with_little_history_left_there_is_none(points: int) -> None:
    """As after a start with a saved state, before more has been read."""
    seconds = Series(START, 1.0, np.repeat(noise(DAY + 1), 60))
    state = keep_regression(UncertaintyState(), seconds, WINDOW * 60)
    assert state.regressed.regression is not None
    left = Series(seconds.time_at(len(seconds) - points), 1.0, seconds.values[-points:])
    state = keep_regression(state, left, WINDOW * 60)
    assert predict_window(state, left) is None


def test_without_load_there_is_none() -> None:
    state = keep_regression(UncertaintyState(), series(noise(3 * DAY)), WINDOW)
    quiet = series(np.zeros(3 * DAY))
    later = attrs.evolve(quiet, start=START + timedelta(days=9))
    state = keep_regression(state, later, WINDOW)
    assert state.regressed.regression is None
    assert predict_window(state, later) is None


# -- the outcome decides --


def tried(values: Floats, forecast: Floats, hours: float) -> tuple[UncertaintyState, Series]:
    """The last ``hours`` of ``values``, each minute with the ``forecast`` for the following minutes."""
    state, history = UncertaintyState(), series(values)
    for seen in range(len(values) - round(60 * hours), len(values) + 1):
        history = series(values[:seen])
        state = keep_regression(judge_windows(state, history, WINDOW), history, WINDOW)
        state = add_forecast(state, history, forecast, WINDOW, predicted_peak=predict_window(state, history))
    return state, history


def test_it_leads_where_it_knows_more_than_the_forecast() -> None:
    state, _ = tried(hourly_bursts(3 * DAY), np.full(30, 110.0), hours=5)
    assert state.regressed.weight > 0.9


def test_it_counts_little_where_the_forecast_knows_more() -> None:
    """Steps at random times, which a cheating forecast predicts."""
    rng = np.random.default_rng(4)
    values = np.repeat(rng.choice([50.0, 400.0, 1000.0], size=3 * DAY // 20), 20)
    state = UncertaintyState()
    for seen in range(len(values) - 400, len(values) - WINDOW):
        history = series(values[:seen])
        state = keep_regression(judge_windows(state, history, WINDOW), history, WINDOW)
        ahead = values[seen : seen + WINDOW]
        state = add_forecast(state, history, ahead, WINDOW, predicted_peak=predict_window(state, history))
    assert state.regressed.weight < 0.01


def test_it_counts_from_an_hour_of_windows_on() -> None:
    trial = RegressionTrial(loss=1.0, loss_without=1.0)
    assert attrs.evolve(trial, calibration=Calibration(windows=59)).weight == 0.0
    assert attrs.evolve(trial, calibration=Calibration(windows=60)).weight == 0.5
    assert RegressionTrial(calibration=Calibration(windows=60)).weight == 0.0, "no load, no loss"


@given(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9))
def test_the_better_one_counts_for_more(ours: float, theirs: float) -> None:
    weight = RegressionTrial(calibration=Calibration(windows=99), loss=ours, loss_without=theirs).weight
    assert 0 <= weight <= 1
    assert weight >= 0.5 if ours <= theirs else weight <= 0.5


def test_regression_and_forecast_are_weighed_by_the_losses_of_their_second_quantiles_in_load() -> None:
    forecast, regressed = (IntervalForecast(8.0, quantiles, 8.0) for quantiles in ((9.0, 13.0), (99.0, 9.0)))
    at = START.timestamp() + MINUTE
    pending = (PendingWindow(at, 0, forecast, forecast, regressed),)
    state = judge_windows(UncertaintyState(pending=pending), series(np.full(3, 10.0)), 2)
    trial = state.regressed
    assert trial.loss_without == pytest.approx(0.5 * 0.05 * 3)  # the first window has half the weight
    assert trial.loss == pytest.approx(0.5 * 0.95 * 1)
    assert trial.calibration.windows == 1
    days = attrs.evolve(state, pending=pending, regressed=attrs.evolve(trial, calibration=Calibration(windows=10**6)))
    pending = (attrs.evolve(pending[0], begins=START.timestamp() + 86400),)
    later = judge_windows(attrs.evolve(days, pending=pending), Series(START, 86400.0, np.full(3, 10.0)), 1).regressed
    assert later.loss == pytest.approx((trial.loss + 0.95) / 2), "and half of it is forgotten in a day"


@pytest.mark.parametrize("lost", [False, True])
def test_a_regression_that_is_gone_keeps_no_bad_model_in_charge(lost: bool) -> None:
    """Its history was lost; earlier accuracy says nothing about a forecast that is three times too high."""
    values = hourly_bursts(3 * DAY)
    state, _ = tried(values, np.full(30, 110.0), hours=3)
    history = series(values)
    for seen in range(300):
        at = START + timedelta(days=3 if lost else 0, minutes=seen)
        history = Series(at, MINUTE, noise(300)) if lost else series(np.append(values, noise(seen)))
        state = keep_regression(judge_windows(state, history, WINDOW), history, WINDOW)
        state = add_forecast(state, history, np.full(30, 3000.0), WINDOW, predicted_peak=predict_window(state, history))
    assert (state.regressed.regression is None) == lost
    assert state.standing_down == lost


def test_the_margin_lies_between_those_of_the_forecast_and_of_the_regression() -> None:
    regression = PeakRegression(0.0, MINUTE, 2 * MINUTE, 50.0, (0.0,) * (FEATURES + 1))
    calibration = Calibration(windows=99, thresholds=(0.0, 3.0))  # the first one counts, as of the forecast
    trial = RegressionTrial(regression, calibration, loss=1.0, loss_without=1.0)
    expected = np.array([100.0, 150.0, 9000.0])  # the window is the first two
    assert margin_of(trial, 0.0, expected, 50.0, 550.0) == pytest.approx(0.5 * np.log(600 / 200))
    assert margin_of(trial, 0.3, expected, 50.0, 550.0) == pytest.approx(0.5 * (0.3 + np.log(600 / 200)))
    assert margin_of(trial, 0.3, expected, 50.0, None) == 0.3
    assert margin_of(trial, 0.3, expected, 0.0, 550.0) == 0.3, "a day without load"
    assert margin_of(RegressionTrial(), 0.3, expected, 50.0, 550.0) == 0.3


# -- from the history to the plan --


def snapshots(values: Floats, count: int, forecast: Floats) -> list[Snapshot]:
    """The plans of the last ``count`` minutes of ``values``, by the same ``forecast``."""
    policy = PlanPolicy(100.0, bounds=ReplicaBounds(1, 100), prewarm_steps=2)
    workload = Workload("web", "rps", len(forecast), 300.0, policy, goal=ServiceLevelGoal())
    found: list[Snapshot] = []
    for seen in range(len(values) - count, len(values)):
        history = series(values[:seen])
        made = Forecast(history.time_at(seen - 1), MINUTE, forecast)
        found.append(plan_step(workload, history, made, found[-1] if found else None))
    return found


def test_while_the_model_learns_none_is_fitted() -> None:
    """A thousand workloads that start together would each fit one for a plan that does not use it."""
    values = hourly_bursts(3 * DAY)
    history, forecast = series(values), Forecast(START + timedelta(minutes=len(values) - 1), MINUTE, np.full(30, 110.0))
    settings_ = ServiceLevelSettings(SteeringSettings(PlanPolicy(100.0, bounds=ReplicaBounds(1, 100)), 0.99, 300.0))
    learning = attrs.evolve(forecast, status=learning_from(history))
    state, _ = plan_for_service_level(ServiceLevelState(), history, learning, settings_)
    assert state.uncertainty.regressed.regression is None
    state, _ = plan_for_service_level(state, history, forecast, settings_)
    assert state.uncertainty.regressed.regression is not None


def test_a_burst_that_the_forecast_does_not_know_has_its_pods_before_it_comes() -> None:
    values = hourly_bursts(3 * DAY)
    plans = snapshots(values[: 3 * DAY - 31], 300, np.full(30, 110.0))  # the next burst begins in two minutes
    assert plans[-1].replicas[:8].max() >= 8
    calm = plans[-12]
    assert calm.replicas[:8].max() <= 5


def test_a_gap_in_a_load_that_is_the_same_every_hour_takes_no_pods_from_the_plan() -> None:
    values = np.append(same_every_hour(3 * DAY), [407.0, 219.0, 500.0])
    plans = snapshots(values, 300, np.full(30, 500.0))
    assert plans[-4].replicas.min() >= 5
    assert min(plan.replicas.min() for plan in plans[-3:]) >= 5


def test_the_explanation_says_how_much_the_regression_counts() -> None:
    values = hourly_bursts(3 * DAY)
    plans = snapshots(values[: 3 * DAY - 31], 300, np.full(30, 110.0))
    plan = next(plan for plan in plans[-10:] if plan.replicas[:8].max() > 8)  # the first one before the burst
    explanation = explain(plan, plan.made_at, StalePolicy())
    stage = next(stage for stage in explanation.stages if stage.name is StageName.PEAK_REGRESSION)
    quantile = next(stage for stage in explanation.stages if stage.name is StageName.QUANTILE)
    assert stage.value is not None
    assert quantile.value is not None
    assert stage.value > 3 * quantile.value
    assert stage.words == f"peaks of earlier hours and days say {show_load(stage.value)}: that counts 100%"
    assert stage.without is not None
    assert stage.without < plan.replicas[:8].max()
    assert explanation.sentence.endswith(" to be safe by the peaks of earlier hours and days, at 100 a pod.")


def test_the_explanation_says_where_lower_peaks_take_the_plan_below_the_forecast() -> None:
    values = hourly_bursts(3 * DAY)
    plans = snapshots(values[: 3 * DAY - 31], 300, np.full(30, 400.0))
    explanation = explain(plans[-20], plans[-20].made_at, StalePolicy())
    assert explanation.sentence.endswith(
        " is planned for, as peaks of earlier hours and days were lower, at 100 a pod."
    )


def test_a_first_plan_has_tried_the_regression_on_hours_that_it_was_not_fitted_on() -> None:
    values = hourly_bursts(3 * DAY)
    history = series(values)
    made = [Forecast(history.time_at(end - 1), MINUTE, np.full(30, 110.0)) for end in range(3 * DAY - 300, 3 * DAY)]
    state = calibrate_on(made, history, WINDOW)
    trial = state.regressed
    assert trial.regression is not None
    held_out = (history.time_at(3 * DAY - 301) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    assert trial.regression.fitted_at == held_out
    assert trial.calibration.windows > 200
    assert trial.weight > 0.9
