# SPDX-License-Identifier: Apache-2.0
"""Recurring peaks: periods are found and shapeless loads have none, jitter is covered, and outcome decides."""

from datetime import UTC, datetime

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.explain import explain
from kedastral.core.explanation import StageName
from kedastral.core.forecast import Forecast
from kedastral.core.planning.planner import Workload, plan_step
from kedastral.core.planning.recurring_peaks import RecurringPeaks, find_period, recurring_peaks
from kedastral.core.planning.service_level import ServiceLevelSettings
from kedastral.core.planning.steering import SteeringSettings
from kedastral.core.planning.uncertainty import UncertaintyState, add_forecast, judge_windows
from kedastral.core.series import Floats, Series
from kedastral.core.serving import Snapshot, StalePolicy

START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE, FIVE = 60.0, 300.0
DAY = 1440


def series(values: Floats, step: float = MINUTE) -> Series:
    return Series(START, step, values)


def bursts(size: int, period: int, jitter: int = 0, level: float = 100.0, seed: int = 3) -> Floats:
    """``level``, and ten times as much for three steps in each period, ``jitter`` steps earlier or later at most."""
    values, chance = np.full(size, level), np.random.default_rng(seed)
    for at in range(period, size, period):
        moved = at + int(chance.integers(-jitter, jitter + 1))
        values[moved : moved + 3] = 10 * level
    return values


def noise(size: int, seed: int = 5) -> Floats:
    return 100 * np.exp(np.random.default_rng(seed).normal(0, 0.3, size))


# -- periods --


@pytest.mark.parametrize("period", [17, 60, 115, 240])
@pytest.mark.parametrize("jitter", [0, 2])
def test_a_burst_that_comes_back_has_its_period(period: int, jitter: int) -> None:
    assert find_period(series(bursts(2 * DAY, period, jitter))) == pytest.approx(period, abs=0.6 + jitter / 2)


def test_a_period_of_no_whole_steps_is_found_to_a_fraction() -> None:
    values = np.where(np.mod(np.arange(600) * 5, 117) < 10, 900.0, 20.0)  # every 117 minutes, at steps of five
    assert find_period(series(values, FIVE)) == pytest.approx(117 / 5, abs=0.15)


def test_a_change_of_level_hides_no_period() -> None:
    values = bursts(DAY, 60, 1)
    values[DAY // 2 :] *= 30
    assert find_period(series(values)) == pytest.approx(60, abs=0.5)


@pytest.mark.parametrize(
    "values",
    [
        noise(2 * DAY),
        np.full(2 * DAY, 100.0),
        np.zeros(2 * DAY),
        100 + 80 * np.sin(2 * np.pi * np.arange(2 * DAY) / DAY),
        bursts(2 * DAY, 700),
        np.array([5.0, 1.0, 5.0]),
        np.where(np.arange(2 * DAY) % 60 < 40, np.nan, 7.0),
    ],
    ids=["noise", "constant", "zero", "a day", "too rare", "too short", "mostly unknown"],
)
def test_other_loads_have_none(values: Floats) -> None:
    assert find_period(series(values)) is None


@given(st.floats(1e-6, 1e9), st.integers(0, 400))
def test_neither_the_unit_nor_a_gap_changes_a_period(scale: float, gap: int) -> None:
    values = bursts(DAY, 60) * scale
    values[gap : gap + 3] = np.nan
    assert find_period(series(values)) == pytest.approx(60, abs=0.5)


# -- what recurs --


def test_the_peak_of_earlier_cycles_is_expected_where_it_may_come() -> None:
    history = series(bursts(DAY + 50, 60))  # the next burst begins 10 steps ahead: 1,500 is a multiple of 60
    peaks = recurring_peaks(history, 20).loads
    assert peaks[:8].tolist() == [100.0] * 8
    assert peaks[8:15].tolist() == [1000.0] * 7, "two minutes earlier to two minutes later"
    assert peaks[15:].tolist() == [100.0] * 5


@pytest.mark.parametrize("block", [4, 30])
def test_finer_steps_say_the_same(block: int) -> None:
    minutes, finer = series(bursts(DAY + 50, 60)), series(np.repeat(bursts(DAY + 50, 60), block), MINUTE / block)
    peaks, other = recurring_peaks(minutes, 20), recurring_peaks(finer, 20 * block)
    assert other.loads.tolist() == np.repeat(peaks.loads, block).tolist()
    assert other.cycle == peaks.cycle


def test_one_cycle_that_was_larger_than_the_others_is_no_rule() -> None:
    values = bursts(DAY + 50, 60)
    values[DAY : DAY + 3] = 90_000.0
    assert recurring_peaks(series(values), 20).loads.max() == 1000.0


def test_without_a_period_it_is_the_time_of_the_day_by_a_quarter_of_an_hour() -> None:
    values = np.full(8 * DAY, 100.0)
    for day, late in enumerate([0, 7, -9, 14, 3, -12, 5, 0]):
        values[day * DAY + 600 + late : day * DAY + 605 + late] = 900.0
    history = series(values[: 7 * DAY + 590])
    assert recurring_peaks(history, 30).loads[[0, 12, 29]].tolist() == [900.0] * 3
    assert recurring_peaks(series(values[: 7 * DAY + 300]), 30).loads.max() == 100.0


def test_too_few_days_say_nothing() -> None:
    assert recurring_peaks(series(noise(4 * DAY)), 30).loads.max() == 0
    assert recurring_peaks(series(noise(6 * DAY)), 30).loads.min() > 0
    assert recurring_peaks(series(np.zeros(0)), 3).loads.tolist() == [0, 0, 0]


@given(st.integers(1, 60), st.integers(0, 3 * DAY))
def test_nothing_beyond_what_was_seen_is_expected(steps: int, size: int) -> None:
    values = noise(size)
    peaks = recurring_peaks(series(values), steps).loads
    assert len(peaks) == steps
    assert np.isfinite(peaks).all()
    assert peaks.max() <= values.max(initial=0.0)


# -- the outcome decides --


def tried(values: Floats, hours: float, state: UncertaintyState | None = None) -> UncertaintyState:
    """The last ``hours`` of ``values``, each minute with a forecast of the level."""
    state = state or UncertaintyState()
    for seen in range(len(values) - round(60 * hours), len(values) + 1):
        history = series(values[:seen])
        state = judge_windows(state, history, 5)
        state = add_forecast(state, history, np.full(10, 100.0), 5, peaks=recurring_peaks(history, 10))
    return state


def test_peaks_that_come_are_covered_after_a_quarter_of_a_day() -> None:
    assert not tried(bursts(DAY, 60, 1), 5).peaks.covered
    assert tried(bursts(DAY, 60, 1), 8).peaks.covered


def test_peaks_that_stay_away_are_no_longer_covered() -> None:
    state = tried(bursts(DAY, 60, 1), 8)
    assert state.peaks.covered
    quiet, minutes = np.full(3 * DAY, 100.0), 0
    while state.peaks.covered and minutes < DAY:
        minutes += 1
        history = series(quiet[: DAY + minutes])
        state = judge_windows(state, history, 5)
        state = add_forecast(state, history, np.full(10, 100.0), 5, peaks=RecurringPeaks(np.full(10, 1000.0), 3600.0))
    assert 10 < minutes < 360


def test_peaks_of_a_day_are_covered_after_a_day_at_the_earliest() -> None:
    day, hour = (tried_with(RecurringPeaks(np.full(10, 1000.0), cycle)) for cycle in (86400.0, 3600.0))
    assert (day, hour) == (DAY, 360)


def tried_with(peaks: RecurringPeaks) -> int:
    """After how many minutes these peaks are covered, which really come while the forecast says a tenth."""
    state, values = UncertaintyState(), np.full(3 * DAY, 1000.0)
    for seen in range(DAY, len(values)):
        history = series(values[:seen])
        state = judge_windows(state, history, 5)
        if state.peaks.covered:
            return state.peaks.calibration.windows
        state = add_forecast(state, history, np.full(10, 100.0), 5, peaks=peaks)
    raise AssertionError("they are never covered")


def test_peaks_that_change_nothing_are_not_covered() -> None:
    assert not tried(np.full(DAY, 100.0), 8).peaks.covered


def covering_peak() -> tuple[Snapshot, Snapshot]:
    """The plan shortly before the next burst, without and with what the last hours have taught of bursts."""
    policy = PlanPolicy(100.0, bounds=ReplicaBounds(1, 400))
    steered = ServiceLevelSettings(SteeringSettings(policy))
    workload = Workload("shop", "rps", 60, 300.0, policy, service_level=steered)
    values = bursts(DAY + 57, 60)  # the next burst begins 3 steps ahead
    state, history = tried(values[:-1], 8), series(values)
    forecast = Forecast(history.time_at(len(history) - 1), MINUTE, np.full(60, 100.0))
    plain = plan_step(workload, history, forecast, None)
    report = plain.service_level
    assert report is not None
    learnt = attrs.evolve(report, state=attrs.evolve(report.state, uncertainty=state))
    return plain, plan_step(workload, history, forecast, attrs.evolve(plain, service_level=learnt))


def test_a_covered_peak_is_planned_for_and_explained() -> None:
    plain, covering = covering_peak()
    assert covering.replicas[:5].max() >= 10 > plain.replicas[:5].max()
    explanation = explain(covering, covering.made_at, StalePolicy())
    assert explanation.decided_by is StageName.RECURRING_PEAKS
    assert "a recurring peak decided: " in explanation.sentence
    [stage] = [stage for stage in explanation.stages if stage.name is StageName.RECURRING_PEAKS]
    assert stage.value == 1000.0
    assert stage.without is not None
    assert stage.without < 10
