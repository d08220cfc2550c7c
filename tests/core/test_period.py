# SPDX-License-Identifier: Apache-2.0
"""Periods are found with and without jitter, and loads without a pattern have none."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.planning.period import _autocorrelate, find_period
from kedastral.core.series import Floats, Series

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
        np.where(np.arange(2 * DAY) % 60 < 24, bursts(2 * DAY, 60), np.nan),
    ],
    ids=["noise", "constant", "zero", "a day", "too rare", "too short", "mostly unknown"],
)
def test_other_loads_have_none(values: Floats) -> None:
    assert find_period(series(values)) is None


@pytest.mark.parametrize("size", [5, 64, 301])
def test_the_autocorrelation_is_the_mean_product_of_each_pair_so_far_apart(size: int) -> None:
    values = np.random.default_rng(2).normal(3.0, 1.0, size)
    centred = values - values.mean()
    pairs = [float((centred[lag:] * centred[: size - lag]).mean()) for lag in range(size // 4 + 1)]
    assert _autocorrelate(values) == pytest.approx(np.array(pairs) / pairs[0])
    assert _autocorrelate(np.full(size, 7.0)).tolist() == [0.0] * (size // 4 + 1)


@given(st.floats(1e-6, 1e9), st.integers(0, 400))
def test_neither_the_unit_nor_a_gap_changes_a_period(scale: float, gap: int) -> None:
    values = bursts(DAY, 60) * scale
    values[gap : gap + 3] = np.nan
    assert find_period(series(values)) == pytest.approx(60, abs=0.5)
