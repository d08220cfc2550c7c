# SPDX-License-Identifier: Apache-2.0
"""The peak hold: what lengthens it, what shortens it, and which load it keeps pods for."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.planning.steering import MAX_PEAK_HOLD, MIN_PEAK_HOLD, PEAK_HOLD_GROWTH, next_peak_hold, peak_load
from kedastral.core.series import Series

START = datetime(2026, 3, 2, tzinfo=UTC)


def series(*values: float, step: float = 60.0) -> Series:
    return Series(START, step, np.array(values))


def test_one_jump_lengthens_it_and_the_minutes_that_pay_for_it_shorten_it_again() -> None:
    peak_hold = MIN_PEAK_HOLD
    for _ in range(5):
        peak_hold = next_peak_hold(peak_hold, 1.0, 0.01, 300.0, longer_helps=True)
    assert peak_hold == pytest.approx(MIN_PEAK_HOLD * PEAK_HOLD_GROWTH, rel=0.03)
    for _ in range(495):
        peak_hold = next_peak_hold(peak_hold, 1.0, 0.01, 300.0, longer_helps=False)
    assert peak_hold == pytest.approx(MIN_PEAK_HOLD)


@pytest.mark.parametrize("lead", [1.0, 30.0, 60.0, 600.0])
def test_a_jump_is_short_for_a_lead_time_and_at_least_a_minute(lead: float) -> None:
    longer = next_peak_hold(600.0, max(lead / 60, 1.0), 1e-9, lead, longer_helps=True)
    assert longer == pytest.approx(600.0 * PEAK_HOLD_GROWTH)
    shorter = next_peak_hold(600.0, 1.0, 0.01, lead, longer_helps=False)
    assert shorter == pytest.approx(600.0 * PEAK_HOLD_GROWTH ** (-0.01 / max(lead / 60, 1.0)))


@given(st.lists(st.booleans(), max_size=200), st.sampled_from([0.1, 0.01, 0.001]), st.sampled_from([1 / 60, 1.0, 5.0]))
def test_it_stays_within_its_bounds(minutes: list[bool], budget: float, length: float) -> None:
    peak_hold = MIN_PEAK_HOLD
    for longer_helps in minutes:
        peak_hold = next_peak_hold(peak_hold, length, budget, 300.0, longer_helps=longer_helps)
        assert MIN_PEAK_HOLD <= peak_hold <= MAX_PEAK_HOLD


def test_at_its_minimum_it_keeps_nothing() -> None:
    assert peak_load(series(9.0, 9.0, 9.0), MIN_PEAK_HOLD) == 0.0


def test_the_largest_load_of_the_last_seconds_is_kept() -> None:
    seen = series(80.0, 80.0, 50.0, 50.0, *[1.0] * 9)
    assert peak_load(seen, 660.0) == 50.0  # eleven minutes
    assert peak_load(seen, 600.0) == 50.0
    assert peak_load(seen, 540.0) == 1.0
    assert peak_load(seen, MAX_PEAK_HOLD) == 80.0  # as far back as is known


def test_a_single_value_may_be_an_error_and_is_not_kept() -> None:
    assert peak_load(series(2.0, 2.0, 1e6, 2.0, 2.0), 3600.0) == 2.0
    assert peak_load(series(2.0, 2.0, 1e6, np.nan, 2.0), 3600.0) == 2.0


def test_missing_values_keep_nothing() -> None:
    assert peak_load(series(np.nan, np.nan), 3600.0) == 0.0
    assert peak_load(series(np.nan, 4.0, 6.0, np.nan), 3600.0) == 4.0
    assert peak_load(series(5.0), 3600.0) == 0.0
