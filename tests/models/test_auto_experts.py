# SPDX-License-Identifier: Apache-2.0
"""The forecast of each expert of the auto model, on loads whose continuation is known."""

import math
import statistics
from datetime import UTC, datetime

import numpy as np
import pytest

from kedastral.core.series import Floats, Series
from kedastral.models.auto.experts import EXPERTS, predict_all
from kedastral.models.auto.features import Seasons, count_features, find_seasons
from kedastral.models.auto.ridge import Ridge
from kedastral.models.auto.signal import make_signal

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 1440
NOT_FITTED = (None, None)


def seasons_of(values: Floats, step: float = 60.0) -> Seasons:
    history = Series(START, step, values)
    signal = make_signal(history, history.time_at(len(history) - 1))
    assert signal is not None
    return find_seasons(signal, UTC)


def said(values: Floats, row: int, ahead: int, step: float = 60.0) -> dict[str, float]:
    """The forecast of each expert at step ``row``, for ``ahead`` steps later."""
    loads = predict_all(seasons_of(values, step), np.array([row]), [ahead], [NOT_FITTED])
    assert loads.shape == (len(EXPERTS), 1, 1)
    return dict(zip(EXPERTS, loads[:, 0, 0].tolist(), strict=True))


def exponential_mean(values: list[float], span: float) -> float:
    """The definition, value by value."""
    mean = values[0]
    for value in values[1:]:
        mean += 2 / (span + 1) * (value - mean)
    return mean


def test_each_moment_and_each_horizon_has_its_own_forecast() -> None:
    values = np.exp(np.random.default_rng(1).normal(5, 0.2, 9 * DAY))
    seasons, rows, knots = seasons_of(values), np.array([8 * DAY, 8 * DAY + 7, 9 * DAY - 1]), (3, 20)
    together = predict_all(seasons, rows, knots, [NOT_FITTED] * 2)
    assert together.shape == (len(EXPERTS), 2, 3)
    for k, ahead in enumerate(knots):
        for r, row in enumerate(rows.tolist()):
            alone = predict_all(seasons, np.array([row]), [ahead], [NOT_FITTED])[:, 0, 0]
            assert together[:, k, r].tolist() == pytest.approx(alone.tolist(), nan_ok=True)
    assert together[0].tolist() == [values[rows].tolist()] * 2, "the last value stays"


@pytest.mark.parametrize(("loads", "rising"), [(range(40, 0, -1), False), (range(1, 41), True)])
def test_the_means_are_of_five_and_thirty_minutes_and_no_less_than_a_load_that_rises(
    loads: range, rising: bool
) -> None:
    recent = [float(load) for load in loads][-30:]
    mean = 0.7 * exponential_mean(recent, 5) + 0.3 * exponential_mean(recent, 30)
    means = said(np.array(loads, dtype=float), 39, 10)["means"]
    assert means == pytest.approx(max(mean, recent[-1]) if rising else mean)
    assert rising == (mean < recent[-1])


@pytest.mark.parametrize(
    ("loads", "least"),
    [([10.0] * 25 + [1.0] * 4 + [20.0], 0.0), ([1.0] * 25 + [30.0] * 4 + [2.0], 2.0)],
    ids=["the last value alone rises", "all but the last value rise"],
)
def test_only_five_minutes_that_lie_above_the_half_hour_are_a_rise(loads: list[float], least: float) -> None:
    mean = 0.7 * exponential_mean(loads, 5) + 0.3 * exponential_mean(loads, 30)
    assert said(np.array(loads), 29, 10)["means"] == pytest.approx(max(mean, least))


def test_a_step_longer_than_a_mean_is_all_of_it() -> None:
    loads = [9.0, 8.0, 6.0, 7.0]
    mean = 0.7 * loads[-1] + 0.3 * exponential_mean(loads[-3:], 3)
    assert said(np.array(loads), 3, 2, step=600.0)["means"] == pytest.approx(mean)
    assert said(np.array(loads), 3, 2, step=3600.0)["means"] == pytest.approx(loads[-1])


def test_before_the_first_value_the_means_take_the_load_for_that() -> None:
    recent = [9.0] * 27 + [8.0, 6.0, 7.0]
    mean = 0.7 * exponential_mean(recent, 5) + 0.3 * exponential_mean(recent, 30)
    assert said(np.array([9.0, 8.0, 6.0, 7.0]), 3, 10)["means"] == pytest.approx(mean)


def days(*factors: float) -> Floats:
    """Days at 100, oldest first, each multiplied by its factor from noon on; the last one ends before noon."""
    values = np.full(len(factors) * DAY, 100.0)
    for day, factor in enumerate(factors):
        values[day * DAY + 720 : (day + 1) * DAY] *= factor
    return values[: len(values) - 720 - 30]  # it is 11:29


def test_the_daily_experts_add_the_median_gain_of_the_last_seven_days_to_the_level_of_now() -> None:
    factors = (50.0, 2.0, 9.0, 3.0, 1.5, 4.0, 8.0, 5.0)
    values = days(*factors, 1.0)
    values[-100:] *= 2  # today is busier
    row, unit = len(values) - 1, seasons_of(values).signal.unit
    gain = statistics.median(math.log1p(100 * each / unit) - math.log1p(100 / unit) for each in factors[1:])
    expected = unit * math.expm1(math.log1p(200 / unit) + gain)
    experts = said(values, row, 150)
    for name in ("day-5m", "day-20m", "day-60m"):
        assert experts[name] == pytest.approx(expected)


def test_the_weekly_expert_adds_what_came_at_the_same_time_of_the_week() -> None:
    factors = [1.0] * 14
    factors[0] = factors[7] = 9.0
    seasons = seasons_of(days(*factors, 1.0))
    row, unit = len(seasons.signal) - 1, seasons.signal.unit
    gain = math.log1p(900 / unit) - math.log1p(100 / unit)
    loads = predict_all(seasons, np.array([row]), [150], [NOT_FITTED])[:, 0, 0]
    assert loads[EXPERTS.index("week")] == pytest.approx(unit * math.expm1(math.log1p(100 / unit) + gain))


@pytest.mark.parametrize(("name", "minutes"), [("day-5m", 5), ("day-20m", 20), ("day-60m", 60), ("week", 20)])
def test_each_expert_of_days_has_a_level_of_its_own_span(name: str, minutes: int) -> None:
    """Now, and at the same time of the previous days, whose load stayed the same."""
    values = np.full(9 * DAY, 100.0)
    values[-minutes:] = 300.0
    row, unit = len(values) - 1, seasons_of(values).signal.unit
    assert said(values, row, 30)[name] == pytest.approx(300.0)
    values[-minutes] = 100.0
    level = (math.log1p(100 / unit) + (minutes - 1) * math.log1p(300 / unit)) / minutes
    assert said(values, row, 30)[name] == pytest.approx(unit * math.expm1(level), rel=0.02)
    before = np.full(9 * DAY, 100.0)
    before[row - 7 * DAY - minutes + 1 : row - 7 * DAY + 1] = 300.0
    for days_ago in range(1, 7):
        before[row - days_ago * DAY - minutes + 1 : row - days_ago * DAY + 1] = 300.0
    fallen = said(before, row, 2 * minutes)[name]
    unit = seasons_of(before).signal.unit
    assert fallen == pytest.approx(max(unit * math.expm1(2 * math.log1p(100 / unit) - math.log1p(300 / unit)), 0.0))


def test_a_load_without_days_keeps_its_level() -> None:
    values = np.array([5.0, 6.0, 7.0, 8.0] * 3)
    experts = said(values, 11, 2, step=43200.0)
    assert {name: experts[name] for name in ("day-5m", "day-20m", "day-60m", "week")} == pytest.approx(
        dict.fromkeys(("day-5m", "day-20m", "day-60m", "week"), 8.0)
    )


def test_a_ridge_adds_what_it_says_to_the_level_up_to_half_more_than_the_largest_load() -> None:
    values = np.full(3 * DAY, 100.0)
    values[DAY] = 200.0
    seasons, rows = seasons_of(values), np.array([2 * DAY, 3 * DAY - 1])
    unit, nothing = seasons.signal.unit, np.zeros(count_features(60.0))

    def ridge(intercept: float) -> Ridge:
        return Ridge(np.append(nothing, intercept), nothing, nothing)

    ridges = [(ridge(0.25), None, None), (ridge(-0.5), ridge(9.0), None)]
    slow, fast, random = predict_all(seasons, rows, (1, 5), ridges)[-3:]
    level = math.log1p(100 / unit)
    assert slow[0] == pytest.approx([unit * math.expm1(level + 0.25)] * 2)
    assert slow[1] == pytest.approx([unit * math.expm1(level - 0.5)] * 2)
    assert np.isnan(fast[0]).all()
    assert np.isnan(random).all()
    assert fast[1] == pytest.approx([1.5 * (200 + unit) - unit] * 2)


def test_a_ridge_reads_the_features_of_its_own_horizon() -> None:
    rng = np.random.default_rng(2)
    seasons = seasons_of(100 * np.exp(rng.normal(0, 0.3, 9 * DAY)))
    rows, width = np.array([8 * DAY + 3, 9 * DAY - 5]), count_features(60.0)
    coefficients = rng.normal(0, 0.05, width + 1)
    ridges = [(Ridge(coefficients, np.full(width, -9.0), np.full(width, 9.0)), None, None)] * 2
    together = predict_all(seasons, rows, (3, 45), ridges)[-3]
    for k, ahead in enumerate((3, 45)):
        alone = predict_all(seasons, rows, (ahead,), ridges[:1])[-3][0]
        assert together[k] == pytest.approx(alone)
    assert together[0] != pytest.approx(together[1])


def test_a_batch_that_begins_early_is_not_forecast_to_rise_as_it_did_from_nothing() -> None:
    """Yesterday the load rose from 1 to 600 at 03:20; today it is there at 03:10 already."""
    values = np.full(5 * DAY, 1.0)
    for day in range(5):
        begins = day * DAY + (200 if day < 4 else 190)
        values[begins : begins + 60] = 600.0
    forecast = said(values[: 4 * DAY + 196], 4 * DAY + 195, 20)
    known = {name: load for name, load in forecast.items() if math.isfinite(load)}
    assert known["day-5m"] == pytest.approx(1.5 * 600, rel=0.01)
    assert max(known.values()) <= 1.5 * 600 + 1
