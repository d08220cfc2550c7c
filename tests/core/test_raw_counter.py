# SPDX-License-Identifier: Apache-2.0
"""A raw counter used as a load is detected, and a real load never is, however fast it grows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.data_quality.raw_counter import CounterWatch, falls_often, find_counter
from kedastral.core.series import Floats, Series

START = datetime(2026, 3, 2, tzinfo=UTC)


def history(values: Floats, step: float = 60.0) -> Series:
    return Series(START, step, values)


def load(minutes: int, growth: float, seed: int = 1, noise: float = 0.02) -> Floats:
    """Requests a second that grow by ``growth`` an hour."""
    hours = np.arange(minutes) / 60
    return 500 * (1 + growth) ** hours * (1 + noise * np.random.default_rng(seed).standard_normal(minutes))


def counter(minutes: int, rate: float = 200.0, seed: int = 1) -> Floats:
    return 1000 + np.cumsum(np.random.default_rng(seed).poisson(rate * 60, minutes)).astype(np.float64)


def restarted(values: Floats, *at: int) -> Floats:
    """A counter of a process that restarted in the steps ``at``."""
    again = values.copy()
    for step in at:
        again[step:] -= again[step]
    return again


def test_a_counter_is_named_with_its_growth_and_the_remedy() -> None:
    found = find_counter(history(counter(120)))
    assert found is not None
    assert found.words.startswith("the values only ever rise, from 13,")
    assert "in 1.98 hours: this looks like a raw counter and not like a load; take rate() of it" in found.words


def test_a_counter_that_begins_anew_is_still_one() -> None:
    found = find_counter(history(restarted(counter(1440), 300, 900)))
    assert found is not None
    assert found.resets == 2
    assert "but for 2 resets: " in found.words


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_the_unit_of_a_counter_does_not_matter(unit: float) -> None:
    assert find_counter(history(counter(120) * unit)) is not None


def test_what_was_not_measured_before_a_counter_is_no_time_in_which_it_rose() -> None:
    assert find_counter(history(np.append(np.full(100, np.nan), counter(60)))) is None
    assert find_counter(history(np.append(np.full(100, np.nan), counter(61)))) is not None


def test_gaps_do_not_hide_a_counter() -> None:
    values = counter(600)
    values[np.random.default_rng(3).random(600) < 0.3] = np.nan
    assert find_counter(history(values)) is not None


def test_a_sum_of_counters_of_which_one_goes_is_still_one() -> None:
    values = counter(2880)
    values[1500:] -= values[1500] / 20
    assert find_counter(history(values)) is not None


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), growth=st.floats(-0.5, 1.0), minutes=st.integers(61, 600))
def test_a_load_that_grows_with_noise_is_no_counter(seed: int, growth: float, minutes: int) -> None:
    assert find_counter(history(load(minutes, growth, seed))) is None


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), rate=st.floats(0.1, 1e5), step=st.sampled_from([15.0, 60.0, 300.0]))
def test_whatever_its_rate_a_counter_is_found(seed: int, rate: float, step: float) -> None:
    assert find_counter(history(counter(300, rate, seed), step)) is not None


@pytest.mark.parametrize(
    "values",
    [
        np.full(300, 5.0),
        np.zeros(300),
        np.full(300, np.nan),
        counter(59),
        np.repeat(np.arange(10.0), 60),  # a level that is set by hand
        np.tile(np.arange(60.0), 24),  # a queue that is emptied each hour
        np.tile(np.arange(50.0, 150.0), 3),  # and one that keeps a third
        500 + 400 * np.sin(np.arange(2880) * 2 * np.pi / 1440),  # days without noise
    ],
    ids=["constant", "zero", "gaps", "too short", "steps", "queue", "slow queue", "days"],
)
def test_other_series_that_rise_are_no_counters(values: Floats) -> None:
    assert find_counter(history(values)) is None


@pytest.mark.parametrize("values", [load(300, 0.0), np.tile([3.0, 5.0, 9.0, 4.0, 0.0], 60)])
def test_what_falls_often_is_a_gauge(values: Floats) -> None:
    assert falls_often(history(values))


@pytest.mark.parametrize(
    "values",
    [counter(360), restarted(counter(360), *range(5, 360, 5)), np.full(300, 5.0), load(20, 0.0), np.full(300, np.nan)],
    ids=["counter", "of short-lived pods", "resting", "short", "gaps"],
)
def test_what_seldom_falls_may_be_a_counter(values: Floats) -> None:
    assert not falls_often(history(values))


def test_a_counter_is_known_from_the_first_search_that_finds_it_to_the_first_that_does_not() -> None:
    watch, values = CounterWatch(), np.concatenate([counter(100), np.tile([50.0, 40.0], 50)])
    known = [
        minutes
        for minutes in range(1, 200)
        if watch.observe(history(values[:minutes]), START + timedelta(minutes=minutes)) is not None
    ]
    assert known == list(range(61, 111))
