# SPDX-License-Identifier: Apache-2.0
"""Uncertainty: calibrated on synthetic noise, quick to widen, unaffected by gaps, and independent of the unit."""

import json
import math
from datetime import UTC, datetime

import attrs
import cattrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.planning.peak_regression import FEATURES, PeakRegression
from kedastral.core.planning.uncertainty import (
    FIRST_WINDOWS,
    MAX_LOG_RATIO,
    MIN_WINDOWS,
    QUANTILES,
    Calibration,
    IntervalForecast,
    PendingWindow,
    RegressionTrial,
    UncertaintyState,
    _stands_down,
    add_forecast,
    calibrate_last,
    judge_windows,
    offset_of,
    upper_path,
)
from kedastral.core.series import Series

START = datetime(2026, 3, 2, tzinfo=UTC)
STEPS = 10


def series(values: object) -> Series:
    return Series(START, 60.0, np.asarray(values, dtype=float))


def run(
    values: object, window: int = 4, state: UncertaintyState | None = None, *, bias: float = 1.0
) -> UncertaintyState:
    """A forecast of ``bias`` times the mean of the last ten values, minute by minute over the second half."""
    array = np.asarray(values, dtype=float)
    state = state or UncertaintyState()
    for seen in range(len(array) // 2, len(array) + 1):
        history = series(array[:seen])
        state = judge_windows(state, history, window)
        known = array[max(0, seen - 10) : seen]
        known = known[np.isfinite(known)]
        if len(known):
            state = add_forecast(state, history, np.full(STEPS, bias * known.mean()), window)
    return state


def noise(size: int, spread: float = 0.2, seed: int = 1) -> np.ndarray:
    return 100 * np.exp(np.random.default_rng(seed).normal(0, spread, size))


def test_the_stated_share_of_windows_stays_below_each_quantile() -> None:
    model = run(noise(6000)).model

    assert model.windows > 2900
    assert model.coverage == pytest.approx(QUANTILES, abs=0.02)


# -- the last value, before any tick --


def noisy_days(minutes: int, spread: float) -> np.ndarray:
    return noise(minutes, spread) * (2 - np.cos(np.arange(minutes) * 2 * np.pi / 1440))


@pytest.mark.parametrize("spread", [0.005, 0.1, 0.6])
def test_the_last_value_is_calibrated_on_the_history_as_it_would_have_been_tick_by_tick(spread: float) -> None:
    load, window = noisy_days(1440 + FIRST_WINDOWS + 8, spread), 8
    state = UncertaintyState()
    for seen in range(1441, len(load) + 1):
        history = series(load[:seen])
        state = add_forecast(judge_windows(state, history, window), history, np.ones(STEPS), window, 5)

    at_once = calibrate_last(series(load), window, 5)

    assert (at_once.windows, state.last.windows) == (FIRST_WINDOWS, FIRST_WINDOWS)
    assert at_once.margins == pytest.approx(state.last.margins, rel=0.05)
    assert at_once.lead_error == pytest.approx(state.last.lead_error)


def test_windows_with_a_gap_say_nothing_about_the_last_value() -> None:
    load = noise(100)
    load[60:70] = np.nan
    assert calibrate_last(series(load), 8).windows == (60 - 8) + (30 - 8)
    assert calibrate_last(series([np.nan] * 50), 8) == calibrate_last(series([1.0] * 8), 8) == Calibration()


def test_a_day_without_load_says_nothing_about_the_last_value() -> None:
    load = np.concatenate([noise(100), np.zeros(1440)])
    assert calibrate_last(series(load), 8) == Calibration()


@pytest.mark.parametrize("bias", [0.5, 2.0])
def test_a_forecast_that_is_always_wrong_by_a_factor_is_set_right(bias: float) -> None:
    # too high by half of it: there the quantile lies below the forecast itself
    assert run(noise(6000), bias=bias).model.coverage == pytest.approx(QUANTILES, abs=0.04)


def test_margins_widen_within_minutes_when_the_noise_does() -> None:
    calm = noise(2000, 0.02)
    before = run(calm).model.margins[0]
    wild = np.concatenate([calm, 100 * np.exp(np.random.default_rng(2).normal(0, 0.4, 20))])
    after = run(wild).model.margins[0]

    assert after > 3 * before


def test_margins_narrow_again_within_hours() -> None:
    rng = np.random.default_rng(3)
    burst = np.concatenate([noise(2000, 0.02), 100 * np.exp(rng.normal(0, 0.4, 60))])
    state = run(burst)
    after = run(np.concatenate([burst, noise(300, 0.02, 4)]))

    assert after.model.margins[0] < 0.6 * state.model.margins[0]


def test_one_load_that_nobody_could_foresee_hardly_widens_the_margin() -> None:
    calm = noise(1000, 0.05)
    struck = calm.copy()
    struck[-12] *= 1000
    before, after = (run(values).model.margins[0] for values in (calm, struck))
    assert before < after < 4.5 * before  # sixteen times without a cap


def test_nothing_is_learnt_before_a_window_has_ended() -> None:
    history = series([10.0, 10.0])
    state = add_forecast(UncertaintyState(), history, np.full(STEPS, 10.0), 3)

    assert judge_windows(state, series([10.0, 10.0, 50.0, 50.0]), 3) == state
    ended = judge_windows(state, series([10.0, 10.0, 50.0, 50.0, 50.0]), 3)
    assert (ended.model.windows, ended.pending) == (1, ())


def test_the_largest_of_the_window_is_what_counts() -> None:
    state = add_forecast(UncertaintyState(), series([10.0]), np.array([5.0, 20.0, 5.0, 90.0]), 3)

    assert state.pending[0].model.maximum == 20.0  # the fourth value lies beyond the window
    assert judge_windows(state, series([10.0, 1.0, 1.0, 20.0]), 3).model.coverage[0] > QUANTILES[0]


def test_a_gap_in_the_window_teaches_nothing() -> None:
    state = add_forecast(UncertaintyState(), series([10.0]), np.full(STEPS, 10.0), 3)
    observed = judge_windows(state, series([10.0, np.nan, 90.0, 90.0]), 3)

    assert observed == UncertaintyState()


def test_a_value_that_comes_late_is_waited_for() -> None:
    state = add_forecast(UncertaintyState(), series([10.0]), np.full(STEPS, 10.0), 3)

    assert judge_windows(state, series([10.0, 9.0, 9.0, np.nan]), 3) is state
    assert judge_windows(state, series([np.nan] * 4), 3) is state
    assert judge_windows(state, series([10.0, 9.0, 9.0, 9.0, np.nan]), 3).model.windows == 1


def test_a_window_before_the_history_teaches_nothing() -> None:
    state = add_forecast(UncertaintyState(), series([10.0]), np.full(STEPS, 10.0), 3)
    later = Series(datetime(2026, 3, 3, tzinfo=UTC), 60.0, np.full(5, 70.0))

    assert judge_windows(state, later, 3) == UncertaintyState()


def test_once_the_clock_has_been_set_back_forecasts_are_judged_again_at_once() -> None:
    """And not only from the time on that the clock had reached."""
    values = noise(600)
    ahead = run(values, window=4)
    back = run(values[:120], window=4, state=ahead)

    assert back.model.windows == ahead.model.windows + 60 - 3
    assert [each.begins for each in back.pending] == [START.timestamp() + 60.0 * i for i in (117, 118, 119, 120)]


def test_a_second_forecast_from_the_same_history_changes_nothing() -> None:
    history = series([10.0, 12.0])
    state = add_forecast(UncertaintyState(), history, np.full(STEPS, 10.0), 3)

    assert add_forecast(state, history, np.full(STEPS, 99.0), 3) is state


def test_no_load_at_all_gives_no_number_out_of_nothing() -> None:
    state = run(np.zeros(400))

    assert offset_of(series(np.zeros(10))) == 0.0
    assert upper_path(np.zeros(3), state.model.margins[0], 0.0).tolist() == [0.0, 0.0, 0.0]
    assert all(np.isfinite(state.model.margins))


def test_a_launch_from_zero_is_surprising_only_so_far() -> None:
    state = run(np.concatenate([np.zeros(400), np.full(20, 1e6)]))

    assert state.model.margins[-1] <= MAX_LOG_RATIO
    relaxed = run(np.concatenate([np.zeros(400), np.full(400, 1e6)]))
    assert relaxed.model.margins[0] < 1.0


def test_the_model_stands_down_while_it_loses_to_the_last_value_and_returns() -> None:
    walk = 100 * np.exp(np.cumsum(np.random.default_rng(5).normal(0, 0.01, 4000)))
    rng = np.random.default_rng(6)

    def follow(state: UncertaintyState, first: int, last: int, error: float) -> UncertaintyState:
        for seen in range(first, last):
            history = series(walk[:seen])
            state = judge_windows(state, history, 4)
            ahead = walk[seen : seen + 4] * np.exp(rng.normal(0, error))
            state = add_forecast(state, history, ahead, 4)
        return state

    assert not follow(UncertaintyState(), 100, 100 + MIN_WINDOWS, 0.5).standing_down  # not enough seen
    good = follow(UncertaintyState(), 100, 600, 0.0)
    assert not good.standing_down
    bad = follow(good, 600, 1200, 0.5)
    assert bad.standing_down
    assert not follow(bad, 1200, 3900, 0.0).standing_down


def test_each_value_is_raised_and_the_largest_by_exactly_the_margin() -> None:
    values = np.array([0.0, 4.0, 9.0])
    raised = upper_path(values, np.log(2.0), 1.0)

    assert raised == pytest.approx([1.0, 9.0, 19.0])


def test_nothing_falls_below_zero() -> None:
    assert upper_path(np.array([0.0, 1.0]), -1.0, 1.0).min() == 0.0


def test_the_state_can_be_stored() -> None:
    state = run(noise(300))
    again = cattrs.structure(json.loads(json.dumps(cattrs.unstructure(state))), UncertaintyState)

    assert again == state
    assert len(state.pending) == 4
    assert len(json.dumps(attrs.asdict(state))) < 2500


loads = st.lists(st.one_of(st.floats(0, 1e6), st.just(float("nan"))), min_size=2, max_size=60)


@settings(max_examples=60)
@given(loads, st.integers(1, 6))
def test_quantiles_never_cross(values: list[float], window: int) -> None:
    state = run(values, window)

    for calibration in (state.model, state.last):
        assert list(calibration.margins) == sorted(calibration.margins)
        assert all(np.isfinite(calibration.margins))
    for pending in state.pending:
        assert list(pending.model.quantiles) == sorted(pending.model.quantiles)


@settings(max_examples=60)
@given(loads, st.sampled_from([2.0**-20, 0.25, 2.0, 2.0**12]))
def test_the_unit_of_the_load_does_not_matter(values: list[float], factor: float) -> None:
    plain, scaled = run(values), run([value * factor for value in values])

    assert scaled.model.margins == pytest.approx(plain.model.margins, rel=1e-6, abs=1e-9)
    assert scaled.standing_down == plain.standing_down


def test_thresholds_that_crossed_are_read_in_order() -> None:
    assert Calibration(thresholds=(2.0, 1.0)).margins == pytest.approx((0.2, 0.2))


def test_windows_seen_together_count_one_by_one() -> None:
    forecast = IntervalForecast(10.0, (12.0, 13.0), 10.0)
    pending = tuple(PendingWindow(START.timestamp() + 60.0 * i, 1, forecast, forecast) for i in range(1, 4))
    state = judge_windows(UncertaintyState(pending=pending), series(np.full(8, 10.0)), 2)

    assert (state.model.windows, state.last.windows) == (3, 3)


def judged_once(before: Calibration, actual: float, quantiles: tuple[float, float], step: float) -> Calibration:
    """``before`` after a window whose largest load was ``actual``, of a forecast of 100 on an offset of 100."""
    forecast = IntervalForecast(100.0, quantiles, 90.0)
    pending = (PendingWindow(START.timestamp() + step, 0, forecast, forecast),)
    values = np.append(np.full(5, (500.0 - actual) / 4), 100.0)
    values[1] = actual
    assert offset_of(Series(START, step, values)) == pytest.approx(100.0)
    return judge_windows(UncertaintyState(before, pending=pending), Series(START, step, values), 1).model


def test_each_window_moves_what_is_known_by_its_half_life() -> None:
    """Half an hour for the fast scale, a day for the slow one and the coverage, six hours for the losses."""
    before = Calibration(0.2, 0.2, (1.0, 2.0), (0.9, 0.9), 0.01, 10**6, 4.0)
    after = judged_once(before, 300.0, (150.0, 310.0), 1800.0)
    residual, excess = math.log(400 / 200), math.log(400 / 250)
    day, hours = 1 - 0.5 ** (1 / 48), 1 - 0.5 ** (1 / 12)
    assert after.fast_scale == pytest.approx((0.2 + residual) / 2)
    assert after.slow_scale == pytest.approx(0.2 + day * (residual - 0.2))
    assert after.coverage == pytest.approx((0.9 - day * 0.9, 0.9 + day * 0.1))
    assert after.thresholds == pytest.approx((1.0 + 0.02 * 0.9, 2.0 - 0.02 * 0.05))
    assert after.pinball_loss == pytest.approx(0.01 + hours * (0.9 * excess - 0.01))
    assert after.lead_error == pytest.approx(4.0 + hours * (210.0 - 4.0))
    below = judged_once(before, 25.0, (150.0, 310.0), 1800.0)
    assert below.pinball_loss == pytest.approx(0.01 + hours * (0.1 * math.log(250 / 125) - 0.01))
    assert below.fast_scale == pytest.approx((0.2 + math.log(200 / 125)) / 2), "too high is as wrong as too low"


def test_the_first_windows_are_averaged_with_what_is_assumed_before_them() -> None:
    for windows in (0, 1, 5):
        before = Calibration(0.2, 0.3, windows=windows)
        after = judged_once(before, 300.0, (150.0, 310.0), 1.0)
        assert after.slow_scale == pytest.approx((0.3 * (windows + 1) + math.log(2)) / (windows + 2))
        assert after.windows == windows + 1


def test_a_threshold_stays_within_its_bounds() -> None:
    assert judged_once(Calibration(thresholds=(-1.0, -1.0)), 50.0, (99.0, 99.0), 60.0).thresholds == (-1.0, -1.0)
    assert judged_once(Calibration(thresholds=(10.0, 10.0)), 500.0, (99.0, 99.0), 60.0).thresholds == (10.0, 10.0)


@pytest.mark.parametrize(("scale", "counts"), [(0.05, 0.6), (0.2, 1.2), (0.4, math.log(16))])
def test_a_residual_counts_for_no_more_than_six_scales_and_no_less_than_six_tenths(scale: float, counts: float) -> None:
    before = Calibration(0.9 * scale, 1.1 * scale, windows=10**6)
    after = judged_once(before, 25.0, (150.0, 310.0), 1800.0)
    assert after.fast_scale == pytest.approx((0.9 * scale + min(counts, math.log(200 / 125))) / 2)
    forecast = IntervalForecast(1.0, (2.0, 3.0), 1.0)
    pending = (PendingWindow(START.timestamp() + 1800.0, 0, forecast, forecast),)
    history = Series(START, 1800.0, np.array([100.0, 1515.0, *[1.0] * 14]))
    offset = offset_of(history)
    residual = math.log((1515 + offset) / (1 + offset))
    assert residual > 2.5
    state = judge_windows(UncertaintyState(before, pending=pending), history, 1)
    assert state.model.fast_scale == pytest.approx((0.9 * scale + min(counts if scale < 0.4 else 2.4, residual)) / 2)


def test_the_offset_is_the_mean_of_the_last_day_or_a_thousandth_of_its_largest_load() -> None:
    hours = np.array([9e9, *[3.0] * 23, 27.0])
    assert offset_of(Series(START, 3600.0, hours)) == pytest.approx(4.0)
    minutes = np.zeros(1441)
    minutes[0], minutes[700] = 9e9, 1000.0
    assert offset_of(Series(START, 60.0, minutes)) == pytest.approx(1.0)
    minutes[1:1000] = np.nan
    minutes[1000:] = 7.0
    assert offset_of(Series(START, 60.0, minutes)) == pytest.approx(7.0), "gaps are no load of 0"
    assert offset_of(Series(START, 60.0, np.full(9, np.nan))) == 0.0


def test_the_error_at_the_lead_is_kept_beside_that_of_the_last_value() -> None:
    load = np.arange(1.0, 61.0)  # each step one more
    state = UncertaintyState()
    for seen in range(1, len(load) + 1):
        history = series(load[:seen])
        state = add_forecast(
            judge_windows(state, history, 5), history, load[seen - 1] + np.arange(1.0, 11.0) + 0.5, 5, lead_steps=3
        )

    # always half a unit too high, and three steps behind
    assert state.model.lead_error / state.last.lead_error == pytest.approx(0.5 / 3)
    assert state.last.lead_error == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize(
    ("loss", "windows", "before", "stands_down"),
    [
        (0.12, 99, False, True),
        (0.12, 60, False, True),
        (0.12, 59, False, False),
        (0.105, 99, False, False),  # a tenth more than the last value's
        (0.105, 99, True, True),  # that does until it is no worse
        (0.095, 99, True, False),
    ],
)
def test_a_model_stands_down_while_its_loss_is_a_tenth_more_and_returns_once_it_is_no_more(
    loss: float, windows: int, before: bool, stands_down: bool
) -> None:
    model, last = Calibration(windows=windows, pinball_loss=loss), Calibration(pinball_loss=0.1)
    assert _stands_down(UncertaintyState(model, last, (), before)) is stands_down


@pytest.mark.parametrize(
    ("loss", "leads", "fitted", "stands_down"),
    [(0.05, True, True, False), (0.05, False, True, True), (0.05, True, False, True), (0.2, True, True, True)],
)
def test_a_regression_that_leads_is_judged_instead_of_the_model(
    loss: float, leads: bool, fitted: bool, stands_down: bool
) -> None:
    regression = PeakRegression(0.0, 60.0, 480.0, 1.0, (0.0,) * (FEATURES + 1)) if fitted else None
    losses = (1.0, 2.0) if leads else (2.0, 1.0)
    trial = RegressionTrial(regression, Calibration(windows=99, pinball_loss=loss), *losses)
    model, last = Calibration(windows=99, pinball_loss=0.2), Calibration(pinball_loss=0.1)
    assert _stands_down(UncertaintyState(model, last, regressed=trial)) is stands_down


@pytest.mark.parametrize(("loss", "stands_down"), [(0.0005, False), (0.0019, False), (0.01, True)])
def test_a_loss_that_is_negligible_is_no_reason_to_stand_down(loss: float, stands_down: bool) -> None:
    """After a night without load both losses are tiny; the model must not stand down just before the morning."""
    history = series(np.where(np.arange(300) < 200, 100.0, 0.0))
    calibration = Calibration(windows=1000, pinball_loss=loss)
    state = UncertaintyState(calibration, attrs.evolve(calibration, pinball_loss=loss / 2))
    state = add_forecast(state, series(history.values[:290]), np.zeros(STEPS), 4)
    assert judge_windows(state, history, 4).standing_down is stands_down
