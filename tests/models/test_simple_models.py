# SPDX-License-Identifier: Apache-2.0
"""The reference models: last value and seasonal naive."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from kedastral.core.series import Series
from kedastral.errors import ModelError
from kedastral.models.naive import LastValue, SeasonalNaive

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
HOURS = 3600.0


def hourly(values: object) -> Series:
    """A history that ends at `MONDAY`."""
    array = np.array(values, dtype=np.float64)
    return Series(MONDAY - timedelta(hours=len(array)), HOURS, array)


def test_the_newest_value_is_forecast_to_stay() -> None:
    assert LastValue().forecast(hourly([3, 4, np.nan]), MONDAY, 3).values.tolist() == [4, 4, 4]


def test_a_week_ago_comes_again() -> None:
    history = hourly(np.arange(200.0))

    assert SeasonalNaive().forecast(history, MONDAY, 3).values.tolist() == [32, 33, 34]


def test_where_no_week_has_been_seen_yesterday_comes_again() -> None:
    history = hourly(np.arange(30.0))

    assert SeasonalNaive().forecast(history, MONDAY, 26).values.tolist() == [*range(6, 30), 6, 7]


def test_where_no_day_has_been_seen_the_last_value_stays() -> None:
    assert SeasonalNaive().forecast(hourly([5, 6, 7]), MONDAY, 2).values.tolist() == [7, 7]


def test_gaps_of_a_week_ago_carry_the_value_before() -> None:
    values = np.arange(200.0)
    values[33] = np.nan

    assert SeasonalNaive().forecast(hourly(values), MONDAY, 3).values.tolist() == [32, 32, 34]


@pytest.mark.parametrize("model", [LastValue(), SeasonalNaive()])
def test_without_a_value_there_is_no_forecast(model: LastValue | SeasonalNaive) -> None:
    with pytest.raises(ModelError, match="no history"):
        model.forecast(hourly([np.nan, np.nan]), MONDAY, 2)
