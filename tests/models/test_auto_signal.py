# SPDX-License-Identifier: Apache-2.0
"""A history as the auto model sees it: minutes, filled gaps and how long they count, and its scale."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.series import Series
from kedastral.models.auto.signal import Signal, make_signal

START = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 1440
NAN = math.nan


def signal_of(values: object, step: float = 60.0, late: float = 0.0) -> Signal:
    """The signal of ``values``, ``late`` seconds after the newest of them."""
    history = Series(START, step, values)
    made = make_signal(history, history.time_at(len(history) - 1) + timedelta(seconds=late))
    assert made is not None
    return made


# -- gaps --


def test_a_value_fills_the_gap_after_it_and_counts_for_five_minutes() -> None:
    signal = signal_of([5.0, *[NAN] * 7, 3.0])
    assert signal.values.tolist() == [5.0] * 8 + [3.0]
    assert signal.known.tolist() == [True] * 6 + [False] * 2 + [True]
    assert signal.scorable.tolist() == [True] + [False] * 7 + [True]


def test_at_the_end_a_value_counts_for_five_minutes_in_scores_too() -> None:
    assert signal_of([5.0, NAN, 3.0, *[NAN] * 7]).scorable.tolist() == [True, False, *[True] * 6, False, False]


def test_with_long_steps_a_gap_is_unknown_at_once() -> None:
    assert signal_of([5.0, NAN, 3.0], step=300.0).known.tolist() == [True, True, True]
    assert signal_of([5.0, NAN, 3.0], step=301.0).known.tolist() == [True, False, True]


def test_it_begins_with_the_first_value() -> None:
    assert signal_of([NAN, NAN, 4.0, 6.0]).values.tolist() == [4.0, 6.0]


def test_what_is_no_measurement_is_a_gap() -> None:
    assert signal_of([4.0, -1.0, math.inf, 0.0]).values.tolist() == [4.0, 4.0, 4.0, 0.0]


@pytest.mark.parametrize(("late", "missing"), [(0.0, 0), (60.0, 0), (90.0, 0), (91.0, 1), (150.0, 1), (180.0, 2)])
def test_a_history_that_ends_more_than_a_step_before_now_has_a_gap_at_its_end(late: float, missing: int) -> None:
    signal = signal_of([5.0, 7.0], late=late)
    assert signal.values.tolist() == [5.0, 7.0, *[7.0] * missing]
    assert signal.end == START.timestamp() + 60.0 + late


def test_two_weeks_count_those_that_are_missing_included() -> None:
    assert signal_of(np.arange(20.0), step=86400.0).values.tolist() == list(range(6, 20))
    assert signal_of(np.arange(20.0), step=86400.0, late=3 * 86400.0).values.tolist() == [*range(8, 20), 19, 19]
    assert signal_of([1.0, 2.0, 3.0], step=14 * 86400.0).values.tolist() == [3.0]


# -- minutes --


def test_steps_finer_than_a_minute_are_averaged_to_minutes_that_end_where_the_history_ends() -> None:
    assert signal_of([1, 2, 3, 4, 5, 6, 7, 8], step=15.0).values.tolist() == [2.5, 6.5]
    assert signal_of([1, 2, 3, 4, 5, 6], step=15.0).values.tolist() == [1.5, 4.5]
    assert signal_of([1, 2, 3, 4], step=15.0).step == 60.0
    assert signal_of([1, 2, 3, 4], step=61.0).step == 61.0


def test_a_minute_is_the_mean_of_what_is_known_of_it() -> None:
    assert signal_of([1, NAN, 3, NAN, *[NAN] * 4, 5, 6, 7, 8], step=15.0).values.tolist() == [2.0, 2.0, 6.5]
    assert signal_of([NAN, NAN, 3, NAN, 5, NAN, 7, NAN], step=15.0).values.tolist() == [3.0, 6.0]


# -- the scale --


def test_the_unit_is_a_twentieth_of_the_mean_and_a_thousandth_of_the_largest_load_at_least() -> None:
    steady, rare = signal_of(np.full(100, 200.0)), signal_of([*[0.0] * 999, 3000.0])
    assert steady.unit == pytest.approx(10.0)
    assert steady.logs == pytest.approx(np.full(100, math.log(21.0)))
    assert rare.unit == pytest.approx(3.0)  # a twentieth of the mean would be 0.15
    assert signal_of(np.zeros(9)).logs.tolist() == [0.0] * 9


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_of_the_load_changes_nothing_but_the_load(unit: float) -> None:
    values = np.random.default_rng(1).exponential(size=50)
    assert signal_of(values * unit).logs == pytest.approx(signal_of(values).logs)


@pytest.mark.parametrize("step", [15.0, 60.0, 300.0])
def test_without_a_value_there_is_none(step: float) -> None:
    for values in ([], [NAN] * 9):
        assert make_signal(Series(START, step, values), START) is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_logs_are_turned_back_into_the_load_and_never_below_zero(values: list[float]) -> None:
    signal = signal_of(values)
    assert signal.to_load(signal.logs) == pytest.approx(values, rel=1e-9, abs=1e-9 * max(values))
    assert signal.to_load(np.array([-1.0])).tolist() == [0.0]


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=25), st.integers(1, 12))
def test_means_are_those_of_the_steps_that_there_are(values: list[float], steps: int) -> None:
    signal = signal_of(values)
    rows, logs = np.arange(len(values)), signal.logs
    ends = [logs[max(row + 1 - steps, 0) : row + 1] for row in rows]
    assert signal.trailing_mean(rows, steps) == pytest.approx([part.mean() for part in ends], abs=1e-9)
    squares = [np.square(part).mean() for part in ends]
    assert signal.trailing_mean_square(rows, steps) == pytest.approx(squares, abs=1e-9)
    half = steps // 2
    around = [logs[max(row - half, 0) : row + half + 1].mean() for row in rows]
    assert signal.centred_mean(rows, 2 * half + 1) == pytest.approx(around, abs=1e-9)


def test_a_span_is_at_least_one_step() -> None:
    signal = signal_of([1.0], step=300.0)
    assert [signal.steps_in(span) for span in (1.0, 300.0, 449.0, 451.0, 86400.0)] == [1, 1, 1, 2, 288]
