# SPDX-License-Identifier: Apache-2.0
"""The load of the same time on other days: which of them counts, what raises the quantile, and what it keeps."""

from datetime import UTC, datetime

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.seasonal_peak import (
    LEAST_DAYS,
    LEAST_QUANTILE,
    SEASONAL_RATE,
    next_seasonal_quantile,
    seasonal_peak,
)
from kedastral.core.planning.service_level import ServiceLevelSettings, ServiceLevelState, plan_for_service_level
from kedastral.core.planning.stabilization import Recommendation
from kedastral.core.planning.steering import SteeringSettings, SteeringState, StepOutcome, apply_outcome, judge_steps
from kedastral.core.series import DAY, Series, epoch_seconds

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = 60
"""In steps of a minute."""
POLICY = PlanPolicy(10.0, bounds=ReplicaBounds(1, 100))
LEVEL, STRICT = SteeringSettings(POLICY, 0.99), SteeringSettings(POLICY, 0.999)
SHORT = StepOutcome(epoch_seconds(START), 1.0, 200.0, 2, seasonal=200.0)


def days(*peaks: float, at: int = 2 * HOUR, length: int = 30, jitter: int = 0, extra: int = 0) -> Series:
    """A load of 10, and each day a batch of its own size that begins ``jitter`` minutes later than the day before."""
    values = np.full(len(peaks) * 1440 + extra, 10.0)
    for i, peak in enumerate(peaks):
        begin = i * 1440 + at + i * jitter
        values[begin : begin + length] = peak
    return Series(START, 60.0, values)


def peak_at(history: Series, minute: int, quantile: float = 1.0, ahead: int = 5) -> float:
    """The seasonal peak at a minute of the day after the last whole one."""
    end = len(history) // 1440 * 1440 + minute
    seen = np.concatenate([history.values, np.full(1440, 10.0)])[:end]
    return seasonal_peak(Series(START, 60.0, seen), end, ahead, quantile)


def test_it_is_the_load_of_about_the_same_time_on_other_days() -> None:
    history = days(*[300] * 7)
    moments = {minute: peak_at(history, minute) for minute in (85, 86, 120, 179, 180)}
    assert moments == {85: 10, 86: 300, 120: 300, 179: 300, 180: 10}  # from 02:00 to 02:30, and half an hour around it
    assert peak_at(history, 85, ahead=6) == 300


def test_the_quantile_says_how_many_of_the_days_count() -> None:
    history = days(100, 200, 300, 400, 500, 600, 700)
    shares = (LEAST_QUANTILE, 1 / 7, 0.15, 0.5, 6 / 7, 1)
    assert [peak_at(history, 120, share) for share in shares] == [100, 100, 200, 400, 600, 700]
    assert peak_at(history, 120, 0.0) == 0
    assert peak_at(history, 120, LEAST_QUANTILE - 1e-9) == 0
    assert peak_at(days(9000, *[300] * 7), 120) == 300  # only a week counts


def test_a_batch_that_comes_at_another_time_each_day_is_covered_for_as_long_as_it_may_come() -> None:
    history = days(*[300] * 7, jitter=5)
    assert [peak_at(history, minute, 0.1) for minute in (115, 116, 179, 180)] == [10, 300, 300, 10]
    assert [peak_at(history, minute) for minute in (85, 86, 209, 210)] == [10, 300, 300, 10]


def test_days_that_are_not_known_do_not_count() -> None:
    known = days(*[300] * LEAST_DAYS)
    assert peak_at(known, 120) == 300
    assert peak_at(days(*[300] * (LEAST_DAYS - 1)), 120) == 0
    gap = known.values.copy()
    gap[-1440:] = np.nan
    assert peak_at(Series(START, 60.0, gap), 120) == 0


def test_what_has_not_been_seen_yet_does_not_count() -> None:
    history = days(*range(300, 1100, 100))
    for end in range(7 * 1440, 8 * 1440, 7):
        seen = attrs.evolve(history, values=history.values[:end])
        assert seasonal_peak(seen, end, 1430, 1.0) == seasonal_peak(history, end, 1430, 1.0)


@given(st.sampled_from([1.0, 10.0, 300.0, 3600.0, 7200.0]), st.floats(0, 1), st.integers(1, 40))
def test_any_step_and_any_window_gives_a_load_that_was_seen(step: float, quantile: float, ahead: int) -> None:
    loads = np.arange(1.0, 1 + 5 * DAY // step)
    peak = seasonal_peak(Series(START, step, loads), len(loads), ahead, quantile)
    assert peak == 0 or peak in loads


# -- what steers it --


def test_the_error_budget_of_a_day_raises_it_as_far_as_a_day_lowers_it() -> None:
    quantile = 0.5
    for _ in range(14):
        quantile = next_seasonal_quantile(quantile, 1.0, 0.01, higher_helps=True)
    assert quantile == pytest.approx(0.5 + SEASONAL_RATE * 14 / 14.4, rel=0.01)
    for _ in range(1440 - 14):
        quantile = next_seasonal_quantile(quantile, 1.0, 0.01, higher_helps=False)
    assert quantile == pytest.approx(0.5, abs=0.01)


@given(st.lists(st.booleans(), max_size=300), st.sampled_from([0.1, 0.001]), st.sampled_from([1 / 60, 1.0, 1440.0]))
def test_it_stays_within_its_bounds(minutes: list[bool], budget: float, length: float) -> None:
    quantile = 0.0
    for helps in minutes:
        quantile = next_seasonal_quantile(quantile, length, budget, higher_helps=helps)
        assert 0 <= quantile <= 1


@pytest.mark.parametrize(
    ("settings", "ready", "seasonal", "raised"),
    [
        (LEVEL, 2, 200.0, True),
        (LEVEL, 2, 190.0, False),  # other days had less
        (LEVEL, 2, 0.0, False),
        (LEVEL, 12, 200.0, False),  # the factor could have covered it
        (STRICT, 12, 200.0, True),  # but here it is not left to the factor
        (STRICT, 12, 190.0, False),
        (LEVEL, 20, 200.0, False),  # there were enough
        (STRICT, 20, 200.0, False),
        (attrs.evolve(LEVEL, observing=True), 2, 200.0, None),
    ],
)
def test_only_minutes_that_other_days_would_have_covered_raise_it(
    settings: SteeringSettings, ready: int, seasonal: float, raised: bool | None
) -> None:
    state = SteeringState(1.0, seasonal_quantile=0.5)
    after = apply_outcome(state, attrs.evolve(SHORT, ready=ready, seasonal=seasonal), settings)
    assert after.seasonal_quantile == 0.5 if raised is None else (after.seasonal_quantile > 0.5) == raised


@pytest.mark.parametrize(("begins", "other_days", "raised"), [(125, 300, True), (88, 300, True), (125, 10, False)])
def test_a_jump_is_compared_with_other_days_as_they_were_known_when_its_pods_had_to_be_ordered(
    begins: int, other_days: float, raised: bool
) -> None:
    """Others began at minute 120. One at 88 is two minutes too early to be covered at once, but then it is."""
    history = days(*[other_days] * 7, extra=begins + 5)
    values = np.concatenate([history.values[: 7 * 1440 + begins], np.full(5, 300.0)])
    zero = epoch_seconds(START) + 60 * (7 * 1440 + begins - 25)
    state = SteeringState(1.0, zero + 60 * 24, tuple(Recommendation(zero + 60 * i, 2) for i in range(30)))
    after = judge_steps(state, Series(START, 60.0, values), LEVEL)
    assert (after.minutes_short, after.seasonal_quantile > 0.01) == (5, raised)


# -- what it keeps --


@pytest.mark.parametrize(("minute", "quantile", "floor"), [(120, 1.0, 32), (120, 0.0, 2), (30, 1.0, 2), (120, 0.1, 32)])
def test_its_pods_are_part_of_the_floor(minute: int, quantile: float, floor: int) -> None:
    history = days(*[300] * 7, extra=minute)
    made_at = history.time_at(len(history))
    state = ServiceLevelState(steering=SteeringState(1.0, epoch_seconds(made_at), seasonal_quantile=quantile))
    settings = ServiceLevelSettings(LEVEL)
    forecast = Forecast(made_at, 60.0, np.full(30, 10.0))
    state, plan = plan_for_service_level(state, history, forecast, settings)
    assert plan.floor == floor  # 300 / 10 / 0.95
    assert plan.report(state, settings).seasonal_quantile == (quantile or None)
    fixed = ServiceLevelSettings(LEVEL, headroom=1.0)
    assert plan_for_service_level(state, history, forecast, fixed)[1].floor == 2
